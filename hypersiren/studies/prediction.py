"""Fields that a trained hypernetwork predicts: without a graph, refined, rendered."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.render import render_image, unit
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.hypernets.refine import refine


@torch.no_grad()
def predicted(model: HyperSiren, context: Context) -> BoundSiren:
    """The fields that the model predicts, without a graph."""
    return model.field(context)


def refining(model: HyperSiren, steps: int) -> Callable[[Context], BoundSiren]:
    """The model's prediction, refined so many steps on what is known (see `hypersiren.hypernets.refine`)."""
    return lambda context: refine(predicted(model, context), context, steps=steps)


def render_fields(field: BoundSiren, size: tuple[int, int], extent: float = 1.0) -> Float[Tensor, "B H W C"]:
    """B fields as images on [0, 1], over [-extent, extent]^2."""
    signals = next(iter(field.params.values())).shape[0]
    device = next(field.siren.parameters()).device
    return unit(render_image(field, size, -extent, extent, device=device, chunk=max(1, 131072 // signals)))
