"""What is looked at before points are fitted: whether some lie far off, whether numbers are too coarse, and thinning.

Symbols: N points.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

FAR = 10.0
"""A point is far if it is so many times as far from the middle as all but a hundredth of the points."""

STEP = 1e-4
"""A step of the numbers that is a larger share of the longest side loses detail that a fit would show."""


def far_points(points: Float[np.ndarray, "N 3"]) -> Bool[np.ndarray, " N"] | None:
    """Which points lie far from all others, at most a hundredth of them; None if there are none.

    One stray return of a scanner, or a corner at the origin, gives all others a corner of the box.

    Example:
        >>> ball = np.random.default_rng(0).normal(size=(500, 3))
        >>> far_points(ball), int(far_points(np.vstack([ball, [[1e4, 0, 0]]])).sum())
        (None, 1)
    """
    if len(points) < 100:
        return None
    with np.errstate(over="ignore"):
        distances = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    # The next higher of the distances, not one between that and the far ones.
    far = distances > FAR * np.quantile(distances, 0.99, method="lower")
    return far if far.any() and np.isfinite(distances).all() else None


def far_note(points: Float[np.ndarray, "N 3"], far: Bool[np.ndarray, " N"]) -> str:
    """The line on far points, and what to do."""
    share = np.ptp(points, axis=0).max() / (np.ptp(points[~far], axis=0).max() or 1)
    return (
        f"{far.sum()} of {len(points)} points are far from all others, which have 1/{share:,.0f} of the longest side: "
        "--signal.outliers drop leaves them out"
    )


def spread_evenly(points: Float[np.ndarray, "N 3"], count: int) -> Int[np.ndarray, " M"]:
    """At most `count` of the points, in their order: one of each cell of the finest grid that gives no more.

    Example:
        >>> spread_evenly(np.array([[0.0, 0, 0], [0.01, 0, 0], [1, 0, 0], [1, 1, 1]]), 3).tolist()
        [0, 2, 3]
    """
    lower = points.min(0)
    side = float(np.ptp(points, axis=0).max()) or 1.0
    best = np.zeros(1, np.int64)
    few, many = 0.0, 20.0  # cells along the longest side, as powers of 2: 63 bits hold three of them
    for _ in range(12):
        middle = (few + many) / 2
        cells = ((points - lower) * (2**middle / side)).astype(np.int64)
        code = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
        _, first = np.unique(code, return_index=True)
        if len(first) <= count:
            few, best = middle, first
        else:
            many = middle
    return np.sort(best)


def coarse_numbers(points: Float[np.ndarray, "N 3"], half: bool = False) -> str | None:
    """A line if the numbers of a file step by more than a ten-thousandth of the longest side; None if all is well.

    Single precision holds 7 digits: a northing of 4,100,000 m in steps of 0.25 m, and so does text of 6 or 7 digits.
    What the detail was before nobody can tell: such numbers want an offset taken off in double precision.

    Args:
        points: As they were read, in double precision.
        half: Whether they come in half precision; of single precision the numbers tell themselves.

    Example:
        >>> rows = np.random.default_rng(0).random((100, 3)) * 20
        >>> coarse_numbers(rows), coarse_numbers((rows + 4.1e6).astype(np.float32).astype(float))
        (None, 'x, y, z step by up to 0.25 in a longest side of 20, as single precision does near 4.1e+06: finer ...')
    """
    points = points[np.isfinite(points).all(1)]
    if len(points) < 2:
        return None
    side = float(np.ptp(points, axis=0).max())
    largest = np.abs(points).max(0)
    kind = "half precision" if half else "single precision"
    with np.errstate(all="ignore"):
        steps = np.spacing(largest.astype(np.float16 if half else np.float32)).astype(float)
        if not half:
            single = (points.astype(np.float32) == points).all(0)
            steps = np.where(single, steps, 0.0)
            # Whole numbers, or a few decimals, beside a large offset.
            for decimals in range(-3, 4):
                scaled = points * 10.0**decimals
                rounded = (np.abs(scaled - np.round(scaled)) < 1e-6 * np.maximum(1, np.abs(scaled) * 1e-6)).all(0)
                coarse = rounded & (largest > 10 * side) & (10.0**-decimals > STEP * side) & (steps < 10.0**-decimals)
                if coarse.any():
                    steps, kind = np.where(coarse, 10.0**-decimals, steps), "text of few digits"
                    break
    bad = steps > STEP * side
    if not side or not bad.any():
        return None
    axes = ", ".join(name for name, is_bad in zip("xyz", bad, strict=True) if is_bad)
    return (
        f"{axes} step by up to {steps[bad].max():.3g} in a longest side of {side:.4g}, as {kind} does near "
        f"{largest[bad].max():.3g}: finer detail is lost; take an offset off in double precision before writing"
    )
