"""What is known as linear equations: values as they are, surfaces as a value and a gradient for each point."""

import warnings
from dataclasses import dataclass

import pytest
import torch

from hypersiren import Context, Siren
from hypersiren.fields.last_layers import last_layer
from hypersiren.fields.operators import value_and_gradient
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.adapters.mixture import MixtureSolve
from hypersiren.hypernets.context import _warn_of_alike
from hypersiren.hypernets.gaussian.equations import equations
from hypersiren.hypernets.gaussian.linear_algebra import append_bias
from hypersiren.hypernets.gaussian.observations import SurfaceNormals
from hypersiren.hypernets.refine import refine

LENGTH = 0.05


def surfaces(b=2, n=7, seed=0, dtype=torch.float64):
    """Points on balls of different sizes, some of them hidden."""
    generator = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(b, n, 3, generator=generator, dtype=dtype), dim=-1)
    radii = torch.linspace(0.4, 0.7, b, dtype=dtype)[:, None, None]
    return Context(radii * normals, normals, torch.rand(b, n, generator=generator) < 0.8, surface=True)


def parts(features=24, dtype=torch.float64, solver=LastLayerSolve, **arguments):
    generator = torch.Generator().manual_seed(0)
    siren = Siren(3, 1, (8, features), 1, 4.0, 4.0, generator=generator).to(dtype)
    solve = solver(features, **{"noise": 1e-4, "slope": 0.0, **arguments}).to(dtype)
    factor = torch.randn(features + 1, features + 1, generator=generator, dtype=dtype) / features**0.5
    solve.factor.data.copy_(factor)
    return siren, solve


def rows_by_autograd(siren, x):
    """phi and its derivatives at points, one feature after the other."""
    x = x.clone().requires_grad_()
    phi = append_bias(siren.features(x))
    slopes = torch.stack(
        [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in phi[:, :-1].unbind(1)], 1
    )
    slopes = torch.cat([slopes, torch.zeros_like(slopes[:, :1])], 1)  # the constant
    return torch.cat([phi, *(LENGTH * slopes[..., d] for d in range(3))]).detach()


@pytest.mark.parametrize("n", [5, 40])  # fewer equations than features, and more: dual and primal
def test_a_surface_is_least_squares_on_values_and_normals(n):
    siren, solve = parts()
    context = surfaces(n=n)
    found = solve(siren, None, {}, context)
    assert found.posterior.gram.dual == (4 * n <= 25)
    mean, factor, s = last_layer(siren, {}), solve.factor, 1e-2
    for i in range(2):
        x, normals = (v[i][context.mask[i]] for v in (context.x, context.y))
        rows = rows_by_autograd(siren, x)
        y = torch.cat([torch.zeros(len(x), dtype=x.dtype), *(LENGTH * normals.mT)])[:, None]
        left = torch.cat([rows @ factor / s, torch.eye(25, dtype=x.dtype)])
        right = torch.cat([(y - rows @ mean) / s, torch.zeros(25, 1, dtype=x.dtype)])
        want = mean + factor @ torch.linalg.lstsq(left, right).solution
        torch.testing.assert_close(last_layer(siren, found.params)[i], want, rtol=1e-6, atol=1e-7)


def test_the_field_has_the_value_and_the_normals_that_are_known():
    siren, solve = parts(features=200, noise=1e-8)
    context = surfaces()
    value, gradient = value_and_gradient(solve(siren, None, {}, context).field, context.x)
    known = context.mask
    assert value[known].abs().max() < 1e-3
    assert (gradient[:, :, 0] - context.y)[known].abs().max() < 1e-2


def test_what_is_hidden_has_no_influence():
    siren, solve = parts()
    context = surfaces()
    hidden = ~context.mask.unsqueeze(-1)
    other = Context(
        torch.where(hidden, 0.3, context.x), torch.where(hidden, torch.nan, context.y), context.mask, surface=True
    )
    a, b = (last_layer(siren, solve(siren, None, {}, c).params) for c in (context, other))
    torch.testing.assert_close(a, b)


