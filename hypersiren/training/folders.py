"""Run folders: whose they are, which one a command gets, one process in each. Imports no torch.

A run belongs to its settings and to the digest of its signal, not to the names of files. A folder is one of ours if it
holds the file `.hypersiren`, which has the signal's digest, or, as version 0.1 left it, a configuration and a
checkpoint. While a process trains it holds a lock, `.hypersiren.lock`.
"""

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hypersiren.errors import UserError
from hypersiren.settings.describe import MISSING, differing_keys
from hypersiren.settings.yaml import from_yaml
from hypersiren.signals.files import atomic_write

MARK, LOCK = ".hypersiren", ".hypersiren.lock"

RESUMABLE = {
    "training.steps",
    "training.log_every",
    "training.validate_every",
    "training.compile",
    "training.parts",
    "device",
    "data.in_memory",
}
"""Settings that may change between the parts of one run."""

FILES = {
    "signal.path",
    "signal.mask",
    "signal.source",
    "signal.target",
    "signal.truth",
    "signal.start",
    "network.start",
    "data.root",
}
"""Settings that only say where the signal lies: they may change if the signal is the same."""

OWN = (
    "last.pt",
    "best.pt",
    "prior.pt",
    "solve.pt",
    "bank.safetensors",
    "config.yaml",
    "metrics.json",
    "history.json",
    "summary.png",
    "events.out.tfevents.*",
)
"""Files of a run that --restart deletes."""


class TrainingError(UserError):
    """A training that cannot continue; the message is one line for a person."""


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", "surrogateescape"))


def to_json(data: Any) -> str:
    """Nested plain values as JSON, which knows no NaN and no infinity: null.

    Example:
        >>> to_json({"a": [1.5, float("nan")]}).split()
        ['{', '"a":', '[', '1.5,', 'null', ']', '}']
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(data), indent=1, allow_nan=False) + "\n"


def write_metrics(folder: Path, result: Mapping[str, float]) -> None:
    """Add what the finished field is worth to the metrics.json of a run."""
    path = folder / "metrics.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, to_json({**known, "result": dict(result)}))


def is_run(folder: Path) -> bool:
    """Whether a folder is one of ours."""
    old = (folder / "config.yaml").is_file() and any((folder / name).is_file() for name in ("last.pt", "best.pt"))
    return (folder / MARK).is_file() or old


def check_folder(folder: Path, inputs: Iterable[Path] = ()) -> None:
    """Refuse what is not ours to write to, and a folder that holds an input.

    Raises:
        TrainingError: If there are other files in the folder, or one of the inputs.
    """
    if folder.exists() and not is_run(folder):
        if not folder.is_dir():
            raise TrainingError(f"{folder}: expected a folder for the run, got a file")
        if any(folder.iterdir()):
            raise TrainingError(
                f"{folder}: expected an empty folder or that of a run, got one with other files; choose another folder"
            )
    for path in inputs:
        if path.exists() and folder.resolve() in (path.resolve(), path.resolve().parent):
            raise TrainingError(f"{path}: lies in the run folder, where it could be overwritten; choose another folder")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A run folder for one process alone, made if it is missing; what a killed process left half written is removed.

    Raises:
        TrainingError: If another process has it, it is not ours, or it cannot be made.
    """
    check_folder(folder)
    from filelock import FileLock, Timeout  # it brings asyncio

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
    except OSError as error:
        raise TrainingError(f"{folder}: cannot make this folder ({error.strerror})") from None
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(folder / LOCK, timeout=0))
        except Timeout:
            raise TrainingError(
                f"{folder}: another process trains in this run folder; wait, or choose another"
            ) from None
        except (OSError, NotImplementedError):  # a file system without locks
            pass
        for part in folder.rglob(".*.part"):
            part.unlink(missing_ok=True)
        yield


def sign(folder: Path, digest: str | None) -> None:
    """Write the digest of a run's signal into its folder."""
    if digest is not None:
        write_text(folder / MARK, digest)


