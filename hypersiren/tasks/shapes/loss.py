"""The loss of a signed distance function (paper, section 4.2), for one field or a batch of them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hypersiren.fields.operators import Field, value_and_gradient
from hypersiren.fields.shown import by_shape
from hypersiren.tasks.shapes.settings import SDFTerms


@dataclass(frozen=True)
class ShapeBatch:
    """Points of one step.

    Attributes:
        on, normals: Points on the surface and the unit normals there.
        off: Points anywhere in the box.
        near: Points near the surface.
        side: For `off` and then `near`, the cosine c whose sign is that of the distance; None if it is not asked for.
        colours: Of the points on the surface, red, green and blue in [-1, 1]; None if they are not asked for.
    """

    on: Float[Tensor, "*batch N 3"]
    normals: Float[Tensor, "*batch N 3"]
    off: Float[Tensor, "*batch M 3"]
    near: Float[Tensor, "*batch K 3"]
    side: Float[Tensor, "*batch J"] | None
    colours: Float[Tensor, "*batch N 3"] | None = None

    __repr__ = by_shape


def sdf_loss(
    field: Field,
    batch: ShapeBatch,
    weights: SDFTerms = SDFTerms(),  # noqa: B008 - frozen
) -> dict[str, Tensor]:
    """The paper's four terms with these weights, and that of the side if the batch tells it, means over all signals.

    Example:
        >>> batch = ShapeBatch(torch.eye(3), torch.eye(3), torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([1.0, -1]))
        >>> terms = sdf_loss(lambda x: x.norm(dim=-1, keepdim=True) - 1, batch)
        >>> terms["on"].item(), terms["normal"].item(), terms["side"].item()
        (0.0, 0.0, 0.0)
    """
    parts = [batch.on, batch.off, batch.near]
    value, gradient = value_and_gradient(field, torch.cat(parts, dim=-2))
    s, slope = value[..., 0], gradient[..., 0, :]
    at, away, around = s.split([part.shape[-2] for part in parts], dim=-1)
    terms = {
        "on": weights.on * at.abs().mean(),
        "off": weights.off * torch.exp(-100 * away.abs()).mean(),
        "normal": weights.normal * (1 - cosine_similarity(slope[..., : at.shape[-1], :], batch.normals, dim=-1)).mean(),
        "eikonal": weights.eikonal * (slope.norm(dim=-1) - 1).abs().mean(),
    }
    if batch.side is not None:
        terms["side"] = weights.side * torch.relu(-batch.side * torch.cat([away, around], dim=-1)).mean()
    return terms
