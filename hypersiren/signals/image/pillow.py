"""Pillow's images: opened with care, and turned upright. No torch."""

import io
import os
import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from hypersiren.signals.files import SignalError, check_library, check_regular, one_line
from hypersiren.signals.image.formats import head_of, is_tiff
from hypersiren.signals.image.png import code_of
from hypersiren.signals.image.raw import check_raw
from hypersiren.signals.image.wide import SEVERAL, orientation

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings an image upright, by its EXIF orientation; 1 is upright."""


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """A Pillow image of a file, not yet decoded; a SignalError if it is missing, forbidden or no image."""
    check_regular(path)
    check_raw(path, head_of(path))
    try:
        # By its name Pillow would map a TIFF into memory, of the width that it has when it is turned: rows scrambled.
        source = io.BytesIO(Path(path).read_bytes()) if is_tiff(path) else path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see check_size
            image = Image.open(source)
        if image.format == "PNG":
            _check_chunks(image, path)
            if code := code_of(image.fp):
                image.info["cicp"] = code
        return image
    except UnidentifiedImageError:
        empty = os.path.getsize(path) == 0
        raise SignalError("empty file" if empty else "not an image that Pillow can read", path) from None
    except Image.DecompressionBombError as error:
        raise SignalError(f"too many pixels to be trusted ({one_line(error)})", path) from None
    except FileNotFoundError:
        raise SignalError("no such file", path) from None
    except OSError as error:
        reason = "a folder, not an image" if os.path.isdir(path) else f"cannot be read ({one_line(error)})"
        raise SignalError(reason, path) from error


def _check_chunks(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """The lengths that the parts of a PNG claim: Pillow makes room for them before it reads."""
    file, size = image.fp, os.path.getsize(path)  # type: ignore[attr-defined]
    before, place = file.tell(), 8
    while place < size:
        file.seek(place)
        head = file.read(8)
        place += 12 + int.from_bytes(head[:4])
        if head[4:] == b"IEND":
            break
        if place > size:
            image.close()
            raise SignalError("broken or truncated image (a part claims more than there is)", path)
    file.seek(before)


def say_several(image: Image.Image, path: str | os.PathLike[str]) -> None:
    """Warn that the file holds several pictures, if it does; of TIFFs their reader says it."""
    try:
        # The others of an MPO are thumbnails, or what the other eye sees.
        several = image.format not in ("MPO", "TIFF") and getattr(image, "n_frames", 1) > 1
    except Exception as error:  # what is broken behind the first one does not matter
        check_library(error)
        return
    if several:
        warnings.warn(f"{os.fspath(path)}: {SEVERAL}", stacklevel=3)


def turned(image: Image.Image, tag: int | None = None) -> Image.Image:
    """A decoded Pillow image, upright as its EXIF tag says."""
    # Asked only after loading: TIFFs are turned, and their tag removed, by Pillow itself.
    turn = _UPRIGHT.get(orientation(image) if tag is None else tag)
    return image if turn is None else image.transpose(turn)
