"""The loop: what it learns, saves, resumes, refuses."""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hypersiren.completion.images.settings import ContextSampling
from hypersiren.completion.images.task import Completion
from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.train import draw_run
from hypersiren.errors import UserError
from hypersiren.hypernets.model import build
from hypersiren.signals.sets.images import load_images
from hypersiren.tasks.settings import Optimisation
from hypersiren.tasks.summary import draw_summary
from hypersiren.training import checkpoints, loop
from hypersiren.training.checkpoints import CheckpointError
from hypersiren.training.loop import optimise
from hypersiren.training.muon import Muon
from hypersiren.training.optimizers import THIN, learning_rate, make_optimizers
from hypersiren.training.run import TrainingError
from hypersiren.training.seeds import step_seed

MODEL = {
    "siren": {"hidden_features": 16, "hidden_layers": 1, "first_omega": 10.0, "hidden_omega": 10.0},
    "encoder": {"kind": "set", "latent_features": 32, "hidden_features": 32},
    "hypernet": {"kind": "full", "hidden_features": 32},
    "channels": 1,
}
CONTEXT = ContextSampling(fewest=5, most=60, sampling="uniform", blocks=0)
SHORT = Optimisation(optimizer="adam", decay="constant", lr=1e-3, warmup=5, validate_every=10, log_every=5, ema=0.9)
RECORD = {"settings": {"training": {"lr": 1e-3}}, "model": MODEL}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return [load_images("faces", split, size=8, gray=True, cache_dir=cache) for split in ("train", "val")]


def objective(faces, **arguments) -> HypernetObjective:
    torch.manual_seed(0)
    task = Completion(*faces, CONTEXT, batch_size=8, augmentation={"flip": True, "shift": 1})
    return HypernetObjective(build(**MODEL), task, **arguments)


def run(faces, folder, steps, **arguments):
    return optimise(objective(faces), folder, RECORD, SHORT.replace(steps=steps, **arguments))


def last(folder) -> dict:
    return checkpoints.read(folder / "last.pt")


