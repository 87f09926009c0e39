"""The correction of a prior's mean: what it must not change, its fast training beside `predict`, its amplitudes."""

from dataclasses import replace

import pytest
import torch

from hypersiren import Context, LastLayerSolve, MixtureSolve, Siren, grid
from hypersiren.fields.last_layers import last_layer
from hypersiren.hypernets.adapters.bank import FLOOR, Bank, BankBatch
from hypersiren.hypernets.adapters.correction import POINTS, Correction, best_amplitude
from hypersiren.hypernets.adapters.masks import draw_mask
from hypersiren.hypernets.adapters.metric import learn_metric
from hypersiren.hypernets.adapters.pairs import PairBank, Pairs
from hypersiren.hypernets.gaussian.linear_algebra import append_bias

SIZE = (12, 12)


def smooth(count, channels=3, size=SIZE, seed=0):
    """Images that a prior can learn: cumulated noise, in [-1, 1]."""
    y = torch.randn(count, *size, channels, generator=torch.Generator().manual_seed(seed))
    for axis in range(1, len(size) + 1):
        y = y.cumsum(axis)
    return (y / (3 * size[0])).clamp(-1, 1)


def made(kind=LastLayerSolve, channels=3, trained=True, seed=0, **arguments):
    """A SIREN, and an adapter with a correction whose weights are random, under a prior."""
    torch.manual_seed(seed)
    siren = Siren(2, channels, hidden_features=(32, 128))
    solve = kind(128, correction=Correction(128, channels, axes=48, inputs=12, width=32), **arguments).eval()
    solve.set_prior(siren, [smooth(80, channels)])
    if trained:
        torch.nn.init.normal_(solve.correction.last.weight, std=0.05)
    return siren, solve


