"""Derivatives of images: exact where they can be, the paper's filters where it names them."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.fields.coords import grid
from hypersiren.signals.image.filters import continue_smoothly, image_gradient, image_laplacian


@settings(deadline=None)
@given(h=st.integers(2, 12), w=st.integers(2, 12), i=st.integers(0, 11), j=st.integers(0, 11))
def test_spectral_derivatives_of_cosines_are_exact(h, w, i, j):
    i, j = i % h, j % w
    x = grid((h, w), dtype=torch.float64)
    a, b = (i * math.pi / 2 * (x[:, 0] + 1)), (j * math.pi / 2 * (x[:, 1] + 1))
    image = (a.cos() * b.cos()).view(h, w, 1)
    down, right = image_gradient(image, "spectral")[..., 0, :].unbind(-1)
    torch.testing.assert_close(down.flatten(), -i * math.pi / 2 * a.sin() * b.cos(), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(right.flatten(), -j * math.pi / 2 * a.cos() * b.sin(), atol=1e-9, rtol=1e-9)
    laplacian = -(i * i + j * j) * (math.pi / 2) ** 2 * image
    torch.testing.assert_close(image_laplacian(image, "spectral"), laplacian, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("shape", [(7, 9), (1, 5), (1, 1)])
def test_sobel_and_stencil_are_scipys(shape):
    image = np.random.default_rng(0).random((*shape, 2))
    gradient, laplacian = image_gradient(torch.tensor(image), "sobel"), image_laplacian(torch.tensor(image))
    for c in range(2):
        for axis in (0, 1):
            sobel = scipy.ndimage.sobel(image[..., c], axis, mode="reflect") / 8 * shape[axis] / 2
            np.testing.assert_allclose(gradient[..., c, axis], sobel, atol=1e-6)
        stencil = sum(
            scipy.ndimage.correlate1d(image[..., c], [1, -2, 1], axis, mode="reflect") * (shape[axis] / 2) ** 2
            for axis in (0, 1)
        )
        np.testing.assert_allclose(laplacian[..., c], stencil, atol=1e-5)


@pytest.mark.parametrize("kind", ["sobel", "central", "spectral"])
def test_some_pixels_have_the_derivatives_that_they_have_among_all(kind):
    image = torch.rand(13, 8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(image_gradient(image, kind, every=3), image_gradient(image, kind)[::3, ::3])
    for laplacian in ("stencil", "spectral"):
        torch.testing.assert_close(
            image_laplacian(image, laplacian, every=3), image_laplacian(image, laplacian)[::3, ::3]
        )


def test_a_filter_makes_its_own_derivative_only():
    with pytest.raises(ValueError, match="for a gradient"):
        image_gradient(torch.zeros(4, 4, 1), "stencil")
    with pytest.raises(ValueError, match="for a Laplacian"):
        image_laplacian(torch.zeros(4, 4, 1), "sobel")


def test_harmonic_functions_are_continued_and_values_kept():
    y, x = np.mgrid[:14, :11].astype(float)
    truth = torch.from_numpy(np.stack([x * y, x**2 - y**2, 3 * x - y], -1))
    known = torch.ones(14, 11, dtype=torch.bool)
    known[3:9, 2:9] = False
    given_ = torch.where(known.unsqueeze(-1), truth, torch.full_like(truth, float("nan")))
    torch.testing.assert_close(continue_smoothly(given_, known), truth)
    assert continue_smoothly(truth, torch.ones(14, 11, dtype=torch.bool)) is truth


def test_beyond_the_border_of_a_picture_nothing_is_known():
    known = torch.zeros(5, 6, dtype=torch.bool)
    known[0, 0], known[0, 1] = True, True
    values = torch.full((5, 6, 1), 9.0)
    values[0, :2] = 2.0
    torch.testing.assert_close(continue_smoothly(values, known), torch.full((5, 6, 1), 2.0))
