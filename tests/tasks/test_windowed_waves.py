"""Waves by least squares over windows: errors fall, solves are interrupted and resumed, and what is refused."""

import pytest
import torch

from hypersiren import fit, load
from hypersiren.errors import UserError
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.settings import Network
from hypersiren.tasks.registry import open_task
from hypersiren.tasks.waves import wave as wave_task
from hypersiren.tasks.waves import windows
from hypersiren.tasks.waves.windows import smoothed, square_windows
from hypersiren.training import solves
from hypersiren.training.fit import resolve
from hypersiren.waves.media import square, uniform
from hypersiren.waves.windowed_wave import WaveSystem


def helmholtz(path="uniform", loss=None, **signal):
    signal = {"path": path, "wavenumber": 8.0, "variance": 1e-3, "cells": 128, **signal}
    return open_task("helmholtz", {"signal": signal, "loss": loss or {}})


def test_the_error_falls_as_windows_are_added(tmp_path):
    task = helmholtz()
    errors = [fit(task, network={"numbers": n}, run_dir=tmp_path / str(n)).metrics["error"] for n in (0.1, 0.2, 0.4)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 3e-3
    again = fit(task, network={"numbers": 0.4}, run_dir=tmp_path / "0.4")  # from its checkpoint
    assert again.metrics["error"] == errors[2]
    field = load(tmp_path / "0.4")
    assert isinstance(field, CompactWindows)
    assert task.evaluate(field)["error"] == errors[2]


def test_a_jump_of_the_medium():
    task = helmholtz("square", source=(0.1, -0.1), cells=256)
    assert fit(task, network={"numbers": 0.4}).metrics["error"] < 0.03


def test_what_is_solved_may_be_trained():
    task = helmholtz()
    solved = fit(task, network={"numbers": 0.1})
    trained = fit(task, network={"numbers": 0.1}, steps=3, lr=1e-5, optimizer="adam")
    assert trained.history[-1]["loss/total"] > 0
    assert trained.metrics["error"] == pytest.approx(solved.metrics["error"], rel=0.2)


def test_which_windows():
    def count(shortest=1.0, **network):
        return square_windows(Network(kind="windowed", **{"numbers": None, **network}), shortest, 0.5, 128, "cpu")

    assert count().windows.count == (14, 14)
    assert count(shortest=0.1).windows.count == (22, 22)
    assert count(numbers=0.2).windows.count == (6, 6)
    wide = count(window=64, numbers=0.2)
    assert max(wide.windows.width) <= 0.5
    assert 0.18 < wide.numbers / (2 * 128 * 128) < 0.22
    assert count(overlap=0.2).windows.overlap == (0.2, 0.2)
    assert smoothed(uniform, torch.rand(3, 2), 0.1).tolist() == [[1.0]] * 3
    assert smoothed(square, torch.tensor([[0.3, 0.3]]), 0.1).item() == pytest.approx(1 - 0.75 / 4)


def test_a_solve_says_what_it_costs_or_is_refused(monkeypatch, caplog):
    def field(shortest):
        return square_windows(Network(kind="windowed", numbers=None), shortest, 0.5, 128, "cpu")

    with caplog.at_level("INFO"):
        monkeypatch.setattr(windows, "free_memory", lambda device: 8 * 2**30)
        windows.tell_cost(field(0.3))
        assert not caplog.records
        windows.tell_cost(field(0.0785))
        assert "28 x 28 windows need some 5.1 GiB of memory, and some 1.3 minutes" in caplog.text
    with pytest.raises(UserError, match=r"^56 x 56 windows need some 24.4 GiB of memory, and 8.0 GiB are free: expec"):
        windows.tell_cost(field(0.0393))
    monkeypatch.setattr(windows, "free_memory", lambda device: None)
    windows.tell_cost(field(0.0393))


def test_a_width_asks_for_one_network():
    task = helmholtz()
    assert resolve(task.defaults, task).network.kind == "windowed"
    assert resolve(task.defaults, task).training.steps == 0
    one = task.defaults.replace(network=task.defaults.network.replace(hidden_features=8))
    assert resolve(one, task).network.kind == "siren"
    assert resolve(one, task).training.steps == 2000


@pytest.mark.parametrize(
    ("loss", "network", "said"),
    [
        ({"norm": "l1"}, {}, "loss.norm: expected l2 for windows"),
        ({"near_field": 0.0}, {}, "loss.near_field: expected above 0 for windows"),
        ({}, {"smoothness": 1.0}, "network.smoothness: expected none"),
        ({}, {"kind": "windowed", "hidden_features": 8}, "network.hidden_features: expected none with kind windowed"),
        ({}, {"kind": "siren", "numbers": 0.3}, "network.numbers: expected none with kind siren"),
    ],
)
def test_refused(loss, network, said):
    with pytest.raises(UserError, match=said) as caught:
        fit(helmholtz(loss=loss), network=network)
    assert "\n" not in str(caught.value)


def test_an_interrupted_solve_starts_again(monkeypatch, tmp_path):
    task, seen = helmholtz(), []
    original = solves.KeptSolve.save

    def save(self, field, rows):
        seen.append(rows)
        if len(seen) == 5:
            self.stop.set()  # as Ctrl-C does
        original(self, field, rows)

    monkeypatch.setattr(solves.KeptSolve, "save", save)
    with pytest.raises(KeyboardInterrupt):
        fit(task, network={"numbers": 0.1}, run_dir=tmp_path)
    assert len(seen) == 5
    assert not (tmp_path / "last.pt").exists()
    again = fit(task, network={"numbers": 0.1}, run_dir=tmp_path)
    assert again.metrics == fit(task, network={"numbers": 0.1}).metrics
    assert not (tmp_path / "solve.pt").exists()


@pytest.fixture
def small_frames(monkeypatch):
    monkeypatch.setattr(wave_task, "VIEW", 24)


def wave(path="uniform", loss=None, **signal):
    signal = {"path": path, "variance": 0.01, "duration": 0.3, "cells": 96, **signal}
    return open_task("wave", {"signal": signal, "loss": loss or {}, "training": {"points": 200}})


def test_a_wave_is_solved(small_frames):
    task = wave()
    assert resolve(task.defaults, task).network.kind == "windowed"
    assert fit(task).metrics["error"] < 2e-3


def test_a_solved_wave_may_be_trained(small_frames):
    task = wave()
    solved = fit(task, network={"numbers": 0.06})
    trained = fit(task, network={"numbers": 0.06}, steps=3, lr=1e-6, optimizer="adam")
    assert {"loss/residual", "loss/values", "loss/rates"} <= set(trained.history[-1])
    assert trained.metrics["error"] == pytest.approx(solved.metrics["error"], rel=0.2)


def test_other_losses_and_widths_ask_for_one_network():
    task = wave(loss={"norm": "l1"})
    assert resolve(task.defaults, task).network.kind == "siren"
    with pytest.raises(UserError, match="wave has no closed form for windows here"):
        fit(task, network="windowed")
    assert not wave(duration=90.0).windowed  # too many windows
    task = wave()
    one = task.defaults.replace(network=task.defaults.network.replace(hidden_features=8))
    assert resolve(one, task).network.kind == "siren"
    with pytest.raises(UserError, match=r"network.smoothness: expected none"):
        fit(task, network={"smoothness": 1.0})


def test_a_wave_that_is_interrupted_goes_on_with_its_slab(small_frames, monkeypatch, tmp_path):
    """The slabs that are done are not solved again, and the numbers are the same to the bit."""
    task, stopped, advanced = wave(duration=0.9), [], []
    network = {"numbers": 0.06}
    original, advance = solves.KeptSolve.save, WaveSystem.advance

    def save(self, field, rows):
        if rows[1] == 1 and not stopped:
            stopped.append(rows)
            self.stop.set()  # as Ctrl-C does, after the first slab
        original(self, field, rows)

    def count(self, *args):
        advanced.append(args)
        return advance(self, *args)

    monkeypatch.setattr(solves.KeptSolve, "save", save)
    with pytest.raises(KeyboardInterrupt):
        fit(task, network=network, run_dir=tmp_path)
    monkeypatch.setattr(WaveSystem, "advance", count)
    again = fit(task, network=network, run_dir=tmp_path)
    assert len(advanced) == again.field.windows.count[0] - 1 > 0
    whole = fit(task, network=network)
    assert torch.equal(again.field.coefficients, whole.field.coefficients)
    assert again.metrics == whole.metrics
    field = load(tmp_path)
    assert isinstance(field, CompactWindows)
    assert task.evaluate(field)["error"] == whole.metrics["error"]
