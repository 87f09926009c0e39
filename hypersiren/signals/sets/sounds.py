"""Data sets: a SET of sounds, cut into windows of equal length that one tensor holds.

Recordings are read each time, 3,000 short ones in about two seconds; nothing is cached. Windows keep the
amplitudes of their recording: whoever learns from them scales each by what is known of it, see
`hypersiren.completion.sounds.task`.

Letters in shapes: M windows in the set, N samples of a window.
"""

import contextlib
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.utils.data import Dataset

from hypersiren.signals.arrays import to_tensor
from hypersiren.signals.files import SignalError
from hypersiren.signals.sets.sources import check_folder, part_of, scan
from hypersiren.signals.sets.splits import SPLITS, DatasetError, say_equal, say_splits, split_folders
from hypersiren.signals.sound.files import read_opened, read_sound
from hypersiren.signals.sound.opened import open_sound_file
from hypersiren.signals.sound.opening import FULL_SCALE

LOG = logging.getLogger(__name__)

LEAST = 0.125
"""Share of a window that a recording's end must fill to be kept."""

SILENCE = 60.0
"""Decibels below the loudest window of its recording from which on a window is left out."""

NOTHING = 1e-6
"""Root mean square, of full scale, below which a window holds nothing but rounding."""


@dataclass(frozen=True)
class SoundSet:
    """Windows of recordings, resident on a device.

    Attributes:
        waves: (M, N) amplitudes, 0 beyond the end of a recording.
        inside: Which samples lie within their recording.
        recording: Which recording each window is of; windows of one follow each other in time.
        rate: Samples a second.
        name: What people call it, e.g. "digits/train".
        skipped: "path: reason" for each file that could not be read or holds nothing to learn from.

    Example:
        >>> sounds = as_sounds([np.ones(10), np.ones(7)], rate=8000, window=4)
        >>> sounds.waves.shape, sounds.recording.tolist(), sounds.inside.sum(1).tolist()
        (torch.Size([5, 4]), [0, 0, 0, 1, 1], [4, 4, 2, 4, 3])
        >>> sounds
        SoundSet(sounds: 5 windows of 4 samples at 8000 Hz)
    """

    waves: Float[Tensor, "M N"]
    inside: Bool[Tensor, "M N"]
    recording: Int[Tensor, " M"]
    rate: int
    name: str = "sounds"
    skipped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"SoundSet({self.name}: {len(self)} windows of {self.window} samples at {self.rate} Hz)"

    def __len__(self) -> int:
        return len(self.waves)

    @property
    def window(self) -> int:
        """N."""
        return self.waves.shape[1]

    def to(self, device: torch.device | str) -> "SoundSet":
        """The same set on another device."""
        parts = {name: getattr(self, name).to(device) for name in ("waves", "inside", "recording")}
        return replace(self, **parts)

    def at(self, index: Tensor | slice) -> "SoundSet":
        """Some of the windows."""
        return replace(self, waves=self.waves[index], inside=self.inside[index], recording=self.recording[index])

    def spread(self, count: int) -> "SoundSet":
        """So many windows (or all there are) from all over the set, the first and the last among them."""
        return self.at(torch.linspace(0, len(self) - 1, min(count, len(self)), device=self.waves.device).long())

    def of(self, recording: int) -> "SoundSet":
        """The windows of one recording."""
        return self.at((self.recording == recording).nonzero()[:, 0])


Sounds = np.ndarray | Tensor | Sequence[Any] | Dataset[Any]
"""What `as_sounds` makes a set of."""


