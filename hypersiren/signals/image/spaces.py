"""Colour spaces of pictures, and their conversion to sRGB, which is what all pictures are read in.

A file tells its space by an ICC profile, by the parts cICP, gAMA and cHRM of a PNG, or by its camera's EXIF (Adobe
RGB). Pictures of 8 bits with a profile are converted by LittleCMS (Pillow's ImageCms); those of more bits, and the
other ways to tell, by the formulas of ICC.1:2022 and IEC 61966-2-1 here, as ImageCms knows 8 bits only. What hardly
differs from sRGB is left alone. Imports no torch.
"""

import functools
import io
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from hypersiren.signals.files import check_library, one_line

SAME = 2.5 / 255
"""What a colour may change by in the conversion, at most, and the space still counts as sRGB."""

BLOCK = 2**20
"""Pixels that are converted at a time."""

Curve = Callable[[np.ndarray], np.ndarray]
"""From stored values in [0, 1] to linear light."""

# xy of red, green, blue and white.
PRIMARIES = {
    1: (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}
"""By their numbers in ITU-T H.273: BT.709 (sRGB), BT.2020, DCI-P3, Display P3."""

ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)

_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


@dataclass(frozen=True, eq=False)
class Space:
    """A colour space.

    Attributes:
        name: What people call it.
        curves: From stored values to linear light: one for all channels, or one for each.
        to_xyz: From linear red, green, blue to XYZ under D50; None for a space of grays.
    """

    name: str
    curves: tuple[Curve, ...]
    to_xyz: Float[np.ndarray, "3 3"] | None

    def to_srgb(self, values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
        """Values of this space in [0, 1], channels last, as values of sRGB; colours that sRGB has not are clipped."""
        if values.ndim == 3 and values[..., 0].size > BLOCK:  # in parts, as several copies are made
            rows = max(1, BLOCK // values.shape[1])
            found = np.empty(values.shape)
            for top in range(0, len(values), rows):
                found[top : top + rows] = self.to_srgb(values[top : top + rows])
            return found
        if values.shape[-1] == 1 or self.to_xyz is None:
            return _encode(self.curves[0](values))
        curves = self.curves * 3 if len(self.curves) == 1 else self.curves
        linear = np.stack([curve(values[..., i]) for i, curve in enumerate(curves)], axis=-1)
        return _encode(linear @ (np.linalg.inv(_srgb_to_xyz()) @ self.to_xyz).T)


def different(space: Space) -> Space | None:
    """The space, or None if it hardly differs from sRGB.

    Example:
        >>> different(space_of_primaries("sRGB", PRIMARIES[1])), different(space_of_primaries("P3", PRIMARIES[12])).name
        (None, 'P3')
    """
    axis = np.linspace(0, 1, 6)
    colours = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    if space.to_xyz is None:
        colours = axis[:, None]
    with np.errstate(all="ignore"):
        change = np.abs(space.to_srgb(colours) - colours).max()
    return None if change <= SAME else space


def space_of_primaries(name: str, xy: Sequence[float], curve: Curve | None = None) -> Space:
    """The space of so coloured lights: xy of red, green, blue and white; curve None for that of sRGB."""
    columns = np.array([[xy[i] / xy[i + 1], 1, (1 - xy[i] - xy[i + 1]) / xy[i + 1]] for i in (0, 2, 4, 6)]).T
    lights, white = columns[:, :3], columns[:, 3]
    matrix = lights * np.linalg.solve(lights, white)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return Space(name, (_decode if curve is None else curve,), np.linalg.inv(_BRADFORD) * gains @ _BRADFORD @ matrix)


def space_of_profile(data: bytes) -> Space | None:
    """The space of an ICC profile of curves and primaries; None for one of tables, or a broken one.

    Example:
        >>> from PIL import ImageCms
        >>> profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        >>> different(space_of_profile(profile)) is None
        True
    """
    try:
        count = struct.unpack_from(">I", data, 128)[0]
        tags = {
            data[p : p + 4]: struct.unpack_from(">II", data, p + 4) for p in range(132, 132 + 12 * min(count, 200), 12)
        }
        part = {key: data[start : start + size] for key, (start, size) in tags.items()}
        name = _description(data)
        if data[16:20] == b"GRAY":
            return Space(name, (_curve(part[b"kTRC"]),), None)
        if data[16:20] != b"RGB " or data[20:24] != b"XYZ " or b"A2B0" in part:
            return None
        columns = [np.array(struct.unpack_from(">3i", part[c + b"XYZ"], 8)) / 65536 for c in (b"r", b"g", b"b")]
        return Space(name, tuple(_curve(part[c + b"TRC"]) for c in (b"r", b"g", b"b")), np.array(columns).T)
    except (struct.error, KeyError, ValueError, IndexError, ArithmeticError):
        return None


def space_of_png(info: Mapping[Any, Any]) -> Space | None:
    """The space that the parts gAMA and cHRM of a PNG tell, as Pillow's `info` has them, where it differs from sRGB.

    Parts that say more count before: cICP, then an ICC profile, then sRGB (PNG 3, section 4.3).
    """
    gamma, xy = info.get("gamma"), info.get("chromaticity")
    curve = None
    if gamma and 0.1 < gamma < 10 and abs(2.2 * gamma - 1) > 0.05:  # 1 / 2.2 is how old programs say sRGB
        curve = functools.partial(_power, exponent=1 / gamma)
    # Pillow has white first.
    lights = PRIMARIES[1] if not xy or len(xy) != 8 else (*xy[2:], *xy[:2])
    if max(abs(a - b) for a, b in zip(lights, PRIMARIES[1], strict=True)) < 0.01:
        lights = PRIMARIES[1]
    if (curve is None and lights == PRIMARIES[1]) or min(lights[1::2]) < 0.01:
        return None
    told = f"gamma {gamma:g}" if curve is not None else "primaries of its own"
    try:
        return different(space_of_primaries(told, lights, curve))
    except np.linalg.LinAlgError:
        return None


def space_of_code(code: bytes, name: str) -> Space | None:
    """The space of PNG's cICP (ITU-T H.273), where it differs from sRGB; what is not known is said and not heeded."""
    primaries, transfer = code[0], code[1]
    curves = {1: None, 6: None, 13: None, 14: None, 15: None, 8: _linear}
    curves |= {4: functools.partial(_power, exponent=2.2), 5: functools.partial(_power, exponent=2.8)}
    if transfer in (16, 18):
        warnings.warn(f"{name}: high dynamic range: its values are taken as they are", stacklevel=2)
        return None
    if transfer not in curves or primaries not in PRIMARIES:
        warnings.warn(f"{name}: a colour space that is not known (cICP {primaries}, {transfer}) is taken as sRGB",
                      stacklevel=2)  # fmt: skip
        return None
    words = {1: "BT.709", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}[primaries]
    return different(space_of_primaries(words, PRIMARIES[primaries], curves[transfer]))


def say_converted(name: str, space: str) -> None:
    """One line."""
    warnings.warn(f"{name}: colours are converted from {space} to sRGB", stacklevel=3)


def space_of_wide(info: Mapping[Any, Any], name: str) -> Space | None:
    """The space of a picture of more than 8 bits, from what its file tells, where it differs from sRGB; None if not."""
    if code := info.get("cicp"):
        return space_of_code(code, name)
    if profile := info.get("icc_profile"):
        space = space_of_profile(profile)
        if space is None:
            warnings.warn(f"{name}: its colour profile ({_description(profile)}) is not applied: at more than 8 bits "
                          "only those of curves and primaries are", stacklevel=2)  # fmt: skip
        return space and different(space)
    return None if "srgb" in info else space_of_png(info)


def in_srgb(image: Image.Image, name: str) -> Image.Image:
    """A decoded Pillow image of 8 bits in sRGB; what its file or camera says of its colours is followed, and said."""
    info = image.info
    if code := info.get("cicp"):
        return _through(image, space_of_code(code, name), name)
    if profile := info.get("icc_profile"):
        return _by_profile(image, profile, name)
    if image.format == "PNG" and "srgb" not in info:
        return _through(image, space_of_png(info), name)
    if image.format in ("JPEG", "MPO", "TIFF") and _is_adobe(image):
        gamma = functools.partial(_power, exponent=563 / 256)
        return _through(image, space_of_primaries("Adobe RGB", ADOBE, gamma), name)
    return image


def lab_to_srgb(lab: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """CIE L*a*b* under D50 (L from 0 to 100) as sRGB in [0, 1].

    Example:
        >>> lab_to_srgb(np.array([[100.0, 0, 0], [53.4, 0, 0]])).round(2).tolist()
        [[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]
    """
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    return _encode(xyz @ np.linalg.inv(_srgb_to_xyz()).T)


def _is_adobe(image: Image.Image) -> bool:
    """Whether a camera says that its colours are those of Adobe RGB (DCF 2.0)."""
    try:
        return image.getexif().get_ifd(0xA005).get(1) == "R03"
    except Exception as error:  # a broken tag must not cost the picture
        check_library(error)
        return False


def _through(image: Image.Image, space: Space | None, name: str) -> Image.Image:
    if space is None:
        return image
    plain = _unindexed(image)
    if plain.mode not in ("L", "LA", "RGB", "RGBA"):
        return image
    say_converted(name, space.name)
    pixels = np.array(plain)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    colours = 3 if plain.mode.startswith("RGB") else 1
    values = space.to_srgb(pixels[..., :colours] / 255)
    pixels[..., :colours] = np.rint(255 * values)
    return Image.fromarray(pixels[..., 0] if plain.mode == "L" else pixels, plain.mode)


def _unindexed(image: Image.Image) -> Image.Image:
    """Without palette and a colour that is transparent."""
    if image.mode == "1":
        return image
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode == "P" else image


def _by_profile(image: Image.Image, profile: bytes, name: str) -> Image.Image:
    from PIL import ImageCms

    plain = _unindexed(image)
    kinds = {"RGB ": ("RGB", "RGBA", "RGBX"), "GRAY": ("L", "LA"), "CMYK": ("CMYK",)}
    try:
        kind, words = _opened(profile)
        if plain.mode == "L" and kind == "RGB ":  # no profile of these pixels; they are gray in any space of colours
            return image
        if plain.mode not in kinds.get(kind, ()):
            raise ImageCms.PyCMSError(f"one of {kind.strip()} for pixels of {plain.mode}")
        source = {"LA": "L", "RGBA": "RGB", "RGBX": "RGB"}.get(plain.mode, plain.mode)
        target = "L" if source == "L" else "RGB"
        transform = _transform(profile, source, target)
        if transform is None:
            return image
        found = transform.apply(plain.convert(source) if plain.mode != source else plain)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(f"{name}: its colour profile is not applied ({one_line(error)})", stacklevel=2)
        return image
    say_converted(name, words)
    if plain.mode in ("LA", "RGBA"):
        found.putalpha(plain.getchannel("A"))
    found.info.pop("icc_profile", None)
    return found


@functools.lru_cache(8)
def _opened(profile: bytes) -> tuple[str, str]:
    """What it is of, and its name."""
    from PIL import ImageCms

    opened: Any = ImageCms.getOpenProfile(io.BytesIO(profile))
    return opened.profile.xcolor_space, _description(profile)


@functools.lru_cache(8)
def _transform(profile: bytes, source: str, target: str) -> Any:
    """To sRGB; None if that changes hardly anything."""
    from PIL import ImageCms

    opened = ImageCms.getOpenProfile(io.BytesIO(profile))
    if target == "L":  # of grays to grays there is no profile of Pillow's
        made = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), source, "RGB")
        ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        table = np.asarray(made.apply(ramp))[0, :, 1]
        return None if np.abs(table - np.arange(256.0)).max() <= 255 * SAME else _Table(table.tolist())
    made = ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), source, target)
    if source == "RGB":
        axis = np.linspace(0, 255, 6).astype(np.uint8)
        colours = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(1, -1, 3)
        changed = np.asarray(made.apply(Image.fromarray(colours)))
        if np.abs(changed - colours.astype(float)).max() <= 255 * SAME:
            return None
    return made


