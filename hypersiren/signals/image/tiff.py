"""TIFF: what the tags of a file say of its pixels decides whether it is known, and how it is read.

tifffile reads the tags. Pixels of 8 bits and fewer that Pillow knows are left to Pillow; all others are decoded here:
any number of bits and channels, planes apart or not, opacity only where a tag says so. Segments under a compression
that Python has not, such as LZW, go through Pillow's libtiff one by one, as bytes. Imports no torch.

Symbols: H x W pixels, S samples of each.
"""

import contextlib
import io
import itertools
import lzma
import math
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hypersiren.signals.files import SignalError, check_size, guarded, muted, one_line, unlogged
from hypersiren.signals.image.raw import ENDINGS, refuse
from hypersiren.signals.image.spaces import lab_to_srgb, space_of_wide
from hypersiren.signals.image.wide import SEVERAL, Wide, upright

COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3}
"""Samples of a colour by the photometric interpretation."""

NAMES = {4: "a mask", 10: "ITU L*a*b*", 32844: "LogL", 32845: "LogLuv", 51177: "a depth map"}

COMPRESSIONS = {
    2: "CCITT", 3: "CCITT fax 3", 4: "CCITT fax 4", 6: "old JPEG", 7: "JPEG", 9: "JBIG", 10: "JBIG", 34712: "JPEG 2000",
    33003: "JPEG 2000", 33005: "JPEG 2000", 34887: "LERC", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
    22610: "JPEG XR", 34892: "lossy JPEG", 34933: "PNG",
}  # fmt: skip

PREDICTED = (5, 8, 32946, 34925, 50000)
"""Compressions under which a predictor counts; under others libtiff writes the tag and heeds it not."""

_REVERSED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


MOST_PAGES = 16
"""Pages that are looked at, to find the first that is a picture."""


def read_tiff(path: str | os.PathLike[str]) -> Wide | None:
    """The picture of a TIFF, or None where Pillow reads all of it rightly.

    Of several pictures the first that is neither reduced nor a mask is taken, and that is said.

    Raises:
        SignalError: If it is broken, too large, a raw photograph, or of a kind that is not known.
    """
    import tifffile  # heavy

    check_size(os.path.getsize(path), path)
    with guarded("broken or truncated image", path), unlogged("tifffile"):
        data = Path(path).read_bytes()
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page, first = _chosen(file, path)
            return _read_page(page, data, file.byteorder, os.fspath(path), first)


def read_pages(path: str | os.PathLike[str]) -> np.ndarray:
    """All pages of a stack, (D, H, W) or (D, H, W, C), as numbers of the file; NaN where there is no value.

    Of the axes that ImageJ, OME and tifffile name, one beside rows, columns and channels may be longer than 1.

    Raises:
        SignalError: If it is broken, too large, one picture alone, or has more axes.
    """
    import tifffile  # heavy

    check_size(os.path.getsize(path), path)
    with guarded("broken or truncated volume", path), unlogged("tifffile"):
        data = Path(path).read_bytes()
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            file.pages.useframes = False
            series = file.series[0]
            axes, shape = str(series.axes), [int(n) for n in series.shape]
            named = {axis: n for axis, n in zip(axes, shape, strict=True) if axis not in "YXS" and n > 1}
            channels = named.pop("C", 1) if len(named) > 1 else 1
            if len(named) != 1 or not {"Y", "X"} <= set(axes):
                what = "one picture" if not named else f"axes {axes} of {shape}"
                raise SignalError(f"expected a stack of pictures, got {what}: `fit image` takes one picture, and of "
                                  "several stacks one must be saved alone")  # fmt: skip
            check_size(4 * math.prod(float(n) for n in shape))
            if len(series.pages) == 1:  # what follows has no tags of its own, and is not compressed
                stack = series.asarray(maxworkers=1)
            else:
                words = data, file.byteorder, os.fspath(path)
                places = [page.index for page in series.pages if page is not None]
                read = [_values_of(file.pages.get(place, aspage=True), *words) for place in places]
                if len({each.shape for each in read}) > 1:
                    raise SignalError("expected pages of one size")
                samples = [n for axis, n in zip(axes, shape, strict=True) if axis not in "YXS"]
                stack = np.stack(read).reshape(*samples, *read[0].shape)
                axes = "".join(axis for axis in axes if axis not in "YXS") + "YXS"
            order = [axes.index(axis) for axis in (next(iter(named)), "Y", "X")]
            rest = [i for i in range(stack.ndim) if i not in order]
            stack = stack.transpose(*order, *rest).reshape(*(stack.shape[i] for i in order), -1)
            assert channels == 1 or stack.shape[-1] % channels == 0
            return stack[..., 0] if stack.shape[-1] == 1 else stack


