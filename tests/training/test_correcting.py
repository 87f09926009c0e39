"""The training of a correction in the loop: through a bank, through predictions, resumed, judged beside the prior."""

import math

import pytest
import torch

from hypersiren import Completion, HyperSiren, LastLayerSolve, MixtureSolve, Siren, SoundCompletion, train
from hypersiren.completion.correcting import CorrectionTraining, Judge
from hypersiren.completion.images.settings import CompletionSettings, ContextSampling
from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.train import make_objective, optimisation_of
from hypersiren.hypernets.adapters.bank import BankBatch
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.adapters.pairs import PairBank
from hypersiren.hypernets.encoders import precision
from hypersiren.settings.flags import load_settings
from hypersiren.settings.section import ConfigError
from hypersiren.training import checkpoints
from hypersiren.training.folders import tell_differences
from hypersiren.training.loop import optimise


def edges(count, size=8, seed=0):
    """Images that no Gaussian describes: an edge at a random place, bright on a random side."""
    generator = torch.Generator().manual_seed(seed)
    place, side = torch.rand(count, 1, 1, generator=generator), torch.rand(count, 1, 1, generator=generator) < 0.5
    x = torch.linspace(0, 1, size).view(1, 1, -1)
    edge = torch.sigmoid((x - place) * 12).expand(-1, size, -1)
    return (255 * torch.where(side, edge, 1 - edge)).to(torch.uint8)


def task(batch_size=32):
    context = ContextSampling(fewest=3, most=30, alike=True)
    return Completion(edges(120), edges(40, seed=1), context, batch_size=batch_size)


def model(data, adapter=LastLayerSolve, adapting=None, **arguments):
    torch.manual_seed(0)
    siren = Siren(2, 1, hidden_features=(32, 64))
    sizes = {"axes": 32, "inputs": 16, "width": 64, "masks": 60, "rounds": 1, **arguments}
    made = HyperSiren(None, None, siren, adapter(64, correction=Correction(64, 1, **sizes), **(adapting or {})))
    made.set_prior(data.prior_signals(copies=0, finer=1))
    return made


def test_a_correction_learns_what_no_gaussian_knows():
    data = task()
    made = model(data, dropout=0.1)
    prior = {name: value.clone() for name, value in made.state_dict().items()}
    done = train(made, data, steps=150, validate_every=50, progress=False)
    assert done.metrics["change"] < -0.03
    assert done.metrics["change_10"] < -0.03
    changes = [row["validation/change"] for row in done.history if "validation/change" in row]
    assert changes[0] == pytest.approx(0, abs=1e-4)
    assert changes[-1] < 0
    changed = {name for name, value in done.model.state_dict().items() if not torch.equal(value, prior[name])}
    trained = ("first", "middle", "beside", "last", "metric", "knots", "amplitudes")
    others = {n for n in changed if not n.startswith(tuple(f"adapter.correction.{part}" for part in trained))}
    assert others <= {"adapter.spread"}
    assert Judge(data)(done.model)["change"] == pytest.approx(done.metrics["change"], abs=1e-5)


class Outside(SoundCompletion):
    """A task that no bank can be made of."""

    pairs = None


def tones(kind=SoundCompletion):
    return kind(torch.sin(torch.linspace(0, 500, 3000)).view(-1, 60).numpy(), batch_size=8)


def sound_model(data, adapter=MixtureSolve, **arguments):
    torch.manual_seed(0)
    siren = Siren(1, 1, hidden_features=(16, 48))
    sizes = {"axes": 16, "inputs": 8, "width": 32, "masks": 20, "rounds": 0, **arguments}
    made = HyperSiren(None, None, siren, adapter(48, correction=Correction(48, 1, 1, **sizes)))
    made.set_prior(data.prior_signals())
    return made


def test_where_there_is_no_bank_it_is_trained_through_predictions():
    sounds = tones(Outside)
    made = sound_model(sounds)
    assert not CorrectionTraining.fits(made, sounds)
    done = train(made, sounds, steps=4, validate_every=4, progress=False)
    assert math.isfinite(done.metrics["change"])
    assert done.metrics["change"] <= 1e-6  # the best so far is kept, and the prior is the first


@pytest.mark.parametrize("adapter", [LastLayerSolve, MixtureSolve])
def test_sounds_are_trained_on_a_bank_of_pairs(adapter):
    sounds = tones()
    made = sound_model(sounds, adapter, rounds=1, dropout=0.1)
    assert isinstance(CorrectionTraining(made, sounds).bank, PairBank)
    done = train(made, sounds, steps=40, validate_every=40, warmup=2, progress=False)
    assert done.metrics["change"] <= 1e-6
    assert not torch.equal(made.adapter.correction.last.weight, torch.zeros_like(made.adapter.correction.last.weight))


