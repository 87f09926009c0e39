"""A field that begins as a pulse at rest: that it does, and that its jet is its derivative."""

import pytest
import torch
from torch.func import jacfwd, vmap

from hypersiren.fields.siren import Siren
from hypersiren.waves.initial_pulse import InitialPulse
from hypersiren.waves.residuals import wave_residual


@pytest.fixture
def field():
    siren = Siren(3, 1, 16, 1, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    return InitialPulse(siren, torch.tensor([0.1, -0.2]).double(), amplitude=0.5, variance=0.02, velocity=2.0)


def points(count, time=1.0):
    x = torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x * torch.tensor([time, 1.0, 1.0])


def test_it_begins_as_the_pulse_at_rest(field):
    x = points(50, time=0.0)
    squares = (x[:, 1:] - field.centre).square().sum(-1, keepdim=True)
    jet = field.jet(x)
    torch.testing.assert_close(jet.value, 0.5 * torch.exp(-squares / 0.04))
    assert (jet.gradient[..., 0] == 0).all()


def test_after_a_while_it_is_the_network(field):
    x = points(50) + torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(field(x), field.field(x), atol=1e-12, rtol=0)


def test_its_jet_is_its_derivative(field):
    x = points(40, time=0.2)
    jet = field.jet(x)

    def value(point):
        return field(point.unsqueeze(0)).squeeze(0)

    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(jet.value, field(x), **close)
    torch.testing.assert_close(jet.gradient, vmap(jacfwd(value))(x), **close)
    second = vmap(jacfwd(jacfwd(value)))(x).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(jet.hessian_diagonal, second, **close)
    torch.testing.assert_close(wave_residual(jet, 2.0)[:, 0], second[:, 0, 0] - 4 * second[:, 0, 1:].sum(-1), **close)
