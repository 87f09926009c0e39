"""Using a trained hypernetwork: the completion table of the paper, its figures, and a person's own pictures.

Errors are mean squared errors on [0, 1] after clipping, over all pixels, averaged over images (section 4.4).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.siren import BoundSiren
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.plotting import sheet
from hypersiren.signals.image.files import write_image
from hypersiren.signals.metrics import image_mse
from hypersiren.signals.sets.images import ImageSet
from hypersiren.studies.photos import complete_photo, photo_pair, photo_panel, read_photo
from hypersiren.studies.pixel_baselines import SIMPLE, GaussianConditional
from hypersiren.studies.prediction import predicted, refining, render_fields
from hypersiren.tasks.images.completion import (
    available_contexts,
    complete,
    context_masks,
    known_pixels,
    open_sets,
    skipped_files,
)
from hypersiren.training.folders import to_json, unused, write_text
from hypersiren.training.hypernet import SetRun

OURS, REFINED = "hypersiren", "refined"


@dataclass(frozen=True)
class Table:
    """Test errors by method and context.

    Attributes:
        rows: Method -> context -> mean squared error.
        images: Test images that the model's errors are the mean of.
        baseline_images: Test images (the first of them) that the baselines' errors are the mean of.
    """

    rows: dict[str, dict[str, float]]
    images: int
    baseline_images: int

    def __str__(self) -> str:
        contexts = list(next(iter(self.rows.values())))
        width = max(map(len, self.rows)) + 2
        lines = ["context".ljust(width) + "".join(name.rjust(9) for name in contexts)]
        for method, errors in self.rows.items():
            lines.append(method.ljust(width) + "".join(f"{errors[name]:9.4f}" for name in contexts))
        note = f"mean squared error on [0, 1], {self.images} test images"
        if self.baseline_images < self.images:
            note += f" (baselines: the first {self.baseline_images})"
        return "\n".join([*lines, note])


def completion_table(
    model: HyperSiren,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
    *,
    baseline_images: int = 100,
    refine_steps: int = 0,
) -> Table:
    """The model beside the baselines on the test images, for each context of the paper that fits the images.

    Args:
        model: A trained model.
        train: What the Gaussian is fitted to, mirrored images too (at most 20,000 of them).
        validation: What the Gaussian's noise is chosen on, for each context.
        test: What is completed.
        baseline_images: Baselines see so many of the first test images; they are slow.
        refine_steps: If not 0, a second row for the predicted fields refined so many steps.
    """
    # The baselines work in float64, which not every device has.
    few = ImageSet(test.pixels[:baseline_images].cpu(), test.name)
    some = ImageSet(validation.pixels[:baseline_images].cpu(), validation.name)
    fitted = ImageSet(train.pixels[:20_000].cpu(), train.name).unit
    gaussian = GaussianConditional(torch.cat([fitted, fitted.flip(2)]))
    truth, few_truth, some_truth = test.unit, few.unit, some.unit
    names = available_contexts(test.size)
    some_masks = context_masks(some, names)
    rows: dict[str, dict[str, float]] = {OURS: {}}
    for name, mask in context_masks(test, names).items():
        rows[OURS][name] = image_mse(complete(model.field, test, mask), truth).mean().item()
        if refine_steps:
            refined = complete(refining(model, refine_steps), test, mask)
            rows.setdefault(REFINED, {})[name] = image_mse(refined, truth).mean().item()
        noise = gaussian.choose_noise(some_truth, some_masks[name])
        mask = mask[: len(few)].cpu()
        found = {"Gaussian": gaussian(few_truth, mask, noise)}
        found |= {method: simple(few_truth, mask) for method, simple in SIMPLE.items()}
        for method, images in found.items():
            rows.setdefault(method, {})[name] = image_mse(images, few_truth).mean().item()
    return Table(rows, len(test), len(few))


def completion_picture(model: HyperSiren, test: ImageSet, *, rows: int = 6, zoom: int = 3) -> np.ndarray:
    """Contexts and completions of some test images, the completions evaluated at `zoom` times the resolution."""
    images = test.spread(rows)
    h, w = images.size
    columns = {}
    for name, mask in context_masks(images, available_contexts(images.size)).items():
        columns[f"{name} pixels" if name.isdigit() else name] = _enlarged(known_pixels(images.unit, mask), zoom)
        field = predicted(model, Context.from_images(_values(images), mask))
        columns[f"completed from {name}"] = render_fields(field, (zoom * h, zoom * w))
    columns["truth"] = _enlarged(images.unit, zoom)
    return sheet({name: shown.float().cpu().numpy() for name, shown in columns.items()})


@torch.no_grad()
def latent_line(model: HyperSiren, ends: Context, steps: int) -> BoundSiren:
    """The fields along a straight line in latent space between two signals, as so many signals."""
    z = model.predict(ends).z
    t = torch.linspace(0, 1, steps, device=z.device).view(-1, *[1] * (z.ndim - 1))
    return model.siren.bind(model.decode(z[:1] + t * (z[1:] - z[:1])))


def interpolation_picture(model: HyperSiren, pairs: Sequence[Context], size: tuple[int, int], steps: int) -> np.ndarray:
    """A row for each pair of signals: the fields from the first to the second (section 4.4)."""
    rows = torch.stack([render_fields(latent_line(model, pair, steps), size) for pair in pairs]).float().cpu().numpy()
    return sheet({f"{i / (steps - 1):.2f}": rows[:, i] for i in range(steps)})


def outside_picture(model: HyperSiren, images: ImageSet, *, extent: float = 5.0, pixels: int = 320) -> np.ndarray:
    """Fields far outside the range that they were trained on, [-extent, extent]^2 (section 4.4)."""
    field = predicted(model, whole(images))
    inside, beyond = render_fields(field, (pixels, pixels)), render_fields(field, (pixels, pixels), extent)
    columns = {"[-1, 1]": inside, f"[-{extent:g}, {extent:g}]": beyond}
    return sheet({name: shown.float().cpu().numpy() for name, shown in columns.items()})


def whole(images: ImageSet) -> Context:
    """All pixels of all images of a set."""
    values = _values(images)
    return Context.from_images(values, torch.ones_like(values[..., 0], dtype=torch.bool))


def _values(images: ImageSet) -> Float[Tensor, "M H W C"]:
    return images.images(torch.arange(len(images), device=images.pixels.device))


def _enlarged(images: Float[Tensor, "M H W C"], zoom: int) -> Float[Tensor, "M ZH ZW C"]:
    return images.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2)


OPTIONS = ("context", "mask", "interpolate", "extent")
"""Options of `complete_files` that not every study has."""


def complete_test(run: SetRun, folder: Path, *, most: int, refine: int) -> tuple[Table, tuple[str, ...]]:
    """The table over the test images and pictures of them, in the folder; with the table the files left out."""
    model, device = run.model, next(run.model.parameters()).device
    sets = open_sets(run.settings)
    train, validation, test = (images.to(device) for images in sets)
    table = completion_table(model, train, validation, test, baseline_images=most, refine_steps=refine)
    write_text(folder / "table.txt", f"{table}\n")
    numbers = {"mse": table.rows, "images": table.images, "baseline_images": table.baseline_images}
    write_text(folder / "metrics.json", to_json(numbers))
    write_image(folder / "completion.png", completion_picture(model, test))
    ends = test.spread(8).pixels
    if pairs := [whole(ImageSet(ends[i : i + 2], test.name)) for i in range(0, len(ends) - 1, 2)]:
        h, w = test.size
        write_image(folder / "interpolation.png", interpolation_picture(model, pairs, (3 * h, 3 * w), 8))
    write_image(folder / "outside.png", outside_picture(model, ImageSet(ends[:2], test.name)))
    return table, skipped_files(*sets)


def complete_files(
    run: SetRun,
    files: Sequence[Path],
    folder: Path,
    *,
    size: int,
    seed: int,
    refine: int,
    context: int | None = None,
    mask: Path | None = None,
    interpolate: int | None = None,
    extent: float = 1.0,
) -> Iterator[Path]:
    """Complete a person's pictures, or draw the way from one to another; the files that are written, one by one.

    A file that is there already stays: the new one gets a number.

    Raises:
        UserError: If a number is out of its range, a picture cannot be read, or options do not fit together.
    """
    model, raw = run.model, run.settings.data.size
    h, w = (raw, raw) if isinstance(raw, int) else raw
    if size < 1 or (context is not None and not 1 <= context <= h * w) or not extent > 0:
        raise UserError(f"expected --size of at least 1, --context from 1 to {h * w} and --extent above 0")
    if interpolate is not None and (len(files) != 2 or interpolate < 2):
        raise UserError(f"--interpolate needs two pictures and at least 2 steps, got {len(files)} and {interpolate}")
    if mask is not None and len(files) != 1:
        raise UserError(f"--mask belongs to one picture, got {len(files)}")
    if len({path.stem for path in files}) < len(files) and interpolate is None:
        raise UserError(
            "pictures of one name would overwrite each other's results; complete them one by one with --out"
        )
    device = next(model.parameters()).device
    number = 100 if context is None and mask is None and interpolate is None else context
    photos = [
        read_photo(path, (h, w), model.siren.out_features, context=number, mask=mask, seed=seed, device=device)
        for path in files
    ]
    shape = (size, max(1, round(size * w / h)))
    if interpolate is not None:
        [target] = unused(folder / f"{files[0].stem}_to_{files[1].stem}.png")
        write_image(target, interpolation_picture(model, [photo_pair(photos[0], photos[1])], shape, interpolate))
        yield target
        return
    for path, photo in zip(files, photos, strict=True):
        completed = complete_photo(model, photo, shape, extent, refine)
        target, panel = unused(folder / f"{path.stem}_completed.png", folder / f"{path.stem}_panel.png")
        write_image(target, completed.cpu().numpy())
        write_image(panel, photo_panel(photo, completed))
        yield target
