"""Inversions whose waves are solved for: gradient, stages, noise, resuming, and what a person gets wrong."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from hypersiren import Inversion, Siren, UserError, fit, open_task
from hypersiren.cli.main import main
from hypersiren.fields.pixel_grid import PixelGrid
from hypersiren.tasks.waves.inversion import cells_for, total_variation
from hypersiren.tasks.waves.settings import InversionLoss
from hypersiren.training.fit import resolve
from hypersiren.waves.measurements import line_and_sides, make_inversion
from hypersiren.waves.media import MEDIA, VelocityImage
from tests.lines import refusal

SMALL = {"signal": {"path": "square", "wavenumber": (2.0, 4.0), "cells": 96, "sources": 2, "receivers": 8}}
SIREN = {"hidden_features": 16, "hidden_layers": 1}


def opened(noise=0.0, **loss):
    return open_task("inversion", {"signal": {**SMALL["signal"], "noise": noise}, "loss": {"cells": 32, **loss}})


@pytest.fixture(scope="module")
def task():
    return opened()


def constant(value):
    return lambda x: torch.full_like(x[:, :1], value)


def test_the_true_medium_meets_the_data(task):
    """The grid's own error, which is subtracted for the start medium, is a few per cent here, at 32 cells."""
    true = task.frequencies[-1]
    m = MEDIA["square"](true.x.double()).view(32, 32)
    assert true.misses(m).abs().square().mean().sqrt() < 0.05
    assert true.misses(true.start).abs().square().mean().sqrt() > 0.3


def test_the_start_medium_has_no_error_of_the_grid():
    data = make_inversion(MEDIA["uniform"], *line_and_sides(2, 8), wavenumber=6.0, n=320)
    task = Inversion(data, loss=InversionLoss(cells=40))
    assert task.evaluate(constant(0.0))["data_error"] < 0.01


def test_velocities_are_bounded_and_what_is_known_stays(task):
    x = torch.tensor([[0.0, 0.0], [0.7, 0.0]])
    for value, c in ((0.0, 1.0), (-50.0, 0.7), (50.0, 3.0)):
        assert task.medium(constant(value), x).rsqrt()[:, 0].tolist() == pytest.approx([c, 1.0])
    cells = task.on_cells(constant(1.0), task.frequencies[0])
    assert cells[0, 0] == 1
    assert cells[16, 16] == pytest.approx(task.medium(constant(1.0), x)[0].item())
    assert (cells == 1).float().mean() == pytest.approx(0.75)


def test_steps_and_prior_follow_the_number_of_frequencies(task):
    assert resolve(task.defaults, task).training.steps == 500
    given = task.defaults.replace(training=task.defaults.training.replace(steps=20))
    assert resolve(given, task).training.steps == 20
    assert InversionLoss().prior(7) == pytest.approx(5e-4)
    assert InversionLoss().prior(2) == pytest.approx(1.75e-3)
    assert InversionLoss().prior(1) == pytest.approx(1.4e-2)
    assert InversionLoss(waves="network").prior(1) == 5e-4
    assert InversionLoss(variation=0.0).prior(1) == 0


def test_the_loss_has_the_gradient_of_finite_differences(task):
    pixels = PixelGrid(6, 1, extent=0.5).double()
    batch = task.sample(torch.Generator())
    double = opened()
    for frequency in double.frequencies:
        object.__setattr__(frequency, "x", frequency.x.double())

    def loss():
        return sum(double.loss(pixels, batch).values())

    loss().backward()
    for i, j in ((2, 3), (5, 0)):
        values = pixels.values.data
        ends = []
        for step in (1e-5, -2e-5):
            values[0, i, j] += step
            ends.append(loss().item())
        values[0, i, j] += 1e-5
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(pixels.values.grad[0, i, j].item(), rel=1e-5)


