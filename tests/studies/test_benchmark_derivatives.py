"""The benchmarks of jets and of steps: both ways compute the same, and the tables hold what was measured."""

import json
from typing import get_args

import pytest
import torch

from hypersiren import Siren
from hypersiren.cli.main import main
from hypersiren.studies.benchmarks.derivatives import CASES, DoubleBackward, TaskName, jets_report, steps_report
from hypersiren.tasks.registry import open_task

SMALL = {
    "sdf": {"count": 1000},
    "helmholtz": {"wavenumber": 5.0, "cells": 64},
    "wave": {"variance": 0.02, "cells": 64},
    "inversion": {"wavenumber": 5.0, "cells": 64},
}


@pytest.mark.parametrize("name", get_args(TaskName))
def test_both_ways_find_the_same_loss_and_gradients(name):
    torch.manual_seed(0)
    joint = {"loss": {"waves": "network"}} if name == "inversion" else {}
    task = open_task(name, {"training": {"points": 40}, "signal": SMALL[name], **joint})
    siren = Siren(task.in_features, task.out_features, 8, 1)
    batch = task.sample(torch.Generator().manual_seed(0), 0.5)
    ways = [task.loss(field, batch) for field in (siren, DoubleBackward(siren))]
    assert ways[0].keys() == ways[1].keys()
    for key, term in ways[0].items():
        torch.testing.assert_close(term, ways[1][key], rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(sum(way.values()), list(siren.parameters())[:-1]) for way in ways]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() <= 1e-3 * b.norm()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_ways_find_the_same_derivatives(case):
    torch.manual_seed(0)
    field = Siren(2, case.out_features, 8, 2).double()
    x = torch.rand(5, 2, dtype=torch.float64)
    found = [case.quantity(way, x) for way in (field, DoubleBackward(field))]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_double_backward_takes_more_memory():
    report = steps_report("helmholtz", 50, 8, 1, rounds=1, compiled=False)
    memory = {name: row["peak memory"] for name, row in report.tables[0].rows.items()}
    assert memory["helmholtz: double backward"] > memory["helmholtz: jets"] > 0


def test_the_table_of_jets_holds_speed_ratios_and_memory():
    rows = jets_report(64, 8, 1, rounds=2, compiled=False).tables[0].rows
    assert len(rows) == 2 * len(CASES)
    for case in CASES:
        usual, jets = rows[f"{case.name}: double backward"], rows[f"{case.name}: jets"]
        assert usual["ratio"] == pytest.approx(1)
        assert jets["ratio"] == pytest.approx(jets["speed"] / usual["speed"])
        assert usual["peak memory"] >= 0


def test_the_command_prints_a_table_and_writes_it(capsys, tmp_path):
    small = ["--points", "40", "--width", "8", "--rounds", "1", "--no-compiled"]
    main(["benchmark", "steps", "sdf", *small, "--device", "cpu", "--out", str(tmp_path / "steps.json")])
    shown = capsys.readouterr().out
    assert "Training steps, 40 points, 3 hidden layers of 8" in shown
    written = json.loads((tmp_path / "steps.json").read_text())
    assert list(written["tables"][0]["rows"]) == ["sdf: double backward", "sdf: jets"]
