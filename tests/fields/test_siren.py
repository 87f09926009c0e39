"""Siren against slow oracles: functional_call in a loop, vmap, and the statistics that the paper promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, grad, vmap

from hypersiren.fields import jets
from hypersiren.fields.layers import linear
from hypersiren.fields.siren import Params, Siren


def random_params(siren: Siren, signals: int, generator: torch.Generator) -> Params:
    """Weights of so many signals, each near the network's own."""
    return {
        name: p.detach() * (1 + 0.1 * torch.rand(signals, *p.shape, generator=generator, dtype=p.dtype))
        for name, p in siren.named_parameters()
    }


def test_paper_network_has_198915_weights():
    assert sum(p.numel() for p in Siren(2, 3).parameters()) == 198_915


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@settings(max_examples=25, deadline=None)
@given(
    signals=st.integers(1, 4),
    points=st.integers(1, 9),
    dimensions=st.integers(1, 4),
    channels=st.integers(1, 4),
    layers=st.integers(0, 3),
    own_points=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_batched_weights_equal_a_loop_of_functional_call(
    dtype, tolerance, signals, points, dimensions, channels, layers, own_points, seed
):
    generator = torch.Generator().manual_seed(seed)
    siren = Siren(dimensions, channels, 16, layers, generator=generator).to(dtype)
    params = random_params(siren, signals, generator)
    shape = (signals, points, dimensions) if own_points else (points, dimensions)
    x = 2 * torch.rand(shape, generator=generator, dtype=dtype) - 1
    loop = torch.stack(
        [
            functional_call(siren, {name: p[i] for name, p in params.items()}, (x[i] if own_points else x,))
            for i in range(signals)
        ]
    )
    torch.testing.assert_close(siren(x, params), loop, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(siren.bind(params)(x), loop, rtol=tolerance, atol=tolerance)
    under_vmap = vmap(lambda p, x: siren(x, p), in_dims=(0, 0 if own_points else None))(params, x)
    torch.testing.assert_close(under_vmap, loop, rtol=tolerance, atol=tolerance)


def test_paper_network_batched_equals_loop():
    """The paper's width, depth and omega."""
    generator = torch.Generator().manual_seed(0)
    siren = Siren(2, 3, generator=generator)
    params = {n: p.detach().expand(3, *p.shape).clone() for n, p in siren.named_parameters()}
    x = 2 * torch.rand(500, 2, generator=generator) - 1
    one = siren(x)
    torch.testing.assert_close(siren(x, params), one.expand(3, -1, -1), rtol=0, atol=1e-6)
    siren, x = siren.double(), x.double()
    params = {n: p.detach().expand(3, *p.shape).clone() for n, p in siren.named_parameters()}
    torch.testing.assert_close(siren(x, params), siren(x).expand(3, -1, -1), rtol=0, atol=1e-12)


def test_gradients_with_respect_to_given_params_equal_autograd_on_own():
    siren = Siren(2, 1, 8, 1).double()
    x = torch.rand(5, 2, dtype=torch.float64)
    siren(x).square().sum().backward()
    given = grad(lambda params: siren(x, params).square().sum())(dict(siren.named_parameters()))
    for name, p in siren.named_parameters():
        torch.testing.assert_close(given[name], p.grad)


def test_a_subset_of_params_keeps_the_other_weights():
    siren = Siren(2, 1, 8, 1)
    x = torch.rand(5, 2)
    bias = torch.rand(3, 8)
    full = {n: p.expand(3, *p.shape) for n, p in siren.named_parameters()} | {"layers.0.bias": bias}
    torch.testing.assert_close(siren(x, {"layers.0.bias": bias}), siren(x, full), rtol=1e-5, atol=1e-5)


def test_omega_multiplies_the_bias_too():
    weight, bias = torch.tensor([[2.0]]), torch.tensor([3.0])
    assert linear(torch.tensor([[1.0]]), weight, bias, omega=10.0).item() == 50
    assert linear(torch.tensor([[1.0]]), weight[None], bias[None], omega=10.0).item() == 50


def test_initial_weights_lie_in_the_stated_ranges():
    siren = Siren(2, 3, 256, 3, first_omega=30, hidden_omega=20)
    bounds = [1 / 2] + [math.sqrt(6 / 256) / 20] * 4
    for layer, bound in zip(siren.layers, bounds, strict=True):
        assert 0.98 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() <= 1 / math.sqrt(layer.in_features)
        assert layer.weight.var().item() == pytest.approx(bound**2 / 3, rel=0.15)


def test_activations_are_normal_before_and_arcsine_after_each_sine():
    """Paper, section 3.2 and its supplement, at every depth of a deep network."""
    siren = Siren(1, 1, 1024, 6, generator=torch.Generator().manual_seed(0))
    x = torch.linspace(-1, 1, 2000).unsqueeze(-1)
    for i, layer in enumerate(siren.layers[:-1]):
        phase = siren.first_omega * layer(x)
        x = torch.sin(phase)
        if i > 0:  # the first pre-activations are 30 times uniform: not normal, but spanning many periods
            assert phase.mean().abs() < 0.1
            # the bias, U(-1/sqrt(n), 1/sqrt(n)) times omega, adds omega^2 / 3n to the variance of 1
            assert phase.std().item() == pytest.approx(math.sqrt(1 + 30**2 / (3 * 1024)), abs=0.08)
            kurtosis = ((phase - phase.mean()) / phase.std()).pow(4).mean().item()
            assert kurtosis == pytest.approx(3, abs=0.3)
        # arcsine on [-1, 1]: variance 1/2, and quantiles sin(pi (q - 1/2))
        assert x.var().item() == pytest.approx(0.5, abs=0.06)
        quantiles = torch.tensor([0.1, 0.25, 0.75, 0.9])
        found = torch.quantile(x[::20].flatten(), quantiles)
        torch.testing.assert_close(found, torch.sin(math.pi * (quantiles - 0.5)), rtol=0, atol=0.12)


def test_wrong_coordinates_and_unknown_names_are_refused():
    siren = Siren(2, 1, 8, 1)
    with pytest.raises(ValueError, match=r"expected coordinates \(\.\.\., 2\), got \(5, 3\)"):
        siren(torch.rand(5, 3))
    with pytest.raises(ValueError, match=r"got also \['layers\.9\.weight'\]"):
        siren(torch.rand(5, 2), {"layers.9.weight": torch.rand(8, 8)})


def test_blocks_of_points_give_the_values_and_gradients_of_all(monkeypatch):
    siren = Siren(2, 3, hidden_features=16, generator=torch.Generator().manual_seed(0)).double()
    x = torch.rand(1000, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def found():
        y = siren(x)
        return [y, *torch.autograd.grad(y.square().mean(), list(siren.parameters()))]

    whole = found()
    monkeypatch.setattr(jets, "CACHED", 16 * 64)
    for a, b in zip(found(), whole, strict=True):
        torch.testing.assert_close(a, b)
