"""Drawing: what must be seen is there, at its place, and nothing is cut off."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageFont

from hypersiren.plotting import PALETTE, Series, _fitting_ticks, _texts, _ticks, label, plot, tile, to_rgb, words

finite = st.floats(-1e6, 1e6, allow_nan=False)


def colored(image: np.ndarray, color: str) -> np.ndarray:
    """Where an image has just this colour."""
    return (image == [int(color[i : i + 2], 16) for i in (1, 3, 5)]).all(-1)


def test_images_of_every_form_become_rgb():
    gray = np.array([[0.0, 0.5], [1.0, 2.0]])
    expected = np.array([[0, 128], [255, 255]])
    for image in (gray, gray[..., None], np.repeat(gray[..., None], 3, 2), expected.astype(np.uint8)):
        assert np.array_equal(to_rgb(image), np.repeat(expected[..., None], 3, 2))
    with pytest.raises(ValueError, match=r"expected an image \(H, W\).*, got \(2, 2, 4\)"):
        to_rgb(np.zeros((2, 2, 4)))


@pytest.mark.parametrize("text", ["SIREN", "gjpqy", "±12.5", "two\nlines", ""])
def test_words_are_not_cut_off(text):
    image = words(text)
    ink = (image < 200).any(-1)
    assert ink.any() == bool(text)
    lines = text.split("\n")
    height, font = image.shape[0] / len(lines), ImageFont.load_default(12)
    for line in lines:
        left, top, right, bottom = font.getbbox(line, anchor="la")
        assert 0 <= top <= bottom <= height
        assert right - left <= image.shape[1]


def test_a_label_stands_above_its_image():
    image = np.zeros((20, 10, 3), np.uint8)
    found = label(image, "a wide label")
    assert found.shape[1] == words("a wide label").shape[1] > 10
    assert (found[-20:].min(axis=(0, 2)) == 0).sum() == 10  # the image, centred and whole
    assert (found[:-20] < 200).any()


def test_tiles_hold_every_image_whole_and_centred():
    sizes = [[(8, 12), (16, 4)], [(6, 6)]]
    images = [
        [np.full((h, w, 3), 10 * (i + 1) + j, np.uint8) for j, (h, w) in enumerate(r)] for i, r in enumerate(sizes)
    ]
    found = tile(images, gap=2)
    assert found.shape == (16 + 6 + 3 * 2, 12 + 4 + 3 * 2, 3)
    places = {value: np.argwhere((found == value).all(-1)) for value in (10, 11, 20)}
    assert [len(p) for p in places.values()] == [8 * 12, 16 * 4, 6 * 6]
    assert places[10].min(0).tolist() == [2 + 4, 2]
    assert places[11].min(0).tolist() == [2, 2 + 12 + 2]
    assert places[20].min(0).tolist() == [2 + 16 + 2, 2 + 3]


def test_labels_of_tiles_are_counted():
    images = [[np.zeros((4, 4))] * 2] * 3
    plain = tile(images)
    found = tile(images, ["a", "b", "c"], ["long label", "e"])
    assert found.shape[0] > plain.shape[0]
    assert found.shape[1] > plain.shape[1]
    with pytest.raises(ValueError, match="expected 3 row labels, got 2"):
        tile(images, ["a", "b"])
    with pytest.raises(ValueError, match="expected 2 column labels, got 1"):
        tile(images, column_labels=["a"])
    with pytest.raises(ValueError, match="expected at least one image"):
        tile([[]])


@given(low=finite, width=st.floats(1e-3, 1e6), most=st.integers(2, 12))
def test_ticks_are_round_and_few(low, width, most):
    high = low + width
    ticks = _ticks(low, high, most)
    assert 1 <= len(ticks) <= most or (most == 2 and not ticks)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 0
    for tick in ticks:
        assert low - 1e-6 * width <= tick <= high + 1e-6 * width
    if step:
        leading = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(leading - round_number) for round_number in (1, 2, 5, 10)) < 1e-2


@given(start=st.integers(-2000, 2000), factor=st.sampled_from([1, 2, 5]), power=st.integers(-8, 8), n=st.integers(2, 9))
def test_texts_of_ticks_are_their_numbers(start, factor, power, n):
    ticks = [(start + i) * factor * 10.0**power for i in range(n)]
    for tick, text in zip(ticks, _texts(ticks), strict=True):
        assert float(text) == pytest.approx(tick, rel=1e-9, abs=1e-6 * 10.0**power)


@given(low=finite, width=st.floats(1e-3, 1e6), room=st.integers(60, 800))
def test_neighbouring_texts_do_not_touch(low, width, room):
    font = ImageFont.load_default(11)
    ticks, texts = _fitting_ticks(low, low + width, room, font)
    places = [room * (tick - low) / width for tick in ticks]
    reach = [font.getlength(text) / 2 for text in texts]
    for i in range(len(places) - 1):
        assert places[i] + reach[i] < places[i + 1] - reach[i + 1]


def test_a_curve_goes_where_its_points_are():
    x = np.linspace(0, 1, 200)
    image = plot(Series(x, x), size=(200, 300), x_range=(0, 1), y_range=(0, 1))
    rows, columns = np.nonzero(colored(image, PALETTE[0]))
    slope, _ = np.polyfit(columns, -rows, 1)
    assert slope == pytest.approx(np.ptp(rows) / np.ptp(columns), rel=0.05)
    assert np.ptp(columns) > 250  # from end to end of the axes
    assert np.ptp(rows) > 150


def test_gaps_break_a_curve_and_areas_reach_to_zero():
    x, y = np.linspace(0, 1, 101), np.full(101, 2.0)
    y[40:60] = np.nan
    line = colored(plot(Series(x, y), y_range=(0, 4)), PALETTE[0]).any(0)
    whole = colored(plot(Series(x, np.full(101, 2.0)), y_range=(0, 4)), PALETTE[0]).any(0)
    assert 0.75 < line.sum() / whole.sum() < 0.85
    area = colored(plot(Series(x, y, area=True), y_range=(-4, 4)), PALETTE[0])
    heights = area.sum(0)[area.any(0)]
    assert 0.2 * 240 < np.median(heights) < 0.25 * 240  # a quarter of the axes, which are less high than the picture


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.one_of(finite, st.sampled_from([math.nan, math.inf])), max_size=5))
def test_any_numbers_can_be_drawn(values):
    y = np.array(values, float)
    assert plot(Series(np.arange(len(y)), y, "all"), y_label="y").shape == (240, 360, 3)


def test_legends_wrap_and_every_name_has_its_colour():
    x = np.arange(3.0)
    narrow = plot(*(Series(x, x + i, f"a curve with a name {i}") for i in range(4)), size=(240, 260))
    for color in PALETTE[:4]:
        assert colored(narrow, color)[:80].sum() >= 20  # its sample in the legend
    with pytest.raises(ValueError, match="expected a size with room for axes, got 40 x 30 pixels"):
        plot(Series(x, x), size=(40, 30))
