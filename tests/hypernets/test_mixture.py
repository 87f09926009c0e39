"""The last layer under a mixture of priors, against a slow oracle that conditions one Gaussian after the other."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.fields.coords import grid
from hypersiren.fields.last_layers import last_layer
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.adapters.mixture import MixtureSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.clusters import clusters
from hypersiren.hypernets.gaussian.linear_algebra import append_bias, solve_with_determinant
from hypersiren.hypernets.gaussian.posterior import effective_count
from hypersiren.hypernets.model import HyperSiren
from hypersiren.training.checkpoints import load, save


def tones(m=60, n=40, seed=0):
    """Noisy tones of two kinds: low and high."""
    generator = torch.Generator().manual_seed(seed)
    t, phase = torch.arange(n), 6.3 * torch.rand(m, 1, generator=generator)
    omega = torch.where(torch.arange(m)[:, None] % 2 == 0, 0.3, 1.4)
    return (torch.sin(omega * t + phase) + 0.05 * torch.randn(m, n, generator=generator)).unsqueeze(-1)


def model(priors=3, rank=None, noise=1e-2, slope=-0.5, channels=1, **more):
    torch.manual_seed(0)
    siren = Siren(1, channels, hidden_features=(24, 64), first_omega=60.0)
    return HyperSiren(None, None, siren, MixtureSolve(64, priors, rank, noise, slope, **more)).double()


def prepared(**arguments):
    made = model(**arguments).requires_grad_(False)
    made.set_prior([tones().double()], shrinkage=0.1)
    return made


def oracle(made, x, y, at):
    """Mean, variance and shares at some places, of one signal, by dense formulas on function values."""
    solve, siren = made.adapter, made.siren
    phi, other = append_bias(siren.features(x)), append_bias(siren.features(at))
    theta = torch.cat([siren.last()["layers.2.weight"], siren.last()["layers.2.bias"][:, None]], 1).T
    wrong, logs, means, variances = y - phi @ theta, [], [], []
    count = effective_count(siren, x[None], torch.ones(1, len(x), dtype=torch.bool))
    for k in range(len(solve.factor)):
        covariance = solve.factor[k] @ solve.factor[k].T
        noise = torch.exp(solve.noise[k, 0] + solve.noise[k, 1] * torch.log(count / 100))
        gram = phi @ covariance @ phi.T + noise * torch.eye(len(x)).to(x)
        gain = other @ covariance @ phi.T @ torch.linalg.inv(gram)
        normal = torch.distributions.MultivariateNormal(torch.zeros(len(x)).to(x), gram)
        logs.append(sum(normal.log_prob(wrong[:, c]) for c in range(wrong.shape[1])))
        means.append(other @ theta + gain @ wrong)
        variances.append((other @ covariance @ other.T - gain @ phi @ covariance @ other.T).diagonal())
    evidence = torch.stack(logs) + solve.shares.log_softmax(0)
    shares = (solve.tempering.exp() * evidence).softmax(0)
    mean = sum(s * m for s, m in zip(shares, means, strict=True))
    within = sum(s * (v[:, None] + (m - mean).square()) for s, m, v in zip(shares, means, variances, strict=True))
    return mean, within, shares


@settings(max_examples=12, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    rank=st.sampled_from([None, 7]),
    raster=st.booleans(),
    tempering=st.floats(-1, 0.5),
)
def test_the_mixture_equals_a_slow_oracle(counts, rank, raster, tempering):
    made = prepared(rank=rank)
    made.adapter.tempering.fill_(tempering)
    values, mask = tones(len(counts), seed=5).double(), torch.zeros(len(counts), 40, dtype=torch.bool)
    for i, count in enumerate(counts):
        mask[i, torch.randperm(40, generator=torch.Generator().manual_seed(i))[:count]] = True
    context = Context.from_rasters(values, mask).compact()
    if not raster:
        context = Context(context.x, context.y, context.mask)
    found, at = made.predict(context), torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    value, variance = found.field(at), found.posterior.variance(at)
    for i in range(len(counts)):
        x, y = grid((40,), dtype=torch.float64)[mask[i]], values[i][mask[i]]
        mean, within, shares = oracle(made, x, y, at)
        torch.testing.assert_close(value[i], mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(variance[i], within, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(found.posterior.weights[i], shares, rtol=1e-4, atol=1e-6)


def test_all_known_of_all_is_as_all_known_of_each():
    """One matrix for the whole batch, against one for each signal."""
    made, values = prepared(rank=5), tones(4, seed=2).double()
    whole = torch.ones(4, 40, dtype=torch.bool)
    together = made.predict(Context.from_rasters(values, whole)).field(grid((40,), dtype=torch.float64))
    for i in range(4):
        context = Context.from_rasters(values[i : i + 1], whole[:1])
        alone = made.predict(Context(context.x, context.y, context.mask)).field(grid((40,), dtype=torch.float64))
        torch.testing.assert_close(together[i], alone[0])


def test_one_prior_is_the_last_layer_solve():
    made = prepared(priors=1)
    single = LastLayerSolve(64, noise=1e-2, slope=-0.5)
    other = HyperSiren(None, None, made.siren, single).double().requires_grad_(False)
    other.set_prior([tones().double()], shrinkage=0.1)
    mask = torch.rand(3, 40, generator=torch.Generator().manual_seed(0)) < 0.3
    context, x = Context.from_rasters(tones(3, seed=1).double(), mask), torch.rand(5, 1).double()
    a, b = made.predict(context), other.predict(context)
    torch.testing.assert_close(a.field(x), b.field(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(a.posterior.variance(x), b.posterior.variance(x), rtol=1e-3, atol=1e-6)


def test_gradients_through_solution_and_determinant():
    torch.manual_seed(0)
    root = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True)
    right = torch.randn(2, 5, 2, dtype=torch.float64, requires_grad=True)

    def function(root, right):
        return solve_with_determinant(root @ root.mT + torch.eye(5).double(), right)[:2]

    assert torch.autograd.gradcheck(function, (root, right))
    assert solve_with_determinant(torch.eye(3)[None] * 2, torch.ones(1, 3, 1))[1].item() == pytest.approx(math.log(8))


def test_two_kinds_of_signal_have_their_own_priors_and_beat_one():
    values = tones(40, seed=9).double()
    mask = torch.rand(40, 40, generator=torch.Generator().manual_seed(1)) < 0.2
    kind = clusters(tones(), 2)
    assert (kind[::2] == kind[0]).all()
    assert (kind[1::2] == 1 - kind[0]).all()
    errors = {}
    for priors in (1, 2):
        field = prepared(priors=priors).field(Context.from_rasters(values, mask))
        errors[priors] = (field(grid((40,), dtype=torch.float64)) - values).square().mean().item()
    assert errors[2] < 0.6 * errors[1]


def test_samples_have_the_mean_and_the_variance():
    made = prepared(rank=6)
    mask = torch.zeros(2, 40, dtype=torch.bool)
    mask[:, :4] = True
    found, x = (
        made.predict(Context.from_rasters(tones(2, seed=3).double(), mask)),
        torch.tensor([[0.1], [0.9]]).double(),
    )
    params = found.posterior.sample(3000, torch.Generator().manual_seed(0))
    values = made.siren.bind(params)(x).unflatten(0, (2, -1))
    assert (values.var(1) / found.posterior.variance(x) - 1).abs().max() < 0.15
    deviation = found.posterior.variance(x).sqrt()
    assert ((values.mean(1) - found.field(x)).abs() < 0.1 * deviation).all()


def test_small_clusters_have_no_prior_and_change_nothing(tmp_path):
    made = model(priors=50, rank=9).float()
    made.set_prior([tones()])
    there = made.adapter.shares.softmax(0) > 0
    assert 0 < there.sum() < 50
    assert not made.adapter.factor[~there].any()
    known = Context.from_rasters(tones(4, seed=1).float(), torch.rand(4, 40) < 0.4)
    with torch.no_grad():
        before = made(known, grid((9,)))
        made.adapter.factor[~there] = 1.0
        torch.testing.assert_close(made(known, grid((9,))), before)
    save(made, tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors")
    for name, value in made.adapter.state_dict().items():
        assert torch.equal(value, other.adapter.state_dict()[name])


def test_everything_is_trained():
    made = model(rank=8, covariance=True)
    made.set_prior([tones().double()])
    values = tones(4, seed=1).double()
    mask = torch.rand(4, 40, generator=torch.Generator().manual_seed(0)) < 0.4
    (made(Context.from_rasters(values, mask), grid((40,), dtype=torch.float64)) - values).square().mean().backward()
    for name, parameter in made.adapter.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_a_siren_of_another_width_is_refused():
    context = Context.from_rasters(torch.rand(1, 9, 1), torch.ones(1, 9, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected a SIREN of 64 features in its last sine layer, got 16"):
        MixtureSolve(64)(Siren(1, 1, hidden_features=(8, 16)), None, {}, context)
    with pytest.raises(ValueError, match="got none"):
        model().set_prior([])


@pytest.mark.parametrize("raster", [False, True])
@pytest.mark.parametrize(
    ("count", "rank", "alike"), [(12, None, False), (30, 9, False), (30, None, True), (40, 9, True)]
)
def test_all_priors_at_once_are_as_one_after_the_other(count, rank, alike, raster):
    """Values, variance and gradients, whether the priors are one batch or several and the kernel one of all cells."""
    made, signals = prepared(priors=3, rank=rank), 2 if count < 20 else 6
    values, mask = tones(signals, seed=7).double(), torch.zeros(signals, 40, dtype=torch.bool)
    for i in range(signals):
        mask[i, torch.randperm(40, generator=torch.Generator().manual_seed(0 if alike else i))[:count]] = True
    context = Context.from_rasters(values, mask).compact()
    assert context.shared_points == alike
    if not raster:
        context = Context(context.x, context.y, context.mask, shared_points=alike)
    x, trained = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None], made.adapter
    names = ("noise", "shares", "tempering")
    for name in names:
        getattr(trained, name).requires_grad_(True)

    def gradients(loss):
        return torch.autograd.grad(loss, [getattr(trained, name) for name in names])

    found = made.predict(context)
    mine = [found.field(x), found.posterior.variance(x)]
    mine += gradients(mine[0].square().sum() + mine[1].sum())
    theta = last_layer(made.siren, {})
    phi, other = append_bias(made.siren.features(context.x)), append_bias(made.siren.features(x))
    noise = trained._noises(made.siren, context, signals)
    logs, means, variances = [], [], []
    for k in range(3):
        logs.append([]), means.append([]), variances.append([])
        for i in range(signals):
            a, b = phi[i] @ trained.factor[k], other @ trained.factor[k]
            wrong = context.y[i] - phi[i] @ theta
            gram = a @ a.mT + noise[k, i] * torch.eye(len(a)).double()
            gain = torch.linalg.solve(gram, a @ b.mT).mT
            logs[k].append(-0.5 * (gram.logdet() + (wrong * torch.linalg.solve(gram, wrong)).sum()))
            means[k].append(other @ theta + gain @ wrong)
            variances[k].append((b.square().sum(-1) - (gain * (b @ a.mT)).sum(-1)).unsqueeze(-1))
    logs, means, variances = (torch.stack([torch.stack(row) for row in rows]) for rows in (logs, means, variances))
    shares = (trained.tempering.exp() * (logs + trained.shares.log_softmax(0)[:, None])).softmax(0)[..., None, None]
    mean = (shares * means).sum(0)
    # The posterior takes shares and the mean of the mixture as they are found, and trains variances through noise.
    variance = (shares.detach() * (variances + (means - mean).square())).sum(0)
    slow = [mean, variance, *gradients(mean.square().sum() + variance.sum())]
    for a, b in zip(mine, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", ["solve", "mixture"])
def test_nothing_known_of_any_signal_leaves_the_prior(solver):
    made = prepared(priors=2)
    if solver == "solve":
        single = LastLayerSolve(64, noise=1e-2)
        made = HyperSiren(None, None, made.siren, single).double().requires_grad_(False)
        made.set_prior([tones().double()])
    nothing = torch.zeros(3, 40, dtype=torch.bool)
    found = made.predict(Context.from_rasters(tones(3).double(), nothing).compact())
    x = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]
    assert found.posterior.mask.shape == (1, 1)
    assert not found.posterior.mask.any()
    torch.testing.assert_close(found.posterior.mean(x), made.siren(x).expand(3, -1, -1))
    torch.testing.assert_close(found.posterior.remaining_variance.max().item(), 1.0)
    assert (found.posterior.variance(x) > 0).all()
    params = found.posterior.sample(2, torch.Generator().manual_seed(0))
    assert made.siren.bind(params)(x).shape == (6, 9, 1)
