"""Waves through tasks and the command: networks of other kinds, truths, curricula, and what a person gets wrong."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from hypersiren import CoordinateMLP, Siren
from hypersiren.cli.main import main
from hypersiren.fields.jets import Jet
from hypersiren.fields.operators import diagonal_jet
from hypersiren.plotting import draw_rows, figure_pixels
from hypersiren.studies.benchmarks.derivatives import DoubleBackward
from hypersiren.tasks.registry import open_task
from hypersiren.tasks.waves.equation import VIEW, Equation, square_picture
from hypersiren.tasks.waves.settings import ResidualLoss, WaveLoss
from hypersiren.tasks.waves.wave import FRAMES, Wave
from hypersiren.waves.media import MEDIA, open_medium
from tests.lines import refusal


def inversion(**loss):
    return open_task(
        "inversion",
        {
            "signal": {"wavenumber": 5.0, "cells": 64},
            "loss": {"waves": "network", **loss},
            "training": {"points": 50},
        },
    )


def helmholtz(medium, **loss):
    signal = {"path": medium, "wavenumber": 8.0, "variance": 4e-3, "cells": 128}
    return open_task("helmholtz", {"signal": signal, "loss": loss})


@pytest.fixture(scope="module")
def measured():
    return inversion(pretrain=0.5, variation=0.0)


@pytest.mark.parametrize("activation", ["tanh", "sine"])
def test_jets_of_other_networks_are_those_of_autograd(activation):
    x = torch.rand(7, 2, dtype=torch.float64)
    network = (CoordinateMLP(2, 4, 8, activation="tanh") if activation == "tanh" else Siren(2, 4, 8)).double()
    found, wanted = diagonal_jet(network, x), DoubleBackward(network).jet(x, second="diagonal")
    for name in ("value", "gradient", "hessian_diagonal"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name))
    weights = list(network.parameters())[:-1]
    both = (torch.autograd.grad(jet.hessian_diagonal.square().sum(), weights) for jet in (found, wanted))
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("medium", ["uniform", "circle"])
def test_the_true_wavefield_has_no_error(medium):
    """Exact and numerical truth meet; a field that is the truth is measured as such, near field and all."""
    task = helmholtz(medium, near_field=0.0)

    asked = []

    def truth(x):
        done = sum(asked) % (VIEW * VIEW)
        asked.append(len(x))
        return task.truth[done : done + len(x)]

    assert task.evaluate(truth) == {"error": 0.0, "mse": 0.0}
    assert task.evaluate(lambda x: 0 * x)["error"] == pytest.approx(1.0)
    forced = helmholtz("uniform")
    forced.medium = lambda x: torch.ones_like(x[:, :1])  # not the one by name: finite differences
    if medium == "uniform":
        assert (forced.truth - task.truth).norm() < 0.02 * task.truth.norm()


def test_the_source_rows_are_told_apart_and_weighted():
    equation = Equation(5.0, torch.tensor([[0.2, 0.1]]), variance=1e-3, loss=ResidualLoss(source_points=500))
    x = equation.draw(700, torch.Generator().manual_seed(0))
    near = (x - equation.sources).norm(dim=-1) < 6.1 * math.sqrt(1e-3)
    assert near.sum() >= 500
    zero = torch.zeros(700, 2)
    still = Jet(zero, zero[..., None].expand(-1, -1, 2), hessian_diagonal=zero[..., None].expand(-1, -1, 2))
    terms = equation.terms(x, still, torch.ones(700, 1))
    assert terms["source"] > 1e6 * terms["residual"]  # of no wave at all, the residual is the source
    heavier = Equation(5.0, equation.sources, variance=1e-3, loss=ResidualLoss(source_weight=3.0)).terms(
        x, still, torch.ones(700, 1)
    )
    torch.testing.assert_close(heavier["source"], 3 * terms["source"])


def test_a_wave_starts_as_its_pulse_and_grows_in_time():
    task = Wave(loss=WaveLoss(growth=0.5), variance=0.02, cells=64, points=200)
    found = task.solve(Siren(3, 1, 8))
    torch.testing.assert_close(found[0], task.truth[0], atol=0.02, rtol=0)
    assert len(found) == FRAMES + 1
    latest = [task.sample(torch.Generator().manual_seed(0), p).x[:, 0].max().item() for p in (0.0, 0.25, 0.5, 1.0)]
    assert latest[0] < 0.04 < latest[1] < 0.22 < latest[2] == latest[3] < 0.4


def test_the_start_can_be_asked_for():
    task = Wave(loss=WaveLoss(exact_start=False, norm="l1", start_points=30), variance=0.02, cells=64, points=20)
    batch = task.sample(torch.Generator().manual_seed(0), 0.0)
    assert batch.start.shape == (30, 3)
    assert not batch.start[:, 0].any()
    right = task.loss(lambda x: task.pulse(x[:, 1:]), batch)  # the pulse, for ever: right at the start only
    assert right["values"] < 1e-6
    assert right["rates"] < 1e-6
    assert right["residual"] > 1e-3


def test_inversion_first_solves_in_the_background(measured):
    field = Siren(2, 11, 8)
    early, late = (
        measured.loss(field, measured.sample(torch.Generator().manual_seed(0), progress)) for progress in (0.0, 0.5)
    )
    assert early["medium"] > 0 == early["data"]
    assert late["data"] > 0 == late["medium"]


def test_inversion_prefers_media_of_small_variation(measured):
    """Of m = 1 + s (x_0 + x_1) it is |s| sqrt(2) in the open square; of a constant medium, and at first, nothing."""
    generator = torch.Generator().manual_seed(0)
    late, early = (measured.sample(generator, progress) for progress in (1.0, 0.0))
    share = (late.x.abs().amax(-1) <= 0.5).float().mean().item()
    prior = inversion(variation=0.2)

    def sloped(x, slope=0.3):
        return torch.cat([torch.zeros(len(x), 10), slope * x.sum(-1, keepdim=True)], dim=-1)

    assert "variation" not in measured.loss(sloped, late)
    assert prior.loss(sloped, early)["variation"] == 0
    assert prior.loss(sloped, late)["variation"].item() == pytest.approx(0.2 * 0.3 * math.sqrt(2) * share, rel=0.01)
    assert prior.loss(lambda x: 0 * sloped(x) - 0.4, late)["variation"] == pytest.approx(0, abs=1e-8)


def test_inversion_measures_the_medium(measured):
    def right(x):
        return torch.cat([torch.zeros(len(x), 10), MEDIA["circle"](x) - 1], dim=-1)

    metrics = measured.evaluate(right)
    assert metrics["velocity_mse"] == 0
    assert metrics["correlation"] == pytest.approx(1)
    guess = measured.evaluate(lambda x: torch.zeros(len(x), 11))
    assert guess["velocity_mse"] == pytest.approx(guess["homogeneous_mse"])


@pytest.mark.painted
def test_the_square_is_drawn_with_its_first_axis_down():
    values = torch.zeros(VIEW, VIEW)
    values[: VIEW // 4, VIEW // 2 :] = 1.0  # x_0 low, x_1 high
    figure = draw_rows([[square_picture("A wave", values.flatten(), 0.5, unit="u", limits=(-1.0, 1.0), colors="bwr")]])
    axes, bar = figure.subfigs[0].axes
    assert (axes.get_title(), bar.get_ylabel(), bar.get_ylim()) == ("A wave", "u", (-1, 1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$x_1$", "$x_0$")
    pixels = figure_pixels(figure)
    for place, wanted in [((0.3, -0.4), [255, 0, 0]), ((0.3, 0.1), [255] * 3), ((-0.3, -0.4), [255] * 3)]:
        column, from_below = axes.transData.transform(place).round().astype(int)
        assert pixels[len(pixels) - 1 - from_below, column].tolist() == pytest.approx(wanted, abs=2)


def test_media_of_files(tmp_path):
    np.save(tmp_path / "c.npy", np.full((4, 4), 2.0))
    Image.fromarray(np.full((4, 4), 255, np.uint8)).save(tmp_path / "c.png")
    for name in ("c.npy", "c.png"):
        assert open_medium(tmp_path / name)(torch.zeros(1, 2)).item() == pytest.approx(0.25)


TINY = ["--training.steps", "2", "--training.points", "20", "--network.hidden_features", "8", "--device", "cpu"]


def run(capsys, tmp_path, *words) -> tuple[int, str, str]:
    code = 0
    try:
        main([*map(str, words), "--out", str(tmp_path / "run")])
    except SystemExit as stop:
        code = stop.code or 0
    out = capsys.readouterr()
    return code, out.out, out.err


def test_commands(tmp_path, capsys):
    small = ["--signal.wavenumber", "5", "--signal.cells", "64", *TINY]
    code, out, _ = run(capsys, tmp_path / "h", "fit", "helmholtz", "circle", *small)
    assert code == 0
    assert out.startswith("error")
    assert (tmp_path / "h/run/summary.png").exists()
    pulse = ["--signal.variance", "0.02", "--signal.cells", "64"]
    code, _, _ = run(capsys, tmp_path / "w", "fit", "wave", *pulse, *TINY)
    assert code == 0
    assert next((tmp_path / "w/run").glob("movie.*")).stat().st_size > 500
    positions = {"source": np.zeros((2, 2)) - 0.2, "receivers": np.full((3, 2), 0.3), "rec_val": np.ones((3, 2)) + 1j}
    savemat(tmp_path / "data.mat", positions)
    joint = ["--loss.waves", "network"]
    code, out, _ = run(capsys, tmp_path / "i", "fit", "inversion", tmp_path / "data.mat", *small, *joint)
    assert code == 0
    assert out.startswith("data_error")
    assert (tmp_path / "i/run/summary.png").exists()
    code, _, _ = run(capsys, tmp_path / "r", "fit", "inversion", "circle", *small, *joint)
    assert code == 0
    with pytest.raises(SystemExit):  # two channels are no picture
        main(["render", str(tmp_path / "h/run")])
    assert "expected a fitted image" in capsys.readouterr().err


def test_compare(tmp_path, capsys):
    words = ["--signal.wavenumber", "5", "--signal.cells", "64", *TINY]
    main(["compare", "helmholtz", "--fields", "siren,tanh,relu,rbf", "--out", str(tmp_path), *words])
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["field", "error"]
    assert (tmp_path / "comparison.png").exists()


def test_a_pinn_has_its_own_size_and_optimizer(tmp_path, capsys):
    words = ["--signal.wavenumber", "5", "--signal.cells", "64", *TINY]
    main(["compare", "helmholtz", "--fields", "siren,pinn", "--out", str(tmp_path), *words])
    header, _, pinn = (line.split() for line in capsys.readouterr().out.splitlines()[:3])
    assert int(pinn[header.index("weights")]) == 2 * 20 + 20 + 7 * (20 * 20 + 20) + 20 * 2 + 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["helmholtz", "nan.npy"], "nan.npy: expected finite velocities above 0, got nan at row 1, column 2"),
        (["helmholtz", "square", "--signal.source=[0.6, 0]"], "expected sources in the square between -0.5 and 0.5"),
        (["helmholtz", "--signal.source=[1.5, 0]"], "expected sources in the square"),
        (["helmholtz", "--signal.wavenumber", "500"], "wavenumber 500 has a shortest wavelength of 0.0126"),
        (["helmholtz", "missing.npy"], "missing.npy: no such file"),
        (["helmholtz", "cube.npy"], "expected velocities (H, W), got float64 of shape (2, 2, 2)"),
        (["helmholtz", "--loss.source_points", "5000"], "expected loss.source_points below training.points"),
        (["wave", "nan.npy"], "expected finite velocities above 0"),
        (["wave", "--signal.source=[0, 1.5]"], "expected the source inside [-1, 1]²"),
        (["wave", "--signal.variance", "1e-6"], "narrower than a grid of 768 x 768 cells can resolve"),
        (["inversion", "lacking.mat"], "expected the arrays source, receivers, rec_val, got source"),
        (["inversion", "on.mat"], "expected receivers away from the sources"),
        (["inversion", "circle", "--signal.wavenumber", "200"], "cannot resolve"),
        (["inversion", "missing.mat"], "missing.mat: no such file"),
    ],
)
def test_errors_are_one_line(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    velocity = np.ones((3, 4))
    velocity[1, 2] = np.nan
    np.save("nan.npy", velocity)
    np.save("cube.npy", np.ones((2, 2, 2)))
    point = np.zeros((1, 2))
    savemat("lacking.mat", {"source": point})
    savemat("on.mat", {"source": point, "receivers": point, "rec_val": np.ones((1, 1)) + 0j})
    code, _, err = run(capsys, tmp_path, "fit", *words, *(TINY if "5000" not in words else []))
    assert code == 2
    assert said in err
    assert refusal(err)
