"""CompactWindows: a WindowedSiren whose numbers go where the signal has its energy.

The channels of a signal are mixed, y = offset + M z, so that z has the signal's own axes (for a photograph brightness
and two differences of colour, for stereo middle and side). Channel r of z has, in every window, weights for the first
F_r of the window's features alone, and features stand in the order of their frequency: brightness gets many, colours
few.

Symbols: T windows, W windows of a batch, P points, C channels, R mixed channels, F features.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params, Siren
from hypersiren.fields.windowed_siren import WindowedSiren


@savable
class CompactWindows(WindowedSiren):
    """Windows with weights for some of the features of each mixed channel; they begin with zeros.

    Parameters: those of the hidden layers, shared by all windows; `coefficients` (T, F_1 + ... + F_R); `mix` (C, R) and
    `offset` (C).

    Args:
        siren: The SIREN of a window; its features should stand in the order of importance, as in
            `hypersiren.fields.lattice`.
        windows, overlap, upper, lower: As in `WindowedSiren`.
        counts: F_1 ... F_R, features of each mixed channel.

    Raises:
        ValueError: If a channel has no feature or more than the SIREN has; as `WindowedSiren` too.

    Example:
        >>> field = CompactWindows(Siren(2, 3, hidden_features=(64,)), (4, 3), counts=(64, 16, 8))
        >>> field
        CompactWindows(4 x 3 windows that overlap by 12.5 %, 64 + 16 + 8 numbers each: 2 -> 64 -> 3, omega 30/30)
        >>> field(torch.rand(10, 2)).shape
        torch.Size([10, 3])
    """

    def __init__(
        self,
        siren: Siren,
        windows: Sequence[int],
        overlap: float | Sequence[float] = 0.125,
        upper: float | Sequence[float] = 1.0,
        counts: Sequence[int] = (1,),
        lower: float | Sequence[float] = -1.0,
    ):
        self.counts = tuple(counts)
        width = siren._linears()[-1].in_features
        if not self.counts or not all(0 < n <= width for n in self.counts):
            raise ValueError(f"expected counts of 1 to {width} features for each mixed channel, got {self.counts}")
        super().__init__(siren, windows, overlap, upper, lower=lower)

    def _make_own(self, layers: Sequence[nn.Linear], first: int) -> list[str]:
        self.coefficients = nn.Parameter(torch.zeros(len(self.windows), sum(self.counts)))
        self.mix = nn.Parameter(torch.eye(self.out_features, len(self.counts)))
        self.offset = nn.Parameter(torch.zeros(self.out_features))
        return ["coefficients"]

    def _leaves(self) -> str:
        return f"{' + '.join(map(str, self.counts))} numbers each"

    @property
    def numbers(self) -> int:
        """Numbers that the field has: those of its windows and of the mixture; features are chosen by rule."""
        return self.coefficients.numel() + self.mix.numel() + self.offset.numel()

    def lr_factors(self, first: float | None = None) -> dict[Tensor, float]:
        """Every parameter learns relative to its size: they have been solved for, and large steps would lose that."""
        sizes: dict[Tensor, float] = {}
        for p in self.parameters():
            sizes[p] = p.detach().square().mean().sqrt().item() or 1.0
        return sizes if first is None else sizes | dict.fromkeys(self.layers[0].parameters(), first)

    def tables(self) -> list[Tensor]:
        """Parameters that are no matrices, though they have two axes: a window's numbers are a row."""
        return [self.coefficients]

    def leaves(self, params: Params, window: Int[Tensor, " W"], signal: Int[Tensor, " W"]) -> Params:
        found = super().leaves(params, window, signal)
        coefficients, mix, offset = (found.pop(name) for name in ("coefficients", "mix", "offset"))
        z = coefficients.new_zeros(len(coefficients), len(self.counts), self._width())
        start = 0
        for r, count in enumerate(self.counts):
            z[:, r, :count] = coefficients[:, start : start + count]
            start += count
        weight, bias = self.template.last()
        return {**found, weight: mix @ z, bias: offset}

    def _width(self) -> int:
        return self.template._linears()[-1].in_features

    def channels(self, phi: Float[Tensor, "P F"], which: slice | Tensor, params: Params | None = None) -> Tensor:
        own = params or {}
        coefficients = own.get("coefficients", self.coefficients)[which]
        parts = coefficients.split(self.counts, -1)
        z = torch.stack([phi[:, : part.shape[1]] @ part.mT for part in parts], -1)
        return z @ own.get("mix", self.mix).mT

    def constants(self, which: slice | Tensor, params: Params | None = None) -> Float[Tensor, "*w C"]:
        return (params or {}).get("offset", self.offset)
