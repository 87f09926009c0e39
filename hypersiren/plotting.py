"""Figures for people, by matplotlib: pictures with colour bars, curves, and grids of images with titles.

A `Picture` or a `Curve` says what is drawn, as plain arrays with title and units; `draw_rows` lays rows of them out in
one figure. `image_grid` sets images side by side pixel for pixel. A figure is drawn by matplotlib's Agg canvas: no
window, no pyplot, no global settings. `figure_pixels` turns it into an image. matplotlib is imported when the first
figure is made.
"""

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Num, UInt8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 96
"""Pixels per inch: letters of matplotlib's 10 points are 13 pixels high."""

WIDTH = 800
"""Pixels of a figure of rows from left to right."""

ZOOM = 1.5
"""A figure in a file has so many times the pixels that it is laid out for: its pictures are sharper."""

MOST_PIXELS = 1024
"""A picture in a figure has at most so many pixels along each axis; a larger one is thinned out."""

Pixels = UInt8[np.ndarray, "H W 3"]

Image = Num[np.ndarray, "_ _ ..."]
"""(H, W), (H, W, 1) or (H, W, 3); uint8, or float in [0, 1]."""


@dataclass(frozen=True)
class Picture:
    """An image, or numbers as colours with a colour bar.

    Attributes:
        title: Above it.
        values: (H, W) numbers, or (H, W, C) colours; row 0 is at the top.
        unit: Of numbers: quantity and unit, beside the colour bar.
        limits: Of numbers: ends of the colour bar; None for those of the finite values. The bar ends in arrows where
            values lie beyond it, and what is not finite is white.
        colors: Of numbers: a colour map of matplotlib.
        extent: Where its edges are on the axes: left, right, bottom, top. None for no numbers at the axes.
        x_label, y_label: Names of the axes, with units.
        aspect: "equal", or "auto" to fill its place.
        lines: Distance of contour lines, each at a multiple of it, that at 0 thick; None for none.
    """

    title: str
    values: Num[np.ndarray, "H W *C"]
    unit: str = ""
    limits: tuple[float, float] | None = None
    colors: str = "viridis"
    extent: tuple[float, float, float, float] | None = None
    x_label: str = ""
    y_label: str = ""
    aspect: Literal["equal", "auto"] = "equal"
    lines: float | None = None

    @property
    def scale(self) -> tuple[str, float, float, str] | None:
        """Unit, ends and colours of its colour bar; None for colours."""
        if self.values.ndim > 2:
            return None
        low, high = self.limits or self._ends()
        return self.unit, low, high, self.colors

    def _ends(self) -> tuple[float, float]:
        finite = self.values[np.isfinite(self.values)]
        return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)

    @property
    def beyond(self) -> tuple[bool, bool]:
        """Whether values lie below and above the colour bar."""
        (low, high), (_, bottom, top, _) = self._ends(), self.scale or ("", -math.inf, math.inf, "")
        return low < bottom, high > top

    def height(self, width: float) -> float:
        """Pixels from top to bottom that suit this width."""
        if self.aspect == "auto":
            return 130.0
        high, wide = self.values.shape[:2]
        if self.extent is not None:
            high, wide = abs(self.extent[3] - self.extent[2]), abs(self.extent[1] - self.extent[0])
        return min(max(width * high / wide, 60.0), 240.0)

    def draw(self, axes: "Axes") -> Any:
        """Draw it on axes; what a colour bar is made of."""
        every = thinning(self.values.shape[:2])
        values = self.values[::every, ::every]
        if self.scale is None:
            drawn = axes.imshow(to_rgb(values), extent=self.extent, aspect=self.aspect)
        else:
            _, low, high, colors = self.scale
            finite = np.where(np.isfinite(values), values.astype(float), np.nan)  # float32 may overflow in scaling
            drawn = axes.imshow(finite, colors, vmin=low, vmax=high, extent=self.extent, aspect=self.aspect)
        if self.extent is None:
            axes.set(xticks=[], yticks=[])
        if self.lines is not None:
            self._contours(axes, self.lines)
        return drawn

    def _contours(self, axes: "Axes", spacing: float) -> None:
        low, high = self._ends()
        levels = spacing * np.arange(np.ceil(low / spacing), np.floor(high / spacing) + 1)
        if len(levels) and min(self.values.shape) > 1 and np.isfinite(self.values).any():
            widths = np.where(np.isclose(levels, 0), 2.0, 0.4)
            place: Any = {"origin": "upper", "extent": self.extent}
            axes.contour(self.values, levels, colors="black", linewidths=widths, linestyles="solid", **place)


