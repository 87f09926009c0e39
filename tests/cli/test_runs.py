"""Run folders as a person meets them: nothing collides, nothing of theirs is overwritten, what is stale is refused."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.fields import window_solve
from hypersiren.training import folders
from tests.cli.test_cli import TINY as TINY_SET
from tests.cli.test_cli import run
from tests.cli.test_cli_fit import TINY
from tests.lines import refusal


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (9, 8)) -> Path:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(Path("a.png"))
    return tmp_path


def test_other_settings_and_other_content_get_their_own_folders(here, capsys):
    code, first, err = run(capsys, "fit", "image", "a.png", *TINY)
    assert (code, "already finished" in err) == (0, False)
    assert run(capsys, "fit", "image", "a.png", *TINY, "--training.lr", 1e-4)[0] == 0
    picture(Path("a.png"), seed=1)
    code, third, _ = run(capsys, "fit", "image", "a.png", *TINY)
    assert code == 0
    assert third != first
    assert sorted(p.name for p in Path("runs").iterdir()) == ["image-a", "image-a-2", "image-a-3"]
    picture(Path("a.png"))
    code, again, err = run(capsys, "fit", "image", "a.png", *TINY)
    assert (code, again) == (0, first)
    assert "already finished after 4 steps" in err
    code, _, err = run(capsys, "fit", "image", "a.png", *TINY, "--restart")
    assert (code, "already finished" in err) == (0, False)
    assert len(list(Path("runs").iterdir())) == 3


def test_another_signal_under_the_same_name_is_refused(here, capsys):
    assert run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)[0] == 0
    picture(Path("a.png"), seed=1)
    code, _, err = run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)
    assert code == 2
    assert "x holds a run of another signal (under the same name)" in err.splitlines()[-1]
    assert run(capsys, "fit", "image", "a.png", "--out", "x", *TINY, "--restart")[0] == 0
    assert run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)[0] == 0


def test_what_is_solved_is_found_again_and_may_be_trained(here, capsys):
    code, first, err = run(capsys, "fit", "image", "a.png")
    assert (code, "already" in err) == (0, False)
    assert "numbers in 1 windows" in err
    code, again, err = run(capsys, "fit", "image", "a.png")
    assert (code, again) == (0, first)
    assert "already solved; --restart starts again" in err
    trained = ["--network.kind", "windowed", "--training.steps", 3, "--out", "runs/image-a", "--lr", 1e-5]
    assert run(capsys, "fit", "image", "a.png", *trained)[0] == 0
    assert Path("runs/image-a/best.pt").exists()
    assert len(list(Path("runs").iterdir())) == 1


KILLED = """
import os, signal
from hypersiren.cli.main import main
from hypersiren.fields import window_solve
from hypersiren.training import solves
window_solve.STRIP, solves.KEEP_SECONDS = 1, -1.0
original = solves.KeptSolve.save
def save(self, field, rows):
    self.due = 0.0
    original(self, field, rows)
    if rows[1] == 2:
        os.kill(os.getpid(), signal.{how})
