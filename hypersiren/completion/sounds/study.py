"""What a hypernetwork over sounds is worth: unseen recordings from some samples, beside what needs no network.

The error of a window is its squared error divided by the power of the truth, the table's number the mean over windows;
the signal to noise ratio in dB is -10 log10 of each window's error, and the mean of these. Windows differ in loudness
by 60 dB: so none drowns the others.
"""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.images.study import Rows, read_prior, short_number
from hypersiren.completion.prediction import numbers_per_signal, posterior_for_samples, prediction
from hypersiren.completion.sounds.baselines import Baselines, Windows
from hypersiren.completion.sounds.settings import SoundSettings
from hypersiren.completion.sounds.task import (
    CONTEXTS,
    FLOOR,
    SoundCompletion,
    complete,
    completion_picture,
    context_masks,
    known_context,
    named,
    open_sets,
    relative_mse,
)
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate, grid
from hypersiren.hypernets.adapters.mixture import MixtureSolve
from hypersiren.hypernets.gaussian.calibration import NINETY
from hypersiren.hypernets.model import HyperSiren
from hypersiren.signals.image.files import write_image
from hypersiren.signals.sets.sounds import SoundSet, at_rate
from hypersiren.signals.sets.sources import skipped_files
from hypersiren.signals.sound.files import read_sound, write_sound
from hypersiren.training.folders import check_names, to_json, unused, write_text

LOG = logging.getLogger(__name__)

OURS, BEFORE, ONE = "hypersiren", "before training", "one prior from data"

WHOLE, UNKNOWN, RATIO = "all samples", "unknown samples only (known ones put back)", "SNR of all samples, dB"

KEEPING = ("linear", "Gaussian")
"""Methods whose known samples keep their values."""


@dataclass(frozen=True)
class SoundTable:
    """Test errors by method and context.

    Attributes:
        rows: Errors over all samples.
        unknown: The same after known samples are put back; none where all are known.
        ratio: Mean signal to noise ratios in dB, over all samples.
        coverage: Of methods that know a posterior, the share of unknown samples in its 90 % interval, in percent.
        windows: Test windows that all numbers are means over.
        numbers: Numbers that the model has for each window.
    """

    rows: Rows
    unknown: Rows
    ratio: Rows
    coverage: Rows
    windows: int
    numbers: int

    def best(self, rows: Rows, name: str, largest: bool = False) -> list[str]:
        """The methods with the lowest (or largest) number; those that only keep what is known do not compete."""
        found = {m: row[name] for m, row in rows.items() if name in row and not (name == "all" and m in KEEPING)}
        if not found:
            return []
        wanted = max(found.values()) if largest else min(found.values())
        return [method for method, value in found.items() if value == wanted]

    def __str__(self) -> str:
        names = list(self.rows[OURS])
        width = max(map(len, [*self.rows, WHOLE, UNKNOWN, RATIO])) + 2
        lines = ["context".ljust(width) + "".join(f"{name:>9} " for name in names).rstrip()]
        for title, rows in ((WHOLE, self.rows), (UNKNOWN, self.unknown), (RATIO, self.ratio)):
            best = {name: self.best(rows, name, rows is self.ratio) for name in names}
            lines += ["", title]
            for method, row in rows.items():
                cells = [self._cell(method, name, row, best[name], rows is self.ratio) for name in names]
                lines.append((method.ljust(width) + "".join(f"{cell:>10}" for cell in cells)).rstrip())
        if self.coverage:
            lines += ["", "unknown samples in the 90 % interval, % (90 is right)"]
            for method, row in self.coverage.items():
                cells = [f"{row[name]:.1f} " if name in row else "" for name in names]
                lines.append((method.ljust(width) + "".join(f"{cell:>10}" for cell in cells)).rstrip())
        return "\n".join(
            [
                *lines,
                "",
                f"squared error over the power of the window, mean over {self.windows} test windows; silence has 1",
                "* best of its column; kept: the method keeps what is known",
                f"{OURS} has {self.numbers} numbers per window",
            ]
        )

    def _cell(self, method: str, name: str, row: Mapping[str, float], best: Sequence[str], ratio: bool) -> str:
        if name not in row:
            return ""
        if method in KEEPING and name == "all":
            return "kept "
        value = row[name]
        text = f"{value:.1f}" if ratio else short_number(value)
        return text + ("*" if method in best else " ")


