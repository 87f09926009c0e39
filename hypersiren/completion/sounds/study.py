"""Evaluation of sound completion, and completion of a user's recordings.

The error of a window is its squared error divided by the power of the truth, the table's number the mean over windows;
the signal to noise ratio in dB is -10 log10 of each window's error, and the mean of these. Windows differ in loudness
by 60 dB: so none drowns the others.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.complete import Output
from hypersiren.completion.prediction import completed, posterior_for_samples, predict_whole, prediction
from hypersiren.completion.sounds.cases import completion_picture, relative_mse
from hypersiren.completion.sounds.task import SoundCompletion
from hypersiren.completion.table import OURS, PRIOR, Table, completion_table
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate, grid
from hypersiren.hypernets.adapters.mixture import MixtureSolve
from hypersiren.hypernets.model import HyperSiren
from hypersiren.hypernets.settings import Prior
from hypersiren.plotting import Pixels
from hypersiren.signals.image.files import write_image
from hypersiren.signals.sets.sounds import SoundSet, at_rate
from hypersiren.signals.sound.files import read_sound, write_sound

LOG = logging.getLogger(__name__)

ONE = "one prior from data"


def one_prior(model: HyperSiren, task: SoundCompletion, prior: Prior) -> HyperSiren:
    """The model's hypo-SIREN with a single Gaussian of the same rank from training windows, not trained."""
    siren = copy.deepcopy(model.siren)
    rank, width = task.numbers(predict_whole(task, model)), list(siren.shapes.values())[-2][1]
    single = HyperSiren(None, None, siren, MixtureSolve(width, priors=1, rank=rank).to(_device(model)))
    signals = task.prior_signals(prior.copies, prior.finer)
    single.set_prior(signals, ridge=prior.ridge, shrinkage=prior.shrinkage)
    return single.eval()


def _device(model: HyperSiren) -> torch.device:
    return next(model.parameters()).device