def as_sounds(
    sounds: SoundSet | Sounds,
    *,
    rate: int = 8000,
    window: int | None = None,
    hop: int | None = None,
    name: str = "sounds",
) -> SoundSet:
    """A set of sounds.

    Args:
        sounds: A set, as it is; or an array or tensor (M, N), a recording in each row; or a sequence or Dataset of
            recordings: waves (N,) or (1, N), files, or tuples whose first item is such, as torchaudio's. Floats, int16
            or int32 (which are divided by their full scale).
        rate: Samples a second; that of files must be the same.
        window: Samples of a window; None for the longest recording, shorter ones being masked.
        hop: Samples from a window to the next; None for a window.
        name: What people call it.

    Raises:
        DatasetError: If it is none of these; the message says what was expected and what came.

    Example:
        >>> as_sounds(np.ones((3, 100))).waves.shape, as_sounds([np.ones(100), np.ones(60)]).inside.sum(1).tolist()
        (torch.Size([3, 100]), [100, 60])
        >>> as_sounds([np.full(100, np.nan)])
        Traceback (most recent call last):
        ...
        hypersiren.signals.sets.splits.DatasetError: sounds: expected finite samples in recording 0
    """
    if isinstance(sounds, SoundSet):
        return sounds
    try:
        count = len(sounds)  # type: ignore[arg-type]
    except TypeError:
        kind = type(sounds).__name__
        raise DatasetError(f"sounds: expected an array (M, N), a sequence or a Dataset, got a {kind}") from None
    if isinstance(sounds, np.ndarray | Tensor) and sounds.ndim != 2:
        raise DatasetError(f"sounds: expected an array (M, N), a recording in each row, got {tuple(sounds.shape)}")
    if not count:
        raise DatasetError("sounds: expected at least one recording, got none")
    waves = [_wave(sounds[i], i, rate) for i in range(count)]
    length = max(map(len, waves)) if window is None else window
    made = cut([(str(i), wave) for i, wave in enumerate(waves)], rate, length, hop or length, name=name)
    if not len(made):
        raise DatasetError(f"sounds: nothing to learn from in {count} recordings; the first: {made.skipped[0]}")
    return made


def _wave(sound: Any, i: int, rate: int) -> Float32[np.ndarray, " N"]:
    sound = sound[0] if isinstance(sound, tuple | list) else sound
    try:
        if isinstance(sound, str | Path):
            read = read_sound(sound)
            if read.rate != rate:
                raise DatasetError(f"sounds: expected {rate} samples a second, got {read.rate} in {sound}")
            return read.wave.mean(1)
        values = to_tensor(sound, "a wave or a file").cpu()
    except SignalError as error:
        raise DatasetError(f"sounds: recording {i}: {error}") from None
    values = values[0] if values.ndim == 2 and len(values) == 1 else values
    if values.ndim != 1 or not len(values):
        raise DatasetError(f"sounds: expected a wave (N,) or (1, N) of recording {i}, got {tuple(values.shape)}")
    if values.dtype in FULL_SCALE:
        values = values.double() / FULL_SCALE[values.dtype]
    elif not values.is_floating_point():
        raise DatasetError(f"sounds: expected floats, int16 or int32 in recording {i}, got {values.dtype}")
    if not values.isfinite().all():
        raise DatasetError(f"sounds: expected finite samples in recording {i}")
    return values.float().numpy()


def cut(
    recordings: Iterable[tuple[str, np.ndarray]],
    rate: int,
    window: int,
    hop: int,
    *,
    partial: Literal["mask", "drop"] = "mask",
    silence: float = SILENCE,
    name: str = "sounds",
    skipped: Sequence[str] = (),
) -> SoundSet:
    """Windows of recordings.

    A window begins every `hop` samples. The last may reach beyond the end: its samples there are masked, if at least an
    eighth of it lies within and holds what no earlier one does. Windows so many decibels (of root mean squares) below
    the loudest of their recording, or 120 below full scale, are left out: silence teaches nothing, and no error can be
    measured against it.

    Args:
        recordings: Names and waves.
        rate: Samples a second.
        window: Samples of a window.
        hop: Samples from a window to the next.
        partial: "drop" leaves out windows that reach beyond the end.
        silence: In decibels.
        name, skipped: Handed on.
    """
    rows, lengths, owners, left = [], [], [], list(skipped)
    for i, (label, wave) in enumerate(recordings):
        starts = [s for s in range(0, len(wave), hop) if s == 0 or s - hop + window < len(wave)]
        found = [wave[s : s + window] for s in starts]
        found = [w for w in found if len(w) >= (LEAST * window if partial == "mask" else window)]
        loudness = [float(np.sqrt(np.square(w, dtype=np.float64).mean())) for w in found]
        least = max(loudness, default=0.0) * 10 ** (-silence / 20)
        kept = [w for w, level in zip(found, loudness, strict=True) if level >= max(least, NOTHING)]
        if not kept:
            left.append(f"{label}: silent" if found else f"{label}: {len(wave)} samples fill no window of {window}")
        rows += [np.pad(w, (0, window - len(w))) for w in kept]
        lengths += [len(w) for w in kept]
        owners += [i] * len(kept)
    waves = torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, window)
    inside = torch.arange(window) < torch.tensor(lengths, dtype=torch.long)[:, None]
    return SoundSet(waves, inside, torch.tensor(owners, dtype=torch.long), rate, name, tuple(left))


