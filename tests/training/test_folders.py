"""Run folders: whose they are, which one a command gets, one process in each; digests of signals."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from hypersiren import Image, fit
from hypersiren.completion.images.task import Completion
from hypersiren.completion.registry import SETS
from hypersiren.settings.yaml import to_yaml
from hypersiren.shapes.cloud import open_cloud
from hypersiren.signals.files import atomic_write, remove_stale
from hypersiren.tasks.images.edit import Edit, blend, clone
from hypersiren.tasks.images.inpaint import Inpaint
from hypersiren.tasks.images.poisson import Poisson
from hypersiren.tasks.recordings.audio import Audio
from hypersiren.tasks.recordings.video import Video
from hypersiren.tasks.registry import TASKS, open_task
from hypersiren.tasks.shapes.sdf import SDF
from hypersiren.tasks.task import FieldTask, content_digest
from hypersiren.tasks.waves.wave import Wave
from hypersiren.training import checkpoints, folders
from hypersiren.training.folders import TrainingError, choose_folder, locked, steps_done
from hypersiren.waves.media import VelocityImage

QUICK = {"steps": 2, "validate_every": 1, "network": {"hidden_features": 8}}


def image(value: float = 0.0) -> torch.Tensor:
    return torch.full((6, 6, 1), value)


def velocities(value: float) -> VelocityImage:
    return VelocityImage(torch.full((8, 8), value))


KNOWN = torch.arange(36).view(6, 6) % 2 == 0
MASK = torch.zeros(4, 4, dtype=torch.bool)
MASK[1:3, 1:3] = True
CLOUD = open_cloud("knot", count=500)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: Image(image(0.1)), lambda: Image(image(0.2))),
        (lambda: Image(image(0.1)), lambda: Image(image(0.1), known=KNOWN)),
        (lambda: Inpaint(image(0.1), known=KNOWN), lambda: Inpaint(image(0.1), known=~KNOWN)),
        (lambda: Poisson(image(0.1)), lambda: Poisson(image(0.2))),
        (lambda: Edit(blend(image(0.1), image(0.2))), lambda: Edit(blend(image(0.1), image(0.3)))),
        (
            lambda: Edit(clone(torch.zeros(4, 4, 1), image(), MASK)),
            lambda: Edit(clone(torch.zeros(4, 4, 1), image(), MASK, (1, 1))),
        ),
        (lambda: Audio(torch.ones(99), 100), lambda: Audio(torch.ones(99), 200)),
        (lambda: Video(torch.zeros(2, 4, 4, 3, dtype=torch.uint8), 5), lambda: Video(torch.zeros(3, 4, 4, 3), 5)),
        (lambda: SDF(CLOUD), lambda: SDF(replace(CLOUD, normals=-CLOUD.normals))),
        (lambda: Wave(velocities(1.0)), lambda: Wave(velocities(1.1))),
        (lambda: Wave(), lambda: Wave(velocities(1.0))),
        (
            lambda: open_task("helmholtz", {"signal": {"wavenumber": 8.0, "cells": 64}}),
            lambda: open_task("helmholtz", {"signal": {"wavenumber": 8.0, "cells": 64, "path": "circle"}}),
        ),
        (
            lambda: open_task("inversion", {"signal": {"wavenumber": 8.0, "cells": 64}}),
            lambda: open_task("inversion", {"signal": {"wavenumber": 8.0, "cells": 64, "path": "square"}}),
        ),
        (
            lambda: Completion(np.zeros((12, 6, 6), np.uint8)),
            lambda: Completion(np.ones((12, 6, 6), np.uint8)),
        ),
    ],
)
def test_a_digest_is_that_of_the_content(first, second):
    assert first().digest() == first().digest()
    assert first().digest() != second().digest()


def test_every_task_has_a_digest():
    for row in {**TASKS, **SETS}.values():
        assert "digest" in {name for each in row.load().__mro__[:-2] for name in vars(each)}
    assert content_digest(np.zeros((0, 3))) != content_digest(np.zeros((3, 0)))
    assert FieldTask().digest() is None


def test_the_settings_that_name_files_are_known():
    found = {
        f"{section}.{key}"
        for row in {**TASKS, **SETS}.values()
        for section, field in row.settings.model_fields.items()
        for key, inner in getattr(type(field.default), "model_fields", {}).items()
        if "Path" in str(inner.annotation)
    }
    assert found == folders.FILES


def test_another_signal_is_refused_and_the_same_goes_on(tmp_path):
    fit(Image(image(0.1)), run_dir=tmp_path / "a", **QUICK)
    with pytest.raises(TrainingError, match=r"holds a run of another signal \(under the same name\)"):
        fit(Image(image(0.2)), run_dir=tmp_path / "a", **QUICK)
    assert fit(Image(image(0.1)), run_dir=tmp_path / "a", **{**QUICK, "steps": 3}).finished
    assert steps_done(tmp_path / "a") == 3


def test_a_run_without_a_digest_goes_on(tmp_path):
    fit(Image(image(0.1)), run_dir=tmp_path, **QUICK)
    for name in ("last.pt", "best.pt"):
        content = checkpoints.read(tmp_path / name)
        del content["record"]["digest"]
        checkpoints.write(tmp_path / name, content)
    (tmp_path / folders.MARK).unlink()
    fit(Image(image(0.1)), run_dir=tmp_path, **{**QUICK, "steps": 3})
    assert checkpoints.read(tmp_path / "last.pt")["record"]["digest"] == Image(image(0.1)).digest()


def test_a_folder_that_is_not_ours_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("mine: 1")
    with pytest.raises(TrainingError, match="expected an empty folder or that of a run, got one with other files"):
        fit(Image(image()), run_dir=tmp_path, **QUICK)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "mine: 1"
    with pytest.raises(TrainingError, match="got a file"):
        fit(Image(image()), run_dir=tmp_path / "config.yaml", **QUICK)
    with pytest.raises(TrainingError, match="cannot make this folder"):
        fit(Image(image()), run_dir=tmp_path / "config.yaml" / "a", **QUICK)


def test_symlinks_are_replaced_and_not_followed(tmp_path):
    fit(Image(image()), run_dir=tmp_path / "a", **QUICK)
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for name in ("config.yaml", "metrics.json", "best.pt"):
        (tmp_path / "a" / name).unlink()
        (tmp_path / "a" / name).symlink_to(mine)
    fit(Image(image()), run_dir=tmp_path / "a", **{**QUICK, "steps": 3})
    assert mine.read_text() == "mine"


def test_what_a_killed_process_left_is_removed(tmp_path):
    fit(Image(image()), run_dir=tmp_path, **QUICK)
    (tmp_path / "completion").mkdir()
    for name in (".last.pt.abcd.part", "completion/.table.txt.abcd.part"):
        (tmp_path / name).write_text("half")
    fit(Image(image()), run_dir=tmp_path, **QUICK)
    assert not list(tmp_path.rglob(".*.part"))


def test_a_second_process_is_refused(tmp_path):
    code = f"""
