"""What a trained hypernetwork predicts: without a graph, refined, rendered, with its standard deviation and samples.

Symbols: M signals of a set, B signals, P points, C channels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from hypersiren.completion.base import Case, CaseTask
from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.render import render_image, unit
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.adapters.base import Prediction, posterior_of
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.base import Posterior
from hypersiren.hypernets.model import HyperSiren
from hypersiren.hypernets.refine import refine
from hypersiren.plotting import sheet


@torch.no_grad()
def prediction(model: HyperSiren, context: Context) -> Prediction:
    """What the model predicts, without a graph, from the known points alone."""
    return model.predict(context.compact())


def predicted(model: HyperSiren, context: Context) -> BoundSiren:
    """The fields that the model predicts, without a graph."""
    return prediction(model, context).field


def refining(model: HyperSiren, steps: int) -> Callable[[Context], BoundSiren]:
    """The model's prediction, refined on the context by `steps` updates (see `hypersiren.hypernets.refine`)."""
    return lambda context: refine(predicted(model, context), context, steps=steps)


@torch.no_grad()
def completion(
    model: HyperSiren, case: Case, points: int = 131072, *, deviation: bool = False
) -> tuple[Float[Tensor, "B P C"], Float[Tensor, "B P C"] | None]:
    """The completed signals of a case and, if wanted, their standard deviation, where the model has a posterior."""
    found = prediction(model, case.context)
    values = case.complete(found.field, points)
    if found.posterior is None or not deviation:
        return values, None
    variance = evaluate(found.posterior.variance, case.x, _chunk(found.posterior))
    return values, variance.sqrt() * case.scale


@torch.no_grad()
def completed(
    model: HyperSiren, task: CaseTask, signals: Any, mask: Bool[Tensor, "M *size"]
) -> tuple[Float[Tensor, "M P C"], Float[Tensor, "M P C"] | None]:
    """All signals of a set, completed from their known points, and their standard deviation; see `completion`."""
    parts = [completion(model, case, task.points, deviation=True) for case in task.split(signals, mask)]
    values, deviations = zip(*parts, strict=True)
    return torch.cat(values), None if deviations[0] is None else torch.cat(deviations)


@torch.no_grad()
def predict_whole(task: CaseTask, model: HyperSiren) -> Prediction:
    """What the model predicts for a test signal whose points are all known."""
    one = task.test.at(torch.arange(1))
    return prediction(model, task.case(one, task.mask(one, task.whole)).context)


def posterior_for_samples(found: Prediction) -> Posterior:
    """The posterior of a prediction.

    Raises:
        UserError: If there is none.
    """
    return posterior_of(found, "--samples")


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
    """`count` samples of each of B fields, as images on [0, 1]."""
    generator = torch.Generator(posterior.mask.device).manual_seed(seed)
    field = posterior.siren.bind(posterior.sample(count, generator))
    return render_fields(field, size, extent).unflatten(0, (-1, count))


def _chunk(posterior: Posterior) -> int:
    """Points at which variances are asked for at once: a matrix of these times the known points is 64 MB."""
    signals, known = posterior.mask.shape
    return max(1, 2**24 // (signals * (known + posterior.rank)))
