"""The last layer solved in the model: against least squares, its invariances, its uncertainty, its gradients."""

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from hypersiren import Completion, Context, FullHypernet, HyperSiren, SetEncoder, Siren, grid, load, save, train
from hypersiren.completion.images.settings import CompletionLoss, CompletionSettings
from hypersiren.completion.objective import HypernetObjective
from hypersiren.errors import UserError
from hypersiren.fields.last_layers import last_layer
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.gaussian.calibration import NINETY, negative_log_likelihood
from hypersiren.hypernets.gaussian.linear_algebra import _SolveParts, append_bias, solve_parts, solve_positive
from hypersiren.hypernets.gaussian.posterior import effective_count
from hypersiren.hypernets.model import build

F = 24


def parts(channels=2, dtype=torch.float64, features=F, **arguments):
    generator = torch.Generator().manual_seed(0)
    siren = Siren(2, channels, (8, features), generator=generator).to(dtype)
    solve = LastLayerSolve(features, **{"noise": 0.01, "slope": 0.0, **arguments}).to(dtype)
    factor = torch.randn(features + 1, features + 1, generator=generator, dtype=dtype) / features**0.5
    solve.factor.data.copy_(factor)
    return siren, solve


def context(b=3, h=5, w=4, channels=2, share=0.6, cells=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(b, h, w, channels, generator=generator, dtype=dtype)
    mask = torch.rand(b, h, w, generator=generator) < share
    found = Context.from_rasters(images, mask)
    return found if cells else Context(found.x, found.y, found.mask)


def expected(siren, solve, known):
    """One signal after the other, by least squares on the whitened weights and the noise."""
    mean, factor = last_layer(siren, {}), solve.factor
    found = []
    for x, y, mask in zip(known.x, known.y, known.mask, strict=True):
        phi = append_bias(siren.features(x[mask]))
        s = (0.01) ** 0.5
        rows = torch.cat([phi @ factor / s, torch.eye(factor.shape[1], dtype=x.dtype)])
        right = torch.cat([(y[mask] - phi @ mean) / s, torch.zeros(factor.shape[1], y.shape[-1], dtype=x.dtype)])
        found.append(mean + factor @ torch.linalg.lstsq(rows, right).solution)
    return torch.stack(found)


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (9, 8)])  # fewer points than features, and more: dual and primal
def test_it_is_regularised_least_squares(cells, size):
    siren, solve = parts()
    known = context(h=size[0], w=size[1], cells=cells)
    found = solve(siren, None, {}, known)
    assert found.posterior.gram.dual == (size[0] * size[1] <= F + 1)
    torch.testing.assert_close(last_layer(siren, found.params), expected(siren, solve, known), rtol=1e-7, atol=1e-8)


