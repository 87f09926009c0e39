"""Operators on fields whose derivatives are known, and the same by autograd and by jets."""

import pytest
import torch

from hypersiren.fields.operators import divergence, gradient, hessian, laplacian
from hypersiren.fields.siren import Siren


def polynomials(x: torch.Tensor) -> torch.Tensor:
    """u³ v and u + 2 v²."""
    u, v = x.unbind(-1)
    return torch.stack([u**3 * v, u + 2 * v**2], dim=-1)


@pytest.mark.parametrize("shape", [(7, 2), (3, 7, 2)])
def test_polynomials_have_their_known_derivatives(shape):
    x = torch.rand(shape).double()
    u, v = x.unbind(-1)
    zero, one = torch.zeros_like(u), torch.ones_like(u)
    first = torch.stack([3 * u**2 * v, u**3, one, 4 * v], dim=-1).unflatten(-1, (2, 2))
    torch.testing.assert_close(gradient(polynomials, x), first)
    torch.testing.assert_close(divergence(polynomials, x), (3 * u**2 * v + 4 * v).unsqueeze(-1))
    torch.testing.assert_close(laplacian(polynomials, x), torch.stack([6 * u * v, 4 * one], dim=-1))
    second = torch.stack([6 * u * v, 3 * u**2, 3 * u**2, zero, zero, zero, zero, 4 * one], dim=-1)
    torch.testing.assert_close(hessian(polynomials, x), second.unflatten(-1, (2, 2, 2)))


@pytest.mark.parametrize("operator", [gradient, laplacian, hessian])
@pytest.mark.parametrize("signals", [None, 3])
@pytest.mark.parametrize(("dimensions", "channels"), [(2, 1), (2, 2), (1, 3)])
def test_jets_and_autograd_agree(operator, signals, dimensions, channels):
    """Also for one set of points and weights per signal: every signal gets its own derivatives."""
    siren = Siren(dimensions, channels, 8, 2).double()
    params = {
        n: (p.detach() * (1 + 0.1 * torch.rand(*(() if signals is None else (signals,)), *p.shape))).requires_grad_()
        for n, p in siren.named_parameters()
    }
    field = siren.bind(params)
    x = torch.rand(5, dimensions).double()
    by_jet, by_autograd = operator(field, x), operator(lambda x: field(x), x)
    torch.testing.assert_close(by_jet, by_autograd, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(operator(siren, x), operator(siren.forward, x), rtol=1e-9, atol=1e-9)
    grads = [
        torch.autograd.grad(y.square().mean(), list(params.values()), materialize_grads=True)
        for y in (by_jet, by_autograd)
    ]
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-9)


def test_divergence_of_the_gradient_is_the_laplacian():
    siren = Siren(3, 1, 8, 1).double()
    x = torch.rand(5, 3).double()
    found = divergence(lambda x: gradient(siren, x).squeeze(-2), x)
    torch.testing.assert_close(found, laplacian(siren, x))
    torch.testing.assert_close(divergence(Siren(2, 2, 8, 1), torch.rand(4, 2)).shape, torch.Size([4, 1]))


@pytest.mark.parametrize("operator", [gradient, divergence, laplacian, hessian])
def test_right_without_a_graph(operator):
    network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    x = torch.rand(5, 2)
    expected = operator(network, x)
    with torch.no_grad():
        found = operator(network, x)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    assert expected.requires_grad


def test_a_field_without_curvature_has_none():
    x = torch.rand(5, 2)
    linear = torch.nn.Linear(2, 3)
    assert not laplacian(linear, x).any()
    assert not hessian(lambda x: torch.ones_like(x), x).any()


def test_divergence_needs_a_vector_field():
    with pytest.raises(ValueError, match="expected a vector field of 2 channels, got 3"):
        divergence(Siren(2, 3, 8, 1), torch.rand(5, 2))
