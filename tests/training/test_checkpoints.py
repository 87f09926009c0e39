"""Checkpoints that are damaged, foreign or of the wrong kind are refused in one line, never read as other weights."""

import contextlib
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hypersiren import Context, Image, Siren, fit, grid, load, load_images, save
from hypersiren.errors import UserError
from hypersiren.training import checkpoints
from hypersiren.training.checkpoints import CheckpointError
from hypersiren.training.runs import released
from tests.cli.test_cli import run
from tests.lines import refusal

PICTURE = torch.linspace(-1, 1, 36).view(6, 6, 1)
QUICK = {"steps": 2, "validate_every": 1, "network": {"hidden_features": 8}}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    fit(Image(PICTURE), run_dir=folder, **QUICK)
    return folder


def same(a, b) -> bool:
    return all(torch.equal(a["ema"][name], b["ema"][name]) for name in a["ema"]) and a["record"] == b["record"]


def test_a_flipped_bit_is_never_read_as_other_weights(fitted, tmp_path):
    data = (fitted / "best.pt").read_bytes()
    good = checkpoints.read(fitted / "best.pt")
    rng, refused = np.random.default_rng(0), []
    for _ in range(150):
        flipped = bytearray(data)
        flipped[rng.integers(len(data))] ^= 1 << rng.integers(8)
        (tmp_path / "best.pt").write_bytes(flipped)
        try:
            assert same(checkpoints.read(tmp_path / "best.pt"), good)  # a bit that means nothing, as of a date
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert not any("\n" in message or "weights_only" in message for message in refused)


def test_a_flipped_bit_of_a_released_file(tmp_path):
    path = tmp_path / "a.safetensors"
    siren = Siren(2, 1, 8)
    save(siren, path)
    data, x, refused = path.read_bytes(), torch.rand(5, 2), []
    for at in [*range(0, len(data), 41), len(data) - 1]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        try:
            assert torch.equal(load(path)(x), siren(x))
        except CheckpointError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert not any("\n" in message for message in refused)


def test_best_copied_to_last_is_refused(tmp_path):
    fit(Image(torch.zeros(6, 6, 1)), run_dir=tmp_path / "b", **QUICK)
    shutil.copy(tmp_path / "b/best.pt", tmp_path / "b/last.pt")
    with pytest.raises(CheckpointError, match=r"last.pt: holds weights alone, as best.pt does"):
        fit(Image(torch.zeros(6, 6, 1)), run_dir=tmp_path / "b", **QUICK)


def test_another_field_with_the_same_settings_is_refused(tmp_path):
    task = Image(torch.zeros(6, 6, 1))
    fit(task, Siren(2, 1, 8), run_dir=tmp_path, steps=1)
    with pytest.raises(CheckpointError, match="does not fit what is trained here") as caught:
        fit(task, Siren(2, 1, 9), run_dir=tmp_path, steps=2)
    assert "\n" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


def test_what_could_run_code_is_refused_without_torchs_advice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({"record": Evil()}, "a.pt")
    Path("b.pt").write_bytes(pickle.dumps({"record": Evil()}))
    with zipfile.ZipFile("c.pt", "w") as file:
        file.writestr("a/data.pkl", pickle.dumps({"record": Evil()}))
    for name in ("a.pt", "b.pt", "c.pt"):
        code, _, err = run(capsys, "render", name)
        assert code == 2
        assert f"{name}: not a readable checkpoint" in err
        assert refusal(err)
        assert "weights_only" not in err
    assert not Path("evil").exists()


def test_a_checkpoint_that_expands_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data/0", bytes(50_000_000))
    with pytest.raises(CheckpointError, match="claims to hold more than its own size"):
        checkpoints.read(tmp_path / "a.pt")


