"""What a trained hypernetwork predicts: without a graph, refined, rendered, with its standard deviation and samples.

Symbols: M images of a set, B signals, C channels.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.last_layers import last_layer
from hypersiren.fields.render import render_image, unit
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.adapters.base import Prediction, posterior_of
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.base import Posterior
from hypersiren.hypernets.model import HyperSiren
from hypersiren.hypernets.refine import refine
from hypersiren.plotting import sheet
from hypersiren.signals.sets.images import ImageSet


@torch.no_grad()
def prediction(model: HyperSiren, context: Context) -> Prediction:
    """What the model predicts, without a graph, and with no more points than are known."""
    return model.predict(context.compact())


def predicted(model: HyperSiren, context: Context) -> BoundSiren:
    """The fields that the model predicts, without a graph."""
    return prediction(model, context).field


def refining(model: HyperSiren, steps: int) -> Callable[[Context], BoundSiren]:
    """The model's prediction, refined so many steps on what is known (see `hypersiren.hypernets.refine`)."""
    return lambda context: refine(predicted(model, context), context, steps=steps)


@torch.no_grad()
def completed(
    model: HyperSiren, images: ImageSet, mask: Bool[Tensor, "M H W"], points: int = 16384
) -> tuple[Float[Tensor, "M H W C"], Float[Tensor, "M H W C"] | None]:
    """Every image completed from its known pixels, and the standard deviation of it, where the model knows one.

    Both on the scale where images are on [0, 1], not clipped. About so many points are worked on at a time.
    """
    x = grid(images.size, device=images.pixels.device)
    values, variances = [], []
    for index in torch.arange(len(images), device=images.pixels.device).split(max(1, points // len(x))):
        found = prediction(model, Context.from_images(images.images(index), mask[index]))
        values.append(evaluate(found.field, x, chunk=max(1, points // len(index))))
        if found.posterior is not None:
            variances.append(evaluate(found.posterior.variance, x, _chunk(found.posterior)))
    means = (torch.cat(values).unflatten(1, images.size) + 1) / 2
    return means, torch.cat(variances).unflatten(1, images.size).sqrt() / 2 if variances else None


def posterior_for_samples(found: Prediction) -> Posterior:
    """The posterior of a prediction.

    Raises:
        UserError: If there is none.
    """
    return posterior_of(found, "--samples")


def numbers_per_signal(found: Prediction) -> int:
    """Numbers that the model has for each signal: those of its latent or tokens, or of a last layer that is solved."""
    if found.z is None or found.posterior is not None:
        return last_layer(found.siren, found.params)[0].numel()
    return found.z[0].numel()


def tensor_sheet(columns: Mapping[str, Num[Tensor, "M _ _ _"]]) -> np.ndarray:
    """As `hypersiren.plotting.sheet`, of tensors on any device."""
    return sheet({name: shown.float().cpu().numpy() for name, shown in columns.items()})


def render_fields(field: BoundSiren, size: tuple[int, int], extent: float = 1.0) -> Float[Tensor, "B H W C"]:
    """B fields as images on [0, 1], over [-extent, extent]^2."""
    signals = next(iter(field.params.values())).shape[0]
    device = next(field.siren.parameters()).device
    return unit(render_image(field, size, -extent, extent, device=device, chunk=max(1, 131072 // signals)))


@torch.no_grad()
def render_deviation(posterior: Posterior, size: tuple[int, int], extent: float = 1.0) -> Float[Tensor, "B H W 1"]:
    """The standard deviation of B fields as images on [0, 1] have it, its mean square over channels."""
    x = grid(size, -extent, extent, device=posterior.mask.device)
    variance = evaluate(posterior.variance, x, _chunk(posterior))
    return variance.mean(-1, keepdim=True).sqrt().unflatten(1, size) / 2


@torch.no_grad()
def render_samples(
    posterior: Posterior, count: int, size: tuple[int, int], extent: float = 1.0, seed: int = 0
) -> Float[Tensor, "B K H W C"]:
    """So many samples of each of B fields, as images on [0, 1]."""
    generator = torch.Generator(posterior.mask.device).manual_seed(seed)
    field = posterior.siren.bind(posterior.sample(count, generator))
    return render_fields(field, size, extent).unflatten(0, (-1, count))


def _chunk(posterior: Posterior) -> int:
    """Points at which variances are asked for at once: a matrix of these times the known points is 64 MB."""
    signals, known = posterior.mask.shape
    return max(1, 2**24 // (signals * (known + posterior.rank)))
