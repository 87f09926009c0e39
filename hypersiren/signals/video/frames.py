"""A frame that FFmpeg decoded, as the picture that is displayed: its colours, transparency, turn. Imports no torch."""

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image

from hypersiren.signals.image.files import convert_image

UNUSED = {"STEREO3D": "a picture for each eye", "SPHERICAL": "a view of all directions"}
"""Side data of frames that are said and not used."""

HD_HEIGHT, HD_WIDTH = 720, 1280
"""A frame without a tag of its colours is of BT.709 if it has as many rows or columns, as players take it."""

BT709, UNTAGGED, YCGCO = 1, 2, 8
"""Matrices of colours, by their numbers in ITU-T H.273."""


def is_untagged_hd(frame: Any) -> bool:
    """Whether a frame of luma and chroma is large and does not say of which colours."""
    is_rgb = frame.format.is_rgb or frame.format.has_palette or len(frame.format.components) < 3
    return int(frame.colorspace) == UNTAGGED and not is_rgb and (frame.height >= HD_HEIGHT or frame.width >= HD_WIDTH)


def displayed(frame: Any, pixels: np.ndarray) -> np.ndarray:
    """Turned and mirrored as the container's display matrix says."""
    matrix, named = display_matrix(frame)
    if not named:  # PyAV tells the angle alone, counter-clockwise
        return np.rot90(pixels, round(frame.rotation / 90))
    if matrix is None:
        return pixels
    # A point (x, y) of the picture is shown at (a x + c y, b x + d y).
    a, b, _, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, right, down = pixels.swapaxes(0, 1), c, b
    else:
        right, down = a, d
    return pixels[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def display_matrix(frame: Any) -> tuple[list[int] | None, bool]:
    """The first five numbers of the display matrix, if there is one; and whether PyAV knows all kinds of side data.

    PyAV 18 raises a ValueError for a frame with any kind that it has no name for, such as EXIF or two views.
    """
    from av.sidedata.sidedata import Type

    try:
        data = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:
        return None, False
    return (None if data is None else np.frombuffer(data, np.int32)[:5].tolist()), True


def colours(frame: Any) -> np.ndarray:
    """Red, green and blue, (H, W, 3) uint8; transparency lies over white, as that of pictures does.

    Untagged frames of HD are of BT.709, smaller ones of BT.601.
    """
    if int(frame.colorspace) == YCGCO:
        return _from_ycgco(frame)
    words = {"src_colorspace": BT709} if is_untagged_hd(frame) else {}
    if frame.format.has_palette or any(part.is_alpha for part in frame.format.components):
        pixels = frame.to_ndarray(format="rgba", **words)
        if (pixels[..., 3] < 255).any():
            return np.asarray(convert_image(Image.fromarray(pixels)))
        return np.ascontiguousarray(pixels[..., :3])
    return frame.to_ndarray(format="rgb24", **words)


def _from_ycgco(frame: Any) -> np.ndarray:
    """Of a matrix that FFmpeg's scaler does not know (H.273, table 4, value 8): by its formula."""
    full = int(frame.color_range) == 2
    frame.colorspace = BT709  # of source and result, so that nothing but the raster is converted
    form = "yuvj444p" if full else "yuv444p"
    planes = frame.to_ndarray(format=form, src_colorspace=BT709, dst_colorspace=BT709).astype(np.float64)
    y, green, orange = (
        planes if full else (planes - [[[16]], [[128]], [[128]]]) * [[[255 / 219]], [[255 / 224]], [[255 / 224]]]
    )
    if full:
        green, orange = green - 128, orange - 128
    rest = y - green
    return np.rint(np.stack([rest + orange, y + green, rest - orange], axis=-1).clip(0, 255)).astype(np.uint8)


def say_unused(frame: Any, path: str | os.PathLike[str]) -> None:
    """What a container says of how its frames are to be shown, and that is not heeded; and what was guessed."""
    from av.sidedata.sidedata import Type

    unused = []
    matrix, named = display_matrix(frame)
    if matrix is not None:
        a, b, _, c, d = map(abs, matrix)
        if min(max(a, d), max(b, c)) > 0.01 * max(a, b, c, d):
            unused.append("an angle that is no quarter turn")
    if frame.interlaced_frame:
        unused.append("interlaced fields")
    if int(frame.color_trc) in (16, 18):
        unused.append("high dynamic range (its values are taken as they are)")
    if named:
        unused += [words for kind, words in UNUSED.items() if frame.side_data.get(getattr(Type, kind)) is not None]
    else:
        unused.append("side data that the installed PyAV has no name for")
    if unused:
        warnings.warn(f"{os.fspath(path)}: frames are taken without heed of {', '.join(unused)}", stacklevel=2)
    if is_untagged_hd(frame):
        warnings.warn(f"{os.fspath(path)}: does not say of which colours it is; BT.709 is taken, as it is HD",
                      stacklevel=2)  # fmt: skip
