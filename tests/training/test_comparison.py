"""The picture of a comparison: every field has its named row, and the images in it are those of the task."""

import re

import numpy as np
import pytest
import torch

from hypersiren.cli.compare import describe_columns
from hypersiren.errors import UserError
from hypersiren.plotting import figure_pixels, to_rgb
from hypersiren.settings.flags import load_settings
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.images.settings import ImageSettings
from hypersiren.tasks.summary import Measure
from hypersiren.tasks.task import FieldTask
from hypersiren.training.comparison import Comparison, compare

pytestmark = pytest.mark.painted


@pytest.fixture(scope="module")
def found() -> Comparison:
    task = Image(2 * torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(0)) - 1)
    often = ["--training.log_every", "1", "--training.validate_every", "1"]
    settings = load_settings(ImageSettings, flags=["--training.steps", "2", "--network.hidden_features", "8", *often])
    return compare(task, ["siren", "relu"], settings)


def test_rows_are_fields_and_columns_pictures(found):
    figure = found.figure()
    titles = [[axes.get_title() for axes in part.axes if axes.get_title()] for part in figure.subfigs]
    assert titles[0] == ["Truth", "Gradient of the truth", "Laplacian of the truth"]
    for name, row in zip(["siren", "relu"], titles[1:3], strict=True):
        assert row[0].startswith(f"{name}: {found.metrics[name]['psnr']:.3g} dB\n")
        words = [" ".join(title.split("\n")[1:]) for title in row]
        assert [re.sub(r", PSNR -?[\d.]+ dB$", "", text) for text in words] == [
            "Result",
            "Gradient of the result",
            "Laplacian of the result",
        ]
        assert all(", PSNR " in text for text in words[1:])
        assert all(title.startswith(name) for title in row)
    assert titles[3] == ["Colours of gradients", "Loss", "PSNR"]
    for axes in figure.subfigs[3].axes[1:]:
        assert [text.get_text() for text in axes.get_legend().texts] == ["siren", "relu"]
    assert figure.get_suptitle() == "image: fields compared by PSNR (higher is better)"
    assert np.array_equal(found.picture(), figure_pixels(figure))


def test_all_fields_are_on_the_scale_of_the_truth(found):
    parts = found.figure().subfigs[:3]
    assert len({part.axes[2].images[0].get_clim() for part in parts}) == 1
    shown = parts[0].axes[0].images[0].get_array()
    np.testing.assert_array_equal(shown, to_rgb(found.task.truth.numpy()))


def test_a_windowed_field_is_solved_beside_those_that_are_trained(found):
    flags = ["--training.steps", "2", "--network.hidden_features", "8", "--network.numbers", "0.5"]
    both = compare(found.task, ["siren", "windowed"], load_settings(ImageSettings, flags=flags))
    siren, windowed = both.metrics["siren"], both.metrics["windowed"]
    assert both.fits["windowed"].history[-1]["step"] == 0
    values = found.task.pixels.numel()
    for row, name in ((siren, "siren"), (windowed, "windowed")):
        assert row["numbers_per_value"] == pytest.approx(row["weights"] / values), name
        assert row["seconds"] > 0
    assert siren["psnr"] == pytest.approx(found.metrics["siren"]["psnr"])  # trained as without a windowed field
    assert windowed["numbers_per_value"] == pytest.approx(0.5, abs=0.05)
    assert "numbers_per_value" in str(both).splitlines()[0]
    titles = [axes.get_title() for part in both.figure().subfigs for axes in part.axes]
    assert any(title.startswith("windowed: ") for title in titles)


def test_a_task_without_windows_is_refused_before_anything_is_trained(found, monkeypatch):
    monkeypatch.setattr(type(found.task), "windowed", False)
    with pytest.raises(UserError, match="windowed: image has no closed form for windows"):
        compare(found.task, ["siren", "windowed"])


def test_the_table_has_the_units_of_the_task():
    class Own(FieldTask):
        measures = (Measure("error", "relative error", "%", factor=100),)

    found = Comparison(Own(), {}, {"siren": {"error": 0.5, "mine": 3.0, "seconds": 1.5}})
    assert [line.split() for line in str(found).splitlines()] == [
        ["field", "error", "mine", "seconds"],
        ["siren", "50", "3", "1.5"],
    ]
    assert list(describe_columns(found.measures)) == [
        "error: %, lower is better",
        "seconds: s of training or solving, lower is better",
    ]
