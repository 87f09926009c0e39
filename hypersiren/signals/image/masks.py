"""Masks: which pixels of a picture are known, read from an image. No torch."""

import os
import warnings

import numpy as np
from jaxtyping import Bool
from PIL import Image

from hypersiren.signals.files import SignalError, guarded
from hypersiren.signals.image.files import STORED, convert_image
from hypersiren.signals.image.formats import read_wide
from hypersiren.signals.image.pillow import open_image, turned
from hypersiren.signals.image.wide import Wide, load, to_range, wide_image


def read_mask(path: str | os.PathLike[str], size: tuple[int, int], *, whole: bool = False) -> Bool[np.ndarray, "H W"]:
    """Read a mask from an image file: unknown where it is transparent (less than half opaque), else known where bright.

    Bright is half of white or more: 128 of 255.

    Args:
        path: The file.
        size: Pixels (H, W) that it must have, the picture's.
        whole: Whether all of it may be known.

    Raises:
        SignalError: If the file cannot be read or has another size, or nothing is known, or all of it; the message says
            what was found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     pixels = np.array([[[255, 255], [255, 0], [0, 255], [0, 0]]], np.uint8)
        ...     Image.fromarray(pixels, "LA").save(f"{folder}/a.png")
        ...     read_mask(f"{folder}/a.png", (1, 4)).tolist()
        [[True, False, False, False]]
    """
    with guarded("broken or truncated image", path):
        wide = read_wide(path)
        if wide is None:
            with open_image(path) as image:
                wide = wide_image(image)
                if wide is None:
                    load(image)
                    upright = turned(image)
                    if upright.has_transparency_data:
                        pixels = np.asarray(upright.convert("RGBA"))
                        colours = np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))
                        wide = Wide(colours[..., None], (0, 255), pixels[..., 3] / 255)
                    else:
                        wide = Wide(np.asarray(convert_image(upright, gray=True))[..., None], (0, 255))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*nearly black")  # the errors below say it
            values = to_range(Wide(wide.values, wide.full), guess=False, hint=STORED).mean(2)
    opaque = np.ones(values.shape, bool) if wide.alpha is None else wide.alpha >= 0.5
    known = opaque & (values >= 128 / 127.5 - 1 - 1e-9 if wide.full == (0, 255) else values >= 0)
    if known.shape != size:
        (h, w), (mask_h, mask_w) = size, known.shape
        raise SignalError(
            f"expected a mask of the picture's {w}x{h} pixels (width x height), got {mask_w}x{mask_h}", path
        )
    if not known.any() or (known.all() and not whole):
        found = f"{100 * (~opaque).mean():.3g} % transparent" if wide.alpha is not None else "nothing transparent"
        raise SignalError(
            f"{'every' if known.any() else 'no'} pixel is known: the mask has {found}, values from "
            f"{wide.values.min():g} to {wide.values.max():g}; known is what is opaque and bright (half white)",
            path,
        )
    return known
