"""What the numbers of an array that a user hands over stand for: one rule for pictures, sets of them and contexts.

Whole numbers run over the range of their type: bool over 0 to 1, uint8 to 255, uint16 to 65535. Floats run over -1 to
1; a range that is given holds for any of them. Floats that all lie in [0, 1] may be meant so: of one picture, or of the
few known pixels of a context, nobody can tell, and they are read as all floats are; a whole set without a value below 0
runs over 0 to 1, as torchvision gives it. Both are said in a warning.
"""

import math
import warnings

import torch
from torch import Tensor

from hypersiren.errors import UserError

ROUNDING = 1e-6
"""Share of a range by which values may lie outside it, as computing in single precision leaves them."""

RANGES = {torch.bool: (0, 1), torch.uint8: (0, 255), torch.uint16: (0, 65535)}
"""What the values of pictures of these types run over."""


def to_signed(
    values: Tensor,
    range: tuple[float, float] | None = None,
    error: type[UserError] = UserError,
    stacklevel: int = 3,
    whole_set: bool = False,
) -> Tensor:
    """Values as floats in [-1, 1], by the rule above; doubles stay doubles.

    Args:
        values: At least one.
        range: What they run over, (low, high); None for what the rule says.
        error: What is raised.
        stacklevel: Of the warning, as `warnings.warn` counts it.
        whole_set: Whether these are the values of a set of images.

    Raises:
        UserError: Or the class that was given, if values are not finite, outside of their range, or of another type.

    Warns:
        UserWarning: If floats without a range all lie in [0, 1].

    Example:
        >>> to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist()
        [-1.0, 1.0]
        >>> to_signed(torch.tensor([0.0, 255.0]))
        Traceback (most recent call last):
        hypersiren.errors.UserError: expected values in [-1, 1], got 0 to 255: give range=(low, high), the values of
        black and white
    """
    low, high = find_range(values, range, error)
    exact = values if values.dtype == torch.float64 else values.float() if values.dtype.itemsize <= 2 else values
    exact = exact if exact.is_floating_point() else exact.double()
    least, most = check_values(exact, low, high, "give range=(low, high), the values of black and white", error)
    if range is None and values.is_floating_point() and 0 <= least < most:
        low = 0 if whole_set else -1
        warnings.warn(
            f"floats that all lie in [0, 1] are read as values in [{low}, 1]; give range=(0, 1) if 0 is black, or "
            "range=(-1, 1) if -1 is",
            stacklevel=stacklevel,
        )
    if -1 == low <= least <= most <= high == 1:
        return exact
    return ((exact - low) / ((high - low) / 2) - 1).clamp(-1, 1)


def find_range(
    values: Tensor, given: tuple[float, float] | None, error: type[UserError] = UserError
) -> tuple[float, float]:
    """What values run over: as given, or by their type."""
    if given is not None:
        low, high = given
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise error(f"expected range=(low, high) of two numbers, the first the lower, got {given}")
        return given
    if not values.is_floating_point() and values.dtype not in RANGES:
        name = str(values.dtype).removeprefix("torch.")
        raise error(f"expected range=(low, high), the values of black and white, for {name} pixels")
    return RANGES.get(values.dtype, (-1, 1))


def check_values(
    values: Tensor, low: float, high: float, mend: str, error: type[UserError] = UserError
) -> tuple[float, float]:
    """The least and the largest of values that shall lie in [low, high].

    Args:
        values: At least one.
        low, high: What is allowed, with a millionth of it for rounding.
        mend: What to do about values outside.
        error: What is raised.

    Raises:
        UserError: Or the class that was given, if a value is NaN or infinite, with their count, or lies outside.

    Example:
        >>> check_values(torch.tensor([0.0, 2.0]), 0, 1, "divide by 2")
        Traceback (most recent call last):
        hypersiren.errors.UserError: expected values in [0, 1], got 0 to 2: divide by 2
    """
    least, most = (value.item() for value in values.aminmax())  # NaN if any value is
    if not (math.isfinite(least) and math.isfinite(most)):
        bad = values.numel() - int(values.isfinite().sum())
        raise error(f"expected finite values, got {bad} of {values.numel()} that are NaN or infinite")
    slack = ROUNDING * (high - low)
    if least < low - slack or most > high + slack:
        raise error(f"expected values in [{low:.7g}, {high:.7g}], got {least:.7g} to {most:.7g}: {mend}")
    return least, most


def channels_last(shape: tuple[int, ...], tensor: bool) -> str:
    """What to do about images (M, C, H, W) where (M, H, W, C) are expected; nothing if they are none.

    Example:
        >>> channels_last((5, 3, 8, 8), True)
        ': channels come last, give images.permute(0, 2, 3, 1)'
    """
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3):
        return f": channels come last, give images.{'permute' if tensor else 'transpose'}(0, 2, 3, 1)"
    return ""
