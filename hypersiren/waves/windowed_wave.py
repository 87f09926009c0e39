"""The wave equation over windows, in closed form: a pulse at rest spreads through any medium.

    m u_tt = u_00 + u_11,     m = 1 / c²,     u(0) = u0,     u_t(0) = 0

In space u is a sum over the windows' features times their weights, psi_j (a partition of unity method, Melenk and
Babuška 1996), with numbers theta_j(t). The equation is asked for in its weak form, where media may jump,

    M theta'' = -K theta,     M_ij = ∫ m psi_i psi_j,     K_ij = ∫ grad psi_i . grad psi_j,

by Gauss's quadrature, exact but for the medium, which is smoothed over two points. Energy is kept, whatever m. In time

    theta(t) = cos(t A^1/2) theta(0) + A^-1/2 sin(t A^1/2) theta'(0),     A = M^-1 K,

to rounding, by Chebyshev polynomials of A (Tal-Ezer 1986): each takes one solve with M, which is factorised once by
nested dissection.

Slabs of time follow each other. In each the numbers become sums of exp(i nu_l t), so that the whole is a windowed field
of (t, x_0, x_1) with one sine layer, sin(k . x + nu_l t + b). It is 0 where the pulse cannot have come to, and goes on
beyond [-1, 1]² until nothing that turns back there can return in time.

Symbols: W windows in space, S slabs, F features in space, P pairs (sine, cosine) of them, L frequencies in time, Q
times, G points along an axis of a window.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.dissection import BlockCholesky
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.siren import Siren
from hypersiren.fields.window_solve import Keep
from hypersiren.fields.windows import Windows, smooth_step
from hypersiren.waves.media import Medium
from hypersiren.waves.reach import Box

RIDGE = 1e-10
"""Of the mass matrix whose diagonal is 1."""

PERIOD = 4.0
"""Of the lowest frequency, in space and in time; a window has 2."""

FREQUENCIES, TURN = 11, 6.0
"""L, with which the error of a slab is below 1e-4 where waves turn by up to so many radians in half of it."""

TIME_OVERLAP = 0.1
"""Share of a slab that it gives to each neighbour."""

GROWTH = 0.5
"""Earlier slabs with fewer than so many of a slab's windows have equations of their own."""

POINTS = (16, 6)
"""Quadrature points along an axis for 65 features: where windows overlap, and where one is alone."""


def space_time_siren(space: Siren) -> Siren:
    """The waves of a lattice in space, moving: sin(k . x + nu_l t + b) for L frequencies nu_l and b = 0, pi / 2.

    Features stand in the order of l, k, b; of k = 0 there are both.

    Args:
        space: From `lattice_siren`, of an odd number F of features.

    Example:
        >>> space_time_siren(lattice_siren(2, 1, 5, PERIOD))
        Siren(3 -> 66 -> 1, omega 30/30)
    """
    first, _ = space._linears()
    k = torch.cat([first.weight[:1], first.weight[1::2]]).detach()
    siren = Siren(3, 1, hidden_features=(FREQUENCIES * len(k) * 2,), first_omega=space.first_omega).to(k)
    nu = time_frequencies().to(k) / space.first_omega
    waves = torch.cat([nu.repeat_interleave(len(k)).unsqueeze(1), k.repeat(FREQUENCIES, 1)], 1)
    with torch.no_grad():
        hidden, last = siren._linears()
        hidden.weight.copy_(waves.repeat_interleave(2, 0))
        hidden.bias.copy_(torch.tensor([0.0, math.pi / 2 / space.first_omega]).repeat(len(waves)))
        last.weight.zero_()
        last.bias.zero_()
    return siren


def time_frequencies() -> Float[Tensor, " L"]:
    """nu_l, in radians of a slab's local time."""
    half = FREQUENCIES // 2
    return 2 * math.pi / PERIOD * torch.arange(-half, half + 1, dtype=torch.float64)


def window_counts(box: Box, width: float, overlap: float) -> list[int]:
    """Windows of this width along each axis of a box, with the ring around it.

    Example:
        >>> window_counts(Box((0.0, 0.0), (1.0, 0.5), (0.5, 0.2), 0.5), 0.2, 0.5)
        [13, 8]
    """
    step = (1 - overlap) * width
    return [1 + math.ceil((high - low + width) / step - 1e-9) for low, high in zip(box.low, box.high, strict=True)]