def split_sounds(train: SoundSet, validation: SoundSet | None) -> tuple[SoundSet, SoundSet]:
    """Both sets; without one for validation every tenth recording is held out for it.

    Raises:
        DatasetError: If there are fewer than two recordings to split.
    """
    if validation is not None:
        return train, validation
    which = train.recording.unique()
    if len(which) < 2:
        raise DatasetError(f"sounds: expected at least 2 recordings, to hold one out for validation, got {len(which)}")
    held = which[torch.arange(len(which), device=which.device) % 10 == min(9, len(which) - 1)]
    out = torch.isin(train.recording, held)
    return train.at(~out), train.at(out)


def load_sounds(
    root: Path | None,
    split: str,
    *,
    rate: int = 8000,
    window: int = 512,
    hop: int | None = None,
    partial: Literal["mask", "drop"] = "mask",
    silence: float = SILENCE,
    seed: int = 0,
) -> SoundSet:
    """The windows of all recordings of a split, from a folder.

    Subfolders train, val and test are the splits, by these names and others like them (see
    `hypersiren.signals.sets.splits.NAMES`). Where one of val and test is missing, the other is the test split and
    val is 5 % of the files of train, at random. Without train, or with nothing beside it, all files are split 90/5/5 at
    random. So no two splits have windows of one recording.

    Args:
        root: The folder; its subfolders are searched, too.
        split: "train", "val" or "test".
        rate: Samples a second: recordings of another rate are resampled (polyphase, SciPy), channels are averaged.
        window: Samples of a window.
        hop: Samples from a training window to the next, None for half a window; windows of val and test do not overlap.
        partial, silence: See `cut`.
        seed: Of splits drawn at random.

    Raises:
        DatasetError: If there is no root, the folder cannot be read, or holds too few sounds.
    """
    if split not in SPLITS:
        raise DatasetError(f"expected a split of {', '.join(SPLITS)}, got {split!r}")
    recordings = _Recordings(root, rate, whole=False)
    return _load(recordings, split, window, hop, partial=partial, silence=silence, seed=seed)


def load_all_sounds(
    root: Path | None, *, rate: int = 8000, window: int = 512, hop: int | None = None, seed: int = 0, **cutting: Any
) -> tuple[SoundSet, SoundSet, SoundSet]:
    """The splits "train", "val" and "test" of a folder, as `load_sounds` gives them; each file is opened once."""
    recordings = _Recordings(root, rate, whole=True)
    train, validation, test = (_load(recordings, split, window, hop, seed=seed, **cutting) for split in SPLITS)
    return train, validation, test


