"""Pictures for people: words beside images, images in a grid, and curves on axes, all with NumPy and Pillow.

An image is (H, W, C) uint8, or float in [0, 1], C = 1 or 3, or (H, W); what comes back is (H, W, 3) uint8 on white.
Words are in the font that ships with Pillow: Latin letters, digits and ± but no Greek ones.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Num, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

AnyImage = Num[np.ndarray, "_ _ ..."]

Pixels = UInt8[np.ndarray, "_ _ 3"]

INK, PALE = "#282828", "#c8c8c8"

PALETTE = ("#1f62a5", "#d6521e", "#2e8a46", "#8c50a5", "#785e3c", "#1496a0")
"""Colours of curves that have none of their own, in order."""

_FINER = 4  # curves are drawn so many times finer and reduced, to be smooth


@dataclass(frozen=True)
class Series:
    """A curve through the points (x, y), broken where a value is not finite.

    Attributes:
        label: Its name in the legend; none if empty.
        color: As Pillow reads colours, such as "#1f62a5"; the next of `PALETTE` if None.
        area: Whether it is shown as the area between it and zero instead, as a histogram is.
    """

    x: Num[np.ndarray, " N"]
    y: Num[np.ndarray, " N"]
    label: str = ""
    color: str | None = None
    area: bool = False


def to_rgb(image: AnyImage) -> Pixels:
    """An image of any form above as (H, W, 3) uint8; floats beyond [0, 1] are clipped.

    Example:
        >>> to_rgb(np.full((1, 1), 0.5)).tolist()
        [[[128, 128, 128]]]
    """
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"expected an image (H, W), (H, W, 1) or (H, W, 3), got {image.shape}")
    if np.issubdtype(image.dtype, np.floating):
        image = np.rint(np.nan_to_num(image).clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(image, 3 // image.shape[2], axis=2)


def words(text: str, size: int = 12) -> Pixels:
    """A text of one or more centred lines as an image, no larger than it needs.

    Example:
        >>> words("SIREN").shape
        (15, 33, 3)
    """
    font = _font(size)
    lines = text.split("\n")
    line = sum(font.getmetrics())  # with room for letters that reach below
    width = 2 + math.ceil(max(map(font.getlength, lines)))
    image = Image.new("RGB", (width, line * len(lines)), "white")
    for i, text in enumerate(lines):
        ImageDraw.Draw(image).text((image.width / 2, i * line), text, fill=INK, font=font, anchor="ma")
    return np.array(image)


def label(image: AnyImage, text: str, size: int = 12) -> Pixels:
    """An image with a text above it, centred; widened if the text is wider.

    Example:
        >>> label(np.zeros((32, 64)), "SIREN").shape
        (51, 64, 3)
    """
    above = words(text, size)
    width = max(above.shape[1], image.shape[1])
    return np.concatenate(
        [_centered(above, above.shape[0] + 4, width), _centered(to_rgb(image), image.shape[0], width)]
    )


def tile(
    rows: Sequence[Sequence[AnyImage]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    gap: int = 4,
    size: int = 12,
) -> Pixels:
    """Images in a grid, with the names of the rows at the left and of the columns above.

    Args:
        rows: Images of each row, of any sizes; each is centred in its cell. Rows may be shorter than others.
        row_labels, column_labels: Names, none, or one each; they may have several lines.
        gap: Pixels between images.
        size: Height of the letters.

    Raises:
        ValueError: If there is no image, or the number of labels is another than that of the rows or columns.

    Example:
        >>> tile([[np.zeros((8, 8)), np.zeros((16, 16, 3))]], column_labels=["a", "b"]).shape
        (43, 37, 3)
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise ValueError("expected at least one image")
    for labels, count, what in [(row_labels, len(rows), "row"), (column_labels, columns, "column")]:
        if labels and len(labels) != count:
            raise ValueError(f"expected {count} {what} labels, got {len(labels)}")
    cells = [[to_rgb(image) for image in row] for row in rows]
    if column_labels:
        cells = [[words(text, size) for text in column_labels], *cells]
        row_labels = ["", *row_labels] if row_labels else ()
    if row_labels:
        cells = [[words(text, size), *row] for text, row in zip(row_labels, cells, strict=True)]
    heights = [max((image.shape[0] for image in row), default=0) for row in cells]
    widths = [max(row[i].shape[1] for row in cells if i < len(row)) for i in range(max(map(len, cells)))]
    canvas = np.full((sum(heights) + gap * (len(heights) + 1), sum(widths) + gap * (len(widths) + 1), 3), 255, np.uint8)
    top = gap
    for row, height in zip(cells, heights, strict=True):
        left = gap
        for image, width in zip(row, widths, strict=False):
            canvas[top : top + height, left : left + width] = _centered(image, height, width)
            left += width + gap
        top += height + gap
    return canvas


