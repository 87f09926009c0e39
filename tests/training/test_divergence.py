"""Nothing that is not finite is saved, the right thing is blamed, and TensorBoard never stops a training."""

import errno
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from hypersiren import Audio, FieldTask, Image, fit
from hypersiren.tasks.panels import ImagePanel
from hypersiren.training import checkpoints, monitor
from hypersiren.training.folders import TrainingError
from tests.cli.test_cli import run
from tests.cli.test_cli_fit import TINY
from tests.cli.test_runs import picture

NETWORK = {"hidden_features": 8}


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_nothing_that_is_not_finite_is_saved(steps, optimizer, tmp_path):
    with pytest.raises(TrainingError, match=r"not finite|is nan|is inf") as caught:
        fit(Image(torch.zeros(6, 6, 1)), run_dir=tmp_path, steps=steps, lr=1e38, optimizer=optimizer, network=NETWORK,
            validate_every=1)  # fmt: skip
    assert "lower training.lr" in str(caught.value)
    assert "\n" not in str(caught.value)
    for path in tmp_path.glob("*.pt"):
        assert all(value.isfinite().all() for value in checkpoints.read(path)["ema"].values())


class Poisoned(FieldTask):
    """A task whose signal has a NaN from some step on."""

    in_features, out_features = 1, 1

    def __init__(self, start: int):
        self.start = start

    def sample(self, generator, progress):
        x = torch.rand(8, 1, generator=generator)
        return x, torch.where(torch.tensor(progress * 10 >= self.start), torch.nan, x)

    def loss(self, field, batch):
        return {"mse": (field(batch[0]) - batch[1]).square().mean()}


class BadLoss(Poisoned):
    def loss(self, field, batch):
        return {"mse": super().loss(field, batch)["mse"] / 0}


@pytest.mark.parametrize("start", [0, 5])
def test_values_that_are_not_finite_do_not_blame_the_learning_rate(start, tmp_path):
    with pytest.raises(TrainingError, match=f"in step {start + 1}; .*the signal has values that are NaN") as caught:
        fit(Poisoned(start), run_dir=tmp_path, steps=10, network={**NETWORK, "first_omega": 30.0})
    assert "training.lr" not in str(caught.value)
    with pytest.raises(TrainingError, match=r"in step 1; .*the weights are still the initial ones") as caught:
        fit(BadLoss(99), steps=10, network={**NETWORK, "first_omega": 30.0})
    assert "training.lr" not in str(caught.value)


def test_a_full_disk_for_tensorboard_is_one_warning(tmp_path, monkeypatch):
    def full(content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(monitor, "record", full)
    with pytest.warns(UserWarning, match="No space left on device") as heard:
        assert fit(Image(torch.zeros(6, 6, 1)), run_dir=tmp_path, steps=4, network=NETWORK, validate_every=1).finished
    assert len(heard) == 1
    assert str(tmp_path) in str(heard[0].message)


def test_a_folder_that_is_deleted_is_one_warning(tmp_path):
    class Deleting(Image):
        def panels(self, field):
            if not deleted:
                deleted.append(shutil.rmtree(tmp_path / "a"))
            return {"fit": ImagePanel(torch.zeros(2, 2, 1))}

    deleted: list[None] = []
    with pytest.warns(UserWarning, match="no events for TensorBoard can be written") as heard:
        fit(Deleting(torch.zeros(6, 6, 1)), run_dir=tmp_path / "a", steps=4, network=NETWORK, validate_every=1)
    assert len(heard) == 1
    assert (tmp_path / "a" / "last.pt").exists()


def test_a_training_without_trouble_does_not_warn(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Image(torch.zeros(6, 6, 1)), run_dir=tmp_path, steps=2, network=NETWORK)


def test_a_full_disk_names_the_path(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"))

    def full(*arguments, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run(capsys, "fit", "image", "a.png", *TINY)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("hypersiren.signals.files.os.replace", full)
        code, _, err = run(capsys, "fit", "image", "a.png", *TINY)
    assert code == 2
    assert err.splitlines()[-1].startswith("hypersiren: runs/image-a/")
    assert "No space left on device" in err
    assert not list(Path("runs").rglob(".*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_a_limit_of_file_sizes(tmp_path):
    """A real failure to write, of the checkpoint: one line, and nothing half written."""
    picture(tmp_path / "a.png")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    code += f"; from hypersiren.cli.main import main; main({['fit', 'image', 'a.png', *map(str, TINY)]})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hypersiren: runs/image-a/")
    assert "cannot be written (File too large); what was saved before is untouched" in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_numbers_that_are_not_defined_are_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"), size=(3, 3))
    code, out, err = run(capsys, "fit", "image", "a.png", *TINY)
    assert code == 0
    assert "nan" not in out
    assert "not defined for this signal, and left out: ssim" in err
    saved = json.loads(Path("runs/image-a/metrics.json").read_text(), parse_constant=pytest.fail)
    assert saved["validation"]["ssim"] is None
    from hypersiren.cli.console import print_metrics

    print_metrics({"snr": np.inf, "si_snr": -np.inf, "mse": 0.0}, Audio)
    assert capsys.readouterr().out.splitlines() == [
        "snr              inf (no error is left)",
        "si_snr           -inf (nothing in common with the truth)",
        "mse              0 (lower is better)",
    ]
    print_metrics({"mine": np.inf, "psnr": 2.5}, FieldTask())  # a task that says nothing of its numbers
    assert capsys.readouterr().out.splitlines() == ["mine             inf", "psnr             2.5"]
