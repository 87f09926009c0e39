"""Pictures in the precision of their file: 16-bit and 32-bit whole numbers and floats, any number of channels.

What black and white are is told by the type, floats being in [0, 1]; see `limits` for values that are not so. Which
files are read here, and not by Pillow, `hypersiren.signals.image.formats` says. Imports no torch.

Letters in shapes: H height, W width, C channels.
"""

import contextlib
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from PIL import Image

from hypersiren.signals.files import SignalError, check_library, check_size, muted
from hypersiren.signals.image.spaces import Space, say_converted, space_of_wide

ROUNDING = 1e-6
"""Share of the range by which floats may lie outside it, as computing in single precision leaves them."""

UNUSED = 8
"""Whole numbers that all lie below such a part of their type's range hardly use it: that is said."""

HINT = "--signal.range LOW,HIGH (range=(low, high) in Python) says what black and white are"


SEVERAL = "holds several pictures, the first is taken"


@dataclass(frozen=True)
class Wide:
    """A picture as its file has it, upright.

    Attributes:
        values: Channels of any type of numbers.
        full: What black and white are, where the type tells.
        alpha: Opacity in [0, 1], where there is one.
        valid: Which pixels have values at all, where the file says that some have none.
        space: The space of its colours, where it is not sRGB.
        premultiplied: Whether the colours are multiplied by their opacity.
        colours: How many of the channels, the first ones, are colours; None for all, or if the file does not tell.
    """

    values: Shaped[np.ndarray, "H W C"]
    full: tuple[float, float] | None
    alpha: Float[np.ndarray, "H W"] | None = None
    valid: Bool[np.ndarray, "H W"] | None = None
    space: Space | None = None
    premultiplied: bool = False
    colours: int | None = None


def wide_image(image: Image.Image) -> Wide | None:
    """A Pillow image, or None where its mode has 8 bits or fewer."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    check_size(4 * image.width * image.height)
    load(image)
    turn = orientation(image)
    values = upright(np.asarray(image), turn)[..., None]
    # Pillow inverts 8 bits whose tag says that 0 is white, and no others.
    inverted = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(262) == 0
    # Mode I is how Pillow holds 16-bit files of some formats (PGM), and 32-bit ones of others.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        whole = values.astype(np.uint16)
        clear = image.info.get("transparency")
        alpha = 1.0 - (whole[..., 0] == clear) if isinstance(clear, int) else None
        space = (
            space_of_wide(image.info, getattr(image, "filename", "") or "picture") if image.format == "PNG" else None
        )
        return Wide(65535 - whole if inverted else whole, (0, 65535), alpha, space=space)
    if inverted:
        raise SignalError(f"expected black as the least value, got white of {values.dtype}")
    return Wide(values, None)


def load(image: Image.Image) -> None:
    """Decode a Pillow image. Its libtiff prints what it finds wrong."""
    with muted() if image.format == "TIFF" else contextlib.nullcontext():
        image.load()


def orientation(image: Image.Image) -> int:
    """The EXIF tag that tells how a picture lies; 1 is upright."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception as error:  # a broken tag must not cost the picture
        check_library(error)
        return 1


def to_range(
    wide: Wide,
    given: tuple[float, float] | None = None,
    *,
    guess: bool = True,
    name: str = "picture",
    hint: str = HINT,
    known: Bool[np.ndarray, "H W"] | None = None,
) -> Float[np.ndarray, "H W C"]:
    """Values in [-1, 1], float64: -1 is black, 1 is white; in sRGB; transparency lies over white.

    Args:
        wide: The picture.
        given, guess, name, hint: See `limits`.
        known: Which pixels are asked for; the others get 0, whatever they are.

    Raises:
        SignalError: If a value is NaN or infinite, with their count, or nothing tells black and white.

    Example:
        >>> to_range(Wide(np.array([[[0], [65535]]], np.uint16), (0, 65535))).tolist()
        [[[-1.0], [1.0]]]
        >>> to_range(Wide(np.array([[[0.5], [np.nan]]]), None))
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected finite values, got 1 of 2 that are NaN or infinite: fill them, or
        leave them out by a mask
        >>> to_range(Wide(np.array([[[0.5], [np.nan]]]), None), known=np.array([[True, False]])).tolist()
        [[[0.0], [0.0]]]
    """
    return scaled(wide, *limits(wide, given, guess=guess, name=name, hint=hint, known=known), name=name, known=known)