def test_frequencies_join_when_the_one_before_is_met_or_its_share_is_over(task):
    task.set_state({})
    assert task.sample(torch.Generator()).count == 1
    task.misfits[0] = 0.5
    assert not task.advance(10, 100)
    assert task.advance(60, 100)  # all but the last have 60 %
    assert task.sample(torch.Generator()).count == 2
    assert (task.advance(99, 100), task.finished) == (False, False)
    task.misfits[:] = [1e-4, 1e-4]
    assert (task.advance(99, 100), task.finished) == (True, True)
    task.set_state({})
    task.misfits[0] = 1e-4
    assert task.advance(1, 100)


def test_data_are_not_met_below_their_noise():
    noisy = opened(noise=0.2)
    assert noisy.target == pytest.approx(math.hypot(0.2, 0.003))
    result = fit(noisy, network=SIREN, steps=200, lr=1e-2, warmup=0)
    assert result.finished
    assert result.history[-1]["step"] < 200
    assert 0.1 < result.metrics["data_error"] < 0.21


def test_a_medium_is_found(task):
    result = fit(task, network={**SIREN, "hidden_features": 32, "first_omega": 8.0}, steps=80, lr=5e-3)
    assert result.metrics["velocity_mse"] < 0.7 * result.metrics["start_mse"]
    assert result.metrics["correlation"] > 0.6
    again = fit(task, network={**SIREN, "hidden_features": 32, "first_omega": 8.0}, steps=80, lr=5e-3)
    assert again.metrics == result.metrics  # a task that was used begins anew


@pytest.mark.parametrize("stop", [7, 31])
def test_a_run_resumes_in_the_middle_of_a_frequency_bit_for_bit(task, tmp_path, stop):
    settings = {"network": SIREN, "steps": 40, "lr": 5e-3, "log_every": 1}
    whole = fit(task, run_dir=tmp_path / "whole", **settings)
    first = fit(task, run_dir=tmp_path / "parts", **settings, on_log=lambda step, values: step == stop)
    assert not first.finished
    anew = opened()  # as another process would
    second = fit(anew, run_dir=tmp_path / "parts", **settings)
    assert second.finished
    assert second.metrics == whole.metrics
    for a, b in zip(second.field.parameters(), whole.field.parameters(), strict=True):
        assert torch.equal(a, b)
    steps = [row["step"] for row in second.history if "validation/data_error" in row]
    assert steps == ([7, 24, 40] if stop == 7 else [24, 31, 40])


def test_what_is_finished_stays_so(tmp_path):
    settings = {"network": SIREN, "steps": 300, "lr": 1e-2, "run_dir": tmp_path, "warmup": 0}
    first = fit(opened(noise=0.3), **settings)
    again = fit(opened(noise=0.3), **settings)
    assert first.finished
    assert again.finished
    assert again.history == first.history
    assert first.history[-1]["step"] < 300


