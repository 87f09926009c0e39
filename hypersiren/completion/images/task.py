"""Completion: predict an image from sparse pixels of it (paper, section 4.4).

Training draws images, hides most pixels, and asks the predicted field for all of them (or for a random subset). Values
are in [-1, 1] in training; errors are reported on [0, 1] after clipping, the mean over images.

Symbols: M images of a set, B images of a batch, N context points, P target points, C channels.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from hypersiren.completion.base import Baseline, Case, CaseTask, Predict, share_signals
from hypersiren.completion.images.baselines import fitted
from hypersiren.completion.images.pictures import context_completion_truth
from hypersiren.completion.images.settings import CompletionSettings, ContextSampling
from hypersiren.fields.coords import grid
from hypersiren.fields.operators import Field
from hypersiren.fields.shown import by_shape
from hypersiren.hypernets.adapters.base import Prediction, posterior_of
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import negative_log_likelihood
from hypersiren.signals.metrics import image_mse
from hypersiren.signals.sets.given import Images, as_images, split_images
from hypersiren.signals.sets.images import ImageSet, augment, load_images
from hypersiren.signals.sets.splits import SPLITS
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.summary import Rows, panel_rows
from hypersiren.tasks.task import content_digest
from hypersiren.training.seeds import host_generator

LOG = logging.getLogger(__name__)


CONTEXTS = ("10", "100", "1000", "half", "full")
"""The contexts of the paper's test: numbers of random pixels, the upper half, all pixels."""

AUGMENTATION = ("flip", "shift", "zoom", "rotation")
"""Settings of a set of images that say how training images are changed whenever they are drawn."""

PRIOR_VALUES = 2**24
"""Values of images on the finer raster that the prior takes at a time: 64 MB."""

SHORTER = (1024, 6400)
"""Numbers an image that the literature has for images of 64 x 64 colour pixels."""

JUDGED = 2**26
"""Numbers of the linear systems of one context's validation images that a model is judged on: 67 from 1000 pixels."""

SYSTEMS = 2**24
"""Numbers of the linear systems of images that are completed at a time: 64 MB."""


@dataclass(frozen=True)
class CompletionBatch:
    """B images: what the encoder sees, and what the field is asked.

    Attributes:
        context: The observed pixels.
        x: Target coordinates, (P, D) if every image has the same, else (B, P, D).
        y: (B, P, C) target values in [-1, 1].
    """

    context: Context
    x: Float[Tensor, "*b P D"]
    y: Float[Tensor, "B P C"]

    __repr__ = by_shape


