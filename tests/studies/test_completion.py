"""The completion task, its contexts, its table and pictures, and a person's own photographs."""

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.hypernets.model import build
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import read_image
from hypersiren.signals.sets.images import ImageSet
from hypersiren.studies.completion import (
    completion_picture,
    completion_table,
    interpolation_picture,
    outside_picture,
    whole,
)
from hypersiren.studies.photos import complete_photo, photo_pair, photo_panel, read_photo
from hypersiren.tasks.images.completion import Completion, available_contexts, complete, context_masks
from hypersiren.tasks.images.settings import ContextSampling


def images(m=12, h=10, w=8, c=1, seed=0) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    return ImageSet(torch.randint(0, 256, (m, h, w, c), generator=generator, dtype=torch.uint8), "test")


def model(c=1):
    torch.manual_seed(0)
    return build({"hidden_features": 8}, {"kind": "set", "hidden_features": 8}, {"kind": "full"}, channels=c)


def task(**arguments) -> Completion:
    sampling = arguments.pop("sampling", "uniform")
    context = ContextSampling(fewest=3, most=60, sampling=sampling)
    return Completion(images(), images(seed=1), context, **({"batch_size": 50} | arguments))


@pytest.mark.parametrize("sampling", ["uniform", "log_uniform", "bernoulli"])
@pytest.mark.parametrize("target_points", [None, 17])
def test_samples_are_pixels_of_the_images(sampling, target_points):
    made = task(sampling=sampling, target_points=target_points)
    pixels = {tuple(p.flatten().tolist()) for p in made.train.images(torch.arange(12))}
    batch = made.sample(torch.Generator().manual_seed(0))
    context = batch.context
    counts = context.mask.sum(1)
    assert context.size == (10, 8)
    if sampling != "bernoulli":  # exact numbers over the whole range, without replacement
        assert counts.min() >= 3
        assert counts.max() <= 60
        assert len(counts.unique()) > 15
        for x, mask in zip(context.x, context.mask, strict=True):
            assert len(x[mask].unique(dim=0)) == mask.sum()
    full = Completion(images(), images(), ContextSampling(fewest=80, most=80), batch_size=50).sample(
        torch.Generator().manual_seed(0)
    )
    assert {tuple(y.flatten().tolist()) for y in full.y} <= pixels
    if target_points is None:
        assert batch.x.shape == (80, 2)
        at = {tuple(x.tolist()): i for i, x in enumerate(batch.x)}
        for i in range(0, 50, 7):  # context values are the target's at the same coordinates
            for x, y in zip(context.x[i][context.mask[i]], context.y[i][context.mask[i]], strict=True):
                assert torch.equal(batch.y[i, at[tuple(x.tolist())]], y)
    else:
        assert batch.x.shape == (50, 17, 2)
        assert batch.y.shape == (50, 17, 1)


def test_log_uniform_counts_are_log_uniform():
    made = Completion(images(), images(), ContextSampling(fewest=1, most=63), batch_size=4000)
    counts = made.sample(torch.Generator().manual_seed(0)).context.mask.sum(1)
    for low in (1, 2, 4, 8, 16, 32):
        share = ((counts >= low) & (counts < 2 * low)).float().mean().item()
        assert share == pytest.approx(1 / 6, abs=0.03)


def test_the_same_seed_draws_the_same_batch():
    made = task(flip=True, shift=1)
    a, b = (made.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a.context.y, b.context.y)
    assert torch.equal(a.context.mask, b.context.mask)
    assert not torch.equal(a.y, made.sample(torch.Generator().manual_seed(6)).y)


def test_a_perfect_field_has_no_error_and_a_constant_one_the_error_of_its_constant():
    made = task()
    truth = made.validation.images(torch.arange(12)).flatten(1, 2)
    assert all(error < 1e-12 for error in made.evaluate(lambda context: lambda x: truth).values())
    found = made.evaluate(lambda context: lambda x: torch.full_like(truth, 7.0))  # clipped to white
    expected = ((made.validation.pixels.float() / 255 - 1) ** 2).mean().item()
    assert found["mse"] == pytest.approx(expected, rel=1e-5)
    assert set(found) == {"mse", "mse_10", "mse_half", "mse_full"}


def test_context_masks():
    masks = context_masks(images(), ["10", "half", "full"])
    assert (masks["10"].flatten(1).sum(1) == 10).all()
    assert len({tuple(m.flatten().tolist()) for m in masks["10"]}) == 12
    assert masks["half"][:, :5].all()
    assert not masks["half"][:, 5:].any()
    assert masks["full"].all()
    fewer = context_masks(images(m=4), ["10"])["10"]
    assert torch.equal(fewer, masks["10"][:4])  # an image keeps its context in a smaller set
    for bad in ("0", "81", "most", "-3"):
        with pytest.raises(ValueError, match="from 1 to 80"):
            context_masks(images(), [bad])
    assert available_contexts((32, 32)) == ["10", "100", "1000", "half", "full"]


def test_complete_in_batches_equals_at_once():
    made, mask = model(), context_masks(images(), ["10"])["10"]
    chunks, parts, whole = (complete(made.field, images(), mask, points=n) for n in (70, 160, 100000))
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(chunks, whole, rtol=1e-4, atol=1e-4)


