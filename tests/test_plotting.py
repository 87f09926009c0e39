"""Figures: what must be seen is there, at its place, and nothing is cut off or set for others."""

import warnings

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.plotting import (
    Curve,
    Picture,
    beside,
    draw_rows,
    figure_pixels,
    film,
    image_grid,
    new_figure,
    sheet,
    to_rgb,
)

pytestmark = pytest.mark.painted


def texts(figure) -> list:
    """Every text of a figure that is shown."""
    found = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
    return [text for text in found if text.axes is None or text.axes.axison]


def assert_nothing_is_cut_off(figure):
    pixels = figure_pixels(figure)
    assert pixels[[0, -1]].min() == pixels[:, [0, -1]].min() == 255
    height, width = pixels.shape[:2]
    for text in texts(figure):
        box = text.get_window_extent()
        if text in figure.texts or text.get_text() in [axes.get_title() for axes in figure.axes]:
            assert -1 <= box.x0 <= box.x1 <= width + 1, text
            assert -1 <= box.y0 <= box.y1 <= height + 1, text


def where(pixels: np.ndarray, image: np.ndarray) -> tuple[int, int]:
    """Row and column at which an image begins in a larger one, pixel for pixel."""
    h, w = image.shape[:2]
    corners = np.argwhere((pixels == image[0, 0]).all(-1)).tolist()
    (place,) = [(y, x) for y, x in corners if np.array_equal(pixels[y : y + h, x : x + w], image)]
    return place


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (height, width, 3), dtype=np.uint8)


def test_images_of_every_form_become_rgb():
    gray = np.array([[0.0, 0.5], [1.0, 2.0]])
    expected = np.array([[0, 128], [255, 255]])
    for image in (gray, gray[..., None], np.repeat(gray[..., None], 3, 2), expected.astype(np.uint8)):
        assert np.array_equal(to_rgb(image), np.repeat(expected[..., None], 3, 2))
    with pytest.raises(ValueError, match=r"expected an image \(H, W\).*, got \(2, 2, 4\)"):
        to_rgb(np.zeros((2, 2, 4)))


@given(height=st.integers(100, 500), width=st.integers(100, 500))
@settings(max_examples=10, deadline=None)
def test_a_figure_has_just_its_pixels(height, width):
    figure, axes = new_figure(height, width)
    assert axes.shape == (1, 1)
    assert figure_pixels(figure).shape == (height, width, 3)


def test_drawing_leaves_global_settings_alone():
    before = dict(matplotlib.rcParams)
    figure_pixels(draw_rows([[Picture("a", np.eye(3), "m"), Curve("b", {"c": ([0, 1], [2, 3])}, "s", "V")]]))
    assert dict(matplotlib.rcParams) == before
    assert matplotlib._pylab_helpers.Gcf.get_all_fig_managers() == []


def picture(values, **settings) -> Picture:
    return Picture(settings.pop("title", "a"), np.asarray(values, float), **settings)


def test_a_picture_names_everything_and_has_data_at_their_place():
    values = np.zeros((4, 8))
    values[0, 6] = 1.0  # at the top right
    labels = {"x_label": "x (m)", "y_label": "y (m)"}
    figure = draw_rows(
        [[picture(values, title="Pressure", unit="p (Pa)", extent=(0, 8, 0, 4), colors="gray", **labels)]]
    )
    pixels = figure_pixels(figure).astype(int)
    assert pixels.shape[1] == 800
    axes, bar = figure.subfigs[0].axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Pressure", "x (m)", "y (m)")
    assert bar.get_ylabel() == "p (Pa)"
    assert bar.get_ylim() == (0, 1)

    def at(x, y) -> list[int]:
        column, from_below = axes.transData.transform((x, y)).round().astype(int)
        return pixels[len(pixels) - 1 - from_below, column].tolist()

    assert at(6.5, 3.5) == [255, 255, 255]
    for x, y in [(1.5, 3.5), (6.5, 0.5), (5.5, 3.5), (7.5, 3.5), (6.5, 2.5)]:
        assert at(x, y) == [0, 0, 0]
    assert_nothing_is_cut_off(figure)