def choose_folder(base: Path, settings: Mapping[str, Any], digest: str | None = None) -> Path:
    """`base`, `base-2`, `base-3` ...: the one that holds the run of these settings and this signal, or the first free.

    Args:
        base: The folder's name, if it is free.
        settings: Of the run, as plain values.
        digest: Of its signal.
    """

    def named(number: int) -> Path:
        return base if number == 1 else base.with_name(f"{base.name}-{number}")

    pattern = re.compile(re.escape(base.name) + "-([1-9][0-9]{0,8})")
    numbers = sorted(int(found[1]) for path in base.parent.glob("*") if (found := pattern.fullmatch(path.name)))
    for folder in map(named, [1, *numbers]):
        if is_run(folder) and not differences(folder, settings, digest):
            return folder
    return next(folder for number in itertools.count(1) if _is_free(folder := named(number)))


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def differences(folder: Path, settings: Mapping[str, Any], digest: str | None = None) -> str:
    """How a run folder's settings and signal differ from these; "" if they do not, or nothing is known of them."""
    try:
        there = from_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
        seen = (folder / MARK).read_text(encoding="utf-8") if (folder / MARK).exists() else None
    except (OSError, ValueError):
        return ""
    return tell_differences(there if isinstance(there, dict) else {}, settings, seen or None, digest)


def tell_differences(
    there: Mapping[str, Any], here: Mapping[str, Any], seen: str | None = None, digest: str | None = None
) -> str:
    """In words, how one run's settings and signal differ from another's; "" if it can resume the other.

    Example:
        >>> tell_differences({"training": {"lr": 1}}, {"training": {"lr": 2}})
        'with other settings (training.lr: 1 there, 2 here)'
        >>> tell_differences({"signal": {"path": "a"}}, {"signal": {"path": "a"}}, "0f", "1e")
        'of another signal (under the same name)'
        >>> tell_differences({"signal": {"path": "a"}}, {"signal": {"path": "b"}}, "0f", "0f")
        ''
    """
    # A setting that the saved run does not have came later; its default is what that run did.
    found = {key: pair for key, pair in differing_keys(there, here).items() if pair[0] is not MISSING}
    if "correction" not in there and (kind := (here.get("correction") or {}).get("kind", "none")) != "none":
        found["correction.kind"] = ("none", kind)  # its default came later, too
    for key in ("network.kind", "network.first_omega"):
        if found.get(key, (0, 0))[1] is None:  # task and signal have yet to choose it
            del found[key]
    if here.get("start"):  # the network is that of the fit that it starts from
        found = {key: pair for key, pair in found.items() if not key.startswith("network.")}
    if (there.get("training") or {}).get("steps") == 0:  # what was solved may be trained in any way
        found = {key: pair for key, pair in found.items() if not key.startswith("training.")}
    known = seen is not None and digest is not None
    free = RESUMABLE | FILES if known and seen == digest else RESUMABLE
    listed = ", ".join(f"{key}: {old} there, {new} here" for key, (old, new) in found.items() if key not in free)
    if known and seen != digest:
        return f"of another signal ({listed or 'under the same name'})"
    return f"with other settings ({listed})" if listed else ""


def refuse_others(folder: Path, differing: str) -> None:
    """Raise a TrainingError if there are differences."""
    if differing:
        raise TrainingError(f"{folder} holds a run {differing}; choose another --out, or start again with --restart")


def clear(folder: Path) -> None:
    """Remove the checkpoints, the record and the events of a run, so that it starts again.

    Raises:
        TrainingError: If another process trains in it, or it is not ours.
    """
    if folder.exists():
        with locked(folder):
            for path in [path for name in OWN for path in folder.glob(name)]:
                path.unlink()


def steps_done(folder: Path) -> int:
    """The steps of a run folder; -1 if there is no run."""
    try:
        return int(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1


def check_names(files: Iterable[Path]) -> None:
    """Refuse files whose results would have the same names, but for a number.

    Raises:
        UserError: If two files have one name, whatever their folders and endings.

    Example:
        >>> check_names([Path("a.png"), Path("b.png")])
        >>> check_names([Path("a.png"), Path("b/a.jpg")])
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: two files of the name "a": nobody could tell their results apart; complete them ...
    """
    names: set[str] = set()
    for path in files:
        if path.stem in names:
            raise UserError(
                f'two files of the name "{path.stem}": nobody could tell their results apart; '
                "complete them one by one with --out"
            )
        names.add(path.stem)


def unused(*paths: Path) -> tuple[Path, ...]:
    """Paths with the least number, if any, with which none of them is there yet: a.png, b.png; or a-2.png, b-2.png."""
    for number in itertools.count(1):
        made = tuple(path if number == 1 else path.with_stem(f"{path.stem}-{number}") for path in paths)
        if not any(path.exists() or path.is_symlink() for path in made):
            return made
    raise AssertionError