@torch.no_grad()
def sampled(
    model: HyperSiren, task: SoundCompletion, sounds: SoundSet, mask: Bool[Tensor, "M N"], count: int, seed: int = 0
) -> Float[Tensor, "M K N"]:
    """`count` samples of the posterior of every window; silence where the completion is.

    Raises:
        UserError: If the model has no posterior.
    """
    generator = torch.Generator(sounds.waves.device).manual_seed(seed)
    drawn = []
    for case in task.split(sounds, mask, copies=count):
        posterior = posterior_for_samples(prediction(model, case.context))
        field = posterior.siren.bind(posterior.sample(count, generator))
        y = evaluate(field, case.x, chunk=max(1, task.points // (count * len(case.truth)))).unflatten(0, (-1, count))
        drawn.append(y.squeeze(-1) * case.scale)
    return torch.cat(drawn)


def window_picture(
    model: HyperSiren,
    task: SoundCompletion,
    sounds: SoundSet,
    mask: Bool[Tensor, "M N"],
    samples: Float[Tensor, "M K N"] | None,
    title: str,
) -> Pixels:
    """Windows with their completions, its 90 % interval, and samples if there are any."""
    values, deviation = completed(model, task, sounds, mask)
    band = None if deviation is None else deviation.squeeze(-1)
    return completion_picture(sounds, mask, values.squeeze(-1), band, samples, title)


OPTIONS = ("mask", "share", "gap", "samples")
"""Options of the command that sounds have a meaning for."""


def table(run: SetRun, task: SoundCompletion, before: HyperSiren | None, *, most: int, refine: int = 0) -> Table:
    """The table over test windows, with rows for the model before its training and for a single Gaussian."""
    models = {OURS: run.model} | ({} if before is None else {PRIOR: before})
    models[ONE] = one_prior(run.model, task, run.settings.prior)
    return completion_table(task, models, most=most)


def metrics(table: Table) -> dict[str, Any]:
    """The numbers of a table."""
    return {
        "errors": table.rows,
        "unknown": table.unknown,
        "snr": table.blocks[2].rows,
        "coverage": table.coverage,
        "windows": table.signals,
        "numbers": table.numbers,
    }


def draw(run: SetRun, task: SoundCompletion, folder: Path, samples: int | None) -> None:
    """Some windows as pictures, and the first 40 one after the other as sounds, for each context."""
    shown, heard = task.test.spread(4), task.test.at(slice(40))
    factor = 0.9 / heard.waves.abs().max().item()

    def write(name: str, waves: Tensor) -> None:
        wave = (factor * waves[heard.inside]).clamp(-1, 1).cpu().numpy()[:, None]
        write_sound(folder / f"{name}.wav", wave, heard.rate)

    write("truth", heard.waves)
    for name in task.contexts:
        label, mask = name.replace("%", "_percent"), task.mask(shown, name)
        drawn = sampled(run.model, task, shown, mask, samples) if samples else None
        title = f"Test windows completed {task.words(name)}"
        write_image(folder / f"{label}.png", window_picture(run.model, task, shown, mask, drawn, title))
        mask = task.mask(heard, name)
        write(f"{label}_context", heard.waves * mask)
        write(f"{label}_completion", task.complete(run.model.field, heard, mask).squeeze(-1))


def complete(
    run: SetRun,
    files: Sequence[Path],
    *,
    size: int,
    seed: int,
    refine: int,
    mask: Path | None = None,
    share: float | None = None,
    gap: float | None = None,
    samples: int | None = None,
) -> Iterator[tuple[str, list[Output]]]:
    """Complete a user's recordings, at the model's rate; see `Study.complete`.

    Windows overlap by half and are faded into each other. Beside each completion lie its context, the truth and a
    picture of the window where the completion is worst.

    Args:
        run: What `hypersiren train` left.
        files: Of any kind that libsndfile reads, of any rate; channels are averaged.
        size: Not used: sounds have their rate.
        seed: Fixes the known samples, and those drawn.
        refine: Not used.
        mask: A sound file as long as the recording: known where it is not 0.
        share: Known share of the samples, at random; by default a quarter, or all that a mask or gaps leave.
        gap: Milliseconds that are lost in every window.
        samples: Samples drawn of each recording, as files of their own.
    """
    data = run.settings.data
    longest = 1000 * data.window / data.rate
    if share is not None and not 0 < share <= 1:
        raise UserError(f"expected --share above 0 and up to 1, got {share:g}")
    if gap is not None and not 0 < gap < longest:
        raise UserError(f"expected --gap above 0 and below the {longest:g} ms of a window, got {gap:g}")
    recordings = [read_sound(path) for path in files]
    for path, sound in zip(files, recordings, strict=True):
        LOG.debug("completing %s", path)
        wave = torch.from_numpy(at_rate(sound.wave.mean(1), sound.rate, data.rate))
        known = _known_samples(len(wave), data.rate, data.window, share, gap, seed, alone=mask is None)
        if mask is not None:
            known &= _read_mask(mask, len(sound.wave), len(wave))
        done = complete_recording(run.model, wave, known, data.window, data.rate, samples=samples or 0, seed=seed)
        sounds = {"completed": done.wave, "context": wave * known, "truth": wave}
        sounds |= {f"sample{i}": values for i, values in enumerate(done.samples, 1)}
        outputs = [
            Output(
                f"{name}.wav",
                partial(write_sound, wave=values.clamp(-1, 1).numpy()[:, None], rate=data.rate),
                told=name not in ("context", "truth"),
            )
            for name, values in sounds.items()
        ]
        yield path.stem, [*outputs, Output("panel.png", partial(write_image, pixels=done.picture))]


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
    task = SoundCompletion(sounds, sounds)
    fade = (1 - (grid((window,)).squeeze(-1)).abs()) * inside

    def joined(windows: Float[Tensor, "M *k N"]) -> Float[Tensor, "*k L"]:
        flat = windows.movedim(0, -2).flatten(-2)
        return torch.zeros(*flat.shape[:-1], count).index_add(-1, place.flatten(), flat)

    drawn = sampled(model, task, sounds, mask, samples, seed) if samples else None
    done = task.complete(model.field, sounds, mask).squeeze(-1).cpu()
    mean = joined(done * fade) / joined(fade)
    draws = torch.zeros(0, count)
    if drawn is not None:
        departing = (drawn.cpu() - done[:, None]) * fade[:, None]
        draws = mean + joined(departing) / joined(fade.square()).sqrt()
    error = relative_mse(done, sounds.waves.cpu(), inside) * (sounds.waves.cpu().abs().amax(1) > 0)
    worst = error.argmax()[None]
    title = f"Window with the largest error, from {starts[worst].item() / rate:.3f} s of the recording"
    lines = None if drawn is None else drawn[worst]
    return CompletedRecording(mean, draws, window_picture(model, task, sounds.at(worst), mask[worst], lines, title))
