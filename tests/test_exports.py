"""GLSL, whose text is evaluated here as a graphics card would; folders of the Hugging Face Hub; metadata."""

import json
import re

import numpy as np
import pytest
import torch

from hypersiren import Pretrained, Siren, UserError, WindowedSiren, grid, load, save
from hypersiren.cli.main import main
from hypersiren.export.graphs import write_onnx, write_torch
from hypersiren.export.shader import MOST, to_glsl


class Columns:
    """A mat4, which lists its columns."""

    def __init__(self, *numbers):
        self.rows = np.array(numbers, np.float32).reshape(4, 4).T

    def __mul__(self, vector):
        return self.rows @ vector


class Point:
    def __init__(self, values):
        self.x, self.y, self.z = [*map(np.float32, values), *[np.float32(0)] * (3 - len(values))]


def run(text, x):
    """The function of a shader at one point."""
    body = text[text.index("{") + 1 : text.index("\n}")]
    names = {
        **{f"vec{n}": lambda *numbers: np.array(numbers, np.float32) for n in (2, 3, 4)},
        "mat4": Columns,
        "sin": np.sin,
        "dot": np.dot,
        "x": Point(x) if len(x) > 1 else np.float32(x[0]),
    }
    for line in body.strip().split(";")[:-1]:
        kind, _, rest = line.strip().partition(" ")
        if kind == "return":
            return np.atleast_1d(eval(rest, {}, names))
        name, _, value = rest.partition(" = ")
        names[name] = eval(value, {}, names)
    raise AssertionError(text)


@pytest.mark.parametrize(
    ("dims", "widths", "channels", "omega"),
    [(2, (16, 16), 3, 30.0), (1, (7,), 1, 200.0), (3, (5, 9, 4), 4, 10.0), (2, (8, 6), 2, 30.0)],
)
def test_a_shader_has_the_values_of_the_field(dims, widths, channels, omega):
    torch.manual_seed(dims)
    siren = Siren(dims, channels, widths, first_omega=omega, hidden_omega=20.0)
    text = to_glsl(siren)
    for x in torch.rand(6, dims) * 2 - 1:
        np.testing.assert_allclose(run(text, x.tolist()), siren(x[None])[0].detach().numpy(), atol=2e-5)
    assert ("mainImage" in text) == ((dims, channels) == (2, 3))
    assert not re.search(r"[ (,]-?\d+[,;)]", text.partition("{")[2].partition("\n}")[0]), "an integer in GLSL"


def test_what_is_no_small_siren_is_no_shader():
    with pytest.raises(UserError, match="got windows"):
        to_glsl(WindowedSiren(Siren(2, 1, 8), (2, 2)))
    for siren in (Siren(2, 1, 256), Siren(4, 1, 8), Siren(2, 5, 8)):
        with pytest.raises(UserError, match=f"at most {MOST:,} weights, 3 coordinates and 4 channels"):
            to_glsl(siren)


def test_the_command_writes_a_shader(tmp_path, capsys):
    siren = Siren(2, 1, 8, 1)
    save(siren, tmp_path / "a.safetensors")
    main(["export", str(tmp_path / "a.safetensors"), "--glsl", "--out", str(tmp_path / "a.glsl")])
    assert (tmp_path / "a.glsl").read_text() == to_glsl(siren)
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "a.safetensors"), "--glsl", "--onnx"])
    assert "expected one of --html, --onnx, --torch and --glsl, got onnx and glsl" in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda: Siren(2, 3, 8), lambda: load("faces"), lambda: load("faces").siren])
def test_the_hub_s_form_there_and_back_without_a_network(tmp_path, monkeypatch, make):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = make()
    Pretrained(model).save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    assert "library_name: hypersiren" in (tmp_path / "README.md").read_text()
    again = Pretrained.from_pretrained(tmp_path).model
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert torch.equal(load(tmp_path / "model.safetensors").state_dict()[name], value)
    assert not again.training


def test_a_folder_without_a_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors: no such"):
        Pretrained.from_pretrained(tmp_path)


def test_files_of_a_sound_have_its_rate_and_scale(tmp_path):
    onnx = pytest.importorskip("onnx")
    field, about = Siren(1, 2, 8, 1), {"kind": "sound", "samples": [100], "rate": 8000, "scale": 0.25}
    write_onnx(field, tmp_path / "a.onnx", about)
    found = {one.key: json.loads(one.value) for one in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert {name: found[name] for name in about} == about
    assert "x = (2 i + 1) / n - 1" in found["grid"]
    write_torch(field, tmp_path / "a.pt2", about)
    extra = {"about.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    assert json.loads(json.loads(extra["about.json"])["rate"]) == 8000
    x = grid((9,))
    assert torch.allclose(program.module()(x), field(x), atol=1e-6)