def one_prior(model: HyperSiren, train: SoundSet, settings: SoundSettings) -> HyperSiren:
    """The model's hypo-SIREN with one prior of as many numbers, from the training windows, without a gradient step."""
    siren = copy.deepcopy(model.siren)
    width, prior = list(siren.shapes.values())[-2][1], settings.prior
    single = HyperSiren(
        None, None, siren, MixtureSolve(width, priors=1, rank=_numbers(model, train)).to(_device(model))
    )
    signals = SoundCompletion(train, train).prior_signals(prior.copies, prior.finer)
    single.set_prior(signals, ridge=prior.ridge, shrinkage=prior.shrinkage)
    return single.eval()


def _numbers(model: HyperSiren, sounds: SoundSet) -> int:
    """Numbers that the model has for each window: those of its latent, or of the last layer that is solved."""
    few = sounds.at(slice(1))
    found = prediction(model, known_context(few, few.inside)[0])
    numbers = numbers_per_signal(found)
    return numbers if found.posterior is None else min(found.posterior.rank, numbers)


def _device(model: HyperSiren) -> torch.device:
    return next(model.parameters()).device


def completed(
    model: HyperSiren, sounds: SoundSet, mask: Bool[Tensor, "M N"], points: int = 16384
) -> tuple[Float[Tensor, "M N"], Float[Tensor, "M N"] | None]:
    """Every window completed from its known samples, and the standard deviation of it, where the model knows one."""
    x = grid((sounds.window,), device=sounds.waves.device)
    values, deviations = [], []
    for index in torch.arange(len(sounds), device=x.device).split(max(1, points // len(x))):
        context, scale = known_context(sounds.at(index), mask[index])
        found = prediction(model, context)
        values.append(evaluate(found.field, x).squeeze(-1) * scale)
        if found.posterior is not None:
            deviations.append(found.posterior.variance(x).squeeze(-1).sqrt() * scale)
    return torch.cat(values), torch.cat(deviations) if deviations else None


@torch.no_grad()
def drawn_windows(
    model: HyperSiren, sounds: SoundSet, mask: Bool[Tensor, "M N"], count: int, seed: int = 0, points: int = 16384
) -> Float[Tensor, "M K N"]:
    """So many draws of what every window may be; silence where `complete` gives it.

    Raises:
        UserError: If the model knows no posterior.
    """
    x = grid((sounds.window,), device=sounds.waves.device)
    generator = torch.Generator(x.device).manual_seed(seed)
    drawn = []
    for index in torch.arange(len(sounds), device=x.device).split(max(1, points // (count * len(x)))):
        context, scale = known_context(sounds.at(index), mask[index])
        posterior = posterior_for_samples(prediction(model, context))
        field = posterior.siren.bind(posterior.sample(count, generator))
        waves = evaluate(field, x, chunk=max(1, points // (count * len(index)))).squeeze(-1).unflatten(0, (-1, count))
        drawn.append(torch.where(scale > FLOOR, scale, 0).unsqueeze(-1) * waves)
    return torch.cat(drawn)


@torch.no_grad()
def sound_table(
    model: HyperSiren,
    train: SoundSet,
    validation: SoundSet,
    test: SoundSet,
    settings: SoundSettings,
    *,
    most: int = 100,
    before: HyperSiren | None = None,
) -> SoundTable:
    """The model beside the baselines on test windows, for each context.

    Args:
        model: A trained model.
        train: What baselines and the row of one prior are fitted to.
        validation: What the baselines' settings are chosen on.
        test: What is completed.
        settings: Its sections `prior` and `context` say how the row of one prior is made, and how long gaps are.
        most: So many test windows, evenly from all over the set, and at most so many validation windows.
        before: The model before its training, for a row of its own.
    """
    judged, chosen_on = test.spread(most), validation.spread(min(most, 100)).to("cpu")
    few, gap = judged.to("cpu"), settings.context.gap
    whole = train.waves[train.inside.all(1)].cpu()
    baselines = Baselines(whole if len(whole) else train.waves.cpu(), _numbers(model, train))
    models = {OURS: model} | ({} if before is None else {BEFORE: before}) | {ONE: one_prior(model, train, settings)}
    LOG.info("evaluating %d models and the baselines on %d test windows", len(models), len(judged))
    masks, other = context_masks(judged, CONTEXTS, gap), context_masks(chosen_on, CONTEXTS, gap)
    errors: dict[str, dict[str, dict[str, float]]] = {WHOLE: {}, UNKNOWN: {}, RATIO: {}}
    coverage: dict[str, dict[str, float]] = {}

    def judge(method: str, name: str, completion: Tensor) -> None:
        found = relative_mse(completion.cpu(), few.waves, few.inside)
        errors[WHOLE].setdefault(method, {})[name] = found.mean().item()
        errors[RATIO].setdefault(method, {})[name] = (-10 * found.clamp(min=1e-12).log10()).mean().item()
        if name != "all":
            unknown = few.inside & ~masks[name].cpu()
            power = relative_mse(torch.where(unknown, completion.cpu(), few.waves), few.waves, few.inside)
            errors[UNKNOWN].setdefault(method, {})[name] = power.mean().item()

    for name, mask in masks.items():
        for number, (method, one) in enumerate(models.items(), 1):
            LOG.debug("evaluating %s samples: %s (%d of %d)", name, method, number, len(models))
            if name == "all":
                judge(method, name, complete(one.field, judged, mask))
                continue
            waves, deviation = completed(one, judged, mask)
            judge(method, name, waves)
            if deviation is not None:
                unknown = judged.inside & ~mask
                within = ((waves - judged.waves).abs() <= NINETY * deviation)[unknown]
                coverage.setdefault(method, {})[name] = 100 * within.float().mean().item()
        LOG.debug("evaluating %s samples: the baselines", name)
        choosing = Windows(chosen_on.waves, other[name], chosen_on.inside)
        for method, waves in baselines.complete(choosing, Windows(few.waves, mask.cpu(), few.inside)).items():
            judge(method, name, waves)
    return SoundTable(errors[WHOLE], errors[UNKNOWN], errors[RATIO], coverage, len(judged), _numbers(model, train))


OPTIONS = ("mask", "share", "gap", "samples")
"""Options of `complete_files` that not every study has."""


def complete_test(
    run: SetRun, folder: Path, *, most: int, refine: int, samples: int | None = None
) -> tuple[SoundTable, Sequence[str]]:
    """The table over test windows, and of some recordings pictures and sounds, in the folder.

    Raises:
        UserError: If refinement is wanted, or samples of a model without a posterior.
    """
    _check_refine(refine)
    model, settings = run.model, run.settings
    LOG.info("reading sounds: %s", settings.data.kind)
    sets = open_sets(settings)
    train, validation, test = (sounds.to(_device(model)) for sounds in sets)
    shown = test.spread(4)
    if samples is not None:
        posterior_for_samples(prediction(model, known_context(shown, shown.inside)[0]))
    table = sound_table(model, train, validation, test, settings, most=most, before=read_prior(run))
    write_text(folder / "table.txt", f"{table}\n")
    numbers = {
        "errors": table.rows,
        "unknown": table.unknown,
        "snr": table.ratio,
        "coverage": table.coverage,
        "windows": table.windows,
        "numbers": table.numbers,
    }
    write_text(folder / "metrics.json", to_json(numbers))
    LOG.info("drawing pictures and writing sounds of test windows")
    for name, mask in context_masks(shown, CONTEXTS, settings.context.gap).items():
        waves, deviation = completed(model, shown, mask)
        drawn = drawn_windows(model, shown, mask, samples) if samples else None
        title = f"Test windows completed {named(name)}"
        write_image(folder / f"{_label(name)}.png", completion_picture(shown, mask, waves, deviation, drawn, title))
    heard = test.at(slice(40))
    factor = 0.9 / heard.waves.abs().max().item()

    def write(name: str, waves: Tensor) -> None:
        wave = (factor * waves[heard.inside]).clamp(-1, 1).cpu().numpy()[:, None]
        write_sound(folder / f"{name}.wav", wave, heard.rate)

    write("truth", heard.waves)
    for name, mask in context_masks(heard, CONTEXTS, settings.context.gap).items():
        write(f"{_label(name)}_context", heard.waves * mask)
        write(f"{_label(name)}_completion", complete(model.field, heard, mask))
    return table, skipped_files(*sets)


def _label(name: str) -> str:
    return name.replace("%", "_percent")


def _check_refine(refine: int) -> None:
    if refine:
        raise UserError("--refine is not for sounds: the last layer is solved, there is nothing left to fit")


def complete_files(
    run: SetRun,
    files: Sequence[Path],
    folder: Path,
    *,
    size: int,
    seed: int,
    refine: int,
    mask: Path | None = None,
    share: float | None = None,
    gap: float | None = None,
    samples: int | None = None,
) -> Iterator[Path]:
    """Complete a person's recordings, at the model's rate; the completed files and those of samples, one by one.

    Windows overlap by half and are faded into each other. Beside each completion lie what was known of it, the truth
    and a picture of the window where the completion is worst. A file that is there already stays: the new one gets a
    number.

    Args:
        run: What `hypersiren train` left.
        files: Of any kind that libsndfile reads, of any rate; channels are averaged.
        folder: Where results go.
        size: Not used: sounds have their rate.
        seed: Fixes which samples are known, and what is drawn.
        refine: Must be 0.
        mask: A sound file as long as the recording: known where it is not 0.
        share: Known share of the samples, at random; by default a quarter, or all that a mask or gaps leave.
        gap: Milliseconds that are lost in every window.
        samples: So many draws of what each recording may be, as files of their own.

    Raises:
        UserError: If a number is out of its range, a file cannot be read, or samples are wanted of a model without a
            posterior.
    """
    _check_refine(refine)
    model, data = run.model, run.settings.data
    longest = 1000 * data.window / data.rate
    if share is not None and not 0 < share <= 1:
        raise UserError(f"expected --share above 0 and up to 1, got {share:g}")
    if gap is not None and not 0 < gap < longest:
        raise UserError(f"expected --gap above 0 and below the {longest:g} ms of a window, got {gap:g}")
    if mask is not None and len(files) != 1:
        raise UserError(f"--mask belongs to one recording, got {len(files)}")
    check_names(files)
    recordings = [read_sound(path) for path in files]
    for path, sound in zip(files, recordings, strict=True):
        LOG.debug("completing %s", path)
        wave = torch.from_numpy(at_rate(sound.wave.mean(1), sound.rate, data.rate))
        known = _known_samples(len(wave), data.rate, data.window, share, gap, seed, alone=mask is None)
        if mask is not None:
            known &= _read_mask(mask, len(sound.wave), len(wave))
        found = complete_recording(model, wave, known, data.window, data.rate, samples=samples or 0, seed=seed)
        sounds = {"completed": found.wave, "context": wave * known, "truth": wave}
        sounds |= {f"sample{i}": values for i, values in enumerate(found.samples, 1)}
        names = [folder / f"{path.stem}_{name}.wav" for name in sounds]
        *written, panel = unused(*names, folder / f"{path.stem}_panel.png")
        for file, values in zip(written, sounds.values(), strict=True):
            write_sound(file, values.clamp(-1, 1).numpy()[:, None], data.rate)
        write_image(panel, found.picture)
        yield written[0]
        yield from written[3:]


def _known_samples(
    count: int, rate: int, window: int, share: float | None, gap: float | None, seed: int, *, alone: bool
) -> Bool[Tensor, " L"]:
    """Which samples of a recording are known, of a random share and with a run lost in the middle of every window."""
    if share is None:
        share = 0.25 if alone and gap is None else 1.0
    known = torch.zeros(count, dtype=torch.bool)
    known[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: max(1, round(share * count))]] = True
    if gap is not None:
        lost = max(1, round(gap * rate / 1000))
        place = torch.arange(count) % window - (window - lost) // 2
        known &= ~((place >= 0) & (place < lost))
    return known


def _read_mask(path: Path, expected: int, count: int) -> Bool[Tensor, " L"]:
    """A mask at the model's rate: that of the nearest sample."""
    found = torch.from_numpy((read_sound(path).wave != 0).any(1))
    if len(found) != expected:
        raise UserError(f"{path}: expected a mask of {expected} samples as the recording has, got {len(found)}")
    if not found.any():
        raise UserError(f"{path}: the mask leaves no sample known")
    return found[(torch.arange(count) * len(found)) // count]


@dataclass(frozen=True)
class CompletedRecording:
    """A whole recording, completed.

    Attributes:
        wave: The completion.
        samples: K draws of what the recording may be.
        picture: The window where the completion is worst.
    """

    wave: Float[Tensor, " L"]
    samples: Float[Tensor, "K L"]
    picture: np.ndarray


@torch.no_grad()
def complete_recording(
    model: HyperSiren,
    wave: Float[Tensor, " L"],
    known: Bool[Tensor, " L"],
    window: int,
    rate: int,
    *,
    samples: int = 0,
    seed: int = 0,
) -> CompletedRecording:
    """Complete a whole recording in windows that overlap by half and are faded into each other.

    Windows are drawn independently. So how draws depart from the completion is faded at equal power: it keeps its
    standard deviation where two windows overlap.

    Args:
        model: A trained model.
        wave: The recording, at the model's rate.
        known: Which of its samples are known.
        window: Samples of a window.
        rate: Samples a second.
        samples: K.
        seed: Fixes the draws.

    Raises:
        UserError: If draws are wanted of a model without a posterior.

    Example:
        >>> from hypersiren import LastLayerSolve, Siren
        >>> siren = Siren(1, 1, hidden_features=(8, 16), first_omega=10.0)
        >>> model = HyperSiren(None, None, siren, LastLayerSolve(16)).requires_grad_(False)
        >>> found = complete_recording(model, torch.ones(50), torch.arange(50) % 2 == 0, 16, 8000, samples=3)
        >>> found.wave.shape, found.samples.shape
        (torch.Size([50]), torch.Size([3, 50]))
    """
    hop, count = max(1, window // 2), len(wave)
    starts = torch.arange(0, max(1, count - window + hop), hop)
    place = starts[:, None] + torch.arange(window)
    inside, place = place < count, place.clamp(max=count - 1)
    sounds = SoundSet(wave[place] * inside, inside, torch.zeros(len(starts), dtype=torch.long), rate).to(_device(model))
    mask = (known[place] & inside).to(_device(model))
    fade = (1 - (grid((window,)).squeeze(-1)).abs()) * inside

    def joined(windows: Float[Tensor, "M *k N"]) -> Float[Tensor, "*k L"]:
        flat = windows.movedim(0, -2).flatten(-2)
        return torch.zeros(*flat.shape[:-1], count).index_add(-1, place.flatten(), flat)

    drawn = drawn_windows(model, sounds, mask, samples, seed) if samples else None
    done = complete(model.field, sounds, mask).cpu()
    mean = joined(done * fade) / joined(fade)
    draws = torch.zeros(0, count)
    if drawn is not None:
        departing = (drawn.cpu() - done[:, None]) * fade[:, None]
        draws = mean + joined(departing) / joined(fade.square()).sqrt()
    error = relative_mse(done, sounds.waves.cpu(), inside) * (sounds.waves.cpu().abs().amax(1) > 0)
    worst = error.argmax()[None]
    shown = sounds.at(worst)
    values, deviation = completed(model, shown, mask[worst])
    title = f"Window with the largest error, from {starts[worst].item() / rate:.3f} s of the recording"
    lines = None if drawn is None else drawn[worst]
    return CompletedRecording(mean, draws, completion_picture(shown, mask[worst], values, deviation, lines, title))