def test_a_mixture_of_one_prior_solves_a_surface_as_that_prior_does():
    siren, solve = parts()
    _, mixture = parts(solver=MixtureSolve, priors=1)
    a, b = (last_layer(siren, s(siren, None, {}, surfaces()).params) for s in (solve, mixture))
    torch.testing.assert_close(a, b)


def test_own_features_of_each_surface():
    siren, solve = parts()
    hidden = {n: p.detach() + 0.1 * torch.randn(2, *p.shape, dtype=p.dtype) for n, p in siren.named_parameters()}
    together = last_layer(siren, solve(siren, None, hidden, surfaces()).params)
    for i in range(2):
        own = {name: p[i : i + 1] for name, p in hidden.items()}
        alone = last_layer(siren, solve(siren, None, own, surfaces().signals(slice(i, i + 1))).params)
        torch.testing.assert_close(together[i : i + 1], alone)


def test_gradients_flow_through_values_and_normals():
    siren, solve = parts(dtype=torch.float64)
    x = torch.rand(4, 3, dtype=torch.float64)

    def loss(factor):
        solve.factor.data.copy_(factor)
        return solve(siren, None, {}, surfaces()).field(x).square().sum()

    solve.zero_grad()
    start = solve.factor.data.clone()
    loss(start).backward()
    slope, direction = solve.factor.grad.clone(), torch.randn_like(start)
    change = (loss(start + 1e-5 * direction) - loss(start - 1e-5 * direction)) / 2e-5
    torch.testing.assert_close((slope * direction).sum(), change.detach(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (3, 2)])
def test_what_is_no_surface_is_refused(channels, outputs):
    siren = Siren(3, outputs, (8, 16))
    context = Context(
        torch.zeros(1, 2, 3), torch.zeros(1, 2, channels), torch.ones(1, 2, dtype=torch.bool), surface=True
    )
    with pytest.raises(ValueError, match="normals of 3 numbers and a field of 1 value"):
        equations(siren, {}, torch.zeros(17, outputs), context)


@dataclass(frozen=True)
class Slopes:
    """A kind of observation from outside: y are the field's derivatives along the first axis."""

    on_raster, prior = False, "none"

    def equations(self, siren, hidden, x, y, length):
        n = x.shape[-2]
        return SurfaceNormals().equations(siren, hidden, x, torch.zeros_like(x), 1.0)[0][..., n : 2 * n, :], y

    def residual(self, field, x, y, length=1.0):
        return value_and_gradient(field, x)[1][..., 0] - y


@pytest.mark.parametrize("solver", [LastLayerSolve, MixtureSolve])
def test_a_kind_of_observation_from_outside(solver):
    siren, solve = parts(features=64, noise=1e-8, solver=solver, **({"priors": 1} if solver is MixtureSolve else {}))
    x, y = torch.rand(2, 9, 3, dtype=torch.float64), torch.randn(2, 9, 1, dtype=torch.float64)
    context = Context(x, y, torch.rand(2, 9) < 0.8, kind=Slopes()).compact()
    assert context.signals(slice(0, 1)).kind == Slopes()
    field = solve(siren, None, {}, context).field
    missed = context.kind.residual(field, context.x, context.y)[context.mask]
    assert missed.abs().max() < 1e-2
    assert missed.numel() > 9
    refined = refine(siren.bind({}), context, steps=100, lr=1e-2)
    before, after = (context.kind.residual(f, context.x, context.y)[context.mask] for f in (siren.bind({}), refined))
    assert after.square().mean() < 0.5 * before.square().mean()


def test_the_old_name_of_shared_points_works_and_warns_once():
    values = torch.zeros(2, 3, 1), torch.zeros(2, 3, 1), torch.ones(2, 3, dtype=torch.bool)
    _warn_of_alike.cache_clear()
    with pytest.warns(DeprecationWarning, match=r"Context\.alike is now Context\.shared_points"):
        context = Context(*values, alike=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert context.alike
        assert context.shared_points
        assert not Context(*values, alike=False).shared_points
