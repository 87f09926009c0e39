"""Videos as tensors: whatever holds one as frames with their rate.

Symbols: T frames, H x W pixels, C channels.
"""

import math
import os
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from hypersiren.signals.arrays import check_values, dtype_name, to_tensor
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import to_uint8
from hypersiren.signals.image.opening import SAMPLES, open_picture
from hypersiren.signals.video.files import Clip, flight, read_video


def as_frames(frames: Any, fps: float | None = None) -> tuple[UInt8[Tensor, "T H W C"], float]:
    """Whatever holds a video as its bytes, C = 1 or 3, and their rate.

    Args:
        frames: A file, folder or photograph of scikit-image, see `open_clip`; or a NumPy array or tensor (T, H, W, 1),
            (T, H, W, 3) or (T, H, W), uint8, or floats in [0, 1], which are rounded to bytes. A tensor stays on its
            device, and is returned itself if nothing of it has to change.
        fps: Frames per second; of a file None.

    Raises:
        SignalError: If it is something else, cannot be read, is empty or of another shape or type, if values are NaN,
            infinite or outside [0, 1], or if the rate is missing, or given beside a file.

    Example:
        >>> as_frames(torch.ones(5, 8, 6), 25)[0].shape
        torch.Size([5, 8, 6, 1])
        >>> as_frames(torch.zeros(5, 3, 8, 6), 25)
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected (T, H, W, 1), (T, H, W, 3) or (T, H, W), got (5, 3, 8, 6):
        channels come last, give frames.permute(0, 2, 3, 1)
    """
    if isinstance(frames, str | os.PathLike):
        if fps is not None:
            raise SignalError(f"expected no fps with a file, got fps={fps}", frames)
        clip = open_clip(frames)
        return torch.from_numpy(clip.pixels), clip.fps
    values = to_tensor(frames, "a video as a path, a NumPy array or a tensor")
    if fps is None or not 0 < fps < math.inf:
        raise SignalError(f"expected the fps of the frames, a positive number, got {fps}")
    shape = tuple(values.shape)
    gray = len(shape) == 3 and shape[2] not in (1, 3)
    if 0 in shape or not (gray or (len(shape) == 4 and shape[3] in (1, 3))):
        mend = ""
        if 0 in shape:
            mend = ": it is empty"
        elif len(shape) == 3:
            mend = ": one picture? Give frames[None] for a frame, or frames[..., None] for columns so few"
        elif len(shape) == 4 and shape[1] in (1, 3):
            turn = "permute" if isinstance(frames, Tensor) else "transpose"
            mend = f": channels come last, give frames.{turn}(0, 2, 3, 1)"
        raise SignalError(f"expected (T, H, W, 1), (T, H, W, 3) or (T, H, W), got {shape}{mend}")
    if values.is_floating_point():
        check_values(values, 0, 1, "scale them, or give uint8")
        values = (values.float() * 255).round().clamp(0, 255).to(torch.uint8)
    elif values.dtype != torch.uint8:
        raise SignalError(f"expected frames of uint8, or floats in [0, 1], got {dtype_name(values)}")
    return values[..., None] if gray else values, float(fps)


def open_clip(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    stop: float | None = None,
    frames: int | None = None,
    size: int | tuple[int, int] | None = None,
) -> Clip:
    """A part of a video, or of the flight over a photograph that scikit-image ships, where no file is called so.

    Args:
        path: See `hypersiren.signals.video.files.read_video`; or one of `hypersiren.signals.image.opening.SAMPLES`.
        start, stop, frames: The part, in seconds, and the most frames.
        size: Pixels, one number for a square, or (H, W).

    Raises:
        SignalError: If it cannot be read, or no frame lies in the part.

    Example:
        >>> open_clip("coffee", frames=2, size=16).pixels.shape
        (2, 16, 16, 3)
    """
    shape = (size, size) if isinstance(size, int) else size
    if str(path) not in SAMPLES or os.path.exists(path):
        return read_video(path, start=start, stop=stop, frames=frames, size=shape)
    clip = flight(to_uint8((open_picture(path).numpy() + 1) / 2), size=shape or (72, 96))
    first, last = math.ceil(start * clip.fps), None if stop is None else math.ceil(stop * clip.fps)
    pixels = clip.pixels[first:last][:frames]
    if not len(pixels):
        raise SignalError(f"expected a part within 0 to {len(clip.pixels) / clip.fps:g} s, got none", path)
    return Clip(pixels, clip.fps)
