"""Windows of waves on any raster: sums of sines over a lattice of frequencies, one axis at a time.

    sum_k z_k sin(k . x + b_k) = Im sum_{k_1} e^{i k_1 x_1} sum_{k_2} e^{i k_2 x_2} ... z_k e^{i b_k}

With U frequencies along each axis and P samples of a window this takes U^D P + U P^D products where features at points
take as many as there are frequencies, and their sines, at every point.

Symbols: D axes, n windows along an axis, P samples of a window along an axis, U frequencies along an axis, C channels.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.fields.windows import Windows

SPARSE = 8
"""Times as many places as frequencies that a lattice may have."""


def is_separable(field: Any) -> bool:
    """Whether a field is windows of one sine layer whose frequencies are a lattice's.

    Example:
        >>> from hypersiren.fields.lattice import lattice_siren
        >>> from hypersiren.fields.siren import Siren
        >>> is_separable(WindowedSiren(lattice_siren(2, 1, 50), (3, 2)))
        True
        >>> is_separable(WindowedSiren(Siren(2, 1), (3, 2)))
        False
    """
    if not isinstance(field, WindowedSiren) or field.own != "last" or len(field.template._linears()) != 2:
        return False
    weight = field.get_parameter("layers.0.weight")
    places = 1
    for column in weight.unbind(1):
        places *= len(column.unique())
    return weight.device.type != "mps" and places <= SPARSE * len(weight)  # no complex numbers there


@torch.no_grad()
def separable_raster(field: WindowedSiren, axes: Sequence[Tensor]) -> Float[Tensor, "*size C"]:
    """The values of a separable field where the samples of all axes meet.

    Args:
        field: See `is_separable`.
        axes: Coordinates (N_d,) of the samples along each axis, in double precision.

    Example:
        >>> from hypersiren.fields.lattice import lattice_siren
        >>> field = WindowedSiren(lattice_siren(2, 3, 50), (3, 2))
        >>> separable_raster(field, [torch.rand(7).double(), torch.rand(4).double()]).shape
        torch.Size([7, 4, 3])
    """
    params = {name: p.detach() for name, p in field.named_parameters()}
    d, grid = len(axes), field.windows
    dtype = params["layers.0.weight"].dtype
    omega = field.template.first_omega
    weight, bias = (omega * params[f"layers.0.{kind}"].double() for kind in ("weight", "bias"))
    turns, flat, sizes = torch.polar(torch.ones_like(bias), bias), torch.zeros_like(bias, dtype=torch.long), []
    index, weights, waves = [], [], []
    for a, x in enumerate(axes):
        values, inverse = weight[:, a].unique(return_inverse=True)
        flat = flat * len(values) + inverse
        sizes.append(len(values))
        one = Windows((grid.count[a],), grid.overlap[a], grid.upper[a], grid.lower[a])  # type: ignore[index]
        sample, place, factor = _table(one, x)
        index.append(sample)
        weights.append(factor.to(dtype))
        phase = place.unsqueeze(-1) * values
        waves.append(torch.polar(torch.ones_like(phase), phase).to(torch.complex64))
    turns = turns.to(torch.complex64)
    names = list(field.template.last())
    rest = grid.count[1:]
    many = len(grid) // grid.count[0]
    total = torch.zeros(*map(len, axes), field.out_features, dtype=dtype, device=weight.device)
    for i in weights[0].sum(1).nonzero().flatten().tolist():  # windows with samples
        which = torch.arange(i * many, (i + 1) * many, device=weight.device)
        own = field.leaves(params, which, torch.zeros_like(which))
        z = turns.new_zeros(many, field.out_features, math.prod(sizes))
        z.index_add_(-1, flat, own[names[0]].float() * turns)
        y = z.view(*rest, field.out_features, *sizes)  # (n_1, ..., C, U_0, U_1, ...)
        y = torch.einsum("pu,...u->...p", waves[0][i], y.movedim(d, -1)).movedim(-1, d)
        for a in range(1, d):
            moved = y.movedim((a - 1, d + a), (0, -1))  # (n_a, ..., U_a)
            shape = moved.shape
            done = moved.reshape(shape[0], -1, shape[-1]) @ waves[a].mT
            y = done.view(*shape[:-1], -1).movedim((0, -1), (a - 1, d + a))
        real = y.imag.to(dtype) + own[names[1]].expand(many, -1).reshape(*rest, -1, *[1] * d)
        real = real.movedim(d - 1, -1)  # (n_1, ..., P_0, P_1, ..., C)
        for a in range(d):
            shaped = [1] * real.ndim
            shaped[d - 1 + a] = weights[a].shape[1]
            if a:
                shaped[a - 1] = rest[a - 1]
            real = real * (weights[a] if a else weights[0][i]).reshape(shaped)
        for a in range(
            1, d
        ):  # sum the windows along an axis: (n_a, n_a+1, ..., P_0, ..., C) -> (n_a+1, ..., P_0, ..., C)
            first = real.movedim(d, 1).flatten(0, 1)
            summed = first.new_zeros(len(axes[a]), *first.shape[1:]).index_add_(0, index[a].flatten(), first)
            real = summed.movedim(0, d - 1)
        total.index_add_(0, index[0][i], real)
    return total


def _table(
    windows: Windows, x: Float[Tensor, " N"]
) -> tuple[Int[Tensor, "n P"], Float[Tensor, "n P"], Float[Tensor, "n P"]]:
    """The samples that each window along an axis counts at, their place in it and its weight, 0 if there are fewer."""
    which, place, [[weight]] = windows.locate(x.unsqueeze(1))
    sample, corner = (weight > 0).nonzero(as_tuple=True)
    window = which[sample, corner]
    order = window.argsort(stable=True)
    sample, corner, window = sample[order], corner[order], window[order]
    counts = torch.bincount(window, minlength=len(windows))
    rank = torch.arange(len(window), device=x.device) - (counts.cumsum(0) - counts)[window]
    shape = (len(windows), int(counts.max()))
    index, places, weights = x.new_zeros(shape, dtype=torch.long), x.new_zeros(shape), x.new_zeros(shape)
    index[window, rank] = sample
    places[window, rank] = place[sample, corner, 0]
    weights[window, rank] = weight[sample, corner]
    return index, places, weights