def contexts(images, seed=0):
    """Own points of each signal, and the same points for all; on the raster, and compacted."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.rand(len(images), *SIZE, generator=generator) < 0.3
    shared = (torch.rand(1, *SIZE, generator=generator) < 0.8).expand(len(images), -1, -1)
    for mask in (own, shared):
        yield mask, Context.from_images(images, mask)
        yield mask, Context.from_images(images, mask).compact()


KINDS = [(LastLayerSolve, {}), (LastLayerSolve, {"double": True}), (MixtureSolve, {"priors": 3})]


@pytest.mark.parametrize(("kind", "arguments"), KINDS)
@torch.no_grad()
def test_untrained_it_changes_nothing_bit_for_bit(kind, arguments):
    siren, solve = made(kind, trained=False, **arguments)
    plain = kind(128, learned=False, **arguments)
    missing, unexpected = plain.load_state_dict(solve.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith("correction.") for name in unexpected)
    for _, context in contexts(smooth(4, seed=1)):
        here, there = solve(siren, None, {}, context), plain(siren, None, {}, context)
        assert here.params.keys() == there.params.keys()
        assert all(torch.equal(here.params[name], there.params[name]) for name in there.params)
        x = grid((5, 5))
        assert torch.equal(here.posterior.variance(x), there.posterior.variance(x))


@pytest.mark.parametrize(("kind", "arguments"), KINDS)
@torch.no_grad()
def test_known_points_are_met_as_before(kind, arguments):
    images = smooth(4, seed=1)
    siren, solve = made(kind, noise=1e-8, slope=0.0, **arguments) if kind is LastLayerSolve else made(kind, **arguments)
    for mask, context in contexts(images):
        after = solve(siren, None, {}, context).field(grid(SIZE))
        with solve.without_correction():
            before = solve(siren, None, {}, context).field(grid(SIZE))
        known, change = mask.flatten(1), (after - before).square().mean(-1)
        assert change[~known].mean() > 1e-8
        assert change[known].mean() < (1e-3 if kind is LastLayerSolve else 0.5) * change[~known].mean()


@torch.no_grad()
def test_the_second_solve_is_that_around_the_changed_mean():
    """The slow oracle: change the mean itself, and solve from the beginning."""
    images = smooth(3, seed=1)
    for kind, arguments in KINDS[:2]:
        siren, solve = made(kind, **arguments)
        plain = kind(128, learned=False, **arguments)
        plain.load_state_dict(solve.state_dict(), strict=False)
        for _, context in contexts(images):
            found = solve(siren, None, {}, context)
            first = plain(siren, None, {}, context)
            change = last_layer(siren, first.params) - last_layer(siren, {})
            v = solve.correction.change(siren, change, *first.posterior.probed())
            theta = last_layer(siren, {}) + solve.correction.axes @ v
            weight, bias = siren.last()
            params = {weight: theta[:, :-1].mT, bias: theta[:, -1]}
            again = plain(siren, None, params, context)
            x = grid(SIZE)
            torch.testing.assert_close(found.field(x), again.field(x), atol=2e-4, rtol=0)


@torch.no_grad()
def test_axes_are_orthonormal_and_read_is_their_inverse():
    siren, solve = made()
    correction = solve.correction
    fields = append_bias(siren.features(grid(SIZE))) @ correction.axes
    used = correction.length > 1e-2 * correction.length[0]
    gram = fields.mT @ fields * POINTS / len(fields)
    torch.testing.assert_close(gram[used][:, used], torch.eye(int(used.sum())), atol=2e-3, rtol=0)
    few = used[: len(correction.read)].sum()
    torch.testing.assert_close((correction.read @ correction.axes)[:few, :few], torch.eye(int(few)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_of_the_bank_is_that_of_predict(channels):
    """Training calls what `predict` calls: the slow oracle completes the signals and compares them along the axes."""
    siren, solve = made(channels=channels)
    correction = solve.correction
    bank = Bank(siren, solve, SIZE, fewest=5, regular=0.5, count=12, seed=3)
    images = smooth(8, channels, seed=5)
    batch = BankBatch(images.flatten(1, 2), torch.tensor([0, 0, 4, 4, 4, 7, 11, 11]))
    loss = bank.loss(correction, batch)
    total = 0.0
    for i, number in enumerate(batch.masks.tolist()):
        mask = torch.zeros(SIZE[0] * SIZE[1], dtype=torch.bool)
        mask[bank.masks[number].cells] = True
        context = Context.from_images(images[i : i + 1], mask.view(1, *SIZE)).compact()
        found = solve(siren, None, {}, context)
        left = bank.basis.mT @ (batch.y[i] - found.field(grid(SIZE))[0])
        variance = found.posterior.probed()[0].mean()
        total += left.square().sum() / (variance + FLOOR)
    torch.testing.assert_close(loss, total / batch.y.numel(), rtol=2e-3, atol=0)
    expected = torch.autograd.grad(total / batch.y.numel(), list(correction.parameters()))
    for one, other in zip(torch.autograd.grad(loss, list(correction.parameters())), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-3 * other.abs().max().item())


def normals(count, known, seed=0):
    """Circles at random places: their points and normals, and their distances on a raster."""
    generator = torch.Generator().manual_seed(seed)
    centre, radius = 0.3 * torch.rand(count, 1, 2, generator=generator), 0.5
    n = torch.nn.functional.normalize(torch.randn(count, known, 2, generator=generator), dim=-1)
    mask = torch.rand(count, known, generator=generator) < 0.7
    distance = (grid(SIZE) - centre).norm(dim=-1, keepdim=True) - radius
    return Context(centre + radius * n, n, mask, surface=True), distance


@pytest.mark.parametrize("case", ["mixture", "mixture of colours", "surfaces", "surfaces in double precision"])
def test_the_loss_of_pairs_is_that_of_predict(case):
    surfaces, channels = case.startswith("surfaces"), 3 if "colours" in case else 1
    if surfaces:
        torch.manual_seed(0)
        siren = Siren(2, 1, hidden_features=(32, 64))
        correction = Correction(64, 1, axes=24, inputs=12, width=32)
        solve = LastLayerSolve(64, noise=1e-3, double="double" in case, correction=correction).eval()
        solve.set_prior(siren, [normals(60, 1)[1].unflatten(1, SIZE)])
        torch.nn.init.normal_(correction.last.weight, std=0.05)
    else:
        siren, solve = made(MixtureSolve, channels, priors=3, rank=60)
    correction, seen = solve.correction, []

    def draw(generator):
        if surfaces:
            context, y = normals(3, 7, seed=len(seen))
        else:
            y = smooth(4, channels, seed=20 + len(seen)).flatten(1, 2)
            cells = torch.randperm(y.shape[1], generator=generator)[:30].expand(4, -1)
            known = torch.ones_like(cells, dtype=torch.bool)
            values = y[:, cells[0]]
            context = Context(grid(SIZE)[cells], values, known, SIZE, cells, shared_points=True)
        seen.append(Pairs(context, y, torch.linspace(0.5, 2, len(y))))
        return seen[-1]

    bank = PairBank(siren, solve, SIZE, draw, count=6 if surfaces else 3)
    assert (len(bank), bank.each) == ((6, 1) if surfaces else (3, 4))
    masks = torch.tensor([0, 1, 1, 5] if surfaces else [0, 0, 2, 1])
    which = torch.zeros(4, dtype=torch.int64) if surfaces else torch.tensor([3, 1, 0, 2])
    loss = bank.loss(correction, BankBatch(which, masks))
    basis = torch.linalg.qr(append_bias(siren.features(grid(SIZE))) @ correction.axes)[0]
    total = 0.0
    for mask, number in zip(masks.tolist(), which.tolist(), strict=True):
        pairs, i = (seen[mask // 3], mask % 3) if surfaces else (seen[mask], number)
        found = solve(siren, None, {}, pairs.context.signals(slice(i, i + 1)))
        left = basis.mT @ (pairs.y[i] - found.field(grid(SIZE))[0])
        with solve.without_correction():
            variance = solve(siren, None, {}, pairs.context).posterior.probed()[0].mean(-1)
        variance = variance[i] if surfaces else (variance * pairs.weight).mean()
        variance = variance * pairs.weight[i] if surfaces else variance
        total += pairs.weight[i] * left.square().sum() / (variance + FLOOR)
    expected = total / (4 * channels * SIZE[0] * SIZE[1])
    torch.testing.assert_close(loss, expected, rtol=5e-3, atol=0)
    gradients = torch.autograd.grad(expected, list(correction.parameters()))
    for one, other in zip(torch.autograd.grad(loss, list(correction.parameters())), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=3e-2, atol=5e-3 * other.abs().max().item())


def test_a_share_of_a_batch_is_a_share_of_its_loss():
    siren, solve = made()
    bank = Bank(siren, solve, SIZE, fewest=5, count=6)
    batch = BankBatch(smooth(8).flatten(1, 2), torch.tensor([0, 0, 1, 1, 2, 2, 5, 5]))
    parts = [bank.loss(solve.correction, batch.share(i, 2)) for i in range(2)]
    torch.testing.assert_close(torch.stack(parts).mean(), bank.loss(solve.correction, batch))


def test_dropout_is_drawn_from_the_seed_of_the_batch():
    siren, solve = made()
    solve.train()
    bank = Bank(siren, solve, SIZE, fewest=5, count=6)
    y, masks = smooth(8).flatten(1, 2), torch.tensor([0, 0, 1, 1, 2, 2, 5, 5])
    losses = [bank.loss(solve.correction, BankBatch(y, masks, seed)).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_masks_know_sides_from_all_four_directions():
    generator = torch.Generator().manual_seed(0)
    masks = [draw_mask((8, 8), 3, 20, 1.0, generator) for _ in range(400)]
    kinds = {(bool(m[0].all()), bool(m[-1].all()), bool(m[:, 0].all()), bool(m[:, -1].all())) for m in masks}
    for one in range(4):
        assert tuple(i == one for i in range(4)) in kinds
    halves = [m for m in masks if m.sum() == 32]
    assert any(m[:4].all() for m in halves)
    assert any(m[:, 4:].all() for m in halves)
    assert all(0 < m.sum() < 64 for m in masks)
    random = [draw_mask((8, 8), 3, 20, 0.0, generator) for _ in range(100)]
    assert {3, 20} <= {int(m.sum()) for m in random} <= set(range(3, 21))


@pytest.mark.parametrize("size", [(1,), (2,), (9,), (1, 5), (4, 5, 6)])
def test_masks_of_any_raster(size):
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        mask = draw_mask(size, 1, 3, 0.8, generator)
        assert mask.shape == size
        assert mask.any()


def test_the_metric_finds_what_the_output_depends_on():
    generator = torch.Generator().manual_seed(0)

    def draw(count):
        x = torch.randn(count, 10, generator=generator)
        return x, torch.stack([x[:, 0] * x[:, 3], x[:, 3].sin()], 1), torch.ones(count)

    metric = learn_metric(draw, torch.eye(10), centres=256, pairs=4096, rounds=2)
    size = metric.norm(dim=1)
    assert min(size[0], size[3]) > 2 * size[[1, 2, 4, 5, 6, 7, 8, 9]].max()


def known_in_part(count):
    """Images, the fifth of them that is known, and that as a context."""
    images = smooth(count, seed=4)
    mask = torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(2)) < 0.2
    return images, mask, Context.from_images(images, mask).compact()


@torch.no_grad()
def test_calibration_takes_no_amplitude_that_loses():
    """Random weights know nothing of the truth: the amplitude is 0, and predictions are the prior's."""
    siren, solve = made(trained=False)
    images, mask, context = known_in_part(30)
    case = context, grid(SIZE), images.flatten(1, 2), ~mask.flatten(1)
    torch.nn.init.normal_(solve.correction.last.weight, std=0.05)
    found = []
    for _ in range(2):
        solve.calibrate(lambda context: solve(siren, None, {}, context), [case])
        found.append(solve.correction.amplitudes[0].item())
        solve.correction.last.weight.neg_()
    assert min(found) == 0
    assert max(found) <= 1.2
    solve.correction.set_amplitudes([(0.5, 0.0)])
    with solve.without_correction():
        before = solve(siren, None, {}, context).field(grid(SIZE))
    assert torch.equal(solve(siren, None, {}, context).field(grid(SIZE)), before)


