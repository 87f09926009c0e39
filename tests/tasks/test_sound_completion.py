"""The task of a set of sounds: contexts, scales, losses, and training from Python."""

import numpy as np
import pytest
import torch

from hypersiren import HyperSiren, MixtureSolve, Siren, SoundCompletion, train
from hypersiren.completion.base import SetTask
from hypersiren.completion.sounds.cases import CONTEXTS, context_masks, relative_mse, rms
from hypersiren.completion.sounds.settings import SoundContext
from hypersiren.fields.coords import grid
from hypersiren.signals.sets.sounds import as_sounds
from hypersiren.tasks.panels import ImagePanel, SoundPanel
from hypersiren.tasks.task import Task, check_task


def tones(m=40, n=64, seed=0):
    """Low and high tones of any loudness."""
    generator = np.random.default_rng(seed)
    omega = np.where(np.arange(m) % 2, 0.3, 1.2)[:, None]
    loudness = 10.0 ** generator.uniform(-3, 0, (m, 1))
    return (loudness * np.sin(omega * np.arange(n) + generator.uniform(0, 6.3, (m, 1)))).astype(np.float32)


def model(**more):
    torch.manual_seed(0)
    siren = Siren(1, 1, hidden_features=(32, 96), first_omega=60.0)
    return HyperSiren(None, None, siren, MixtureSolve(96, priors=2, rank=24, **more))


@pytest.fixture(scope="module")
def task():
    return SoundCompletion(tones(), tones(12, seed=1), SoundContext(gaps=0.5), batch_size=6)


def test_it_is_a_task(task):
    assert isinstance(task, Task)
    check_task(task, SetTask)
    assert task.describe() == {"in_features": 1, "channels": 1, "out_features": 1}


def test_batches_are_windows_over_their_known_loudness(task):
    counts, gaps = set(), 0
    for seed in range(30):
        batch = task.sample(torch.Generator().manual_seed(seed))
        context = batch.context
        assert context.mask.all()
        known = context.mask.sum(1)
        assert len(known.unique()) == 1
        counts.add(int(known[0]))
        torch.testing.assert_close(context.y.square().mean(1), torch.ones(6, 1))
        torch.testing.assert_close(batch.y.squeeze(-1).gather(1, context.cells), context.y.squeeze(-1))
        torch.testing.assert_close(context.x, grid((64,))[context.cells])
        unknown = torch.ones(6, 64).scatter(1, context.cells, 0)
        if known[0] == 56:
            gaps += 1
            for row in unknown.nonzero()[:, 1].view(6, 8):
                assert row[-1] - row[0] == 7  # one run
        else:
            assert 6 <= known[0] <= 32
    assert 5 < gaps < 25
    assert len(counts) > 8


