"""What a new user meets in the first hour: files asked for at once, lists, words of others, numbers that make sense."""

import errno
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from hypersiren import (
    Completion,
    Context,
    FullHypernet,
    HyperSiren,
    Image,
    LastLayerSolve,
    SetEncoder,
    Siren,
    UserError,
    fit,
    grid,
    load,
    solve_raster,
    train,
)
from hypersiren.cli.list import task_of
from hypersiren.cli.main import main
from hypersiren.completion.registry import SETS
from hypersiren.signals.metrics import si_snr
from hypersiren.tasks.registry import TASKS
from hypersiren.tasks.summary import Measure, course
from hypersiren.training import checkpoints
from hypersiren.training.folders import TrainingError
from hypersiren.training.runs import released
from tests.lines import refusal

SMALL = ["--kind", "siren", "--hidden-features", "8", "--steps", "4", "--training.log-every", "2", "--device", "cpu"]


LISTING = "import sys; from hypersiren.cli.main import main; main(['list']); print('torch' in sys.modules)"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("a.png", 0), ("b.png", 1)):
        Picture.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 16, 3), np.uint8)).save(name)
    return tmp_path


def run(capsys, *words):
    try:
        main([*words])
        code = 0
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


MODELS = ", ".join(released())

MISSING = {
    "fit image a.pgn": 'a.pgn: no such file; did you mean "a.png"?',
    "fit inpaint a.png --mask b.pgn": 'b.pgn: no such file; did you mean "b.png"?',
    "fit image camra": 'camra: no such file; did you mean "camera"?',
    "fit image a.png --start runs/x": "runs/x: no such run folder or checkpoint",
    "compare image c.png": "c.png: no such file",
    "complete face a.png": f"face: no such run folder or checkpoint, nor a released model ({MODELS}); did you "
    'mean "faces"?',
    "complete faces c.jpg": "c.jpg: no such file",
    "render nothing": f"nothing: no such run folder or checkpoint, nor a released model ({MODELS})",
    "mesh faces --truth c.ply": "c.ply: no such file",
    "export faces c.png --html": "c.png: no such file",
    "train --data.kind folder --data.root pics": "pics: no such folder",
}  # fmt: skip


def test_missing_files_are_told_before_torch_is_loaded(here):
    code = (
        "import sys, shlex\nfrom hypersiren.cli.main import main\n"
        f"for line in {list(MISSING)!r}:\n"
        "    try: main(shlex.split(line))\n"
        "    except SystemExit as stop: print(stop.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 False"] * len(MISSING)
    lines = [line.removeprefix("hypersiren: ") for line in done.stderr.splitlines()]
    assert [line for line in lines if ": no such" in line] == list(MISSING.values())


def test_hyphens_and_underscores_are_alike(here, capsys):
    assert run(capsys, "fit", "image", "a.png", *SMALL)[0] == 0
    code, _, err = run(capsys, "fit", "image", "a.png", *[word.replace("-", "_").replace("__", "--") for word in SMALL])
    assert (code, "already finished after 4 steps" in err) == (0, True)
    code, _, err = run(capsys, "complete", "faces", "--baseline_images", "0")
    assert (code, refusal(err)) == (2, "expected --baseline-images of at least 1, got 0")