def test_neighbours_of_one_scale_share_a_bar_and_others_have_their_own():
    one = {"unit": "u", "limits": (0.0, 1.0), "extent": (0, 1, 0, 1), "y_label": "y"}
    row = [
        picture(np.eye(3), **one),
        picture(np.eye(3), **one),
        picture(np.eye(3), unit="v"),
        Picture("c", np.eye(3)[..., None]),
    ]
    (part,) = draw_rows([row]).subfigs
    assert [axes.get_ylabel() for axes in part.axes] == ["y", "", "", "", "u", "v"]
    (shared,) = {id(axes.images[0].colorbar) for axes in part.axes[:1]}
    assert part.axes[0].images[0].get_clim() == part.axes[1].images[0].get_clim() == (0, 1)
    assert part.axes[3].images[0].colorbar is None
    assert shared != id(part.axes[2].images[0].colorbar)


@pytest.mark.parametrize(("low", "high", "ends"), [(-1, 1, "neither"), (-2, 1, "min"), (-1, 2, "max"), (-9, 9, "both")])
def test_a_colour_bar_says_what_lies_beyond_it(low, high, ends):
    figure = draw_rows([[picture([[low, high, np.nan, np.inf]], limits=(-1.0, 1.0))]])
    (image,) = figure.subfigs[0].axes[0].images
    assert image.colorbar.extend == ends
    assert image.get_array().mask.tolist() == [[False, False, True, True]]


@settings(max_examples=10, deadline=None)
@given(values=st.lists(st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf])), min_size=1, max_size=5))
def test_any_numbers_can_be_drawn(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curve = Curve("b", {"c": (range(len(values)), values), "d": ([1.0], [2.0])}, "s", "V", log=True)
        assert figure_pixels(draw_rows([[picture([values], unit="m"), curve]])).shape[1] == 800


def test_values_far_beyond_a_narrow_colour_bar_do_not_warn():
    values = np.array([[0.0, 0.5, -3e4]], np.float32)  # of a result, where the truth is flat
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure_pixels(draw_rows([[Picture("a", values, "u", (-1.2e-38, 1.2e-38))]]))


def test_curves_are_named_and_on_their_axes():
    lines = {"loss": ([1, 2, 3], [1.0, 0.1, 0.0]), "band": ([1, 2], np.array([[0.1, 0.2], [0.3, 0.4]]))}
    (part,) = draw_rows([[Curve("Course", lines, "step", "loss (1)", log=True, x_limits=(0, 4))]]).subfigs
    (axes,) = part.axes
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == ("Course", "step", "loss (1)")
    assert [text.get_text() for text in axes.get_legend().texts] == ["loss", "band"]
    assert axes.get_yscale() == "log"
    assert axes.get_xlim() == (0, 4)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, 0.1, np.nan])  # a logarithm has no 0


def test_long_titles_are_wrapped_and_an_empty_place_stays_empty():
    title = "a title that is much longer than its place in the row of three can be"
    figure = draw_rows([[picture(np.eye(3), title=title), None, picture(np.eye(3))]], "The whole")
    assert_nothing_is_cut_off(figure)
    first, empty, _ = figure.subfigs[0].axes[:3]
    assert first.get_title().split() == title.split()
    assert "\n" in first.get_title()
    assert not empty.axison
    assert figure.get_suptitle() == "The whole"


def test_a_large_picture_is_thinned_out():
    (part,) = draw_rows([[picture(np.zeros((3000, 10)))]]).subfigs
    assert part.axes[0].images[0].get_array().shape == (1000, 4)


def test_a_film_moves_within_fixed_axes():
    values = [np.zeros((4, 4)), np.ones((4, 4))]
    row = [[picture(v, title=f"t = {i}", unit="u", limits=(0.0, 1.0), colors="gray")] for i, v in enumerate(values)]
    frames = film(row, width=200).astype(int)
    assert len(frames) == 2
    changed = np.argwhere((frames[0] != frames[1]).any(-1))
    height, width = np.ptp(changed, axis=0)
    assert height > 60
    assert width < 150  # the colour bar stays
    np.testing.assert_array_equal(frames[0], figure_pixels(draw_rows([row[0]], width=200)))