def test_one_known_point_and_none():
    siren, solve = parts()
    known = context(b=2)
    mask = torch.zeros_like(known.mask)
    mask[0, 3] = True
    known = Context(known.x, known.y, mask, known.size, known.cells)
    found = last_layer(siren, solve(siren, None, {}, known).params)
    torch.testing.assert_close(found[:1], expected(siren, solve, known.signals(slice(0, 1))), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(found[1], last_layer(siren, {}))


@pytest.mark.parametrize("cells", [True, False])
def test_order_and_what_is_hidden_do_not_matter(cells):
    siren, solve = parts()
    known = context(cells=cells)
    order = torch.randperm(known.x.shape[1])
    y = torch.where(known.mask.unsqueeze(-1), known.y, torch.nan)
    kept = None if known.cells is None else known.cells[:, order]
    shuffled = Context(known.x[:, order], y[:, order], known.mask[:, order], known.size, kept)
    a, b = (last_layer(siren, solve(siren, None, {}, c).params) for c in (known, shuffled))
    torch.testing.assert_close(a, b)


def test_a_point_named_twice_is_known_twice_as_well():
    siren, solve = parts()
    known = context(b=1)
    doubled = Context(*(torch.cat([v, v], 1) for v in (known.x, known.y, known.mask)), known.size,
                      torch.cat([known.cells, known.cells], 1))  # fmt: skip
    half = LastLayerSolve(F, noise=0.005, slope=0.0).double()
    half.factor.data.copy_(solve.factor)
    a, b = (last_layer(siren, s(siren, None, {}, c).params) for s, c in ((solve, doubled), (half, known)))
    torch.testing.assert_close(a, b)


def test_all_known_and_enough_features_meets_every_value():
    siren, solve = parts(features=128, noise=1e-6, dtype=torch.float64)
    known = context(share=2.0)
    field = solve(siren, None, {}, known).field
    assert (field(known.x) - known.y).abs().max() < 1e-2


def test_own_features_of_each_signal():
    """Where a hypernetwork predicts the hidden layers too, each signal is solved with its own."""
    siren, solve = parts()
    hidden = {n: p.detach() + 0.1 * torch.randn(3, *p.shape, dtype=p.dtype) for n, p in siren.named_parameters()}
    known = context()
    together = last_layer(siren, solve(siren, None, hidden, known).params)
    for i in range(3):
        own = {name: p[i : i + 1] for name, p in hidden.items()}
        alone = last_layer(siren, solve(siren, None, own, known.signals(slice(i, i + 1))).params)
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("size", [(4, 4), (9, 8)])
def test_samples_spread_as_the_variance_says(size):
    siren, solve = parts(channels=1)
    posterior = solve(siren, None, {}, context(b=2, h=size[0], w=size[1], channels=1)).posterior
    x = grid((3, 3), dtype=torch.float64)
    samples = siren.bind(posterior.sample(4000, torch.Generator().manual_seed(0)))(x).view(2, 4000, 9, 1)
    mean = siren.bind(posterior.params)(x)
    torch.testing.assert_close(samples.mean(1), mean, atol=0.06, rtol=0.05)
    torch.testing.assert_close(samples.var(1), posterior.variance(x), rtol=0.12, atol=1e-3)


def test_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 9, generator=generator, dtype=torch.float64)
    kernel = (root @ root.mT).requires_grad_()
    right = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[True] * 4, [True, True, False, True]])
    right = (right * mask.unsqueeze(-1)).requires_grad_()
    cells = torch.tensor([[0, 2, 3, 5], [1, 4, 0, 2]])
    noise = torch.tensor([0.1, 0.3], dtype=torch.float64, requires_grad=True)

    def symmetric(kernel, noise, right):
        return _SolveParts.apply((kernel + kernel.mT) / 2, noise, right * mask.unsqueeze(-1), cells, mask)[0]

    assert torch.autograd.gradcheck(symmetric, (kernel, noise, right))
    dense = torch.stack([kernel[c][:, c] for c in cells[:1]]) + 0.1 * torch.eye(4, dtype=torch.float64)
    a = solve_positive(dense, right[:1])[0]
    torch.testing.assert_close(a, solve_parts(kernel, noise, right, cells, mask)[0][:1])


def test_training_goes_through_predict():
    """Every part of the model gets a gradient of what comes after the solve."""
    siren = Siren(2, 1, (8, F), generator=torch.Generator().manual_seed(0))
    hypernet = FullHypernet(dict(list(siren.shapes.items())[-2:]), 6, 6)
    model = HyperSiren(SetEncoder(3, 6, 8), hypernet, siren, LastLayerSolve(F))
    model(context(channels=1, dtype=torch.float32), grid((3, 3))).square().mean().backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not missing


def smooth(count, size=12, seed=0):
    """Images of a few slow waves."""
    generator = torch.Generator().manual_seed(seed)
    x = grid((size, size))
    waves = torch.stack(
        [torch.sin(k * x[:, 0] + p) * torch.cos(m * x[:, 1]) for k in (1, 2) for m in (1, 3) for p in (0, 1)]
    )
    weights = torch.randn(count, len(waves), generator=generator) * 0.3
    return (weights @ waves).view(count, size, size, 1) + 0.2


def solved(**arguments):
    siren = Siren(2, 1, (32, 256), 0, 10.0, 8.0, generator=torch.Generator().manual_seed(0))
    model = HyperSiren(None, None, siren, LastLayerSolve(256, **arguments))
    model.set_prior([smooth(200), smooth(200, seed=1)], shrinkage=0.02)
    return model


def test_the_prior_from_data_completes_what_the_data_are_like():
    model, images = solved(noise=1e-4), smooth(10, seed=5)
    mask = torch.rand(10, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.2
    with torch.no_grad():
        found = model(Context.from_rasters(images, mask), grid((12, 12))).view_as(images)
        finer = model(Context.from_rasters(images, mask), grid((24, 24))).view(10, 24, 24, 1)
    error = (found - images).square().mean()
    assert error < 0.02 * (images - images.mean(0)).square().mean()
    pooled = finer.unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2))
    assert (pooled - images).square().mean() < 0.05 * images.var()  # no ringing between the pixels