def plot(
    *series: Series,
    size: tuple[int, int] = (240, 360),
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    y_ticks: bool = True,
    letters: int = 11,
    backdrop: AnyImage | None = None,
) -> Pixels:
    """Curves on axes with ticks at round numbers; the labels of the curves stand above the axes.

    Args:
        series: Curves, the later above the earlier ones.
        size: Pixels (H, W) of the whole picture.
        x_range, y_range: Ends of the axes; by default those of the data, y with a little room.
        y_ticks: Whether the y axis has numbers; a density needs none.
        letters: Height of the letters.
        backdrop: An image behind the curves that fills the axes, such as a spectrogram.

    Raises:
        ValueError: If the picture is too small for axes beside its words.

    Example:
        >>> x = np.linspace(0, 1, 50)
        >>> plot(Series(x, x**2, "x squared"), title="A parabola", x_label="x").shape
        (240, 360, 3)
    """
    height, width = size
    font = _font(letters)
    colors = [s.color or PALETTE[i % len(PALETTE)] for i, s in enumerate(series)]
    x_low, x_high = x_range or _ends([s.x for s in series])
    y_low, y_high = y_range or _ends([s.y for s in series] + [np.zeros(1) for s in series if s.area], room=0.05)

    # Margins for what stands around the axes.
    legend = _legend([(s.label, c) for s, c in zip(series, colors, strict=True) if s.label], width, font)
    y_values = _ticks(y_low, y_high, max(2, height // (3 * letters))) if y_ticks else []
    y_texts = _texts(y_values)
    left = 8 + math.ceil(max(map(font.getlength, y_texts), default=0)) + (letters + 4 if y_label else 0)
    top = letters // 2 + (letters + 4 if title else 0) + legend.shape[0]
    w, h = width - left - letters, height - top - letters - 8 - (letters + 4 if x_label else 0)
    if min(w, h) < 2 * letters:
        raise ValueError(f"expected a size with room for axes, got {height} x {width} pixels (height x width)")

    def across(x: np.ndarray) -> np.ndarray:
        return (w * (x - x_low) / (x_high - x_low)).clip(-w, 2 * w)

    def down(y: np.ndarray) -> np.ndarray:
        return (h * (y_high - y) / (y_high - y_low)).clip(-h, 2 * h)

    behind = to_rgb(np.ones((1, 1)) if backdrop is None else backdrop)
    inside = Image.fromarray(behind).resize((w, h), Image.Resampling.BILINEAR).resize((w * _FINER, h * _FINER))
    pen = ImageDraw.Draw(inside)
    for s, color in zip(series, colors, strict=True):
        for x, y in _finite_runs(s):
            path = list((_FINER * np.stack([across(x), down(y)], axis=-1)).ravel())
            if s.area:
                pen.polygon(path, fill=color)
            else:
                pen.line(path, fill=color, width=_FINER * 3 // 2, joint="curve")

    image = Image.new("RGB", (width, height), "white")
    image.paste(inside.resize((w, h), Image.Resampling.BOX), (left, top))
    image.paste(Image.fromarray(legend), (0, top - legend.shape[0]))
    pen = ImageDraw.Draw(image)
    pen.rectangle((left - 1, top - 1, left + w, top + h), outline=PALE)
    x_values, x_texts = _fitting_ticks(x_low, x_high, w, font)
    for place, text in zip(left + across(np.array(x_values)), x_texts, strict=True):
        pen.line((place, top + h, place, top + h + 3), fill=INK)
        reach = font.getlength(text) / 2
        pen.text((min(max(place, reach), width - reach), top + h + 5), text, fill=INK, font=font, anchor="mt")
    for place, text in zip(down(np.array(y_values)), y_texts, strict=True):
        pen.line((left - 4, top + place, left - 1, top + place), fill=INK)
        pen.text((left - 6, top + place), text, fill=INK, font=font, anchor="rm")
    pen.text((left + w / 2, 2), title, fill=INK, font=font, anchor="mt")
    pen.text((left + w / 2, height - 2), x_label, fill=INK, font=font, anchor="mb")
    if y_label:
        turned = Image.fromarray(np.rot90(words(y_label, letters)).copy())
        image.paste(turned, (2, round(top + (h - turned.height) / 2)))
    return np.array(image)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _centered(image: Pixels, height: int, width: int) -> Pixels:
    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas = np.full((height, width, 3), 255, np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _ends(values: Sequence[np.ndarray], room: float = 0.0) -> tuple[float, float]:
    """The range of all finite values, with a share of it as room at both ends; never empty."""
    finite = [v[np.isfinite(v)] for v in values]
    low = min((float(v.min()) for v in finite if v.size), default=0.0)
    high = max((float(v.max()) for v in finite if v.size), default=1.0)
    if low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return low - room * (high - low), high + room * (high - low)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many multiples of 1, 2 or 5 times a power of ten, from low to high."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [i * step for i in range(first, last + 1)]
    raise AssertionError("a step of 20 times the power leaves fewer than `most` ticks")


def _texts(ticks: Sequence[float]) -> list[str]:
    """Numbers with as many digits as tell them apart."""
    if not any(ticks):
        return ["0" for _ in ticks]
    top = math.floor(math.log10(max(map(abs, ticks))))
    step = min((b - a for a, b in pairwise(ticks)), default=10.0**top)
    digits = max(1, top - math.floor(math.log10(step) + 1e-9) + 1, top + 1 if top < 4 else 1)
    return [re.sub(r"e([+-])0*", lambda e: "e" + e[1].strip("+"), f"{tick:.{digits}g}") for tick in ticks]


def _fitting_ticks(low: float, high: float, width: int, font: ImageFont.FreeTypeFont) -> tuple[list[float], list[str]]:
    """As many ticks as a width of so many pixels has room for, with their texts."""
    for most in range(8, 1, -1):
        ticks = _ticks(low, high, most)
        texts = _texts(ticks)
        spacing = width * min((b - a for a, b in pairwise(ticks)), default=high - low) / (high - low)
        if max(map(font.getlength, texts), default=0) + font.size / 2 <= spacing:
            return ticks, texts
    return ticks[:1], texts[:1]


def _legend(entries: Sequence[tuple[str, str]], width: int, font: ImageFont.FreeTypeFont) -> Pixels:
    """Samples of colours with their names, side by side and in as many lines as it takes; of no height if empty."""
    line, places, x, y = sum(font.getmetrics()), [], 8.0, 0
    for text, color in entries:
        extent = 2 * font.size + font.getlength(text)
        if x > 8 and x + extent > width:
            x, y = 8.0, y + line
        places.append((x, y, text, color))
        x += extent + font.size
    image = Image.new("RGB", (width, y + line if entries else 0), "white")
    pen = ImageDraw.Draw(image)
    for x, y, text, color in places:
        pen.rectangle((x, y + line // 2 - 2, x + 1.5 * font.size, y + line // 2), fill=color)
        pen.text((x + 2 * font.size, y + line / 2), text, fill=INK, font=font, anchor="lm")
    return np.array(image).reshape(-1, width, 3)


def _finite_runs(s: Series) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The stretches of a series without a gap, of two points at least; an area's from zero and back to it."""
    finite = np.isfinite(s.x) & np.isfinite(s.y)
    starts = np.flatnonzero(np.diff(finite, prepend=False, append=False))
    for first, end in starts.reshape(-1, 2):
        if end - first > 1:
            x, y = s.x[first:end], s.y[first:end]
            yield (np.r_[x[0], x, x[-1]], np.r_[0.0, y, 0.0]) if s.area else (x, y)


def sheet(columns: Mapping[str, Float[Tensor, "M H W C"]], gap: int = 2) -> np.ndarray:
    """Pictures in columns with titles, as (H, W, C) uint8 on white.

    Example:
        >>> sheet({"a": torch.zeros(2, 8, 8, 1), "b": torch.zeros(2, 8, 8, 1)}).shape
        (34, 18, 1)
    """
    stacked = torch.stack([images.float().clamp(0, 1).cpu() for images in columns.values()], dim=1)
    w = stacked.shape[3]
    padded = torch.nn.functional.pad(stacked, (0, 0, 0, gap, 0, gap), value=1.0)
    cells = rearrange(padded, "m k h w c -> (m h) (k w) c")[: -gap or None, : -gap or None]
    pixels = (cells * 255).round().to(torch.uint8).numpy()
    title = Image.new("L", (pixels.shape[1], 16), 255)
    font = ImageFont.load_default(size=11)
    for i, name in enumerate(columns):
        ImageDraw.Draw(title).text(((i + 0.5) * w + i * gap, 8), name, fill=0, font=font, anchor="mm")
    return np.concatenate([np.repeat(np.asarray(title)[..., None], pixels.shape[2], axis=2), pixels])
