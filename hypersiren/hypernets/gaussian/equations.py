"""What is known of signals as equations that are linear in the last layer of a SIREN.

Which they are, the kind of observation says, see `hypersiren.hypernets.gaussian.observations`: one for each known
value, 1 + D for each point of a surface.

Symbols: B signals, S linear systems (B, or 1 where all are known at the same points), N equations, P points of a
raster, C channels, D coordinate dimensions, F features, G = F + 1, R columns.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.fields.coords import grid
from hypersiren.fields.last_layers import without_last_layer
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.linear_algebra import append_bias, shared_product


@dataclass(frozen=True)
class Known:
    """What is known of B signals.

    Attributes:
        features: (P, G) of a whole raster, or (S, N, G), a row for each equation.
        cells: Which of the raster's rows are known; None where features are those of the equations.
        mask: Which of the N equations there are.
        residual: Their right-hand sides less what the mean says, 0 where there is no equation.
    """

    features: Float[Tensor, "*b P G"]
    cells: Int[Tensor, "S N"] | None
    mask: Bool[Tensor, "S N"]
    residual: Float[Tensor, "B N C"]

    __repr__ = by_shape

    @cached_property
    def rows_or_zero(self) -> Int[Tensor, "S N"]:
        """Of equations on a raster their rows, and where there is none, that below the last."""
        assert self.cells is not None
        return torch.where(self.mask, self.cells, len(self.features))

    @cached_property
    def places(self) -> Int[Tensor, " X"]:
        """Where the kernel of all pairs of equations stands in that of all rows and one more, both flat."""
        rows = self.rows_or_zero
        return (rows.unsqueeze(-1) * (len(self.features) + 1) + rows.unsqueeze(-2)).flatten()

    def rows(self, points: Float[Tensor, "*b P R"]) -> Float[Tensor, "S N R"]:
        """Of values at the features' points those of the equations, 0 where there is none."""
        return (points if self.cells is None else points[self.cells]) * self.mask.unsqueeze(-1)

    def values(self, theta: Float[Tensor, "B G X"]) -> Float[Tensor, "B N X"]:
        """What the equations say of last layers, 0 where there is none."""
        mask = self.mask.unsqueeze(-1)
        if self.cells is None:
            return self.features @ theta * mask
        cells = self.cells.unsqueeze(-1).expand(len(theta), -1, theta.shape[-1])
        return shared_product(self.features, theta).gather(1, cells) * mask


def equations(
    siren: Siren,
    params: Params,
    theta: Float[Tensor, "*b G C"],
    context: Context,
    length: float = 1.0,
    one_system: bool = False,
) -> Known:
    """The equations of a context, in the precision of theta.

    Args:
        siren: The hypo-SIREN.
        params: What is predicted of its weights; the last layer among them is not looked at.
        theta: The mean of the last layer.
        context: What is known of each signal.
        length: How much an error of a derivative counts beside one of a value, see the kind of observation.
        one_system: Whether signals that are known at the same points share the rows of their features: S is 1.

    Raises:
        ValueError: If a context does not fit its kind of observation.

    Example:
        >>> siren = Siren(3, 1, hidden_features=(8, 16))
        >>> normals = torch.tensor([[[0.0, 0.0, 1.0]]])
        >>> context = Context(torch.zeros(1, 1, 3), normals, torch.ones(1, 1, dtype=torch.bool), surface=True)
        >>> equations(siren, {}, torch.zeros(17, 1), context, length=0.1).residual.flatten().tolist()
        [0.0, 0.0, 0.0, 0.10000000149011612]
    """
    hidden = without_last_layer(siren, params)
    shared = context.shared_points and not hidden
    systems = slice(0, 1) if one_system and shared else slice(None)
    signals, mask, every = len(context.mask), context.mask[systems], context.mask
    y = torch.where(every.unsqueeze(-1), context.y, 0).to(theta.dtype)
    if context.cells is not None and context.size is not None and not hidden and context.kind.on_raster:
        # One set of features for the whole batch: the raster's.
        features = append_bias(siren.features(_raster(context.size, context.x.device, context.y.dtype)))
        features, cells = features.to(theta.dtype), torch.where(mask, context.cells[systems], 0)
        mean = (features @ theta).expand(signals, -1, -1)
        mean = mean.gather(1, cells.unsqueeze(-1).expand(signals, -1, mean.shape[-1]))
        return Known(features, cells, mask, torch.where(every.unsqueeze(-1), y - mean, 0))
    x = torch.where(mask.unsqueeze(-1), context.x[systems], 0)
    features, y = context.kind.equations(siren, hidden, x, y, length)
    each = features.shape[-2] // max(1, x.shape[-2])
    mask, every = mask.repeat(1, each), every.repeat(1, each)
    features = features.to(theta.dtype)
    return Known(features, None, mask, torch.where(every.unsqueeze(-1), y - features @ theta, 0))


@lru_cache(maxsize=4)
def _raster(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Float[Tensor, "P D"]:
    """The cells of a raster, the same in every step of a training; not to be written to."""
    with torch.inference_mode(False):  # a training may want them that were first asked for in inference
        return grid(size, device=device, dtype=dtype)
