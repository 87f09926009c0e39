"""torchvision's classification sets as an ImageSource, whatever splits each has and however it keeps its images."""

import functools
import hashlib
import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hypersiren.signals.files import SignalError, check_library
from hypersiren.signals.image.files import convert_image, fit_image
from hypersiren.signals.sets.sources import ImageSource, Target, digest, part_of, scan
from hypersiren.signals.sets.splits import DatasetError

_SPLIT_NAMES = {"train": ("train", "trainval", "train-standard"), "val": ("val", "valid"), "test": ("test",)}


def torchvision_set(kind: str, root: Path, split: str, seed: int, download: bool = False) -> ImageSource:
    """A set of torchvision, by the name of its class, in the layout below `root` that the class expects.

    Its official splits, but: val is 5 % of train where there is no val, all splits are 90/5/5 at random where there
    are none, and of sets with train and val only (ImageNet, Imagenette) the official val is our test.

    Raises:
        DatasetError: If the set is not there, or broken.
    """
    import torchvision.datasets

    make = getattr(torchvision.datasets, kind)
    official = _official_splits(make)
    arguments = dict(official.get(split, official["train"]))
    if "download" in inspect.signature(make).parameters:
        arguments["download"] = download
    data = _construct(make, root, arguments)
    key: dict[str, Any] = {"root": str(root.resolve())}
    if "val" in official or (split == "test" and "test" in official):
        index: Sequence[int] = range(len(data))
    else:
        index = part_of(range(len(data)), split, seed, has_test="test" in official, what=kind)
        key["seed"] = seed
    arrays = _arrays(data)
    if arrays is None:
        # What the items were read from; sets that do not say where that is stand alone in their root, or should.
        key["files"] = digest(scan(Path(getattr(data, "_base_folder", root))))
        read = functools.partial(_read_item, data, index)
    else:
        key["arrays"] = hashlib.blake2b(np.ascontiguousarray(arrays).data, digest_size=16).hexdigest()
        read = functools.partial(_read_array, arrays, index)
    return ImageSource(f"{kind}/{split}", [f"{kind}[{i}]" for i in index], read, key | {"count": len(index)})


class _UnknownSplit(Exception):
    """A torchvision class does not have a split of this name."""


def _construct(make: Any, root: Path, arguments: dict[str, Any]) -> Any:
    try:
        return make(str(root), **arguments)
    except Exception as error:  # RuntimeError, ValueError, zlib.error ...: each set fails in its own way
        check_library(error, root)
        if "Unknown value" in str(error):
            raise _UnknownSplit(str(error)) from None
        reason = " ".join(str(error).split()).replace("download=True", "--data.download (download=True in Python)")
        raise DatasetError(f"{make.__name__} in {root}: {reason}") from error


def _official_splits(make: Any) -> dict[str, dict[str, Any]]:
    """From our splits, those that a class has, to the arguments that select them."""
    parameters = inspect.signature(make).parameters
    if "train" in parameters:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" not in parameters:
        return {"train": {}}
    official = {}
    for split, names in _SPLIT_NAMES.items():
        known = next((name for name in names if _knows_split(make, name)), None)
        if known is not None:
            official[split] = {"split": known}
    if "test" not in official and "val" in official:
        official["test"] = official.pop("val")
    return official


def _knows_split(make: Any, name: str) -> bool:
    # Names are checked before any file is looked for, so an empty root shows whether this one passes.
    try:
        with tempfile.TemporaryDirectory() as empty:
            _construct(make, Path(empty), {"split": name})
    except _UnknownSplit:
        return False
    except DatasetError:
        pass
    return True


def _arrays(data: Any) -> np.ndarray | None:
    """All images (M, H, W) or (M, H, W, C) uint8, of those sets that hold them as one array."""
    arrays = getattr(data, "data", None)
    if arrays is None or not hasattr(arrays, "shape") or len(arrays) != len(data):
        return None
    arrays = np.asarray(arrays)
    if arrays.ndim == 4 and arrays.shape[-1] not in (1, 3) and arrays.shape[1] in (1, 3):
        arrays = arrays.transpose(0, 2, 3, 1)
    fits = arrays.ndim == 3 or (arrays.ndim == 4 and arrays.shape[-1] in (1, 3))
    return arrays if fits and arrays.dtype == np.uint8 else None


def _read_array(arrays: np.ndarray, index: Sequence[int], i: int, target: Target) -> np.ndarray:
    return fit_image(convert_image(arrays[index[i]], gray=target.gray), target.size, target.crop)


def _read_item(data: Any, index: Sequence[int], i: int, target: Target) -> np.ndarray:
    try:
        image = convert_image(data[index[i]][0], gray=target.gray)
    except Exception as error:  # other people's code, reading files
        check_library(error)
        raise SignalError(f"cannot be read ({type(error).__name__}: {error})") from error
    return fit_image(image, target.size, target.crop)
