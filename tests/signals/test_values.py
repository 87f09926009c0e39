"""One rule for the numbers of arrays: `Image`, `Completion` and `Context` read the same values from the same arrays."""

import warnings

import numpy as np
import PIL.Image
import pytest
import torch

from hypersiren.completion.images.task import Completion
from hypersiren.errors import UserError
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.signals.sets.splits import DatasetError
from hypersiren.tasks.images.image import Image

LEVELS = torch.randint(0, 256, (3, 6, 5, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIGNED = LEVELS / 127.5 - 1
KNOWN = torch.ones(3, 6, 5, dtype=torch.bool)
GRAY = np.zeros((6, 5), np.uint8)


def readings(images: torch.Tensor, **words) -> dict[str, torch.Tensor]:
    """What each of the three makes of the same images, as values in [-1, 1]."""
    return {
        "Image": torch.stack([Image(image, **words).pixels for image in images]),
        "Completion": Completion(images, images, batch_size=1, **words).train.pixels / 127.5 - 1,
        "Context": Context.from_images(images, KNOWN, **words).y.view(images.shape),
    }


@pytest.mark.filterwarnings("ignore:floats that all lie")
@pytest.mark.parametrize(
    ("images", "words"),
    [
        (LEVELS, {}),
        (SIGNED, {}),
        (SIGNED.double(), {}),
        (LEVELS / 255, {"range": (0, 1)}),
        (LEVELS.float(), {"range": (0, 255)}),
        (LEVELS.int(), {"range": (0, 255)}),
        (LEVELS.to(torch.int32).mul(257).to(torch.uint16), {}),
    ],
)
def test_the_three_read_the_same_values(images, words):
    for name, found in readings(images, **words).items():
        torch.testing.assert_close(
            found.float(), SIGNED, atol=1e-6, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("images", [LEVELS.float(), SIGNED * 1.1, SIGNED.where(SIGNED < 0.9, torch.nan), LEVELS.long()])
def test_the_three_refuse_the_same(images):
    for read in (
        lambda: Image(images[0]),
        lambda: Completion(images, images, batch_size=1),
        lambda: Context.from_images(images, KNOWN),
    ):
        with pytest.raises(UserError, match=r"range=\(low, high\)|NaN or infinite"):
            read()


def test_floats_in_0_to_1_are_told():
    unit = LEVELS / 255
    for low, read in (
        (-1, lambda: Image(unit[0]).pixels - unit[0]),
        (-1, lambda: Context.from_images(unit, KNOWN).y.view(unit.shape) - unit),
        (0, lambda: Completion(unit, unit, batch_size=1).train.pixels / 255 - unit),  # a whole set
    ):
        with pytest.warns(UserWarning, match=rf"are read as values in \[{low}, 1\]; give range=\(0, 1\) if 0 is black"):
            assert read().abs().max() < 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bright = SIGNED[..., 0] > 0  # the known pixels alone do not show that values may be negative
        found = Context.from_images(SIGNED, bright)
        Completion(SIGNED, SIGNED, batch_size=1)
    torch.testing.assert_close(found.y.view(SIGNED.shape)[bright], SIGNED[bright])


def test_channels_first_are_told():
    first = LEVELS.permute(0, 3, 1, 2)
    for read in (
        lambda: Image(first[0]),
        lambda: Completion(first, first, batch_size=1),
        lambda: Context.from_images(first, KNOWN),
    ):
        with pytest.raises((UserError, ValueError), match=r"channels come last, give .*permute\("):
            read()


def test_a_context_looks_at_what_is_known_alone():
    known = KNOWN.clone()
    known[:, ::2] = False
    spoiled = SIGNED.clone()
    spoiled[~known] = torch.nan
    found = Context.from_images(spoiled, known)
    torch.testing.assert_close(found.y.view(SIGNED.shape)[known], SIGNED[known])
    spoiled = LEVELS.float().where(known[..., None], torch.tensor(1e9))
    found = Context.from_images(spoiled, known, range=(0, 255))
    torch.testing.assert_close(found.y.view(SIGNED.shape)[known], SIGNED[known], atol=1e-6, rtol=0)
    assert Context.from_images(SIGNED, ~KNOWN).y.shape == (3, 30, 3)


def test_a_model_of_colours_refuses_gray_contexts():
    siren = Siren(2, 3, hidden_features=(8, 16))
    model = HyperSiren(None, None, siren, LastLayerSolve(16))
    assert model.predict(Context.from_images(SIGNED, KNOWN)).field(torch.zeros(4, 2)).shape == (3, 4, 3)
    with pytest.raises(UserError, match="expected values of 3 channels, as the field has, got 1"):
        model.predict(Context.from_images(SIGNED[..., :1], KNOWN))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([GRAY, GRAY[:, :4]], r"one size .* got \(6, 5, 1\) of image 0 and \(6, 4, 1\) of image 1"),
        ([*[np.stack([GRAY] * 3, 2)] * 3, GRAY], r"\(6, 5, 3\) of image 0 and \(6, 5, 1\) of image 3"),
        ([PIL.Image.new("RGB", (5, 6)), PIL.Image.new("L", (5, 6))], r"number of channels .* \(6, 5, 1\) of image 1"),
        ([GRAY, GRAY.astype(np.float32)], "one type, got uint8 of image 0 and float32 of image 1"),
        ([], "at least one, got none"),
    ],
)
def test_images_that_differ_are_named(images, message):
    with pytest.raises(DatasetError, match=message):
        Completion(images, batch_size=1)


def test_gray_with_and_without_an_axis_of_channels_are_alike():
    pair = [np.zeros((6, 5), np.uint8), np.zeros((6, 5, 1), np.uint8)]
    assert Completion(pair, pair, batch_size=1).train.pixels.shape == (2, 6, 5, 1)
