"""fit, compare, render and initialisation as a person types them, and what they mistype."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from hypersiren.tasks.images.settings import PoissonSettings
from tests.cli.test_cli import run
from tests.lines import refusal

TINY = ["--network.hidden_features", 8, "--network.hidden_layers", 1, "--training.steps", 4, "--training.points", 50,
        "--training.validate_every", 2, "--device", "cpu"]  # fmt: skip


MASKED = ["--signal.mask", "mask.png"]


@pytest.fixture
def photo(tmp_path, monkeypatch):
    """A small colour picture and its mask in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save("a.png")
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:20] = 255
    Image.fromarray(mask).save("mask.png")
    return tmp_path / "a.png"


def test_fit_writes_numbers_checkpoints_and_pictures(photo, capsys):
    code, out, err = run(capsys, "fit", "image", "a.png", *TINY)
    folder = photo.parent / "runs" / "image-a"
    assert code == 0, err
    assert "psnr" in out
    assert json.loads((folder / "metrics.json").read_text())["step"] == 4
    for name in ("config.yaml", "last.pt", "best.pt", "history.json", "fit.png", "summary.png"):
        assert (folder / name).stat().st_size > 0, name
    assert Image.open(folder / "fit.png").size == (30, 20)
    assert Image.open(folder / "summary.png").width == 1200
    assert sorted(path.name for path in folder.glob("*.png")) == ["fit.png", "summary.png"]
    again, same, _ = run(capsys, "fit", "image", "a.png", *TINY)
    assert (again, same) == (0, out)


@pytest.mark.parametrize("kind", ["L", "RGBA", "I;16", "P", "1"])
def test_pictures_of_every_kind(kind, photo, capsys):
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    if kind == "I;16":
        Image.fromarray(values[..., 0].astype(np.uint16) * 257).save("b.png")
    else:
        Image.fromarray(values, "RGBA").convert(kind).save("b.png")
    assert run(capsys, "fit", "image", "b.png", *TINY)[0] == 0
    shown = Image.open(photo.parent / "runs/image-b/fit.png")
    assert shown.mode == ("L" if kind in ("L", "I;16", "1") else "RGB")
    assert shown.size == (7, 9)


@pytest.mark.parametrize(
    "words",
    [
        ["inpaint", "a.png", "--signal.mask", "mask.png", "--loss.prior_points", 20],
        ["inpaint", "a.png", "--signal.share", 0.5, "--loss.prior", "hessian", "--loss.prior_points", 20],
        ["poisson", "a.png"],
        ["poisson", "a.png", "--loss.target", "laplacian", "--loss.filter", "stencil"],
        ["edit", "a.png", "a.png"],
        ["edit", "a.png", "a.png", "--signal.mask", "mask.png", "--signal.offset", "[2, -3]", "--loss.mix", "stronger"],
        ["image", "a.png", "--preset", "paper", "--training.points", 50],
        ["image", "a.png", "--signal.gray", "true", "--signal.size", "[8, 9]"],
    ],
)
def test_tasks_run(words, photo, capsys):
    code, out, err = run(capsys, "fit", *words, *TINY)
    assert code == 0, err
    assert out


@pytest.mark.parametrize("name", ["photo #1.png", "[a].png", "@x.png", "a: b.png", "%d.png", "null"])
def test_files_with_odd_names(name, photo, capsys):
    (photo.parent / name).write_bytes(photo.read_bytes())
    code, _, err = run(capsys, "fit", "image", name, *TINY)
    assert code == 0, err
    assert (photo.parent / "runs" / f"image-{Path(name).stem}" / "fit.png").exists()


def test_render_at_any_size_and_region(photo, capsys):
    run(capsys, "fit", "image", "a.png", *TINY)
    code, out, _ = run(capsys, "render", "runs/image-a", "--size", 40)
    assert code == 0
    whole = np.asarray(Image.open(out.strip()))
    assert whole.shape == (40, 60, 3)
    words = ["--size", 20, "--region", 0.25, 0.5, 0.75, 1, "--out", "part.png"]
    assert run(capsys, "render", "runs/image-a", *words)[0] == 0
    np.testing.assert_allclose(np.asarray(Image.open("part.png")), whole[10:30, 30:60], atol=1)


def test_compare_writes_a_table_and_a_picture(photo, capsys):
    code, out, err = run(capsys, "compare", "image", "a.png", "--fields", "siren,relu", *TINY)
    assert code == 0, err
    assert out.split()[:2] == ["field", "mse"]
    folder = photo.parent / "runs" / "compare-image-a"
    numbers = json.loads((folder / "metrics.json").read_text())
    assert set(numbers) == {"siren", "relu"}
    assert {"psnr", "ssim", "gradient_psnr", "laplacian_psnr", "weights", "seconds"} <= set(numbers["relu"])
    assert (folder / "comparison.png").exists()


