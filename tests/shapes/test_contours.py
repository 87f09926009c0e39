"""Contours of a signed distance: the surface is where it should be, and nothing warns."""

import warnings

import numpy as np
import pytest

from hypersiren.plotting import draw_rows, figure_pixels
from hypersiren.shapes.contours import MOST_LINES, contour_picture

pytestmark = pytest.mark.painted


def plane(height: int = 60, width: int = 120) -> np.ndarray:
    """The distance from the line x = 0.5 on [-1, 1] x [0, 1]; inside at the left."""
    return np.tile((np.arange(width) + 0.5) / width * 2 - 1.5, (height, 1))


def drawn(*arguments, **labels):
    """The figure of a picture, in the only place of its only row."""
    return draw_rows([[contour_picture(*arguments, **labels)]]).subfigs[0]


def test_titles_axes_and_scale_are_there():
    figure = drawn(plane(), "A plane", (-1.0, 1.0, 0.0, 1.0), x_label="y", y_label="z")
    axes, bar = figure.axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("A plane", "y", "z")
    assert axes.get_xlim() == (-1, 1)
    assert axes.get_ylim() == (0, 1)
    assert bar.get_ylabel() == "signed distance"
    assert bar.get_ylim() == pytest.approx((-1.4917, 1.4917), abs=1e-3)  # zero is in the middle
    assert [line.get_ydata()[0] for line in bar.lines] == [0]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.texts] == ["surface (distance 0)", "lines 0.05 apart"]


def test_the_surface_is_thick_and_where_the_distance_is_zero():
    figure = drawn(plane(), "A plane", (-1.0, 1.0, 0.0, 1.0))
    (contours,) = figure.axes[0].collections
    assert contours.levels.tolist() == pytest.approx((0.05 * np.arange(-29, 10)).tolist())
    (zero,) = np.flatnonzero(contours.get_linewidths() == 2)
    assert contours.levels[zero] == pytest.approx(0)
    np.testing.assert_allclose(contours.get_paths()[zero].vertices[:, 0], 0.5)
    pixels = figure_pixels(figure.figure).astype(int)

    def colour(x: float) -> np.ndarray:
        column, from_below = figure.axes[0].transData.transform((x, 0.5)).round().astype(int)
        return pixels[len(pixels) - 1 - from_below, column]

    assert colour(0.5).max() < 40  # black
    assert colour(-0.975)[2] > colour(-0.975)[0] + 50  # blue inside
    assert colour(0.975)[0] > colour(0.975)[2] + 20  # red outside


def test_up_is_up():
    values = np.tile((np.arange(50)[::-1, None] + 0.5) / 50 - 0.8, (1, 50))  # zero at y = 0.8 of [0, 1]
    (contours,) = drawn(values, "", (0.0, 1.0, 0.0, 1.0)).axes[0].collections
    (zero,) = np.flatnonzero(contours.get_linewidths() == 2)
    np.testing.assert_allclose(contours.get_paths()[zero].vertices[:, 1], 0.8)


def test_lines_of_steep_fields_are_few_and_the_legend_says_how_far_apart():
    figure = drawn(100 * plane(), "Steep", (-1.0, 1.0, 0.0, 1.0))
    (contours,) = figure.axes[0].collections
    assert MOST_LINES / 2 <= len(contours.levels) <= MOST_LINES + 1
    spacing = contours.levels[1] - contours.levels[0]
    assert figure.legends[0].texts[1].get_text() == f"lines {spacing:g} apart"


@pytest.mark.parametrize(
    "values", [np.full((9, 9), np.nan), np.ones((9, 9)), np.zeros((9, 9)), -np.ones((1, 9)), np.zeros((9, 1))]
)
def test_fields_without_a_surface_are_drawn_too(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figure_pixels(drawn(values, "Nothing").figure).shape[1] == 800
