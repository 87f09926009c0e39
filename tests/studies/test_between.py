"""Interpolation between pixels: its derivatives are those of what it interpolates."""

import math

import pytest
import torch

from hypersiren import grid
from hypersiren.fields.interpolation import KERNELS, along, double, taps
from hypersiren.studies.benchmarks.between import field_between, interpolation_between


def wave(x):
    """A cosine that is even about the borders, as the truth's series is."""
    return 0.9 * torch.cos(4 * math.pi * (x[:, :1] + 1) / 2) * torch.cos(3 * math.pi * (x[:, 1:] + 1) / 2)


def picture(size):
    return wave(grid(size)).unflatten(0, size)


@pytest.mark.parametrize("kind", KERNELS)
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_of_kernels_are_those_of_the_interpolant(kind, order):
    """At a place without a jump, against differences of the interpolant in fp64."""
    values = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def at(x):
        return (taps(kind, x) * values).sum()

    h = 1e-3
    expected = (at(0.2 + h) - at(0.2 - h)) / (2 * h) if order == 1 else (at(0.2 + h) - 2 * at(0.2) + at(0.2 - h)) / h**2
    torch.testing.assert_close((taps(kind, 0.2, order) * values).sum(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KERNELS)
def test_at_the_pixels_it_is_the_pixels(kind):
    pixels = torch.rand(6, 7, 2, dtype=torch.float64)
    torch.testing.assert_close(along(pixels, 1, taps(kind, 0.0)), pixels)


@pytest.mark.parametrize("kind", KERNELS)
def test_smooth_pictures_are_doubled_and_derived(kind):
    """Not so coarse ones: some 13 pixels a wave."""
    small, large = picture((26, 20)), picture((52, 40))
    assert (double(small, kind) - large).abs().max() < 0.02
    told = interpolation_between(small, large, kind)
    assert told["gradient"] > 30
    assert told["Laplacian"] > 20
    assert told["twice the size"] > 42


def test_a_field_that_is_the_truth_is_exact():
    """Its derivatives are autograd's; what is left is the rounding of fp32."""
    told = field_between(picture((26, 20)), picture((52, 40)), wave)
    assert told["gradient"] > 100
    assert told["Laplacian"] > 90
    assert told["twice the size"] > 100
    assert "twice the size" not in field_between(picture((26, 20)), None, wave)
