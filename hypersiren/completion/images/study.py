"""Evaluation of image completion, its figures, and completion of a user's pictures (paper, section 4.4)."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.completion.complete import Output
from hypersiren.completion.images.photos import (
    complete_photo,
    photo_deviation,
    photo_pair,
    photo_panel,
    read_photo,
    sample_photo,
    scaled_deviation,
)
from hypersiren.completion.images.pictures import enlarged, known_pixels
from hypersiren.completion.images.task import Completion, available_contexts, context_masks
from hypersiren.completion.prediction import (
    posterior_for_samples,
    predict_whole,
    predicted,
    prediction,
    render_deviation,
    render_fields,
    render_samples,
    tensor_sheet,
)
from hypersiren.completion.table import OURS, PRIOR, Table, completion_table, decibel
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.siren import BoundSiren, Params, Siren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.hypernets.refine import refine
from hypersiren.plotting import figure_pixels, image_grid, sheet
from hypersiren.signals.image.files import write_image
from hypersiren.signals.metrics import image_mse
from hypersiren.signals.sets.images import ImageSet

LOG = logging.getLogger(__name__)


def completion_picture(model: HyperSiren, test: ImageSet, *, rows: int = 6, zoom: int = 4) -> np.ndarray:
    """Contexts and completions of some test images, the completions evaluated at `zoom` times the resolution.

    Where the model knows its standard deviation, that too: black is 0, and the title says what white is.
    """
    images = test.spread(rows)
    size = (zoom * images.size[0], zoom * images.size[1])
    columns = {}
    for name, mask in context_masks(images, available_contexts(images.size)).items():
        columns[f"{name} pixels" if name.isdigit() else name] = known_pixels(images.unit, mask, size)
        found = prediction(model, Context.from_rasters(_values(images), mask))
        columns[f"completed from {name}"] = render_fields(found.field, size)
        if found.posterior is not None:
            white, shown = scaled_deviation(render_deviation(found.posterior, size))
            columns[f"deviation from {name}\n({white})"] = shown
    columns["truth"] = enlarged(images.unit, size)
    return tensor_sheet(columns)


def samples_picture(
    model: HyperSiren, test: ImageSet, *, count: int = 4, rows: int = 3, zoom: int = 4, seed: int = 0
) -> np.ndarray | None:
    """Samples of some test images, from 10 and from 100 pixels, beside context, mean and truth.

    None where the images have no more than 10 pixels.

    Raises:
        UserError: If the model knows no posterior.
    """
    images = test.spread(rows)
    size = (zoom * images.size[0], zoom * images.size[1])
    names = [name for name in available_contexts(images.size) if name in ("10", "100")]
    cells: list[Sequence[np.ndarray]] = []
    titles: list[str] = []
    for name, mask in context_masks(images, names).items():
        found = prediction(model, Context.from_rasters(_values(images), mask))
        samples = render_samples(posterior_for_samples(found), count, size, seed=seed)
        mean, known = render_fields(found.field, size), known_pixels(images.unit, mask, size)
        columns = [known, *samples.unbind(1), mean, enlarged(images.unit, size)]
        cells += zip(*[shown.float().cpu().numpy() for shown in columns], strict=True)
        titles += [f"from {name}"] * len(images)
    names = ["context", *[f"sample {i + 1}" for i in range(count)], "mean", "truth"]
    return figure_pixels(image_grid(cells, titles, names)) if cells else None


@torch.no_grad()
def latent_line(model: HyperSiren, ends: Context, steps: int) -> BoundSiren:
    """`steps` fields along the way between two signals: a straight line in latent space.

    What an adapter has changed at the ends is faded from one to the other. Without an encoder this is all there is: the
    weights are faded.
    """
    found = model.predict(ends)
    like = next(iter(found.params.values()))
    t = torch.linspace(0, 1, steps, device=like.device, dtype=like.dtype)

    def between(both: Tensor) -> Tensor:
        return torch.lerp(both[:1], both[1:], t.view(-1, *[1] * (both.ndim - 1)).to(both.dtype))

    at_ends: Params = {} if found.z is None else model.decode(found.z)
    along: Params = {} if found.z is None else model.decode(between(found.z))
    shapes = model.siren.shapes
    for name, both in found.params.items():
        if both.ndim == len(shapes[name]):  # the same for all signals
            along[name] = both
        elif name not in along:
            along[name] = between(both)
        elif model.adapter is not None:
            along[name] = along[name] + between(both - at_ends[name])
    return model.siren.bind(along)


@torch.no_grad()
def line_title(model: HyperSiren, ends: Context) -> str:
    """What must be said of a way between two signals: nothing, unless its values are mere mixtures of both ends'."""
    if model.encoder is None:
        return "cross-fade of weights"
    first, middle, last = latent_line(model, ends, 3)(grid((16, 16), device=ends.x.device, dtype=ends.x.dtype))
    off, apart = (middle - (first + last) / 2).abs().max(), (last - first).abs().max()
    return "cross-fade (linear in z)" if off <= 1e-3 * apart else ""


def interpolation_picture(model: HyperSiren, pairs: Sequence[Context], size: tuple[int, int], steps: int) -> np.ndarray:
    """A row for each pair of signals: the fields from the first to the second (section 4.4); see `line_title`."""
    rows = torch.stack([render_fields(latent_line(model, pair, steps), size) for pair in pairs]).float().cpu().numpy()
    columns = {f"{i / (steps - 1):.2f}": rows[:, i] for i in range(steps)}
    return sheet(columns, title=line_title(model, pairs[0]))


