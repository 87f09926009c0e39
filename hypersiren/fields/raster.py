"""Rasters: values and derivatives of a field at all samples of a regular grid, strip by strip.

Where a raster keeps step with the windows of a `WindowedSiren` whose windows share their hidden layers, all windows see
the same local points: features are computed once, and the values of many windows are one matrix product. On other
rasters, values of a lattice's waves are summed one axis at a time (`hypersiren.fields.separable`); what is left is
evaluated at the grid's points, some rows at a time. Nothing here holds more than a strip.

Symbols: T windows, P points of a window, D axes, C channels, F features, W windows of a strip.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.jets import CACHED, Jet, sine_jet
from hypersiren.fields.memo import Memo, once
from hypersiren.fields.separable import is_separable, separable_raster
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.fields.windows import smooth_step

Crop = Sequence[tuple[int, int]]

NEAR = 0.05
"""Samples by which a grid may be off a raster that is taken for it."""

STRIP = 2**24
"""Numbers of a strip's windows that are worked on at a time: 64 MB."""


def is_windowed(field: Any) -> bool:
    """Whether a field is a WindowedSiren, bound to weights or not."""
    return isinstance(getattr(field, "siren", field), WindowedSiren)


def strips(field: Any, size: Sequence[int], chunk: int | None = None) -> Iterator[Float[Tensor, "rows *size C"]]:
    """The values of a field on `grid(size)`, some rows along the first axis at a time, without a graph.

    Args:
        field: Any field; a WindowedSiren is fast where `size` is a multiple of its windows' step.
        size: Samples along each axis.
        chunk: Points at a time of a field that is not windowed, see `hypersiren.fields.coords.evaluate`.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> field = WindowedSiren(Siren(2, 1, 8), (3, 2), overlap=0.25)
        >>> torch.cat(list(strips(field, (100, 70)))).shape
        torch.Size([100, 70, 1])
    """
    for jet in jet_strips(field, size, order=0, chunk=chunk):
        yield jet.value


@torch.no_grad()
def jet_strips(
    field: Any, size: Sequence[int], order: int = 2, chunk: int | None = None, crop: Crop | None = None
) -> Iterator[Jet]:
    """As `strips`, with derivatives: jets of (rows, *size, C) values, gradients (..., D) and Hessians' diagonals (...,
    D).

    Args:
        field, size, chunk: As in `strips`.
        order: 0 for values, 1 with gradients, 2 with both.
        crop: Of a windowed field, the samples along each axis that are wanted, from start to stop - 1; only windows
            that have a part in them are evaluated.
    """
    shared = _shared(field)
    if shared is not None and (pixels := shared.windows.pixels(size)) is not None:
        yield from _windowed(shared, size, pixels, order, crop or [(0, n) for n in size])
    else:
        assert crop is None, "a field that is evaluated at points has no crop"
        yield from _rows(field, size, order, chunk)


def _shared(field: Any) -> WindowedSiren | None:
    """The field, if it is one whose windows share their hidden layers and that has its own weights; else None."""
    inner = getattr(field, "siren", field)  # of a bound field
    own = isinstance(inner, WindowedSiren) and inner.own == "last" and getattr(field, "params", None) is None
    return inner if own else None


def raster(
    field: Any,
    size: Sequence[int],
    chunk: int | None = None,
    then: Callable[[Tensor], Tensor] | None = None,
    crop: Crop | None = None,
) -> Float[Tensor, "*size C"]:
    """The values of a field on `grid(size)`; see `strips`.

    Args:
        field, size, chunk, crop: As in `jet_strips`.
        then: Is applied to each strip.

    Example:
        >>> raster(lambda x: x.sum(-1, keepdim=True), (4, 5)).shape
        torch.Size([4, 5, 1])
    """
    values, done = None, 0
    shape = size if crop is None else [high - low for low, high in crop]
    for jet in jet_strips(field, size, 0, chunk, crop):
        part = jet.value
        if values is None:
            values = part.new_empty(*shape, part.shape[-1])
        values[done : done + len(part)] = part if then is None else then(part)
        done += len(part)
    assert values is not None
    return values


def crop_of(
    field: Any, size: Sequence[int], lower: Sequence[float], upper: Sequence[float]
) -> tuple[tuple[int, ...], Crop] | None:
    """The raster that keeps step with a field's windows, and the part of it, that a grid over [lower, upper] is; if
    any.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> field = WindowedSiren(Siren(2, 1, 8), (3, 2), overlap=0.25)
        >>> crop_of(field, (50, 35), (-1, 0), (0, 1))
        ((100, 70), ((0, 50), (35, 70)))
    """
    if (shared := _shared(field)) is None:
        return None
    whole, crop = [], []
    for n, low, high in zip(size, lower, upper, strict=True):
        full = 2 * n / (high - low)
        start = (low + 1) / 2 * full
        drift = abs(full - round(full)) * n / full
        if max(drift, abs(start - round(start))) > NEAR or not 0 <= round(start) <= round(full) - n:
            return None
        whole.append(round(full))
        crop.append((round(start), round(start) + n))
    return (tuple(whole), tuple(crop)) if shared.windows.pixels(whole) is not None else None