def test_the_same_seed_gives_the_same_batch(task):
    a, b, c = (task.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(a.context.y, b.context.y)
    assert torch.equal(a.y, b.y)
    assert not torch.equal(a.y, c.y)


def test_samples_beyond_the_end_are_never_known_nor_judged():
    sounds = as_sounds([np.ones(64), np.ones(20)])
    task = SoundCompletion(sounds, sounds, SoundContext(fewest=0.5, most=0.5, gaps=0), batch_size=40, target_points=9)
    batch = task.sample(torch.Generator().manual_seed(0))
    assert batch.x.shape == (40, 9, 1)
    short = (~batch.inside).any(1)
    assert short.any()
    assert (batch.context.cells[short][batch.context.mask[short]] < 20).all()
    wrong = torch.where(batch.inside.unsqueeze(-1), batch.y, 1e6)
    assert task.loss(lambda x: wrong, batch)["mse"] == 0
    for name, mask in context_masks(sounds, CONTEXTS).items():
        assert not mask[1, 20:].any(), name
        assert mask.any(1).all(), name
    assert [int(m[1].sum()) for m in context_masks(sounds, ("25%", "gap", "all"), gap=0.25).values()] == [5, 4, 20]
    with pytest.raises(ValueError, match='expected "all", "gap" or a share such as "25%", got "most"'):
        context_masks(sounds, ["most"])


def test_the_loss_is_the_error_relative_to_the_power(task):
    batch = task.sample(torch.Generator().manual_seed(0))
    assert task.loss(lambda x: torch.zeros_like(batch.y), batch)["mse"].item() == pytest.approx(1)
    assert task.loss(lambda x: 0.9 * batch.y, batch)["mse"].item() == pytest.approx(0.01, rel=1e-4)


def test_completion_does_not_depend_on_loudness(task):
    made = model().requires_grad_(False)
    made.set_prior(task.prior_signals())
    sounds = task.validation
    mask = context_masks(sounds, ["25%"])["25%"]
    found = task.complete(made.field, sounds, mask)
    louder = as_sounds(8 * sounds.waves)
    torch.testing.assert_close(task.complete(made.field, louder, mask) / 8, found, rtol=1e-3, atol=1e-5)
    few = SoundCompletion(sounds, sounds)
    few.points = 70
    torch.testing.assert_close(few.complete(made.field, sounds, mask), found, rtol=1e-3, atol=1e-5)
    assert relative_mse(found.squeeze(-1), sounds.waves, sounds.inside).mean() < 0.1
    nothing = torch.zeros_like(mask)
    assert (task.complete(made.field, sounds, nothing) == 0).all()
    case = task.case(sounds, mask)
    context = case.context
    torch.testing.assert_close(context.y.squeeze(-1).mul(context.mask).square().sum(1), mask.sum(1).float())
    torch.testing.assert_close(case.scale.squeeze(-1), rms(sounds.waves, mask))


def test_windows_whose_known_samples_are_silent_calibrate_nothing(task):
    waves = tones(4)
    waves[2, :56] = 0
    sounds = as_sounds(waves)
    quiet = SoundCompletion(sounds, sounds, SoundContext(gap=0.125))
    mask = torch.arange(64).expand(4, -1) < 56
    assert quiet.case(sounds, mask).scale.flatten().tolist()[2] == 0
    quiet.mask = lambda signals, name, seed=0: mask
    for _, _, y, unknown in quiet.held_out():
        assert y.isfinite().all()
        assert unknown.sum(1).tolist() == [8, 8, 0, 8]


def test_windows_say_which_recording_they_are_of(task):
    sounds = as_sounds(list(tones(5, n=150)), window=64)
    cases = list(SoundCompletion(sounds, sounds).held_out())
    assert len(cases) == 4
    for context, *_ in cases:
        assert context.source.tolist() == sounds.recording.tolist()
        assert context.signals(slice(2, 4)).source.tolist() == sounds.recording[2:4].tolist()
    assert sounds.recording.bincount().tolist() == [3] * 5


def test_the_prior_is_from_whole_windows_of_one_loudness():
    task = SoundCompletion(as_sounds([*tones(20), tones(1)[0][:30]]), tones(4))
    (signals,) = task.prior_signals()
    assert len(signals) == 20
    torch.testing.assert_close(signals.square().mean((1, 2)), torch.ones(20))
    plain, turned = task.prior_signals(copies=1, finer=2)
    assert plain.shape == (20, 128, 1)
    torch.testing.assert_close(turned, plain.flip(1), atol=1e-5, rtol=1e-5)


def test_panels_are_seen_and_heard(task):
    panels = task.panels(lambda context: lambda x: torch.zeros(len(context.x), len(x), 1))
    assert isinstance(panels["25"], ImagePanel)
    assert isinstance(panels["gap_completion"], SoundPanel)
    heard = panels["truth"].wave
    assert heard.abs().max().item() == pytest.approx(0.9)
    assert panels["gap_completion"].wave.abs().max() == 0
    assert (panels["25_context"].wave != 0).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_five_lines_from_python_beat_the_start(tmp_path):
    task = SoundCompletion(tones(60), tones(20, seed=3), batch_size=8)
    made = model(noise=0.3)  # too much of it, for training to mend
    made.set_prior(task.prior_signals())
    before = task.evaluate(made.field)
    trained = train(made, task, steps=30, lr=0.1, warmup=0, validate_every=15, ema=0.0, run_dir=tmp_path)
    assert trained.finished
    assert trained.metrics["mse"] < 0.9 * before["mse"]
    assert set(trained.metrics) == {"mse", *(f"mse_{name.replace('%', '')}" for name in CONTEXTS)}


def test_digests_know_the_content():
    one, other = (SoundCompletion(tones(seed=s), tones(4)) for s in (0, 1))
    assert one.digest() == SoundCompletion(tones(), tones(4)).digest() != other.digest()


def test_windows_must_fit():
    with pytest.raises(ValueError, match="expected validation windows of 64 samples"):
        SoundCompletion(tones(), as_sounds(tones(4, n=32)))
    with pytest.raises(ValueError, match=r"fewest \(0.6\) must not exceed most \(0.5\)"):
        SoundContext(fewest=0.6)
