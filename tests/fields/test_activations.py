"""Activations against NumPy, and their initial weights against what their authors state."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from hypersiren.fields.activations import ACTIVATIONS, ComplexLinear, Finer, Wire


def complex_values(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex128) / 10


def test_complex_linear_is_linear_over_complex_numbers():
    layer = ComplexLinear(3, 4).double()
    h = complex_values(5, 3)
    weight, bias = (p.detach().numpy()[0] + 1j * p.detach().numpy()[1] for p in (layer.weight, layer.bias))
    np.testing.assert_allclose(layer(h).detach().numpy(), h.numpy() @ weight.T + bias, atol=1e-12)


def test_wire_is_the_complex_gabor_wavelet():
    a = complex_values(5, 3)
    wire = Wire(first_omega=7.0, hidden_omega=20.0, scale=10.0)
    for values, first, omega in [(a, False, 20), (a.real, True, 7), (a.real, False, 20)]:
        z = values.numpy()
        expected = np.exp(1j * omega * z - np.abs(10 * z) ** 2)
        np.testing.assert_allclose(wire(values, first=first).numpy(), expected, atol=1e-12)


def test_finer_swings_faster_away_from_zero():
    a = torch.linspace(-1, 1, 21).double()
    finer = Finer(first_omega=7.0, hidden_omega=30.0)
    for first, omega in [(True, 7), (False, 30)]:
        expected = np.sin(omega * (np.abs(a.numpy()) + 1) * a.numpy())
        np.testing.assert_allclose(finer(a, first=first).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "std"),
    [("relu", math.sqrt(2 / 100)), ("softplus", math.sqrt(2 / 100)), ("tanh", math.sqrt(2 / 500))],
)
def test_normal_initial_weights(name, std):
    layer = nn.Linear(100, 400)
    ACTIVATIONS[name].init_(layer, first=False, generator=torch.Generator().manual_seed(0))
    assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    assert layer.weight.abs().max() > 3 * std  # normal, not uniform
    assert 0.95 / 10 < layer.bias.abs().max() <= 1 / 10


@pytest.mark.parametrize(
    ("name", "first", "weight", "bias"),
    [
        ("wire", True, 0.1, 0.1),
        ("finer", True, 1 / 100, 1.0),
        ("finer", False, math.sqrt(6 / 100) / 30, 0.1),
    ],
)
def test_uniform_initial_weights(name, first, weight, bias):
    layer = nn.Linear(100, 400)
    ACTIVATIONS[name].init_(layer, first=first, generator=torch.Generator().manual_seed(0))
    for values, bound in [(layer.weight, weight), (layer.bias, bias)]:
        assert 0.95 * bound < values.abs().max() <= bound
        assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_both_parts_of_complex_weights_are_drawn():
    layer = ComplexLinear(100, 400)
    theirs = nn.Linear(100, 400, dtype=torch.complex64)  # the authors leave PyTorch's own initial weights
    ACTIVATIONS["wire"].init_(layer, first=False, generator=torch.Generator().manual_seed(0))
    for ours, reference in [(layer.weight, theirs.weight), (layer.bias, theirs.bias)]:
        for part, other in zip(ours, (reference.real, reference.imag), strict=True):
            assert part.std().item() == pytest.approx(other.std().item(), rel=0.15)
            assert part.abs().max().item() == pytest.approx(other.abs().max().item(), rel=0.02)
