"""Completion of sounds: predict a window of a recording from some samples of it, or across a gap.

Loudness differs from window to window by 60 dB, and a Gaussian prior wants windows of one size: each is divided by the
root mean square of its known samples, and the prediction multiplied by it. Errors are relative to the window's own
power: 1 is what silence has.

Symbols: M windows of a set, B of a batch, N samples of a window, P known or queried samples.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.base import Predict, SetTask, share_signals
from hypersiren.completion.sounds.settings import SoundContext, SoundSettings
from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.operators import Field
from hypersiren.fields.shown import by_shape
from hypersiren.hypernets.adapters.base import Prediction, posterior_of
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import NINETY, negative_log_likelihood
from hypersiren.plotting import Curve, Plot, figure_pixels, new_figure
from hypersiren.signals.sets.sounds import Sounds, SoundSet, as_sounds, load_sounds, split_sounds
from hypersiren.signals.sets.sources import SPLITS, skipped_files
from hypersiren.signals.sound.cosines import resampled
from hypersiren.tasks.panels import ImagePanel, Panel, SoundPanel
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import content_digest

LOG = logging.getLogger(__name__)

CONTEXTS = ("10%", "25%", "50%", "gap", "all")
"""The contexts of the test: shares of the samples at random, all but one run of them, all."""

FLOOR = 1e-6
"""Root mean square, of full scale, that no window is scaled above."""

MOST = 100
"""Validation windows that a model is judged on during training."""


def named(context: str) -> str:
    """A context in words.

    Example:
        >>> named("25%"), named("gap")
        ('from 25 % of the samples', 'from all samples but those of a gap')
    """
    words = {"gap": "all samples but those of a gap", "all": "all samples"}
    return f"from {words.get(context, f'{context[:-1]} % of the samples')}"


def _label(context: str) -> str:
    return context.replace("%", "")


@dataclass(frozen=True)
class SoundBatch:
    """B windows, each divided by its scale: what is known, and what the field is asked.

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


def _beside(generator: torch.Generator) -> torch.Generator:
    """A generator of the processor for numbers that the host must know: of a device's, one in the same state.

    What a device draws would have to be waited for.
    """
    if generator.device.type == "cpu":
        return generator
    return torch.Generator().manual_seed(crc32(generator.get_state().numpy().tobytes()))


