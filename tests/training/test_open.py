"""The door for users' own code: a task, a field, an encoder and data from outside the package; runs of version 0.1."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import hypersiren
from hypersiren import (
    Completion,
    Context,
    FieldTask,
    FullHypernet,
    HyperSiren,
    SetEncoder,
    Siren,
    UserError,
    fit,
    grid,
    load,
    savable,
    save,
    train,
)  # fmt: skip
from hypersiren.completion.images.settings import CompletionLoss
from hypersiren.training import checkpoints

RUNS = Path(__file__).parent / "version_0_1"


@pytest.mark.slow
def test_a_script_outside_the_package_brings_everything_itself(tmp_path):
    """Own task on own data with an own field; an own HyperSiren on an array, saved, loaded in a new process."""
    script = Path(__file__).with_name("outside.py")
    for part in ("train", "load"):
        done = subprocess.run([sys.executable, script, part, tmp_path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert part == "load" or "error" in done.stdout
    np.testing.assert_array_equal(*(np.load(tmp_path / f"{part}.npy") for part in ("train", "load")))


@pytest.mark.parametrize("name", ["image", "audio", "sdf", "helmholtz", "faces"])
def test_runs_of_version_0_1_load(name):
    """Run folders that were written before the package had rooms give the same values as they did then."""
    model = load(RUNS / name)
    expected = torch.load(RUNS / name / "values.pt")
    with torch.no_grad():
        if name == "faces":
            images = torch.linspace(-1, 1, 64).view(1, 8, 8, 1)
            found = model(Context.from_images(images, images[..., 0] > 0), grid((5, 5)))
        else:
            found = model(torch.linspace(-1, 1, 12).view(-1, 1).expand(-1, model.in_features))
    torch.testing.assert_close(found, expected)
    about = checkpoints.playback(checkpoints.read(checkpoints.find(RUNS / name)))
    if name == "audio":
        assert about["task"] == "audio"
        assert about["rate"] == 16_000


def test_fitting_and_training_leave_the_random_state_alone():
    siren = Siren(2, 1, 8)
    model = HyperSiren(SetEncoder(3, 4, 4), FullHypernet(siren.shapes, 4, 4), siren)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002 - the global one is meant
    fit(hypersiren.Image(torch.zeros(6, 6, 1)), steps=2, network={"hidden_features": 8})
    train(model, Completion(np.zeros((12, 6, 6), np.uint8), batch_size=2), steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_training_uses_or_refuses_every_keyword():
    siren = Siren(2, 1, 8)
    model = HyperSiren(SetEncoder(3, 4, 4), FullHypernet(siren.shapes, 4, 4), siren)
    task = Completion(np.zeros((12, 6, 6), np.uint8), batch_size=2)
    for given, message in (
        ({"batch_size": 2}, r"train: batch_size belongs to the task: Completion\(..., batch_size=2\)"),
        ({"target_points": 5}, r"train: target_points belongs to the task: Completion\(..., target_points=5\)"),
        ({"loss": CompletionLoss(log=1.0)}, r"train: log belongs to the task: Completion\(..., log=1.0\)"),
        ({"step": 5}, 'train: unknown setting "step"; did you mean "steps"?'),
        ({"hidden_features": 5}, 'train: unknown setting "hidden_features"; expected one of steps, '),
    ):
        with pytest.raises(UserError, match=message):
            train(model, task, **given)
    assert train(model, task, steps=1, loss=CompletionLoss(latent=0.1)).finished


def test_what_is_no_task_is_told_what_it_lacks():
    class Half:
        def sample(self, generator, progress):
            return None

    with pytest.raises(
        UserError, match=r"a Half is no task: it has no loss, .*in_features.*; see hypersiren.FieldTask"
    ):
        fit(Half())
    siren = Siren(2, 1, 4)
    model = HyperSiren(SetEncoder(3, 4, 4), FullHypernet(siren.shapes, 4, 4), siren)
    with pytest.raises(UserError, match=r"expected a task, such as Completion.*got a Siren; see hypersiren.SetTask"):
        train(model, siren)


def test_a_task_needs_no_base_class():
    class Bare:
        name, unit, batch_size, criterion, samples = "bare", "points", 8, None, ()
        in_features, out_features, device, playback, first_omega = 1, 1, torch.device("cpu"), {}, None
        defaults = FieldTask.defaults

        def sample(self, generator, progress):
            return torch.rand(8, 1, generator=generator)

        def loss(self, field, x):
            return {"mse": (field(x) - 1).square().mean()}

        def evaluate(self, field):
            return {}

        def panels(self, field):
            return {}

    assert fit(Bare(), steps=100, lr=1e-2, network={"hidden_features": 16}).field(
        torch.zeros(1, 1)
    ).item() == pytest.approx(1, abs=0.3)


def test_unknown_settings_are_told():
    task = hypersiren.Image(torch.zeros(6, 6, 1))
    with pytest.raises(UserError, match='unknown setting "step"; did you mean "steps"'):
        fit(task, step=5)
    with pytest.raises(UserError, match='unknown setting "kid"; did you mean "kind"'):
        fit(task, network={"kid": "relu"}, steps=1)
    with pytest.raises(UserError, match="kind: input should be"):
        fit(task, network={"kind": "relux"}, steps=1)


class Plain(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(1, width)


def test_what_cannot_be_saved_or_loaded_is_told(tmp_path):
    with pytest.raises(UserError, match=r"Plain cannot be saved: decorate its class with @hypersiren.savable"):
        save(Plain(2), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"expected the ending .safetensors"):
        save(Siren(1, 1, 4), tmp_path / "a.pt")
    siren = Siren(2, 1, 4)
    holder = HyperSiren(Plain(2), FullHypernet(siren.shapes, 4, 4), siren)
    with pytest.raises(UserError, match="HyperSiren cannot be saved: its constructor was given a Plain"):
        save(holder, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no such run folder"):
        load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a file that hypersiren saved"):
        load(tmp_path / "b.safetensors")


def test_a_class_that_is_not_imported_is_not_built(tmp_path):
    @savable
    class Local(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.layer = nn.Linear(1, width)

    save(Local(3), tmp_path / "a.safetensors")
    assert load(tmp_path / "a.safetensors").layer.out_features == 3
    from hypersiren.fields import savable as room

    name = next(name for name in room._CLASSES if name.endswith("Local"))
    kept = room._CLASSES.pop(name)
    with pytest.raises(UserError, match="import the module that defines it"):
        load(tmp_path / "a.safetensors")
    room._CLASSES[name] = kept


@pytest.mark.parametrize("kind", ["siren", "relu", "relu_pe", "relu_fourier", "rbf", "wire", "finer"])
def test_every_field_survives_saving(kind, tmp_path):
    from hypersiren.fields.baselines import baseline

    field = baseline(kind, 2, 3, hidden_features=8, hidden_layers=1, samples=(16, 16))
    save(field, tmp_path / "field.safetensors")
    x = torch.rand(5, 2)
    assert torch.equal(load(tmp_path / "field.safetensors")(x), field(x))


def test_one_predicted_field_is_saved_as_a_siren_of_its_own(tmp_path):
    siren = Siren(2, 1, 8)
    model = HyperSiren(SetEncoder(3, 4, 8), FullHypernet(siren.shapes, 4, 8), siren)
    context = Context.from_images(torch.rand(3, 4, 4, 1), torch.ones(3, 4, 4, dtype=torch.bool))
    fields = model.field(context)
    save(fields.signal(1), tmp_path / "one.safetensors")
    x = torch.rand(5, 2)
    torch.testing.assert_close(load(tmp_path / "one.safetensors")(x), fields(x)[1].detach(), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="expected the weights of one signal"):
        save(fields, tmp_path / "all.safetensors")


def test_the_first_gradient_of_any_field_does_not_import_the_compiler():
    code = (
        "import sys, torch; from hypersiren import operators; "
        "operators.gradient(torch.nn.Linear(2, 3), torch.rand(4, 2)); print('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "hypersiren", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "fit" in done.stdout
