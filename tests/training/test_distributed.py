"""Several processes train as one does: the same weights, one voice, one end."""

import contextlib
import io
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from torch.distributed import TCPStore

from hypersiren import (
    SDF,
    Audio,
    Completion,
    FieldTask,
    FullHypernet,
    GradientSteps,
    HyperSiren,
    Inpaint,
    LastLayerSolve,
    LocalSiren,
    Poisson,
    SetEncoder,
    Siren,
    SoundCompletion,
    TokenHypernet,
    UserError,
    Video,
    Volume,
    Wave,
    fit,
    train,
)
from hypersiren.cli.main import main
from hypersiren.completion.images.settings import ContextSampling
from hypersiren.completion.objective import HypernetObjective
from hypersiren.completion.settings import Loss
from hypersiren.completion.shapes.settings import ShapeContext
from hypersiren.completion.shapes.task import Shapes
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.shapes.cloud import open_cloud
from hypersiren.shapes.sets.shapes import make_shapes
from hypersiren.shapes.sets.solids import solid_mesh
from hypersiren.tasks.images.edit import Edit, clone
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.images.settings import InpaintLoss
from hypersiren.tasks.registry import TASKS, open_task
from hypersiren.tasks.task import share_of
from hypersiren.tasks.waves.settings import WaveLoss
from hypersiren.training import checkpoints
from hypersiren.training.distributed import own_device

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "torch._dynamo"])  # processes are forked from one that has all modules


