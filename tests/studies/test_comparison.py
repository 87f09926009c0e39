"""The picture of a comparison: every field has its named row, and the images in it are those of the task."""

import numpy as np
import pytest
import torch

from hypersiren.plotting import figure_pixels, to_rgb
from hypersiren.settings import load_settings
from hypersiren.studies.comparison import Comparison, compare
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.images.settings import ImageSettings


@pytest.fixture(scope="module")
def found() -> Comparison:
    task = Image(2 * torch.rand(40, 60, 3, generator=torch.Generator().manual_seed(0)) - 1)
    settings = load_settings(ImageSettings, flags=["--training.steps", "2", "--network.hidden_features", "8"])
    return compare(task, ["siren", "relu"], settings)


def test_rows_are_fields_and_columns_pictures(found):
    figure = found.figure()
    titles = [text.get_text() for text in figure.texts]
    assert titles[:3] == ["truth", "siren", "relu"]
    assert titles[3:] == ["fit", "gradient", "laplacian"]
    assert np.array_equal(found.picture(), figure_pixels(figure))


def test_pictures_are_enlarged_and_whole(found):
    pixels = figure_pixels(found.figure())
    truth = found.task.panels(found.fits["siren"].field)["true_fit"].pixels.numpy()
    enlarged = to_rgb(truth).repeat(2, 0).repeat(2, 1)  # 60 wide: twice is at most 160
    corners = np.argwhere((pixels == enlarged[0, 0]).all(-1)).tolist()
    assert any(np.array_equal(pixels[y : y + 80, x : x + 120], enlarged) for y, x in corners)