def _values_of(page: Any, data: bytes, order: str, name: str) -> np.ndarray:
    wide = _read_page(page, data, order, name, False)
    assert wide is not None
    return wide.values if wide.valid is None else np.where(wide.valid[..., None], wide.values, np.float32(np.nan))


def _chosen(file: Any, path: str | os.PathLike[str]) -> tuple[Any, bool]:
    """The page that is the picture, and whether it is the first of the file."""
    pages = list(itertools.islice(file.pages, MOST_PAGES))
    inner = [page for outer in pages[:4] for page in itertools.islice(outer.pages or (), MOST_PAGES)]
    for page in (*pages, *inner):
        if 50706 in page.tags or _tag(page, 262) in (32803, 34892):
            raise refuse(path, "a DNG" if 50706 in page.tags else "a mosaic of the colours that its sensor sees")
    if Path(path).suffix.lower() in ENDINGS:
        raise refuse(path, "by its ending")
    whole = [page for page in pages if not int(_tag(page, 254) or 0) & 5]
    whole = whole or [page for page in inner if not int(_tag(page, 254) or 0) & 5]
    if not whole:
        raise SignalError("expected a picture, got reduced ones and masks alone")
    page, several = whole[0], len(whole) > 1 or int(_tag(whole[0], 32997) or 1) > 1
    if not several and (file.is_imagej or file.is_shaped):  # whose other pictures have no tags of their own
        with contextlib.suppress(Exception):
            several = math.prod(file.series[0].shape) > page.imagewidth * page.imagelength * page.samplesperpixel
    if several:
        warnings.warn(f"{os.fspath(path)}: {SEVERAL}", stacklevel=5)
    return page, page is pages[0]


def _read_page(page: Any, data: bytes, order: str, name: str, first: bool) -> Wide | None:
    photometric, samples = int(_tag(page, 262) or 0), page.samplesperpixel
    bits, kind = _one(page, 258, 1, "bits"), _one(page, 339, 1, "formats")
    extras = _tag(page, 338)
    extras = () if extras is None else tuple(int(n) for n in np.atleast_1d(extras))
    compression, codec = int(_tag(page, 259) or 1), COMPRESSIONS.get(int(_tag(page, 259) or 1))
    colours = COLOURS.get(photometric)
    if colours is None or samples < colours:
        words = NAMES.get(photometric, f"photometric interpretation {photometric}")
        raise SignalError(f"expected gray, RGB, CMYK or L*a*b*, got {words} of {samples} samples: store it as RGB")
    opacity = next((colours + i for i, n in enumerate(extras[: samples - colours]) if n in (1, 2)), None)
    if photometric == 2 and samples == 4 and not extras:  # as all readers take it
        opacity = 3
    premultiplied = opacity is not None and extras[opacity - colours :][:1] == (1,)
    # What Pillow knows: gray of few bits, and of 8 bits colours and opacity.
    plain = samples == colours or (samples == colours + 1 and opacity is not None and photometric in (1, 2))
    nodata = _nodata(page)
    known = (
        (bits == 8 or (bits in (1, 2, 4) and samples == 1))
        and kind in (1, 4)
        and photometric not in (8, 9)
        and page.imagedepth == 1
    )
    if known and plain and not premultiplied and nodata is None and (first or codec):
        if not first:
            raise SignalError(f"a page that is not the first is under {codec}: store it alone, or with deflate or LZW")
        return None
    if codec or photometric in (3, 6):
        words = codec or {3: "a palette", 6: "YCbCr"}[photometric]
        raise SignalError(f"TIFF of {words} with {samples} samples of {bits} bits is not known: store it as RGB, with "
                          "deflate or LZW")  # fmt: skip
    dtype = _dtype(bits, kind)
    values = _decoded(page, data, order, dtype, bits, compression, nodata)
    alpha = None
    if opacity is not None:
        alpha = values[..., opacity].astype(np.float64)
        alpha = np.clip(
            alpha if dtype.kind == "f" else alpha / (2**bits - 1 if kind in (1, 4) else 2 ** (bits - 1) - 1), 0, 1
        )
        values = np.delete(values, opacity, axis=2)
    full = (0.0, float(2**bits - 1)) if dtype.kind == "u" and bits <= 16 else None
    valid = None
    if nodata is not None:
        with np.errstate(all="ignore"):
            same = np.array(nodata).astype(values.dtype)
            holes = np.isnan(values) if math.isnan(nodata) else values == same
        unreal = dtype.kind != "f" and float(same) != nodata
        valid = None if unreal or not holes.any() else ~holes.any(axis=2)
    if photometric == 0:
        if full is None:
            raise SignalError(f"expected black as the least value, got white of {values.dtype}")
        values = (2**bits - 1 - values).astype(dtype)
    elif photometric in (5, 8, 9):
        if dtype.kind != "u" and photometric == 5:
            raise SignalError(f"expected CMYK of whole numbers, got {dtype}")
        if values.shape[2] > colours:
            warnings.warn(f"{name}: {values.shape[2] - colours} samples beside its colours are left out", stacklevel=5)
        values = (_from_cmyk if photometric == 5 else _from_lab)(values[..., :colours], bits, photometric)
        full, premultiplied = (0.0, 1.0), False
    profile = _tag(page, 34675)
    space = None
    if isinstance(profile, bytes) and photometric in (0, 1, 2, 5):
        space = space_of_wide({"icc_profile": profile}, name)
        space = None if space is not None and (photometric == 5 or values.shape[2] not in (1, 3)) else space
    turn = int(_tag(page, 274) or 1)
    alpha, valid = (None if part is None else upright(part, turn) for part in (alpha, valid))
    told = 3 if photometric == 2 and values.shape[2] > 3 else None
    return Wide(upright(values, turn), full, alpha, valid, space, premultiplied, told)