class SoundCompletion(SetTask):
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
    skipped: tuple[str, ...] = ()
    train: SoundSet
    criterion: str | None = "mse"
    measures = (
        Measure("mse", "squared error over the power of the window, mean over contexts"),
        *(
            Measure(f"mse_{_label(name)}", f"squared error over the power of the window, {named(name)}")
            for name in CONTEXTS
        ),
    )

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
    def open(cls, settings: SoundSettings, device: torch.device | str = "cpu") -> "SoundCompletion":
        """The task that settings describe, its recordings read.

        Raises:
            DatasetError: If a set cannot be read.
        """
        # The test set is read too, so that a missing one is found before the training.
        sets = open_sets(settings)
        train, validation, _ = (sounds.to(device) for sounds in sets)
        training = settings.training
        task = cls(
            train,
            validation,
            settings.context,
            batch_size=training.batch_size,
            target_points=training.target_points,
        )
        task.skipped = skipped_files(*sets)
        return task

    def describe(self) -> dict[str, int]:
        """What `hypersiren.hypernets.model.build` must know: D, channels of the context, channels of the field."""
        return {"in_features": 1, "channels": 1, "out_features": 1}

    def prior_signals(self, copies: int = 0, finer: int = 1, chunk: int = 4096) -> Iterator[Float[Tensor, "M FN 1"]]:
        """Training windows of root mean square 1, on a raster so many times as fine (see `set_prior`).

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
        draw = torch.rand(2, generator=_beside(generator)).tolist()
        scores = torch.rand(b, n, generator=generator, device=device)
        low, high = self.context.fewest, self.context.most
        count = max(1, round(n * low * (high / low) ** draw[0]))
        if draw[1] < self.context.gaps and (lost := round(n * self.context.gap)) < n:
            count = n - lost
            start = torch.randint(count + 1, (b, 1), generator=generator, device=device)
            place = torch.arange(n, device=device)
            scores = torch.where((place >= start) & (place < start + lost), scores - 1, scores)
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

    def loss(self, field: Field, batch: SoundBatch) -> dict[str, Tensor]:
        """The mean squared error over the target samples, relative to their power, the mean over windows."""
        return {"mse": relative_mse(field(batch.x).squeeze(-1), batch.y.squeeze(-1), batch.inside).mean()}

    def likelihood(self, found: Prediction, batch: SoundBatch) -> Tensor:
        """The mean negative log likelihood of the target samples within their recordings."""
        each = negative_log_likelihood(posterior_of(found, "loss.likelihood"), batch.x, batch.y).squeeze(-1)
        return ((each * batch.inside).sum(1) / batch.inside.sum(1).clamp(min=1)).mean()

    def share(self, batch: SoundBatch, index: int, count: int) -> SoundBatch:
        """A part of the windows, see `share_signals`."""
        return share_signals(batch, index, count)

    def digest(self) -> str:
        parts = [v for sounds in (self.train, self.validation) for v in (sounds.waves, sounds.inside, sounds.recording)]
        return content_digest(*parts, self.train.rate)

    def held_out(self, most: int = 32) -> Iterator[tuple[Context, Tensor, Tensor, Tensor]]:
        """Validation windows from each context that leaves samples unknown, see `HyperSiren.calibrate`."""
        shown = self.validation.spread(most)
        for mask in context_masks(shown, CONTEXTS, self.context.gap).values():
            known, scale = known_context(shown, mask)
            yield known, self.grid, (shown.waves / scale).unsqueeze(-1), shown.inside & ~mask

    def evaluate(self, predict: Predict) -> dict[str, float]:
        """The validation error for each context, and their mean."""
        judged = self.validation.spread(MOST)
        masks = context_masks(judged, CONTEXTS, self.context.gap)
        errors = {
            f"mse_{_label(name)}": relative_mse(complete(predict, judged, mask), judged.waves, judged.inside)
            .mean()
            .item()
            for name, mask in masks.items()
        }
        return {"mse": sum(errors.values()) / len(errors), **errors}

    def panels(self, predict: Predict, rows: int = 4, seconds: float = 2.0) -> dict[str, Panel]:
        """For each context a picture of some windows, and the first recordings to listen to, beside the truth."""
        shown, masks = self.validation.spread(rows), {}
        count = max(1, round(seconds * self.validation.rate / self.validation.window))
        heard = self.validation.at(slice(count))
        panels: dict[str, Panel] = {"truth": _playable(heard.waves, heard)}
        masks = context_masks(shown, CONTEXTS, self.context.gap)
        for name, mask in context_masks(heard, CONTEXTS, self.context.gap).items():
            label = _label(name)
            panels[f"{label}_completion"] = _playable(complete(predict, heard, mask), heard)
            panels[f"{label}_context"] = _playable(heard.waves * mask, heard)
            drawn = completion_picture(shown, masks[name], complete(predict, shown, masks[name]))
            panels[label] = ImagePanel.of(drawn)
        return panels

    def summary(self, predict: Predict) -> Rows:
        """Two windows from each context: the truth and the completion."""
        shown = self.validation.spread(2)
        time = 1000 * (np.arange(shown.window) + 0.5) / shown.rate
        rows: list[dict[str, Plot]] = []
        for name, mask in context_masks(shown, CONTEXTS, self.context.gap).items():
            found, words = complete(predict, shown, mask).cpu().numpy(), named(name)
            row: dict[str, Plot] = {}
            for i, (truth, inside) in enumerate(
                zip(shown.waves.cpu().numpy(), shown.inside.cpu().numpy(), strict=True)
            ):
                lines = {"truth": (time[inside], truth[inside]), "completion": (time[inside], found[i][inside])}
                row[f"{name} {i}"] = Curve(f"Window {i + 1} {words}", lines, "time (ms)", "amplitude")
            rows.append(row)
        return rows


def _playable(waves: Float[Tensor, "M N"], sounds: SoundSet) -> SoundPanel:
    """Windows one after the other, scaled so that the loudest sample of the true ones is 0.9."""
    loudest = sounds.waves.abs().max().clamp(min=FLOOR)
    return SoundPanel((0.9 * waves / loudest)[sounds.inside].clamp(-1, 1).unsqueeze(-1), sounds.rate)


def rms(waves: Float[Tensor, "B P"], mask: Bool[Tensor, "B P"]) -> Float[Tensor, "B 1"]:
    """The root mean square over what is known, at least `FLOOR`.

    Example:
        >>> rms(torch.tensor([[3.0, 4.0, 9.0]]), torch.tensor([[True, True, False]])).square().item()
        12.5
    """
    square = torch.where(mask, waves, 0).square().sum(1, keepdim=True)
    return (square / mask.sum(1, keepdim=True).clamp(min=1)).sqrt().clamp(min=FLOOR)


def relative_mse(
    completion: Float[Tensor, "B P"], truth: Float[Tensor, "B P"], counted: Bool[Tensor, "B P"]
) -> Float[Tensor, " B"]:
    """The squared error of each window, divided by the power of the truth: 10^(-SNR / 10).

    Example:
        >>> relative_mse(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]])).item()
        0.800000011920929
    """
    wrong, power = (torch.where(counted, v, 0).square().sum(1) for v in (completion - truth, truth))
    return wrong / power.clamp(min=FLOOR**2)


def context_masks(
    sounds: SoundSet, names: Sequence[str] = CONTEXTS, gap: float = 0.125, seed: int = 0
) -> dict[str, Bool[Tensor, "M N"]]:
    """Which samples of each window are known in the named contexts; the same on every machine for a seed.

    Args:
        sounds: The set; samples beyond the end of a recording are never known.
        names: "all", "gap" (all but one run of samples), or a share of random samples such as "25%".
        gap: Length of the run, as a share of the window.
        seed: Of places drawn at random.

    Raises:
        ValueError: On another name.

    Example:
        >>> masks = context_masks(as_sounds(np.ones((2, 40))), ("25%", "gap"))
        >>> masks["25%"].sum(1).tolist(), masks["gap"].sum(1).tolist()
        ([10, 10], [35, 35])
    """
    m, n = sounds.waves.shape
    lengths = sounds.inside.sum(1).tolist()
    masks: dict[str, Tensor] = {}
    for name in names:
        share = _percent(name)
        generator = torch.Generator().manual_seed(seed)
        mask = torch.zeros(m, n, dtype=torch.bool)
        for i, length in enumerate(lengths):
            if share is not None:
                mask[i, torch.randperm(length, generator=generator)[: max(1, round(share * length))]] = True
            else:
                mask[i, :length] = True
            lost = min(round(gap * n), length - 1)
            if name == "gap":
                start = int(torch.randint(length - lost + 1, (1,), generator=generator))
                mask[i, start : start + lost] = False
        masks[name] = mask.to(sounds.waves.device)
    return masks


def _percent(name: str) -> float | None:
    """A share from 0 to 1, or None for the contexts that are none."""
    if name in ("gap", "all"):
        return None
    number = name.removesuffix("%")
    if name == number or not number.isdigit() or not 0 < int(number) <= 100:
        raise ValueError(f'expected "all", "gap" or a share such as "25%", got "{name}"')
    return int(number) / 100


def known_context(sounds: SoundSet, mask: Bool[Tensor, "M N"]) -> tuple[Context, Float[Tensor, "M 1"]]:
    """The known samples of windows, divided by their scales, and these."""
    scale = rms(sounds.waves, mask)
    return Context.from_rasters((sounds.waves / scale).unsqueeze(-1), mask).compact(), scale


@torch.no_grad()
def complete(
    predict: Predict, sounds: SoundSet, mask: Bool[Tensor, "M N"], points: int = 16384
) -> Float[Tensor, "M N"]:
    """Complete every window from its known samples, about so many samples at a time.

    Where nothing is known, or nothing but silence, the completion is silence.
    """
    n = sounds.window
    x = grid((n,), device=sounds.waves.device)
    out = []
    for index in torch.arange(len(sounds), device=x.device).split(max(1, points // n)):
        context, scale = known_context(sounds.at(index), mask[index])
        some = scale > FLOOR
        out.append(torch.where(some, evaluate(predict(context), x, chunk=points).squeeze(-1) * scale, 0))
    return torch.cat(out)


def completion_picture(
    sounds: SoundSet,
    mask: Bool[Tensor, "M N"],
    completion: Float[Tensor, "M N"],
    deviation: Float[Tensor, "M N"] | None = None,
    drawn: Float[Tensor, "M K N"] | None = None,
    title: str = "",
) -> np.ndarray:
    """A row for each window: the truth, the completion with its 90 % interval, and the known samples as dots.

    Args:
        sounds: The windows.
        mask: Which samples are known.
        completion: The completed windows.
        deviation: Their standard deviations, for the interval; None for none.
        drawn: K draws of what each window may be, as thin lines; None for none.
        title: Of the picture.
    """
    figure, axes = new_figure(150 * len(sounds) + 85 + 25 * bool(title), 900, len(sounds), sharex=True)
    milliseconds = 1000 * (np.arange(sounds.window) + 0.5) / sounds.rate
    parts = (sounds.waves, completion, mask, sounds.inside)
    rows = zip(*(part.cpu().numpy() for part in parts), strict=True)
    spread = None if deviation is None else deviation.cpu().numpy()
    lines = None if drawn is None else drawn.cpu().numpy()
    for i, (truth, found, known, inside) in enumerate(rows):
        one, time = axes[i, 0], milliseconds[inside]
        if spread is not None:
            low, high = (found + sign * NINETY * spread[i] for sign in (-1, 1))
            band = {"color": "tab:orange", "alpha": 0.3, "lw": 0}
            one.fill_between(time, low[inside], high[inside], label="90 % interval", **band)
        for number, line in enumerate(() if lines is None else lines[i]):
            one.plot(time, line[inside], color="tab:green", lw=0.6, label="_" if number else "posterior samples")
        one.plot(time, truth[inside], color="0.6", lw=1.5, label="truth")
        one.plot(time, found[inside], color="tab:orange", lw=1, label="completion")
        dots = {"ls": "", "marker": ".", "ms": 3, "color": "tab:blue"}
        one.plot(milliseconds[known], truth[known], label="known", **dots)
        peak = 1.3 * max(float(np.abs(truth).max()), FLOOR)
        one.set(ylabel="amplitude", ylim=(-peak, peak), xlim=(0, 1000 * sounds.window / sounds.rate))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    axes[-1, 0].set_xlabel("time (ms)")
    figure.suptitle(title, fontsize=11)
    return figure_pixels(figure)


def open_sets(settings: SoundSettings) -> tuple[SoundSet, SoundSet, SoundSet]:
    """Training, validation and test windows, on the CPU."""
    arguments = settings.data.model_dump(exclude={"kind"})
    train, validation, test = (load_sounds(split=split, seed=settings.seed, **arguments) for split in SPLITS)
    return train, validation, test
