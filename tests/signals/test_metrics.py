"""Measures against their definitions, written out in NumPy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.signals import metrics
from hypersiren.signals.metrics import (
    image_mse,
    image_psnr,
    log_spectral_distance,
    mean_square,
    psnr,
    si_snr,
    snr,
    ssim,
)


def pair(samples: int = 3000, channels: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A truth and a prediction that has about a tenth of noise."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(samples, channels, generator=generator, dtype=torch.float64)
    return truth + 0.1 * torch.randn(samples, channels, generator=generator, dtype=torch.float64), truth


def test_image_psnr_is_of_each_image_and_clips_the_prediction():
    truth = torch.rand(3, 8, 9, 3, generator=torch.Generator().manual_seed(0))
    prediction = truth + torch.tensor([0.1, -0.3, 5.0])[:, None, None, None]
    expected = [10 * math.log10(1 / image_mse(p[None], t[None]).item()) for p, t in zip(prediction, truth, strict=True)]
    torch.testing.assert_close(image_psnr(prediction, truth), torch.tensor(expected))
    torch.testing.assert_close(image_psnr(prediction[2:], truth[2:]), image_psnr(torch.ones_like(truth[2:]), truth[2:]))


@given(channels=st.integers(1, 3), gain=st.floats(0.01, 100), shift=st.floats(-5, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_snr_and_si_snr_by_definition(channels, gain, shift, seed):
    prediction, truth = pair(500, channels, seed)
    p, t = prediction.numpy(), truth.numpy()
    assert snr(prediction, truth).item() == pytest.approx(10 * np.log10((t**2).sum() / ((p - t) ** 2).sum()))
    # The best scale of the truth is a least-squares fit; a gain and a shift of the prediction change nothing.
    p, t = (p - p.mean(0)).ravel(), (t - t.mean(0)).ravel()
    scale = np.linalg.lstsq(t[:, None], p, rcond=None)[0][0]
    expected = 10 * np.log10(((scale * t) ** 2).sum() / ((p - scale * t) ** 2).sum())
    assert si_snr(prediction, truth).item() == pytest.approx(expected)
    assert si_snr(gain * prediction + shift, truth).item() == pytest.approx(expected, abs=1e-6)


def test_a_perfect_and_a_silent_prediction():
    _, truth = pair()
    assert snr(truth, truth) == torch.inf
    assert snr(torch.zeros_like(truth), truth) == 0
    assert log_spectral_distance(truth, truth) == 0


def test_log_spectral_distance_sees_what_snr_does_not():
    t = torch.arange(16_000) / 16_000
    loud = torch.sin(2 * torch.pi * 440 * t)[:, None]
    faint = 1e-3 * torch.randn(16_000, 1, generator=torch.Generator().manual_seed(0))
    assert snr(loud + faint, loud) > 55
    assert log_spectral_distance(loud + faint, loud) > 10
    # Twice as loud is 6 dB everywhere.
    assert log_spectral_distance(20 * faint, 10 * faint).item() == pytest.approx(20 * math.log10(2), abs=0.3)
    # Both below the floor: no distance, and no logarithm of zero.
    assert log_spectral_distance(torch.zeros_like(loud), 1e-4 * faint) == 0


@pytest.mark.parametrize("size", [(11, 11, 1), (70, 45, 3)])
def test_structural_similarity_is_that_of_scikit_image(size):
    from skimage.metrics import structural_similarity

    truth = torch.rand(size, generator=torch.Generator().manual_seed(0))
    found = truth + 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(1))
    kwargs = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(
        found.clamp(0, 1).double().numpy(), truth.double().numpy(), channel_axis=-1, data_range=1.0, **kwargs
    )
    assert ssim(found, truth) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(ssim(found[:10], truth[:10]))


def test_pieces_and_strips_give_the_same(monkeypatch):
    prediction, truth = pair()
    image, other = torch.rand(2, 40, 30, 3, generator=torch.Generator().manual_seed(0))

    def measured():
        found = [snr(prediction, truth).item(), si_snr(prediction, truth).item(), mean_square(image, other)]
        return [*found, psnr(image, other), ssim(image, other)]

    whole = measured()
    monkeypatch.setattr(metrics, "PIECE", 7)
    monkeypatch.setattr(metrics, "ROWS", 4)
    assert measured() == pytest.approx(whole, rel=1e-5)
    assert mean_square(image, other) == pytest.approx((image - other).square().mean().item())