def test_images_under_a_mixture_are_trained_on_a_bank_of_pairs():
    data = task()
    made = model(data, MixtureSolve, {"priors": 2}, masks=12, rounds=0, dropout=0.0)
    objective = HypernetObjective(made, data)
    assert isinstance(objective.banked.bank, PairBank)
    batch = objective.sample(torch.Generator().manual_seed(0), 0.0)
    losses, optimiser = [], torch.optim.Adam(made.adapter.correction.parameters(), lr=1e-3)
    for _ in range(20):
        losses.append(objective(batch)["mse"])
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.99 * losses[0]


def test_without_bfloat16_the_correction_is_trained_in_float32(monkeypatch):
    data = task(16)
    made = model(data, dropout=0.0)
    torch.nn.init.normal_(made.adapter.correction.last.weight, std=0.05)
    losses = {}
    for has in (True, False):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, has=has: has)
        for wanted in (True, False):
            objective = HypernetObjective(made, data, autocast=wanted)
            batch = objective.sample(torch.Generator().manual_seed(0), 0.0)
            losses[has, wanted] = objective(batch)["mse"].item()
    assert losses[False, True] == losses[False, False] == losses[True, False]
    assert losses[True, True] != losses[True, False]
    assert losses[True, True] == pytest.approx(losses[True, False], rel=0.02)


def test_a_run_cut_in_two_equals_a_straight_one(tmp_path):
    def run(folder, steps):
        data = task(16)
        objective = HypernetObjective(model(data), data, autocast=True)
        assert isinstance(objective.sample(torch.Generator(), 0.0), BankBatch)
        changes = {"warmup": 2, "decay": "constant", "validate_every": 30, "batch_size": 16}
        training = CompletionSettings().training.replace(steps=steps, **changes)
        record = {"settings": {}, "model": objective.model.description}
        return optimise(objective, tmp_path / folder, record, training)

    assert run("straight", 12)
    assert run("cut", 6)
    assert run("cut", 12)
    one, other = (checkpoints.read(tmp_path / folder / "last.pt") for folder in ("straight", "cut"))
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
    again = checkpoints.restore(one)
    assert again.adapter.correction.masks == 60


def test_the_prior_alone_is_one_flag_and_takes_no_step(tmp_path):
    words = ["--correction.kind", "none", "--siren.hidden_features", "[8, 16]", "--data.gray", "true"]
    settings = load_settings(CompletionSettings, None, words)
    objective = make_objective(task(), settings)
    training = optimisation_of(objective, settings.training)
    assert training.steps == 0
    before = objective.model.adapter.factor.clone()
    record = {"settings": settings.model_dump(mode="json"), "model": objective.model.description}
    assert optimise(objective, tmp_path / "run", record, training)
    assert not torch.equal(objective.model.adapter.factor, before)
    assert not (tmp_path / "run" / "prior.pt").exists()
    assert "change" not in checkpoints.read(tmp_path / "run" / "last.pt")["metrics"]


REFUSED = {
    "--adapter.learned true --correction.width 8": (
        "expected adapter.learned (and covariance) false beside a correction, got true"
    ),
    "--correction.width 8 --encoder.kind set": "expected encoder.kind none with a correction, got set",
    "--correction.width 8 --adapter.kind gradient": (
        "expected adapter.kind solve or mixture with a correction, got gradient"
    ),
    "--adapter.kind gradient --prior.ridge 1": "expected adapter.kind solve or mixture with prior.ridge, got gradient",
    "--adapter.kind none --encoder.kind set --loss.likelihood 1": (
        "expected adapter.kind solve or mixture with loss.likelihood, got none"
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_settings_that_do_not_fit_are_refused_in_one_line(words):
    with pytest.raises(ConfigError) as caught:
        load_settings(CompletionSettings, None, words.split())
    assert str(caught.value) == REFUSED[words]


def test_an_encoder_and_a_trained_prior_go_without_the_default_correction():
    assert CompletionSettings().corrects
    for words in (["--encoder.kind", "set"], ["--adapter.learned", "true"], ["--adapter.kind", "mixture"]):
        assert not load_settings(CompletionSettings, None, words).corrects


def test_an_old_run_without_a_correction_is_another():
    here = CompletionSettings().model_dump(mode="json")
    there = {name: value for name, value in here.items() if name != "correction"}
    assert tell_differences(there, here) == "with other settings (correction.kind: none there, network here)"
    assert tell_differences(there, {**here, "correction": {"kind": "none"}}) == ""
