"""Video as a task: batches by index, frames in any number and size, and their measures."""

import pytest
import torch

from hypersiren import Siren
from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.render import render_frames, unit
from hypersiren.signals.files import SignalError
from hypersiren.signals.metrics import image_psnr
from hypersiren.tasks.recordings.video import Video
from hypersiren.tasks.registry import open_task


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (5, 7, 9, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_batches_hold_the_pixels_at_their_places(pixels):
    x = grid((5, 7, 9))
    batch = Video(pixels, 25, points=100).sample(torch.Generator().manual_seed(0))
    cells = ((batch.x + 1) / 2 * torch.tensor([5, 7, 9])).long()
    t, row, column = cells.unbind(-1)
    torch.testing.assert_close(batch.y, pixels[t, row, column] / 127.5 - 1)
    whole = Video(pixels, 25).sample(torch.Generator())
    torch.testing.assert_close(whole.x, x)


def test_frames_are_those_of_the_grid_at_any_size():
    siren = Siren(3, 3, 8, 1)
    for size in [(5, 7, 9), (3, 4, 20)]:
        expected = ((evaluate(siren, grid(size)) + 1) / 2).clamp(0, 1).view(*size, 3)
        torch.testing.assert_close(
            torch.stack([unit(frame) for frame in render_frames(siren, size)]), expected, atol=1e-5, rtol=1e-4
        )


def test_psnr_is_of_each_frame(pixels):
    siren = Siren(3, 3, 8, 1)
    frames = torch.stack([unit(frame) for frame in render_frames(siren, (5, 7, 9))])
    expected = image_psnr(frames, pixels / 255)
    found = Video(pixels, 25).evaluate(siren)
    assert found["psnr"] == pytest.approx(expected.mean().item(), abs=1e-3)
    assert found["psnr_deviation"] == pytest.approx(expected.std(correction=0).item(), abs=1e-3)
    panels = Video(pixels, 25).panels(siren)
    assert panels["side_by_side"].frames.shape[0] == 5
    assert panels["fit"].frames.float().sub(255 * frames).abs().max() <= 0.51


def test_the_default_clip_and_one_that_is_missing():
    assert open_task("video", {"signal": {"path": "coffee", "frames": 4, "size": (10, 15)}}).samples == (4, 10, 15)
    with pytest.raises(SignalError, match="no such file"):
        open_task("video", {"signal": {"path": "nothing.mp4"}})