@dataclass(frozen=True)
class _Table:
    table: list[int]

    def apply(self, image: Image.Image) -> Image.Image:
        return image.point(self.table)


def _description(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        text = ImageCms.getProfileDescription(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError):
        text = ""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())[:60] or "a colour profile"


def _curve(data: bytes) -> Curve:
    """The tone curve of a profile (ICC.1:2022, sections 10.6 and 10.18)."""
    if data[:4] == b"curv":
        count = struct.unpack_from(">I", data, 8)[0]
        if count == 0:
            return _linear
        if count == 1:
            return functools.partial(_power, exponent=struct.unpack_from(">H", data, 12)[0] / 256)
        table = np.frombuffer(data, ">u2", count, 12) / 65535
        return lambda x: np.asarray(np.interp(x, np.linspace(0, 1, count), table))
    kind = struct.unpack_from(">H", data, 8)[0]
    g, *rest = (n / 65536 for n in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", data, 12))
    a, b, c, d, e, f = ((1, 0, 0, 0, 0, 0), (*rest, 0, 0, 0, 0), (*rest, 0, 0, 0), (*rest, 0, 0), tuple(rest))[kind][:6]
    if kind in (1, 2):
        c, d, e, f = 0, -b / a, c if kind == 2 else 0, c if kind == 2 else 0
    return lambda x: np.where(x >= d, np.clip(a * x + b, 0, None) ** g + e, c * x + f)


def _linear(values: np.ndarray) -> np.ndarray:
    return values


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    return np.clip(values, 0, None) ** exponent


def _decode(values: np.ndarray) -> np.ndarray:
    """From sRGB to linear light (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((np.clip(values, 0, None) + 0.055) / 1.055) ** 2.4)


def _encode(linear: np.ndarray) -> np.ndarray:
    linear = np.nan_to_num(linear).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@functools.cache
def _srgb_to_xyz() -> np.ndarray:
    matrix = space_of_primaries("sRGB", PRIMARIES[1]).to_xyz
    assert matrix is not None
    return matrix