def in_processes(count, function, *arguments):
    """What a function returns in each of so many processes, that meet as those of torchrun do, or its error."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    queue = CONTEXT.Queue()
    started = [
        CONTEXT.Process(target=enter, args=(queue, rank, count, store.port, function, *arguments), daemon=True)
        for rank in range(count)
    ]
    for process in started:
        process.start()
    found = dict(queue.get(timeout=180) for _ in started)
    for process in started:
        process.join(10)
        assert process.exitcode is not None
    return [found[rank] for rank in range(count)]


def enter(queue, rank, count, port, function, *arguments):
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True", "OMP_NUM_THREADS": "1"}
    try:
        queue.put((rank, function(*arguments)))
    except Exception as error:
        queue.put((rank, f"{type(error).__name__}: {error}"))


def images(count=20, size=8):
    return torch.randint(0, 256, (count, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def set_encoded(channels=1, in_features=2, out_features=1):
    siren = Siren(in_features, out_features, hidden_features=16, first_omega=10.0, hidden_omega=10.0)
    encoder = SetEncoder(in_features + channels, 8, 16)
    return HyperSiren(encoder, FullHypernet(siren.shapes, 8, 16), siren)


def corrected():
    siren = Siren(2, 1, hidden_features=(16, 32))
    correction = Correction(32, 1, axes=16, inputs=8, width=16, masks=20, rounds=1)
    model = HyperSiren(None, None, siren, LastLayerSolve(32, correction=correction))
    model.set_prior(Completion(images()).prior_signals(copies=0, finer=1))
    return model


def learns_its_start():
    siren = LocalSiren(2, 1, 16, token_size=(1, 1), token_features=8)
    return HyperSiren(None, TokenHypernet(siren.shapes), siren, GradientSteps(8, tokens=1))


def shapes():
    made = [solid_mesh(i, resolution=12) for i in range(3)]
    found = make_shapes([(name, mesh.vertices, mesh.faces) for name, mesh in made])
    return Shapes(found, found, ShapeContext(most=30, evaluation=(30,)), batch_size=4, target_points=32, resolution=8)


ALIKE = ContextSampling(most=40, alike=True)

SETS = {
    # As many target points as images: coordinates of points must not be taken for signals.
    "images": (
        partial(Completion, images(80), batch_size=64, log=0.1, context=ContextSampling(most=40)),
        set_encoded,
        {"loss": Loss(latent=0.1, weights=100.0), "accumulate": 2, "clip": 0.1},
    ),
    "alike": (
        partial(Completion, images(), batch_size=4, log=0.1, context=ALIKE, target_points=10),
        lambda: HyperSiren(None, None, Siren(2, 1, hidden_features=(16, 32)), LastLayerSolve(32)),
        {},
    ),
    "correction": (partial(Completion, images(), batch_size=8, context=ALIKE), corrected, {"steps": 10}),
    # Another order of a batch, too, changes the weights of the next two by 1e-4 after 50 steps.
    "inner steps": (partial(Completion, images(), batch_size=4), learns_its_start, {"steps": 10}),
    "sounds": (
        lambda: SoundCompletion(np.random.default_rng(0).normal(size=(20, 32)), batch_size=32),
        partial(set_encoded, 1, 1),
        # Muon multiplies rounding: after 50 steps on the images above weights differ by 3e-5.
        {"loss": Loss(latent=0.1), "optimizer": "muon", "steps": 5},
    ),
    "shapes": (shapes, partial(set_encoded, 3, 3, 1), {"loss": Loss(latent=0.1, weights=100.0), "steps": 5}),
}


def train_one(name):
    task, model, training = SETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(int(os.environ.get("RANK", 0)))  # weights become the first's
        made = model()
    before = torch.get_rng_state()
    arguments = {"steps": 50, "lr": 1e-3, "ema": 0.9, "validate_every": 50, **training}
    result = train(made, task(), **arguments)
    assert torch.equal(before, torch.get_rng_state())
    weights = state(result.model)
    weights.pop("adapter.spread", None)  # is not trained but chosen on validation data, and among the metrics
    return weights, result.metrics, without_times(result.history)


def state(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


def without_times(history):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def train_all():
    return [train_one(name) for name in SETS]


def assert_equal(one, other, tolerance=1e-5):  # sums of two halves are rounded as the processor does them
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.slow
def test_hypernetworks_become_the_same_in_two_processes():
    found = in_processes(2, train_all)
    for name, first, second in zip(SETS, *found, strict=True):
        weights, metrics, history = train_one(name)
        assert_equal(first[0], weights, 1e-4)  # Adam enlarges the rounding of gradients near 0
        assert_equal(first[0], second[0], 0)
        assert first[1] == second[1], name
        assert first[2] == second[2], name
        assert first[1] == pytest.approx(metrics, rel=1e-4, abs=1e-6)
        assert [row.keys() for row in first[2]] == [row.keys() for row in history]
        assert first[2][-1]["loss/total"] == pytest.approx(history[-1]["loss/total"], rel=1e-4)


def picture(size=8):
    return torch.rand(size, size, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1


FIELDS = {
    "image": lambda: Image(picture(), points=32),
    "inpaint": lambda: Inpaint(
        picture(), InpaintLoss(prior="hessian", prior_points=16), known=picture()[..., 0] > 0, points=8
    ),
    "poisson": lambda: Poisson(picture(), points=16),
    "edit": lambda: Edit(clone(picture(), picture(10), picture()[..., 0] > 0, (2, 1)), points=32),
    "audio": lambda: Audio(torch.rand(64, 2), rate=8000, points=16),
    "video": lambda: Video(torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8), fps=5, points=32),
    "volume": lambda: Volume(torch.rand(4, 8, 8), points=32),
    "sdf": lambda: SDF(open_cloud("knot", count=1000), points=64),
    "helmholtz": lambda: open_task("helmholtz", {"signal": {"wavenumber": 8.0, "cells": 64}, **WAVES}),
    "wave": lambda: Wave(loss=WaveLoss(exact_start=False, start_points=16), variance=0.01, points=64, cells=64),
    "inversion": lambda: open_task(
        "inversion",
        {
            "signal": {"wavenumber": 8.0, "cells": 64, "sources": 2},
            **WAVES,
            "loss": {"waves": "network", **WAVES["loss"]},
        },
    ),
}
WAVES = {"loss": {"source_points": 8}, "training": {"points": 64}}


@pytest.mark.parametrize("name", FIELDS)
def test_every_loss_of_a_field_is_the_mean_of_its_shares(name):
    task = FIELDS[name]()
    assert FIELDS.keys() == TASKS.keys()
    field = Siren(task.in_features, task.out_features, 16)
    batch = task.sample(torch.Generator().manual_seed(0), 0.5)
    for count in (2, 4):
        parts = [task.loss(field, task.share(batch, i, count)) for i in range(count)]
        for name, whole in task.loss(field, batch).items():
            torch.testing.assert_close(torch.stack([part[name] for part in parts]).mean(), whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SETS)
def test_every_loss_of_a_hypernetwork_is_the_mean_of_its_shares(name):
    task, model, training = SETS[name]
    made = task()
    loss = training.get("loss", Loss())
    objective = HypernetObjective(model(), made, latent=loss.latent, weights=loss.weights)
    batch = made.sample(torch.Generator().manual_seed(0))
    parts, whole = [objective(made.share(batch, i, 4)) for i in range(4)], objective(batch)
    for term in whole:
        torch.testing.assert_close(torch.stack([part[term] for part in parts]).mean(), whole[term])
    trained = [p for p in objective.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(sum(part.values()), trained) for part in [*parts, whole]]
    for *shares, expected in zip(*gradients, strict=True):
        mean = torch.stack(shares).mean(0)
        torch.testing.assert_close(mean, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_each_process_has_its_own_gpu(monkeypatch):
    for name, number in {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(number))
    gpus = 2
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [own_device(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(UserError, match='device "cuda:0": expected auto, cpu or cuda'):
        own_device("cuda:0")
    gpus = 1
    with pytest.raises(UserError, match="got 2 processes, 1 GPUs"):
        own_device("auto")
    gpus = 0
    assert own_device("auto") == "cpu"


def test_shares_that_would_not_be_equal_are_refused():
    task = Completion(images(), batch_size=3)
    with pytest.raises(UserError, match=r"^3 signals have no 2 equal parts: expected a multiple of 2 \(training.ba"):
        task.share(task.sample(torch.Generator()), 0, 2)
    whole = {"points": torch.arange(4), "stage": torch.tensor(1.0), "names": ("a", [torch.zeros(2)])}
    part = share_of(whole, 1, 2)
    assert part["points"].tolist() == [2, 3]
    assert part["names"][0] == "a"
    assert len(part["names"][1][0]) == 1


class Bare:
    """A task without our base class, of a field with a parameter that has no gradient and a buffer that changes."""

    name, unit, batch_size, criterion, samples = "bare", "points", 8, None, ()
    in_features, out_features, device, playback, first_omega = 1, 1, torch.device("cpu"), {}, None
    defaults = FieldTask.defaults

    def sample(self, generator, progress):
        return torch.rand(8, 1, generator=generator)

    def loss(self, field, x):
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            return {"slope": (torch.autograd.grad(field(x).sum(), x, create_graph=True)[0] - 1).square().mean()}

    def evaluate(self, field):
        return {}

    def panels(self, field):
        return {}


class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.layers(x)


class Summed(FieldTask):
    """Not a mean over points."""

    in_features, out_features, batch_size = 1, 1, 4

    def sample(self, generator, progress):
        return torch.rand(4, 1, generator=generator)

    def loss(self, field, x):
        return {"sum": field(x).square().sum()}


def fit_fields(folder):
    """The outcomes of several fits in one process, alone or beside others."""
    small = {"network": {"hidden_features": 16}, "validate_every": 25, "lr": 1e-3}
    found = [state(fit(Image(picture(), points=32), steps=50, **small).field)]
    fit(Image(picture(), points=32), steps=25, decay="constant", run_dir=folder / "part", **small)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = Partly()
    field = state(fit(Bare(), field, steps=50, weight_decay=0.1).field)
    del field["calls"]  # of the check before the first step, too
    found.append(field)
    stop = {"log_every": 10, "on_log": lambda step, _: (folder / f"{step}.log").touch() or step == 20}
    stopped = fit(Image(picture()), steps=50, **stop, **small)
    found.append(([row["step"] for row in stopped.history], stopped.finished, stopped.metrics))
    return found


def messages(folder):
    """What several processes refuse."""
    none = {"run_dir": folder / "none", "steps": 1}
    attempts = [
        lambda: fit(Image(picture(), points=31), steps=1),
        lambda: fit(Image(picture()), steps=1, optimizer="lbfgs"),
        lambda: fit(Summed(), steps=1),
        lambda: fit(Image(picture()), steps=1, run_dir=folder),
        lambda: fit(Image(picture()), Siren(2, 1, 8), init={"layers.0.bias": torch.full((8,), math.nan)}, **none),
    ]
    told = []
    for attempt in attempts:
        try:
            attempt()
            told.append("")
        except UserError as error:
            told.append(str(error))
    return told


@pytest.mark.slow
def test_fields_become_the_same_in_two_processes(tmp_path):
    one, many = tmp_path / "one", tmp_path / "many"
    for folder in (one, many):
        folder.mkdir()
    first, second = in_processes(2, fit_fields, many)
    alone = fit_fields(one)
    for i in (0, 1):
        assert_equal(first[i], alone[i])
        assert_equal(first[i], second[i], 0)
    assert (first[1]["unused"] == 1).all()
    assert first[2][:2] == second[2][:2] == alone[2][:2] == ([10, 20], False)
    names = [sorted(path.name.partition(".tfevents")[0] for path in (f / "part").iterdir()) for f in (one, many)]
    assert names[0] == names[1]  # one file of events, one of each other
    assert len(list(many.glob("*.log"))) == 2

    # A run of two processes is resumed by one.
    arguments = {"steps": 50, "decay": "constant", "network": {"hidden_features": 16}, "validate_every": 25, "lr": 1e-3}
    straight, resumed = (fit(Image(picture(), points=32), run_dir=at, **arguments) for at in (None, many / "part"))
    assert resumed.history[0]["step"] == 25
    assert_equal(state(resumed.field), state(straight.field))


def test_what_several_processes_cannot_do_all_of_them_refuse(tmp_path):
    (tmp_path / "foreign").touch()
    first, second = in_processes(2, messages, tmp_path)
    assert first == second
    assert first[0] == "31 points have no 2 equal parts: expected a multiple of 2 (training.points)"
    assert "got lbfgs" in first[1]
    assert "the loss of task cannot be shared by processes: sum is" in first[2]
    assert "one with other files" in first[3]
    assert "the weights are still the initial ones" in first[4]


def one_fails(words, last):
    """The exit code and the words of a process, where the other's memory is full at the fifth step."""
    calls, right = iter(range(10**9)), Image.loss

    def loss(self, field, batch):
        if os.environ["RANK"] == "1" and next(calls) == 5:
            raise last
        return right(self, field, batch)

    Image.loss = loss
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(told):
        try:
            main(words)
        except SystemExit as end:
            return end.code, told.getvalue()
        except Exception as error:
            return type(error).__name__, told.getvalue()
    return 0, told.getvalue()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    PIL.Image.fromarray(images(1, 16)[0].numpy()).save(path)
    return path