def _tag(page: Any, code: int) -> Any:
    tag = page.tags.get(code)
    return None if tag is None else tag.value


def _one(page: Any, code: int, default: int, what: str) -> int:
    """The one value that all samples have of a tag."""
    value = _tag(page, code)
    found = {int(n) for n in np.atleast_1d(default if value is None else value)}
    if len(found) != 1:
        raise SignalError(f"expected samples of equal {what}, got {', '.join(map(str, sorted(found)[:4]))}")
    return found.pop()


def _dtype(bits: int, kind: int) -> np.dtype:
    """Of the values: `kind` is 1 for whole numbers, 2 for those with a sign, 3 for floats."""
    if kind in (1, 4) and 1 <= bits <= 32:
        return np.dtype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32)
    if (kind, bits) in ((1, 64), (2, 8), (2, 16), (2, 32), (2, 64), (3, 16), (3, 32), (3, 64)):
        return np.dtype(f"{' uif'[kind]}{bits // 8}")
    words = {1: "whole numbers", 2: "signed numbers", 3: "floats", 5: "complex numbers", 6: "complex numbers"}
    raise SignalError(f"expected whole numbers or floats, got {words.get(kind, 'samples')} of {bits} bits")


def _nodata(page: Any) -> float | None:
    """The value that stands for none, by GDAL's tag."""
    text = _tag(page, 42113)
    try:
        return None if text is None else float(str(text).strip(" \0"))
    except ValueError:
        return None


def _from_cmyk(values: np.ndarray, bits: int, _: int) -> np.ndarray:
    left = 1 - values / float(2**bits - 1)
    return left[..., :3] * left[..., 3:]


def _from_lab(values: np.ndarray, bits: int, photometric: int) -> np.ndarray:
    if bits not in (8, 16) or values.dtype.kind not in "ui":
        raise SignalError(f"expected L*a*b* of 8 or 16 bits, got {values.dtype}")
    raw, half = values.astype(np.float64) % 2**bits, 2 ** (bits - 1)
    step = 2 ** (bits - 8)
    if photometric == 8:  # a and b have a sign
        lightness, colour = raw[..., :1] * (100 / (2**bits - 1)), ((raw[..., 1:] + half) % 2**bits - half) / step
    else:
        lightness, colour = raw[..., :1] * (100 / (255 * step)), raw[..., 1:] / step - 128
    return lab_to_srgb(np.concatenate([lightness, colour], axis=-1))


