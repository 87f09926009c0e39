"""Completion without a network, against obvious oracles."""

import numpy as np
import pytest
import torch

from hypersiren.completion.images.baselines import (
    SIMPLE,
    GaussianConditional,
    linear_interpolation,
    mean_colour,
    nearest,
)

generator = torch.Generator().manual_seed(0)
IMAGES = torch.rand(3, 12, 9, 3, generator=generator)
MASK = torch.rand(3, 12, 9, generator=generator) < 0.3


@pytest.mark.parametrize("method", SIMPLE.values(), ids=SIMPLE.keys())
@pytest.mark.parametrize("known", [1, 2, 3, 30, 108])
def test_known_pixels_stay_and_unknown_ones_have_no_influence(method, known):
    mask = torch.zeros(3, 108, dtype=torch.bool)
    mask[:, torch.randperm(108, generator=generator)[:known]] = True
    mask = mask.view(3, 12, 9)
    done = method(IMAGES, mask)
    assert done.isfinite().all()
    torch.testing.assert_close(done[mask], IMAGES[mask])
    torch.testing.assert_close(method(torch.where(mask.unsqueeze(-1), IMAGES, 0), mask), done)


def test_nearest_equals_a_search():
    done = nearest(IMAGES, MASK)
    known = MASK[0].nonzero()
    for i, j in [(0, 0), (5, 5), (11, 8)]:
        distance = ((known - torch.tensor([i, j])) ** 2).sum(1)
        best = known[distance == distance.min()]
        assert any(torch.equal(done[0, i, j], IMAGES[0, a, b]) for a, b in best)


def test_linear_restores_a_plane_inside_the_hull():
    plane = (torch.arange(12)[:, None] * 0.03 + torch.arange(9) * 0.02)[None, :, :, None]
    mask = torch.zeros(1, 12, 9, dtype=torch.bool)
    mask[0, [0, 0, 11, 11, 5], [0, 8, 0, 8, 3]] = True
    torch.testing.assert_close(linear_interpolation(plane, mask), plane)


def test_mean_is_over_known_pixels_only():
    done = mean_colour(IMAGES, MASK)
    assert done[0][~MASK[0]][0].numpy() == pytest.approx(IMAGES[0][MASK[0]].mean(0).numpy())


@pytest.mark.parametrize("known", [2, 40])
@pytest.mark.parametrize("axes", [200, 30])
def test_gaussian_equals_the_textbook_formula(known, axes):
    """mean + S_uo (S_oo + noise I)^-1 (y - mean), for fewer and for more known values than axes."""
    train = torch.rand(50, 6, 8, 1, generator=generator).cumsum(1).cumsum(2)
    image = torch.rand(1, 6, 8, 1, generator=generator).cumsum(1).cumsum(2)
    gaussian = GaussianConditional(train, axes)
    flat = train.flatten(1).double().numpy()
    mean, (values, vectors) = flat.mean(0), np.linalg.eigh(np.cov(flat.T, bias=True))
    covariance = (vectors[:, -axes:] * values[-axes:]) @ vectors[:, -axes:].T
    order = torch.randperm(48, generator=generator)
    o = order[:known].numpy()
    mask = torch.zeros(48, dtype=torch.bool)
    mask[o] = True
    y = image.flatten().double().numpy()
    noise = 0.01
    k = covariance[np.ix_(o, o)] + noise * np.eye(known)
    expected = mean + covariance[:, o] @ np.linalg.solve(k, (y - mean)[o])
    expected[o] = y[o]
    done = gaussian(image, mask.view(1, 6, 8), noise).flatten()
    np.testing.assert_allclose(done.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_gaussian_noise_is_chosen_by_validation_error():
    train = torch.rand(50, 6, 8, 1, generator=generator)  # nothing to predict: the most noise, so the mean, is best
    gaussian = GaussianConditional(train)
    mask = torch.rand(10, 6, 8, generator=generator) < 0.5
    assert gaussian.choose_noise(torch.rand(10, 6, 8, 1, generator=generator), mask) >= 0.1