import sys
from pathlib import Path
from hypersiren.training.folders import locked
with locked(Path({str(tmp_path / "a")!r})):
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(TrainingError, match="another process trains in this run folder"):
            fit(Image(image()), run_dir=tmp_path / "a", **QUICK)
        with pytest.raises(TrainingError, match="another process trains"):
            folders.clear(tmp_path / "a")
        other.kill()
    assert fit(Image(image()), run_dir=tmp_path / "a", **QUICK).finished


def test_the_folder_of_a_command(tmp_path):
    base = tmp_path / "runs" / "image-a"

    def claim(settings, digest):
        folder = choose_folder(base, settings, digest)
        with locked(folder):
            folders.sign(folder, digest)
            folders.write_text(folder / "config.yaml", to_yaml(settings))
        return folder.name

    def one(lr):
        return {"signal": {"path": "a.png"}, "training": {"lr": lr, "steps": 3}}

    assert claim(one(1), "aa") == "image-a"
    assert claim(one(1), "aa") == "image-a"
    assert claim({**one(1), "training": {"lr": 1, "steps": 9}}, "aa") == "image-a"
    assert claim(one(1), "bb") == "image-a-2"
    assert claim(one(2), "aa") == "image-a-3"
    (tmp_path / "runs" / "image-a-4").mkdir()
    (tmp_path / "runs" / "image-a-4" / "notes.txt").write_text("not a run")
    assert claim(one(3), "aa") == "image-a-5"
    assert claim(one(2), "aa") == "image-a-3"
    for path in (tmp_path / "runs" / "image-a-2").iterdir():
        path.unlink()
    assert claim(one(3), "aa") == "image-a-5"
    assert claim(one(4), "aa") == "image-a-2"
    moved = {**one(2), "signal": {"path": "elsewhere/a.png"}}
    assert claim(moved, "aa") == "image-a-3"


def test_starting_anew_leaves_other_files(tmp_path):
    fit(Image(image()), run_dir=tmp_path, **QUICK)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "prior.pt").touch()  # as the training of a hypernetwork leaves it
    folders.clear(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [folders.MARK, folders.LOCK, "notes.txt"]
    assert fit(Image(image(0.5)), run_dir=tmp_path, **QUICK).finished


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_half_a_file_of_a_dead_process_is_removed_and_that_of_a_living_one_stays(tmp_path):
    with atomic_write(tmp_path / "a.txt") as file:
        file.write(b"mine")
        (living,) = tmp_path.glob(".a.txt.*.part")
        code = (
            "import os, sys; from hypersiren.signals.files import atomic_write\n"
            "with atomic_write(sys.argv[1]) as file: os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code, tmp_path / "a.txt"], check=False)
        assert len(list(tmp_path.glob(".*.part"))) == 2
        with atomic_write(tmp_path / "a.txt") as again:
            again.write(b"other")
        assert list(tmp_path.glob(".*.part")) == [living]
    subprocess.run([sys.executable, "-c", code, tmp_path / "gone-1.npy"], check=False)
    (tmp_path / ".mine.part").touch()
    assert len(list(tmp_path.glob(".*.part"))) == 2
    remove_stale(tmp_path)
    assert [p.name for p in tmp_path.glob(".*.part")] == [".mine.part"]
    (tmp_path / ".mine.part").unlink()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"mine"
