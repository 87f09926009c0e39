"""CUDA graphs as a setting: what is accepted and saved, why they are not used, and that nothing kept is overwritten."""

import logging
from functools import partial

import pytest
import torch

from hypersiren import Image, Siren, fit
from hypersiren.settings.flags import load_settings
from hypersiren.settings.section import ConfigError
from hypersiren.settings.yaml import from_yaml
from hypersiren.tasks.settings import FitSettings, Optimisation
from hypersiren.training import compiled
from hypersiren.training.compiled import compile_forward, reason_against_graphs
from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.step import TrainingStep


def objective():
    siren = Siren(2, 1, 8, 1, generator=torch.Generator().manual_seed(0))
    return FieldObjective(siren, Image(torch.linspace(-1, 1, 64).view(8, 8, 1), points=16))


def plain_compile(monkeypatch):
    """The compiler does nothing here but say how it was called: tests/training/compiled_training.py runs it."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda module, **how: calls.append(how) or module)
    return calls


def on_cuda(monkeypatch):
    """As if the model were there."""
    reason = reason_against_graphs
    monkeypatch.setattr(compiled, "reason_against_graphs", lambda *given: reason(*given, device="cuda"))


@pytest.mark.parametrize(("text", "value"), [("graphs", "graphs"), ("true", True), ("false", False)])
def test_the_setting_is_read_from_flags(text, value):
    assert load_settings(FitSettings, flags=["--training.compile", text]).training.compile == value


def test_another_word_is_refused():
    with pytest.raises(ConfigError, match=r"training\.compile: expected true, false or graphs, got 'graph'"):
        load_settings(FitSettings, flags=["--training.compile", "graph"])


def test_on_a_cpu_one_line_says_that_there_are_none_and_the_setting_is_saved(tmp_path, monkeypatch, caplog):
    calls = plain_compile(monkeypatch)
    with caplog.at_level(logging.INFO, "hypersiren"):
        fit(Image(torch.zeros(8, 8, 1)), Siren(2, 1, 8), steps=2, compile="graphs", run_dir=tmp_path, progress=False)
    assert calls == [{}]
    lines = [line for line in caplog.messages if "graphs" in line]
    assert lines == ["no CUDA graphs, compiled without them: they need a CUDA device, got cpu"]
    assert from_yaml((tmp_path / "config.yaml").read_text())["training"]["compile"] == "graphs"
    again = fit(Image(torch.zeros(8, 8, 1)), Siren(2, 1, 8), steps=3, compile=False, run_dir=tmp_path, progress=False)
    assert again.finished  # a run may go on without them


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({}, ""),
        ({"optimizer": "lbfgs"}, "line search of lbfgs"),
        ({"accumulate": 2}, "one backward pass in a step, got 2"),
        ({"parts": 4}, "one backward pass in a step, got 4"),
    ],
)
def test_what_speaks_against_graphs_on_a_gpu(training, reason):
    settings, made = Optimisation(**training), objective()
    found = reason_against_graphs(made, settings, lambda step: torch.zeros(4), device="cuda")
    assert reason in found
    assert bool(reason) == bool(found)


def test_batches_of_varying_shapes_and_several_processes_speak_against_graphs(monkeypatch):
    ask = partial(reason_against_graphs, objective(), Optimisation(steps=3), device="cuda")
    assert ask(lambda step: {"x": torch.zeros(4 + step)}) == "the shapes of the batches vary"
    monkeypatch.setattr(compiled, "processes", lambda: 2)
    assert "one process, got 2" in ask(lambda step: torch.zeros(4))


def test_graphs_begin_every_step_anew(monkeypatch):
    calls, marks = plain_compile(monkeypatch), []
    on_cuda(monkeypatch)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marks.append(len(marks)))
    step = TrainingStep(objective(), Optimisation(steps=3, compile="graphs"))
    assert calls == [{"mode": "reduce-overhead"}]
    for i in range(3):
        step(i, Monitor(None))
    assert marks == [0, 1, 2]


def test_true_compiles_without_graphs(monkeypatch):
    calls = plain_compile(monkeypatch)
    made = objective()
    assert compile_forward(made, Optimisation(compile=True), lambda step: None) == (made, False)
    assert calls == [{}]


def test_the_monitor_keeps_copies():
    monitor, loss, norm = Monitor(None), torch.tensor(1.0), torch.tensor(0.5)
    for value in (2.0, 3.0, 4.0):
        monitor.record({"loss": loss.fill_(value), "half": norm.fill_(value / 2)})
    monitor.record({"norm": norm})
    loss.fill_(-1)
    found = {name: series.tolist() for name, series in monitor.collect().items()}
    assert found == {"loss": [2, 3, 4], "half": [1, 1.5, 2], "norm": [2]}
    assert monitor.collect() == {}


def test_losses_in_buffers_that_every_step_overwrites_are_logged_as_they_were():
    """As a graph returns them: each time in the same place."""
    plain, static = (TrainingStep(objective(), Optimisation(steps=4)) for _ in range(2))
    forward, places = static.forward, {}

    def replay(batch):
        terms = forward(batch)
        for name, term in terms.items():
            term.data = places.setdefault(name, torch.empty(())).copy_(term.detach())
        return terms

    static.forward = replay
    courses = []
    for step in (plain, static):
        monitor = Monitor(None)
        for i in range(4):
            step(i, monitor)
        courses.append(monitor.collect())
    assert len(set(courses[0]["loss/mse"].tolist())) == 4
    for name, series in courses[0].items():
        assert series.tolist() == courses[1][name].tolist()