class _Recordings:
    """The recordings of a folder at a rate; if the whole of it is wanted, they are decoded when first opened.

    Raises:
        DatasetError: If there is no root, or it is no folder.
    """

    def __init__(self, root: Path | None, rate: int, whole: bool):
        if root is None:
            raise DatasetError("sounds need a root, the folder that holds them: --data.root DIR")
        self.root, self.rate, self.whole = Path(root).expanduser(), rate, whole
        check_folder(self.root)
        self._found: dict[str, np.ndarray | SignalError | None] = {}

    def holds(self, name: str) -> bool:
        """Whether a file begins as sounds do."""
        if name not in self._found:
            self._found[name] = None
            with contextlib.suppress(SignalError), open_sound_file(self.root / name) as file:
                self._found[name] = self._decoded(file, name) if self.whole else np.empty(0)
        return self._found[name] is not None

    def _decoded(self, file: Any, name: str) -> np.ndarray | SignalError:
        try:
            sound = read_opened(file, self.root / name)
        except SignalError as error:
            return error
        return at_rate(sound.wave.mean(1), sound.rate, self.rate)

    def wave(self, name: str) -> Float32[np.ndarray, " N"]:
        """A recording, its channels averaged.

        Raises:
            SignalError: If it is damaged.
        """
        if not self.whole:
            sound = read_sound(self.root / name)
            return at_rate(sound.wave.mean(1), sound.rate, self.rate)
        found = self._found[name]
        if isinstance(found, SignalError):
            raise found
        assert found is not None
        return found


def _load(files: _Recordings, split: str, window: int, hop: int | None, *, seed: int = 0, **cutting: Any) -> SoundSet:
    names, dropped = _files(files, split, seed)
    skipped, recordings = list(dropped), []
    for i, name in enumerate(names):
        LOG.debug("reading %s: %d of %d recordings", split, i, len(names))
        try:
            recordings.append((name, files.wave(name)))
        except SignalError as error:
            skipped.append(f"{name}: {error.reason}")
    step = (hop or max(1, window // 2)) if split == "train" else window
    label = f"{files.root.resolve().name}/{split}"
    made = cut(recordings, files.rate, window, step, name=label, skipped=skipped, **cutting)
    if not len(made):
        why = f"; the first: {made.skipped[0]}" if made.skipped else ""
        raise DatasetError(f"{label}: none of {len(names)} files holds a window of sound{why}")
    return made


def _files(files: _Recordings, split: str, seed: int) -> tuple[list[str], tuple[str, ...]]:
    """Files of a split, relative to the root, and "name: reason" for those that are no sounds (told of train only)."""
    root, folders = files.root, split_folders(files.root)
    apart = "train" in folders and len(folders) > 1
    if apart:
        other = folders.get("test") or folders["val"]
        below = {"train": folders["train"], "val": folders["val" if len(folders) == 3 else "train"], "test": other}
        listed = {name: [f"{part}/{file}" for file, *_ in scan(root / part)] for name, part in below.items()}
        whole = {name: _sounds(files, names) for name, names in listed.items()}
        if not whole[split][0]:
            raise DatasetError(f"expected audio files below {root / below[split]}, found none{_first(whole[split][1])}")
    else:
        whole = dict.fromkeys(SPLITS, _sounds(files, [name for name, *_ in scan(root)]))
    dropped = whole[split][1]
    parts = {name: found for name, (found, _) in whole.items()}
    if len(folders) != 3 or not apart:
        drawn = SPLITS[:2] if apart else SPLITS
        what = str(root / folders["train"]) if apart else f"{root}{_first(dropped)}"
        chosen = partial(part_of, parts["train"], seed=seed, has_test=apart, what=what, unit="audio files")
        parts |= {name: chosen(split=name) for name in drawn}
        dropped = dropped if split == "train" or (apart and split == "test") else ()
    if split == "train":
        say_splits(root, folders, {name: len(part) for name, part in parts.items()}, "recordings")
        say_equal(root, parts)
    return parts[split], dropped


def _first(dropped: Sequence[str]) -> str:
    return f" ({len(dropped)} files left out, the first {dropped[0]})" if dropped else ""


def _sounds(files: _Recordings, names: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Those files that begin as sounds do, and "name: reason" for the others."""
    kept = [name for name in names if files.holds(name)]
    dropped = [name for name in names if not files.holds(name)]
    return kept, tuple(f"{name}: not a sound that libsndfile can read" for name in dropped)


def at_rate(wave: Float32[np.ndarray, " N"], rate: int, wanted: int) -> Float32[np.ndarray, " L"]:
    """A wave at another rate.

    Example:
        >>> at_rate(np.ones(441, np.float32), 44100, 8000).shape
        (80,)
    """
    if rate == wanted:
        return wave
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    return resample_poly(wave, wanted // common, rate // common).astype(np.float32)
