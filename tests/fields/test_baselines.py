"""Baselines: all of them through the operators, against finite differences, and able to learn."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hypersiren.errors import UserError
from hypersiren.fields import operators
from hypersiren.fields.baselines import BASELINES, baseline, equal_width
from hypersiren.fields.coords import grid
from hypersiren.fields.encodings import PositionalEncoding
from hypersiren.fields.mlp import CoordinateMLP
from hypersiren.fields.siren import Siren

every_baseline = pytest.mark.parametrize("name", BASELINES)


def small(name: str, out_features: int = 2) -> nn.Module:
    """A small field of two coordinates in double precision, gentle enough for finite differences."""
    generator = torch.Generator().manual_seed(0)
    size = {"hidden_features": 12, "hidden_layers": 2, "samples": (16, 32)}
    return baseline(name, 2, out_features, **size, first_omega=5.0, hidden_omega=5.0, generator=generator).double()


def points(count: int) -> Tensor:
    return 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1


def difference(function, x: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences by each coordinate, in a new last axis."""
    shifts = step * torch.eye(x.shape[-1], dtype=x.dtype)
    return torch.stack([(function(x + s) - function(x - s)) / (2 * step) for s in shifts], dim=-1)


@every_baseline
def test_derivatives_are_those_of_finite_differences(name):
    field, x = small(name), points(50)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(operators.gradient(field, x), difference(field, x), **close)
    hessian = difference(lambda x: operators.gradient(field, x), x)
    torch.testing.assert_close(operators.hessian(field, x), hessian, **close)
    laplacian = hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(operators.laplacian(field, x), laplacian, **close)
    assert (laplacian.abs().max() > 1e-3) == (name != "relu")  # of ReLU alone, second derivatives vanish
    with torch.no_grad():
        torch.testing.assert_close(operators.laplacian(field, x), laplacian, **close)


@every_baseline
@pytest.mark.parametrize("operator", [operators.gradient, operators.laplacian])
def test_training_on_derivatives_follows_finite_differences_in_the_weights(name, operator):
    field, x = small(name), points(20)
    params = {n: p.detach().requires_grad_() for n, p in field.named_parameters()}

    def loss(params) -> Tensor:
        return operator(lambda x: functional_call(field, params, (x,)), x).square().mean()

    found = torch.autograd.grad(loss(params), list(params.values()), materialize_grads=True)
    generator = torch.Generator().manual_seed(2)
    direction = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in params.items()}
    step = 1e-7
    up, down = (loss({n: p + s * direction[n] for n, p in params.items()}) for s in (step, -step))
    slope = sum((g * d).sum() for g, d in zip(found, direction.values(), strict=True))
    torch.testing.assert_close(slope, (up - down) / (2 * step), rtol=1e-5, atol=1e-6)


@every_baseline
def test_weights_may_be_arguments(name):
    field, x = small(name), points(9)
    params = {n: p.detach() * torch.linspace(0.9, 1.1, 3).view(3, *[1] * p.ndim) for n, p in field.named_parameters()}
    loop = torch.stack([functional_call(field, {n: p[i] for n, p in params.items()}, (x,)) for i in range(3)])
    torch.testing.assert_close(vmap(lambda params: functional_call(field, params, (x,)))(params), loop)
    torch.testing.assert_close(loop[1], field(x))
    assert not torch.allclose(loop[0], loop[1])


@every_baseline
def test_values_are_real_of_any_batch_and_precision(name):
    field, x = small(name), points(12)
    assert field(x).dtype == torch.float64
    torch.testing.assert_close(field(x.view(3, 4, 2)), field(x).view(3, 4, 2))
    torch.testing.assert_close(field.float()(x.float()), small(name)(x).float(), rtol=1e-4, atol=1e-4)


@every_baseline
def test_seeds_and_state(name):
    def build(seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return baseline(name, 2, 1, hidden_features=8, hidden_layers=1, samples=(16, 16), generator=generator)

    x = points(9).float()
    a, again, other = build(0), build(0), build(1)
    assert torch.equal(a(x), again(x))
    assert not torch.allclose(a(x), other(x))
    other.load_state_dict(a.state_dict())
    assert torch.equal(a(x), other(x))


@every_baseline
def test_the_loss_falls_within_a_few_dozen_steps(name):
    x = grid((16, 16))
    y = x[:, :1] + torch.sin(9 * x[:, :1]) * torch.cos(7 * x[:, 1:])  # a ramp, of variance 1/3, and waves, 0.29
    field = baseline(
        name, 2, 1, hidden_features=64, hidden_layers=2, samples=(16, 16), generator=torch.Generator().manual_seed(0)
    )
    optimiser = torch.optim.Adam(field.parameters(), lr=2e-3)
    for _ in range(60):
        loss = (field(x) - y).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # Within so few steps, those that the paper shows to be slow learn the ramp alone.
    assert loss < (0.32 if name in ("relu", "tanh", "softplus") else 0.1)


@every_baseline
@pytest.mark.parametrize("hidden_features", [64, 256])
@pytest.mark.parametrize("hidden_layers", [0, 1, 3])
def test_equal_width_is_the_best_of_all_widths(name, hidden_features, hidden_layers):
    shape = {"hidden_layers": hidden_layers, "samples": (64, 64, 64)}

    def weights(name: str, width: int) -> int:
        return sum(p.numel() for p in baseline(name, 3, 1, hidden_features=width, **shape).parameters())

    state = torch.get_rng_state()
    width = equal_width(name, 3, 1, hidden_features=hidden_features, **shape)
    assert torch.equal(torch.get_rng_state(), state)
    wanted = weights("siren", hidden_features)
    miss = abs(weights(name, width) - wanted)
    others = {max(1, width + shift) for shift in (-10, -3, -2, -1, 1, 2, 3, 10)}
    assert all(abs(weights(name, other) - wanted) >= miss for other in others)
    if name in ("siren", "relu", "tanh", "softplus", "finer"):
        assert width == hidden_features
        assert miss == 0
    if hidden_features == 256 and hidden_layers == 3:
        assert miss < 0.01 * wanted


def test_layers_count_as_in_a_siren():
    """And WIRE's as its authors have them: int(width / sqrt(2)), the first layer real, the others complex."""
    count = {n: sum(p.numel() for p in baseline(n, 2, 3, samples=(64, 64)).parameters()) for n in ("relu", "wire")}
    assert count["relu"] == 198_915 == sum(p.numel() for p in Siren(2, 3).parameters())
    assert count["wire"] == 3 * 181 + 2 * (3 * 181 * 182 + 182 * 3)


def test_octaves_follow_the_samples_of_each_axis():
    field = baseline("relu_pe", 2, 1, samples=(64, 256))
    assert field.encoding.out_features == 2 + 2 * (4 + 6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"expected a baseline of siren, .*, got 'gauss'"):
        baseline("gauss", 2, 1, samples=(8, 8))
    with pytest.raises(ValueError, match="expected samples along 2 axes, got "):
        baseline("relu", 2, 1, samples=(8,))
    with pytest.raises(ValueError, match=r"expected an activation of .*, got 'sine'"):
        CoordinateMLP(2, 1, activation="sine")
    with pytest.raises(ValueError, match="expected an encoding of 3 coordinates, got 2"):
        CoordinateMLP(3, 1, encoding=PositionalEncoding([4, 4]))
    with pytest.raises(ValueError, match=r"expected coordinates \(\.\.\., 2\), got \(5, 3\)"):
        CoordinateMLP(2, 1, 8)(torch.rand(5, 3))
