"""The benchmark of steps: both ways find the same loss and gradients, in every task that it knows."""

from typing import get_args

import pytest
import torch

from hypersiren import Siren
from hypersiren.cli.main import main
from hypersiren.studies.benchmarks.steps import DoubleBackward, TaskName, step_times
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


def test_double_backward_takes_more_memory():
    times = step_times("helmholtz", points=50, hidden_features=8, hidden_layers=1, rounds=1, compiled=False)
    assert times.keys() == {"double backward", "jets"}
    assert times["double backward"].peak > times["jets"].peak > 0


def test_the_command_prints_a_table(capsys):
    small = ["--points", "40", "--width", "8", "--rounds", "1", "--no-compiled"]
    main(["benchmark", "steps", "sdf", *small, "--device", "cpu"])
    about, *rows = capsys.readouterr().out.splitlines()
    assert about == "sdf: 40 points, three hidden layers of 8, median of 1 rounds, cpu"
    assert [row.split("  ")[0] for row in rows] == ["double backward", "jets"]