def gained(error, own, source):
    """What each source gains at the best amplitude, one signal after the other."""
    best = min(1.2, max(0.0, (sum(error) / sum(own))))
    each = {}
    for e, o, s in zip(error, own, source, strict=True):
        each[s] = each.get(s, 0.0) + 2 * best * e - best**2 * o
    return best, list(each.values())


def test_signals_of_one_source_are_one_piece_of_evidence():
    generator = torch.Generator().manual_seed(0)
    told = set()
    for sources in (2, 3, 10, 40):
        for _ in range(20):
            source = torch.randint(sources, (40,), generator=generator) * 7 + 3
            shared = torch.randn(sources * 7 + 3, generator=generator)[source]
            error = shared + 0.2 * torch.randn(40, generator=generator) + 0.2
            own = torch.rand(40, generator=generator) + 0.1
            best, gains = gained(error.tolist(), own.tolist(), source.tolist())
            means = sum(gains) / len(gains)
            spread = (sum((g - means) ** 2 for g in gains) / (len(gains) - 1) * len(gains)) ** 0.5
            expected = best if sum(gains) > spread else 0.0
            assert best_amplitude(error, own, source) == pytest.approx(expected, rel=1e-4)
            told.add((expected > 0, best_amplitude(error, own) > 0))
    assert (False, True) in told  # taken for chance where the same signals by themselves would not be
    assert (True, True) in told
    error, own = torch.tensor([0.5, 0.6, 0.4]), torch.ones(3)
    assert best_amplitude(error, own, torch.arange(3)) == best_amplitude(error, own) == pytest.approx(0.5)
    assert best_amplitude(error, own, torch.zeros(3, dtype=torch.long)) == 0  # of one source nothing is known
    assert best_amplitude(error[:1], own[:1]) == 0


