"""Completion of sounds: predict a window of a recording from some samples of it, or across a gap.

Symbols: M windows of a set, B of a batch, N samples of a window, P known or queried samples.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.completion.base import Baseline, Case, CaseTask, Predict, share_signals
from hypersiren.completion.sounds.baselines import fitted
from hypersiren.completion.sounds.cases import (
    CONTEXTS,
    FLOOR,
    completion_picture,
    context_masks,
    relative_mse,
    rms,
    sound_case,
)
from hypersiren.completion.sounds.settings import SoundContext, SoundSettings
from hypersiren.fields.coords import grid
from hypersiren.fields.operators import Field
from hypersiren.fields.shown import by_shape
from hypersiren.hypernets.adapters.base import Prediction, posterior_of
from hypersiren.hypernets.adapters.pairs import Pairs
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import negative_log_likelihood
from hypersiren.plotting import Curve, Plot
from hypersiren.signals.sets.sounds import Sounds, SoundSet, as_sounds, load_all_sounds, split_sounds
from hypersiren.signals.sound.cosines import resampled
from hypersiren.tasks.panels import ImagePanel, Panel, SoundPanel
from hypersiren.tasks.summary import Rows
from hypersiren.tasks.task import content_digest
from hypersiren.training.seeds import host_generator

LOG = logging.getLogger(__name__)

LEAST_POWER = 0.01
"""Of a window beside its known samples, where it is learned from: windows of less do not count for more."""

MOST = 100
"""Validation windows that a model is judged on during training."""


@dataclass(frozen=True)
class SoundBatch:
    """B windows, each divided by its scale: context and targets.

    Attributes:
        context: The known samples.
        x: (P, 1) or (B, P, 1) target coordinates.
        y: (B, P, 1) target amplitudes.
        inside: (B, P), which targets lie within their recording.
    """

    context: Context
    x: Float[Tensor, "*b P 1"]
    y: Float[Tensor, "B P 1"]
    inside: Bool[Tensor, "B P"]

    __repr__ = by_shape


class SoundCompletion(CaseTask):
    """The completion task on a set of sounds.

    Args:
        train: Sounds to learn from: a set, or what `as_sounds` makes one of (whole recordings, shorter ones masked).
        validation: Sounds to validate on; None for every tenth recording of `train`, which is then not learned from.
        context: Which samples are known.
        batch_size: B.
        target_points: Random target samples for each window, with replacement; None for all.

    Raises:
        DatasetError: If the sounds are none, or cannot be split.
        ValueError: If windows for validation have another length or rate.

    Example:
        >>> task = SoundCompletion(np.random.default_rng(0).normal(size=(20, 64)), batch_size=4)
        >>> batch = task.sample(torch.Generator().manual_seed(0))
        >>> batch.context.x.shape[::2], batch.x.shape, batch.y.shape
        (torch.Size([4, 1]), torch.Size([64, 1]), torch.Size([4, 64, 1]))
    """

    name = "sounds"
    unit = "windows"
    train: SoundSet
    validation: SoundSet
    contexts, whole = CONTEXTS, "all"
    quantity, element = "squared error over the power of the window", "samples"
    inside = "samples"
    points, decibels = 16384, True

    def __init__(
        self,
        train: SoundSet | Sounds,
        validation: SoundSet | Sounds | None = None,
        context: SoundContext = SoundContext(),  # noqa: B008 - frozen
        *,
        batch_size: int = 16,
        target_points: int | None = None,
    ):
        learned = as_sounds(train)
        judged = None if validation is None else as_sounds(validation, rate=learned.rate, window=learned.window)
        self.train, self.validation = split_sounds(learned, judged)
        if (self.train.window, self.train.rate) != (self.validation.window, self.validation.rate):
            raise ValueError(
                f"expected validation windows of {self.train.window} samples at {self.train.rate} a second as in "
                f"training, got {self.validation.window} at {self.validation.rate}"
            )
        self.batch_size, self.target_points, self.context = batch_size, target_points, context
        self.grid = grid((self.train.window,), device=self.train.waves.device)

    @classmethod
    def load(cls, settings: SoundSettings, device: torch.device | str = "cpu") -> tuple[SoundSet, ...]:
        """Training, validation and test windows, on the device.

        Raises:
            DatasetError: If a set cannot be read.
        """
        data = settings.data.model_dump(exclude={"kind"})
        return tuple(sounds.to(device) for sounds in load_all_sounds(seed=settings.seed, **data))

    @classmethod
    def arguments(cls, settings: SoundSettings) -> dict[str, Any]:
        training = settings.training
        return {
            "context": settings.context,
            "batch_size": training.batch_size,
            "target_points": training.target_points,
        }

    def describe(self) -> dict[str, int]:
        """What `hypersiren.hypernets.model.build` must know: D, channels of the context, channels of the field."""
        return {"in_features": 1, "channels": 1, "out_features": 1}

    def prior_signals(self, copies: int = 0, finer: int = 1, chunk: int = 4096) -> Iterator[Float[Tensor, "M FN 1"]]:
        """Training windows of root mean square 1, on a raster `finer` times as fine (see `set_prior`).

        Windows that reach beyond their recording are left out, unless all do. Every second copy runs backwards.
        """
        whole = self.train.inside.all(1)
        windows = self.train.waves[whole if whole.any() else slice(None)]
        done, total = 0, (copies + 1) * len(windows)
        for i in range(copies + 1):
            for part in windows.split(chunk):
                scaled = part / rms(part, torch.ones_like(part, dtype=torch.bool))
                yield resampled((scaled.flip(1) if i % 2 else scaled).unsqueeze(-1), finer)
                done += len(part)
                LOG.debug("prior from data: %s of %s windows", f"{done:,}", f"{total:,}")

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> SoundBatch:
        """Draw B windows, their context and their targets; the same law at any progress.

        All windows of a batch have the same number of known samples, so that none is worked on in vain.
        """
        device, n, b = self.train.waves.device, self.train.window, self.batch_size
        chosen = self.train.at(torch.randint(len(self.train), (b,), generator=generator, device=device))
        scores, count = self._scores(generator, b)
        # Samples beyond the end of a recording come last.
        cells = torch.where(chosen.inside, scores, scores - 2).topk(count).indices
        mask, known = chosen.inside.gather(1, cells), chosen.waves.gather(1, cells)
        scale = rms(known, mask)
        context = Context(self.grid[cells], (known / scale).unsqueeze(-1), mask, (n,), cells)
        y = (chosen.waves / scale).unsqueeze(-1)
        if self.target_points is None:
            return SoundBatch(context, self.grid, y, chosen.inside)
        target = torch.randint(n, (b, self.target_points), generator=generator, device=device)
        return SoundBatch(
            context, self.grid[target], y.gather(1, target.unsqueeze(-1)), chosen.inside.gather(1, target)
        )

    def _scores(self, generator: torch.Generator, count: int) -> tuple[Float[Tensor, "B N"], int]:
        """Random numbers, the largest of which are at known samples, and how many of these each window has."""
        device, n = self.train.waves.device, self.train.window
        draw = torch.rand(2, generator=host_generator(generator)).tolist()
        scores = torch.rand(count, n, generator=generator, device=device)
        low, high = self.context.fewest, self.context.most
        known = max(1, round(n * low * (high / low) ** draw[0]))
        if draw[1] < self.context.gaps and (lost := round(n * self.context.gap)) < n:
            known = n - lost
            start = torch.randint(known + 1, (count, 1), generator=generator, device=device)
            place = torch.arange(n, device=device)
            scores = torch.where((place >= start) & (place < start + lost), scores - 1, scores)
        return scores, known

    @property
    def raster(self) -> tuple[int, ...]:
        """On which the errors of a correction are taken, see `hypersiren.completion.correcting`."""
        return (self.train.window,)

    def pairs(self, generator: torch.Generator, count: int) -> Pairs:
        """`count` windows that are known at the same samples; windows that reach beyond their recording are left out,
        unless all do.

        Their errors count relative to their power, as those of the table do.
        """
        device, n = self.train.waves.device, self.train.window
        whole = self.train.inside.all(1).nonzero().flatten()
        rows = whole if len(whole) else torch.arange(len(self.train), device=device)
        waves = self.train.waves[rows[torch.randint(len(rows), (count,), generator=generator, device=device)]]
        scores, known = self._scores(generator, 1)
        cells = scores.topk(known).indices.expand(count, -1)
        everywhere = torch.ones_like(cells, dtype=torch.bool)
        values = waves.gather(1, cells)
        scale = rms(values, everywhere)
        power = (waves / scale).square().mean(1)
        context = Context(self.grid[cells], (values / scale).unsqueeze(-1), everywhere, (n,), cells, shared_points=True)
        return Pairs(context, (waves / scale).unsqueeze(-1), 1 / power.clamp(min=LEAST_POWER))

    def loss(self, field: Field, batch: SoundBatch) -> dict[str, Tensor]:
        """The mean squared error over the target samples, relative to their power, the mean over windows."""
        return {"mse": relative_mse(field(batch.x).squeeze(-1), batch.y.squeeze(-1), batch.inside).mean()}

    def likelihood(self, prediction: Prediction, batch: SoundBatch) -> Tensor:
        """The mean negative log likelihood of the target samples within their recordings."""
        each = negative_log_likelihood(posterior_of(prediction, "loss.likelihood"), batch.x, batch.y).squeeze(-1)
        return ((each * batch.inside).sum(1) / batch.inside.sum(1).clamp(min=1)).mean()

    def share(self, batch: SoundBatch, index: int, count: int) -> SoundBatch:
        """A part of the windows, see `share_signals`."""
        return share_signals(batch, index, count)

    def digest(self) -> str:
        parts = [v for sounds in (self.train, self.validation) for v in (sounds.waves, sounds.inside, sounds.recording)]
        return content_digest(*parts, self.train.rate)

    def mask(self, signals: SoundSet, context: str, seed: int = 0) -> Bool[Tensor, "M N"]:
        return context_masks(signals, [context], self.context.gap, seed)[context]

    def source(self, signals: SoundSet) -> Int[Tensor, " M"]:
        return signals.recording

    def case(self, signals: SoundSet, mask: Bool[Tensor, "M N"]) -> Case:
        return sound_case(signals, mask)

    def error(self, case: Case, completion: Float[Tensor, "B P 1"]) -> Float[Tensor, " B"]:
        """The squared error over the power of the truth."""
        return relative_mse(completion.squeeze(-1), case.truth.squeeze(-1), case.counted)

    def numbers(self, prediction: Prediction) -> int:
        """Those of a last layer that is solved are no more than its posterior's rank."""
        numbers = super().numbers(prediction)
        return numbers if prediction.posterior is None else min(prediction.posterior.rank, numbers)

    def notes(self, signals: int, few: int, numbers: int) -> list[str]:
        return [
            f"squared error over the power of the window, mean over {signals} test windows; silence has 1",
            "* best of its column; kept: the method keeps what is known",
            f"hypersiren has {numbers} numbers per window",
        ]

    def tested(self, most: int) -> SoundSet:
        """`most` test windows, from all over the set."""
        return self.test.spread(most)

    def judged(self, context: str) -> SoundSet:
        return self.validation.spread(MOST)

    def baselines(self, numbers: int) -> Callable[[Case], list[Baseline]]:
        """What training windows that lie within their recordings say, and interpolations."""
        return fitted(self.train, numbers)

    @staticmethod
    def words(context: str) -> str:
        """A context in words.

        Example:
            >>> SoundCompletion.words("25%"), SoundCompletion.words("gap")
            ('from 25 % of the samples', 'from all samples but those of a gap')
        """
        words = {"gap": "all samples but those of a gap", "all": "all samples"}
        return f"from {words.get(context, f'{context[:-1]} % of the samples')}"

    @staticmethod
    def label(context: str) -> str:
        return context.replace("%", "")

    def panels(self, predict: Predict, rows: int = 4, seconds: float = 2.0) -> dict[str, Panel]:
        """For each context a picture of some windows, and the first recordings to listen to, beside the truth."""
        shown = self.validation.spread(rows)
        count = max(1, round(seconds * self.validation.rate / self.validation.window))
        heard = self.validation.at(slice(count))
        panels: dict[str, Panel] = {"truth": _playable(heard.waves, heard)}
        for name in self.contexts:
            label, mask = self.label(name), self.mask(heard, name)
            panels[f"{label}_completion"] = _playable(self.complete(predict, heard, mask).squeeze(-1), heard)
            panels[f"{label}_context"] = _playable(heard.waves * mask, heard)
            mask = self.mask(shown, name)
            completion = self.complete(predict, shown, mask).squeeze(-1)
            panels[label] = ImagePanel.of(completion_picture(shown, mask, completion))
        return panels

    def summary(self, predict: Predict) -> Rows:
        """Two windows from each context: the truth and the completion."""
        shown = self.validation.spread(2)
        time = 1000 * (np.arange(shown.window) + 0.5) / shown.rate
        rows: list[dict[str, Plot]] = []
        for name in self.contexts:
            completion = self.complete(predict, shown, self.mask(shown, name)).squeeze(-1).cpu().numpy()
            row: dict[str, Plot] = {}
            for i, (truth, inside) in enumerate(
                zip(shown.waves.cpu().numpy(), shown.inside.cpu().numpy(), strict=True)
            ):
                lines = {"truth": (time[inside], truth[inside]), "completion": (time[inside], completion[i][inside])}
                row[f"{name} {i}"] = Curve(f"Window {i + 1} {self.words(name)}", lines, "time (ms)", "amplitude")
            rows.append(row)
        return rows


def _playable(waves: Float[Tensor, "M N"], sounds: SoundSet) -> SoundPanel:
    """Windows one after the other, scaled so that the loudest sample of the true ones is 0.9."""
    loudest = sounds.waves.abs().max().clamp(min=FLOOR)
    return SoundPanel((0.9 * waves / loudest)[sounds.inside].clamp(-1, 1).unsqueeze(-1), sounds.rate)