def test_a_start_medium_is_where_the_search_begins():
    start = VelocityImage(torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    data = make_inversion(start, *line_and_sides(2, 6), wavenumber=3.0, n=128)
    task = Inversion(data, truth=start, start=start, loss=InversionLoss(cells=40))
    metrics = task.evaluate(constant(0.0))
    assert metrics["data_error"] < 0.02
    assert metrics["velocity_mse"] == pytest.approx(0, abs=1e-10)
    outside = task.medium(constant(5.0), torch.tensor([[-0.8, 0.0], [0.8, 0.0]])).rsqrt()
    assert outside[:, 0].tolist() == pytest.approx([1.0, 2.0])
    with pytest.raises(
        UserError, match=r"start medium of velocities between loss.velocities, 0.7 and 1.5, got 1.004 to"
    ):
        Inversion(data, start=start, loss=InversionLoss(velocities=(0.7, 1.5)))


def test_grids_become_finer_with_the_frequency():
    counts = [cells_for(k, 2.0) for k in (2.0, 10.0, 20.0, 40.0)]
    assert counts[0] == counts[1] == 64
    assert all(a <= b for a, b in pairwise(counts))
    assert counts[-1] * 2 * math.pi / (40.0 * math.sqrt(2) * 2) >= 10
    with pytest.raises(UserError, match=r"wavenumber 500 needs 2252 x 2252 cells, more than 512 x 512"):
        cells_for(500.0, 2.0)


def test_the_variation_of_a_step_is_its_height_times_its_length():
    m = torch.ones(50, 50)
    m[10:40, 10:30] = 3.0  # 1.2 x 0.8 of [-1, 1]², so a perimeter of 4, and a mean over an area of 4
    assert total_variation(m).item() == pytest.approx(2.0, rel=0.03)


def test_a_field_of_ones_own_torch_code_uses_the_solver(task):
    """As anybody may: the loss of the task, under an optimiser of one's own."""
    siren = Siren(2, 1, 16, 1, first_omega=5.0)
    optimizer = torch.optim.Adam(siren.parameters(), 5e-3)
    losses = []
    for _ in range(15):
        loss = task.loss(siren, task.sample(torch.Generator()))["data"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


FLAGS = ["--signal.wavenumber", "2,4", "--signal.cells", "96", "--signal.sources", "2", "--signal.receivers", "8",
         "--hidden_features", "8", "--hidden_layers", "1", "--steps", "3", "--device", "cpu"]  # fmt: skip


def test_the_command_writes_pictures_and_the_fit_of_each_frequency(tmp_path, capsys):
    main(["fit", "inversion", "square", *FLAGS, "--out", str(tmp_path)])
    out = capsys.readouterr()
    assert out.out.startswith("velocity_mse") or "velocity_mse" in out.out
    assert "data_error_2" in out.out
    for name in ("summary.png", "velocity.png", "true_velocity.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "k = 4 joins" in out.err


def test_a_comparison_with_pixels(tmp_path, capsys):
    main(["compare", "inversion", "square", "--fields", "siren,pixels", *FLAGS, "--out", str(tmp_path)])
    header, _, pixels = (line.split() for line in capsys.readouterr().out.splitlines()[:3])
    assert header[0] == "field"
    assert int(pixels[header.index("weights")]) == 32 * 32
    with pytest.raises(SystemExit):
        main(["compare", "helmholtz", "--fields", "siren,pixels", "--out", str(tmp_path / "h")])
    assert "pixels: helmholtz has no pixel grid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--loss.cells", "20", "--signal.wavenumber", "20"], "cannot resolve: expected at least"),
        (["--signal.wavenumber", "90"], "a grid of 96 x 96 cells cannot resolve: expected at least 230 x 230"),
        (["--loss.cells", "96"], "expected other cells for the inversion than for its data"),
        (["--loss.norm", "l1"], "expected no norm where waves are solved, got l1"),
        (["--loss.waves", "network", "--loss.cells", "64"], "expected no cells where waves are network, got 64"),
        (["--loss.waves", "network"], "expected one frequency where waves are the network's, got 2"),
        (["--loss.velocities", "2,1"], "expected velocities in order, got 2 and 1"),
        (["--loss.velocities", "1.5,3"], "expected a start medium of velocities between"),
        (["--signal.wavenumber", "2,0"], "greater than 0"),
        (["--training.parts", "2"], "has no parts"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, words, said):
    kept = FLAGS[2:] if "--signal.wavenumber" in words else FLAGS
    with pytest.raises(SystemExit) as stop:
        main(["fit", "inversion", "square", *kept, *words, "--out", str(tmp_path / "run")])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert refusal(err)


def test_receivers_in_the_layer_are_refused():
    with pytest.raises(UserError, match=r"expected receivers in the square between -0.5 and 0.5, .* got one at"):
        Inversion(make_inversion(MEDIA["circle"], np.zeros((1, 2)), np.array([[0.3, 0.6]]), 5.0, n=64))
