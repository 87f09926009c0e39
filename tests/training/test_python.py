"""The library from Python: what people pass to `fit` and `train` works, or the message says what to do."""

import io
import sys
import types
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from hypersiren import (
    Audio,
    Completion,
    FieldTask,
    FullHypernet,
    HyperSiren,
    Image,
    LastLayerSolve,
    SetEncoder,
    Siren,
    fit,
    load,
    train,
)
from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.settings import Training
from hypersiren.training.display import shows_progress
from hypersiren.training.fit import check_field, network_changes
from hypersiren.training.loop import optimise_and_load

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)
SMALL = {"steps": 2, "network": {"hidden_features": 8}}


class Double(FieldTask):
    """An own task: y = 2 x."""

    in_features, out_features = 1, 1

    def sample(self, generator, progress):
        return torch.rand(16, 1, generator=generator)

    def loss(self, field, x):
        return {"mse": (field(x) - 2 * x).square().mean()}


class Bare(Double):
    def loss(self, field, x):
        return (field(x) - 2 * x).square().mean()


class Empty(FieldTask):
    in_features, out_features = 1, 1

    def sample(self, generator, progress):
        return torch.rand(16, 1, generator=generator)


@pytest.fixture
def file(tmp_path) -> Path:
    PIL.Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


WORKING = {
    "uint8": lambda file: fit(Image(PIXELS), **SMALL),
    "PIL": lambda file: fit(Image(PIL.Image.open(file)), **SMALL),
    "path": lambda file: fit(Image(file), **SMALL),
    "string path": lambda file: fit(Image(str(file)), **SMALL),
    "(H, W)": lambda file: fit(Image(PIXELS[..., 0]), **SMALL),
    "string run_dir": lambda file: fit(Image(PIXELS), run_dir=str(file.parent / "run"), **SMALL),
    "network='wire'": lambda file: fit(Image(PIXELS), network="wire", steps=2),
    "points of the task": lambda file: fit(Image(PIXELS, points=10), **SMALL),
    "own task": lambda file: fit(Double(), **SMALL),
    "own field": lambda file: fit(Image(PIXELS), torch.nn.Linear(2, 3), steps=2),
}


@pytest.mark.parametrize("name", WORKING)
def test_one_liners_that_work(name, file):
    result = WORKING[name](file)
    assert result.finished
    assert result.history[-1]["step"] == 2
    if "path" in name or name in ("uint8", "PIL"):  # the same picture, whatever holds it
        assert result.metrics["psnr"] == fit(Image(PIXELS), **SMALL).metrics["psnr"]


CHANNELS_FIRST = torch.from_numpy(PIXELS).permute(2, 0, 1)

TOLD = {
    "(C, H, W)": (lambda: Image(CHANNELS_FIRST), "channels come last, give image.permute(1, 2, 0)"),
    "step=": (lambda: fit(Image(PIXELS), step=5), 'unknown setting "step"; did you mean "steps"?'),
    "rundir=": (lambda: fit(Image(PIXELS), rundir="x"), 'unknown setting "rundir"; did you mean "run_dir"?'),
    "points=": (lambda: fit(Image(PIXELS), points=9), "points belongs to the task, such as Image(picture, points=9)"),
    "point=": (lambda: fit(Image(PIXELS), point=9), 'did you mean "points"?'),
    "width": (lambda: fit(Image(PIXELS), hidden_features=9), 'the network: network={"hidden_features": 9}'),
    "no near": (lambda: fit(Image(PIXELS), qqq=9), 'unknown setting "qqq"; expected one of steps, optimizer, '),
    "network key": (lambda: fit(Image(PIXELS), network={"hidden_feature": 9}), 'did you mean "hidden_features"?'),
    "network kind": (lambda: fit(Image(PIXELS), network="wires"), "'finer' or 'windowed', got 'wires'"),
    "network field": (lambda: network_changes(Siren(2, 3)), "give it as the field: fit(task, field)"),
    "network number": (lambda: network_changes(64), "got a int"),
    "no field": (lambda: check_field("wire", Image(PIXELS)), "field: expected a torch.nn.Module"),
    "channels": (lambda: fit(Image(PIXELS), Siren(2, 1, 8)), "expected out_features 3 as image has, got 1"),
    "array": (lambda: fit(PIXELS), 'expected a task, such as Image("photo.png"), got a ndarray'),
    "class": (lambda: fit(Image), "got the class Image: make a task of it, Image(...)"),
    "no loss": (lambda: fit(Empty()), "a Empty is no task: it has no loss; see hypersiren.FieldTask"),
    "bare loss": (lambda: fit(Bare(), **SMALL), "Bare.loss: expected a dictionary of named terms"),
    "Siren": (lambda: Siren(2, 3, hidden_feature=9), 'Siren: unknown argument "hidden_feature"; did you mean'),
    "train array": (lambda: train(hyper(), PIXELS), "such as Completion(images), got a ndarray"),
    "train step=": (lambda: train(hyper(), faces(), step=1), 'unknown setting "step"; did you mean "steps"?'),
}


