"""Data sets: a SET of images as one uint8 tensor, decoded once, cached on disk, and resident on the device.

At the paper's 32 x 32 pixels all of CelebA is 0.6 GB: held on the device, a batch is one indexing operation, without
a loader. A set that takes more than half of the free memory stays in its cache file, see `disk`: the same batches.

Letters in shapes: M images in the set, B images in a batch, H height, W width, C channels.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import sys
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from hypersiren.errors import nearest
from hypersiren.signals.files import atomic_write, one_line, remove_stale
from hypersiren.signals.image.files import Crop
from hypersiren.signals.sets import sources, torchvision_sets
from hypersiren.signals.sets.decoding import decode, decode_parts
from hypersiren.signals.sets.disk import DiskPixels, InMemory, in_bytes, keep_in_memory
from hypersiren.signals.sets.settings import IMAGE_KINDS
from hypersiren.signals.sets.sources import ImageSource, Target
from hypersiren.signals.sets.splits import SPLITS, DatasetError

CACHE_VERSION = 2
"""Part of every cache key: to be raised whenever the same files come to give other pixels."""


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, resident on a device, or on disk and read where they are asked for.

    Attributes:
        pixels: (M, H, W, C) in 0..255.
        name: What people call it, e.g. "faces/train".
        skipped: "path: reason" for each file that could not be read.
        source: Which photograph each image is of, where several are crops of one; None: each of its own.

    Example:
        >>> images = ImageSet(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1), "demo")
        >>> images.images(torch.tensor([2, 0])).flatten().tolist()
        [1.0, -1.0]
        >>> images
        ImageSet(demo: 3 images of 1 x 1 x 1 on cpu)
    """

    pixels: UInt8[Tensor, "M H W C"] | DiskPixels
    name: str
    skipped: tuple[str, ...] = ()
    source: Integer[Tensor, " M"] | None = None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.pixels.shape[1:]))
        where = "disk" if isinstance(self.pixels, DiskPixels) else self.pixels.device
        return f"ImageSet({self.name}: {len(self)} images of {shape} on {where})"

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def channels(self) -> int:
        """C."""
        return self.pixels.shape[3]

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set on another device; one on disk stays there, and its images come to the device."""
        source = None if self.source is None else self.source.to(device)
        return replace(self, pixels=self.pixels.to(device), source=source)

    @property
    def unit(self) -> Float[Tensor, "M H W C"]:
        """All images, values on [0, 1], float32; also those of a set on disk."""
        return self.pixels[:].float() / 255

    def at(self, index: Integer[Tensor, " B"] | Bool[Tensor, " M"]) -> "ImageSet":
        """Some of the images, on disk if these are."""
        pixels = self.pixels
        chosen = pixels.at(index) if isinstance(pixels, DiskPixels) else pixels[index]
        return replace(self, pixels=chosen, source=None if self.source is None else self.source[index])

    def spread(self, count: int) -> "ImageSet":
        """So many images (or all there are) from all over the set, the first and the last among them, on the device."""
        index = torch.linspace(0, len(self) - 1, min(count, len(self)), device=self.pixels.device).long()
        source = None if self.source is None else self.source[index]
        return ImageSet(self.pixels[index], self.name, source=source)

    def images(self, index: Integer[Tensor, " B"]) -> Float[Tensor, "B H W C"]:
        """The images at these places, as float32 in [-1, 1]: -1 is 0, 1 is 255."""
        index = index.to(self.pixels.device, non_blocking=True) if isinstance(self.pixels, Tensor) else index
        return self.pixels[index].float() / 127.5 - 1


def load_images(
    kind: str,
    split: str,
    *,
    size: int | tuple[int, int] = 32,
    gray: bool = False,
    crop: Crop = "center",
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    workers: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    crops: int | None = None,
    download: bool = False,
    in_memory: InMemory = "auto",
    device: torch.device | str = "cpu",
) -> ImageSet:
    """A set of images, from its cache or by decoding its files.

    The cache's key holds what the pixels depend on: each file's path, bytes and time of change, and the arguments. A
    broken cache is made again, one that cannot be written costs a warning. A set that is too large for memory is
    decoded straight into the cache, and stays there.

    Args:
        kind: One of `IMAGE_KINDS`: "faces", "photos", "folder", "celeba" (see `sources`), or a class of torchvision.
        split: "train", "val" or "test".
        size: Pixels, of a side or (H, W).
        gray: One channel instead of three.
        crop: "center" crops and resizes, "none" demands that every image has this size (`signals.fit_image`).
        root: The folder of kinds that are read from one.
        seed: Of splits and crops drawn at random.
        workers: Processes (threads) that decode; None for one per CPU. Up to 500 images are always decoded by this one.
        cache_dir: Where decoded sets are kept; None for $HYPERSIREN_CACHE, or else the user's cache folder.
        progress: Whether decoding shows a bar, if stderr is a terminal.
        crops: Of "photos": training crops (10,000); val and test have a tenth.
        download: Of torchvision's sets: whether it may fetch what is missing.
        in_memory: Whether the set is held in memory; False leaves it on disk; "auto" leaves there what takes more than
            half of the free memory.
        device: Where the images are held, or where those that are asked for come to.

    Returns:
        The set, in the order of its source; files that cannot be read are left out and named in `skipped`.

    Raises:
        DatasetError: If the set cannot be had, or shall stay on disk and cannot be written; the message says what was
            expected and what came.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     photos = load_images("photos", "val", crops=40, size=(16, 24), cache_dir=folder)
        >>> photos.name, len(photos), photos.size, photos.channels
        ('photos/val', 4, (16, 24), 3)
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise DatasetError(f"expected a size of at least 1 x 1 pixels, got {height} x {width}")
    if crop not in ("center", "none"):
        raise DatasetError(f'expected crop "center" or "none", got {crop!r}')
    target = Target((height, width), gray, crop)
    source = find_source(kind, split, root=root, seed=seed, crops=crops, download=download)
    key = {
        "version": CACHE_VERSION,
        "kind": kind,
        "split": split,
        "size": [height, width],
        "gray": gray,
        "crop": crop,
        **source.key,
    }
    folder = _cache_folder() if cache_dir is None else Path(cache_dir)
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    path = folder / f"{kind}-{split}-{height}x{width}-{digest}.npy"
    shape = target.shape(len(source.names))
    held = keep_in_memory(math.prod(shape), source.label, in_memory, device)
    cached: tuple[UInt8[Tensor, "M H W C"] | DiskPixels, tuple[str, ...]] | None = _read_cache(path, target)
    if cached is None and held:
        images, left_out = decode(source, target, workers=workers, progress=progress)
        _keep(path, key, images, left_out)
        cached = torch.from_numpy(images), left_out
    elif cached is None:
        try:
            with contextlib.closing(decode_parts(source, target, workers=workers, progress=progress)) as parts:
                _write_cache(path, key, shape, parts)
        except OSError as error:
            raise DatasetError(
                f"{source.label}: its pixels stay on disk, but {in_bytes(math.prod(shape))} could not be written to "
                f"{folder} ({one_line(error)}); HYPERSIREN_CACHE names another folder"
            ) from error
        cached = _read_cache(path, target)
        if cached is None:
            raise DatasetError(f"{source.label}: {path} was changed while it was written; try again")
    pixels, skipped = cached
    if held:
        pixels = pixels[:]
    # Of files that were skipped nothing says which they are among the others.
    of = None if source.source is None or skipped else torch.tensor(source.source, device=device)
    return ImageSet(pixels.to(device), source.label, (*source.dropped, *skipped), of)