def test_clips_beside_each_other_are_whole_and_named():
    clips = {
        name: np.stack([noise(30, 50, seed + i) for i in range(3)]) for seed, name in [(0, "truth"), (9, "result")]
    }
    found = beside(clips)
    for i in range(3):
        spots = [where(found[i], clip[i].repeat(3, 0).repeat(3, 1)) for clip in clips.values()]  # at least 120 wide
        assert spots[0][0] == spots[1][0] > 10
    assert (found[0, : spots[0][0]] < 100).any()  # titles above


def test_a_grid_holds_every_image_pixel_for_pixel_and_centred():
    sizes = [[(8, 12), (16, 4)], [(6, 6)]]
    images = [[noise(h, w, 10 * i + j) for j, (h, w) in enumerate(row)] for i, row in enumerate(sizes)]
    found = figure_pixels(image_grid(images, gap=2))
    assert found.shape == (16 + 6 + 3 * 2, 12 + 4 + 3 * 2, 3)
    assert where(found, images[0][0]) == (2 + 4, 2)
    assert where(found, images[0][1]) == (2, 2 + 12 + 2)
    assert where(found, images[1][0]) == (2 + 16 + 2, 2 + 3)
    outside = found.astype(int).sum() - sum(int(image.sum()) for row in images for image in row)
    assert outside == 255 * (found.size - sum(image.size for row in images for image in row))


@pytest.mark.parametrize("size", [(5, 9), (60, 160)])
def test_titles_of_a_grid_stand_beside_and_above_their_images(size):
    images = [[noise(*size, 10 * i + j) for j in range(2)] for i in range(3)]
    rows, columns = ["truth", "siren\nof 2 lines", "gjpqy"], ["fit", "a title with $ and _ that is wide"]
    figure = image_grid(images, rows, columns)
    found = figure_pixels(figure)
    assert [text.get_text() for text in figure.texts] == rows + columns
    assert_nothing_is_cut_off(figure)
    boxes = [text.get_window_extent() for text in figure.texts]
    places = [[where(found, image) for image in row] for row in images]
    for i, box in enumerate(boxes[:3]):
        assert box.x1 <= min(left for _, left in places[i])
        assert (box.y0 + box.y1) / 2 == pytest.approx(found.shape[0] - places[i][0][0] - size[0] / 2, abs=2)
    for j, box in enumerate(boxes[3:]):
        assert box.y0 >= found.shape[0] - places[0][j][0]
        assert (box.x0 + box.x1) / 2 == pytest.approx(places[0][j][1] + size[1] / 2, abs=2)
    for i, a in enumerate(boxes):
        assert not any(a.overlaps(b) for b in boxes[:i])


def test_titles_of_a_grid_are_counted():
    images = [[np.zeros((4, 4))] * 2] * 3
    with pytest.raises(ValueError, match="expected 3 row titles, got 2"):
        image_grid(images, ["a", "b"])
    with pytest.raises(ValueError, match="expected 2 column titles, got 1"):
        image_grid(images, column_titles=["a"])
    with pytest.raises(ValueError, match="expected at least one image"):
        image_grid([[]])


def test_a_sheet_has_a_column_for_each_name():
    images = {name: np.stack([noise(20, 60, seed), noise(20, 60, seed + 1)]) for seed, name in [(0, "a"), (2, "b")]}
    found = sheet(images)
    places = {name: [where(found, image) for image in shown] for name, shown in images.items()}
    assert places["a"][0][0] == places["b"][0][0] < places["a"][1][0] == places["b"][1][0]
    assert places["a"][0][1] == places["a"][1][1] == 4 < places["b"][0][1] == places["b"][1][1]
    assert (found[: places["a"][0][0]] < 100).any()  # titles above


def test_a_grid_has_a_title_above_it_all():
    image = noise(20, 30)
    plain, titled = (image_grid([[image]], column_titles=["a"], title=t) for t in ("", "a title wider than the image"))
    assert_nothing_is_cut_off(titled)
    few, more = figure_pixels(plain), figure_pixels(titled)
    assert more.shape[1] > few.shape[1]
    added = more.shape[0] - few.shape[0]
    assert added > 10
    assert (more[:added] < 100).any()
    assert where(more, image) == (where(few, image)[0] + added, where(few, image)[1])
