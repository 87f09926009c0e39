"""Benchmarks against what others use: plain implementations compute the same, tables have units, JSON has the table."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hypersiren import Siren
from hypersiren.cli import benchmark
from hypersiren.cli.fit import read_settings
from hypersiren.cli.main import main
from hypersiren.cli.train import read_train_settings
from hypersiren.completion.train import make_objective
from hypersiren.hypernets.context import rasterise
from hypersiren.signals.sets.images import load_images
from hypersiren.studies.benchmarks import fit, hypernet
from hypersiren.studies.benchmarks.data import PillowImages, write_jpegs
from hypersiren.studies.benchmarks.measure import shown
from hypersiren.tasks.images.image import Image
from hypersiren.training.step import TrainingStep

SMALL = ("--hypernet.hidden_features", "8", "--siren.hidden_features", "8", "--encoder.latent_features", "8")
FEW = ("--siren.hidden_features", "[8, 16]", "--prior.copies", "0")
MODELS = {
    "set": ("set", "celeba_set", SMALL),
    "cnn": ("cnn", "celeba_cnn", (*SMALL, "--encoder.size", "[SIZE, SIZE]")),
    "solve": ("solve", "faces", FEW),
    "conv": ("conv", "faces", (*FEW, "--encoder.kind", "conv", "--encoder.basis", "4", "--encoder.widths", "[8]")),
    "small": ("small", "faces", FEW),
}
"""As those of the command, but small."""


def picture(preset="paper", size=8):
    words = ["camera", "--signal.size", str(size), "--network.kind", "siren"]
    return read_settings("image", words, preset, None)


def test_steps_of_a_fit_are_of_equal_mathematics():
    settings = picture()
    task = Image.open(settings)
    start = Siren(2, 1, 32, 3, generator=torch.Generator().manual_seed(0))
    ways = fit.equal_steps(start, task, settings.training, compiled=False)
    assert list(ways) == [fit.OURS, fit.OTHER, fit.PLAIN]
    for _ in range(5):
        for _, step in ways.values():
            step()
    weights = {name: torch.nn.utils.parameters_to_vector(model.parameters()) for name, (model, _) in ways.items()}
    moved = weights[fit.PLAIN] - torch.nn.utils.parameters_to_vector(start.parameters())
    assert moved.abs().median() > 4e-4  # five steps of 1e-4
    for name in (fit.OURS, fit.OTHER):
        assert (weights[name] - weights[fit.PLAIN]).norm() < 1e-3 * moved.norm()


@pytest.mark.parametrize("name", ["set", "cnn"])
def test_the_plain_hypernetwork_has_the_same_loss_and_gradients(name):
    _, config, flags = MODELS[name]
    flags = [flag.replace("SIZE", "6") for flag in flags]
    settings = read_train_settings(Path(config), ["--data.size", "6", "--training.batch_size", "3", *flags])[1]
    objective = make_objective(hypernet.open_task(settings, 8), settings).double()
    batch = doubled(TrainingStep(objective, settings.training).draw(0, 0))
    context = batch.context
    known = (context.x, context.y, context.mask) if name == "set" else rasterise(context)[:1]
    plain = hypernet.PlainHyperSiren(objective.model)
    torch.testing.assert_close(plain(known, batch.x)[0], objective.model(context, batch.x))
    loss = hypernet.plain_loss(plain, known, batch.x, batch.y, settings.loss)
    ours = torch.stack(list(objective(batch).values())).sum()
    torch.testing.assert_close(loss, ours)
    loss.backward()
    ours.backward()
    pairs = [(plain.encoder, objective.model.encoder)]
    for mlp, trunk, head in zip(
        plain.mlps, objective.model.hypernet.trunks, objective.model.hypernet.heads, strict=True
    ):
        pairs += [(mlp[:-1], trunk), (mlp[-1], head)]
    for a, b in pairs:
        for p, q in zip(sorted_parameters(a), sorted_parameters(b), strict=True):
            torch.testing.assert_close(p.grad, q.grad)


def doubled(batch):
    context = replace(batch.context, x=batch.context.x.double(), y=batch.context.y.double())
    return replace(batch, context=context, x=batch.x.double(), y=batch.y.double())


def sorted_parameters(module):
    """In an order that does not depend on where they hang: by shape and values, which both have alike."""
    return sorted(module.parameters(), key=lambda p: (tuple(p.shape), p.flatten()[0].item()))


def test_plain_contexts_are_drawn_as_ours():
    settings = read_train_settings(Path("celeba_set"), ["--data.size", "16"])[1]
    images = hypernet.PlainImages(hypernet.synthetic_pictures(1, (16, 16)), settings.context)
    counts = []
    for _ in range(50):
        (x, y, mask), values = images[0]
        counts.append(int(mask.sum()))
        assert len(x.unique(dim=0)) == len(x) == settings.context.most
        place = ((x[0] + 1) * 8).floor().long()
        torch.testing.assert_close(y[0], values[place[0] * 16 + place[1]])
    assert settings.context.fewest <= min(counts) < 60 < 150 < max(counts) <= settings.context.most


@pytest.mark.parametrize(("size", "mean", "most"), [(64, 0.1, 1), (16, 5, 20)])
def test_both_data_paths_give_the_same_pixels(size, mean, most, tmp_path):
    """To a level of 255; where ours lets the JPEG decoder reduce first, to a few."""
    for split in ("train", "val", "test"):
        write_jpegs(tmp_path / "files" / split, 2)
    ours = load_images("folder", "train", root=tmp_path / "files", size=size, cache_dir=tmp_path / "cache")
    plain = PillowImages(tmp_path / "files" / "train", size)
    for i in range(2):
        error = 127.5 * (plain[i] - ours.images(torch.tensor([i]))[0].movedim(-1, 0)).abs()
        assert error.mean() <= mean
        assert error.max() <= most + 0.01


COMMANDS = {
    "fit": "fit --size 8 --limit 0.2 --every 2 --rounds 1 --steps 1 --no-compiled --thresholds 5,90",
    "hypernet": "hypernet --size 8 --batch 2 --rounds 1",
    "render": "render --sizes 16,24 --width 8 --rounds 1",
    "data": "data --images 6 --size 8 --batch 3 --rounds 1",
}
SPEED = ["steps/s", "images/s", "megapixels/s", "images/s"]
ROWS = {
    "fit": [["one SIREN", "siren-pytorch", "plain loop", "matrix product 1024 x 1024, fp32"],
            ["one SIREN", "siren-pytorch", "plain loop", "windows"],
            ["one SIREN", "siren-pytorch", "plain loop", "windows, 0.25", "windows, 0.5", "windows, 1.15", "Lanczos",
             "cubic"]],
    "hypernet": [["set: hypersiren", "set: plain", "cnn: hypersiren", "cnn: plain", "solve: hypersiren",
                  "conv: hypersiren", "small: hypersiren", "matrix product 1024 x 1024, fp32"]],
    "render": [["16 x 16: hypersiren", "16 x 16: one call", "16 x 16: windows", "16 x 16: windows, a pixel more",
                "24 x 24: hypersiren", "24 x 24: one call", "24 x 24: windows", "24 x 24: windows, a pixel more",
                "matrix product 1024 x 1024, fp32"]],
    "data": [["hypersiren, the first time: decode and cache", "hypersiren, later: open the cache",
              "hypersiren, an epoch: draw and augment", "DataLoader with Pillow, an epoch: read and augment"]],
}  # fmt: skip


@pytest.mark.parametrize(("name", "unit"), list(zip(COMMANDS, SPEED, strict=True)))
def test_the_command_prints_a_table_and_writes_it_as_json(name, unit, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "MODELS", MODELS)
    main(["benchmark", *COMMANDS[name].split(), "--device", "cpu", "--out", str(tmp_path / "numbers.json")])
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["benchmark"] == name
    assert list(found["machine"])[:4] == ["CPU", "threads", "torch", "device"]
    assert f"torch {torch.__version__}, device cpu" in printed.splitlines()[0]
    assert all(note in printed for note in found["notes"])
    assert [list(table["rows"]) for table in found["tables"]] == ROWS[name]
    assert found["tables"][0]["columns"]["speed"] == {"unit": unit, "better": "higher"}
    for table in found["tables"]:
        lines = printed[printed.index(table["title"]) :].split("\n\n")[0].splitlines()[1:]
        columns = table["columns"]
        assert lines[0].split() == " ".join(columns).split()
        assert lines[1].split() == " ".join(column["unit"] for column in columns.values()).split()
        assert lines[2].split() == ["better", "is", *(column["better"] for column in columns.values())]
        for line, (row, cells) in zip(lines[3:], table["rows"].items(), strict=True):
            expected = " ".join([row, *(shown(cells.get(column)) for column in columns)])
            assert " ".join(line.split()) == expected
            for column in columns:
                assert (
                    not isinstance(cells.get(column), int | float)
                    or cells[column] >= 0
                    or columns[column]["unit"] == "dB"
                )


def test_a_quality_that_is_not_reached_is_said():
    found = fit.fit_report(picture("fast"), picture(), thresholds=[5, 90], every=2, limit=0.2, rounds=1, compiled=False)
    rows = found.tables[1].rows
    assert rows["plain loop"]["90 dB"] == "> 0.2 s"
    assert rows["plain loop"]["5 dB"] > 0
    assert "90 dB, sooner" not in rows["one SIREN"]
    assert rows["windows"]["90 dB"] == "not reached"


def test_windows_stand_beside_what_is_trained():
    """With more numbers they are better, at the pixels and between them; all of it from one picture."""
    few = {"thresholds": [22], "every": 2, "limit": 0.1, "rounds": 1, "repeats": 1, "compiled": False}
    quality, between = fit.fit_report(picture("fast", 40), picture(size=40), **few).tables[1:]
    rows = [between.rows[f"windows, {numbers:g}"] for numbers in fit.NUMBERS]
    for row, numbers in zip(rows, fit.NUMBERS, strict=True):
        assert row["numbers"] == pytest.approx(numbers, rel=0.05)
    for column in ("pixels", "gradient", "twice the size"):
        assert rows[0][column] < rows[1][column] < rows[2][column]
    assert min(quality.rows["windows"][column] for column in ("22 dB", "all steps")) > 0  # seconds
    assert rows[2]["pixels"] > 29
    assert between.rows["one SIREN"]["numbers"] == pytest.approx(198_401 / 40**2)


def test_twice_the_size_needs_a_file_that_is_so_large():
    assert fit.twice_the_size(picture(size=256), (256, 256)).shape == (512, 512, 1)
    assert fit.twice_the_size(picture(size=257), (257, 257)) is None


def test_a_network_of_siren_pytorch_is_our_field():
    start = Siren(2, 1, 16, 3, generator=torch.Generator().manual_seed(0))
    net, x = fit.other_siren(start, copied=False), torch.rand(20, 2)
    torch.testing.assert_close(fit.with_weights(start, net)(x), net(x), atol=1e-5, rtol=0)


def test_a_missing_siren_pytorch_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "siren_pytorch", None)
    few = {"thresholds": [5], "every": 2, "limit": 0.1, "rounds": 1, "repeats": 1, "compiled": False}
    found = fit.fit_report(picture("fast"), picture(), **few)
    assert all(list(table.rows)[:2] == ["one SIREN", "plain loop"] for table in found.tables)
    assert [line for line in str(found).splitlines() if "siren-pytorch" in line] == [fit.MISSING]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fit --limit 0", "--limit above 0"),
        ("fit --size 0", "signal.size"),
        ("fit --thresholds 30,high", "--thresholds: expected numbers above 0"),
        ("fit --out nowhere/numbers.json", "nowhere/numbers.json: expected a name in a folder that exists"),
        ("hypernet --models set,gan", "--models: expected some of set, cnn, solve, conv, small, got 'gan'"),
        ("render --sizes 0", "--sizes: expected numbers above 0"),
        ("data --images 8 --batch 9", "--images of at least 9, got 8"),
    ],
)
def test_mistakes_get_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", *words.split()])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
