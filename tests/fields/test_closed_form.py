"""The last layer solved for a gradient: against least squares by another road, and on a real picture."""

import numpy as np
import pytest
import torch

from hypersiren import Poisson, Siren, fit
from hypersiren.fields.closed_form import solve_last_layer
from hypersiren.signals.image.opening import open_picture


@pytest.mark.parametrize("channels", [1, 3])
def test_the_solve_is_the_least_squares_of_autograd_rows(channels):
    generator = torch.Generator().manual_seed(0)
    siren = Siren(2, channels, 12, 1, generator=generator).double()
    x = torch.rand(40, 2, generator=generator).double() * 2 - 1
    target = torch.randn(40, channels, 2, generator=generator).double()
    rows = torch.stack([torch.autograd.functional.jacobian(lambda p: siren.features(p[None])[0], each) for each in x])
    bias = siren.layers[-1].bias.clone()
    solve_last_layer(siren, x, target)
    matrix = rows.movedim(-1, 0).flatten(0, 1).detach().numpy()
    right = target.movedim(-1, 0).flatten(0, 1).numpy()
    expected = np.linalg.lstsq(matrix, right, rcond=None)[0].T
    np.testing.assert_allclose(siren.layers[-1].weight.detach().numpy(), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(siren.layers[-1].bias, bias)


@pytest.mark.slow
def test_solves_on_the_way_bring_an_image_back_sooner():
    pixels = open_picture("camera", size=32)
    psnr = []
    for refit in (None, 10):
        task = Poisson(pixels)
        task.refit_every = refit
        psnr.append(fit(task, steps=60, network={"hidden_features": 64}).metrics["psnr"])
    assert psnr[1] > psnr[0] + 2
