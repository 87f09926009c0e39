"""Completion of photographs at their own size: a set of crops, the contexts that they are completed from, the loss.

Symbols: M crops, B crops of a batch, H x W pixels.
"""

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from hypersiren.completion.base import Kind
from hypersiren.completion.images.pictures import known_pixels
from hypersiren.completion.photographs.bank import PhotographBank, PhotographBatch
from hypersiren.completion.photographs.masks import CONTEXTS, context_mask, training_mask
from hypersiren.completion.photographs.settings import PhotographContext, PhotographSettings
from hypersiren.errors import UserError
from hypersiren.fields.window_solve import fill
from hypersiren.hypernets.encoders.precision import bfloat16
from hypersiren.hypernets.inpainter import NINETY, Inpainter, relax, to_axes, to_picture
from hypersiren.plotting import figure_pixels, image_grid
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import convert_image, fit_image, read_image
from hypersiren.signals.sets import sources
from hypersiren.signals.sets.given import as_images, split_images
from hypersiren.signals.sets.images import ImageSet
from hypersiren.signals.sets.sources import DatasetError
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.summary import Measure
from hypersiren.tasks.task import content_digest, share_of
from hypersiren.training import checkpoints
from hypersiren.training.display import is_first
from hypersiren.training.objectives import Objective, named_terms
from hypersiren.training.seeds import seeded

LOG = logging.getLogger(__name__)

HELD_OUT = 32
"""Crops to validate and to test, at most."""

WINDOWS = 60_000
"""Windows that the mixture is fitted to."""

DRAWN = 12
"""Crops that a model is judged on during the training, at most."""

SMALLEST, FEW = 1e-5, 20.0
"""A squared error that does not matter, and a number of unknown pixels from which a crop tells enough."""