def test_list_has_models_configurations_and_runs(here, capsys):
    code, out, _ = run(capsys, "list")
    assert (code, "No runs in runs." in out) == (0, True)
    assert run(capsys, "fit", "image", "a.png", *SMALL)[0] == 0
    assert run(capsys, "fit", "image", "b.png", "--device", "cpu")[0] == 0
    (here / "runs/mine").mkdir()
    code, out, err = run(capsys, "list")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["faces", "images", "(faces),", "32x32,", "gray"] in lines
    assert ["photographs", "photographs", "(photographs),", "of", "any", "size"] in lines
    assert any(line[:1] == ["celeba_fast"] for line in lines)
    assert any(line[:2] == ["sdf", "paper_room"] for line in lines)
    rows = {line[0]: line[1:] for line in lines if line and line[0].startswith("runs/")}
    assert list(rows) == ["runs/image-a", "runs/image-b"]
    assert rows["runs/image-a"][:6] == ["image", "4", "of", "4", "steps", "psnr"]
    assert rows["runs/image-b"][:3] == ["image", "solved", "psnr"]
    assert max(map(len, out.splitlines())) < 120
    done = subprocess.run(
        [sys.executable, "-c", LISTING],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("name", TASKS)
def test_the_task_of_settings_is_told(name):
    assert task_of(TASKS[name].settings().model_dump(mode="json")) == name


def test_the_task_of_a_set_is_told():
    for row in SETS.values():
        assert task_of(row.settings().model_dump(mode="json")) == f"train {row.unit}"


def test_several_files_get_what_each_gets_alone(here, capsys):
    code, out, _ = run(capsys, "fit", "image", "a.png", "b.png", "--device", "cpu")
    assert code == 0
    assert [path.name for path in sorted((here / "runs").iterdir())] == ["image-a", "image-b"]
    for name in "ab":
        together, alone = here / "runs" / f"image-{name}", here / f"alone-{name}"
        code, numbers, _ = run(capsys, "fit", "image", f"{name}.png", "--device", "cpu", "--out", str(alone))
        assert code == 0
        assert numbers in out
        assert sorted(path.name.partition(".")[0] for path in together.iterdir()) == sorted(
            path.name.partition(".")[0] for path in alone.iterdir()
        )
        assert (together / "fit.png").read_bytes() == (alone / "fit.png").read_bytes()
        weights = [load(folder).state_dict() for folder in (together, alone)]
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
        drawn = [tags_of(folder) for folder in (together, alone)]
        assert "image/summary" in drawn[0]
        assert drawn[0] == drawn[1]


def tags_of(folder):
    """What TensorBoard would show, in its order, and how often."""
    (events,) = folder.glob("events.*")
    return [value.tag for event in EventFileLoader(str(events)).Load() for value in event.summary.value]


def test_a_picture_that_cannot_be_written_ends_the_fits_of_several_files(here, capsys, monkeypatch):
    def full(objective, folder, *given):
        raise UserError(f"{folder}: disk full")

    monkeypatch.setattr("hypersiren.training.objectives.FieldObjective.write_summary", full)
    code, _, err = run(capsys, "fit", "image", "a.png", "b.png", "--device", "cpu")
    assert code == 2
    assert err.strip().splitlines()[-1] == "hypersiren: runs/image-a: disk full"
    assert load("runs/image-b").numbers > 0


# ---- a fit that starts from another


def test_a_fit_starts_from_another(here, capsys):
    first = ["--hidden_features", "12", "--hidden-layers", "1", "--steps", "30", "--device", "cpu"]
    assert run(capsys, "fit", "image", "a.png", *first)[0] == 0
    psnr = json.loads(Path("runs/image-a/metrics.json").read_text())["result"]["psnr"]
    more = ["--start", "runs/image-a", "--steps", "1", "--lr", "1e-9", "--device", "cpu"]
    assert run(capsys, "fit", "image", "a.png", *more)[0] == 0
    found = json.loads(Path("runs/image-a-2/metrics.json").read_text())["result"]
    assert found["psnr"] == pytest.approx(psnr, abs=0.01)
    assert load("runs/image-a-2").layers[0].out_features == 12
    code, _, err = run(capsys, "fit", "image", "a.png", *more, "--out", "runs/image-a-2")
    assert (code, "already finished" in err) == (0, True)
    code, _, err = run(capsys, "fit", "image", "b.png", *more, "--hidden_features", "64")
    assert (code, refusal(err)) == (2, "network.hidden_features: expected 12, as the start has, got 64")
    assert run(capsys, "fit", "image", "b.png", "--device", "cpu")[0] == 0
    code, _, err = run(capsys, "fit", "image", "a.png", "--start", "runs/image-b")
    assert code == 2
    assert "start: expected a fit of one network, such as --network.kind siren, got windows" in refusal(err)
    code, _, err = run(capsys, "fit", "image", "a.png", "--start", "faces")
    assert (code, "got no fit: faces" in refusal(err)) == (2, True)
    code, _, err = run(capsys, "fit", "audio", "--start", "runs/image-a")
    assert (code, "field: expected in_features 1 as audio has, got 2" in err) == (2, True)


def test_a_fit_starts_from_another_in_python(tmp_path):
    pixels = torch.rand(13, 12, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = {"network": {"kind": "siren", "hidden_features": 8}}
    first = fit(Image(pixels), steps=20, run_dir=tmp_path / "a", **small)
    again = fit(Image(pixels), steps=1, lr=1e-9, start=tmp_path / "a")
    assert again.metrics["psnr"] == pytest.approx(first.metrics["psnr"], abs=0.01)
    same = fit(Image(pixels), first.field, steps=1, lr=1e-9)  # a fitted field is trained again
    assert same.metrics["psnr"] == pytest.approx(first.metrics["psnr"], abs=0.01)


# ---- numbers and names


@pytest.mark.painted
def test_images_tell_their_derivatives(tmp_path):
    pixels = torch.rand(20, 16, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = fit(Image(pixels), run_dir=tmp_path)
    assert {"psnr", "gradient_psnr", "laplacian_psnr"} <= set(result.metrics)
    assert json.loads((tmp_path / "metrics.json").read_text())["result"] == result.metrics
    exact = result.task.evaluate_derivatives(result.field)
    assert result.metrics["gradient_psnr"] == pytest.approx(exact["gradient_psnr"])
    titles = [axes.get_title().replace("\n", " ") for part in result.plot().subfigs for axes in part.axes]
    for name, key in (("Gradient", "gradient_psnr"), ("Laplacian", "laplacian_psnr")):
        assert f"{name} of the result, PSNR {result.metrics[key]:.3g} dB" in titles


def test_what_is_not_defined_is_left_out():
    assert "ssim" not in fit(Image(torch.rand(8, 8, 1) * 2 - 1), steps=2).metrics
    for pair in ([1.0, -1.0], [0.3, 0.2]):
        assert math.isnan(si_snr(torch.tensor(pair)[:, None], torch.tensor([[0.5], [0.1]])))
    assert math.isfinite(si_snr(torch.tensor([[1.0], [0.0], [0.3]]), torch.tensor([[0.5], [0.1], [0.3]])))


def test_the_course_begins_at_zero():
    history = [{"step": i, "seconds": i, "validation/mse": 0.0061750 + i * 1e-7} for i in range(9)]
    low, high = course(history, Measure("mse", "error"))["course"].y_limits
    assert low == 0
    assert high > 0.0061758
    history = [{"step": i, "seconds": i, "validation/snr": -5.0 + i} for i in range(9)]
    assert course(history, Measure("snr", "SNR", "dB", "higher"))["course"].y_limits is None


def test_names_of_tasks_and_one_number_for_a_grid():
    images = torch.zeros(40, 8, 8, dtype=torch.uint8)
    assert repr(Completion(images)) == "Completion(36 for training, 4 for validation; images)"
    assert repr(Image(torch.zeros(8, 6, 3))) == "Image(8 x 6, 3 channels)"
    with pytest.raises(UserError, match=r"samples along each axis, such as \(512, 512\) or \(512,\)"):
        grid(512)


def model():
    return HyperSiren(None, None, Siren(2, 1, (8, 16)), LastLayerSolve(16))


def test_a_forgotten_prior_is_told():
    task = Completion(torch.randint(0, 256, (12, 6, 6), dtype=torch.uint8), batch_size=4)
    with pytest.warns(UserWarning, match=r"model\.set_prior\(task\.prior_signals"):
        train(model(), task, steps=1)
    known = model()
    known.set_prior(task.prior_signals(copies=1, finer=2))
    siren = Siren(2, 1, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        trained = train(known, task, steps=1).model
        train(trained, task, steps=1)
        train(HyperSiren(SetEncoder(3, 8), FullHypernet(siren.shapes, 8, 8), siren), task, steps=1)


def test_no_graph_where_none_is_wanted():
    wave = torch.linspace(0, 9, 100).sin()[:, None]
    field = solve_raster((100,), lambda start, stop: wave[start:stop], 1, 0.5, step=(30,), lap=(5,))
    field.jet(grid((50,)), second="laplacian").gradient.numpy()
    task = Completion(torch.randint(0, 256, (12, 6, 6), dtype=torch.uint8), batch_size=4)
    solved = model()
    solved.set_prior(task.prior_signals(copies=1, finer=2))
    trained = train(solved, task, steps=1).model
    found = trained.predict(Context.from_images(torch.zeros(1, 6, 6, 1), torch.ones(1, 6, 6, dtype=torch.bool)))
    found.field.jet(grid((5, 5)), second="laplacian").laplacian.numpy()
    siren = Siren(2, 1, 8)
    again = train(HyperSiren(SetEncoder(3, 8), FullHypernet(siren.shapes, 8, 8), siren), task, steps=1).model
    weights = [p.clone() for p in again.parameters()]
    train(again, task, steps=2, lr=0.1)
    assert any(not torch.equal(a, b) for a, b in zip(weights, again.parameters(), strict=True))


@pytest.mark.parametrize("fails_at", [0, 3])
def test_a_full_disk_is_one_clear_line(tmp_path, monkeypatch, fails_at):
    """Where torch says "enforce fail at inline_container.cc"."""
    original = checkpoints.atomic_write

    class Full:
        def __init__(self, file):
            self.file, self.left = file, fails_at

        def write(self, data):
            if self.left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.left -= 1
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    class Writing:
        def __init__(self, path):
            self.inner = original(path)

        def __enter__(self):
            return Full(self.inner.__enter__())

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    monkeypatch.setattr(checkpoints, "atomic_write", Writing)
    with pytest.raises((checkpoints.CheckpointError, TrainingError)) as caught:
        fit(Image(torch.zeros(8, 8, 1)), steps=2, network={"kind": "siren", "hidden_features": 64}, run_dir=tmp_path)
    assert str(caught.value).endswith(".pt: cannot be written (the disk is full); what was saved before is untouched")
