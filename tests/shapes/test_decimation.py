"""Decimated meshes: as many faces as asked, near to the surface, closed, and one line without the library."""

import importlib.util

import numpy as np
import pytest
import torch

from hypersiren.cli.main import main
from hypersiren.errors import UserError
from hypersiren.fields.siren import Siren
from hypersiren.shapes.decimation import decimate
from hypersiren.shapes.level_set.extract import extract
from hypersiren.shapes.mesh import is_watertight


def box(x: torch.Tensor) -> torch.Tensor:
    """A distance to a box with rounded edges: flat sides need few triangles."""
    return (x.abs() - torch.tensor([0.5, 0.4, 0.3])).clamp(min=0).norm(dim=-1, keepdim=True) - 0.1


def test_fewer_faces_stay_on_the_surface():
    pytest.importorskip("fast_simplification")
    mesh = extract(box, 64).mesh
    for count in (4000, 600):
        small = decimate(mesh, count, box)
        assert 0.9 * count <= len(small.faces) <= 1.02 * count
        assert is_watertight(small)
        middle = torch.from_numpy(small.vertices[small.faces].mean(1)).float()
        assert box(middle).abs().max() < 0.03
        away = (small.normals * np.sign(small.vertices)).max(1)
        assert (away > 0.5).all()
        assert np.abs(np.linalg.norm(small.normals, axis=1) - 1).max() < 1e-5
        assert small.vertices.dtype == mesh.vertices.dtype
    assert decimate(mesh, len(mesh.faces), box) is mesh


def test_without_the_library_one_line_says_so_before_the_work(monkeypatch, tmp_path, capsys):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "fast_simplification" else real(name, *more)
    )
    with pytest.raises(UserError, match=r'fewer faces need fast-simplification: .* extra "mesh"'):
        decimate(extract(box, 8).mesh, 4, Siren(3, 1, 8))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.pt").write_bytes(b"not looked at before")
    with pytest.raises(SystemExit):
        main(["mesh", str(tmp_path / "run"), "--faces", "100"])
    assert "fewer faces need fast-simplification" in capsys.readouterr().err