@dataclass(frozen=True)
class Curve:
    """Lines on axes.

    Attributes:
        title: Above them.
        lines: By their names, places and values; (N, 2) values are a band from the first to the second. A legend names
            them where there are several.
        x_label, y_label: Names of the axes, with units.
        log: Whether the axis of values is logarithmic; those that are not above 0 are left out.
        x_limits, y_limits: Ends of the axes; None for those of the values.
    """

    title: str
    lines: Mapping[str, tuple[Sequence[float] | Num[np.ndarray, " N"], Sequence[float] | Num[np.ndarray, "N *two"]]]
    x_label: str
    y_label: str
    log: bool = False
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None

    def height(self, width: float) -> float:
        """Pixels from top to bottom that suit this width."""
        return 130.0

    def draw(self, axes: "Axes") -> None:
        """Draw it on axes."""
        for i, (name, (places, values)) in enumerate(self.lines.items()):
            x, y = np.asarray(places, float), np.asarray(values, float)
            if self.log:
                y = np.where(y > 0, y, np.nan)
                if np.isfinite(y).any():
                    axes.set_yscale("log")
            if y.ndim == 2:
                axes.fill_between(x, y[:, 0], y[:, 1], step="mid", color=f"C{i}", linewidth=0.8, label=name)
            else:
                style = "--" if i % 2 else "-"  # where lines coincide both are seen
                axes.plot(x, y, style, color=f"C{i}", linewidth=1.2, marker="." if len(x) < 20 else "", label=name)
        if len(self.lines) > 1:
            axes.legend(fontsize="x-small")
        axes.set(xlim=self.x_limits, ylim=self.y_limits)
        axes.grid(alpha=0.3)


Plot = Picture | Curve
"""What `draw_rows` lays out."""


def draw_rows(rows: Sequence[Sequence[Plot | None]], title: str = "", width: int = WIDTH) -> "Figure":
    """Rows of pictures and curves as one figure; each row has places of the same width.

    Neighbours in a row with the same unit, limits and colours share a colour bar, those with the same axis its name.

    Args:
        rows: Each with at least one; None leaves a place empty.
        title: Of the whole figure.
        width: Pixels.

    Example:
        >>> wave = np.sin(np.linspace(0, 9, 50))
        >>> figure = draw_rows([[Picture("Level", np.eye(3), "dB")], [Curve("Wave", {"u": (wave, wave)}, "s", "V")]])
        >>> [(axes.get_title(), axes.get_ylabel()) for axes in figure.axes]
        [('Level', ''), ('', 'dB'), ('Wave', 'V')]
    """
    figure = _canvas(1, 1)
    figure.set_layout_engine("constrained")
    titles, heights = [], []
    for row in rows:
        # What is left of a place beside colour bars and the names of axes.
        beside = 85 * len(list(_bars(row))) + 50 * any(plot.y_label for plot in row if plot)
        place = (width - beside) / len(row) - 12
        titles.append(_wrapped([plot.title if plot else "" for plot in row], place))
        names = max(22 * (plot.x_label.count("\n") + 1) if plot and plot.x_label else 0 for plot in row)
        labels = names + 18 * any(_has_numbers(plot) for plot in row)
        legend = 24 * any(isinstance(plot, Picture) and plot.lines is not None for plot in row)
        lines = max(text.count("\n") + 1 for text in titles[-1])
        heights.append(max(plot.height(place) for plot in row if plot) + 17 * lines + labels + legend + 12)
    head = _wrapped([title], width)[0]
    _resize(figure, round(sum(heights) + (20 * (head.count("\n") + 1) if head else 0)), width)
    if head:
        figure.suptitle(head, fontsize=11, fontweight="bold", parse_math=False)
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, row, shown in zip(parts, rows, titles, strict=True):
        _draw_row(part, row, shown)
    return figure