def assert_same(a, b):
    """Bit for bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key != "seconds":
                assert_same(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.slow
def test_the_best_checkpoint_completes_unseen_people_better_than_the_mean_face(faces, tmp_path):
    torch.manual_seed(0)
    model = {
        "siren": {"hidden_features": 64, "hidden_layers": 1, "first_omega": 10.0, "hidden_omega": 8.0},
        "encoder": {"kind": "conv", "widths": [16], "basis": 16, "pool": 2, "latent_features": 32},
        "hypernet": {"kind": "full", "layers": 1, "hidden_layers": 0},
        "channels": 1,
    }
    task = Completion(*faces, CONTEXT, batch_size=16, augmentation={"flip": True})
    training = Optimisation(steps=400, lr=2e-3, ema=0.9, validate_every=100)
    assert optimise(HypernetObjective(build(**model), task), tmp_path, {"settings": {}, "model": model}, training)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["step"] == 400
    found = task.evaluate(checkpoints.load(tmp_path).field)
    assert found["mse"] == pytest.approx(metrics["best_validation_mse"], rel=1e-4)
    mean_face = (faces[0].pixels.float() / 255).mean(0)
    assert found["mse_10"] < 0.9 * (faces[1].pixels.float() / 255 - mean_face).square().mean().item()
    assert found["mse_full"] < 0.5 * found["mse_10"]


@pytest.mark.painted
def test_tensorboard_holds_what_a_person_wants_to_see(faces, tmp_path):
    run(faces, tmp_path, 20)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    wanted = {"loss/total", "loss/mse", "learning_rate", "images_per_second", "gradient_norm", "validation/mse_10"}
    assert wanted <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("loss/total")] == [5, 10, 15, 20]
    assert {"completion/10", "completion/half", "completion/full"} == set(events.Tags()["images"])
    picture = events.Images("completion/10")[-1]
    assert picture.width > 3 * 128  # 8 pixels, sixteenfold, and titles above the columns
    assert picture.height > 8 * 128


@pytest.mark.painted
def test_a_run_of_a_hypernetwork_has_a_summary_and_a_history(faces, tmp_path):
    run(faces, tmp_path, 10)
    run(faces, tmp_path, 20)
    history = last(tmp_path)["history"]
    assert [row["step"] for row in history] == [5, 10, 15, 20]
    assert json.loads((tmp_path / "history.json").read_text()) == history
    assert Image.open(draw_run(objective(faces), tmp_path)).width == 1200
    names = ["Gaussian", "biharmonic", "linear", "mean colour", "nearest pixel"]
    assert sorted(path.name for path in (tmp_path / "baselines").iterdir()) == names
    events = EventAccumulator(str(tmp_path / "baselines" / "mean colour")).Reload().Scalars("validation/mse")
    assert [e.step for e in events] == [10, 20]
    assert events[0].value == events[1].value > 0
    task, model = objective(faces).task, checkpoints.load(tmp_path)
    figure = draw_summary(task, model.field, {"mse": 0.25}, history)
    assert " ".join(figure.get_suptitle().split()).startswith(
        "completion: mean squared error on [0, 1], mean over contexts 0.25 (lower is better)"
    )
    titles = [axes.get_title() for part in figure.subfigs for axes in part.axes]
    pictures = ["From 10 pixels", "From the upper half", "From all pixels"]
    assert titles == [*pictures, "Loss", "Mean squared error on [0, 1], mean over contexts"]


@pytest.mark.slow
def test_a_run_cut_in_two_equals_a_straight_one(faces, tmp_path):
    run(faces, tmp_path / "straight", 40)
    assert run(faces, tmp_path / "cut", 40, validate_every=20)
    run(faces, tmp_path / "two", 40, decay="constant")
    (tmp_path / "three").mkdir()
    interrupted = InterruptAfter(23)
    task = interrupted.wrap(objective(faces))
    assert not optimise(task, tmp_path / "three", RECORD, SHORT.replace(steps=40))
    assert last(tmp_path / "three")["step"] == 23
    assert run(faces, tmp_path / "three", 40)
    straight, three = last(tmp_path / "straight"), last(tmp_path / "three")
    for key in ("model", "ema", "optimizers", "step"):
        assert_same(straight[key], three[key])


class InterruptAfter:
    """Presses Ctrl-C in so-manieth step."""

    def __init__(self, steps: int):
        self.left = steps

    def wrap(self, objective: HypernetObjective) -> HypernetObjective:
        sample = objective.task.sample

        def counting(generator, *rest):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
            return sample(generator, *rest)

        objective.task.sample = counting
        return objective


@pytest.mark.slow
def test_120_steps_straight_equal_60_kill_9_and_resume(tmp_path):
    """Through the command line, as a person would; killed in the middle of whatever it does."""

    def command(folder, steps=120):
        tiny = ["--data.size", "8", "--siren.hidden_features", "16", "--siren.hidden_layers", "1",
                "--encoder.kind", "set", "--encoder.hidden_features", "32", "--encoder.latent_features", "32",
                "--hypernet.hidden_features", "32", "--training.batch_size", "8", "--training.log_every", "10",
                "--training.validate_every", "20", "--device", "cpu"]  # fmt: skip
        words = [sys.executable, "-m", "hypersiren", "train", "--out", str(folder), *tiny]
        return subprocess.Popen([*words, "--training.steps", str(steps)], stdout=subprocess.DEVNULL)

    straight, cut = tmp_path / "straight", tmp_path / "cut"
    first, second = command(straight), command(cut)
    deadline = time.monotonic() + 600
    while not (cut / "last.pt").exists() or last(cut)["step"] < 60:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second.kill()
    second.wait()
    killed_at = last(cut)["step"]
    assert killed_at >= 60
    assert command(cut).wait() == 0
    assert first.wait() == 0
    a, b = last(straight), last(cut)
    assert a["step"] == 120
    assert_same(a, b)
    assert (cut / "completion" / "table.txt").exists()


def test_looks_between_validations_change_nothing_that_is_saved(faces, tmp_path, monkeypatch, capsys):
    looks = []
    look = loop._look
    monkeypatch.setattr(loop, "_look", lambda *words: looks.append(look(*words)) or looks[-1])
    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "LOOK_SHARE", math.inf)
    run(faces, tmp_path / "a", 13)
    assert not looks
    optimise(objective(faces), tmp_path / "b", RECORD, SHORT.replace(steps=13), progress=True)
    assert len(looks) == 10  # all steps but 5, 10 and 13, where something is logged
    assert f"mse {looks[-1]['mse']:.3g}" in capsys.readouterr().err
    for name in ("last.pt", "best.pt"):
        assert_same(*(checkpoints.read(tmp_path / folder / name) for folder in "ab"))


def test_a_finished_run_is_left_alone(faces, tmp_path):
    run(faces, tmp_path, 10)
    before = (tmp_path / "last.pt").read_bytes()
    assert run(faces, tmp_path, 10)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(faces, tmp_path):
    poisoned = objective(faces)
    loss, calls = poisoned.task.loss, []

    def poison(field, batch):
        calls.append(1)
        return {name: term * (float("nan") if len(calls) == 18 else 1) for name, term in loss(field, batch).items()}

    poisoned.task.loss = poison
    with pytest.raises(
        TrainingError, match=r"loss/total is nan in step 18; the last good checkpoint is kept"
    ) as caught:
        optimise(poisoned, tmp_path, RECORD, SHORT.replace(steps=40, warmup=0))
    assert "\n" not in str(caught.value)
    content = last(tmp_path)
    assert content["step"] == 10
    assert all(p.isfinite().all() for p in content["model"].values())


def test_other_settings_in_the_same_folder_are_refused(faces, tmp_path):
    run(faces, tmp_path, 10)
    other = {**RECORD, "settings": {"training": {"lr": 2e-3}}}
    with pytest.raises(TrainingError, match=r"training.lr: 0.001 there, 0.002 here"):
        optimise(objective(faces), tmp_path, other, SHORT.replace(steps=20, lr=2e-3))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("file write failed")])
def test_a_full_disk_is_one_clear_error_and_loses_nothing(faces, tmp_path, monkeypatch, error):
    run(faces, tmp_path, 10)
    before = (tmp_path / "last.pt").read_bytes()

    def full(content, file):
        file.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"the disk is full.*untouched"):
        run(faces, tmp_path, 20)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_muon_takes_the_matrices_and_adam_the_rest(faces, tmp_path):
    parameters = [p for p in objective(faces).model.parameters() if p.requires_grad]
    muon, adam = make_optimizers(parameters, "muon", 1e-3, 0.0)
    assert isinstance(muon, Muon)
    assert {p.ndim for g in muon.param_groups for p in g["params"]} == {2}
    assert min(min(p.shape) for g in muon.param_groups for p in g["params"]) >= THIN
    assert all(p.ndim == 1 or min(p.shape) < THIN for g in adam.param_groups for p in g["params"])
    assert run(faces, tmp_path / "straight", 20, optimizer="muon")
    run(faces, tmp_path / "cut", 10, optimizer="muon")
    run(faces, tmp_path / "cut", 20, optimizer="muon")
    assert_same(last(tmp_path / "straight")["model"], last(tmp_path / "cut")["model"])


@pytest.mark.slow
def test_peak_memory_of_the_papers_set_encoder_model_at_batch_100():
    """Training steps of the paper's model in a process of its own stay under 6 GB."""
    script = Path(__file__).with_name("paper_memory.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) < 6


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise")
@pytest.mark.slow
def test_a_set_on_disk_is_not_held_in_memory():
    script = Path(__file__).with_name("large_set.py")
    done = subprocess.run([sys.executable, str(script), "20000"], capture_output=True, text=True, check=True)
    pixels, growth = map(float, done.stdout.split())
    assert growth < 0.4 * pixels


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_steps():
    """50 steps grew by 0.45 GB and more before freed memory was returned; one step needs 0.1 GB."""
    script = Path(__file__).with_name("long_training.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 250


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such run folder"):
        checkpoints.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoints.load(tmp_path)
    (tmp_path / "best.pt").write_bytes(b"not a zip")
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoints.load(tmp_path)
    torch.save({"a": 1}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="expected a checkpoint of hypersiren"):
        checkpoints.load(tmp_path)


def test_parts_of_a_batch_make_the_step_of_the_whole(faces, tmp_path):
    for parts in (1, 2):
        run(faces, tmp_path / str(parts), 3, parts=parts, accumulate=2)
    whole, pieces = (last(tmp_path / str(parts)) for parts in (1, 2))
    for name, value in whole["model"].items():
        torch.testing.assert_close(pieces["model"][name], value, rtol=1e-4, atol=1e-5)
    assert pieces["history"][-1]["loss/total"] == pytest.approx(whole["history"][-1]["loss/total"], rel=1e-4)
    with pytest.raises(UserError, match=r"have no 3 equal parts: expected a multiple of 3 \(training.batch_size\)"):
        run(faces, tmp_path / "3", 1, parts=3)


def test_accumulated_batches_make_one_step_of_their_mean_gradient(faces, tmp_path):
    """Against the same gradient computed by hand."""
    made = objective(faces)
    generator, grads = torch.Generator(), []
    for part in range(3):
        made.zero_grad()
        made(made.task.sample(generator.manual_seed(step_seed(0, 0, part))))["mse"].backward()
        grads.append([p.grad for p in made.model.parameters() if p.requires_grad])
    trained = [p for p in made.model.parameters() if p.requires_grad]
    made.zero_grad()
    optimizer = torch.optim.AdamW(trained, 1e-3, weight_decay=0)
    for p, *parts in zip(trained, *grads, strict=True):
        p.grad = torch.stack(parts).mean(0)
    optimizer.step()
    run(faces, tmp_path, 1, accumulate=3, warmup=0)
    found = last(tmp_path)["model"]
    for name, p in made.model.state_dict().items():
        torch.testing.assert_close(found[name], p, rtol=1e-5, atol=1e-5)


def test_priors_are_the_papers(faces):
    made = objective(faces, latent=0.1, weights=100.0)
    batch = made.task.sample(torch.Generator().manual_seed(0))
    terms = made(batch)
    z = made.model.encode(batch.context)
    theta = torch.cat([p.flatten(1) for p in made.model.decode(z).values()], dim=1)
    torch.testing.assert_close(terms["latent_prior"], 0.1 * (z**2).mean())
    torch.testing.assert_close(terms["weight_prior"], 100 * (theta**2).mean())
    y = made.model(batch.context, batch.x)
    torch.testing.assert_close(terms["mse"], ((y - batch.y) ** 2).mean())


def test_autocast_spares_the_field(faces):
    made = objective(faces, autocast=True)
    seen = []
    made.model.encoder.net[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    batch = made.task.sample(torch.Generator().manual_seed(0))
    loss = made.task.loss
    made.task.loss = lambda field, batch: seen.append(field(batch.x).dtype) or loss(field, batch)
    made(batch)["mse"].backward()
    assert seen == [torch.bfloat16, torch.float32]


def test_learning_rate_rises_and_falls():
    training = Optimisation(steps=100, lr=2.0, warmup=10)
    rates = [learning_rate(step, training) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == pytest.approx(2.0)
    assert rates[-1] < 0.01
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(99, training.replace(decay="constant")) == 2.0


def test_the_average_follows_the_weights(faces, tmp_path):
    run(faces, tmp_path / "off", 10, ema=0.0)
    content = last(tmp_path / "off")
    assert_same(content["model"], content["ema"])
    run(faces, tmp_path / "on", 10, ema=0.9)
    content = last(tmp_path / "on")
    assert any(not torch.equal(content["model"][n], content["ema"][n]) for n in content["model"])


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
def test_compiled_training_equals_eager(tmp_path):
    """In a process of its own, without the run-time type checker, which cannot be traced."""
    script = Path(__file__).with_name("compiled_training.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "agree" in done.stdout
