"""Figures for people, by matplotlib: axes, heat maps, and grids of images with titles.

A figure is drawn by matplotlib's Agg canvas: no window, no pyplot, no global settings. `figure_pixels` turns it into an
image. matplotlib is imported when the first figure is made.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Num, UInt8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 96
"""Pixels per inch: letters of matplotlib's 10 points are 13 pixels high."""

Pixels = UInt8[np.ndarray, "H W 3"]

Image = Num[np.ndarray, "_ _ ..."]
"""(H, W), (H, W, 1) or (H, W, 3); uint8, or float in [0, 1]."""


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


def figure_pixels(figure: "Figure") -> Pixels:
    """A figure as an image (H, W, 3), drawn at its own size.

    Example:
        >>> figure_pixels(heatmap({"A title": np.eye(3)}, unit="m", size=(300, 400))).shape
        (300, 400, 3)
    """
    canvas: Any = figure.canvas  # the Agg canvas of `new_figure`
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def heatmap(
    panels: Mapping[str, Num[np.ndarray, "_ _"]],
    *,
    unit: str,
    limits: tuple[float, float] | None = None,
    extent: tuple[float, float, float, float] | None = None,
    x_label: str = "column",
    y_label: str = "row",
    colors: str = "viridis",
    stacked: bool = False,
    aspect: str = "equal",
    size: tuple[int, int] = (400, 480),
) -> "Figure":
    """Arrays (H, W) as colours on axes, each below its title, with one colour bar for all.

    The colour bar ends in arrows where values lie beyond it. What is not finite is left white.

    Args:
        panels: Arrays by their titles; row 0 is at the top.
        unit: Quantity and unit, beside the colour bar.
        limits: Ends of the colour bar; None for those of the finite values.
        extent: Where the edges of an array are on the axes: left, right, bottom, top. None for rows and columns.
        x_label, y_label: Names of the axes, with units.
        colors: A colour map of matplotlib.
        stacked: Whether the panels stand above each other instead of side by side.
        aspect: "equal", or "auto" to fill the figure.
        size: (height, width) of the figure in pixels.

    Example:
        >>> figure = heatmap({"Level": np.array([[0.0, 9.0]])}, unit="dB", limits=(0, 1))
        >>> [axes.get_title() for axes in figure.axes], figure.axes[-1].get_ylabel()
        (['Level', ''], 'dB')
    """
    finite = [values[np.isfinite(values)] for values in panels.values()]
    low = min((float(v.min()) for v in finite if v.size), default=0.0)
    high = max((float(v.max()) for v in finite if v.size), default=1.0)
    bottom, top = limits or (low, high)
    rows, columns = (len(panels), 1) if stacked else (1, len(panels))
    figure, grid = new_figure(*size, rows, columns, sharex=True, sharey=True)
    for axes, (title, values) in zip(grid.flat, panels.items(), strict=True):
        drawn = np.where(np.isfinite(values), values, np.nan)
        image = axes.imshow(drawn, colors, vmin=bottom, vmax=top, extent=extent, aspect=aspect)
        axes.set_title(title)
        axes.locator_params(axis="x", nbins=max(2, size[1] // (80 * columns)))  # or numbers touch
    for axes in grid[-1]:
        axes.set_xlabel(x_label)
    for axes in grid[:, 0]:
        axes.set_ylabel(y_label)
    beyond = {(True, True): "both", (True, False): "min", (False, True): "max", (False, False): "neither"}
    figure.colorbar(image, ax=grid, label=unit, extend=beyond[low < bottom, high > top])
    return figure


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