def test_compare_trains_by_default_what_fit_would_solve(photo, capsys, monkeypatch):
    """Each field has the steps that suit it, where they are left open: windows none."""
    monkeypatch.setattr(PoissonSettings, "trained_steps", 2)
    small = ["--hidden-layers", 1, "--hidden-features", 8, "--points", 50, "--device", "cpu"]
    code, out, err = run(capsys, "compare", "poisson", "a.png", "--fields", "siren,windowed", *small)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["siren", "windowed"]


def test_what_a_picture_would_overwrite_stays(photo, capsys):
    Path("initialisation.png").write_text("mine")
    words = ["--hidden-layers", 1, "--hidden-features", 4, "--fields", "relu"]
    assert run(capsys, "initialisation", *words)[0] == 0
    assert Path("initialisation.png").read_text() == "mine"
    assert Path("initialisation-2.png").exists()


def test_initialisation_draws(photo, capsys):
    words = ["--fields", "siren,relu", "--hidden-layers", 1, "--hidden-features", 8]
    code, out, _ = run(capsys, "initialisation", *words)
    assert code == 0
    assert "siren" in out
    assert Image.open("initialisation.png").width > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "imag"], 'did you mean "image"?'),
        (["fit", "quantum"], "expected one of image"),
        (["fit", "image", "nope.png"], "nope.png: no such file"),
        (["fit", "image", "text.png"], "text.png: not an image"),
        (["fit", "edit", "a.png", "b.png", "c.png"], "edit takes 2 files"),
        (["fit", "image", "a.png", "--training.stps", "3"], 'did you mean "training.steps"?'),
        (["fit", "image", "a.png", "--signal.size", "0"], "signal.size"),
        (["fit", "image", "a.png", "--signal.share", "0"], "signal.share"),
        (["fit", "image", "a.png", "--network.kind", "sirn"], "network.kind: input should be 'siren'"),
        (["fit", "image", "a.png", "--preset", "slow"], "slow"),
        (["fit", "inpaint", "a.png", "--signal.mask", "small.png"], "30x20 pixels (width x height), got 4x3"),
        (["fit", "inpaint", "a.png", "--signal.mask", "black.png"], "no pixel is known"),
        (["fit", "poisson", "a.png", "--loss.filter", "stencil"], 'expected "sobel", "central" or "spectral"'),
        (["fit", "edit", "a.png", "a.png", *MASKED, "--signal.offset", "[99, 0]"], "nothing of the mask"),
        (["fit", "edit", "a.png", "a.png", "--signal.source_size", "[3, 4]"], "a source of the target's 30x20"),
        (["compare", "image", "a.png", "--fields", "siren,rely"], "got 'rely'"),
        (["render", "nowhere"], "nowhere: no such run"),
        (["render", "RUN", "--region", "0", "0", "0", "1"], "top < bottom"),
        (["render", "RUN", "--size", "0"], "--size above 0"),
        (["complete", "RUN"], "expected a run of `hypersiren train`"),
        (["settings", "imag"], 'unknown task "imag"'),
        (["fit", "image", "https://a.org/b.png"], "signal.path: expected a file on this computer, not a URL"),
        (["render", "s3://a/b"], "expected a file on this computer, not a URL"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line_and_exit_code_2(words, message, photo, capsys):
    (photo.parent / "text.png").write_text("no picture")
    Image.new("L", (4, 3), 255).save("small.png")
    Image.new("L", (30, 20), 0).save("black.png")
    if "RUN" in words:
        run(capsys, "fit", "image", "a.png", *TINY)
        words = ["runs/image-a" if word == "RUN" else word for word in words]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert message.lower() in err.lower()
    assert refusal(err)


def test_another_picture_in_the_same_folder_is_refused(photo, capsys):
    run(capsys, "fit", "image", "a.png", "--out", "x", *TINY)
    code, _, err = run(capsys, "fit", "image", "camera", "--out", "x", *TINY)
    assert code == 2
    assert "signal.path: a.png there, camera here" in err


def out_of_memory(*arguments, **options):
    raise MemoryError


@pytest.mark.parametrize(
    ("words", "decoder"),
    [
        (("image", "a.png"), "PIL.Image.open"),
        (("audio", "a.wav"), "hypersiren.signals.sound.opened._decode"),
        (("sdf", "a.npy"), "numpy.lib.format.read_array"),
        (("helmholtz", "a.npy"), "numpy.lib.format.read_array"),
    ],
)
def test_out_of_memory_on_a_file_blames_the_file(words, decoder, tmp_path, monkeypatch, capsys):
    """No advice about batch sizes: nothing is trained yet."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("a.png")
    soundfile.write("a.wav", np.zeros(1000), 8000)
    np.save("a.npy", np.ones((30, 6)))
    monkeypatch.setattr(decoder, out_of_memory)
    code, _, err = run(capsys, "fit", *words)
    assert code == 2
    line = refusal(err)
    assert words[1] in line
    assert "memory" in line
    assert "batch_size" not in line
