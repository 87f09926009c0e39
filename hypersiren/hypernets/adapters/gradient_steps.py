"""Encoding by gradient: a latent is what a few steps of gradient descent make of it (CAVIA, Functa, COIN++).

From z = 0, or from what an encoder gives, each step is

    z <- z - s * d/dz mean over known points and channels of (y - f(x; decode(z)))^2,

or of what the context's kind of observation says instead (a surface's points have the value 0 and their normals),

with a learned step size s for each entry of z. Training goes through the steps (second order), so that hypernetwork and
SIREN learn weights from which few steps go far. It needs no raster and takes any signal; with many steps it is
auto-decoding (Park et al. 2019, DeepSDF).

Symbols: B signals, N points, T tokens, Z latent features.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.operators import Field
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.adapters.base import Decode, Prediction
from hypersiren.hypernets.context import Context


@savable
class GradientSteps(nn.Module):
    """Fits the latent of each signal to its known points, by a few steps of gradient descent.

    Shifts that are linear in the latent did best in the literature: `TokenHypernet` and a `LocalSiren`, which with one
    token is the modulated SIREN of Functa.

    Args:
        latent_features: Z.
        steps: How many; it may be changed after training.
        tokens: T, for a latent (B, T, Z) of tokens; None for one latent (B, Z).
        step_size: Of every entry, at first; 10 is stable for an untrained `LocalSiren`. Tokens share the Z step sizes.

    Example:
        >>> from hypersiren import HyperSiren, LocalSiren, TokenHypernet
        >>> siren = LocalSiren(2, 3, 16, token_size=(1, 1), token_features=8)
        >>> model = HyperSiren(None, TokenHypernet(siren.shapes), siren, GradientSteps(8, tokens=1))
        >>> context = Context.from_images(torch.rand(4, 8, 8, 3), torch.rand(4, 8, 8) < 0.5)
        >>> model.predict(context).z.shape
        torch.Size([4, 1, 8])
    """

    def __init__(self, latent_features: int, steps: int = 3, tokens: int | None = None, step_size: float = 10.0):
        super().__init__()
        self.latent_features, self.tokens, self.steps = latent_features, tokens, steps
        self.log_step_size = nn.Parameter(torch.full((latent_features,), math.log(step_size)))

    @classmethod
    def for_model(cls, siren: Siren, hypernet: nn.Module | None, **arguments: Any) -> "GradientSteps":
        """One that finds the latent which a hypernetwork takes."""
        return cls(hypernet.latent_features, tokens=getattr(hypernet, "tokens", None), **arguments)  # type: ignore[union-attr, arg-type]

    def forward(
        self, siren: Siren, z: Tensor | None, params: Params, context: Context, decode: Decode | None = None
    ) -> Prediction:
        """The prediction with its latent adapted.

        Args:
            siren: The hypo-SIREN.
            z: Where to start; None for zero.
            params: Not used: they follow from z.
            context: What is known of each signal.
            decode: From z to params.

        Raises:
            ValueError: If there is nothing that decodes.
        """
        if decode is None:
            raise ValueError("expected a hypernetwork that decodes the latent; GradientSteps has none to adapt")
        with torch.autocast(context.y.device.type, enabled=False):
            z = self._descend(siren, z, context, decode)
            return Prediction(siren, decode(z), z)

    def _descend(self, siren: Siren, z: Tensor | None, context: Context, decode: Decode) -> Tensor:
        x, dtype = torch.where(context.mask.unsqueeze(-1), context.x, 0), context.y.dtype
        size = [self.latent_features] if self.tokens is None else [self.tokens, self.latent_features]
        z = context.y.new_zeros(len(x), *size) if z is None else z.to(dtype)
        s = self.log_step_size.exp().to(dtype)
        learning = torch.is_grad_enabled()
        for _ in range(self.steps):
            with torch.enable_grad():
                if not (learning and z.requires_grad):
                    z = z.detach().requires_grad_()
                # A sum over signals: each has the gradient that it would have alone.
                error = masked_error(siren.bind(decode(z)), replace(context, x=x)).sum()
                (gradient,) = torch.autograd.grad(error, z, create_graph=learning)
            z = z - s * gradient
        return z


def masked_error(field: Field, context: Context) -> Float[Tensor, " B"]:
    """The mean squared error of a field over the known points of each signal; 0 if there is none.

    Example:
        >>> context = Context.from_images(torch.ones(1, 1, 2, 1), torch.tensor([[[True, False]]]))
        >>> masked_error(lambda x: torch.full((1, 2, 1), 3.0), context).item()
        4.0
    """
    known = context.mask.unsqueeze(-1)
    residual = context.kind.residual(field, context.x, torch.where(known, context.y, 0))
    squares = torch.where(known, residual, 0).square()
    return squares.mean(-1).sum(-1) / context.mask.sum(-1).clamp(min=1)
