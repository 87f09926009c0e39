"""The parts of ConvEncoder against obvious oracles; what it shares with the other encoders is in test_encoders.py."""

import numpy as np
import torch

from hypersiren.fields.coords import grid
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.conv_encoder import BasisRegression, ConvEncoder, fill
from hypersiren.hypernets.encoders.precision import convolutions


def test_regression_equals_the_textbook_formula_image_by_image():
    """w = Phi^T (Phi Phi^T + s^2 I)^-1 (y - mean): the same mean, written over pixels instead of over functions."""
    torch.manual_seed(0)
    regression = BasisRegression(6).double()
    image, mask = torch.rand(2, 3, 5, 4).double(), (torch.rand(2, 1, 5, 4) < 0.5).double()
    found = regression(image, mask).detach().numpy()
    basis = regression.siren(grid((5, 4)).double()).detach().numpy()
    variance = 1e-3 + np.exp(2 * regression.log_noise.item())
    for i in range(2):
        known = mask[i].flatten().bool().numpy()
        phi, mean = basis[known, :-1], basis[known, -1]
        for c in range(3):
            y = image[i, c].flatten().numpy()[known]
            expected = phi.T @ np.linalg.solve(phi @ phi.T + variance * np.eye(known.sum()), y - mean)
            np.testing.assert_allclose(found[i, :, c], expected, rtol=1e-5, atol=1e-6)


def test_regression_finds_the_coefficients_that_made_the_image():
    torch.manual_seed(0)
    regression = BasisRegression(4).double()
    with torch.no_grad():
        regression.log_noise.fill_(-9.0)
        basis = regression.siren(grid((16, 16)).double())
        w = torch.randn(4, 1).double()
        image = (basis[:, :-1] @ w + basis[:, -1:]).T.view(1, 1, 16, 16)
        found = regression(image, torch.ones(1, 1, 16, 16).double())
        residual = basis[:, :-1] @ (found[0] - w)
    assert residual.abs().max() < 0.05


def test_regression_keeps_its_precision_under_autocast_and_lets_nan_through():
    regression = BasisRegression(8)
    image, mask = torch.rand(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    plain = regression(image, mask)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(regression(image, mask), plain)
    assert regression(image * float("nan"), mask).isnan().any()


def test_the_regression_is_optional():
    encoder = ConvEncoder(1, 16, (8,), basis=0)
    assert encoder(Context.from_rasters(torch.rand(2, 8, 8, 1), torch.ones(2, 8, 8, dtype=torch.bool))).shape == (2, 16)
    assert not any("siren" in name for name, _ in encoder.named_parameters())


def test_fill_reproduces_constants_and_known_pixels():
    mask = (torch.rand(2, 1, 16, 16) < 0.2).float()
    filled, density = fill(3 * mask, mask, (0.5, 2.0, 8.0))
    torch.testing.assert_close(filled, torch.full_like(filled, 3.0), rtol=1e-3, atol=1e-3)
    assert density.shape == (2, 3, 16, 16)
    assert density.max() <= 0.1
    image = torch.rand(1, 1, 16, 16)
    filled, _ = fill(image, torch.ones(1, 1, 16, 16), (0.3,))
    torch.testing.assert_close(filled, image, rtol=0, atol=0.15)


def test_the_precision_of_convolutions_is_that_of_who_is_within_and_is_back_after_the_last():
    """Two trainings leave in the order in which they came. What asks for the flag of all of cuDNN still works."""
    flags = torch.backends.cudnn.conv
    before = flags.fp32_precision
    first, second = convolutions(tf32=False), convolutions(tf32=True)
    first.__enter__()
    assert torch.backends.cudnn.allow_tf32 is False  # raises where the flags differ
    second.__enter__()
    assert flags.fp32_precision == "tf32"
    with convolutions(tf32=False):
        assert flags.fp32_precision == "ieee"
    assert flags.fp32_precision == "tf32"
    first.__exit__(None, None, None)
    assert flags.fp32_precision == "tf32"
    second.__exit__(None, None, None)
    assert flags.fp32_precision == torch.backends.cudnn.rnn.fp32_precision == before