def outside_picture(model: HyperSiren, images: ImageSet, *, extent: float = 5.0, pixels: int = 320) -> np.ndarray:
    """Fields far outside the range that they were trained on, [-extent, extent]^2 (section 4.4)."""
    field = predicted(model, whole(images))
    inside, beyond = render_fields(field, (pixels, pixels)), render_fields(field, (pixels, pixels), extent)
    columns = {"[-1, 1]": inside, f"[-{extent:g}, {extent:g}]": beyond}
    return tensor_sheet(columns)


def whole(images: ImageSet) -> Context:
    """All pixels of all images of a set."""
    values = _values(images)
    return Context.from_rasters(values, torch.ones_like(values[..., 0], dtype=torch.bool))


def _values(images: ImageSet) -> Float[Tensor, "M H W C"]:
    return images.images(torch.arange(len(images), device=images.pixels.device))


OPTIONS = ("context", "mask", "interpolate", "extent", "samples", "refine")
"""Options of the command that images have a meaning for."""


def table(run: SetRun, task: Completion, before: HyperSiren | None, *, most: int, refine: int) -> Table:
    """The completion table of the paper, with a row for the prior where the run has one."""
    models = {OURS: run.model} | ({} if before is None else {PRIOR: before})
    return completion_table(task, models, most=most, refine_steps=refine)


def metrics(table: Table) -> dict[str, Any]:
    """The numbers of a table, and the peak signal to noise ratios of its mean errors."""
    ratios = [
        {method: {name: decibel(error) for name, error in row.items() if error} for method, row in rows.items()}
        for rows in (table.rows, table.unknown)  # no error is a ratio that JSON does not know
    ]
    return {
        "mse": table.rows,
        "unknown": table.unknown,
        "psnr": ratios[0],
        "psnr_unknown": ratios[1],
        "coverage": table.coverage,
        "log_likelihood": table.likelihood,
        "changes": table.blocks[0].changes,
        "images": table.signals,
        "baseline_images": table.few,
        "numbers": table.numbers,
    }


def draw(run: SetRun, task: Completion, folder: Path, samples: int | None) -> None:
    """Completions, samples, ways between two images, and fields beyond the images."""
    model, test = run.model, task.test
    if predict_whole(task, model).posterior is not None:
        picture = samples_picture(model, test, count=4 if samples is None else samples)
        if picture is not None:
            write_image(folder / "samples.png", picture)
    LOG.debug("drawing completion.png")
    write_image(folder / "completion.png", completion_picture(model, test))
    ends = test.spread(8).pixels
    if pairs := [whole(ImageSet(ends[i : i + 2], test.name)) for i in range(0, len(ends) - 1, 2)]:
        h, w = test.size
        LOG.debug("drawing interpolation.png")
        write_image(folder / "interpolation.png", interpolation_picture(model, pairs, (3 * h, 3 * w), 8))
    LOG.debug("drawing outside.png")
    write_image(folder / "outside.png", outside_picture(model, ImageSet(ends[:2], test.name)))


def complete(
    run: SetRun,
    files: Sequence[Path],
    *,
    size: int,
    seed: int,
    refine: int,
    context: int | float | None = None,
    mask: Path | None = None,
    interpolate: int | None = None,
    extent: float = 1.0,
    samples: int | None = None,
) -> Iterator[tuple[str, list[Output]]]:
    """Complete a user's pictures, or draw the way from one to another; see `Study.complete`."""
    model, raw = run.model, run.settings.data.size
    h, w = (raw, raw) if isinstance(raw, int) else raw
    context = max(1, round(context * h * w)) if isinstance(context, float) else context
    if context is not None and context > h * w:
        raise UserError(f"expected --context of at most {h * w}, the pixels of the model, got {context}")
    if interpolate is not None and (len(files) != 2 or interpolate < 2):
        raise UserError(f"--interpolate needs two pictures and at least 2 steps, got {len(files)} and {interpolate}")
    if samples is not None and (refine or interpolate is not None):
        raise UserError("--samples goes with neither --refine nor --interpolate: samples are of the prediction itself")
    device = next(model.parameters()).device
    number = 100 if context is None and mask is None and interpolate is None else context
    photos = [
        read_photo(path, (h, w), model.siren.out_features, context=number, mask=mask, seed=seed, device=device)
        for path in files
    ]
    shape = (size, max(1, round(size * w / h)))
    if interpolate is not None:
        drawn = interpolation_picture(model, [photo_pair(photos[0], photos[1])], shape, interpolate)
        yield files[0].stem, [Output(f"to_{files[1].stem}.png", partial(write_image, pixels=drawn))]
        return
    if samples is not None:
        posterior_for_samples(prediction(model, photos[0].context))
    for path, photo in zip(files, photos, strict=True):
        LOG.debug("completing %s", path)
        picture = complete_photo(model, photo, shape, extent, refine)
        deviation = None if refine else photo_deviation(model, photo, shape, extent)
        panel = photo_panel(photo, picture, deviation)
        outputs = [Output("completed.png", partial(write_image, pixels=picture.cpu().numpy()))]
        if samples is not None:
            drawn = sample_photo(model, photo, samples, shape, extent, seed)
            outputs.append(Output("samples.png", partial(write_image, pixels=drawn)))
        yield path.stem, [*outputs, Output("panel.png", partial(write_image, pixels=panel))]


FRESH_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
"""Learning rates that a fresh fit may choose from."""


def warm_start(model: HyperSiren, images: ImageSet, context: str, steps: int) -> dict[str, float]:
    """Errors of predicted fields, of these refined for a tenth of `steps`, and of fields fitted from scratch.

    The fresh fits start from the SIREN's initial weights and have the same loss; theirs is the best of several learning
    rates, chosen on these very images.

    Args:
        model: A trained model.
        images: What is completed.
        context: What is known of them, see `context_masks`.
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
