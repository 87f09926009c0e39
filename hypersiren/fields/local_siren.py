"""LocalSiren: a SIREN whose phases are shifted by tokens with a place: the parts of a signal have numbers of their own.

T tokens of Z numbers stand at anchors a_t, the cell centres of a regular grid over [-1, 1]^D. At x they are mixed to

    u(x) = sum_t w_t(x) tokens_t,     w = softmax over t of -sum_d (x_d - a_td)^2 / 2 r_d^2,

and the sine layer l is sin(omega_l (W_l h + b_l + V_l u(x))), its shift linear in the tokens. All anchors count: those
far away have no weight to speak of, and u is smooth everywhere (weights of the k nearest, or bilinear ones, would have
kinks). With one token this is a SIREN whose shifts are linear in a latent (Dupont et al. 2022, Functa). Derivatives are
in closed form: with e = (a - sum_t w_t a_t) / r^2,

    d_d w_t = w_t e_td,     d_de w_t = w_t (e_td e_te - sum_s w_s e_sd e_se).

Symbols: B signals, N points, D coordinate dimensions, C channels, H hidden features, T tokens, Z token features, K
directions.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.jets import Jet, Second, Shift, check_second, forward_jet, products
from hypersiren.fields.layers import linear
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params, Siren


@savable
class LocalSiren(Siren):
    """A Siren with two more parameters: `tokens` (T, Z), zero at first, and `shift`, the V of all sine layers, one
    below the other: (sum of all H, Z).

    A hypernetwork predicts `tokens` (B, T, Z), see `TokenHypernet`; all other weights are shared and trained.

    Args:
        in_features, out_features, hidden_features, hidden_layers, first_omega, hidden_omega: As in `Siren`.
        token_size: Tokens along each of the D axes.
        token_features: Z.
        radius: r as a share of the distance between anchors along each axis.
        generator: As in `Siren`.

    Example:
        >>> siren = LocalSiren(2, 3, 16, token_size=(4, 4), token_features=8)
        >>> siren
        LocalSiren(2 -> 16 x 4 -> 3, omega 30/30, 4 x 4 tokens of 8)
        >>> x = torch.rand(10, 2)
        >>> siren(x, {"tokens": torch.randn(5, 16, 8)}).shape
        torch.Size([5, 10, 3])
        >>> siren.jet(x, second="laplacian").laplacian.shape
        torch.Size([10, 3])
    """

    anchors: Tensor
    radii: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int | Sequence[int] = 256,
        hidden_layers: int = 3,
        first_omega: float = 30.0,
        hidden_omega: float = 30.0,
        *,
        token_size: Sequence[int],
        token_features: int = 32,
        radius: float = 0.5,
        generator: torch.Generator | None = None,
    ):
        if len(token_size) != in_features:
            raise UserError(f"expected tokens along each of {in_features} axes, got token_size {tuple(token_size)}")
        super().__init__(
            in_features, out_features, hidden_features, hidden_layers, first_omega, hidden_omega, generator=generator
        )
        self.token_size = tuple(token_size)
        self.tokens = nn.Parameter(torch.zeros(math.prod(token_size), token_features))
        self.shift = nn.Parameter(torch.empty(sum(self._widths()), token_features))
        self.register_buffer("anchors", grid(token_size), persistent=False)
        self.register_buffer("radii", torch.tensor([2 * radius / n for n in token_size]), persistent=False)
        self._reset_shift(generator)

    def _size(self) -> str:
        return f"{super()._size()}, {' x '.join(map(str, self.token_size))} tokens of {self.tokens.shape[1]}"

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new initial weights, and set the tokens to zero."""
        super().reset_parameters(generator)
        if "tokens" in self._parameters:  # the constructor of Siren calls this before there are any
            nn.init.zeros_(self.tokens)
            self._reset_shift(generator)

    @torch.no_grad()
    def _reset_shift(self, generator: torch.Generator | None) -> None:
        # Tokens of variance 1 then shift phases with variance 1.
        for rows, omega in zip(self.shift.split(self._widths()), self._omegas(), strict=True):
            rows.uniform_(-1, 1, generator=generator).mul_(math.sqrt(3 / rows.shape[1]) / omega)

    def features(self, x: Float[Tensor, "*batch N D"], params: Params | None = None) -> Float[Tensor, "*out N F"]:
        """What the linear last layer sees; see `Siren.features`."""
        self._check(x)
        sines = self._weights(params)[:-1]
        tokens, shift = self._local(params)
        u = self.token_weights(x) @ tokens
        for (weight, bias), v, omega in zip(sines, shift.split(self._widths(), -2), self._omegas(), strict=True):
            x = torch.sin(linear(x, weight, bias, omega) + omega * (u @ v.mT))
        return x

    def jet(
        self,
        x: Float[Tensor, "*batch N D"],
        params: Params | None = None,
        *,
        first: bool = True,
        second: Second | None = None,
    ) -> Jet:
        """Values at x with their derivatives, exact and in closed form; see `Siren.jet`."""
        check_second(second)
        self._check(x)
        shifts = self._shifts(x, params, first, second)
        return forward_jet(x, self.scaled_weights(params), first=first, second=second, shifts=shifts)

    def token_weights(self, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*batch N T"]:
        """w: how much each token counts at x.

        Example:
            >>> LocalSiren(1, 1, 8, token_size=(2,)).token_weights(torch.tensor([[-1.0], [0.0]])).round(decimals=2)
            tensor([[0.9800, 0.0200],
                    [0.5000, 0.5000]])
        """
        offset = x.mT.unsqueeze(-1) - self.anchors.mT.unsqueeze(-2)
        return torch.softmax(-0.5 * (offset / self.radii[:, None, None]).square().sum(-3), dim=-1)

    def _shifts(self, x: Tensor, params: Params | None, first: bool, second: Second | None) -> list[Shift]:
        """omega V u with its derivatives, for each sine layer."""
        tokens, shift = self._local(params)
        w = self.token_weights(x)
        u, du, d2u = w @ tokens, None, None
        if first or second:
            centre = (w @ self.anchors).mT.unsqueeze(-1)
            e = (self.anchors.mT.unsqueeze(-2) - centre) / self.radii[:, None, None].square()  # (..., D, N, T)
            w, tokens = w.unsqueeze(-3), tokens.unsqueeze(-3)
            du = (w * e) @ tokens
            if second:
                squares = products(e, second)
                d2u = (w * (squares - (w * squares).sum(-1, keepdim=True))) @ tokens
        shifts = []
        for v, omega in zip(shift.split(self._widths(), -2), self._omegas(), strict=True):
            v = omega * v.mT
            directions = v.unsqueeze(-3)
            shifts.append((u @ v, None if du is None else du @ directions, None if d2u is None else d2u @ directions))
        return shifts

    def _local(self, params: Params | None) -> tuple[Tensor, Tensor]:
        params = params or {}
        return params.get("tokens", self.tokens), params.get("shift", self.shift)

    def _widths(self) -> list[int]:
        return [layer.out_features for layer in self._linears()[:-1]]