def scaled(
    wide: Wide, low: float, high: float, *, name: str = "picture", known: Bool[np.ndarray, "H W"] | None = None
) -> Float[np.ndarray, "H W C"]:
    """As `to_range`, of black and white that are known."""
    with np.errstate(all="ignore"):
        unit = ((wide.values.astype(np.float64) - low) / (high - low)).clip(0, 1)
    if wide.premultiplied and wide.alpha is not None:
        unit = (unit / wide.alpha[..., None].clip(1e-9)).clip(0, 1)
    if wide.space is not None:
        say_converted(name, wide.space.name)
        unit = wide.space.to_srgb(unit)
    if wide.alpha is not None:
        unit = over_white(unit, wide.alpha)
    values = 2 * unit - 1
    return values if known is None else np.where(known[..., None], values, 0.0)


def limits(
    wide: Wide,
    given: tuple[float, float] | None = None,
    *,
    guess: bool = True,
    name: str = "picture",
    hint: str = HINT,
    known: Bool[np.ndarray, "H W"] | None = None,
) -> tuple[float, float]:
    """What black and white are.

    They are 0 and the largest number of an unsigned type of up to 16 bits, 0 and 1 of floats that lie there, and of all
    other pictures the least and the largest value, with a warning; so too where the channels are no colours (other than
    1 or 3 of them) and hardly use their type's range.

    Args:
        wide: The picture.
        given: What they are; values beyond are clipped, with a warning.
        guess: False to refuse a picture whose type does not tell, instead of taking its least and largest value.
        name: What the warnings call it.
        hint: What else can be done where the type does not tell.
        known: Which pixels are asked for; None for all.

    Raises:
        SignalError: If a value is NaN or infinite, with their count, or nothing tells black and white.
    """
    values = wide.values if known is None else wide.values[known]

    def say(text: str) -> None:
        warnings.warn(f"{name}: {text}", stacklevel=4)

    if values.dtype.kind == "f" and (bad := values.size - int(np.isfinite(values).sum())):
        raise SignalError(f"expected finite values, got {bad} of {values.size} that are NaN or infinite: fill them, or "
                          "leave them out by a mask")  # fmt: skip
    least, most = float(values.min()), float(values.max())
    low, high = given or wide.full or (0.0, 1.0)
    came = f"{values.dtype} from {least:.7g} to {most:.7g}"
    dark = wide.full is not None and most > 0 and (high - low) > UNUSED * most
    if given is not None:
        if outside := int(((values < low) | (values > high)).sum()):
            say(f"{outside} of {values.size} values, from {least:.7g} to {most:.7g}, lie outside the range "
                 f"{low:.7g} to {high:.7g} and are clipped")  # fmt: skip
        return low, high
    if wide.full is not None and (values.shape[-1] in (1, 3) or not dark or not guess or least == most):
        if dark:
            say(f"values of {came} are read on a scale of {low:g} to {high:g}, which is nearly black; {hint}")
        return low, high
    if values.dtype.kind == "f" and least >= -ROUNDING and most <= 1 + ROUNDING:
        return low, high
    if not guess or least == most:
        kind = "floats in [0, 1]" if values.dtype.kind == "f" else "whole numbers of up to 16 bits without sign"
        raise SignalError(f"expected {kind}, got {came}; {hint}")
    say(f"values of {came} are taken as black to white; {hint}")
    return least, most


def over_white(colours: Float[np.ndarray, "*shape"], alpha: Float[np.ndarray, "*some"]) -> Float[np.ndarray, "*shape"]:
    """Colours in [0, 1], channels last, of an opacity in [0, 1], laid over white.

    Example:
        >>> over_white(np.array([0.0, 1.0, 0.5]), np.array(0.5)).tolist()
        [0.5, 1.0, 0.75]
    """
    return 1 - alpha[..., None] * (1 - colours)


def upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Rows and columns turned as an EXIF or TIFF orientation tells.

    Example:
        >>> upright(np.array([[1, 2], [3, 4]]), 6).tolist()
        [[3, 1], [4, 2]]
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
