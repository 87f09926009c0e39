"""Which folders of a set are its splits, and files that are in two of them. Imports no torch."""

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypersiren.errors import UserError

LOG = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")

NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folder of a split may be called, in letters of any case."""

MOST_COMPARED = 20_000
"""Files of equal size that are compared at most."""

HEAD = 2**16
"""Bytes that are compared first."""


class DatasetError(UserError):
    """A data set that cannot be had: one line that says what was expected and what came."""


def split_folders(root: Path) -> dict[str, str]:
    """The names of the folders that are splits, by split.

    Raises:
        DatasetError: If two folders are the same split.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("Training", "valid", "cats"):
        ...         (Path(folder) / name).mkdir()
        ...     split_folders(Path(folder))
        {'train': 'Training', 'val': 'valid'}
    """
    try:
        with os.scandir(root) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise DatasetError(f"the folder {root} cannot be read ({error.strerror or error})") from error
    found: dict[str, str] = {}
    for split, names in NAMES.items():
        of_split = [name for name in folders if name.lower() in names]
        if len(of_split) > 1:
            raise DatasetError(f"{root}: expected one folder for the split {split}, got {' and '.join(of_split)}")
        if of_split:
            found[split] = of_split[0]
    return found


def say_splits(
    root: Path, folders: Mapping[str, str], counts: Mapping[str, int], unit: str, held_out: float = 0.05
) -> None:
    """One line on which files became which split; `held_out` is the share of each that was drawn."""
    share = round(100 * held_out)
    numbers = ", ".join(f"{split} {count}" for split, count in counts.items())
    if "train" not in folders or len(folders) < 2:
        others = f" (folders {', '.join(folders.values())} too)" if set(folders) - {"train"} else ""
        how = f"all files{others} are split at random, {100 - 2 * share}/{share}/{share} %"
    elif len(folders) == 3:
        how = f"splits are the folders {', '.join(folders.values())}"
    else:
        other = folders.get("test") or folders["val"]
        how = f"{other} is the split test, and val is {share} % of {folders['train']}, at random"
    LOG.info("%s: %s: %s %s", root, how, numbers, unit)


def say_equal(root: Path, splits: Mapping[str, Sequence[str]]) -> None:
    """One line on files of val and test that are, to the byte, in the training split too."""
    if found := equal_files(root, splits["train"], [*splits["val"], *splits["test"]]):
        LOG.warning(
            "%s: %d files of val and test are in train too, such as %s = %s: errors on them say little",
            root, len(found), *found[0],
        )  # fmt: skip


def equal_files(root: Path, train: Sequence[str], others: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of an other file and one of train with the same bytes, names below a root; of 20,000 candidates at most."""
    sizes: dict[int, list[str]] = defaultdict(list)
    for name in train:
        sizes[_size(root / name)].append(name)
    wanted = [name for name in others if (size := _size(root / name)) > 0 and size in sizes]
    rivals = {name for other in wanted for name in sizes[_size(root / other)]}
    if len(wanted) + len(rivals) > MOST_COMPARED:
        wanted, rivals = wanted[: MOST_COMPARED // 2], set(sorted(rivals)[: MOST_COMPARED // 2])
    heads: dict[tuple[int, bytes], list[str]] = defaultdict(list)
    for name in sorted(rivals):
        heads[_size(root / name), _digest(root / name, HEAD)].append(name)
    found = []
    for other in wanted:
        alike = heads.get((_size(root / other), _digest(root / other, HEAD)), ())
        same = next((name for name in alike if _digest(root / name) == _digest(root / other)), None)
        if same is not None and os.path.realpath(root / same) != os.path.realpath(root / other):
            found.append((other, same))
    return found


def _size(path: Path) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return -1


def _digest(path: Path, most: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.blake2b(file.read(most), digest_size=16).digest()
    except OSError:
        return os.urandom(16)  # equal to none
