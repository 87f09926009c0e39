"""A field as what a person looks at or listens to: an image, a sound, frames, at any resolution.

Values are as the field gives them; images and frames are fitted on [-1, 1], see `unit`.

Symbols: B signals, C channels, H height, W width, N samples, T frames.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.coords import evaluate, grid
from hypersiren.fields.raster import centres, crop_of, is_windowed, raster, strips
from hypersiren.fields.separable import is_separable, separable_raster


def render_image(
    field: Callable[[Tensor], Tensor],
    size: Sequence[int],
    lower: float | Sequence[float] = -1.0,
    upper: float | Sequence[float] = 1.0,
    *,
    device: torch.device | str | None = None,
    chunk: int | None = None,
) -> Float[Tensor, "*b H W C"]:
    """The values of a field, or of B fields at once, on a raster.

    Args:
        field: (N, 2) -> (N, C), or (N, 2) -> (B, N, C).
        size: (H, W).
        lower, upper: The part of the plane that is shown; [-1, 1] is the signal's own.
        device: Where the field is.
        chunk: Points per call, see `evaluate`.

    Example:
        >>> render_image(lambda x: x.sum(-1, keepdim=True), (4, 6)).shape
        torch.Size([4, 6, 1])
    """
    ends = [[end] * 2 if isinstance(end, float | int) else list(end) for end in (lower, upper)]
    if (found := crop_of(field, size, *ends)) is not None:
        whole, crop = found
        return raster(field, whole, crop=crop)
    if is_separable(field):
        place = next(field.parameters()).device  # type: ignore[attr-defined]
        return separable_raster(
            field,  # type: ignore[arg-type]
            [centres(n, low, high, place) for n, low, high in zip(size, *ends, strict=True)],
        )
    return evaluate(field, grid(size, lower, upper, device=device), chunk).unflatten(-2, tuple(size))


def render_sound(
    field: Callable[[Tensor], Tensor], samples: int, *, device: torch.device | str | None = None
) -> Float[Tensor, "N C"]:
    """The wave that a field is, at so many samples."""
    return raster(field, (samples,)) if is_windowed(field) else evaluate(field, grid((samples,), device=device))


def render_frames(
    field: Callable[[Tensor], Tensor], size: Sequence[int], *, device: torch.device | str | None = None
) -> Iterator[Float[Tensor, "H W C"]]:
    """The frames that a field of (time, row, column) is, one by one; `size` (T, H, W) may be any."""
    if is_windowed(field):
        for part in strips(field, size):
            yield from part
        return
    frames, height, width = size
    for t in range(frames):
        begin, end = 2 * t / frames - 1, 2 * (t + 1) / frames - 1
        x = grid((1, height, width), (begin, -1, -1), (end, 1, 1), device=device)
        yield evaluate(field, x).view(height, width, -1)


def kind_of(playback: Mapping[str, Any]) -> str:
    """What a field is rendered as: "image", "sound", "video", "volume", "shape"; "" or another word for nothing.

    A playback that does not say its kind, one of version 0.1 or of your own task, is told by its other keys.

    Args:
        playback: `kind`, `samples` and so on; see `hypersiren.FieldTask`.

    Example:
        >>> kind_of({"kind": "image"}), kind_of({"rate": 8000, "samples": [100]}), kind_of({"samples": [5, 5]})
        ('image', 'sound', 'image')
    """
    if "kind" in playback:
        return str(playback["kind"])
    kinds = {"rate": "sound", "fps": "video", "shape": "shape"}
    told = next((kind for key, kind in kinds.items() if key in playback), None)
    return told or ("image" if len(playback.get("samples", ())) == 2 else "")


def unit(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Values of [-1, 1] on [0, 1], clipped.

    Example:
        >>> unit(torch.tensor([-1.5, 0.0, 1.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return (values + 1).div_(2).clamp_(0, 1)
