"""The command as a person types it: it works, and what they mistype gets one line and exit code 2."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.cli.main import main
from hypersiren.fields.savable import describe
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.model import HyperSiren
from hypersiren.training import checkpoints, runs
from hypersiren.training.checkpoints import load, read, save, write
from tests.lines import refusal

TINY = ["--data.size", "8", "--siren.hidden_features", "8", "--encoder.kind", "set", "--encoder.hidden_features", "8",
        "--adapter.kind", "none", "--hypernet.hidden_features", "8", "--training.steps", "4",
        "--training.batch_size", "4", "--training.validate_every", "2", "--device", "cpu"]  # fmt: skip


def run(capsys, *words) -> tuple[int, str, str]:
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code or 0
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    main(["train", "--out", str(folder), *TINY])
    return folder


def test_train_makes_a_whole_run_folder_and_prints_the_table(trained, capsys):
    code, out, err = run(capsys, "train", "--out", trained, *TINY)
    assert code == 0
    assert out.startswith("context")
    assert "biharmonic" in out
    assert "Traceback" not in err
    for name in ("config.yaml", "last.pt", "best.pt", "metrics.json", "completion/table.txt", "completion/metrics.json",
                 "completion/completion.png", "completion/interpolation.png", "completion/outside.png"):  # fmt: skip
        assert (trained / name).stat().st_size > 0, name
    assert list(trained.glob("events.out.tfevents.*"))
    assert set(json.loads((trained / "completion/metrics.json").read_text())["mse"]["hypersiren"]) == {
        "10", "half", "full",
    }  # fmt: skip


def test_complete_of_ones_own_pictures(trained, tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        Image.fromarray(rng.integers(0, 256, (50, 40, 3), np.uint8)).save(tmp_path / name)
    a, b, out = tmp_path / "a.png", tmp_path / "b.jpg", tmp_path / "out"
    code, printed, _ = run(capsys, "complete", trained, a, b, "--context", 20, "--size", 30, "--out", out)
    assert code == 0
    assert printed.split() == [str(out / f"{n}_{what}.png") for n in ("a", "b") for what in ("completed", "panel")]
    assert Image.open(out / "a_completed.png").size == (30, 30)
    assert run(capsys, "complete", trained, a, b, "--interpolate", 3, "--out", out)[0] == 0
    assert (out / "a_to_b.png").exists()
    mask = np.full((50, 40), 255, np.uint8)
    mask[:10] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert run(capsys, "complete", trained, a, "--mask", tmp_path / "mask.png", "--extent", 2, "--out", out)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], 'Did you mean "train"?'),
        (["train", "--config", "configs/fcaes.yaml"], "no such file"),
        (["train", "--config", "fcaes"], 'no such file or configuration "fcaes"; did you mean "faces"?'),
        (["train", "--config", "paper"], "expected a file, or one of celeba_64"),
        (["fit", "image", "a.png", "--config", "papr"], 'did you mean "paper"?'),
        (["train", "--trainig.lr", "1"], 'did you mean "training"?'),
        (["train", "--confg", "x.yaml"], 'did you mean "config"?'),
        (["train", "--training.lr", "fast"], "training.lr: input should be a valid number"),
        (["train", "--data.kind", "FashionMINST"], "FashionMNIST"),
        (["train", "--data.kind", "folder"], "need a root"),
        (["train", "--device", "warp"], '--device: expected auto or one of cpu, cuda, mps, xpu, got "warp"'),
        (["complete", "nowhere"], "nowhere: no such run folder"),
        (["complete", "RUN", "missing.png"], "missing.png"),
        (["complete", "RUN", "a.png", "--contxt", "3"], "Did you mean --context?"),
        (["complete", "RUN", "a.png", "--context", "abc"], "abc"),
        (["complete", "RUN", "a.png", "--context", "0"], "--context of at least 1, got 0"),
        (["complete", "RUN", "a.png", "--context", "65"], "--context of at most 64"),
        (["complete", "RUN", "a.png", "--interpolate", "3"], "needs two pictures"),
        (["complete", "RUN", "a.png", "a.png"], 'two files of the name "a"'),
        (["complete", "RUN", "text.png"], "text.png"),
        (["complete", "RUN", "--context", "3"], "--context needs a picture"),
        (["complete", "RUN", "--seed", "-1"], "--seed of at least 0, got -1"),
        (["complete", "empty.pt"], "not a readable checkpoint"),
        (["train", "--hypernet.layers", "9"], "hypernet.layers (9) must not exceed"),
        (["train", "--encoder.sigmas", "[]"], "encoder.sigmas"),
        (["train", "--data.kind", "2024-13-45"], "2024-13-45"),
        (["train", "--data.size", "0"], "data.size: input should be greater than 0"),
        (["benchmark", "loop", "--steps", "0"], "--steps of at least 1"),
        (["benchmark", "jets", "--points", "0"], "--points of at least 1"),
        (["benchmark", "steps", "wave", "--rounds", "0"], "--rounds of at least 1"),
        (["benchmark", "steps", "image"], "image"),
        (["benchmark", "warm", "nowhere"], "nowhere: no such run folder"),
        (["benchmark", "warm", "RUN", "--context", "most"], "--context: expected"),
        (["complete", "RUN", "a.png", "a.png", "--interpolate", "3", "--refine", "2"], "exclude each other"),
        (["complete", "RUN", "--samples", "0"], "--samples of at least 1"),
        (["complete", "RUN", "--samples", "3"], "--samples needs a model that predicts a distribution"),
        (["complete", "RUN", "a.png", "--samples", "3"], "--samples needs a model that predicts a distribution"),
        (["complete", "RUN", "a.png", "--samples", "3", "--refine", "2"], "neither --refine nor --interpolate"),
        (["complete"], "run"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(trained, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.pt").write_bytes(b"")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    code, _, err = run(capsys, *[str(trained) if word == "RUN" else word for word in words])
    assert code == 2
    assert message.lower() in err.lower()
    assert refusal(err)


def test_other_settings_for_the_same_folder_are_refused(trained, capsys):
    code, _, err = run(capsys, "train", "--out", trained, *TINY, "--training.lr", "5e-4")
    assert code == 2
    assert "training.lr: 0.001 there, 0.0005 here" in err


def test_a_folder_with_broken_files_names_and_counts_them(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (12, 12), np.uint8)).save(tmp_path / "pictures" / f"{i:02}.png")
    for i in range(3):
        (tmp_path / "pictures" / f"broken{i}.png").write_bytes(b"\x89PNG nonsense")
    words = [
        "train",
        "--out",
        tmp_path / "run",
        *TINY,
        "--data.kind",
        "folder",
        "--data.root",
        tmp_path / "pictures",
    ]
    for _ in range(2):  # from the files, then from the cache
        code, _, err = run(capsys, *words)
        assert code == 0
        assert "skipped 3 files that cannot be used" in err
        assert all(f"broken{i}.png" in err for i in range(3))


@pytest.mark.parametrize("name", ["celeba_set", "celeba_set_relu", "celeba_cnn", "celeba_pconv", "celeba_fast"])
@pytest.mark.slow
def test_celeba_configurations_train_on_files_in_its_layout(name, tmp_path, capsys, monkeypatch):
    """A step of each, with a small hypernetwork and few images; what is tested is that all parts fit.

    Pictures ask for most of the time and have no settings of their own: other trainings of this file draw them.
    """
    for picture in ("completion_picture", "samples_picture", "interpolation_picture", "outside_picture"):
        blank = np.zeros((1, 1, 3), np.uint8)
        monkeypatch.setattr(
            f"hypersiren.completion.images.study.{picture}", lambda *words, _blank=blank, **more: _blank
        )
    monkeypatch.setattr("hypersiren.completion.images.task.Completion.panels", lambda *words, **more: {})
    images = tmp_path / "celeba" / "img_align_celeba"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (218, 178, 3), np.uint8)).save(images / f"{i:06}.jpg")
    partition = "".join(f"{i:06}.jpg {i // 2}\n" for i in range(6))
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text(partition)
    config = Path(__file__).parents[2] / "configs" / "completion" / f"{name}.yaml"
    own = ["--correction.masks", 20, "--correction.width", 64, "--siren.hidden_features", "[32, 96]"]
    small = own if name == "celeba_fast" else []
    code, out, err = run(capsys, "train", "--config", config, "--out", tmp_path / "run", "--data.root", tmp_path,
                         "--hypernet.hidden_features", 8, "--training.steps", 1, "--training.batch_size", 2,
                         "--training.compile", "false", "--device", "cpu",
                         *small)  # fmt: skip
    assert code == 0, err
    assert "2 test images" in out
    assert ("change to the prior alone" in out) == (name == "celeba_fast")


def test_benchmark_of_the_loop_gives_shares(capsys):
    code, out, _ = run(capsys, "benchmark", "loop", "--steps", 3, *TINY)
    assert code == 0
    rows = dict(line.split()[:2] for line in out.splitlines())
    assert set(rows) == {"data", "update", "logging"}
    assert sum(map(float, rows.values())) == pytest.approx(100, abs=0.2)


def test_benchmark_of_warm_starts(trained, capsys):
    code, out, _ = run(capsys, "benchmark", "warm", trained, "--context", 30, "--steps", 20)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["predicted", "predicted,", "fresh,"]


def test_refined_completions(trained, tmp_path, capsys):
    code, out, _ = run(capsys, "complete", trained, "--refine", 2, "--out", tmp_path / "table")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[3:6]] == ["hypersiren", "PSNR,", "refined"]
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / "a.png")
    plain, refined = tmp_path / "plain", tmp_path / "refined"
    run(capsys, "complete", trained, tmp_path / "a.png", "--context", 40, "--out", plain)
    run(capsys, "complete", trained, tmp_path / "a.png", "--context", 40, "--refine", 100, "--out", refined)
    errors = [np.abs(np.asarray(Image.open(p / "a_completed.png"), float) - 90).mean() for p in (plain, refined)]
    assert errors[1] < errors[0]


@pytest.fixture(scope="module")
def solving(trained, tmp_path_factory):
    """A run folder as of a model whose last layer is solved, with the model before its training."""
    folder = tmp_path_factory.mktemp("runs") / "solving"
    folder.mkdir()
    settings = read(trained / "best.pt")["record"]["settings"]
    for name, spread in (("best.pt", 0.0), ("prior.pt", 0.7)):
        model = HyperSiren(None, None, Siren(2, 1, hidden_features=(8, 16)), LastLayerSolve(16))
        model.adapter.spread[0] = spread
        record = {"settings": settings, "model": describe(model)}
        write(folder / name, {"record": record, "step": 1, "metrics": {}, "seconds": 0.0, "ema": model.state_dict()})
    return folder


def test_a_model_with_a_posterior_shows_it(solving, tmp_path, capsys):
    code, out, err = run(capsys, "complete", solving, "--samples", 3, "--out", tmp_path)
    assert code == 0, err
    assert out.count("prior alone") == 6  # errors of all pixels, of unknown ones, coverage, likelihood ...
    assert "17 numbers per image" in out
    few = Image.open(tmp_path / "samples.png").size
    assert run(capsys, "complete", solving, "--samples", 5, "--out", tmp_path)[0] == 0
    assert Image.open(tmp_path / "samples.png").size[0] > few[0]
    found = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("mse", "psnr", "unknown", "psnr_unknown", "coverage"):
        contexts = {"10", "half"} | ({"full"} if name in ("mse", "psnr") else set())
        for method in ("hypersiren", "prior alone"):
            assert set(found[name][method]) == contexts, name
    assert set(found["unknown"]["linear"]) == {"10", "half"}
    assert found["numbers"] == 17


def test_samples_of_ones_own_picture(solving, tmp_path, capsys):
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / "a.png")
    words = ["complete", solving, tmp_path / "a.png", "--context", 20, "--size", 64, "--out", tmp_path / "out"]
    code, printed, _ = run(capsys, *words, "--samples", 4)
    assert code == 0
    assert printed.split() == [
        str(tmp_path / "out" / name) for name in ("a_completed.png", "a_samples.png", "a_panel.png")
    ]
    assert Image.open(tmp_path / "out" / "a_panel.png").size[0] > 4 * 64  # context, completion, deviation, picture
    assert Image.open(tmp_path / "out" / "a_samples.png").size[0] > 6 * 64
    assert run(capsys, *words[:2], tmp_path / "a.png", tmp_path / "a.png", "--interpolate", 3)[0] == 0


@pytest.mark.parametrize(
    "script",
    [
        "train/hypernet.py",
        "eval/complete.py",
        "eval/benchmark.py",
        "train/fit.py",
        "eval/compare.py",
        "eval/initialisation.py",
    ],
)
def test_launchers_run(script):
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, root / script, "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout


def test_help_describes_commands_and_options(capsys):
    assert "complete" in run(capsys, "--help")[1]
    assert "TensorBoard" not in run(capsys, "train", "--help")[2]
    assert "--mask" in run(capsys, "complete", "--help")[1]
    assert "--training.lr [" in run(capsys, "settings")[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_trains_on_a_gpu(tmp_path, capsys):
    words = [word if word != "cpu" else "cuda" for word in TINY]
    assert run(capsys, "train", "--out", tmp_path, *words, "--training.autocast")[0] == 0


def test_a_released_model_is_used_by_its_name(trained, tmp_path, monkeypatch, capsys):
    released = tmp_path / "released"
    released.mkdir()
    monkeypatch.setattr(runs, "RELEASED", released)
    checkpoints.release(trained, released / "tiny.safetensors")
    assert (released / "tiny.safetensors").stat().st_size < 0.6 * (trained / "best.pt").stat().st_size
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)).save("photo.png")
    code, out, err = run(capsys, "complete", "tiny", "photo.png", "--context", 20)
    assert (code, err) == (0, "complete tiny\n")
    made = [Path(line) for line in out.split()]
    assert made
    assert all(path.parent == Path("runs/released-tiny/completion") and path.exists() for path in made)
    assert sorted(released.iterdir()) == [released / "tiny.safetensors"]  # nothing is written into the package
    both = [load(name) for name in ("tiny", trained)]
    for (name, half), whole in zip(both[0].state_dict().items(), both[1].state_dict().values(), strict=True):
        torch.testing.assert_close(half, whole, rtol=1e-3, atol=1e-6, msg=name)
    code, _, err = run(capsys, "complete", "tony", "photo.png")
    assert code == 2
    assert "tony: no such run folder or checkpoint, nor a released model (tiny)" in err


def test_a_saved_field_is_not_completed_with(tmp_path, capsys):
    save(Siren(2, 1, 8), tmp_path / "a.safetensors")
    code, _, err = run(capsys, "complete", tmp_path / "a.safetensors")
    assert code == 2
    assert "expected a run of `hypersiren train`, got a fitted field" in err


def test_help_of_a_task_lists_its_settings_and_needs_no_torch(capsys):
    code, out, _ = run(capsys, "fit", "poisson", "--help")
    assert code == 0
    assert "fit TASK [FILE]" in out
    assert "--loss.filter [spectral]  sobel | central" in out
    assert max(map(len, out.splitlines())) <= 120
    _, out, _ = run(capsys, "train", "--data.kind", "solids", "-h")
    assert "--data.rotation" in out
    assert "--context.evaluation" in out
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "hypersiren", "fit", "image", "--help"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert "torch" not in {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}


def test_the_version_names_torch_and_the_device(capsys):
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert re.match(r"hypersiren [0-9.]+, torch [0-9.+a-z]+, device (cpu|cuda|mps)", out)
