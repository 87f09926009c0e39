"""Renderings of fitted sounds and videos as files: any rate, any size, slow motion."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hypersiren.sound import write_sound
from hypersiren.tasks import Field, audio, video
from hypersiren.video import write_video


def render_sound(
    path: Path, field: Field, samples: int, playback: dict[str, Any], *, rate: int | None, device: torch.device
) -> None:
    """Write a fitted sound as WAV.

    Args:
        path: The file.
        field: The field.
        samples: Of the sound that it was fitted to.
        playback: Of the task: the sound's rate and scale.
        rate: Samples per second; None for the sound's own.
    """
    wanted = rate or playback["rate"]
    wave = audio.render(field, max(1, round(samples * wanted / playback["rate"])), device)
    write_sound(path, (wave * playback["scale"]).cpu().numpy(), wanted)


def render_video(
    path: Path,
    field: Field,
    samples: Sequence[int],
    playback: dict[str, Any],
    *,
    fps: float | None,
    slow: float,
    height: int | None,
    device: torch.device,
) -> None:
    """Write a fitted video as MP4 or GIF, frame by frame.

    Args:
        path: The file.
        field: The field.
        samples: Frames, height and width of the video that it was fitted to.
        playback: Of the task: the video's frames per second.
        fps: Frames per second; None for the video's own.
        slow: The video plays so many times longer, with new frames between.
        height: Pixels; the width follows. None for the video's own.
    """
    frames, h, w = samples
    wanted = fps or playback["fps"]
    height = height or h
    size = (max(1, round(frames * slow * wanted / playback["fps"])), height, max(1, round(height * w / h)))
    write_video(path, (frame.cpu().numpy() for frame in video.render(field, size, device)), wanted)
