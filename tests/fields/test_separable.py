"""Waves summed one axis at a time give what the field gives at the points."""

import pytest
import torch

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.coords import grid
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.raster import centres, raster
from hypersiren.fields.render import render_frames, render_image
from hypersiren.fields.separable import is_separable, separable_raster
from hypersiren.fields.siren import Siren
from hypersiren.fields.windowed_siren import WindowedSiren

ROUNDING = 1e-4
"""Of sums of 40 waves, with values up to 20, in single precision."""


def waves(kind, dims, count):
    siren = lattice_siren(dims, 2, 40, 2.2)
    made = (
        CompactWindows(siren, count, 0.2, 1.1, (40, 9)) if kind == "packed" else WindowedSiren(siren, count, 0.2, 1.1)
    )
    rng = torch.Generator().manual_seed(0)
    for name, p in made.requires_grad_(False).named_parameters():
        if not name.startswith("layers.0."):
            p.copy_(torch.randn(p.shape, generator=rng))
    return made


@pytest.mark.parametrize("kind", ["packed", "last"])
@pytest.mark.parametrize("count", [(5,), (1,), (3, 2), (1, 4), (2, 1, 3)])
def test_all_samples_have_the_values_of_points_beyond_the_signal_too(kind, count):
    field = waves(kind, len(count), count)
    assert is_separable(field)
    axes = [torch.linspace(-1.2, 1.15, n).double() for n in (11, 13, 7)[: len(count)]]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    truth = field(x.flatten(0, -2)).view(*x.shape[:-1], 2)
    torch.testing.assert_close(separable_raster(field, axes), truth, atol=ROUNDING, rtol=0)
    part = [axes[0][3:5], *axes[1:]]  # most windows have no sample
    torch.testing.assert_close(separable_raster(field, part), truth[3:5], atol=ROUNDING, rtol=0)


def test_renderings_that_keep_no_step_with_the_windows(monkeypatch):
    field, size = waves("packed", 2, (3, 2)), (37, 41)
    assert field.windows.pixels(size) is None
    truth = field(grid(size)).view(*size, 2)
    lower, upper = (-0.3, 0.1), (0.9, 0.6)
    part = field(grid((9, 8), lower, upper)).view(9, 8, 2)
    video = waves("packed", 3, (2, 2, 2))
    frames = video(grid((5, 7, 9))).view(5, 7, 9, 2)
    monkeypatch.setattr(WindowedSiren, "forward", None)  # nothing is evaluated at points
    torch.testing.assert_close(raster(field, size), truth, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(render_image(field, size), truth, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(render_image(field, (9, 8), lower, upper), part, atol=ROUNDING, rtol=0)
    torch.testing.assert_close(torch.stack(list(render_frames(video, (5, 7, 9)))), frames, atol=ROUNDING, rtol=0)


def test_other_fields_are_not_separable():
    assert not is_separable(Siren(2, 1, 8))
    assert not is_separable(WindowedSiren(Siren(2, 1, (16,)), (2, 2)))  # random frequencies
    assert not is_separable(WindowedSiren(lattice_siren(2, 1, 40), (2, 2), own="all"))


def test_centres_are_those_of_the_grid():
    torch.testing.assert_close(centres(5, -0.3, 0.9, "cpu").float(), grid((5,), -0.3, 0.9)[:, 0])
