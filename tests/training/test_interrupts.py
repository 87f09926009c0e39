"""Ctrl-C and SIGTERM in Python's `fit` and `train`; fits in threads and in inference mode."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import torch

from hypersiren import (
    SDF,
    Completion,
    HyperSiren,
    Image,
    LastLayerSolve,
    Poisson,
    Siren,
    UserError,
    fit,
    open_task,
    train,
)
from hypersiren.fields.baselines import BASELINES, baseline, equal_width
from hypersiren.hypernets.model import build
from hypersiren.training import checkpoints
from hypersiren.training.interrupts import Stop
from hypersiren.training.seeds import seeded

PIXELS = torch.rand(13, 12, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
SMALL = {"network": {"kind": "siren", "hidden_features": 8}, "log_every": 4, "validate_every": 8}
ERRORS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")


class Struck(Image):
    """Is sent a signal when it is asked for something for the so-manieth time."""

    def __init__(self, where, count, number=signal.SIGINT):
        super().__init__(PIXELS)
        self.where, self.left, self.number = where, count, number

    def strike(self, where):
        if where == self.where:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)

    def sample(self, generator, progress=0.0):
        self.strike("sample")
        return super().sample(generator, progress)

    def evaluate(self, field):
        self.strike("evaluate")
        return super().evaluate(field)


@contextmanager
def default_handlers():
    """As in a program of its own, whatever the tests run under."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ERRORS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@needs_signals
def test_a_loop_over_three_fits_ends_at_the_first_ctrl_c_with_its_state_saved(tmp_path):
    done = []

    def loop():
        for name in "abc":
            fit(Struck("sample", 11), steps=20, run_dir=tmp_path / name, **SMALL)
            done.append(name)

    with default_handlers(), pytest.raises(KeyboardInterrupt):
        loop()
    assert not done
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    step = checkpoints.read(tmp_path / "a" / "last.pt")["step"]
    assert 9 <= step <= 11
    whole = fit(Image(PIXELS), steps=20, **SMALL)
    again = fit(Image(PIXELS), steps=20, run_dir=tmp_path / "a", **SMALL)
    assert again.finished
    assert torch.equal(again.field(again.task.grid), whole.field(again.task.grid))


