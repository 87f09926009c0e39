"""`train` and `complete` on shapes, as a person types them."""

import json

import numpy as np
import pytest
from PIL import Image

from hypersiren import HyperSiren, load
from hypersiren.cli.main import main
from hypersiren.shapes.files.mesh import write_mesh
from hypersiren.shapes.sets.solids import solid_mesh
from tests.cli.test_cli import run
from tests.lines import refusal

TINY = ["--data.kind", "solids", "--data.count", "6", "--siren.hidden_features", "[16, 64]", "--prior.copies", "1",
        "--prior.finer", "1", "--training.steps", "2", "--training.batch_size", "2",
        "--training.target_points", "32", "--context.most", "40", "--context.evaluation", "[20, 40]",
        "--resolution", "12", "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    main(["train", "--out", str(folder), *TINY])
    return folder


def test_train_makes_a_whole_run_folder_and_prints_the_table(trained, capsys):
    code, out, err = run(capsys, "train", "--out", trained, *TINY)
    assert code == 0
    assert out.startswith("unseen shapes, 20 points (1 shapes)")
    assert "training shapes in unseen poses, 40 points" in out
    assert "4 training shapes" in err
    for name in ("config.yaml", "last.pt", "best.pt", "completion/table.txt", "completion/unseen_20.png",
                 "completion/seen_40.png"):  # fmt: skip
        assert (trained / name).stat().st_size > 0, name
    numbers = json.loads((trained / "completion/metrics.json").read_text())["errors"]
    assert set(numbers["unseen shapes, 40 points"]) == {"hypersiren", "before training", "planes", "ellipsoid", "truth"}
    assert isinstance(load(trained), HyperSiren)


def test_complete_of_ones_own_points_and_meshes(trained, tmp_path, capsys):
    _, mesh = solid_mesh(2, seed=5, resolution=16)
    write_mesh(tmp_path / "dumbbell.ply", mesh.moved(10.0, np.array([50.0, 0.0, 0.0])))
    points = mesh.vertices[::3]
    np.savetxt(tmp_path / "points.xyz", np.hstack([points, mesh.normals[::3]]))
    files = [tmp_path / "dumbbell.ply", tmp_path / "points.xyz"]
    code, out, err = run(capsys, "complete", trained, *files, "--size", 16, "--out", tmp_path / "out", "--context", 30)
    assert code == 0, err
    written = [f"{n}_{what}" for n in ("dumbbell", "points") for what in ("completed.ply", "panel.png")]
    assert out.split() == [str(tmp_path / "out" / name) for name in written]
    import trimesh

    found = trimesh.load_mesh(tmp_path / "out" / "dumbbell_completed.ply")
    assert 40 < found.vertices[:, 0].mean() < 60
    assert Image.open(tmp_path / "out" / "points_panel.png").size[0] > 1200
    again = run(capsys, "complete", trained, files[1], "--size", 16, "--out", tmp_path / "out", "--refine", 3)
    assert again[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--data.kind", "meshes"], "data: meshes need a root"),
        (["train", "--data.kind", "meshes", "--data.root", "nowhere"], "nowhere: no such folder"),
        (["train", "--data.kind", "meshes", "--data.root", "."], "expected at least 3 closed meshes"),
        (["train", "--data.kind", "solids", "--data.stretch", "3"], "shapes leave the box"),
        (["train", "--data.kind", "solids", "--data.size", "32"], 'unknown key "data.size"'),
        (["train", "--data.kind", "solids", "--encoder.kind", "conv"], "encoder.kind"),
        (["complete", "RUN", "missing.ply"], "missing.ply"),
        (["complete", "RUN", "text.ply"], "text.ply"),
        (["complete", "RUN", "text.ply", "--mask", "text.ply"], "--mask is not for shapes"),
        (["complete", "RUN", "text.ply", "--interpolate", "3"], "--interpolate is not for shapes"),
        (["complete", "RUN", "text.ply", "--extent", "2"], "--extent is not for shapes"),
        (["complete", "RUN", "text.ply", "--context", "0"], "--context of at least 1"),
        (["complete", "RUN", "text.ply", "text.ply"], "two files of the name"),
        (["benchmark", "warm", "RUN"], "expected a run of images"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(trained, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.ply").write_text("no points")
    code, _, err = run(capsys, *[str(trained) if word == "RUN" else word for word in words])
    assert code == 2
    assert message.lower() in err.lower()
    assert refusal(err)


def test_settings_of_shapes_are_listed(capsys):
    assert "--data.stretch [1.2]" in run(capsys, "settings", "shapes")[1]