@torch.no_grad()
def test_calibration_asks_where_signals_are_from():
    """Half of the signals gain, half lose less: that is chance of two sources, and none of 40."""
    siren, solve = made(trained=False)
    _, mask, context = known_in_part(40)
    torch.nn.init.normal_(solve.correction.last.weight, std=0.05)
    with solve.without_correction():
        before = solve(siren, None, {}, context).field(grid(SIZE))
    with solve.correction.held(1.0):
        change = solve(siren, None, {}, context).field(grid(SIZE)) - before
    side = torch.where(torch.arange(40) < 20, 1.0, -0.2).view(-1, 1, 1)
    y, unknown = before + side * change, ~mask.flatten(1)
    found = []
    for source in (None, torch.arange(40), torch.arange(40) // 20):
        case = replace(context, source=source), grid(SIZE), y, unknown
        solve.calibrate(lambda context: solve(siren, None, {}, context), [case])
        found.append(solve.correction.amplitudes[0].item())
    assert found[0] == found[1] > 0.2
    assert found[2] == 0


def test_without_any_amplitude_it_is_not_computed(monkeypatch):
    siren, solve = made(MixtureSolve, priors=3)
    context = Context.from_images(smooth(2), torch.ones(2, *SIZE, dtype=torch.bool))
    solve.correction.set_amplitudes([(0.1, 0.0), (0.5, 0.0)])
    monkeypatch.setattr(Correction, "change", None)
    solve(siren, None, {}, context)
    for trained, held in ((True, None), (False, 1.0)):
        solve.train(trained)
        solve.correction.fixed = held
        with pytest.raises(TypeError):
            solve(siren, None, {}, context)


def test_amplitudes_between_kinds_of_context():
    correction = Correction(8, 1, axes=4, inputs=2, width=4).eval()
    assert correction.amplitude(torch.tensor([0.5])).tolist() == [1.0]
    correction.set_amplitudes([(0.1, 1.0), (0.001, 0.0), (0.5, 0.4)])
    found = correction.amplitude(torch.tensor([1e-6, 0.001, 0.01, 0.1, 0.5, 1.0])).tolist()
    assert found == pytest.approx([0.0, 0.0, 0.5, 1.0, 0.4, 0.4], abs=1e-5)
    correction.set_amplitudes([(2.0 ** (-i / 4), i / 40) for i in range(40)])
    assert correction.amplitude(torch.tensor([1.0, 2.0**-5])).tolist() == pytest.approx([0.0, 0.5], abs=0.05)
    assert best_amplitude(torch.tensor([9.0, 9.1]), torch.ones(2)) == 1.2
    assert best_amplitude(torch.tensor([0.0]), torch.zeros(1)) == 0


def test_other_fields_and_predicted_hidden_layers_are_refused():
    siren, solve = made()
    context = Context.from_images(smooth(2), torch.ones(2, *SIZE, dtype=torch.bool))
    name = next(iter(siren.shapes))
    hidden = {name: torch.zeros(2, *siren.shapes[name])}
    with pytest.raises(ValueError, match=r"expected no predicted hidden layers beside a correction, got layers\.0"):
        solve(siren, None, hidden, context)
    with pytest.raises(ValueError, match="expected no trained covariances beside a correction"):
        MixtureSolve(8, covariance=True, correction=Correction(8, 1))
