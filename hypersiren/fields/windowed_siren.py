"""WindowedSiren: a partition of unity of small SIRENs, for signals of any size.

    y(x) = sum_t w_t(x) f(xi_t(x); theta_t),     xi_t = (x - c_t) / h,     sum_t w_t = 1

with the smooth weights w of `hypersiren.fields.windows`, and f one `Siren` whose weights theta_t each window has for
itself, or some of them: the others are shared. A window costs what its width costs, and its first omega is that of a
window, whatever the size of the signal. The weights are `Params` with one more axis: (T, *shape) for a leaf that
windows own, (B, T, *shape) for one of B signals. With the product rule the jet is exact; value and two derivatives are
continuous across the seams.

Relatives: FBPINNs (Moseley, Markham and Nissen-Meyer 2023) for equations, on JAX.

Symbols: T windows, B signals, N points, D coordinate dimensions, C channels, F features, K windows that count at a
point, W windows of a batch, P points of each.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hypersiren.fields.jets import CACHED, Jet, Second, check_second
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import BoundSiren, Params, Siren
from hypersiren.fields.windows import Windows

Own = Literal["last", "all"]
"""Which layers windows have for themselves."""


class _Layer(nn.Module):
    """A linear layer of T windows."""

    def __init__(self, layer: nn.Linear, windows: int):
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach().expand(windows, -1, -1).clone())
        self.bias = nn.Parameter(layer.bias.detach().expand(windows, -1).clone())


@savable
class WindowedSiren(nn.Module):
    """A field that is a SIREN in each of T windows, blended where they overlap.

    Args:
        siren: The SIREN of a window, over coordinates in [-1, 1]^D of the window; all windows begin with its weights.
        windows: Windows along each axis.
        overlap: Share of a window that it gives to each neighbour, above 0 and at most 0.5; one, or one for each axis.
        upper, lower: Where the last windows end and the first begin, see `hypersiren.fields.windows.Windows`.
        own: "last": windows have last layers of their own and share the hidden ones, so that features are computed
            once; "all": every window has all weights for itself.

    Raises:
        ValueError: If there are not as many windows as axes, or a number is out of its range.

    Example:
        >>> field = WindowedSiren(Siren(2, 3, hidden_features=16), (4, 3), overlap=0.25)
        >>> field
        WindowedSiren(4 x 3 windows that overlap by 25 %, last layers of their own: 2 -> 16 x 4 -> 3, omega 30/30)
        >>> field.shapes["layers.4.weight"]
        (12, 3, 16)
        >>> field(torch.rand(10, 2) * 2 - 1).shape
        torch.Size([10, 3])
        >>> params = {"layers.4.weight": torch.randn(5, 12, 3, 16)}  # for 5 signals
        >>> field(torch.rand(10, 2), params).shape
        torch.Size([5, 10, 3])
    """

    def __init__(
        self,
        siren: Siren,
        windows: Sequence[int],
        overlap: float | Sequence[float] = 0.125,
        upper: float | Sequence[float] = 1.0,
        own: Own = "last",
        lower: float | Sequence[float] = -1.0,
    ):
        super().__init__()
        if len(windows) != siren.in_features:
            raise ValueError(f"expected windows along each of {siren.in_features} axes, got {tuple(windows)}")
        if own not in ("last", "all"):
            raise ValueError(f'expected own to be "last" or "all", got {own!r}')
        self.windows = Windows(tuple(windows), _plain(overlap), _plain(upper), _plain(lower))
        self.in_features, self.out_features, self.own = siren.in_features, siren.out_features, own
        # The SIREN of a window without weights: no parameter of this module.
        object.__setattr__(self, "template", copy.deepcopy(siren).to("meta"))
        layers = list(siren._linears())
        first = len(layers) - 1 if own == "last" else 0
        self.layers = nn.ModuleList(copy.deepcopy(layer) for layer in layers[:first])
        self.owned = self._make_own(layers[first:], first)

    def _make_own(self, layers: Sequence[nn.Linear], first: int) -> list[str]:
        """Make the weights that windows own, from layers of a window; their names."""
        self.layers.extend(_Layer(layer, len(self.windows)) for layer in layers)
        return [f"layers.{first + i}.{kind}" for i in range(len(layers)) for kind in ("weight", "bias")]

    template: Siren

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._windows()}, {self._leaves()}: {self.template._size()})"

    def _windows(self) -> str:
        overlap = " x ".join(f"{100 * o:.3g}" for o in dict.fromkeys(self.windows.overlap))  # type: ignore[arg-type]
        return f"{' x '.join(map(str, self.windows.count))} windows that overlap by {overlap} %"

    def _leaves(self) -> str:
        return "last layers of their own" if self.own == "last" else "all weights of their own"

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter; those that windows own begin with T."""
        return {name: tuple(p.shape) for name, p in self.named_parameters()}

    def lr_factors(self, first: float | None = None) -> dict[Tensor, float]:
        """Parameters that learn at a multiple of the learning rate: see `Siren.lr_factors`."""
        omega = self.template
        factor = min(1.0, omega.hidden_omega / omega.first_omega) if first is None else first
        return dict.fromkeys(self.layers[0].parameters(), factor)

    def bind(self, params: Params) -> BoundSiren:
        """The field that this network is with the given weights."""
        return BoundSiren(self, params)

    def features(self, x: Float[Tensor, "*batch P D"], params: Params | None = None) -> Float[Tensor, "*batch P F"]:
        """What the last layers of all windows see at local coordinates x, where windows share the hidden layers."""
        return self.template.features(x, {**self._hidden(params)})

    def _hidden(self, params: Params | None = None) -> Params:
        own = {name: p for name, p in self.named_parameters() if name.startswith("layers.") and name not in self.owned}
        return {name: (params or {}).get(name, p) for name, p in own.items()}

    def channels(self, phi: Float[Tensor, "P F"], which: slice | Tensor, params: Params | None = None) -> Tensor:
        """The values (P, W, C) of some windows where their features are phi, without the constant.

        A linear map of the features: derivatives of the features give those of the values.
        """
        weight = (params or {}).get(self.owned[0], self.get_parameter(self.owned[0]))[which]
        return (phi @ weight.flatten(0, 1).mT).unflatten(1, weight.shape[:2])

    def constants(self, which: slice | Tensor, params: Params | None = None) -> Float[Tensor, "*w C"]:
        """What is added to the values of some windows: their biases."""
        return (params or {}).get(self.owned[1], self.get_parameter(self.owned[1]))[which]

    # ------------------------------------------------------------------ at points

    def forward(self, x: Float[Tensor, "*batch N D"], params: Params | None = None) -> Float[Tensor, "*out N C"]:
        """Values at x, with this module's weights or with those given.

        Args:
            x: (N, D), or (B, N, D) for other points per signal. Where samples lie closer than 1e-5, as those of long
                sounds do, x should be float64: the place in a window is computed in its precision.
            params: Weights to use instead of the module's own, all or some of them: (T, *shape) or (B, T, *shape) where
                windows own them, (*shape) or (B, *shape) where they are shared.

        Returns:
            (N, C), or (B, N, C) if x or any weight has a signal axis.

        Raises:
            ValueError: If x has other than D coordinates, or `params` holds a name this network does not have.
        """
        whole = [set(ends) for ends in (self.windows.lower, self.windows.upper)]  # type: ignore[arg-type]
        if len(self.windows) == 1 and params is None and whole == [{-1.0}, {1.0}]:
            one = torch.zeros(1, dtype=torch.long, device=x.device)
            leaves = self.leaves(dict(self.named_parameters()), one, one)
            own = {name: p[0] if p.ndim > len(self.template.shapes[name]) else p for name, p in leaves.items()}
            return self.template(x.to(self._dtype()), own)
        found = self._blend(x, params, order=0, second=None)
        return found.value

    def jet(
        self,
        x: Float[Tensor, "*batch N D"],
        params: Params | None = None,
        *,
        first: bool = True,
        second: Second | None = None,
    ) -> Jet:
        """Values at x with their derivatives, exact and in closed form; see `Siren.jet` and, for x, `forward`."""
        check_second(second)
        return self._blend(x, params, order=2 if second else int(first), second=second, first=first)

    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def leaves(self, params: Params, window: Int[Tensor, " W"], signal: Int[Tensor, " W"]) -> Params:
        """The weights of the SIREN of each of W windows, (W, *shape), or (*shape) where all share them.

        Args:
            params: Every leaf, with its axes of windows and signals.
            window, signal: Which window of which signal.
        """
        shapes = self.shapes
        found = {}
        for name, p in params.items():
            many = p.ndim > len(shapes[name])
            if name in self.owned:
                found[name] = p[signal, window] if many else p[window]
            else:
                found[name] = p[signal] if many else p
        return found

    def _all_leaves(self, params: Params | None) -> tuple[Params, int | None]:
        """Every leaf, and the number of signals that they have, if any."""
        own: Params = dict(self.named_parameters())
        if params is None:
            return own, None
        if unknown := set(params) - set(own):
            raise ValueError(f"expected parameters named {sorted(own)}, got also {sorted(unknown)}")
        signals = {len(p) for name, p in params.items() if p.ndim > own[name].ndim}
        return {**own, **params}, max(signals) if signals else None

    def _blend(self, x: Tensor, params: Params | None, order: int, second: Second | None, first: bool = True) -> Jet:
        """Sum the windows' values, and derivatives up to an order, at points."""
        if x.shape[-1] != self.in_features:
            raise ValueError(f"expected coordinates (..., {self.in_features}), got {tuple(x.shape)}")
        leaves, signals = self._all_leaves(params)
        b = len(x) if x.ndim == 3 else signals or 1
        pieces = self._pieces(x, b, order, next(iter(leaves.values())).dtype)
        d = self.in_features
        ends = [(), (d,), (d * d if second == "full" else d,)][: 1 + (order > 0) + (second is not None)]
        sums = [pieces.place.new_zeros(b * x.shape[-2], self.out_features, *end) for end in ends]
        for chosen, slot, groups in self._batches(pieces.group):
            inside = slot >= 0
            local = pieces.place.new_zeros(*slot.shape, self.in_features)
            local = local.masked_scatter(inside.unsqueeze(-1), pieces.place[chosen])
            own = self.leaves(leaves, groups % len(self.windows), groups // len(self.windows))
            weights = [[f[chosen] for f in axis] for axis in pieces.weights]
            terms = self._weighted(local, own, inside.flatten(), weights, order, second)
            sums = [s.index_add(0, pieces.row[chosen], term) for s, term in zip(sums, terms, strict=True)]
        shape = (b, x.shape[-2]) if x.ndim == 3 or signals else (x.shape[-2],)
        value, *derivatives = (each.unflatten(0, shape) for each in sums)
        gradient = derivatives[0] if first and derivatives else None
        if second is None:
            return Jet(value, gradient)
        curvature = derivatives[1]
        if second == "laplacian":
            return Jet(value, gradient, laplacian=curvature.sum(-1))
        if second == "diagonal":
            return Jet(value, gradient, hessian_diagonal=curvature)
        return Jet(value, gradient, hessian=curvature.unflatten(-1, (d, d)))

    def _pieces(self, x: Tensor, b: int, order: int, dtype: torch.dtype) -> "_Pieces":
        """Each point in each window that counts there, of each of b signals."""
        t, n = len(self.windows), x.shape[-2]
        index, place, factors = self.windows.locate(x.reshape(-1, x.shape[-1]), order)
        counts = torch.stack([axis[0] for axis in factors]).prod(0) > 0
        row, corner = counts.nonzero(as_tuple=True)
        group = index[row, corner]
        if x.ndim == 3:
            group = group + t * (row // n)
        weights = [[f[row, corner].to(dtype) for f in axis] for axis in factors]
        place = place[row, corner].to(dtype)
        if x.ndim == 2 and b > 1:  # the same points for every signal
            signal = torch.arange(b, device=x.device).repeat_interleave(len(row))
            group, row, place = group.repeat(b) + t * signal, row.repeat(b) + n * signal, place.repeat(b, 1)
            weights = [[f.repeat(b) for f in axis] for axis in weights]
        return _Pieces(group, row, place, weights)

    def _weighted(
        self, x: Tensor, own: Params, taken: Tensor, factors: list[list[Tensor]], order: int, second: Second | None
    ) -> list[Tensor]:
        """The windows' values at local coordinates x (W, P, D), times their weights; and by the product rule their
        gradients (M, C, D) and the second derivatives that are asked for, (M, C, D) or all pairs (M, C, D D).

        Args:
            x: Local coordinates.
            own: The windows' weights.
            taken: Which of the W P rows there are, M of them.
            factors: The windows' weights at these, by axis, followed by derivatives.
            order, second: As in `_blend`.
        """

        def weight(*axes: int) -> Tensor:
            return _product(factors, axes).unsqueeze(-1)

        if order == 0:
            return [weight() * self.template(x, own).flatten(0, 1)[taken]]
        d = self.in_features
        inner: Second | None = None if second is None else ("full" if second == "full" else "diagonal")
        jet = self.template.jet(x, own, first=True, second=inner)
        scale = torch.tensor([2 / width for width in self.windows.width], dtype=x.dtype).to(x.device)
        y = jet.value.flatten(0, 1)[taken]
        assert jet.gradient is not None
        dy = jet.gradient.flatten(0, 1)[taken] * scale
        found = [weight() * y, torch.stack([weight(a) * y + weight() * dy[..., a] for a in range(d)], -1)]
        if second is None:
            return found
        if second == "full":
            assert jet.hessian is not None
            h = (jet.hessian.flatten(0, 1)[taken] * scale * scale.unsqueeze(-1)).flatten(-2)
            pairs = [(a, e) for a in range(d) for e in range(d)]
        else:
            assert jet.hessian_diagonal is not None
            h = jet.hessian_diagonal.flatten(0, 1)[taken] * scale.square()
            pairs = [(a, a) for a in range(d)]
        terms = [
            weight(a, e) * y + weight(a) * dy[..., e] + weight(e) * dy[..., a] + weight() * h[..., i]
            for i, (a, e) in enumerate(pairs)
        ]
        return [*found, torch.stack(terms, -1)]

    def _batches(self, group: Int[Tensor, " M"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Which rows, their place in a table (W, P) of windows with about as many rows each, -1 where there is none,
        and the windows."""
        order = group.argsort(stable=True)
        windows, counts = group[order].unique_consecutive(return_counts=True)
        start = counts.cumsum(0) - counts
        largest = counts.argsort(descending=True, stable=True)
        sizes = counts[largest].tolist()
        width = max(shape[0] for shape in self.template.shapes.values())
        i = 0
        while i < len(sizes):
            most = sizes[i]
            some = max(1, 4 * CACHED // (most * width))
            j = i + 1
            while j < len(sizes) and j - i < some and 2 * sizes[j] >= most:
                j += 1
            chosen = largest[i:j]
            column = torch.arange(most, device=group.device)
            inside = column < counts[chosen].unsqueeze(-1)
            slot = torch.where(inside, start[chosen].unsqueeze(-1) + column, -1)
            yield order[slot[inside]], slot, windows[chosen]
            i = j


@dataclass(frozen=True)
class _Pieces:
    """Points in windows, M of them.

    Attributes:
        group: The window, counted on over the signals.
        row: Which point, counted on over the signals.
        place: (M, D), local coordinates.
        weights: By axis the factor of the window's weight, (M,), followed by its derivatives.
    """

    group: Int[Tensor, " M"]
    row: Int[Tensor, " M"]
    place: Float[Tensor, "M D"]
    weights: list[list[Tensor]]


def _product(factors: Sequence[Sequence[Tensor]], axes: Sequence[int]) -> Tensor:
    """The product of the axes' factors, derived once for each time that an axis is named."""
    product = factors[0][axes.count(0)]
    for axis in range(1, len(factors)):
        product = product * factors[axis][axes.count(axis)]
    return product


def _plain(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else float(value)