class Completion(CaseTask):
    """The completion task on a set of images.

    Args:
        train: Images to learn from: a set, or what `as_images` makes one of.
        validation: Images to validate on; None for every tenth of `train`, which is then not learned from.
        context: Which pixels the encoder sees. Numbers beyond that of the image's pixels are cut to it.
        batch_size: B.
        target_points: Random target pixels for each image, with replacement; None for all pixels.
        augmentation: Arguments of `hypersiren.signals.sets.images.augment`.
        log: Weight of the mean over images of log(MSE + 1e-4).
        range: What the values of arrays run over, from black to white; None for the rule of `hypersiren.Image`.

    Example:
        >>> pixels = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
        >>> task = Completion(pixels, pixels, ContextSampling(most=20), batch_size=4)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.context.x.shape, batch.x.shape, batch.y.shape
        (torch.Size([4, 20, 2]), torch.Size([64, 2]), torch.Size([4, 64, 3]))
    """

    name = "completion"
    unit = "images"
    train: ImageSet
    validation: ImageSet
    whole = "full"
    quantity, element = "mean squared error on [0, 1]", "pixels"

    def __init__(
        self,
        train: ImageSet | Images,
        validation: ImageSet | Images | None = None,
        context: ContextSampling = ContextSampling(),  # noqa: B008 - frozen
        *,
        batch_size: int = 32,
        target_points: int | None = None,
        augmentation: Mapping[str, Any] | None = None,
        log: float = 0.0,
        range: tuple[float, float] | None = None,
    ):
        held = None if validation is None else as_images(validation, range=range)
        train, validation = split_images(as_images(train, range=range), held)
        if train.pixels.shape[1:] != validation.pixels.shape[1:]:
            raise ValueError(
                f"expected validation images of shape {tuple(train.pixels.shape[1:])} as in training, "
                f"got {tuple(validation.pixels.shape[1:])}"
            )
        self.train, self.validation = train, validation
        self.batch_size, self.sampling, self.target_points = batch_size, context.sampling, target_points
        self.augmentation = dict(augmentation or {})
        self.size, self.log = train.size, log
        points = self.size[0] * self.size[1]
        self.blocks, self.alike = context.blocks, context.alike
        self.fewest, self.most = min(context.fewest, points), min(context.most, points)
        self.grid = grid(self.size, device=train.pixels.device)
        self.contexts = available_contexts(self.size)
        self.shorter = SHORTER if points * train.channels > SHORTER[-1] else ()

    @classmethod
    def load(cls, settings: CompletionSettings, device: torch.device | str = "cpu") -> tuple[ImageSet, ...]:
        """Training, validation and test images, on the device, or on disk if they are too large for its memory.

        Raises:
            DatasetError: If a set cannot be read.
        """
        data = settings.data.model_dump(exclude=set(AUGMENTATION))
        kind = data.pop("kind")
        return tuple(load_images(kind, split, seed=settings.seed, device=device, **data) for split in SPLITS)

    @classmethod
    def arguments(cls, settings: CompletionSettings) -> dict[str, Any]:
        training = settings.training
        return {
            "context": settings.context,
            "batch_size": training.batch_size,
            "target_points": training.target_points,
            "augmentation": settings.data.model_dump(include=set(AUGMENTATION)),
            "log": settings.loss.log,
        }

    def describe(self) -> dict[str, int]:
        """What `hypersiren.hypernets.model.build` must know: D, channels of the context, channels of the field."""
        channels = self.train.channels
        return {"in_features": 2, "channels": channels, "out_features": channels}

    def prior_signals(self, copies: int, finer: int, chunk: int = 1000) -> Iterator[Float[Tensor, "M FH FW C"]]:
        """Training images, and augmented copies of them, on a raster `finer` times as fine (see `set_prior`).

        At most `chunk` at a time, and fewer where these would have more than `PRIOR_VALUES` values.
        """
        values = self.size[0] * self.size[1] * self.train.channels * finer**2
        chunk = max(1, min(chunk, PRIOR_VALUES // values))
        generator = torch.Generator(self.train.pixels.device).manual_seed(0)
        done, total = 0, (copies + 1) * len(self.train)
        for i in range(copies + 1):
            for index in torch.arange(len(self.train), device=self.train.pixels.device).split(chunk):
                images = self.train.images(index)
                images = augment(images, generator, **self.augmentation) if i else images
                yield on_finer_raster(images, finer)
                done += len(index)
                LOG.debug("prior from data: %s of %s images", f"{done:,}", f"{total:,}")

    def draw(self, generator: torch.Generator, count: int, jitter: float = 0.0) -> Float[Tensor, "B P C"]:
        """Values of random training images in [-1, 1], augmented.

        Args:
            generator: Draws.
            count: B.
            jitter: Deviation of the logarithm of an image's contrast; brightness and colours change half as much.
        """
        device = self.train.pixels.device
        # On the CPU, where a set may stay: nothing waits for a GPU, and the next batch is read while it computes.
        host = host_generator(generator)
        index = torch.randint(len(self.train), (count,), generator=host, pin_memory=device.type == "cuda")
        y = augment(self.train.images(index), generator, **self.augmentation).flatten(1, 2)
        if not jitter:
            return y
        drawn = torch.randn(4, count, 1, y.shape[-1], generator=generator, device=device)
        gain, offset = drawn[0, ..., :1] + 0.4 * drawn[1], 0.5 * drawn[2, ..., :1] + 0.2 * drawn[3]
        used = jitter * (torch.rand(count, 1, 1, generator=generator, device=device) < 0.6)
        return (y + 1) * (used * gain).exp() - 1 + used * offset

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> CompletionBatch:
        """Draw B images, their context and their targets; the same law at any progress."""
        device, b = self.train.pixels.device, self.batch_size
        y = self.draw(generator, b)
        context = self._context(y, generator)
        if self.target_points is None:
            return CompletionBatch(context, self.grid, y)
        target = torch.randint(y.shape[1], (b, self.target_points), generator=generator, device=device)
        return CompletionBatch(context, self.grid[target], _take(y, target))

    def _context(self, y: Float[Tensor, "B M C"], generator: torch.Generator) -> Context:
        signals, m, _ = y.shape
        b = 1 if self.alike else signals
        share = torch.rand(b, 1, generator=generator, device=y.device)
        if self.sampling == "log_uniform":
            count = self.fewest * ((self.most + 1) / self.fewest) ** share
        else:
            count = self.fewest + (self.most + 1 - self.fewest) * share
        count = count.floor().clamp(self.fewest, self.most)
        scores = torch.rand(b, m, generator=generator, device=y.device)
        if self.sampling == "bernoulli":
            cells, mask = torch.arange(m, device=y.device), scores < count / m
            x = self.grid.expand(signals, -1, -1)
            return Context(x, y, mask.expand(signals, -1), self.size, cells.expand(signals, -1), self.alike)
        if self.blocks:
            # Along one of both axes, from one of both ends: the first pixels in this order are one side of the image.
            side = torch.randint(4, (b, 1), generator=generator, device=y.device)
            along = torch.where(side < 2, self.grid[:, 0], self.grid[:, 1]) * (1 - 2 * (side % 2))
            block = torch.rand(b, 1, generator=generator, device=y.device) < self.blocks
            scores = torch.where(block, along + 1e-3 * scores, scores)
        # The first `count` of a random order are a sample without replacement of exactly that size.
        order = scores.topk(self.most, sorted=True).indices.expand(signals, -1)
        mask = (torch.arange(self.most, device=y.device) < count).expand(signals, -1)
        return Context(self.grid[order], _take(y, order), mask, self.size, order, self.alike)

    def loss(self, field: Field, batch: CompletionBatch) -> dict[str, Tensor]:
        """The mean squared error over the target points, values in [-1, 1], and the mean of its logarithm, weighted."""
        errors = (field(batch.x) - batch.y).square().mean((1, 2))
        terms = {"mse": errors.mean()}
        return terms | {"log": self.log * (errors + 1e-4).log().mean()} if self.log else terms

    def likelihood(self, prediction: Prediction, batch: CompletionBatch) -> Tensor:
        """The mean negative log likelihood of the target points, values in [-1, 1]."""
        return negative_log_likelihood(posterior_of(prediction, "loss.likelihood"), batch.x, batch.y).mean()

    def share(self, batch: CompletionBatch, index: int, count: int) -> CompletionBatch:
        """A part of the images, see `share_signals`."""
        return share_signals(batch, index, count)

    def digest(self) -> str:
        return content_digest(self.train.pixels, self.validation.pixels)

    def mask(self, signals: ImageSet, context: str, seed: int = 0) -> Bool[Tensor, "M H W"]:
        return context_masks(signals, [context], seed)[context]

    def source(self, signals: ImageSet) -> Int[Tensor, " M"] | None:
        return signals.source

    def case(self, signals: ImageSet, mask: Bool[Tensor, "M H W"]) -> Case:
        return image_case(signals.unit, mask)

    def error(self, case: Case, completion: Float[Tensor, "B P C"]) -> Float[Tensor, " B"]:
        """The mean squared error on [0, 1], after clipping."""
        return image_mse(completion, case.truth)

    def some(self, known: int) -> int:
        return SYSTEMS // max(1, known) ** 2

    def judged(self, context: str) -> ImageSet:
        """All of them, or fewer where each has a large system of its own."""
        most = max(32, JUDGED // int(context) ** 2) if context.isdigit() else len(self.validation)
        return self.validation if len(self.validation) <= most else self.validation.spread(most)

    def notes(self, signals: int, few: int, numbers: int) -> list[str]:
        some = f" (baselines, and the choice of *: the first {few})" if few < signals else ""
        return [
            f"mean squared error on [0, 1], {signals} test images{some}",
            "* lowest of its column; PSNR of the mean error; kept: the method keeps what is known",
            f"hypersiren has {numbers} numbers per image",
        ]

    def choosing(self, most: int) -> ImageSet:
        return self.validation.at(torch.arange(min(most, len(self.validation))))

    def baselines(self, numbers: int) -> Callable[[Case], list[Baseline]]:
        """A Gaussian and principal axes of training images, mirrored ones too; and what needs no training images."""
        return fitted(self.train, numbers)

    @staticmethod
    def words(context: str) -> str:
        words = {"half": "the upper half", "full": "all pixels"}
        return f"from {words.get(context, f'{context} pixels')}"

    def summary(self, predict: Predict) -> Rows:
        """Three images from each context."""
        return panel_rows(
            {self.words(name).capitalize(): panel for name, panel in self.panels(predict, rows=3).items()}
        )

    def panels(self, predict: Predict, rows: int = 8) -> dict[str, Panel]:
        """For each context a picture with a row for each image: context, completion, truth."""
        shown = self.validation.spread(rows)
        panels: dict[str, Panel] = {}
        for name in self.contexts:
            mask = self.mask(shown, name)
            completion = self.complete(predict, shown, mask).unflatten(1, self.size)
            panels[name] = ImagePanel(context_completion_truth(shown.unit, mask, completion))
        return panels


def on_finer_raster(images: Float[Tensor, "M H W C"], factor: int) -> Float[Tensor, "M FH FW C"]:
    """Images on a raster `factor` times as fine, interpolated by cubics."""
    if factor == 1:
        return images
    x = interpolate(images.movedim(-1, 1), scale_factor=factor, mode="bicubic", align_corners=False)
    return x.movedim(1, -1)


def available_contexts(size: tuple[int, int]) -> list[str]:
    """Those of the paper's contexts that images of this size have pixels for.

    Example:
        >>> available_contexts((28, 28))
        ['10', '100', 'half', 'full']
    """
    fits = {"half": size[0] > 1, "full": True}
    return [name for name in CONTEXTS if (int(name) < size[0] * size[1] if name.isdigit() else fits[name])]


def context_masks(images: ImageSet, names: Sequence[str], seed: int = 0) -> dict[str, Bool[Tensor, "M H W"]]:
    """Which pixels of each image are known in the named contexts; the same on every machine for a seed.

    Args:
        images: The set; image i has the same mask in every set of this size.
        names: "half" (the upper), "full", or a number of random pixels.

    Raises:
        ValueError: On another name, or more pixels than there are.
    """
    (h, w), m = images.size, len(images)
    device = images.pixels.device
    masks: dict[str, Tensor] = {}
    for name in names:
        mask = torch.zeros(m, h, w, dtype=torch.bool)
        if name == "full":
            mask[:] = True
        elif name == "half":
            mask[:, : h // 2] = True
        elif name.isdigit() and 0 < int(name) <= h * w:
            generator = torch.Generator().manual_seed(seed)
            for i in range(m):
                mask[i].view(-1)[torch.randperm(h * w, generator=generator)[: int(name)]] = True
        else:
            raise ValueError(f'expected "half", "full" or a number of pixels from 1 to {h * w}, got "{name}"')
        masks[name] = mask.to(device)
    return masks


def image_case(truth: Float[Tensor, "B H W C"], mask: Bool[Tensor, "B H W"]) -> Case:
    """Images on [0, 1] with their known pixels; fields are on [-1, 1]."""
    context = Context.from_rasters(2 * truth - 1, mask).compact()
    known = mask.flatten(1)
    x = grid((truth.shape[1], truth.shape[2]), device=truth.device)
    return Case(context, x, truth.flatten(1, 2), known, torch.ones_like(known), 0.5, 0.5)


def _take(y: Float[Tensor, "B M C"], index: Tensor) -> Float[Tensor, "B P C"]:
    return y.gather(1, index.unsqueeze(-1).expand(-1, -1, y.shape[-1]))