def wave_windows(box: Box, width: float, overlap: float, features: int, duration: float, slabs: int) -> CompactWindows:
    """The windows of a wave, in double precision, without numbers; a ring of them around the box stays empty.

    Args:
        box: What they must cover.
        width: Of a window, about: the box is enlarged to a multiple.
        overlap: Share of a window that it gives to each neighbour.
        features: F, odd.
        duration: Times go from 0 to this.
        slabs: S.

    Example:
        >>> box = Box((-0.5, -0.5), (0.5, 0.3), (0.0, 0.0), 0.5)
        >>> wave_windows(box, 0.25, 0.4, 5, 0.4, 3)
        CompactWindows(3 x 10 x 8 windows that overlap by 10 x 40 %, 66 numbers each: 3 -> 66 -> 1, omega 30/30)
    """
    counts, ends = [slabs], [(0.0, duration)]
    for low, high, count in zip(box.low, box.high, window_counts(box, width, overlap), strict=True):
        half = width * (1 + (count - 1) * (1 - overlap)) / 2
        counts.append(count)
        ends.append(((low + high) / 2 - half, (low + high) / 2 + half))
    lower, upper = zip(*ends, strict=True)
    siren = space_time_siren(lattice_siren(2, 1, features, PERIOD))
    numbers = siren._linears()[0].out_features
    laps = (TIME_OVERLAP, overlap, overlap)
    return CompactWindows(siren, counts, laps, upper, counts=(numbers,), lower=lower).double()


def window_start(windows: Windows, place: tuple[int, int]) -> list[float]:
    """Where a window begins in space."""
    first: Sequence[float] = windows.lower[1:]  # type: ignore[index]
    return [low + i * step for low, i, step in zip(first, place, windows.step[1:], strict=True)]


def active_windows(windows: Windows, box: Box, until: float = math.inf) -> list[tuple[int, int]]:
    """The windows of a `CompactWindows`, inside the ring, that the wave can come to by a time."""
    rows, columns = (range(1, count - 1) for count in windows.count[1:])
    places = product(rows, columns)

    def reached(place: tuple[int, int]) -> bool:
        low = window_start(windows, place)
        return box.reached(low, [a + width for a, width in zip(low, windows.width[1:], strict=True)], until)

    return [place for place in places if reached(place)]


