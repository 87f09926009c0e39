"""The scripts in train/ that people copy, and the cells of the notebook, run; the scripts with small settings."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from hypersiren import load

ROOT = Path(__file__).parents[1]


def run_script(name: str, folder: Path, **settings: object) -> str:
    """Run a script with other values for some of its settings, in a folder; what it prints."""
    text = (ROOT / "train" / f"{name}.py").read_text()
    for key, value in settings.items():
        text, count = re.subn(rf"^{key} = [^#\n]*", f"{key} = {value!r}  ", text, flags=re.MULTILINE)
        assert count == 1, key
    script = folder / f"{name}.py"
    script.write_text(text)
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning, and no bar where nobody looks
    return done.stdout


@pytest.mark.slow
def test_own_image(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8)).save(tmp_path / "mine.png")
    run_script("own_image", tmp_path, PICTURE="mine.png", SIZE=None, STEPS=2)
    sizes = {path.name: Image.open(path).size for path in (tmp_path / "own_image").glob("*.png")}
    assert sizes.pop("summary.png")[0] == 1200
    assert sizes == {"four_times_as_fine.png": (64, 80), "gradient.png": (16, 20), "laplacian.png": (16, 20)}
    assert load(tmp_path / "own_image" / "field.safetensors").out_features == 3


@pytest.mark.slow
def test_own_task(tmp_path):
    assert run_script("own_task", tmp_path, STEPS=2).startswith("largest error of the angle: ")


@pytest.mark.slow
def test_own_data(tmp_path):
    assert "mse_full" in run_script("own_data", tmp_path, COUNT=20, SIZE=12, STEPS=1)
    assert Image.open(tmp_path / "own_data" / "completed.png").height == 48
    assert load(tmp_path / "own_data" / "model.safetensors").siren.out_features == 3


@pytest.mark.slow
def test_points_to_mesh(tmp_path):
    normals = np.random.default_rng(0).normal(size=(2000, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.savetxt(tmp_path / "ball.xyz", np.hstack([normals + 5.0, normals]))
    shown = run_script("points_to_mesh", tmp_path, POINTS="ball.xyz", STEPS=10, RESOLUTION=16, WIDTH=32)
    assert "triangles" in shown
    mesh = trimesh.load_mesh(tmp_path / "points_to_mesh" / "mesh.ply")
    assert (mesh.bounds >= 3.5).all()  # in the units of the file
    assert (mesh.bounds <= 6.5).all()
    assert (tmp_path / "points_to_mesh" / "summary.png").exists()


NOTEBOOK = json.loads((ROOT / "eval" / "tour.ipynb").read_text())


@pytest.mark.slow
def test_the_cells_of_the_notebook_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["result"].metrics["psnr"] > 30
    assert names["large"].metrics["psnr"] > 40
    assert names["early"].history[-1]["step"] < 150
    assert names["regained"].metrics["psnr"] > 20
    assert names["trained"].metrics["mse_100"] < 0.01  # a flat image has 0.03
    assert names["samples"].shape == (16, 48, 48, 1)


def test_the_notebook_was_run_and_is_small():
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code[1:])
    assert (ROOT / "eval" / "tour.ipynb").stat().st_size < 400_000