def test_an_error_of_one_process_ends_all_with_one_line(file, tmp_path):
    words = ["-q", "fit", "image", str(file), "--kind", "siren", "--points", "64", "--out", str(tmp_path / "a")]
    first, second = in_processes(2, one_fails, words, MemoryError())
    assert second[0] == 2
    assert second[1].startswith("hypersiren: out of memory; ")
    assert second[1].count("\n") == 1
    assert first == (1, "") or first == (2, "")
    words[-1] = str(tmp_path / "b")
    first, second = in_processes(2, one_fails, words, ZeroDivisionError())
    assert second == ("ZeroDivisionError", "")  # a fault of ours keeps its traceback
    assert first == (1, "") or first == (2, "")
    first, second = in_processes(2, one_fails, ["render", str(tmp_path)], None)
    assert (first[0], second[0], second[1]) == (2, 2, "")
    assert first[1].startswith("hypersiren: expected train or fit")


@pytest.mark.slow
def test_torchrun_trains_and_is_stopped(file, tmp_path):
    settings = ["--points", "64", "--steps", "100000", "--validate_every", "50", "--hidden_features", "16"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    log = tmp_path / "log"
    with log.open("w") as output:
        launched = subprocess.Popen(
            [*command, "hypersiren", "fit", "image", str(file), *settings, "--out", str(tmp_path / "run")],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        end = time.monotonic() + 120
        while not (tmp_path / "run" / "last.pt").exists() and launched.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        launched.send_signal(signal.SIGTERM)
        launched.wait(60)
    told = log.read_text()
    assert told.count("stopped and saved; the same command resumes") == 1, told
    assert told.count("building the field") == 1
    assert checkpoints.read(tmp_path / "run" / "last.pt")["step"] >= 50


def divided(folder, stop_after):
    """Solve windows a row at a time, in a folder; be struck after so many rows, or never."""
    from hypersiren.fields import window_solve
    from hypersiren.training import solves

    window_solve.STRIP, solves.KEEP_SECONDS = 1, -1.0
    original, rows = solves.KeptSolve.save, []

    def save(self, field, done):
        self.due = 0.0
        original(self, field, done)
        rows.append(done)
        if len(rows) == stop_after:
            raise KeyboardInterrupt

    solves.KeptSolve.save = save
    task = Image(torch.rand(150, 40, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    try:
        field = fit(task, run_dir=folder, network={"kind": "windowed", "numbers": 0.4, "window": 16}).field
    except KeyboardInterrupt:
        return rows, None
    finally:
        solves.KeptSolve.save = original
    return rows, field.coefficients.tolist()


def test_processes_divide_the_windows(tmp_path):
    (_, whole), *_ = in_processes(1, divided, tmp_path / "one", None)
    parts = in_processes(2, divided, tmp_path / "two", None)
    rows = [done for done, _ in parts]
    count = rows[1][-1][1]
    assert [done for _, done in rows[0]] == list(range(1, count // 2 + 1))
    assert rows[1] == [(count // 2, done) for done in range(count // 2 + 1, count + 1)]
    for _, found in parts:
        assert found == whole
    stopped = in_processes(2, divided, tmp_path / "kept", 2)
    assert [found for _, found in stopped] == [None, None]
    assert sorted(path.name for path in (tmp_path / "kept").glob("solve*")) == ["solve-1of2.pt", "solve-2of2.pt"]
    again = in_processes(2, divided, tmp_path / "kept", None)
    assert all(found == whole for _, found in again)
    assert rows[1][2:] == again[1][0], "rows are solved twice"
    assert not list((tmp_path / "kept").glob("solve*"))
