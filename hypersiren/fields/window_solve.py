"""The windows of a field solved from values on a raster, in closed form.

All windows of a raster that keeps step with them see the same local points, so one Gram matrix serves all of them: with
A = phi S the features of a window's samples times the standard deviations of their weights,

    theta_t = S (A^T A + lambda I)^-1 A^T y_t,

a matrix that is made once, times the samples of each window. Where windows overlap each is fitted to all samples that
it sees; the blend of fits that are each good is at least as good. The samples are taken some rows at a time, so that
the signal need not fit into memory.

How many features each mixed channel gets follows from the signal. With the Cholesky factor L of the Gram matrix the
first F features explain |z_1..F|^2 of the energy, z = L^-1 A^T y: the curves of all F come from one solve, and the
numbers go where the next one explains most.

Symbols: T windows, W windows at a time, P samples of a window, F features, C channels, R mixed channels.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.lattice import frequency_sizes, lattice_siren
from hypersiren.fields.memo import Memo, once
from hypersiren.fields.raster import STRIP, local_features
from hypersiren.fields.siren import Siren
from hypersiren.fields.windows import Windows, choose_steps

LOG = logging.getLogger(__name__)

RIDGE = 1e-6
"""lambda, relative to the samples of a window: the variance of the noise in units of the values' squares."""

LOOKED_AT = 128
"""Windows from which axes and numbers of the channels are chosen; 256 choose no better."""

BLOCK = 512
"""Columns of a Gram matrix that are made at a time, each from the diagonal down."""

KERNELS = 2**24
"""Numbers of the systems of windows known in part that are solved at a time: 128 MB."""

ReadRows = Callable[[int, int], Tensor]
"""Rows start to stop - 1 of a raster along its first axis, (rows, *size, C)."""


@runtime_checkable
class Keep(Protocol):
    """Keeps what is solved of a field, so that a solve that was interrupted can go on, and divides it.

    Rows are those of windows, along the first axis; strips of them are solved at a time.
    """

    def share(self, strips: int) -> tuple[int, int]:
        """Which strips this process is to solve, from the first to before the last."""
        ...

    def load(self, field: CompactWindows, rows: tuple[int, int]) -> int:
        """Give a field what is kept of these rows; the row to go on with. It has all but the rows."""
        ...

    def save(self, field: CompactWindows, rows: tuple[int, int]) -> None:
        """Is told after each strip which rows a field has, of those that it is to have."""
        ...

    def gather(self, field: CompactWindows, rows: tuple[int, int]) -> None:
        """Give a field, which has these rows, those of the other processes."""
        ...


@dataclass(frozen=True)
class Plan:
    """How a signal is divided.

    Attributes:
        size: Samples of the raster along each axis.
        windows: The windows.
        pixels: Their width and step in samples along each axis.
    """

    size: tuple[int, ...]
    windows: Windows
    pixels: tuple[tuple[int, int], ...]