def _decoded(
    page: Any, data: bytes, order: str, dtype: np.dtype, bits: int, compression: int, nodata: float | None
) -> np.ndarray:
    """All samples, (H, W, S)."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    if not height * width:
        raise SignalError("holds no pixels")
    check_size(float(height) * width * samples * max(4, dtype.itemsize), mend="")
    planes = samples if page.planarconfig == 2 else 1
    inner = samples // planes
    long, wide = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
    if long < 1 or wide < 1:
        raise SignalError(f"broken or truncated image (segments of {wide} x {long} pixels)")
    check_size(float(long) * wide * inner * max(4, dtype.itemsize))
    down, across = -(-height // long), -(-width // wide)
    if planes * down * across > len(page.dataoffsets):
        raise SignalError(f"truncated: expected {planes * down * across} segments, got {len(page.dataoffsets)}")
    predictor = int(_tag(page, 317) or 1) if compression in PREDICTED else 1
    empty = 0 if nodata is None else nodata
    with np.errstate(all="ignore"):
        found = np.full((height, width, samples), np.array(empty).astype(dtype))
    places = zip(page.dataoffsets, page.databytecounts, strict=False)
    for index, (offset, count) in enumerate(itertools.islice(places, planes * down * across)):
        if not count:  # a hole, which is not stored
            continue
        plane, rest = divmod(index, down * across)
        top, left = long * (rest // across), wide * (rest % across)
        rows = long if page.is_tiled else min(long, height - top)
        raw = data[offset : offset + count]
        if _tag(page, 266) == 2:
            raw = raw.translate(_REVERSED)
        line = -(-wide * inner * bits // 8)
        plain = _inflated(raw, compression, rows, line)
        if len(plain) < rows * line:
            raise SignalError(f"truncated: expected {rows * line} bytes in a segment, got {len(plain)}")
        block = _numbers(plain[: rows * line], (rows, wide, inner), order, dtype, bits, predictor)
        part = found[top : top + rows, left : left + wide, plane * inner : (plane + 1) * inner]
        part[...] = block[: part.shape[0], : part.shape[1]]
    return found


def _inflated(raw: bytes, compression: int, rows: int, line: int) -> bytes:
    """A segment's bytes without their compression, about so many."""
    if compression == 1:
        return raw
    if compression in (8, 32946):
        return zlib.decompressobj().decompress(raw, rows * line)
    if compression == 34925:
        return lzma.LZMADecompressor().decompress(raw, rows * line)
    # libtiff takes them for the rows of an image of bytes.
    entries = [(256, 4, line), (257, 4, rows), (258, 3, 8), (259, 3, compression), (262, 3, 1), (273, 4, 122)]
    entries += [(277, 3, 1), (278, 4, rows), (279, 4, len(raw))]
    table = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in entries)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + bytes(4)
    try:
        with muted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(head + raw)) as image:
                return image.tobytes()
    except (UnidentifiedImageError, KeyError) as error:
        raise SignalError(
            f"its compression, number {compression}, is not known here: store it with deflate or LZW"
        ) from error
    except OSError as error:
        raise SignalError(
            f"broken or truncated image (its compression, number {compression}: {one_line(error)})"
        ) from error


def _numbers(
    plain: bytes, shape: tuple[int, int, int], order: str, dtype: np.dtype, bits: int, predictor: int
) -> np.ndarray:
    """The samples of a segment of this shape."""
    rows, wide, inner = shape
    if bits != 8 * dtype.itemsize:
        if predictor != 1:
            raise SignalError(f"expected samples of whole bytes under a predictor, got {bits} bits")
        flat = np.unpackbits(np.frombuffer(plain, np.uint8).reshape(rows, -1), axis=1)[:, : wide * inner * bits]
        found = np.zeros((rows, wide * inner), dtype)
        for i in range(bits):
            found = (found << dtype.type(1)) | flat[:, i::bits]
        return found.reshape(shape)
    if predictor == 3:
        steps = np.frombuffer(plain, np.uint8).reshape(rows, -1, inner)
        planes = np.cumsum(steps, axis=1, dtype=np.uint8).reshape(rows, dtype.itemsize, wide * inner)
        return (
            np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">")).reshape(shape).astype(dtype)
        )
    if predictor == 2:
        whole = np.dtype(f"{order}u{dtype.itemsize}")
        steps = np.frombuffer(plain, whole).reshape(shape)
        return np.cumsum(steps, axis=1, dtype=whole.newbyteorder("=")).view(dtype)
    if predictor != 1:
        raise SignalError(f"expected predictor 1, 2 or 3, got {predictor}")
    return np.frombuffer(plain, f"{order}{dtype.kind}{dtype.itemsize}").reshape(shape)