class WaveSystem:
    """M, K and the factors of M, for the windows of a field that a wave can come to.

    Args:
        field: From `wave_windows`.
        box: What it was made for.
        medium: m(x).
        until: The windows are those that the wave can come to by this time.
        ridge: Of the mass matrix whose diagonal is 1.
        watch: Is called now and then, and may raise to end the solve.
    """

    def __init__(
        self,
        field: CompactWindows,
        box: Box,
        medium: Medium,
        *,
        until: float = math.inf,
        ridge: float = RIDGE,
        watch: Callable[[], object] = lambda: None,
    ):
        self.windows, self.device, self.watch = field.windows, field.coefficients.device, watch
        self.places = active_windows(self.windows, box, until)
        overlap = self.windows.overlap[1]  # type: ignore[index]
        self.axis = _Axis.of(self.windows.width[1], overlap, self._points(field)).to(self.device)
        self.basis, slopes = self._basis(field)
        index = {place: i for i, place in enumerate(self.places)}
        shared = {d: self._shared(d) for d in ((0, 0), (0, 1), (1, -1), (1, 0), (1, 1))}
        mass = dict[tuple[int, int], Tensor]()
        pairs: dict[tuple[int, int], list[tuple[int, int]]] = {d: [] for d in shared}
        for i, place in enumerate(self.places):
            watch()
            weighted = self.basis * self._smoothed(medium, place).unsqueeze(-1)
            for d, (a, b) in shared.items():
                if (j := index.get((place[0] + d[0], place[1] + d[1]))) is not None:
                    mass[i, j] = weighted[a].flatten(0, 1).mT @ self.basis[b].flatten(0, 1)
                    pairs[d].append((i, j))
        self.scale = torch.stack([mass[i, i].diagonal().rsqrt() for i in range(len(self.places))])
        for (i, j), block in mass.items():
            block.mul_(self.scale[i].unsqueeze(1) * self.scale[j])
            if i == j:
                block.diagonal().add_(ridge)
        self.stiff = list[tuple[Tensor, Tensor, Tensor]]()
        for d, (a, b) in shared.items():
            i_j = torch.tensor(pairs[d], dtype=torch.long, device=self.device).view(-1, 2)
            block = torch.stack([s[a].flatten(0, 1).mT @ s[b].flatten(0, 1) for s in slopes]).sum(0)
            self.stiff.append((i_j[:, 0], i_j[:, 1], block))
        self.factor = BlockCholesky(self.places, mass, watch)
        self.bound = self._bound()

    @staticmethod
    def _points(field: CompactWindows) -> tuple[int, int]:
        """Quadrature points, in proportion to the highest frequency of the features."""
        more = max(math.sqrt(field.counts[0] / (FREQUENCIES * 66)), 0.6)
        return math.ceil(POINTS[0] * more), math.ceil(POINTS[1] * more)

    def _basis(self, field: CompactWindows) -> tuple[Tensor, list[Tensor]]:
        """Features times weight at a window's points, and their slopes, (G, G, F), times the roots of quadrature."""
        k = (
            field.template.first_omega
            * field.get_parameter("layers.0.weight").detach().view(FREQUENCIES, -1, 2, 3)[FREQUENCIES // 2, :, 0, 1:]
        )
        place, w, dw, root = self.axis.place, self.axis.weight, self.axis.slope, self.axis.root
        x = torch.stack(torch.meshgrid(place, place, indexing="ij"), -1)
        phase = x @ k.mT
        value = torch.stack([phase.sin(), phase.cos()], -1).flatten(-2)[..., 1:]
        turned = torch.stack([phase.cos(), -phase.sin()], -1).flatten(-2)[..., 1:]
        k = k.repeat_interleave(2, 0)[1:] * (2 / self.windows.width[1])

        def times(a: Tensor, b: Tensor) -> Tensor:
            return torch.outer(a * root, b * root).unsqueeze(-1)

        both = times(w, w)
        return both * value, [
            times(dw, w) * value + both * turned * k[:, 0],
            times(w, dw) * value + both * turned * k[:, 1],
        ]

    def _shared(self, d: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The points that a window shares with its neighbour: of its own, and of the neighbour's."""
        g, q = len(self.axis.place), self.axis.step
        ways = {0: (slice(0, g), slice(0, g)), 1: (slice(q, g), slice(0, g - q)), -1: (slice(0, g - q), slice(q, g))}
        return (ways[d[0]][0], ways[d[1]][0]), (ways[d[0]][1], ways[d[1]][1])

    def _grid(self, place: tuple[int, int]) -> Float[Tensor, "G G 2"]:
        """The points of a window."""
        axes = [
            (self.axis.place + 1) * self.windows.width[1] / 2 + start for start in window_start(self.windows, place)
        ]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)

    def _smoothed(self, medium: Medium, place: tuple[int, int], samples: int = 4) -> Float[Tensor, "G G"]:
        """The mean of m over two points' distance around each point of a window."""
        x = self._grid(place)
        near = 2 * self.windows.step[1] / self.axis.step
        offsets = near * ((torch.arange(samples, dtype=x.dtype, device=x.device) + 0.5) / samples - 0.5)
        around = torch.stack(torch.meshgrid(offsets, offsets, indexing="ij"), -1).flatten(0, 1)
        return medium((x.unsqueeze(-2) + around).flatten(0, 2)).view(*x.shape[:2], -1).mean(-1).to(x)

    def stiffness(self, theta: Float[Tensor, "W F C"]) -> Float[Tensor, "W F C"]:
        """K theta, in units of the scaled columns."""
        scale = self.scale.unsqueeze(-1)
        theta = theta * scale
        found = torch.zeros_like(theta)
        for i, j, block in self.stiff:
            found.index_add_(0, i, block @ theta[j])
            if not torch.equal(i, j):
                found.index_add_(0, j, block.mT @ theta[i])
        return found * scale

    def _bound(self, steps: int = 14) -> float:
        """More than A's largest eigenvalue: Lanczos's largest, and what its last step leaves (Zhou and Li 2011)."""
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(*self.scale.shape, 1, generator=generator, dtype=torch.float64).to(self.device)
        v = self.factor.solve(w)
        size = (w * v).sum().sqrt()
        w, v, before, beta = w / size, v / size, torch.zeros_like(w), torch.zeros((), dtype=w.dtype, device=w.device)
        diagonal, off = [], []
        for _ in range(steps):
            new = self.stiffness(v)
            alpha = (new * v).sum()
            new = new - alpha * w - beta * before
            solved = self.factor.solve(new)
            beta = (new * solved).sum().clamp_min(0).sqrt()
            diagonal.append(alpha)
            off.append(beta)
            before, w, v = w, new / beta, solved / beta
        sides = torch.stack(off[:-1])
        matrix = torch.diag(torch.stack(diagonal)) + torch.diag(sides, 1) + torch.diag(sides, -1)
        return float(torch.linalg.eigvalsh(matrix)[-1] + off[-1])

    def project(self, medium: Medium, start: Callable[[Tensor], Tensor]) -> Float[Tensor, "W F"]:
        """The numbers of the function nearest to `start`, (N, 2) -> (N, 1), in the norm of M."""
        root = torch.outer(self.axis.root, self.axis.root)
        right = []
        for place in self.places:
            x = self._grid(place).flatten(0, 1)
            values = (self._smoothed(medium, place) * root).flatten() * start(x).flatten()
            right.append(self.basis.flatten(0, 1).mT @ values)
        return self.factor.solve((torch.stack(right) * self.scale).unsqueeze(-1)).squeeze(-1) * self.scale

    def advance(
        self, value: Float[Tensor, "W F"], rate: Float[Tensor, "W F"], times: Float[Tensor, " Q"], fit: Tensor
    ) -> Complex[Tensor, "L W F"]:
        """Sums over Q times of the numbers, sum_q fit_lq theta(t_q), from numbers and their rates at time 0.

        Args:
            value, rate: theta(0), theta'(0).
            times: t_q.
            fit: (L, Q), complex.
        """
        table = _chebyshev(times.double().cpu().numpy(), self.bound)
        theta = torch.stack([value, rate], -1) / self.scale.unsqueeze(-1)
        tables = [fit @ torch.from_numpy(each).to(fit) for each in table]  # (L, K)

        def turn(theta: Tensor) -> Tensor:
            """2 A / bound - 1."""
            return 2 / self.bound * self.factor.solve(self.stiffness(theta)) - theta

        before, now = theta, turn(theta)
        every = [before, now]
        for _ in range(tables[0].shape[1] - 2):
            self.watch()
            before, now = now, 2 * turn(now) - before
            every.append(now)
        stacked = torch.stack(every)
        of_value, of_rate = (each @ stacked[..., i].flatten(1).to(each) for i, each in enumerate(tables))
        return (of_value + of_rate).view(-1, *value.shape) * self.scale


@dataclass(frozen=True)
class _Axis:
    """One axis of a window: Gauss's points, where windows overlap and where one is alone.

    Attributes:
        place: (G,), local coordinates.
        weight, slope: Of the window, and by the coordinate.
        root: Of the points' weights.
        step: Points from one window to the next.
    """

    place: Tensor
    weight: Tensor
    slope: Tensor
    root: Tensor
    step: int

    @classmethod
    def of(cls, width: float, overlap: float, points: tuple[int, int]) -> "_Axis":
        lap = overlap * width
        ends = (0.0, lap, width - lap, width) if overlap < 0.5 else (0.0, lap, width)
        counts = (points[0], points[1], points[0]) if overlap < 0.5 else (points[0], points[0])
        x, w = [], []
        for low, high, count in zip(ends[:-1], ends[1:], counts, strict=True):
            at, share = np.polynomial.legendre.leggauss(count)
            x.append(low + (at + 1) / 2 * (high - low))
            w.append(share / 2 * (high - low))
        place, size = torch.from_numpy(np.concatenate(x)), torch.from_numpy(np.concatenate(w))
        rising, falling = (place / lap).clamp(0, 1), ((width - place) / lap).clamp(0, 1)
        slopes = [smooth_step(each, 1) / lap * (each < 1) for each in (rising, falling)]
        weight = smooth_step(rising) * smooth_step(falling)  # one of them is 1
        return cls(2 * place / width - 1, weight, slopes[0] - slopes[1], size.sqrt(), len(place) - points[0])

    def to(self, device: torch.device) -> "_Axis":
        place, weight, slope, root = (each.to(device) for each in (self.place, self.weight, self.slope, self.root))
        return _Axis(place, weight, slope, root, self.step)


def _chebyshev(times: np.ndarray, bound: float, accuracy: float = 1e-9) -> tuple[np.ndarray, np.ndarray]:
    """cos(t y^1/2) and y^-1/2 sin(t y^1/2), (Q, K) each: in Chebyshev polynomials of 2 y / bound - 1."""
    count = int(times.max() * math.sqrt(bound) / 2) + 40
    angle = math.pi * (np.arange(count) + 0.5) / count
    root = np.sqrt(bound) * np.cos(angle / 2)  # y^1/2
    phase = np.outer(times, root)
    transform = 2 / count * np.cos(np.outer(angle, np.arange(count)))
    transform[:, 0] /= 2
    tables = [np.cos(phase) @ transform, times[:, None] * np.sinc(phase / math.pi) @ transform]
    sizes = np.max([np.abs(each).max(0) / max(np.abs(each).max(), 1e-300) for each in tables], axis=0)
    needed = max(2, int(np.flatnonzero(sizes > accuracy)[-1]) + 1)
    return tables[0][:, :needed], tables[1][:, :needed]


def _stages(counts: Sequence[int]) -> list[int]:
    """For each slab, the last one that is solved with the same windows: few windows are solved for sooner.

    Example:
        >>> _stages([10, 20, 40, 70, 100])
        [0, 2, 2, 4, 4]
    """
    found = [len(counts) - 1]
    for s in reversed(range(len(counts) - 1)):
        found.append(s if counts[s] < GROWTH * counts[found[-1]] else found[-1])
    return found[::-1]


@torch.no_grad()
def solve_windowed_wave(
    field: CompactWindows,
    box: Box,
    medium: Medium,
    start: Callable[[Tensor], Tensor],
    *,
    ridge: float = RIDGE,
    keep: Keep | None = None,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Give the windows of a wave their numbers, slab by slab.

    Args:
        field: From `wave_windows`.
        box: What it was made for.
        medium: m(x), of points in double precision.
        start: u0, (N, 2) -> (N, 1).
        ridge: Of the mass matrix whose diagonal is 1.
        keep: Keeps the slabs that are solved, so that an interrupted solve goes on to the same numbers.
        progress: Called with the slabs that are done and all of them.

    Example:
        >>> from hypersiren.waves.reach import wave_box
        >>> box = wave_box((0.0, 0.0), 0.02, 1.0, 0.3)
        >>> field = wave_windows(box, 0.9, 0.45, 33, 0.3, 1)
        >>> pulse = lambda x: torch.exp(-x.square().sum(1, keepdim=True) / 0.04)
        >>> solve_windowed_wave(field, box, lambda x: torch.ones_like(x[:, :1]), pulse)
        >>> field(torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.3, 0.3, 0.0]])).flatten().tolist()
        [1.000..., -0.28..., 0.17...]
    """
    slabs, each = field.windows.count[0], math.prod(field.windows.count[1:])
    done = 0 if keep is None else keep.load(field, (0, slabs))

    def watch() -> None:
        if keep is not None:
            keep.save(field, (0, done))

    device, width, step = field.coefficients.device, field.windows.width[0], field.windows.step[0]
    stages = _stages([len(active_windows(field.windows, box, s * step + width)) for s in range(slabs)])
    stage = -1
    nu = time_frequencies().to(device)
    count = 4 * FREQUENCIES
    nodes = torch.cos(math.pi * (torch.arange(count, dtype=torch.float64, device=device) + 0.5) / count)
    fit = torch.linalg.pinv(torch.exp(1j * nodes.unsqueeze(1) * nu), rtol=1e-7)
    slab = field.coefficients.view(slabs, each, -1)
    for s in range(done, slabs):
        if stages[s] != stage:  # the wave has grown
            stage = stages[s]
            system = WaveSystem(field, box, medium, until=stage * step + width, ridge=ridge, watch=watch)
            which = torch.tensor([i * field.windows.count[2] + j for i, j in system.places], device=device)
        if s == 0:
            value = system.project(medium, start)
            rate = torch.zeros_like(value)
        else:  # where this slab begins in the last one
            turns = torch.exp(1j * nu * (2 * step / width - 1))
            z = torch.view_as_complex(slab[s - 1, which].view(len(which), FREQUENCIES, -1, 2))
            value, rate = (
                torch.view_as_real(torch.einsum("wlp,l->wp", z, each)).flatten(1)[:, 1:]
                for each in (turns, turns * 1j * nu * 2 / width)
            )
        sums = system.advance(value, rate, (nodes + 1) * width / 2, fit)
        pairs = torch.cat([torch.zeros_like(sums[..., :1]), sums], -1).unflatten(-1, (-1, 2))  # 1 is a cosine
        z = pairs[..., 0] + 1j * pairs[..., 1]
        slab[s, which] = torch.view_as_real(z.movedim(0, 1)).flatten(1)
        done = s + 1
        if keep is not None:
            keep.save(field, (0, done))
        progress(done, slabs)
