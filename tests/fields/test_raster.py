"""Rasters: a windowed field by features that all windows share equals the same field at the points of the grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.fields import raster as rasters
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.raster import crop_of, is_windowed, jet_strips, raster, strips, thinned_jet
from hypersiren.fields.render import render_frames, render_image, render_sound
from hypersiren.fields.siren import Siren
from hypersiren.fields.windowed_siren import WindowedSiren
from tests.fields.test_jets import close

CASES = {
    1: ((6,), ((20, 16),), (90,)),
    2: ((4, 3), ((16, 12), (10, 8)), (50, 24)),
    3: ((2, 3, 2), ((8, 6), (6, 4), (6, 3)), (13, 14, 9)),
}
"""Windows, their width and step in samples, and sizes that are no multiple of them."""


def example(dimensions=2, compact=False, own="last"):
    count, pixels, size = CASES[dimensions]
    torch.manual_seed(0)
    siren = Siren(dimensions, 2, 12, 1, first_omega=3.0, hidden_omega=3.0)
    overlap = [1 - s / w for w, s in pixels]
    upper = [-1 + 2 * ((n - 1) * s + w) / m for n, (w, s), m in zip(count, pixels, size, strict=True)]
    if compact:
        field = CompactWindows(siren, count, overlap, upper, counts=(12, 5, 1))
    else:
        field = WindowedSiren(siren, count, overlap, upper, own=own)
    field = field.double()
    with torch.no_grad():
        for p in field.parameters():
            p += 0.2 * torch.randn_like(p)
    assert field.windows.pixels(size) == pixels
    return field, size


def at_points(field, size):
    """The jet at the points of the grid, in its shape."""
    with torch.no_grad():
        jet = field.jet(grid(size, dtype=torch.double), second="diagonal")
    return [piece.unflatten(0, size) for piece in (jet.value, jet.gradient, jet.hessian_diagonal)]


def whole(field, size, order, **more):
    """The pieces of a raster's strips, together."""
    found = list(jet_strips(field, size, order, **more))
    names = ("value", "gradient", "hessian_diagonal")
    for name in names[order + 1 :]:
        assert all(getattr(jet, name) is None for jet in found)
    return [torch.cat([getattr(jet, name) for jet in found]) for name in names[: order + 1]], len(found)


@pytest.mark.parametrize("dimensions", CASES)
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("strip", [2**24, 3000, 1])
def test_values_and_derivatives_equal_those_at_points(monkeypatch, dimensions, compact, strip):
    monkeypatch.setattr(rasters, "STRIP", strip)
    field, size = example(dimensions, compact)
    expected = at_points(field, size)
    for order in (0, 1, 2):
        found, parts = whole(field, size, order)
        if strip == 1:
            assert parts == field.windows.count[0]
        for a, b in zip(found, expected, strict=False):
            close(a, b)
    close(raster(field, size), expected[0])
    close(torch.cat(list(strips(field, size))), expected[0])


@pytest.mark.parametrize("own", ["last", "all"])
@pytest.mark.parametrize("size", [(50, 24), (51, 24), (7, 5), (1, 1), (100, 47)])
def test_a_raster_of_any_size_equals_the_points(own, size):
    field, _ = example(own=own)
    expected = at_points(field, size)
    found, _ = whole(field, size, 2, chunk=100)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def test_a_finer_raster_that_keeps_step_takes_the_fast_way():
    field, size = example(compact=True)
    fine = tuple(2 * n for n in size)
    assert field.windows.pixels(fine) is not None
    for a, b in zip(whole(field, fine, 2)[0], at_points(field, fine), strict=True):
        close(a, b)


@pytest.mark.parametrize("dimensions", CASES)
@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("every", [1, 3, 7, 40])
def test_some_samples_equal_those_of_all(dimensions, compact, every):
    field, size = example(dimensions, compact)
    found = thinned_jet(field, size, every)
    some = (slice(None, None, every),) * dimensions
    for a, b in zip((found.value, found.gradient, found.hessian_diagonal), at_points(field, size), strict=True):
        close(a, b[some])
    assert thinned_jet(field, [n + 1 for n in size], every) is None
    assert thinned_jet(Siren(dimensions, 1), size, every) is None


@settings(max_examples=40, deadline=None)
@given(data=st.data(), dimensions=st.sampled_from(list(CASES)), strip=st.sampled_from([2**24, 2000, 1]))
def test_a_crop_is_a_part_of_the_whole(data, dimensions, strip):
    field, size = example(dimensions, compact=True)
    crop = []
    for n in size:
        low = data.draw(st.integers(0, n - 1))
        crop.append((low, data.draw(st.integers(low + 1, n))))
    every, _ = whole(field, size, 1)
    before, rasters.STRIP = rasters.STRIP, strip
    try:
        part, _ = whole(field, size, 1, crop=crop)
        values = raster(field, size, crop=crop)
    finally:
        rasters.STRIP = before
    some = tuple(slice(low, high) for low, high in crop)
    close(values, every[0][some], 1e-12)
    for a, b in zip(part, every, strict=True):
        close(a, b[some], 1e-12)


def test_a_crop_works_on_no_windows_beyond_it(monkeypatch):
    field, size = example(compact=True)
    seen = []
    original = CompactWindows.channels
    monkeypatch.setattr(
        CompactWindows, "channels", lambda self, phi, which: (seen.append(which), original(self, phi, which))[1]
    )
    raster(field, size, crop=[(13, 14), (1, 2)])
    windows = torch.cat(seen).unique().tolist()
    assert windows == [0, 3]  # the rows of windows that share pixel row 13, the first of each


def test_regions_of_an_image_are_crops():
    field, size = example()
    y = raster(field, size)
    lower, upper = (-1 + 2 * 5 / 50, -1 + 2 * 6 / 24), (-1 + 2 * 15 / 50, -1 + 2 * 12 / 24)
    assert crop_of(field, (10, 6), lower, upper) == ((50, 24), ((5, 15), (6, 12)))
    close(render_image(field, (10, 6), lower, upper), y[5:15, 6:12])
    # Half a pixel off: no crop, but the same field.
    off = tuple(low + 1 / 50 for low in lower)
    assert crop_of(field, (10, 6), off, tuple(high + 1 / 50 for high in upper)) is None
    x = grid((10, 6), off, tuple(high + 1 / 50 for high in upper), dtype=torch.double)
    found = render_image(field.double(), (10, 6), off, tuple(high + 1 / 50 for high in upper))
    close(found.double(), field(x).detach().unflatten(0, (10, 6)), 1e-4)


def test_sounds_and_frames():
    sound, size = example(1)
    close(render_sound(sound, size[0]), at_points(sound, size)[0])
    video, size = example(3)
    close(torch.stack(list(render_frames(video, size))), at_points(video, size)[0])


def test_a_field_bound_to_weights_is_evaluated_with_them():
    field, size = example(compact=True)
    bound = field.bind({"coefficients": torch.zeros_like(field.coefficients)})
    assert is_windowed(bound)
    found = raster(bound, size)
    close(found, field.offset.detach().expand_as(found))
