"""Speed, as ratios within one run: the loop's shares of time, and what a predicted initialisation saves."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from hypersiren.completion.images.task import Completion, context_masks
from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.prediction import predicted
from hypersiren.fields.siren import BoundSiren, Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.hypernets.refine import refine
from hypersiren.signals.metrics import image_mse
from hypersiren.signals.sets.images import ImageSet
from hypersiren.tasks.settings import Optimisation
from hypersiren.training.loop import optimise
from hypersiren.training.step import DATA, LOGGING, UPDATE


def loop_shares(objective: HypernetObjective, training: Optimisation) -> dict[str, float]:
    """How the training loop spends its time, by the profiler: shares of data, update and logging.

    Validation and checkpoints are left out. The profiler's own cost falls heaviest on the many small operations of the
    data, so that its share is an upper bound. On a GPU these are the shares of the process that feeds it.

    Args:
        objective: What is trained.
        training: Steps, optimiser and so on.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile,
    ):
        optimise(objective, Path(folder), {"settings": {}, "model": {}}, training)
    spent = {event.key: event.cpu_time_total for event in profile.key_averages()}
    total = sum(spent[label] for label in (DATA, UPDATE, LOGGING))
    return {label.removeprefix("hypersiren/"): spent[label] / total for label in (DATA, UPDATE, LOGGING)}


FRESH_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that a fresh fit may choose from."""


def warm_start(model: HyperSiren, images: ImageSet, context: str, steps: int) -> dict[str, float]:
    """Errors of predicted fields, of these refined for a tenth of `steps`, and of fields fitted from scratch.

    The fresh fits start from the SIREN's initial weights and have the same loss; theirs is the best of several learning
    rates, chosen on these very images.

    Args:
        model: A trained model.
        images: What is completed.
        context: What is known of them, see `hypersiren.completion.images.task.context_masks`.
        steps: Of the fresh fits.

    Returns:
        Mean squared errors on [0, 1] by what was done.
    """
    task, mask = Completion(images, images), context_masks(images, [context])[context]
    fresh = Siren(2, images.channels, model.siren.shapes["layers.0.weight"][0], len(model.siren.layers) - 2,
                  model.siren.first_omega, model.siren.hidden_omega).to(images.pixels.device)  # fmt: skip
    few = max(1, steps // 10)

    def error(predict: Callable[[Context], BoundSiren]) -> float:
        return image_mse(task.complete(predict, images, mask), images.unit.flatten(1, 2)).mean().item()

    found = {
        "predicted": error(lambda known: predicted(model, known)),
        f"predicted, then {few} steps": error(lambda known: refine(predicted(model, known), known, steps=few)),
    }
    rates = {lr: error(partial(refine, fresh.bind({}), steps=steps, lr=lr)) for lr in FRESH_RATES}
    best = min(rates, key=rates.__getitem__)
    return {**found, f"fresh, {steps} steps (lr {best:g})": rates[best]}
