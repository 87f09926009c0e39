"""Windows that were solved for a raster, corrected for what is known at points: values and gradients there.

A raster of the signal tells what lies between the points, and is the less exact the fewer they are. Each window t whose
box holds points x_n moves from its numbers theta_t by the least of

    |phi delta|^2 / r^2 + |S^-1 delta|^2 / p^2 + sum_n |f_t(x_n) - y_n|^2 / v^2 + |grad f_t(x_n) - g_n|^2 / s^2

with phi the features at the raster's samples and S the prior's standard deviations. All windows share the first two
terms; the others are a system of its own for each. Windows that overlap see the same points there, and agree.

Symbols: N points, D axes, T windows, W windows at a time, M points of each, P samples of a window, F features.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.raster import local_features

MOST = 96
"""Points of a window at most; of more, some are taken, for all of them."""

NUMBERS = 2**25
"""Of the rows of windows that are solved at a time: 256 MB."""


@torch.no_grad()
def fit_points(
    field: CompactWindows,
    x: Float[Tensor, "N D"],
    values: Float[Tensor, " N"],
    gradients: Float[Tensor, "N D"],
    *,
    local: Sequence[int],
    decay: float,
    raster_deviation: float,
    prior_deviation: float,
    value_deviation: float,
    gradient_deviation: float,
    watch: Callable[[], object] = lambda: None,
) -> None:
    """Correct a field of one channel for values and gradients at points, in place.

    Args:
        field: Its windows share one sine layer.
        x: Points; those near each other should stand near each other, for a window that has many takes every so many.
        values, gradients: At these.
        local: Samples of a window along each axis, as the raster had.
        decay: S falls with a feature's frequency to this power, as in `hypersiren.fields.window_solve.solve_raster`.
        raster_deviation, prior_deviation, value_deviation, gradient_deviation: r, p, v, s.
        watch: Is called now and then, and may raise.

    Raises:
        ValueError: If the field has several channels or sine layers.

    Example:
        >>> from hypersiren.fields.lattice import lattice_siren
        >>> field = CompactWindows(lattice_siren(1, 1, 10, period=4.0), (3,), overlap=0.25, counts=(10,))
        >>> x = torch.linspace(-1, 1, 25).unsqueeze(1)
        >>> deviations = dict(raster_deviation=9.0, prior_deviation=9.0, value_deviation=1e-3, gradient_deviation=1e-2)
        >>> fit_points(field, x, x.sin().flatten(), x.cos(), local=(8,), decay=2.0, **deviations)
        >>> field(torch.tensor([[0.5], [-0.5]])).flatten().detach().round(decimals=2)
        tensor([ 0.4800, -0.4800])
    """
    if field.out_features != 1 or len(field.counts) != 1 or len(field.layers) != 1:
        raise ValueError(f"expected a field of one channel and one sine layer, got {field}")
    work = torch.float32 if field.coefficients.device.type == "mps" else torch.float64
    d, f = field.in_features, field.counts[0]
    weight, bias = (p[:f].to(work) * field.template.first_omega for p in field.layers[0].parameters())
    mix, offset = field.mix.to(work).flatten(), field.offset.to(work)
    scale = (1 + weight.norm(dim=1) / math.pi) ** -decay
    phi = local_features(field, local)[()][:, :f].to(work) * (mix * scale)
    shared = phi.mT @ phi / raster_deviation**2
    shared.diagonal().add_(prior_deviation**-2)
    slope = [2 / width for width in field.windows.width]
    window, row, place = _points_of_windows(field, x.to(work))
    windows, counts = window.unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending=True, stable=True)
    sizes = counts[order].clamp(max=MOST).tolist()
    i = 0
    while i < len(sizes):
        watch()
        m = sizes[i]
        some = max(1, NUMBERS // (m * (1 + d) * f + f**2))
        j = i + 1
        while j < len(sizes) and j - i < some and 2 * sizes[j] >= m:
            j += 1
        chosen = order[i:j]
        i = j
        count = counts[chosen].unsqueeze(1)
        taken = count.clamp(max=MOST)
        slot = torch.arange(m, device=count.device).expand(len(chosen), m)
        index = starts[chosen].unsqueeze(1) + torch.where(slot < taken, slot * count // taken, 0)
        # Each that is taken stands for as many.
        share = torch.where(slot < taken, (count / taken).to(work).sqrt(), 0.0)
        phase = place[index] @ weight.mT + bias
        parts = [(phase.sin(), values.to(work)[row[index]] - offset, value_deviation)]
        wave = phase.cos()
        for axis in range(d):
            parts.append(
                (wave * weight[:, axis] * slope[axis], gradients.to(work)[row[index], axis], gradient_deviation)
            )
        theta = field.coefficients[windows[chosen]].to(work).unsqueeze(-1)
        a, left = [], []
        for features, target, deviation in parts:
            size = share.unsqueeze(-1) / deviation
            a.append(features * (mix * scale) * size)
            left.append((target.unsqueeze(-1) - (features * mix) @ theta) * size)
        rows, rest = torch.cat(a, 1), torch.cat(left, 1)
        lower = torch.linalg.cholesky(shared + rows.mT @ rows)
        change = torch.cholesky_solve(rows.mT @ rest, lower).squeeze(-1) * scale
        field.coefficients[windows[chosen]] += change.to(field.coefficients)


def _points_of_windows(field: CompactWindows, x: Float[Tensor, "N D"]) -> tuple[Tensor, Tensor, Tensor]:
    """Every window of every point, by window, the point, and its local coordinates."""
    index, place, factors = field.windows.locate(x)
    inside = torch.stack([axis[0] for axis in factors]).prod(0) > 0
    row, corner = inside.nonzero(as_tuple=True)
    window = index[row, corner]
    order = window.argsort(stable=True)
    row, corner = row[order], corner[order]
    return window[order], row, place[row, corner]