solves.KeptSolve.save = save
main(["fit", "image", "a.png", "--device", "cpu"])
"""


@pytest.mark.parametrize(("how", "expected"), [("SIGKILL", -9), ("SIGINT", 130), ("SIGTERM", 130)])
def test_a_solve_that_is_killed_goes_on(here, capsys, monkeypatch, how, expected):
    picture(Path("a.png"), size=(130, 40))
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(how=how)], capture_output=True, text=True, cwd=here, check=False
    )
    assert done.returncode == expected, done.stderr
    if expected > 0:
        assert done.stderr.splitlines()[-1] == "stopped and saved; the same command resumes"
    kept = Path("runs/image-a/solve.pt")
    assert kept.exists()
    monkeypatch.setattr(window_solve, "STRIP", 1)
    code, out, err = run(capsys, "fit", "image", "a.png", "--device", "cpu")
    assert code == 0
    assert re.search(r"going on after \d+ % of the windows", err)
    assert [p.name for p in Path("runs").iterdir()] == ["image-a"]
    assert not kept.exists()
    assert run(capsys, "fit", "image", "a.png", "--out", "b", "--device", "cpu")[1].splitlines() == out.splitlines()
    weights = [torch.load(Path(folder) / "last.pt")["model"] for folder in ("runs/image-a", "b")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_another_mask_under_the_same_name_is_another_run(here, capsys):
    words = ["fit", "inpaint", "a.png", "--signal.mask", "m.png", "--out", "x", "--loss.prior_points", 20, *TINY]
    for value, expected in ((3, 0), (5, 2)):
        mask = np.zeros((9, 8), np.uint8)
        mask[:value] = 255
        Image.fromarray(mask).save("m.png")
        assert run(capsys, *words)[0] == expected


def test_other_images_in_the_same_folder_are_another_run(here, capsys):
    Path("pictures").mkdir()
    for i in range(30):
        picture(Path("pictures") / f"{i:02}.png", seed=i, size=(8, 8))
    words = ["train", *TINY_SET, "--data.kind", "folder", "--data.root", "pictures"]
    assert run(capsys, *words, "--out", "x")[0] == 0
    for i in range(30):
        picture(Path("pictures") / f"{i:02}.png", seed=99 - i, size=(8, 8))
    code, _, err = run(capsys, *words, "--out", "x")
    assert code == 2
    assert "holds a run of another signal" in err
    assert run(capsys, *words)[0] == 0
    code, _, err = run(capsys, *words)
    assert code == 0
    assert "already finished" in err
    assert [p.name for p in Path("runs").iterdir()] == ["folder"]


def test_a_folder_with_ones_own_files_is_refused_early(here, capsys):
    Path("config.yaml").write_text("mine: 1")
    shutil.copy("a.png", "fit.png")
    before = {p.name: p.read_bytes() for p in here.iterdir()}
    for words in (
        ["fit", "image", "fit.png", "--out", "."],
        ["train", "--out", "."],
        ["compare", "image", "a.png", "--out", "."],
    ):
        code, _, err = run(capsys, *words)
        assert code == 2
        assert "expected an empty folder or that of a run, got one with other files" in err
        assert refusal(err)
    assert {p.name: p.read_bytes() for p in here.iterdir()} == before


def test_an_input_in_the_run_folder_is_refused(here, capsys):
    assert run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)[0] == 0
    before = Path("x/fit.png").read_bytes()
    code, _, err = run(capsys, "fit", "image", "x/fit.png", "--out", "x", *TINY, "--restart")
    assert code == 2
    assert "lies in the run folder" in err
    assert Path("x/fit.png").read_bytes() == before


def test_other_settings_are_refused_before_anything_heavy_is_imported(here, capsys):
    assert run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)[0] == 0
    code = (
        "import sys; from hypersiren.cli.main import main\n"
        "try: main(['fit', 'image', 'a.png', '--out', 'x', '--training.lr', '1'])\n"
        "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2 False\n"
    assert "training.lr: 0.004 there, 1.0 here" in done.stderr


def test_a_run_that_is_being_trained_is_left_alone(here, capsys):
    with folders.locked(Path("x")):
        code, _, err = run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)
    assert code == 2
    assert "x: another process trains in this run folder" in err.splitlines()[-1]


@pytest.mark.slow
def test_completions_comparisons_and_renderings_do_not_overwrite_each_other(here, capsys):
    assert run(capsys, "train", "--out", "x", *TINY_SET)[0] == 0
    names = []
    for words in ([], ["--context", 20], ["--refine", 2], ["--size", 30], ["--extent", 2]):
        code, out, _ = run(capsys, "complete", "x", "a.png", *words)
        assert code == 0
        names.append(out.split())
    written = [
        [f"x/completion/a_{what}{n}.png" for what in ("completed", "panel")] for n in ("", "-2", "-3", "-4", "-5")
    ]
    assert names == written
    assert Image.open(names[3][0]).size == (30, 30)
    assert Path("x/completion/a_panel-5.png").exists()
    table = Path("x/completion/table.txt").read_text()
    assert run(capsys, "complete", "x", "--refine", 1)[0] == 0
    assert Path("x/completion/table.txt").read_text() == table
    assert "refined" in Path("x/completion-refine1/table.txt").read_text()
    for fields in ("siren", "relu", "relu"):
        assert run(capsys, "compare", "image", "a.png", "--fields", fields, *TINY)[0] == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["compare-image-a", "compare-image-a-2"]
    assert run(capsys, "fit", "image", "a.png", *TINY)[0] == 0
    made = [run(capsys, "render", "runs/image-a", "--size", size)[1].strip() for size in (20, 30)]
    assert made == ["runs/image-a/render.png", "runs/image-a/render-2.png"]
