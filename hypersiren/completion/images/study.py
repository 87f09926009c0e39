"""Using a trained hypernetwork: the completion table of the paper, its figures, and a person's own pictures.

Errors are mean squared errors on [0, 1] after clipping, over all pixels, averaged over images (section 4.4).
"""

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.completion.base import Predict
from hypersiren.completion.images.baselines import SIMPLE, GaussianConditional, PrincipalAxes
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
from hypersiren.completion.images.task import available_contexts, completions, context_masks, open_sets
from hypersiren.completion.prediction import (
    completed,
    numbers_per_signal,
    posterior_for_samples,
    predicted,
    prediction,
    refining,
    render_deviation,
    render_fields,
    render_samples,
    tensor_sheet,
)
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.fields.siren import BoundSiren, Params
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import NINETY
from hypersiren.hypernets.model import HyperSiren
from hypersiren.plotting import figure_pixels, image_grid, sheet
from hypersiren.signals.image.files import write_image
from hypersiren.signals.metrics import image_mse
from hypersiren.signals.sets.images import ImageSet
from hypersiren.signals.sets.sources import skipped_files
from hypersiren.training import checkpoints
from hypersiren.training.folders import check_names, to_json, unused, write_text

LOG = logging.getLogger(__name__)

OURS, REFINED, PRIOR = "hypersiren", "refined", "prior alone"

FITTED = 20_000
"""Training images that baselines are fitted to, at most."""

WHOLE, UNKNOWN = "all pixels", "unknown pixels only (known ones put back)"

Rows = Mapping[str, Mapping[str, float]]
"""Method -> context -> number."""


@dataclass(frozen=True)
class Table:
    """Test errors by method and context.

    Attributes:
        rows: Mean squared errors over all pixels.
        unknown: The same after known pixels are put back, so that they have no error; none from all pixels.
        coverage: Of methods that know a posterior, the share of unknown values in its 90 % interval, in percent.
        best: The methods of the lowest error over the images that the baselines see: block -> context -> methods.
            Baselines that keep known pixels do not compete where all are known.
        images: Test images that the model's errors are the mean of.
        baseline_images: Test images (the first of them) that the baselines' errors are the mean of.
        first: The model's errors over those images alone: block -> context -> number.
        numbers: Numbers that the model has for each image.
    """

    rows: Rows
    unknown: Rows
    coverage: Rows
    best: Mapping[str, Mapping[str, Collection[str]]]
    images: int
    baseline_images: int
    first: Rows
    numbers: int

    @property
    def psnr(self) -> dict[str, Rows]:
        """The peak signal to noise ratio of the mean errors in dB, by block."""
        return {
            block: {method: {name: _decibel(error) for name, error in row.items()} for method, row in rows.items()}
            for block, rows in ((WHOLE, self.rows), (UNKNOWN, self.unknown))
        }

    def __str__(self) -> str:
        contexts = list(self.rows[OURS])
        width = max(map(len, [*self.rows, WHOLE, UNKNOWN, "  PSNR, dB"])) + 2
        lines = ["context".ljust(width) + "".join(f"{name:>9} " for name in contexts).rstrip()]

        def add(method: str, cells: Sequence[str]) -> None:
            lines.append((method.ljust(width) + "".join(f"{cell:>10}" for cell in cells)).rstrip())

        for block, rows in ((WHOLE, self.rows), (UNKNOWN, self.unknown)):
            lines += ["", block]
            for method, errors in rows.items():
                add(method, [self._cell(block, method, name, errors) for name in contexts])
                if method == OURS:
                    add("  PSNR, dB", [f"{_decibel(errors[n]):.1f} " if n in errors else "" for n in contexts])
                    if self.baseline_images < self.images:
                        first = self.first[block]
                        add(
                            f"  first {self.baseline_images}",
                            [short_number(first[n]) + " " if n in first else "" for n in contexts],
                        )
        if self.coverage:
            lines += ["", "unknown values in the 90 % interval, % (90 is right)"]
            for method, shares in self.coverage.items():
                add(method, [f"{shares[n]:.1f} " if n in shares else "" for n in contexts])
        few = f" (baselines, and the choice of *: the first {self.baseline_images})"
        return "\n".join(
            [
                *lines,
                "",
                f"mean squared error on [0, 1], {self.images} test images"
                + (few if self.baseline_images < self.images else ""),
                "* lowest of its column; PSNR of the mean error; kept: the method keeps what is known",
                f"{OURS} has {self.numbers} numbers per image",
            ]
        )

    def _cell(self, block: str, method: str, name: str, errors: Mapping[str, float]) -> str:
        if name not in errors:
            return ""
        if method in KEEPING and name == "full":
            return "kept "
        return short_number(errors[name]) + ("*" if method in self.best[block].get(name, ()) else " ")