def find_source(
    kind: str,
    split: str,
    *,
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    crops: int | None = None,
    download: bool = False,
) -> ImageSource:
    """Where the images of a kind and split come from; arguments as in `load_images`.

    Raises:
        DatasetError: If the kind or split is unknown, an argument is missing or has no meaning for this kind, or the
            data are not there.

    Example:
        >>> find_source("photos", "val", crops=10).names
        ('rocket#0',)
        >>> find_source("photo", "val")
        Traceback (most recent call last):
        hypersiren.signals.sets.splits.DatasetError: unknown kind of images 'photo'; did you mean 'photos'?
    """
    kind = {"CelebA": "celeba"}.get(kind, kind)
    for what, word, words in (("kind of images", kind, IMAGE_KINDS), ("split", split, SPLITS)):
        if word not in words:
            raise DatasetError(f"unknown {what} {word!r}; {_near(word, words)}")
    own = {"faces": (), "photos": ("crops",), "folder": ("root",), "celeba": ("root",)}.get(kind, ("root", "download"))
    for name, given in (("root", root is not None), ("crops", crops is not None), ("download", download)):
        if given and name not in own:
            raise DatasetError(f"{name} has no meaning for images of kind {kind!r}")
    if kind == "faces":
        return sources.faces(split)
    if kind == "photos":
        return sources.photos(split, sources.PHOTO_CROPS if crops is None else crops, seed)
    if root is None:
        raise DatasetError(f"images of kind {kind!r} need a root, the folder that holds them: --data.root DIR")
    path = Path(root).expanduser()
    if kind == "folder":
        return sources.folder(path, split, seed)
    if kind == "celeba":
        return sources.celeba(path, split)
    return torchvision_sets.torchvision_set(kind, path, split, seed, download)


