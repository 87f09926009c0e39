"""Windows: a regular grid of overlapping boxes over [-1, 1]^D, and smooth weights that sum to 1.

Along one axis n windows of width W stand a step s apart, and give the share `overlap` of W to each neighbour:

    W = (upper - lower) / (1 + (n - 1) (1 - overlap)),     s = (1 - overlap) W,     l = overlap W,

with lower = -1 but for fields over another box, such as of time and place.

Over the first l of window i its weight rises from 0 to 1 as that of window i - 1 falls, by the quintic step

    S(t) = t^3 (t (6 t - 15) + 10),     S' = 30 t^2 (1 - t)^2,     S'' = 60 t (1 - t) (1 - 2 t),

whose first and second derivatives vanish at both ends: the sum of fields under these weights has two continuous
derivatives. The weight of a box is the product over its axes; at most two windows an axis have any. Beyond the
outermost windows their weight stays 1.

Symbols: T windows, D axes, N points, K = 2^D windows that may count at a point.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor


def smooth_step(t: Tensor, order: int = 0) -> Tensor:
    """S, S' or S'' at t in [0, 1].

    Example:
        >>> smooth_step(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    if order == 0:
        return t**3 * (t * (6 * t - 15) + 10)
    return 30 * (t * (1 - t)) ** 2 if order == 1 else 60 * t * (1 - t) * (1 - 2 * t)


@dataclass(frozen=True)
class Windows:
    """A regular grid of T windows.

    Attributes:
        count: Windows along each axis.
        overlap: Share of a window that it gives to each neighbour, above 0 and at most 0.5; one, or one for each axis.
        upper: Where the last window of each axis ends. One, or one for each axis.
        lower: Where the first window of each axis begins.

    Raises:
        ValueError: If there is no window, or the overlap or an end is out of its range.

    Example:
        >>> windows = Windows((3, 2), 0.25)
        >>> len(windows), [round(w, 3) for w in windows.width]
        (6, [0.8, 1.143])
    """

    count: tuple[int, ...]
    overlap: float | tuple[float, ...] = 0.125
    upper: float | tuple[float, ...] = 1.0
    lower: float | tuple[float, ...] = -1.0
    width: tuple[float, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = tuple(self.count)
        if not count or any(n < 1 for n in count):
            raise ValueError(f"expected at least one window along each axis, got {count}")
        for name in ("overlap", "upper", "lower"):
            given = getattr(self, name)
            values = tuple(given) if isinstance(given, Sequence) else (float(given),) * len(count)
            if len(values) != len(count):
                raise ValueError(f"expected {name} for each of {len(count)} axes, got {given}")
            object.__setattr__(self, name, values)
        if not all(0 < o <= 0.5 for o in self.overlap):  # type: ignore[union-attr]
            raise ValueError(f"expected overlap above 0 and at most 0.5, got {self.overlap}")
        for low, high in zip(self.lower, self.upper, strict=True):  # type: ignore[arg-type]
            if not -math.inf < low < high < math.inf:
                raise ValueError(f"expected upper above lower, got {high} and {low}")
        object.__setattr__(self, "count", count)
        width = tuple((u - low) / (1 + (n - 1) * (1 - o)) for n, o, u, low in self._axes())
        object.__setattr__(self, "width", width)

    def __len__(self) -> int:
        """T."""
        return math.prod(self.count)

    def _axes(self) -> list[tuple[int, float, float, float]]:
        return list(zip(self.count, self.overlap, self.upper, self.lower, strict=True))  # type: ignore[arg-type]

    @property
    def lap(self) -> tuple[float, ...]:
        """l along each axis."""
        return tuple(o * w for o, w in zip(self.overlap, self.width, strict=True))  # type: ignore[arg-type]

    @property
    def step(self) -> tuple[float, ...]:
        """s along each axis."""
        return tuple(w - lap for w, lap in zip(self.width, self.lap, strict=True))

    def pixels(self, size: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
        """Width and step in samples of a raster along each axis, if the raster keeps step with the windows; else None.

        Example:
            >>> Windows((3, 2), 0.25).pixels((100, 70)), Windows((3, 2), 0.25).pixels((101, 70))
            (((40, 30), (40, 30)), None)
        """
        if any(low != -1 for low in self.lower):  # type: ignore[union-attr]
            return None
        found = []
        for n, count, width, step in zip(size, self.count, self.width, self.step, strict=True):
            w, s = width * n / 2, step * n / 2
            whole = abs(w - round(w)) < 1e-6 * n and (count == 1 or abs(s - round(s)) < 1e-6 * n / count)
            if not whole or round(w) < 1:
                return None
            found.append((round(w), round(s) if count > 1 else round(w)))
        return tuple(found)

    def locate(
        self, x: Float[Tensor, "N D"], order: int = 0
    ) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N K D"], list[list[Tensor]]]:
        """The windows that may count at each point, where the point lies in each, and their weights by axis.

        Args:
            x: Points, in the precision in which their place in a window is computed.
            order: Derivatives of the weights that are wanted, 0, 1 or 2.

        Returns:
            The windows, counted with the last axis fastest; local coordinates, [-1, 1] within a window; and for each
            axis the factor of each window's weight (N, K), followed by its derivatives by x.
        """
        indices, locals_, factors = [], [], []
        axes = zip(self.count, self.width, self.step, self.lap, self.lower, strict=True)  # type: ignore[arg-type]
        for d, (n, width, step, lap, low) in enumerate(axes):
            place = x[:, d] - low
            i = (place / step).floor().clamp(0, n - 1) if n > 1 else torch.zeros_like(place)
            t = ((place - i * step) / lap).clamp(0, 1)
            t = torch.where(i > 0, t, torch.ones_like(t))  # the first window begins with weight 1
            pair = torch.stack([i, (i - 1).clamp(min=0)], -1)
            indices.append(pair.long())
            if n > 1:
                locals_.append((place.unsqueeze(-1) - pair * step) / (0.5 * width) - 1)
            else:
                locals_.append((x[:, d].unsqueeze(-1) - (width / 2 + low)) / (0.5 * width) + 0 * pair)
            rising = [smooth_step(t, o) / lap**o for o in range(order + 1)]
            rest = [1 - rising[0], *(-r for r in rising[1:])]
            factors.append([torch.stack(both, -1) for both in zip(rising, rest, strict=True)])
        corners = list(product((0, 1), repeat=len(self.count)))
        index = torch.zeros(x.shape[0], len(corners), dtype=torch.long, device=x.device)
        for d, n in enumerate(self.count):
            index = index * n + indices[d][:, [c[d] for c in corners]]
        place = torch.stack([locals_[d][:, [c[d] for c in corners]] for d in range(len(self.count))], -1)
        by_axis = [[f[:, [c[d] for c in corners]] for f in factors[d]] for d in range(len(self.count))]
        return index, place, by_axis


def choose_steps(length: int, lap: int, step: int) -> tuple[int, int]:
    """The step near the one wanted with which windows cover so many samples with the least beyond, and their count.

    Args:
        length: Samples along the axis.
        lap: Samples that neighbours share.
        step: Samples from window to window that are wanted; from 7/8 to 9/8 of it are tried.

    Example:
        >>> choose_steps(768, 3, 29)
        (32, 24)
        >>> choose_steps(20, 3, 29)  # one window
        (17, 1)
    """
    if length <= step + lap:
        return max(1, length - lap), 1
    tried = range(max(lap, step - step // 8, 1), step + step // 8 + 1)
    beyond = {s: -(-(length - lap) // s) * s + lap - length for s in tried}
    best = min(tried, key=lambda s: (beyond[s] / length + 0.02 * abs(s - step) / step, abs(s - step)))
    return best, -(-(length - lap) // best)