KEEPING = ("Gaussian", *SIMPLE)
"""Methods whose known pixels keep their values."""


def completion_table(
    model: HyperSiren,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
    *,
    baseline_images: int = 100,
    refine_steps: int = 0,
    prior: HyperSiren | None = None,
) -> Table:
    """The model beside the baselines on the test images, for each context of the paper that fits the images.

    Args:
        model: A trained model.
        train: What Gaussian and principal axes are fitted to, mirrored images too: the first `FITTED`, or 100 MB.
        validation: What the Gaussian's noise is chosen on, for each context.
        test: What is completed.
        baseline_images: Baselines and intervals are judged on so many of the first test images; they are slow.
        refine_steps: If not 0, a row for the predicted fields refined so many steps.
        prior: The model before its training, for a row of its own.
    """
    # The baselines work in float64, which not every device has.
    first = ImageSet(test.pixels[:baseline_images], test.name)
    few = first.to("cpu")
    some = ImageSet(validation.pixels[:baseline_images].cpu(), validation.name)
    fitted = train.pixels[: min(FITTED, 10**8 // train.pixels[:1].numel() + 1)].cpu()
    fitted = torch.cat([fitted, fitted.flip(2)])
    gaussian = GaussianConditional(fitted)
    few_truth, some_truth = few.unit, some.unit
    names = available_contexts(test.size)
    some_masks = context_masks(some, names)
    models = {OURS: model} | ({} if prior is None else {PRIOR: prior})
    methods = [*models, *([REFINED] if refine_steps else []), "Gaussian", *SIMPLE]
    LOG.info("evaluating %d methods on %d test images", len(methods), len(test))
    # The errors of each image: block -> method -> context.
    errors: dict[str, dict[str, dict[str, Tensor]]] = {WHOLE: {}, UNKNOWN: {}}
    coverage: dict[str, dict[str, float]] = {}

    def report(method: str, name: str) -> None:
        LOG.debug("evaluating %s pixels: %s (%d of %d)", name, method, 1 + methods.index(method), len(methods))

    def judge(method: str, name: str, parts: Iterable[tuple[Tensor, Tensor, Tensor]]) -> None:
        """By a method's images, the truth, and what is known of it."""
        whole, unknown = [], []
        for images, truth, known in parts:
            whole.append(image_mse(images, truth).cpu())
            if name != "full":
                unknown.append(image_mse(torch.where(known.unsqueeze(-1), truth, images), truth).cpu())
        errors[WHOLE].setdefault(method, {})[name] = torch.cat(whole)
        if unknown:
            errors[UNKNOWN].setdefault(method, {})[name] = torch.cat(unknown)

    def judge_model(method: str, name: str, predict: Predict, mask: Tensor) -> None:
        report(method, name)
        judge(method, name, ((made, test.at(i).unit, mask[i]) for i, made in completions(predict, test, mask)))

    for name in names:
        mask = context_masks(test, [name])[name]
        for method, judged in models.items():
            judge_model(method, name, judged.field, mask)
            if name == "full":
                continue
            # Deviations cost several times what completions do.
            images, deviation = completed(judged, first, mask[: len(first)])
            if deviation is not None:
                inside = ((images - first.unit).abs() <= NINETY * deviation)[~mask[: len(first)]]
                coverage.setdefault(method, {})[name] = 100 * inside.float().mean().item()
        if refine_steps:
            judge_model(REFINED, name, refining(model, refine_steps), mask)
        report("Gaussian", name)
        noise = gaussian.choose_noise(some_truth, some_masks[name])
        mask = mask[: len(few)].cpu()
        judge("Gaussian", name, [(gaussian(few_truth, mask, noise), few_truth, mask)])
        for method, simple in SIMPLE.items():
            report(method, name)
            judge(method, name, [(simple(few_truth, mask), few_truth, mask)])
    numbers = numbers_per_signal(prediction(model, whole(ImageSet(test.pixels[:1], test.name))))
    LOG.debug("evaluating PCA of all pixels")
    axes = PrincipalAxes(fitted, min(numbers, test.size[0] * test.size[1]))
    parts = (test.at(index).unit.cpu() for index in torch.arange(len(test)).split(200))
    each = torch.cat([image_mse(axes(part), part) for part in parts])
    errors[WHOLE][f"PCA of all pixels, {axes.numbers} numbers"] = {"full": each}
    rows, unknown = (
        {method: {name: e.mean().item() for name, e in row.items()} for method, row in block.items()}
        for block in errors.values()
    )
    first_errors = {
        block: {name: e[: len(few)].mean().item() for name, e in found[OURS].items()} for block, found in errors.items()
    }
    best = {block: {name: _lowest(found, name, len(few)) for name in names} for block, found in errors.items()}
    return Table(rows, unknown, coverage, best, len(test), len(few), first_errors, numbers)


def _lowest(errors: Mapping[str, Mapping[str, Tensor]], name: str, images: int) -> list[str]:
    """The methods of the lowest mean error over the first images."""
    means = {
        method: row[name][:images].mean().item()
        for method, row in errors.items()
        if name in row and not (name == "full" and method in KEEPING)
    }
    return [method for method, mean in means.items() if mean == min(means.values())]


def _decibel(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


def short_number(error: float) -> str:
    """Four decimals, or two digits of what is smaller.

    Example:
        >>> short_number(0.03471), short_number(2.84e-5), short_number(0.0)
        ('0.0347', '2.8e-5', '0.0000')
    """
    return f"{error:.4f}" if error >= 1e-3 or error == 0 else f"{error:.1e}".replace("e-0", "e-")


def completion_picture(model: HyperSiren, test: ImageSet, *, rows: int = 6, zoom: int = 4) -> np.ndarray:
    """Contexts and completions of some test images, the completions evaluated at `zoom` times the resolution.

    Where the model knows its standard deviation, that too: black is 0, and the title says what white is.
    """
    images = test.spread(rows)
    size = (zoom * images.size[0], zoom * images.size[1])
    columns = {}
    for name, mask in context_masks(images, available_contexts(images.size)).items():
        columns[f"{name} pixels" if name.isdigit() else name] = known_pixels(images.unit, mask, size)
        found = prediction(model, Context.from_images(_values(images), mask))
        columns[f"completed from {name}"] = render_fields(found.field, size)
        if found.posterior is not None:
            white, shown = scaled_deviation(render_deviation(found.posterior, size))
            columns[f"deviation from {name}\n({white})"] = shown
    columns["truth"] = enlarged(images.unit, size)
    return tensor_sheet(columns)


def samples_picture(
    model: HyperSiren, test: ImageSet, *, count: int = 4, rows: int = 3, zoom: int = 4, seed: int = 0
) -> np.ndarray | None:
    """Samples of some test images, from 10 and from 100 pixels, beside what is known, the mean and the truth.

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
        found = prediction(model, Context.from_images(_values(images), mask))
        samples = render_samples(posterior_for_samples(found), count, size, seed=seed)
        mean, known = render_fields(found.field, size), known_pixels(images.unit, mask, size)
        columns = [known, *samples.unbind(1), mean, enlarged(images.unit, size)]
        cells += zip(*[shown.float().cpu().numpy() for shown in columns], strict=True)
        titles += [f"from {name}"] * len(images)
    names = ["context", *[f"sample {i + 1}" for i in range(count)], "mean", "truth"]
    return figure_pixels(image_grid(cells, titles, names)) if cells else None


@torch.no_grad()
def latent_line(model: HyperSiren, ends: Context, steps: int) -> BoundSiren:
    """The fields along the way between two signals, as so many signals: a straight line in latent space.

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
    return Context.from_images(values, torch.ones_like(values[..., 0], dtype=torch.bool))


def _values(images: ImageSet) -> Float[Tensor, "M H W C"]:
    return images.images(torch.arange(len(images), device=images.pixels.device))


OPTIONS = ("context", "mask", "interpolate", "extent", "samples")
"""Options of `complete_files` that not every study has."""


def complete_test(
    run: SetRun, folder: Path, *, most: int, refine: int, samples: int | None = None
) -> tuple[Table, tuple[str, ...]]:
    """The table over the test images and pictures of them, in the folder; with the table the files left out.

    Raises:
        UserError: If samples are wanted of a model without a posterior.
    """
    model, device = run.model, next(run.model.parameters()).device
    LOG.info("reading images: %s", run.settings.data.kind)
    sets = open_sets(run.settings, device)
    train, validation, test = sets
    shown = prediction(model, whole(ImageSet(test.pixels[:1], test.name)))
    if samples is not None:
        posterior_for_samples(shown)
    prior = read_prior(run)
    table = completion_table(model, train, validation, test, baseline_images=most, refine_steps=refine, prior=prior)
    write_text(folder / "table.txt", f"{table}\n")

    def finite(rows: Rows) -> Rows:  # JSON knows no infinity
        return {method: {n: value for n, value in row.items() if value < math.inf} for method, row in rows.items()}

    numbers = {
        "mse": table.rows,
        "unknown": table.unknown,
        "psnr": finite(table.psnr[WHOLE]),
        "psnr_unknown": finite(table.psnr[UNKNOWN]),
        "coverage": table.coverage,
        "images": table.images,
        "baseline_images": table.baseline_images,
        "numbers": table.numbers,
    }
    write_text(folder / "metrics.json", to_json(numbers))
    LOG.info("drawing pictures of test images")
    if shown.posterior is not None:
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
    return table, skipped_files(*sets)


def read_prior(run: SetRun) -> HyperSiren | None:
    """The model before its training, of a run that keeps one with a prior from data (`prior.pt`).

    Raises:
        CheckpointError: If the file cannot be read.
    """
    path = run.checkpoint.parent / "prior.pt"
    if not run.model.has_prior or not path.exists():
        return None
    model = checkpoints.restore(checkpoints.read(path), next(run.model.parameters()).device)
    return model if isinstance(model, HyperSiren) else None


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
    samples: int | None = None,
) -> Iterator[Path]:
    """Complete a person's pictures, or draw the way from one to another; the files that are written, one by one.

    A file that is there already stays: the new one gets a number.

    Raises:
        UserError: If a number is out of its range, a picture cannot be read, or options do not fit together.
    """
    model, raw = run.model, run.settings.data.size
    h, w = (raw, raw) if isinstance(raw, int) else raw
    if context is not None and context > h * w:
        raise UserError(f"expected --context of at most {h * w}, the pixels of the model, got {context}")
    if interpolate is not None and (len(files) != 2 or interpolate < 2):
        raise UserError(f"--interpolate needs two pictures and at least 2 steps, got {len(files)} and {interpolate}")
    if mask is not None and len(files) != 1:
        raise UserError(f"--mask belongs to one picture, got {len(files)}")
    if interpolate is None:
        check_names(files)
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
        [target] = unused(folder / f"{files[0].stem}_to_{files[1].stem}.png")
        write_image(target, interpolation_picture(model, [photo_pair(photos[0], photos[1])], shape, interpolate))
        yield target
        return
    if samples is not None:
        posterior_for_samples(prediction(model, photos[0].context))
    for path, photo in zip(files, photos, strict=True):
        LOG.debug("completing %s", path)
        picture = complete_photo(model, photo, shape, extent, refine)
        deviation = None if refine else photo_deviation(model, photo, shape, extent)
        target, panel = unused(folder / f"{path.stem}_completed.png", folder / f"{path.stem}_panel.png")
        write_image(target, picture.cpu().numpy())
        write_image(panel, photo_panel(photo, picture, deviation))
        yield target
        if samples is not None:
            (target,) = unused(folder / f"{path.stem}_samples.png")
            write_image(target, sample_photo(model, photo, samples, shape, extent, seed))
            yield target