@needs_signals
@pytest.mark.parametrize("number", ERRORS)
@pytest.mark.parametrize(("where", "count"), [("sample", 5), ("sample", 9), ("evaluate", 1), ("evaluate", 3)])
def test_the_state_is_saved_and_then_it_is_raised(tmp_path, number, where, count):
    """In the middle, at a step that is validated, in a validation and in the last one."""
    field = Siren(2, 3, 8, generator=torch.Generator().manual_seed(0))
    first = field.layers[0].weight.clone()
    settings = {**SMALL, "network": None, "steps": 24}
    with default_handlers(), pytest.raises(ERRORS[number]) as raised:
        fit(Struck(where, count, number), field, run_dir=tmp_path, **settings)
    if number == signal.SIGTERM:
        assert raised.value.code == 143
    content = checkpoints.read(tmp_path / "last.pt")
    assert 4 <= content["step"] <= 24
    assert not torch.equal(field.layers[0].weight, first)  # the weights are the caller's
    fields = [Siren(2, 3, 8, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    whole = fit(Image(PIXELS), fields[0], **settings)
    again = fit(Image(PIXELS), fields[1], run_dir=tmp_path, **settings)
    assert again.finished
    assert again.metrics == whole.metrics
    assert again.history[-1]["validation/psnr"] == whole.history[-1]["validation/psnr"]


@needs_signals
def test_on_interrupt_return_gives_what_there_is(tmp_path):
    with default_handlers():
        result = fit(Struck("sample", 5), steps=20, on_interrupt="return", **SMALL)
        assert not result.finished
        assert 3 <= result.history[-1]["step"] <= 5
    with pytest.raises(UserError, match="on_interrupt: expected 'raise' or 'return', got 'stop'"):
        fit(Image(PIXELS), on_interrupt="stop")


@needs_signals
@pytest.mark.parametrize("number", ERRORS)
def test_train_raises_too(tmp_path, number):
    torch.manual_seed(0)
    model = HyperSiren(None, None, Siren(2, 3, (8, 16)), LastLayerSolve(16))
    task = Completion(torch.randint(0, 256, (9, 6, 6, 3), dtype=torch.uint8), batch_size=4)
    sample, calls = task.sample, []

    def struck(generator, progress=0.0):
        calls.append(1)
        if len(calls) == 4:
            os.kill(os.getpid(), number)
        return sample(generator, progress)

    task.sample = struck
    with default_handlers(), pytest.raises(ERRORS[number]):
        train(model, task, steps=9, run_dir=tmp_path)
    assert 1 <= checkpoints.read(tmp_path / "last.pt")["step"] <= 4
    task.sample = sample
    assert train(model, task, steps=9, run_dir=tmp_path).finished


@needs_signals
def test_sigterm_does_not_wait_for_an_evaluation(tmp_path):
    """It ends within a second where the evaluation takes ten; the steps before are saved, and it is made up for."""

    class Slow(Image):
        def evaluate(self, field):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
            return super().evaluate(field)

    begun = time.monotonic()
    with default_handlers(), pytest.raises(SystemExit):
        fit(Slow(PIXELS), steps=8, run_dir=tmp_path, **SMALL)
    assert time.monotonic() - begun < 8
    assert checkpoints.read(tmp_path / "last.pt")["step"] == 8
    again = fit(Image(PIXELS), steps=8, run_dir=tmp_path, **SMALL)
    assert again.metrics == fit(Image(PIXELS), steps=8, **SMALL).metrics


PREPARING = """
import sys, time, torch, hypersiren
class Slow(hypersiren.Image):
    def windowed_field(self, *words):
        print("preparing", flush=True)
        time.sleep(60)
hypersiren.fit(Slow(torch.zeros(8, 8, 1)))
"""


@needs_signals
def test_sigterm_ends_a_preparation_at_once():
    with subprocess.Popen([sys.executable, "-c", PREPARING], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "preparing\n"
        begun = time.monotonic()
        child.terminate()
        assert child.wait(20) == -signal.SIGTERM
        assert time.monotonic() - begun < 5


def test_a_stop_outside_of_a_call_raises_nothing():
    stop = Stop()
    stop.request(signal.SIGTERM)
    assert stop.is_set()
    assert stop.unless_set(lambda: 1 / 0) is None
    assert isinstance(stop.error(), SystemExit)


# ---- threads


def of_thread(i):
    kind = ("siren", "relu_fourier", "wire")[i % 3]
    return fit(Image(PIXELS), steps=6, seed=i, network={"kind": kind, "hidden_features": 16})


def equal(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_fits_in_threads_give_what_each_gives_alone():
    alone = [of_thread(i) for i in range(6)]
    for _ in range(2):
        together, stop = [None] * 6, threading.Event()

        def one(i, together=together):
            together[i] = of_thread(i)

        def draw(stop=stop):  # somebody else's draws
            while not stop.is_set():
                torch.rand(100)

        threads = [threading.Thread(target=one, args=(i,)) for i in range(6)]
        other = threading.Thread(target=draw)
        for thread in [other, *threads]:
            thread.start()
        for thread in threads:
            thread.join()
        stop.set()
        other.join()
        for a, b in zip(alone, together, strict=True):
            assert equal(a.field, b.field)
            assert a.metrics == b.metrics


def test_a_fit_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    of_thread(0)
    assert torch.equal(before, torch.get_rng_state())


MODELS = {name: (lambda name=name: baseline(name, 2, 3, samples=(9, 9), hidden_features=24)) for name in BASELINES} | {
    kind: (
        lambda kind=kind, more=more: build(
            {"hidden_features": (8, 32)}, {"kind": kind, **more}, {"kind": "full", "hidden_features": 16}, channels=3
        )
    )
    for kind, more in {
        "set": {},
        "conv": {"widths": (8, 16)},
        "paper_conv": {"size": (8, 8)},
        "tokens": {"token_size": (4, 4), "token_features": 8, "widths": (8, 16), "radius": 1.0},
    }.items()
}


@pytest.mark.parametrize("name", MODELS)
def test_own_generators_draw_what_the_global_one_draws(name):
    """Weights of a seed are those of former versions."""
    before = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(5)
        wanted = MODELS[name]()
    with seeded(5):
        found = MODELS[name]()
    assert equal(found, wanted)
    assert torch.equal(before, torch.get_rng_state())
    if name in BASELINES:
        assert equal_width(name, 2, 3, samples=(64, 64)) >= 1
    assert torch.equal(before, torch.get_rng_state())


# ---- without gradients

TASKS = {
    "image": lambda: Image(PIXELS.clone()),
    "poisson": lambda: Poisson(PIXELS.clone()),
    "sdf": lambda: SDF((torch.eye(3).repeat(9, 1), torch.eye(3).repeat(9, 1))),
    "helmholtz": lambda: open_task("helmholtz"),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", TASKS)
def test_a_fit_takes_its_own_gradients(mode, name):
    settings = {"steps": 2, "network": {"kind": "siren", "hidden_features": 8}}
    wanted = fit(TASKS[name](), **settings)
    with mode():
        assert equal(fit(TASKS[name](), **settings).field, wanted.field)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_training_takes_its_own_gradients(mode):
    pixels = torch.arange(9 * 36 * 3).view(9, 6, 6, 3).remainder(256).to(torch.uint8)

    def once():
        model = HyperSiren(
            None, None, Siren(2, 3, (8, 16), generator=torch.Generator().manual_seed(0)), LastLayerSolve(16)
        )
        with mode():
            task = Completion(pixels, batch_size=4)
            model.set_prior(task.prior_signals(copies=1, finer=2))
            return train(model, task, steps=3)

    trained = once()
    assert trained.finished
    assert trained.seconds > 0
    mode = torch.enable_grad
    assert trained.metrics == once().metrics


def test_weights_of_inference_mode_are_refused():
    with torch.inference_mode():
        field = Siren(2, 3, 8)
    with pytest.raises(UserError, match=r"made in torch\.inference_mode"):
        fit(Image(PIXELS), field, steps=2)