def _rows(field: Any, size: Sequence[int], order: int, chunk: int | None) -> Iterator[Jet]:
    device, dtype = _where(field)
    across = math.prod(size[1:])
    some = max(1, 2**20 // across)
    separable = order == 0 and is_separable(field)
    precise = (
        torch.float64 if max(size) > 2**17 and device.type != "mps" and isinstance(field, WindowedSiren) else dtype
    )
    for start in range(0, size[0], some):
        stop = min(start + some, size[0])
        if separable:
            axes = [centres(n, -1.0, 1.0, device) for n in size]
            yield Jet(separable_raster(field, [axes[0][start:stop], *axes[1:]]), None)
            continue
        low, high = (-1 + 2 * edge / size[0] for edge in (start, stop))
        lower, upper = [low, *[-1.0] * (len(size) - 1)], [high, *[1.0] * (len(size) - 1)]
        x = grid((stop - start, *size[1:]), lower, upper, device=device, dtype=precise)
        shape = (stop - start, *size[1:])
        if order == 0:
            yield Jet(evaluate(field, x, chunk).unflatten(0, shape), None)
            continue
        parts = [field.jet(part, second="diagonal" if order == 2 else None) for part in x.split(chunk or 16384)]
        names = ("value", "gradient", "hessian_diagonal")[: order + 1]
        found = {name: torch.cat([getattr(part, name) for part in parts]).unflatten(0, shape) for name in names}
        yield Jet(found["value"], found["gradient"], hessian_diagonal=found.get("hessian_diagonal"))


def centres(n: int, low: float, high: float, device: torch.device | str | None) -> Float[Tensor, " n"]:
    """The samples of an axis of `grid`, in double precision.

    Example:
        >>> centres(4, -1.0, 1.0, "cpu").tolist()
        [-0.75, -0.25, 0.25, 0.75]
    """
    return low + (torch.arange(n, device=device, dtype=torch.float64) + 0.5) * ((high - low) / n)


def _where(field: Any) -> tuple[torch.device, torch.dtype]:
    inner = getattr(field, "siren", field)
    like = next(inner.parameters(), None) if hasattr(inner, "parameters") else None
    return (torch.device("cpu"), torch.get_default_dtype()) if like is None else (like.device, like.dtype)


def _windowed(
    field: WindowedSiren, size: Sequence[int], pixels: Sequence[tuple[int, int]], order: int, crop: Crop
) -> Iterator[Jet]:
    device, dtype = _where(field)
    local = [w for w, _ in pixels]
    d = len(local)
    # Along each axis the windows that reach into what is wanted.
    ranges = [
        (max(0, (low - w) // s + 1), min(n, (high - 1) // s + 1))
        for n, (w, s), (low, high) in zip(field.windows.count, pixels, crop, strict=True)
    ]
    count = [stop - start for start, stop in ranges]
    rest, points = math.prod(count[1:]), math.prod(local)
    tables = local_features(field, local, order)
    axes = zip(field.windows.count, pixels, size, ranges, strict=True)
    weights = [_weights(n, w, s, order, device, dtype, m)[:, a:b] for n, (w, s), m, (a, b) in axes]
    index = torch.arange(len(field.windows), device=device).view(field.windows.count)
    index = index[tuple(slice(a, b) for a, b in ranges)]
    some = max(1, STRIP // (rest * points * field.out_features * (1 + 4 * order)))
    outputs = _keys(d, order)
    carry: list[Tensor | None] = [None] * len(outputs)
    place = [start * s for (start, _), (_, s) in zip(ranges, pixels, strict=True)]  # of the first sample that is summed
    across = tuple(slice(low - p, high - p) for (low, high), p in zip(crop[1:], place[1:], strict=True))
    for i in range(0, count[0], some):
        stop = min(i + some, count[0])
        which = index[i:stop].flatten()
        values = {
            key: y.reshape(stop - i, *count[1:], *local, -1) for key, y in _window_values(field, tables, which).items()
        }
        w = [weights[0][:, i:stop], *weights[1:]]
        first, tail = (stop - i) * pixels[0][1], pixels[0][0] - pixels[0][1]
        done = first + (tail if stop == count[0] else 0)
        low, high = max(0, crop[0][0] - place[0]), min(done, crop[0][1] - place[0])
        found = []
        for number, key in enumerate(outputs):
            summed = _overlap_add(_blended(w, key, d, values), pixels)
            before = carry[number]
            if before is not None and tail:
                summed[:tail] += before
            carry[number] = summed[first:].clone()
            found.append(summed[(slice(low, high), *across)])
        place[0] += first
        if len(found[0]):
            gradient = torch.stack(found[1 : 1 + d], -1) if order else None
            curvature = torch.stack(found[1 + d :], -1) if order == 2 else None
            yield Jet(found[0], gradient, hessian_diagonal=curvature)


@torch.no_grad()
def thinned_jet(field: Any, size: Sequence[int], every: int, memo: Memo | None = None) -> Jet | None:
    """The jet, with the Hessian's diagonal, at every so many-th sample of `grid(size)` along each axis, from the first.

    Windows whose first sample is as far from a wanted one see the same local points; only those are evaluated.

    Args:
        field, size: As in `strips`.
        every: As above.
        memo: Keeps the features' derivatives, which the windows of signals of one size share.

    Returns:
        (rows, *columns, C) values, gradients and curvatures (..., D); None where the raster does not keep step with the
        windows, or these have hidden layers of their own.

    Example:
        >>> from hypersiren.fields.siren import Siren
        >>> field = WindowedSiren(Siren(2, 1, 8), (3, 2), overlap=0.25)
        >>> thinned_jet(field, (100, 70), 8)
        Jet(value (13, 9, 1), gradient (13, 9, 1, 2), hessian_diagonal (13, 9, 1, 2))
    """
    shared = _shared(field)
    if shared is None or (pixels := shared.windows.pixels(size)) is None:
        return None
    d = len(size)
    device, dtype = _where(shared)
    inner = [w for w, _ in pixels]
    hidden = b"".join(p.detach().cpu().numpy().tobytes() for p in shared._hidden().values())
    made = ("derivatives", pixels, shared.windows.width, str(device), hidden)
    tables = once(memo, made, partial(local_features, shared, inner, 2))
    axes = list(zip(shared.windows.count, pixels, size, strict=True))
    weights = [_weights(n, w, s, 2, device, dtype, m) for n, (w, s), m in axes]
    local = torch.arange(math.prod(inner), device=device).view(inner)
    index = torch.arange(len(shared.windows), device=device).view(shared.windows.count)
    keys = _keys(d, 2)
    wide = [((n - 1) * s + w - 1) // every + 1 for n, (w, s), _ in axes]  # windows may reach beyond the signal
    sums = [torch.zeros(math.prod(wide), shared.out_features, device=device, dtype=dtype) for _ in keys]
    for group in product(*(_groups(n, w, s, every, device) for n, (w, s), _ in axes)):
        samples = local[torch.meshgrid(*(samples for _, samples in group), indexing="ij")]
        which = index[torch.meshgrid(*(windows for windows, _ in group), indexing="ij")]
        values = _window_values(shared, {key: phi[samples.flatten()] for key, phi in tables.items()}, which.flatten())
        shape = (*which.shape, *samples.shape, shared.out_features)
        values = {key: y.reshape(shape) for key, y in values.items()}
        parts = [w[:, windows][:, :, inside] for w, (windows, inside) in zip(weights, group, strict=True)]
        place = torch.zeros((1,) * (2 * d), dtype=torch.long, device=device)
        for a, (windows, inside) in enumerate(group):
            at = (windows[:, None] * pixels[a][1] + inside) // every
            place = place * wide[a] + at.view([at.shape[i == d + a] if i in (a, d + a) else 1 for i in range(2 * d)])
        for total, key in zip(sums, keys, strict=True):
            total.index_add_(0, place.flatten(), _blended(parts, key, d, values).flatten(0, -2))
    value, *rest = (each.unflatten(0, wide)[tuple(slice(-(-m // every)) for m in size)] for each in sums)
    return Jet(value, torch.stack(rest[:d], -1), hessian_diagonal=torch.stack(rest[d:], -1))


def _groups(n: int, w: int, s: int, every: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """Windows along an axis of which the same samples are wanted, and these samples."""
    groups: dict[int, list[int]] = {}
    for i in range(n):
        groups.setdefault(-s * i % every, []).append(i)
    as_index = partial(torch.tensor, device=device)
    return [(as_index(windows), as_index(range(first, w, every))) for first, windows in groups.items() if first < w]


def local_features(
    field: WindowedSiren, local: Sequence[int], order: int = 0
) -> dict[tuple[int, ...], Float[Tensor, "P F"]]:
    """The shared features of a window's samples, and their derivatives by x: key () for values, (0,), (0, 0) ...

    Args:
        field: Its windows share their hidden layers.
        local: Samples of a window along each axis.
        order: Of the derivatives, 0, 1 or 2.
    """
    device, dtype = _where(field)
    hidden = field._hidden()
    # In double precision: it is done once, and the phases are large.
    precise = torch.float32 if device.type == "mps" else torch.float64
    hidden = {name: p.detach().to(precise) for name, p in hidden.items()}
    x = grid(local, device=device, dtype=precise)
    if order == 0:
        return {(): field.template.features(x, hidden).to(dtype)}
    sines = field.template.scaled_weights(hidden)[:-1]
    parts: dict[tuple[int, ...], list[Tensor]] = {}
    for part in x.split(max(1, CACHED // max(bias.shape[0] for _, bias in sines))):
        phi, dphi, d2phi = sine_jet(part, sines, second="diagonal" if order == 2 else None)
        parts.setdefault((), []).append(phi.to(dtype))
        for a, width in enumerate(field.windows.width):
            assert dphi is not None
            parts.setdefault((a,), []).append((dphi[a] * (2 / width)).to(dtype))
            if order == 2:
                assert d2phi is not None
                parts.setdefault((a, a), []).append((d2phi[a] * (2 / width) ** 2).to(dtype))
    return {key: torch.cat(each) for key, each in parts.items()}


def _weights(
    n: int, w: int, s: int, order: int, device: torch.device, dtype: torch.dtype, length: int
) -> Float[Tensor, "orders n w"]:
    """The weights of n windows at their samples along one axis, and their derivatives by x."""
    lap = w - s
    found = torch.zeros(order + 1, n, w, device=device, dtype=dtype)
    found[0] = 1
    if lap and n > 1:
        t = (torch.arange(lap, device=device, dtype=torch.float64 if device.type != "mps" else dtype) + 0.5) / lap
        scale = length / (2 * lap)  # of t by x
        for o in range(order + 1):
            rising = (smooth_step(t, o) * scale**o).to(dtype)
            found[o, 1:, :lap] = rising
            found[o, :-1, s:] = 1 - rising if o == 0 else -rising
    return found


def _keys(d: int, order: int) -> list[tuple[int, ...]]:
    """Axes by which a value, its gradient and its curvatures are derived."""
    return [(), *([(a,) for a in range(d)] if order else []), *([(a, a) for a in range(d)] if order == 2 else [])]


def _window_values(
    field: WindowedSiren, tables: Mapping[tuple[int, ...], Float[Tensor, "P F"]], which: Int[Tensor, " W"]
) -> dict[tuple[int, ...], Float[Tensor, "W P C"]]:
    """The values of some windows at local points, and their derivatives."""
    values = {key: field.channels(phi, which).movedim(0, 1) for key, phi in tables.items()}
    values[()] = values[()] + field.constants(which).unsqueeze(-2)
    return values


def _blended(
    weights: Sequence[Tensor], key: tuple[int, ...], d: int, values: Mapping[tuple[int, ...], Tensor]
) -> Tensor:
    """Values times the windows' weights, derived by the axes of a key: the product rule."""
    total = _times(weights, (), d, values[key])
    if len(key) >= 1:
        total = total + _times(weights, key, d, values[()])
    if len(key) == 2:
        total = total + 2 * _times(weights, key[:1], d, values[key[:1]])
    return total


def _times(weights: Sequence[Tensor], key: tuple[int, ...], d: int, values: Tensor) -> Tensor:
    """Values times the windows' weights, derived along the axes of a key."""
    for axis in range(d):
        table = weights[axis][key.count(axis)]
        shape = [1] * values.ndim
        shape[axis], shape[d + axis] = table.shape
        values = values * table.view(shape)
    return values


def _overlap_add(values: Tensor, pixels: Sequence[tuple[int, int]]) -> Tensor:
    """The sum of windows at their places: (n_0, n_1, ..., w_0, w_1, ..., C) -> (length_0, length_1, ..., C)."""
    d = len(pixels)
    for axis, (w, s) in enumerate(pixels):
        # Axes that are done stand in front as one each; the next n stands at `axis`, the next w at d.
        n, lap = values.shape[axis], w - s
        values = values.movedim(d, axis + 1)  # (..., n, w, ...)
        shape = list(values.shape)
        total = values.new_zeros(*shape[:axis], (n + 1) * s if lap else n * s, *shape[axis + 2 :])
        blocks = total.unflatten(axis, (-1, s))
        main = values.narrow(axis + 1, 0, s)
        blocks.narrow(axis, 0, n).add_(main)
        if lap:
            blocks.narrow(axis, 1, n).narrow(axis + 1, 0, lap).add_(values.narrow(axis + 1, s, lap))
            total = total.narrow(axis, 0, n * s + lap)
        values = total
    return values
