"""`export` as a person types it: files that other programs read, and one line for what they mistype."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.export.graphs import write_onnx, write_torch
from hypersiren.fields.savable import describe
from hypersiren.fields.siren import Siren
from hypersiren.fields.windowed_siren import WindowedSiren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.signals.sets.settings import ImageData
from hypersiren.training.checkpoints import load, write
from tests.cli.test_cli import run
from tests.cli.test_cli_fit import TINY
from tests.lines import refusal


@pytest.fixture
def fitted(tmp_path, monkeypatch, capsys):
    """The run of a fitted picture, in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save("a.png")
    assert run(capsys, "fit", "image", "a.png", *TINY)[0] == 0
    return tmp_path / "runs/image-a"


@pytest.fixture
def trained(tmp_path):
    """The run of a hypernetwork of images."""
    folder = tmp_path / "faces"
    folder.mkdir()
    model = HyperSiren(None, None, Siren(2, 1, hidden_features=(8, 16)), LastLayerSolve(16))
    settings = CompletionSettings(data=ImageData(size=8)).model_dump(mode="json")
    record = {"settings": settings, "model": describe(model)}
    write(folder / "best.pt", {"record": record, "step": 1, "metrics": {}, "seconds": 0.0, "ema": model.state_dict()})
    return folder


def test_a_page_holds_the_weights_and_asks_nothing_of_a_network(fitted, capsys):
    code, out, err = run(capsys, "export", fitted, "--html")
    assert (code, out.strip()) == (0, str(fitted / "field.html")), err
    text = (fitted / "field.html").read_text("utf-8")
    data = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text)[1])
    assert (data["kind"], data["samples"], data["outputs"]) == ("image", [20, 30], 3)
    assert "{{" not in text
    assert "http" not in re.sub("http-equiv", "", text)
    assert "default-src 'none'" in text
    assert run(capsys, "export", fitted, "--html")[1].strip() == str(fitted / "field-2.html")


CHECK = """
import sys, numpy as np, onnxruntime, torch
torch.manual_seed(0)
program = torch.export.load(sys.argv[1] + ".pt2").module()
session = onnxruntime.InferenceSession(sys.argv[1] + ".onnx")
for points in (1, 5, 1000):
    x = torch.rand(points, 2) * 2 - 1
    np.save(f"{points}.npy", np.concatenate([x, program(x), session.run(["y"], {"x": x.numpy()})[0]], 1))
assert "hypersiren" not in sys.modules
"""


@pytest.mark.parametrize("kind", ["siren", "windowed"])
def test_onnx_and_torch_give_the_same_values_for_any_number_of_points(kind, fitted, tmp_path, capsys):
    if kind == "windowed":
        fitted = tmp_path / "windows"
        assert run(capsys, "fit", "image", "a.png", "--network.window", 12, "--out", fitted)[0] == 0
        assert load(fitted).windows.count == (2, 3)
    for form, ending in (("--onnx", "onnx"), ("--torch", "pt2")):
        code, out, err = run(capsys, "export", fitted, form, "--out", f"b.{ending}")
        assert (code, out.strip()) == (0, f"b.{ending}"), err
    subprocess.run([sys.executable, "-c", CHECK, "b"], check=True, cwd=tmp_path)
    for points in (1, 5, 1000):
        x, *found = np.split(np.load(f"{points}.npy"), [2, 5], axis=1)
        truth = load(fitted)(torch.from_numpy(x)).numpy()
        for values in found:
            assert np.abs(values - truth).max() < 1e-5 * np.abs(truth).max()


@pytest.mark.parametrize("own", ["last", "all"])
def test_windows_with_layers_of_their_own_are_exported(own, tmp_path):
    torch.manual_seed(0)
    field = WindowedSiren(Siren(3, 2, (9, 7)), (2, 1, 3), 0.3, 1.2, own=own).requires_grad_(False)
    for name in field.owned:
        field.get_parameter(name).mul_(1 + 0.1 * torch.randn(field.get_parameter(name).shape))
    write_torch(field, tmp_path / "a.pt2")
    program = torch.export.load(tmp_path / "a.pt2").module()
    for points in (1, 50):
        x = torch.rand(points, 3) * 2 - 1
        torch.testing.assert_close(program(x), field(x), atol=1e-5, rtol=1e-5)


def test_the_completion_of_a_picture_is_exported(trained, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    code, out, err = run(capsys, "export", trained, tmp_path / "a.png", "--torch")
    assert code == 0, err
    values = torch.from_numpy(pixels / np.float32(127.5) - 1).view(1, 8, 8, 1)
    field = load(trained).field(Context.from_images(values, torch.ones(1, 8, 8, dtype=torch.bool)))
    x = torch.rand(9, 2)
    torch.testing.assert_close(torch.export.load(out.strip()).module()(x), field(x)[0], atol=1e-4, rtol=1e-4)
    code, out, err = run(capsys, "export", trained, tmp_path / "a.png", "--html", "--samples", 0)
    assert code == 0, err
    assert '"known":10,' in (trained / "field.html").read_text("utf-8")


def test_without_the_extra_onnx_is_refused_by_name(fitted, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    code, _, err = run(capsys, "export", fitted, "--onnx")
    assert (code, refusal(err)) == (2, "--onnx needs the extra onnx: pip install onnx onnxscript onnxruntime")


def test_what_onnx_cannot_hold_is_refused_in_one_line(tmp_path):
    class Odd(torch.nn.Module):
        in_features = 2

        def forward(self, x):
            return torch.linalg.eigvals(x.mT @ x)

    with pytest.raises(Exception, match="Odd cannot be exported to ONNX") as caught:
        write_onnx(Odd(), tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["RUN"], "expected one of --html, --onnx, --torch and --glsl, got none"),
        (["RUN", "--html", "--onnx"], "got html and onnx"),
        (["RUN", "--html", "--out", "a.txt"], "a.txt: expected the ending .html"),
        (["RUN", "--torch", "--out", "no/a.pt2"], "in a folder that exists"),
        (["RUN", "--html", "--context", 5], "a page has a slider"),
        (["RUN", "a.png", "--html"], "a picture needs a run of `hypersiren train`"),
        (["RUN", "--html", "--samples", -1], "--samples of at least 0"),
        (["NET", "--html"], "a hypernetwork needs a picture"),
        (["NET", "a.png", "--onnx", "--context", 65], "--context from 1 to 64"),
        (["NET", "none.png", "--html"], "none.png"),
        (["RELU", "--html"], "--html shows SIRENs, got a CoordinateMLP"),
        (["WAVE", "--html"], "--html shows fields of the kinds image, sound"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(words, message, fitted, trained, tmp_path, capsys):
    if "RELU" in words:
        assert run(capsys, "fit", "image", "a.png", "--network.kind", "relu", *TINY, "--out", "relu")[0] == 0
    if "WAVE" in words:
        model = Siren(2, 2, 8)
        record = {"model": describe(model), "playback": {"task": "helmholtz", "kind": "wavefield", "samples": [8, 8]}}
        content = {"record": record, "step": 1, "metrics": {}, "seconds": 0.0, "ema": model.state_dict()}
        write(tmp_path / "wave.pt", content)
    places = {"RUN": fitted, "NET": trained, "RELU": "relu", "WAVE": "wave.pt"}
    code, out, err = run(capsys, "export", *(places.get(word, word) for word in words))
    assert (code, out) == (2, "")
    assert message in err
    assert refusal(err)