@pytest.mark.parametrize("command", ["mesh", "render", "complete"])
@pytest.mark.parametrize("name", ["bunny.ply", "photo.png", "folder", "other.zip", "other.pt", "part.pt", "list.pt"])
def test_what_is_no_run_says_what_a_run_is(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    for file in ("bunny.ply", "photo.png"):
        Path(file).write_bytes(b"ply\n" * 99)
    with zipfile.ZipFile("other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    torch.save({"weight": torch.zeros(3)}, "other.pt")
    torch.save({"record": {"model": None}, "ema": 1}, "part.pt")
    torch.save([1], "list.pt")
    code, _, err = run(capsys, command, name)
    assert code == 2
    assert refusal(err)
    assert name in err
    if not name.startswith(("other", "part", "list")):
        assert "expected a run folder of `hypersiren fit`" in err


def harm(content: dict, *place: str, value=None) -> dict:
    """The content with something else at a place, or without it."""
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


@pytest.mark.parametrize("value", [None, 5, "ab", [], {}])
@pytest.mark.parametrize(
    "place", [("record",), ("record", "model"), ("record", "playback"), ("record", "playback", "samples"), ("ema",)]
)
def test_a_record_of_another_shape_is_one_line(fitted, tmp_path, capsys, place, value):
    torch.save(harm(torch.load(fitted / "best.pt"), *place, value=value), tmp_path / "a.pt")
    code, out, err = run(capsys, "render", tmp_path / "a.pt", "--out", tmp_path / "a.png")
    assert (code, out) == (2, "")
    assert refusal(err)


@pytest.mark.parametrize("value", [None, 5, "ab", [], {}])
@pytest.mark.parametrize("place", [("best",), ("optimizers",), ("model",), ("record", "settings")])
def test_a_last_checkpoint_of_another_shape_is_no_crash(fitted, tmp_path, place, value):
    shutil.copytree(fitted, tmp_path / "a")
    torch.save(harm(torch.load(fitted / "last.pt"), *place, value=value), tmp_path / "a/last.pt")
    with contextlib.suppress(UserError):
        fit(Image(PICTURE), run_dir=tmp_path / "a", **QUICK)


@pytest.mark.parametrize(
    ("value", "what"), [(np.float64(25), "float64"), (range(3), "range"), ({1: [frozenset()]}, "frozenset")]
)
def test_what_could_not_be_read_again_is_refused_before_the_training(value, what, tmp_path):
    task = Image(PICTURE)
    task.playback = {"extra": value}
    rows: list[dict] = []
    with pytest.raises(CheckpointError, match=rf"^record\.playback\.extra.*got .*\({what}\)$"):
        fit(task, run_dir=tmp_path / "a", on_log=lambda step, row: rows.append(row), **QUICK)
    assert not rows
    assert not (tmp_path / "a/last.pt").exists()
    with pytest.raises(CheckpointError, match=r"^a.*: a checkpoint holds"):
        checkpoints.write(tmp_path / "b.pt", {"a": value})
    assert not (tmp_path / "b.pt").exists()


@pytest.mark.parametrize(
    "value",
    [None, True, 2, 2.5, "a", b"a", 1j, [1, (2.0,)], {"a": {1: {2}}}, torch.ones(2), torch.Size([3]), torch.half],
)
def test_what_may_be_written_is_read_again(value, tmp_path):
    content = {"record": {"a": value}, "ema": {}, "metrics": {}, "step": 0, "seconds": 0.0}
    try:
        checkpoints.write(tmp_path / "a.pt", content)
    except CheckpointError:
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match="could run code"):
            checkpoints.read(tmp_path / "a.pt")
    else:
        found = checkpoints.read(tmp_path / "a.pt")["record"]["a"]
        assert found is value or bool(torch.as_tensor(found == value).all())


def test_numbers_of_numpy_are_saved_as_plain_ones(tmp_path):
    """Metrics of a task of the user's own, and the arguments of a network."""

    class Own(Image):
        def evaluate(self, predict):
            return {name: np.float32(value) for name, value in super().evaluate(predict).items()}

    siren = Siren(2, 1, 8, first_omega=np.float64(20))
    fit(Own(PICTURE), siren, run_dir=tmp_path / "a", steps=2, validate_every=1)
    found = load(tmp_path / "a")
    assert torch.equal(found.state_dict()["layers.0.weight"], siren.state_dict()["layers.0.weight"])
    save(siren, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path / "a.safetensors")(found.layers[0].weight), found(found.layers[0].weight))


def test_released_models_are_small_and_described():
    assert released().keys() == {"faces", "photographs"}
    for name, path in released().items():
        assert path.stat().st_size < 6e6
        assert f"`{name}`" in (checkpoints.RELEASED / "README.md").read_text()


def test_the_released_faces():
    """They complete what is like their training images better than the mean does."""
    model = load("faces")
    shown = load_images("faces", "test", size=32, gray=True).spread(8)
    mask = torch.rand(8, 32, 32, generator=torch.Generator().manual_seed(0)) < 0.3
    with torch.no_grad():
        found = model.predict(Context.from_images(shown.unit * 2 - 1, mask))
        completed = (found.field(grid((32, 32))).unflatten(1, (32, 32)) + 1) / 2
        deviation = found.posterior.variance(grid((32, 32))).sqrt().unflatten(1, (32, 32)) / 2
    error = (completed - shown.unit)[~mask]
    assert error.square().mean() < 0.3 * shown.unit.var()
    assert 0.8 < (error.abs() < 1.645 * deviation[~mask]).float().mean() < 0.98