def _draw_row(figure: Any, row: Sequence[Plot | None], titles: Sequence[str]) -> None:
    grid = figure.subplots(1, len(row), squeeze=False)[0]
    drawn: list[Any] = []
    for axes, plot, title, left in zip(grid, row, titles, [None, *row], strict=False):
        if plot is None:
            axes.set_axis_off()
            drawn.append(None)
            continue
        drawn.append(plot.draw(axes))
        axes.set_title(title, fontsize=10, parse_math=False)
        axes.set_xlabel(plot.x_label, fontsize=9)
        axes.tick_params(which="both", labelsize=8)
        narrow = isinstance(plot, Picture) and plot.aspect != "auto"
        axes.locator_params(axis="x", nbins=min(5 if narrow else 12, max(2, 12 // len(row))))  # or numbers touch
        if _same_axis(left, plot):
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel(plot.y_label, fontsize=9)
    for start, stop in _bars(row):
        first: Any = row[start]
        ends = [plot.beyond for plot in row[start:stop] if isinstance(plot, Picture)]
        below, above = (any(side) for side in zip(*ends, strict=True))
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
        bar = figure.colorbar(drawn[start], ax=list(grid[start:stop]), extend=extend)
        bar.set_label(first.unit, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.formatter.set_powerlimits((-3, 4))
        if first.lines is not None:
            bar.ax.axhline(0, color="black", linewidth=2)
    if spacing := next((plot.lines for plot in row if isinstance(plot, Picture) and plot.lines), None):
        from matplotlib.lines import Line2D

        thick, thin = (Line2D([], [], color="black", linewidth=width) for width in (2.0, 0.4))
        names = ["surface (distance 0)", f"lines {spacing:g} apart"]
        figure.legend([thick, thin], names, loc="outside lower center", ncols=2, fontsize="small", frameon=False)


def _bars(row: Sequence[Plot | None]) -> Iterator[tuple[int, int]]:
    """From where to where plots share a colour bar."""
    scales = [plot.scale if isinstance(plot, Picture) else None for plot in row]
    start = 0
    for i in range(1, len(row) + 1):
        if i == len(row) or scales[i] != scales[start]:
            if scales[start] is not None:
                yield start, i
            start = i


def _has_numbers(plot: Plot | None) -> bool:
    return isinstance(plot, Curve) or (plot is not None and plot.extent is not None)


def _same_axis(left: Plot | None, plot: Plot) -> bool:
    """Whether the axis of rows is that of the left neighbour."""
    if isinstance(left, Picture) and isinstance(plot, Picture):
        return (
            left.extent is not None
            and plot.extent is not None
            and ((left.y_label, left.extent[2:]) == (plot.y_label, plot.extent[2:]))
        )
    if isinstance(left, Curve) and isinstance(plot, Curve):
        return left.y_limits is not None and (left.y_label, left.y_limits) == (plot.y_label, plot.y_limits)
    return False


def _wrapped(titles: Sequence[str], width: float) -> list[str]:
    """Titles in lines that fit the width of their place, in pixels."""
    return ["\n".join(textwrap.fill(line, max(8, int(width / 7))) for line in each.split("\n")) for each in titles]


def new_figure(
    height: int, width: int, rows: int = 1, columns: int = 1, **settings: Any
) -> tuple["Figure", np.ndarray]:
    """An empty figure of so many pixels, and its axes as an array (rows, columns).

    Args:
        height, width: Of the whole figure, in pixels.
        rows, columns: Of axes.
        settings: For `Figure.subplots`, such as `sharex=True`.

    Example:
        >>> figure, axes = new_figure(240, 360, rows=2)
        >>> axes.shape, figure_pixels(figure).shape
        ((2, 1), (240, 360, 3))
    """
    figure = _canvas(height, width)
    figure.set_layout_engine("constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **settings)


def figure_pixels(figure: "Figure", zoom: float = 1.0) -> Pixels:
    """A figure as an image (H, W, 3), drawn at its own size, or so many times as large.

    Example:
        >>> figure = draw_rows([[Picture("A title", np.eye(3), "m")]])
        >>> figure_pixels(figure).shape[1], figure_pixels(figure, zoom=2).shape[1]
        (800, 1600)
    """
    canvas: Any = figure.canvas  # the Agg canvas of `new_figure`
    figure.set_dpi(zoom * DPI)
    canvas.draw()
    pixels = np.array(canvas.buffer_rgba())[..., :3]
    figure.set_dpi(DPI)
    return pixels


def image_grid(
    rows: Sequence[Sequence[Image]],
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    gap: int = 4,
    title: str = "",
) -> "Figure":
    """Images in a grid, pixel for pixel, with titles at the left of the rows and above the columns.

    Args:
        rows: Images of each row, of any sizes; each is centred in its cell. Rows may be shorter than others.
        row_titles, column_titles: None, or one each; they may have several lines.
        gap: Pixels around images.
        title: Of the whole figure, above everything.

    Raises:
        ValueError: If there is no image, or the number of titles is not that of the rows or columns.

    Example:
        >>> figure = image_grid([[np.zeros((8, 80)), np.zeros((16, 80, 3))]], column_titles=["a", "b"], gap=2)
        >>> [text.get_text() for text in figure.texts], figure_pixels(figure).shape[1]
        (['a', 'b'], 166)
    """
    count = max(map(len, rows), default=0)
    if not count:
        raise ValueError("expected at least one image")
    for titles, wanted, what in [(row_titles, len(rows), "row"), (column_titles, count, "column")]:
        if titles and len(titles) != wanted:
            raise ValueError(f"expected {wanted} {what} titles, got {len(titles)}")
    cells = [[to_rgb(image) for image in row] for row in rows]
    figure = _canvas(1, 1)
    beside, above = (
        [figure.text(0, 0, title, ha="center", va="center", transform=None, parse_math=False) for title in titles]
        for titles in (row_titles, column_titles)
    )
    top = [figure.text(0, 0, title, ha="center", va="center", transform=None, parse_math=False)] if title else []
    boxes = {text: [math.ceil(side) + gap for side in text.get_window_extent().size] for text in figure.texts}
    widths = [max(row[i].shape[1] for row in cells if i < len(row)) for i in range(count)]
    heights = [max((image.shape[0] for image in row), default=0) for row in cells]
    widths[: len(above)] = [max(width, boxes[text][0]) for width, text in zip(widths, above, strict=False)]
    heights[: len(beside)] = [max(height, boxes[text][1]) for height, text in zip(heights, beside, strict=False)]
    left, head = (max((boxes[text][i] for text in texts), default=0) for i, texts in enumerate((beside, above)))
    # Where cells begin, from the left and from the top; the end of the figure is last.
    xs = list(accumulate((width + gap for width in widths), initial=left + gap))
    ys = list(accumulate((height + gap for height in heights), initial=head + gap))
    width_of_all = max([xs[-1], *(boxes[text][0] + gap for text in top)])
    _resize(figure, ys[-1] + sum(boxes[text][1] for text in top), width_of_all)
    for text in top:
        text.set_position((width_of_all / 2, ys[-1] + boxes[text][1] / 2))
    for text, y, height in zip(beside, ys, heights, strict=False):
        text.set_position(((gap + left) / 2, ys[-1] - y - height / 2))
    for text, x, width in zip(above, xs, widths, strict=False):
        text.set_position((x + width / 2, ys[-1] - (gap + head) / 2))
    for row, y, height in zip(cells, ys, heights, strict=False):
        for image, x, width in zip(row, xs, widths, strict=False):
            h, w = image.shape[:2]
            figure.figimage(image, x + (width - w) // 2, ys[-1] - y - (height - h) // 2 - h, origin="upper")
    return figure


def sheet(columns: Mapping[str, Num[np.ndarray, "M _ _ _"]], title: str = "") -> Pixels:
    """M images in each column, all columns with a title, as one image; and a title of it all, if given.

    Example:
        >>> sheet({"a": np.zeros((2, 8, 80, 1)), "b": np.zeros((2, 8, 80, 3))}).shape[1]
        172
    """
    rows = list(zip(*columns.values(), strict=True))
    return figure_pixels(image_grid(rows, column_titles=list(columns), title=title))


def film(frames: Sequence[Sequence[Picture]], width: int = 480) -> UInt8[np.ndarray, "T H W 3"]:
    """Rows of pictures as a clip: each frame has the places, scales and axes of the first, its own values and titles.

    Example:
        >>> film([[Picture(f"t = {t}", np.eye(3) * t, "u", (0.0, 1.0))] for t in range(3)], width=200).shape[::2]
        (3, 200)
    """
    figure = draw_rows([frames[0]], width=width)
    found = [figure_pixels(figure)]
    figure.set_layout_engine("none")  # what is laid out stays where it is
    places = figure.subfigs[0].axes[: len(frames[0])]
    for row in frames[1:]:
        for axes, picture in zip(places, row, strict=True):
            axes.images[0].set_data(picture.values)
            axes.set_title(picture.title, fontsize=10, parse_math=False)
        found.append(figure_pixels(figure))
    return np.stack(found)


def beside(clips: Mapping[str, UInt8[np.ndarray, "T H W C"]], least: int = 120) -> UInt8[np.ndarray, "T h w 3"]:
    """Clips of the same size side by side, each below its title.

    Args:
        clips: By their titles, which are short: no wider than `least` pixels.
        least: Small frames are enlarged to at least this width.

    Example:
        >>> clips = {"truth": np.zeros((5, 8, 70, 1), np.uint8), "result": np.zeros((5, 8, 70, 1), np.uint8)}
        >>> beside(clips).shape[2]
        292
    """
    first = next(iter(clips.values()))
    zoom = -(-least // first.shape[2])

    def grid(images: Sequence[np.ndarray]) -> Pixels:
        return figure_pixels(image_grid([images], column_titles=list(clips)))

    def enlarged(frame: np.ndarray) -> Pixels:
        return to_rgb(frame.repeat(zoom, 0).repeat(zoom, 1))

    # The titles are drawn once for all frames.
    canvas = grid([enlarged(first[0])] * len(clips))
    high, wide = enlarged(first[0]).shape[:2]
    top, spots = canvas.shape[0] - high - 4, [4 + i * (wide + 4) for i in range(len(clips))]
    found = np.repeat(canvas[None], len(first), axis=0)
    for clip, left in zip(clips.values(), spots, strict=True):
        for i, frame in enumerate(clip):
            found[i, top : top + high, left : left + wide] = enlarged(frame)
    return found


def thinning(size: Sequence[int]) -> int:
    """Which pixels of an image of this size a figure shows: every one, every second, third ...

    Example:
        >>> thinning((1024, 768)), thinning((1411, 1411))
        (1, 2)
    """
    return max(1, *(-(-side // MOST_PIXELS) for side in size))


def to_rgb(image: Image) -> Pixels:
    """An image of any form as (H, W, 3) uint8; floats beyond [0, 1] are clipped.

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


def _canvas(height: int, width: int) -> "Figure":
    """A figure without axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(dpi=DPI)
    FigureCanvasAgg(figure)
    _resize(figure, height, width)
    return figure


def _resize(figure: "Figure", height: int, width: int) -> None:
    # matplotlib rounds down: a hair more keeps whole pixels whole.
    figure.set_size_inches((width + 1e-3) / DPI, (height + 1e-3) / DPI)