def test_the_prior_s_intervals_cover():
    model, images = solved(noise=1e-4), smooth(40, seed=7)
    mask = torch.rand(40, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.05
    with torch.no_grad():
        found = model.predict(Context.from_rasters(images, mask))
        mean, variance = found.field(grid((12, 12))), found.posterior.variance(grid((12, 12)))
    inside = ((mean - images.flatten(1, 2)).abs() < 1.645 * variance.sqrt())[~mask.flatten(1)]
    assert 0.8 < inside.float().mean() < 1


def test_calibration_makes_intervals_hold_what_they_say():
    """Also where the model is far too sure of itself, and more so the more it knows."""
    model = solved(noise=1e-4)
    model.adapter.factor.data *= 0.3
    x = grid((12, 12))

    def cases(seed):
        images = smooth(60, seed=seed)
        for share in (0.02, 0.1):
            mask = torch.rand(60, 12, 12, generator=torch.Generator().manual_seed(seed)) < share
            mask[:, 0, 0] = True
            yield Context.from_rasters(images, mask).compact(), x, images.flatten(1, 2), ~mask.flatten(1)

    def coverages(seed):
        for known, points, y, unknown in cases(seed):
            found = model.predict(known)
            inside = (found.field(points) - y).abs() <= NINETY * found.posterior.variance(points).sqrt()
            yield inside[unknown].float().mean().item()

    with torch.no_grad():
        assert min(coverages(9)) < 0.7
        model.calibrate(cases(8))
        assert all(0.85 < share < 0.95 for share in coverages(9))
        known = next(cases(9))[0].signals(slice(0, 1))
        posterior = model.predict(known).posterior
        values = model.siren.bind(posterior.sample(2000, torch.Generator().manual_seed(0)))(x)
    torch.testing.assert_close(values.var(0), posterior.variance(x)[0], rtol=0.15, atol=1e-4)


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize("size", [(4, 4), (9, 8)])
def test_signals_known_alike_share_one_system(cells, size):
    siren, solve = parts()
    known = context(h=size[0], w=size[1], cells=cells)
    mask = known.mask[:1].expand_as(known.mask)
    apart = Context(known.x, known.y, mask, known.size, known.cells)
    x = grid((3, 3), dtype=torch.float64)
    a, b = (solve(siren, None, {}, c) for c in (apart, replace(apart, shared_points=True)))
    assert len(a.posterior.mask) == 3
    assert len(b.posterior.mask) == 1
    torch.testing.assert_close(a.params, b.params)
    torch.testing.assert_close(a.posterior.variance(x), b.posterior.variance(x))
    assert b.posterior.variance(x).shape == (3, 9, 2)
    samples = (siren.bind(p.posterior.sample(2, torch.Generator().manual_seed(0)))(x) for p in (a, b))
    torch.testing.assert_close(*samples)
    gradients = [torch.autograd.grad(p.field(x).square().sum(), solve.factor)[0] for p in (a, b)]
    torch.testing.assert_close(*gradients)


def test_compact_sees_whether_signals_are_known_alike():
    images = torch.rand(3, 4, 4, 1)
    mask = torch.zeros(3, 4, 4, dtype=torch.bool)
    mask[:, :2] = True
    assert Context.from_rasters(images, mask).compact().shared_points
    mask[0, 3, 3] = True
    assert not Context.from_rasters(images, mask).compact().shared_points


def test_what_belongs_to_the_prior_learns_relative_to_its_size():
    model = solved()
    factors = model.lr_factors()
    for part in (model.adapter.factor, model.siren.layers[1].weight, model.siren.layers[0].bias):
        assert factors[part] == pytest.approx(part.square().mean().sqrt().item())


def test_a_model_without_an_encoder_is_saved_and_loaded(tmp_path):
    model, known = solved(), Context.from_rasters(smooth(3), torch.rand(3, 12, 12) < 0.3)
    save(model, tmp_path / "model.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(
            load(tmp_path / "model.safetensors")(known, grid((4, 4))), model(known, grid((4, 4)))
        )


def test_what_does_not_fit_is_refused():
    siren = Siren(2, 1, 16)
    with pytest.raises(ValueError, match="expected a SIREN of 8 features"):
        LastLayerSolve(8)(siren, None, {}, context(channels=1, dtype=torch.float32))
    with pytest.raises(ValueError, match="expected an encoder and a hypernetwork, an adapter, or all three"):
        HyperSiren(None, None, siren)
    with pytest.raises(ValueError, match=r"latent_features': 8.*as the hypernetwork takes, got .*4"):
        HyperSiren(SetEncoder(3, 4), FullHypernet(siren.shapes, 8), siren)
    with pytest.raises(ValueError, match="expected signals to take a prior from, got none"):
        HyperSiren(None, None, siren, LastLayerSolve(16)).set_prior([])


def test_points_on_one_side_count_for_fewer():
    siren, x = Siren(2, 1, (8, F)), grid((32, 32))
    generator = torch.Generator().manual_seed(0)
    scattered = torch.rand(1024, generator=generator) < 0.1
    half, corner, one = (torch.zeros(32, 32, dtype=torch.bool) for _ in range(3))
    half[:16], corner[:4, :4], one[5, 5] = True, True, True
    masks = torch.stack([scattered, half.flatten(), corner.flatten(), one.flatten(), torch.ones(1024).bool()])
    count = effective_count(siren, x.expand(5, -1, -1), masks)
    assert 0.6 * scattered.sum() < count[0] <= scattered.sum()
    assert 4 < count[1] < 30
    assert count[2] == count[3] == 1
    assert count[4] == 1024
    assert effective_count(siren, x[None, :0], masks[:1, :0]).tolist() == [1]


def test_what_is_not_known_has_no_part_in_the_noise():
    siren, known = Siren(2, 2, (8, F)).double(), context()
    each = [
        effective_count(siren, x[mask][None], mask[mask][None]) for x, mask in zip(known.x, known.mask, strict=True)
    ]
    together = effective_count(siren, torch.where(known.mask.unsqueeze(-1), known.x, 0), known.mask)
    torch.testing.assert_close(together, torch.cat(each))


@pytest.mark.parametrize("size", [(4, 4), (9, 8)])  # dual and primal
@pytest.mark.parametrize("cells", [True, False])
def test_the_likelihood_is_that_of_the_posterior_and_has_its_gradients(cells, size):
    siren, solve = parts()
    known, x = context(h=size[0], w=size[1], cells=cells), grid((3, 3), dtype=torch.float64)
    y = torch.randn(3, 9, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss(factor, noise):
        solve.factor.data.copy_(factor)
        solve.noise.data.copy_(noise)
        return negative_log_likelihood(solve(siren, None, {}, known).posterior, x, y).sum()

    start = solve.factor.data.clone(), solve.noise.data.clone()
    found = loss(*start)
    found.backward()
    with torch.no_grad():  # there the variance comes from the Cholesky factor
        posterior = solve(siren, None, {}, known).posterior
        gaussian = torch.distributions.Normal(posterior.mean(x), (posterior.variance(x) + 1e-5).sqrt())
        constant = 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(found.detach(), -(gaussian.log_prob(y) + constant).sum())
        slopes = solve.factor.grad.clone(), solve.noise.grad.clone()
        ahead = [torch.randn(v.shape, generator=torch.Generator().manual_seed(3), dtype=v.dtype) for v in start]
        plus, minus = (loss(*(v + s * d for v, d in zip(start, ahead, strict=True))) for s in (1e-5, -1e-5))
    along = sum((slope * d).sum() for slope, d in zip(slopes, ahead, strict=True))
    torch.testing.assert_close(along, (plus - minus) / 2e-5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("adapter", [{"kind": "solve", "noise": 1e-2}, {"kind": "mixture", "priors": 2, "noise": 1e-2}])
def test_training_on_the_likelihood_learns_how_noisy_values_are(adapter):
    images = torch.rand(40, 6, 6, 1, generator=torch.Generator().manual_seed(0)) * 255
    task = Completion(images.to(torch.uint8), batch_size=8)
    torch.manual_seed(0)
    model = build({"hidden_features": (8, 40)}, {"kind": "none"}, {}, channels=1, adapter=adapter)
    objective = HypernetObjective(model, task, likelihood=1.0)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    batch, found = task.sample(torch.Generator().manual_seed(1)), []
    for _ in range(30):
        optimizer.zero_grad()
        terms = objective(batch)
        sum(terms.values()).backward()
        optimizer.step()
        found.append(terms["likelihood"].item())
    assert found[-1] < found[0] - 0.1


def test_a_likelihood_without_a_distribution_is_refused():
    with pytest.raises(
        ValidationError, match=r"expected adapter\.kind solve or mixture with loss\.likelihood, got none"
    ):
        CompletionSettings(encoder={"kind": "set"}, adapter={"kind": "none"}, loss={"likelihood": 1.0})
    images = torch.zeros(20, 4, 4, dtype=torch.uint8)
    siren = Siren(2, 1, hidden_features=8)
    model = HyperSiren(SetEncoder(3, 8), FullHypernet(siren.shapes, 8, 8), siren)
    with pytest.raises(UserError, match=r"loss\.likelihood needs a model that predicts a distribution"):
        train(model, Completion(images), loss=CompletionLoss(likelihood=1.0), steps=1, progress=False)