def test_table_has_every_method_and_says_how_many_images():
    table = completion_table(model(), images(m=30), images(seed=1), images(seed=2), baseline_images=5)
    assert list(table.rows) == ["hypersiren", "Gaussian", "mean colour", "nearest pixel", "linear", "biharmonic"]
    assert all(set(row) == {"10", "half", "full"} for row in table.rows.values())
    assert table.rows["linear"]["full"] == 0
    assert table.rows["hypersiren"]["full"] > 0
    assert "12 test images (baselines: the first 5)" in str(table)


def test_pictures_have_the_right_size_and_are_not_empty():
    made, test = model(3), images(c=3)
    pair = ImageSet(test.pixels[:2], "")
    pictures = [
        (completion_picture(made, test, rows=2, zoom=20), 200, 7 * (160 + 4) + 4),
        (interpolation_picture(made, [whole(pair)] * 2, (60, 48), 4), 60, 4 * (48 + 4) + 4),
        (outside_picture(made, pair, pixels=60), 60, 2 * (60 + 4) + 4),
    ]
    for picture, high, width in pictures:
        titles = picture.shape[0] - 2 * (high + 4) - 4
        assert 12 < titles < 32
        assert picture.shape[1:] == (width, 3)
        assert (picture[:titles] < 100).any()
    assert pictures[0][0].std() > 10


@pytest.fixture
def photo(tmp_path):
    """A picture 60 wide and 40 high: red left half, blue right half, green top and bottom borders."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 200
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_photo_is_cropped_in_the_centre_and_averaged(photo):
    made = read_photo(photo, (8, 8), 3)
    unit = (made.values[0] + 1) / 2 * 255
    assert made.mask.all()
    torch.testing.assert_close(unit[:, :3], torch.tensor([200.0, 0, 0]).expand(8, 3, 3), rtol=0, atol=4)
    torch.testing.assert_close(unit[:, 5:], torch.tensor([0.0, 0, 200]).expand(8, 3, 3), rtol=0, atol=4)
    expected = torch.from_numpy(read_image(photo, size=(8, 8))).float()
    torch.testing.assert_close(unit, expected, rtol=0, atol=1e-3)
    assert read_photo(photo, (8, 12), 1).values.shape == (1, 8, 12, 1)
    few = [read_photo(photo, (8, 8), 3, context=9, seed=s).mask for s in (0, 0, 1)]
    assert few[0].sum() == 9
    assert torch.equal(few[0], few[1])
    assert not torch.equal(few[0], few[2])


def test_a_mask_image_keeps_unknown_pixels_out_of_the_averages(photo, tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[:, :33] = 255  # three of the five columns of picture pixels in model column 4
    Image.fromarray(mask).save(tmp_path / "mask.png")
    made = read_photo(photo, (8, 8), 3, mask=tmp_path / "mask.png")
    assert made.mask[0, :, :5].all()
    assert not made.mask[0, :, 5:].any()
    torch.testing.assert_close(made.values[0, 0, 4], torch.tensor([-1.0, -1, 200 / 127.5 - 1]), rtol=0, atol=1e-3)
    few = read_photo(photo, (8, 8), 3, mask=tmp_path / "mask.png", context=5)
    assert few.mask.sum() == 5
    assert not few.mask[0, :, 5:].any()


def test_wrong_and_empty_masks_are_refused(photo, tmp_path):
    Image.new("L", (60, 41), 255).save(tmp_path / "large.png")
    with pytest.raises(SignalError, match="expected a mask of the picture's 60x40 pixels, got 60x41"):
        read_photo(photo, (8, 8), 3, mask=tmp_path / "large.png")
    Image.new("L", (60, 40), 0).save(tmp_path / "black.png")
    with pytest.raises(SignalError, match="no pixel is known"):
        read_photo(photo, (8, 8), 3, mask=tmp_path / "black.png")


def test_a_photo_is_completed_at_any_size(photo):
    made, read = model(3), read_photo(photo, (8, 8), 3, context=20)
    small, large = complete_photo(made, read, (8, 8)), complete_photo(made, read, (72, 72))
    assert large.shape == (72, 72, 3)
    torch.testing.assert_close(large[4::9, 4::9], small, rtol=1e-3, atol=1e-3)  # the same cell centres
    wide = complete_photo(made, read, (24, 24), extent=3.0)
    torch.testing.assert_close(wide[8:16, 8:16], small, rtol=1e-3, atol=1e-3)
    panel = photo_panel(read, large)
    assert panel.shape[1] > 3 * (72 + 4)
    middle = (panel.shape[1] - 72) // 2  # three columns, the second in the middle
    np.testing.assert_allclose(panel[-76:-4, middle : middle + 72], (large * 255).round().numpy(), atol=1)
    pair = photo_pair(read, read_photo(photo, (8, 8), 3, context=30))
    row = interpolation_picture(made, [pair], (72, 72), 5)
    assert row.shape[1] == 5 * (72 + 4) + 4
    np.testing.assert_allclose(row[-76:-4, 4:76], (large * 255).round().numpy(), atol=1)
