"""What predicts a shape from points without learning: planes, an ellipsoid; and the mean of all shapes."""

import torch
from torch import Tensor

from hypersiren.completion.shapes.judging import PosedShape
from hypersiren.fields.operators import Field
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren


def planes(context: Context) -> Field:
    """The signed distance to the plane of the nearest context point, of one shape.

    Example:
        >>> one = Context(torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 1.0]]]), torch.ones(1, 1, dtype=torch.bool))
        >>> planes(one)(torch.tensor([[5.0, 5.0, -2.0]])).tolist()
        [[-2.0]]
    """
    points, normals = (values[0][context.mask[0]] for values in (context.x, context.y))

    def field(x: Tensor) -> Tensor:
        nearest = torch.cdist(x.detach(), points).argmin(-1)
        return ((x - points[nearest]) * normals[nearest]).sum(-1, keepdim=True)

    return field


def ellipsoid(context: Context) -> Field:
    """The ellipsoid whose surface spreads as the context points of one shape do; the values are no distances."""
    points = context.x[0][context.mask[0]]
    centre = points.mean(0)
    variances, axes = torch.linalg.eigh((points - centre).mT @ (points - centre) / len(points))
    half = (3 * variances.clamp(min=1e-6)).sqrt()
    return lambda x: half.min() * ((((x - centre) @ axes) / half).norm(dim=-1, keepdim=True) - 1)


@torch.no_grad()
def mean_field(model: HyperSiren, shapes: list[PosedShape]) -> Field:
    """The field of the mean latent that the encoder gives of some shapes."""
    assert model.encoder is not None
    z = torch.cat([model.encoder(shape.context) for shape in shapes]).mean(0, keepdim=True)
    return model.siren.bind(model.decode(z)).signal(0)