def plan_windows(size: Sequence[int], step: Sequence[int], lap: Sequence[int], multiple: int = 1) -> Plan:
    """Windows over a raster: near the step that is wanted, with the least beyond the signal's end.

    Args:
        size: Samples along each axis.
        step: Samples from window to window.
        lap: Samples that neighbours share.
        multiple: Of which widths and steps are whole multiples, as all of the above are, so that a coarser raster keeps
            step with the windows too.

    Example:
        >>> plan_windows((512, 768), (45, 45), (3, 3)).pixels
        ((46, 43), (48, 45))
    """
    count, overlap, upper, pixels = [], [], [], []
    for n, s, o in zip(size, step, lap, strict=True):
        chosen, windows = choose_steps(n // multiple, o // multiple, s // multiple)
        chosen *= multiple
        width = chosen + o if windows > 1 else n
        count.append(windows)
        overlap.append(o / width if windows > 1 else 0.125)
        upper.append(2 * ((windows - 1) * chosen + width) / n - 1)
        pixels.append((width, chosen if windows > 1 else width))
    return Plan(tuple(size), Windows(tuple(count), tuple(overlap), tuple(upper)), tuple(pixels))


@torch.no_grad()
def solve_raster(
    size: Sequence[int],
    read: ReadRows,
    channels: int,
    numbers: float,
    step: Sequence[int],
    lap: Sequence[int],
    *,
    multiple: int = 1,
    period: float = 2.2,
    ridge: float = RIDGE,
    decay: float = 0.0,
    known: Bool[Tensor, "*size"] | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] = lambda done, total: None,
    keep: Keep | None = None,
    memo: Memo | None = None,
) -> CompactWindows:
    """The field of a signal on a raster, known everywhere or in part.

    Known in part, each window has a system of its own. The mean of its prior is the signal filled in from coarse to
    fine (`fill`), which carries what is global; with A the known rows of phi S alone, what is left is solved in the
    dual form, theta += S A^T (A A^T + lambda I)^-1 (y - phi theta).

    Args:
        size: Samples along each axis.
        read: Gives rows of the signal.
        channels: C.
        numbers: Numbers of the field for each value of the signal.
        step, lap, multiple: See `plan_windows`.
        period: Of the lattice of frequencies, see `lattice_siren`.
        ridge: lambda.
        decay: The standard deviation of a weight falls with its frequency to this power; 0: all weights alike.
        known: Which samples are known; None for all. Of others the values are not looked at.
        device: Where to solve.
        progress: Called with the rows that are done and all of them.
        keep: What is done already, and where it goes. The field is the same to the bit, wherever it was interrupted.
        memo: Keeps the system and its factors, which signals of one size share.

    Raises:
        ValueError: If the numbers are not above 0, or nothing is known.

    Example:
        >>> t = torch.linspace(0, 40, 1000).sin().view(-1, 1)
        >>> field = solve_raster((1000,), lambda a, b: t[a:b], 1, 0.5, (90,), (10,))
        >>> from hypersiren.fields.raster import raster
        >>> bool((raster(field, (1000,)) - t).abs().max() < 0.01)
        True
    """
    if not numbers > 0:
        raise ValueError(f"expected more than 0 numbers per value, got {numbers}")
    read_known, truth = None, read
    if known is not None:
        if not known.any():
            raise ValueError("expected at least one known sample, got none")
        filled = fill(read(0, size[0]), known)
        read, read_known = (lambda a, b: filled[a:b]), (lambda a, b: known[a:b].unsqueeze(-1))
    plan = plan_windows(size, step, lap, multiple)
    local = [w for w, _ in plan.pixels]
    samples = math.prod(local)
    # As many numbers a window and channel as its share of the signal has values.
    budget = max(channels, round(numbers * math.prod(size) * channels / len(plan.windows)) - 1)
    most = min(budget, round(1.5 * samples) + 8)
    wanted = (plan.pixels, channels, most, period, ridge, decay, str(device))
    siren, phi, scale, a, lower = once(memo, ("system", *wanted), partial(_system, *wanted))
    work = a.dtype
    look = _some_windows(plan, read, device)
    offset, mix = _axes(look)
    # A window's numbers are S L^-T L^-1 A^T y. L^-1 A^T is made once where there are more windows than samples of one.
    many = read_known is not None or len(plan.windows) > samples
    root = torch.linalg.solve_triangular(lower, a.mT, upper=False) if many else None

    def through(y: Tensor) -> Tensor:
        """L^-1 A^T y, (F, W), of samples (W, P)."""
        if root is None:
            return torch.linalg.solve_triangular(lower, a.mT @ y.mT, upper=False)
        return root @ y.mT

    if read_known is None:
        counts = _share(through, ((look - offset) @ mix).to(work), budget)
    else:  # one system for all channels
        counts = (min(most, budget // channels),) * channels

    def back(found: Tensor, count: int) -> Tensor:
        upper = lower[:count, :count].mT
        return (scale[:count, None] * torch.linalg.solve_triangular(upper, found, upper=True)).to(phi.dtype)

    solvers = [] if root is None else [back(root[:count], count) for count in counts]

    def solve(y: Tensor, r: int) -> Tensor:
        """The numbers of channel r, (F, W), of samples (W, P)."""
        if solvers:
            return solvers[r] @ y.mT
        count = counts[r]
        right = a[:, :count].mT @ y.mT.to(work)
        return back(torch.linalg.solve_triangular(lower[:count, :count], right, upper=False), count)

    field = CompactWindows(siren, plan.windows.count, plan.windows.overlap, plan.windows.upper, counts).to(device)
    field.mix.copy_(mix)
    field.offset.copy_(offset)
    rest = math.prod(plan.windows.count[1:])
    some = max(1, STRIP // (rest * samples * channels))
    all_rows = plan.windows.count[0]
    first, last = keep.share(-(-all_rows // some)) if keep else (0, all_rows)
    first, last = min(first * some, all_rows), min(last * some, all_rows)
    for i in range(keep.load(field, (first, last)) if keep else first, last, some):
        stop = min(i + some, last)
        z = (_windows(plan, read, i, stop, device) - offset) @ mix
        parts = [solve(z[..., r], r) for r in range(channels)]
        if read_known is not None:
            seen = _windows(plan, read_known, i, stop, device).squeeze(-1)
            y = (_windows(plan, truth, i, stop, device) - offset) @ mix
            left = y - torch.stack([phi[:, : len(part)] @ part for part in parts], -1).movedim(0, 1)
            change = _from_known(a[:, : counts[0]], left.to(work), seen, ridge * samples) * scale[: counts[0], None]
            parts = [part + change[..., r].to(part).mT for r, part in enumerate(parts)]
        field.coefficients[i * rest : stop * rest] = torch.cat(parts).mT
        if keep:
            keep.save(field, (first, stop))
        progress(size[0] if stop == last else (stop - first) * size[0] // (last - first), size[0])
    if keep:
        keep.gather(field, (first, last))
    return field.requires_grad_(False)


def _system(
    pixels: Sequence[tuple[int, int]],
    channels: int,
    most: int,
    period: float,
    ridge: float,
    decay: float,
    device: str,
) -> tuple[Siren, Float[Tensor, "P F"], Float[Tensor, " F"], Float[Tensor, "P F"], Float[Tensor, "F F"]]:
    """The SIREN of a window, its features at the window's samples, S, A and L."""
    local = [w for w, _ in pixels]
    weights = [1 / s for _, s in pixels]
    siren = lattice_siren(len(local), channels, most, period, [w / max(weights) for w in weights])
    draft = CompactWindows(siren, [1] * len(local), counts=(1,)).to(device)
    phi = local_features(draft, local)[()]
    scale = ((1 + frequency_sizes(siren)) ** -decay).to(phi)
    # In double precision: the features are nearly dependent.
    a = (phi * scale).to(phi.dtype if phi.device.type == "mps" else torch.float64)
    gram = a.new_zeros(a.shape[1], a.shape[1])  # its lower half, which is what a Cholesky factor is made of
    for i in range(0, len(gram), BLOCK):
        gram[i:, i : i + BLOCK] = a[:, i:].mT @ a[:, i : i + BLOCK]
    gram.diagonal().add_(ridge * len(a))
    return siren, phi, scale, a, torch.linalg.cholesky(gram)


def fill(values: Float[Tensor, "*size C"], known: Bool[Tensor, "*size"]) -> Float[Tensor, "*size C"]:
    """A signal filled in from coarse to fine: what is unknown is the mean of the known around it, however far.

    Known samples are averaged over pairs along every axis, again and again, until all is known; then each level fills
    the unknown of the finer one, interpolated linearly (push and pull, Gortler et al. 1996).

    Example:
        >>> values, known = torch.tensor([[1.0], [0.0], [0.0], [3.0]]), torch.tensor([True, False, False, True])
        >>> [round(v, 2) for v in fill(values, known).flatten().tolist()]
        [1.0, 1.5, 2.5, 3.0]
    """
    if known.all():
        return values
    d = known.ndim
    pad = [0 if n % 2 == 0 else 1 for n in known.shape]
    weight = torch.nn.functional.pad(known.to(values), [p for n in reversed(pad) for p in (0, n)])
    total = torch.where(known.unsqueeze(-1), values, 0)
    total = torch.nn.functional.pad(total, [0, 0, *(p for n in reversed(pad) for p in (0, n))])
    for axis in range(d):
        weight, total = (each.unflatten(axis, (-1, 2)).sum(axis + 1) for each in (weight, total))
    coarse = fill(total / weight.clamp(min=1).unsqueeze(-1), weight > 0)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[d]
    finer = torch.nn.functional.interpolate(coarse.movedim(-1, 0)[None], scale_factor=2.0, mode=mode)[0].movedim(0, -1)
    finer = finer[tuple(slice(n) for n in known.shape)]
    return torch.where(known.unsqueeze(-1), values, finer)


def _from_known(
    a: Float[Tensor, "P F"], left: Float[Tensor, "W P R"], known: Bool[Tensor, "W P"], noise: float
) -> Float[Tensor, "W F R"]:
    """A^T (A A^T + lambda I)^-1 of what is left, A the known rows of each window: those of about as many together."""
    kernel = a @ a.mT
    counts = known.sum(1)
    # Known samples first.
    place = known.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    found = a.new_zeros(len(left), left.shape[1], left.shape[2])
    for which in counts.argsort().split(max(1, KERNELS // max(1, int(counts.max())) ** 2)):
        most = max(1, int(counts[which].max()))
        cells = place[which, :most]
        inside = torch.arange(most, device=a.device) < counts[which].unsqueeze(-1)
        system = kernel[cells.unsqueeze(-1), cells.unsqueeze(-2)]
        system = system * (inside.unsqueeze(-1) & inside.unsqueeze(-2))
        system.diagonal(dim1=-2, dim2=-1).add_(torch.where(inside, noise, 1.0))
        right = left[which].gather(1, cells.unsqueeze(-1).expand(-1, -1, left.shape[2])) * inside.unsqueeze(-1)
        solved = torch.cholesky_solve(right, torch.linalg.cholesky(system))
        part = found.new_zeros(len(which), *found.shape[1:])
        found[which] = part.scatter(1, cells.unsqueeze(-1).expand_as(solved), solved)
    return a.mT @ found


def _reflected(index: Tensor, n: int) -> Tensor:
    """Indices into n samples, mirrored beyond their ends."""
    index = index % (2 * n)
    return torch.where(index < n, index, 2 * n - 1 - index)


def _windows(plan: Plan, read: ReadRows, first: int, last: int, device: torch.device | str) -> Shaped[Tensor, "W P C"]:
    """The samples of rows first to last - 1 of windows along the first axis; beyond the signal it is mirrored."""
    width, step = plan.pixels[0]
    rows = _reflected(torch.arange(first * step, (last - 1) * step + width), plan.size[0])
    low, high = int(rows.min()), int(rows.max()) + 1
    strip = read(low, high).to(device)
    strip = strip[(rows - low).to(strip.device)].unfold(0, width, step)  # (n_0, ..., C, w_0)
    for axis, (w, s) in enumerate(plan.pixels[1:], 1):
        n = plan.windows.count[axis]
        place = _reflected(torch.arange((n - 1) * s + w), plan.size[axis])
        strip = strip.index_select(axis, place.to(strip.device)).unfold(axis, w, s)
    d = len(plan.pixels)
    return strip.movedim(d, -1).reshape(-1, math.prod(w for w, _ in plan.pixels), strip.shape[d])


def _some_windows(plan: Plan, read: ReadRows, device: torch.device | str) -> Float[Tensor, "W P C"]:
    """Some windows from all over the signal."""
    rest = math.prod(plan.windows.count[1:])
    rows = max(1, min(plan.windows.count[0], LOOKED_AT // max(1, min(rest, 32))))
    chosen = torch.linspace(0, plan.windows.count[0] - 1, rows).round().long().unique().tolist()
    each = max(1, LOOKED_AT // len(chosen))
    found = []
    for i in chosen:
        part = _windows(plan, read, i, i + 1, device)
        found.append(part[:: max(1, len(part) // each)][:each])
    return torch.cat(found)


def _axes(look: Float[Tensor, "W P C"]) -> tuple[Float[Tensor, " C"], Float[Tensor, "C R"]]:
    """The mean, and the principal axes of the channels, that of the most variance first."""
    flat = look.flatten(0, 1).double() if look.device.type != "mps" else look.flatten(0, 1)
    offset = flat.mean(0)
    _, vectors = torch.linalg.eigh((flat - offset).mT @ (flat - offset))
    vectors = vectors.flip(1)
    return offset.to(look.dtype), vectors.to(look.dtype)


def _share(through: Callable[[Tensor], Tensor], z: Float[Tensor, "W P R"], budget: int) -> tuple[int, ...]:
    """Features of each mixed channel: so many together that what they explain is the most."""
    explained = torch.stack([through(y).square().sum(1).cumsum(0) for y in z.unbind(-1)])  # (R, F)
    n = torch.arange(1, explained.shape[1] + 1, device=explained.device, dtype=explained.dtype)
    low, high = 0.0, float(explained.max()) + 1.0

    def counts(price: float) -> Tensor:
        return (explained - price * n).argmax(1) + 1

    for _ in range(60):
        price = (low * high) ** 0.5 if low > 0 else high * 1e-3
        if int(counts(price).sum()) > budget:
            low = price
        else:
            high = price
        if low == 0 and high < 1e-30:
            break
    found = counts(high)
    # What is left goes to the first channel that can take it.
    left = budget - int(found.sum())
    for r in range(len(found)):
        more = min(left, explained.shape[1] - int(found[r]))
        found[r] += more
        left -= more
    return tuple(found.tolist())