class Photographs(Kind):
    """Completion of photographs by an `Inpainter`.

    Args:
        train: Crops, (M, H, W, 3) bytes, or what `Completion` takes; sides are multiples of 8.
        validation: Crops to validate on; None for a twentieth of the others.
        context: Which pixels are known.
        batch_size, pixels, deviation, contrast, gray: See `hypersiren.completion.photographs.settings`.

    Example:
        >>> task = Photographs(torch.randint(0, 256, (20, 64, 64, 3), dtype=torch.uint8), batch_size=2, pixels=32)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> sorted(task.loss(Inpainter((8, 8, 8, 8), (1, 1, 1, 1)), batch))
        ['colour', 'deviation']
    """

    name = "photographs"
    unit = "photographs"
    criterion: str | None = "mse"

    def __init__(
        self,
        train: Any,
        validation: Any = None,
        context: PhotographContext = PhotographContext(),  # noqa: B008 - frozen
        *,
        batch_size: int = 16,
        pixels: int = 64,
        deviation: float = 3e-3,
        contrast: float = 0.4,
        gray: float = 0.1,
    ):
        held = None if validation is None else as_images(validation, "validation")
        self.train, self.validation = split_images(as_images(train), held)
        if min(self.train.size) < pixels or pixels % 8 or any(n % 8 for n in self.validation.size):
            raise ValueError(f"expected crops of at least {pixels} pixels in multiples of 8, got {self.train.size}")
        if any(crops.pixels.shape[-1] != 3 for crops in (self.train, self.validation)):
            raise ValueError(f"expected crops of 3 channels, got {self.train.pixels.shape[-1]}: repeat gray ones")
        self.context, self.batch_size, self.pixels = context, batch_size, pixels
        self.deviation, self.contrast, self.gray = deviation, contrast, gray
        self.judged = self.validation.spread(DRAWN)
        self._prior: tuple[float, ...] = ()
        self._kept: dict[tuple[str, int], list[PhotographBatch]] = {}

    @classmethod
    def load(cls, settings: PhotographSettings, device: torch.device | str = "cpu") -> tuple[ImageSet, ...]:
        data = settings.data
        few = max(4, min(HELD_OUT, data.crops // 10))
        counts = {"train": data.crops, "val": few, "test": few}
        reduced = {"train": data.reduced}
        return tuple(
            cut_crops(data.root, split, count, data.side, reduced.get(split, 0), settings.seed, device)
            for split, count in counts.items()
        )

    @classmethod
    def arguments(cls, settings: PhotographSettings) -> dict[str, Any]:
        training = settings.training
        return {
            "context": settings.context,
            "batch_size": training.batch_size,
            "pixels": training.pixels,
            "deviation": settings.loss.deviation,
            "contrast": settings.data.contrast,
            "gray": settings.data.gray,
        }

    @property
    def measures(self) -> Sequence[Measure]:  # type: ignore[override]
        psnr = [Measure(f"psnr_{_label(name)}", f"PSNR, {words(name)}", "dB", "higher") for name in CONTEXTS]
        return [Measure("psnr", "PSNR, mean over contexts", "dB", "higher"), *psnr, Measure("mse", "squared error")]

    def sample(self, generator: Generator, progress: float = 0.0) -> PhotographBatch:
        """A batch of parts of crops, turned, mirrored, with channels in another order and another contrast."""
        return self.draw(generator, self.batch_size, self.pixels)

    def draw(self, generator: Generator, count: int, pixels: int) -> PhotographBatch:
        """So many parts of so many pixels a side, as those of a batch."""
        device, n, b = self.train.pixels.device, pixels, count

        def random(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        chosen = (random(b) * len(self.train)).long().clamp(max=len(self.train) - 1)
        pictures = self.train.at(chosen).unit
        places = (random(b, 2) * torch.tensor([m - n + 1 for m in self.train.size], device=device)).long().tolist()
        turns, values = (8 * random(b)).long().tolist(), random(b, 3)
        parts = []
        for picture, (i, j), turn, (contrast, light, gray) in zip(pictures, places, turns, values, strict=True):
            part = picture[i : i + n, j : j + n]
            part = part.flip([axis for axis, bit in ((0, 1), (1, 2)) if turn & bit])
            part = part.transpose(0, 1) if turn & 4 else part
            part = part[..., torch.randperm(3, generator=generator, device=device)]
            part = torch.where(gray < self.gray, part.mean(-1, keepdim=True), part)
            factor = 1 - self.contrast + (self.contrast + 0.2) * contrast
            parts.append(((part - 0.5) * factor + 0.5 + 0.3 * (light - 0.5)).clamp(0, 1))
        c = self.context
        masks = [training_mask(n, c.fewest, c.most, c.strokes, c.block, generator) for _ in range(b)]
        return batch_of(torch.stack(parts), torch.stack(masks))

    def loss(self, model: Any, batch: PhotographBatch) -> dict[str, Tensor]:
        """The error of each crop in units of that of its posterior, and the likelihood of errors under the deviations.

        Of a crop's error the root mean square counts, so that smooth crops, which err little, teach as much as others.
        """
        before, mean, logarithm = batch.completed_by(model, mirrored=False)
        unknown = (~batch.known).unsqueeze(1).to(mean)
        count = unknown.sum((1, 2, 3)) + 1.0
        error = (mean - batch.y) * unknown
        now, then = (each.square().sum((1, 2, 3)) / count + SMALLEST for each in (error, (before - batch.y) * unknown))
        weight = count / (count + FEW)
        surprise = 0.5 * (error.detach().square() + 1e-6) * (-2 * logarithm).exp() + logarithm
        return {
            "colour": (weight * (now / then).sqrt()).mean(),
            "deviation": self.deviation * (weight * (surprise * unknown).sum((1, 2, 3)) / (3 * count)).mean(),
        }

    def share(self, batch: PhotographBatch, index: int, count: int) -> PhotographBatch:
        return share_of(batch, index, count)

    def digest(self) -> str:
        return content_digest(self.train.pixels, self.validation.pixels)

    @torch.no_grad()
    def cases(self, model: Any, crops: ImageSet, name: str, seed: int = 0) -> Iterator[PhotographBatch]:
        """Crops in a named context with their posteriors, a few at a time.

        Those of the crops that a model is judged on are kept for as long as its mixture is the same.
        """
        kept = crops is self.judged
        if kept and (prior := _fingerprint(model)) != self._prior:
            self._prior, self._kept = prior, {}
        if kept and (name, seed) in self._kept:
            yield from self._kept[name, seed]
            return
        found = []
        for index in torch.arange(len(crops), device=crops.pixels.device).split(8):
            masks = [context_mask(name, crops.size, seed + int(i)) for i in index]
            batch = batch_of(crops.at(index).unit, torch.stack(masks).to(crops.pixels.device))
            mean, logarithm = model.posterior(batch.filled, batch.known)
            found.append(replace(batch, mean=mean, logarithm=logarithm))
            yield found[-1]
        if kept:
            self._kept[name, seed] = found

    @torch.no_grad()
    def evaluate(self, model: Any) -> dict[str, float]:
        """The error over all pixels, on [0, 1], and its ratio, from each context."""
        errors = {name: self.errors(model, self.judged, name).mean().item() for name in CONTEXTS}
        ratios = {f"psnr_{_label(name)}": -10 * math.log10(max(error, 1e-12)) for name, error in errors.items()}
        mse = math.exp(sum(math.log(max(e, 1e-12)) for e in errors.values()) / len(errors))
        return {"mse": mse, "psnr": -10 * math.log10(mse), **ratios}

    @torch.no_grad()
    def errors(self, model: Any, crops: ImageSet, name: str) -> Float[Tensor, " M"]:
        """The mean squared error of each crop on [0, 1]."""
        found = []
        for batch in self.cases(model, crops, name):
            error = (_rgb(batch.completed_by(model)[1]) - _rgb(batch.y)).masked_fill(batch.known[..., None], 0)
            found.append(error.square().mean((1, 2, 3)))
        return torch.cat(found)

    @torch.no_grad()
    def surprises(self, model: Any, crops: ImageSet, name: str) -> Float[Tensor, " N"]:
        """Errors of unknown values in units of their deviations."""
        found = []
        for batch in self.cases(model, crops, name):
            _, mean, logarithm = batch.completed_by(model)
            error = _rgb(mean) - _rgb(batch.y)
            deviation = model.deviations(logarithm, batch.known)
            found.append((error.abs() / deviation)[~batch.known].flatten())
        return torch.cat(found)

    def calibrate(self, model: Any) -> None:
        """Scale a model's deviations so that 90 % of the values of validation crops lie in their 90 % intervals.

        For each share of known pixels by itself; for the largest from what scratches and text leave.
        """
        crops = self.judged
        model.calibration.fill_(1.0)
        parts = [("10%",), ("20%",), ("50%",), ("scratches", "text")]
        wanted = []
        for names in parts:
            found = torch.cat([self.surprises(model, crops, name) for name in names])
            wanted.append(found.quantile(0.9) / NINETY)
        model.calibration.copy_(torch.stack(wanted).clamp(min=1e-3))

    @torch.no_grad()
    def panels(self, model: Any) -> dict[str, Panel]:
        """For each context a picture with a row for each of three crops: context, completion, deviation, truth."""
        panels: dict[str, Panel] = {}
        for name in CONTEXTS:
            batch = next(self.cases(model, self.judged, name))
            _, mean, logarithm = batch.completed_by(model)
            deviations = model.deviations(logarithm, batch.known).mean(-1, keepdim=True)
            rows = []
            shown = zip(_rgb(batch.y), batch.known, _rgb(mean), deviations, strict=True)
            for truth, known, found, deviation in itertools.islice(shown, 3):
                unknown = ~known.unsqueeze(-1)
                context = known_pixels(truth[None], known[None])[0]
                white = (deviation * unknown).max().clamp(min=1e-6)
                columns = (context, torch.where(unknown, found, truth), deviation * unknown / white, truth)
                rows.append([column.cpu().numpy() for column in columns])
            pixels = figure_pixels(image_grid(rows, column_titles=("context", "completion", "deviation", "truth")))
            panels[f"from {name}"] = ImagePanel.of(pixels)
        return panels

    def objective(self, settings: PhotographSettings, device: torch.device | str) -> "PhotographObjective":
        """What `hypersiren train` optimises: a new model that settings describe, on this task."""
        with seeded(settings.seed):
            model = Inpainter(settings.network.widths, settings.network.blocks, settings.network.components)
        network, training = settings.network, settings.training
        return PhotographObjective(
            model.to(device),
            self,
            training.autocast,
            network.rounds,
            bank=training.bank,
            side=settings.data.side,
            start=network.start,
        )

    def windows(self, count: int, side: int, generator: Generator) -> Float[Tensor, "3 N P"]:
        """Random windows of the training crops, turned and mirrored, in the axes of colour."""
        device = self.train.pixels.device
        along = torch.arange(side, device=device)

        def below(most: int) -> Tensor:
            return torch.randint(most, (count,), generator=generator, device=device)

        rows, columns = (below(n - side + 1)[:, None] + along for n in self.train.size)
        crops = below(len(self.train))
        windows = self.train.pixels[:][crops[:, None, None], rows[:, :, None], columns[:, None]].float() / 255
        turn = below(8)
        for bit, axes in ((1, [1]), (2, [2])):
            windows = torch.where((turn & bit > 0).view(-1, 1, 1, 1), windows.flip(axes), windows)
        windows = torch.where((turn & 4 > 0).view(-1, 1, 1, 1), windows.transpose(1, 2), windows)
        return to_axes(windows).movedim(1, 0).flatten(2)


class PhotographObjective(Objective):
    """The task's terms on the means and deviations that a model predicts.

    Args:
        model: Predicts them.
        task: Gives the terms.
        autocast: bfloat16 in the network, on devices that have it.
        rounds: Of the fit of its mixture, if it has one, before the first step.
        start: A run or a released model whose weights are those to begin with, instead of a fit of the mixture.
        bank: Crops whose posteriors are computed before the first step; 0 for new crops in each step.
        side: Pixels of their sides.
    """

    task: Photographs

    model: Inpainter

    def __init__(
        self,
        model: Inpainter,
        task: Photographs,
        autocast: bool = False,
        rounds: int = 12,
        bank: int = 0,
        side: int | None = None,
        start: Path | None = None,
    ):
        super().__init__()
        self.model, self.task, self.autocast, self.rounds, self.start = model, task, autocast, rounds, start
        self.validate_first = model.mixture is not None
        self.crops = bank if model.mixture is not None else 0
        self.side = side or min(task.train.size)
        self._bank: PhotographBank | None = None
        self._prior: tuple[float, ...] = ()

    def begin(self) -> None:
        mixture = self.model.mixture
        if self.start is not None:
            LOG.info("starting from %s", self.start)
            begun = checkpoints.load(self.start)
            if not isinstance(begun, Inpainter) or _shapes(begun) != _shapes(self.model):
                raise UserError(f"network.start {self.start}: expected a model of photographs of the same size")
            self.model.load_state_dict(begun.state_dict())
        elif mixture is not None:
            LOG.info("fitting %d Gaussians to windows of the photographs", len(mixture.logarithms))
            generator = torch.Generator(self.model.calibration.device).manual_seed(0)
            mixture.fit(self.task.windows(WINDOWS, mixture.side, generator), self.rounds, generator)

    @property
    def bank(self) -> PhotographBank:
        """Of the mixture as it is: another process, or a checkpoint, may have brought it."""
        prior = _fingerprint(self.model)
        if self._bank is None or prior != self._prior:
            self._prior, self._bank = prior, self._make_bank(str((prior, self.crops, self.side, self.task.context)))
        return self._bank

    def _make_bank(self, key: str) -> PhotographBank:
        device, path = self.model.calibration.device, self.folder and self.folder / "bank.safetensors"
        if path and (found := PhotographBank.read(path, key, device)):
            return found
        LOG.info("completing %d training crops by the mixture alone", self.crops)
        generator = torch.Generator(device).manual_seed(0)
        bank = PhotographBank.make(self.model, lambda count: self.task.draw(generator, count, self.side), self.crops)
        if path and is_first():
            bank.write(path, key)
        return bank

    def sample(self, generator: Generator, progress: float) -> PhotographBatch:
        if not self.crops:
            return self.task.sample(generator, progress)
        return self.bank.sample(self.task.batch_size, self.task.pixels, generator)

    def forward(self, batch: PhotographBatch) -> dict[str, Tensor]:
        with bfloat16(batch.y.device.type, self.autocast):
            return named_terms(self.task, self.task.loss(self.model, batch))

    def calibrate(self, model: nn.Module) -> None:
        self.task.calibrate(model)

    def predictor(self, model: nn.Module) -> nn.Module:
        return model


def _fingerprint(model: Any) -> tuple[float, ...]:
    """Numbers that tell one mixture from another."""
    if model.mixture is None:
        return (0.0,)
    return tuple(part.double().sum().item() for part in (model.mixture.factor, model.mixture.logarithms))


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in model.state_dict().items()}


def words(context: str) -> str:
    """A context in words: "from 10% of the pixels"."""
    return f"from {context} of the pixels" if context.endswith("%") else f"under {context}"


def _label(context: str) -> str:
    return context.rstrip("%")


def _rgb(axes: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B H W 3"]:
    return to_picture(axes, 3).clamp(0, 1)


def batch_of(pictures: Float[Tensor, "B H W 3"], known: Bool[Tensor, "B H W"]) -> PhotographBatch:
    """Pictures on [0, 1] with their unknown pixels filled in."""
    y = to_axes(pictures)
    filled = [fill(each.movedim(0, -1), mask).movedim(-1, 0) for each, mask in zip(y, known, strict=True)]
    return PhotographBatch(y, relax(torch.stack(filled), known), known)


def cut_crops(
    root: Path | None,
    split: str,
    count: int,
    side: int,
    reduced: float,
    seed: int,
    device: torch.device | str = "cpu",
) -> ImageSet:
    """Random crops of photographs at their own size, as many from each.

    Args:
        root: The folder, see `hypersiren.signals.sets.sources.folder`; None for those of scikit-image.
        split: "train", "val" or "test".
        count: Crops.
        side: Their pixels.
        reduced: Share that is cut from a photograph reduced to two thirds.
        seed: Of splits and places.
        device: Where they are held.

    Raises:
        DatasetError: If there are no photographs, or all are smaller than a crop.
    """
    skipped: list[str] = []
    if root is None:
        names: Sequence[str] = sources.PHOTOS[split]
        label = f"photographs/{split}"
    else:
        source = sources.folder(root, split, seed)
        names, label = source.names, source.label
        skipped += source.dropped
    random = np.random.default_rng((seed, sources.SPLITS.index(split)))
    order = random.permutation(len(names))
    crops: list[np.ndarray] = []
    for number, i in enumerate(order):
        left = len(order) - number
        wanted = -(-(count - len(crops)) // left)
        if wanted <= 0:
            break
        try:
            photo = sources._photo(names[i]) if root is None else read_image(root / names[i])
            photo = np.asarray(convert_image(photo))
        except SignalError as error:
            skipped.append(f"{names[i]}: {error.reason}")
            continue
        size = (round(photo.shape[0] * 2 / 3), round(photo.shape[1] * 2 / 3))
        few = round(reduced * wanted) if min(size) >= side else 0
        if min(photo.shape[:2]) < side:
            skipped.append(f"{names[i]}: smaller than {side} pixels")
            continue
        versions = [(photo, wanted - few)] + ([(fit_image(photo, size), few)] if few else [])
        for picture, some in versions:
            for top, left_edge in (random.random((some, 2)) * [n - side + 1 for n in picture.shape[:2]]).astype(int):
                crops.append(picture[top : top + side, left_edge : left_edge + side].copy())
    if not crops:
        reason = f" (the first: {skipped[0]})" if skipped else ""
        raise DatasetError(f"{label}: expected photographs of at least {side} pixels, found none{reason}")
    return ImageSet(torch.from_numpy(np.stack(crops)).to(device), label, tuple(skipped))