def augment(
    images: Float[Tensor, "B H W C"],
    generator: torch.Generator,
    *,
    flip: bool = False,
    shift: int = 0,
    zoom: float = 0.0,
    rotation: float = 0.0,
) -> Float[Tensor, "B H W C"]:
    """Each image mirrored with probability 1/2, turned, magnified and shifted, all drawn uniformly.

    Without zoom and rotation shifts are by whole pixels and values stay as they are; otherwise images are interpolated.

    Args:
        images: Any values.
        generator: Source of the draws; on the images' device, nothing waits for anything.
        flip: Whether to mirror left and right.
        shift: Largest shift down, up, right or left, in pixels; the border pixel fills what is uncovered.
        zoom: Largest change of size: 0.1 for 0.9 to 1.1.
        rotation: Largest angle, in degrees.

    Raises:
        ValueError: If a number is below 0.

    Example:
        >>> row = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1)
        >>> augment(row, torch.Generator().manual_seed(0), flip=True).flatten().tolist()
        [3.0, 2.0, 1.0]
    """
    if min(shift, zoom, rotation) < 0:
        raise ValueError(f"expected shift, zoom and rotation of at least 0, got {shift}, {zoom} and {rotation}")
    if zoom or rotation:
        return _transformed(images, generator, flip, shift, zoom, rotation)
    b, h, w, _ = images.shape
    row = torch.arange(h, device=images.device).expand(b, h)
    column = torch.arange(w, device=images.device).expand(b, w)
    if shift:
        # Pixel (i, j) of the result is taken from (i - down, j - right), or from the nearest there is.
        drawn = torch.randint(-shift, shift + 1, (2, b, 1), generator=generator, device=generator.device)
        down, right = drawn.to(images.device)
        row, column = (row - down).clamp(0, h - 1), (column - right).clamp(0, w - 1)
    if flip:
        mirrored = torch.rand(b, 1, generator=generator, device=generator.device).to(images.device) < 0.5
        column = torch.where(mirrored, w - 1 - column, column)
    return images[torch.arange(b, device=images.device)[:, None, None], row[:, :, None], column[:, None, :]]


def _transformed(
    images: Float[Tensor, "B H W C"], generator: torch.Generator, flip: bool, shift: int, zoom: float, rotation: float
) -> Float[Tensor, "B H W C"]:
    b, h, w, _ = images.shape
    draw = torch.rand(5, b, generator=generator, device=generator.device).to(images.device)
    zoomed, angle, mirror, right, down = (2 * draw - 1).unbind()
    scale, angle = 1 + zoom * zoomed, math.radians(rotation) * angle
    mirrored = torch.copysign(scale, mirror) if flip else scale
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * mirrored, sin * scale * (-h / w), right * (2 * shift / w)]
    rows += [sin * mirrored * (w / h), cos * scale, down * (2 * shift / h)]
    x = images.movedim(-1, 1)
    places = affine_grid(torch.stack(rows, 1).view(b, 2, 3), list(x.shape), align_corners=False)
    moved = grid_sample(x, places, mode="bicubic", padding_mode="border", align_corners=False)
    return moved.movedim(1, -1).clamp(*images.aminmax())


def _near(word: str, words: tuple[str, ...]) -> str:
    lower = {known.lower(): known for known in words}
    near = nearest(word.lower(), lower)
    return f"did you mean {lower[near]!r}?" if near else f"expected one of {', '.join(words)}"


def _cache_folder() -> Path:
    if own := os.environ.get("HYPERSIREN_CACHE"):
        return Path(own)
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "hypersiren"


def _read_cache(path: Path, target: Target) -> tuple[DiskPixels, tuple[str, ...]] | None:
    """What `_write_cache` wrote, or None if it is not there whole."""
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        pixels = DiskPixels(path)
        whole = pixels.shape == target.shape(about["images"]) and _checksum(pixels) == about["crc32"]
        return (pixels, tuple(about["skipped"])) if whole else None
    except (OSError, ValueError, EOFError, KeyError, TypeError, MemoryError):
        return None


def _checksum(pixels: DiskPixels) -> int:
    found = 0
    for block in pixels.blocks():
        found = zlib.crc32(block.data, found)
    return found


def _keep(path: Path, key: dict[str, Any], pixels: np.ndarray, skipped: tuple[str, ...]) -> None:
    """Write decoded images into the cache, or warn that it cannot be."""
    try:
        _write_cache(path, key, pixels.shape, [(pixels, skipped)])
    except OSError as error:
        warnings.warn(
            f"the decoded images could not be kept in {path.parent} ({error.strerror or error}); "
            "they will be decoded again next time",
            stacklevel=3,
        )


def _write_cache(
    path: Path,
    key: dict[str, Any],
    shape: tuple[int, ...],
    parts: Iterable[tuple[np.ndarray, Sequence[str]]],
) -> None:
    """Write images as they come, and who was skipped; `shape` is that of all images if none is.

    Raises:
        OSError: If they cannot be written; then nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(path.parent)  # also of sets that have changed since, whose names do not come back
    if shutil.disk_usage(path.parent).free < math.prod(shape):  # rather now than after hours
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    count, checksum = 0, 0
    skipped: list[str] = []
    with atomic_write(path) as file:
        _write_header(file, shape)
        for images, left_out in parts:
            file.write(images.data)
            checksum = zlib.crc32(images.data, checksum)
            count += len(images)
            skipped += left_out
        file.seek(0)
        _write_header(file, (count, *shape[1:]))
    # Last, since it is what vouches for the pixels.
    about = {"key": key, "images": count, "crc32": checksum, "skipped": skipped}
    try:
        with atomic_write(path.with_suffix(".json")) as file:
            file.write(json.dumps(about, indent=1).encode())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """That of a NumPy file, which has room for any number of images."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