@pytest.mark.parametrize("name", TOLD)
def test_one_liners_that_say_what_to_do(name):
    wrong, message = TOLD[name]
    with pytest.raises((ValueError, TypeError)) as caught:
        wrong()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def hyper() -> HyperSiren:
    siren = Siren(2, 1, hidden_features=8)
    return HyperSiren(SetEncoder(3, 4, 8), FullHypernet(siren.shapes, 4, 8), siren)


def faces() -> Completion:
    return Completion(np.zeros((20, 8, 8), np.uint8), batch_size=4)


def test_a_function_is_told_of_each_row_of_the_history():
    told = []
    result = fit(
        Image(PIXELS), steps=10, log_every=2, validate_every=5, network={"hidden_features": 8},
        on_log=lambda step, values: told.append({"step": step, **values}),
    )  # fmt: skip
    assert told == result.history
    assert [row["step"] for row in told] == [2, 4, 5, 6, 8, 10]
    assert ["validation/psnr" in row for row in told] == [False, False, True, False, False, True]
    assert {type(value) for row in told for name, value in row.items() if name != "step"} == {float}
    rows = []
    trained = train(hyper(), faces(), steps=4, log_every=2, on_log=lambda step, values: rows.append((step, values)))
    assert [step for step, _ in rows] == [2, 4]
    assert rows[-1][1]["validation/mse"] == trained.metrics["mse"]


def test_true_stops_after_a_validation_and_the_same_call_resumes(tmp_path):
    task, settings = Image(PIXELS), {"steps": 20, "log_every": 3, "network": {"hidden_features": 8}}
    whole = fit(task, **settings)
    result = fit(task, run_dir=tmp_path, on_log=lambda step, values: step >= 6, **settings)
    assert not result.finished
    assert [row["step"] for row in result.history] == [3, 6]
    assert result.metrics["psnr"] == result.history[-1]["validation/psnr"] == task.evaluate(load(tmp_path))["psnr"]
    resumed = fit(task, run_dir=tmp_path, **settings)
    assert resumed.finished
    assert torch.equal(resumed.field(task.grid), whole.field(task.grid))


def test_nothing_but_true_stops_and_the_last_step_is_the_last():
    file = io.StringIO()
    assert fit(Image(PIXELS), log_every=1, on_log=lambda step, values: file.write(f"{step}\n"), **SMALL).finished
    assert file.getvalue() == "1\n2\n"
    assert fit(Image(PIXELS), on_log=lambda step, values: True, **SMALL).finished  # after the last step


def test_a_training_that_starts_at_a_prior_can_stop_before_its_first_step():
    objective = HypernetObjective(
        HyperSiren(None, None, Siren(2, 1, hidden_features=8), LastLayerSolve(8)), faces(), start=lambda: None
    )
    told = []

    def stop(step, values):
        told.append(step)
        return True

    outcome = optimise_and_load(
        objective, None, {"settings": {}}, Training(steps=3), seed=0, progress=False, on_log=stop
    )
    assert told == [0]
    assert not outcome["finished"]
    assert "mse" in outcome["metrics"]


def test_progress_is_shown_where_somebody_looks(monkeypatch):
    terminal = types.SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not shows_progress()
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert shows_progress()
    shell.config = {}  # IPython in a pipe
    assert not shows_progress()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert shows_progress()
    assert not shows_progress(False)
    monkeypatch.setattr(sys, "stderr", None)  # pythonw
    assert not shows_progress()


def test_fit_shows_a_bar_only_where_somebody_looks(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    fit(Audio(torch.zeros(50), rate=50), **SMALL)
    assert stream.getvalue() == ""
    stream.isatty = lambda: True
    fit(Audio(torch.zeros(50), rate=50), **SMALL)
    assert "2/2" in stream.getvalue()
    shown = len(stream.getvalue())
    fit(Audio(torch.zeros(50), rate=50), progress="a sound", **SMALL)
    assert "a sound: " in stream.getvalue()[shown:]
    shown = len(stream.getvalue())
    train(hyper(), faces(), steps=2, progress=False)
    assert len(stream.getvalue()) == shown
    train(hyper(), faces(), steps=2)
    assert len(stream.getvalue()) > shown
