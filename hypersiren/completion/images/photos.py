"""Completion of a user's pictures: read with their known pixels, completed, shown."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from hypersiren.completion.images.pictures import enlarged, known_pixels
from hypersiren.completion.prediction import (
    posterior_for_samples,
    predicted,
    prediction,
    refining,
    render_deviation,
    render_fields,
    render_samples,
    tensor_sheet,
)
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.model import HyperSiren
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import STORED, read_image, read_values
from hypersiren.signals.image.masks import read_mask


@dataclass(frozen=True)
class Photo:
    """A user's picture, brought to the model's pixels.

    Attributes:
        values: (1, H, W, C) on [-1, 1].
        mask: (1, H, W), True where known.
    """

    values: Float[Tensor, "1 H W C"]
    mask: Bool[Tensor, "1 H W"]

    @property
    def context(self) -> Context:
        return Context.from_rasters(self.values, self.mask)


def read_photo(
    path: Path,
    size: tuple[int, int],
    channels: int,
    *,
    context: int | None = None,
    mask: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Photo:
    """Read a picture and its known pixels: `context` random ones, or where a mask image is opaque and bright.

    The picture is cropped and reduced as images of a data set are. With a mask a model pixel is the mean of the known
    picture pixels in it, and known if at least half of them are.

    Raises:
        SignalError: If a file cannot be read, the mask has another size than the picture, or nothing is known.
    """
    gray = channels == 1
    if mask is None:
        values = read_image(path, gray=gray, size=size) / np.float32(255)
        seen = np.ones(size, bool)
    else:
        # What the mask leaves out is not looked at, and may be anything.
        found = read_values(path, gray=gray, guess=False, hint=STORED, holes=True, mask=partial(read_mask, mask))
        assert found.known is not None
        pixels = (_central(found.pixels, size) + 1) / np.float32(2)
        known = _central(found.known[..., None], size).astype(np.float32)
        share = _shrink(known, size)
        # Cells that hold nothing known get their plain mean: only the panel shows it.
        known_mean = _shrink(pixels * known, size) / np.maximum(share, 1e-6)
        values = np.where(share > 0, known_mean, _shrink(pixels, size)).clip(0, 1)
        seen = share[..., 0] >= 0.5
    if context is not None:
        order = np.random.default_rng(seed).permutation(np.flatnonzero(seen))
        seen = np.isin(np.arange(seen.size), order[:context]).reshape(seen.shape)
    if not seen.any():
        raise SignalError(f"no known pixel is left at the model's {size[1]}x{size[0]} pixels", mask or path)
    images = torch.from_numpy(values)[None].to(device)
    return Photo(images * 2 - 1, torch.from_numpy(seen)[None].to(device))


def complete_photo(
    model: HyperSiren, photo: Photo, size: tuple[int, int], extent: float = 1.0, refine_steps: int = 0
) -> Float[Tensor, "H W C"]:
    """The completed picture at any size, values on [0, 1]; with extent > 1 also what lies around it."""
    predict = refining(model, refine_steps) if refine_steps else partial(predicted, model)
    return render_fields(predict(photo.context), size, extent)[0]


def photo_deviation(
    model: HyperSiren, photo: Photo, size: tuple[int, int], extent: float = 1.0
) -> Float[Tensor, "H W 1"] | None:
    """The standard deviation of a completed picture, on the scale of [0, 1]; None if the model knows none."""
    posterior = prediction(model, photo.context).posterior
    return None if posterior is None else render_deviation(posterior, size, extent)[0]


def sample_photo(
    model: HyperSiren, photo: Photo, count: int, size: tuple[int, int], extent: float = 1.0, seed: int = 0
) -> np.ndarray:
    """The context of a photo, `count` samples of the posterior, its mean, and the picture.

    Raises:
        UserError: If the model knows no posterior.
    """
    found = prediction(model, photo.context)
    samples = render_samples(posterior_for_samples(found), count, size, extent, seed)[0]
    columns = {"context": known_pixels((photo.values + 1) / 2, photo.mask, size)}
    columns |= {f"sample {i + 1}": sample[None] for i, sample in enumerate(samples)}
    columns["mean"] = render_fields(found.field, size, extent)
    columns["picture"] = enlarged((photo.values + 1) / 2, size)
    return tensor_sheet(columns)


def photo_pair(first: Photo, second: Photo) -> Context:
    """The context of two photos."""
    return Context.from_rasters(torch.cat([first.values, second.values]), torch.cat([first.mask, second.mask]))


def photo_panel(
    photo: Photo, completed: Float[Tensor, "H W C"], deviation: Float[Tensor, "H W 1"] | None = None
) -> np.ndarray:
    """Context, completion, its standard deviation and truth side by side, at the completion's size."""
    size = (completed.shape[0], completed.shape[1])
    truth = (photo.values + 1) / 2
    columns = {"context": known_pixels(truth, photo.mask, size), "completion": completed[None]}
    if deviation is not None:
        white, shown = scaled_deviation(deviation[None])
        columns[f"deviation\n({white})"] = shown
    columns["picture"] = enlarged(truth, size)
    return tensor_sheet(columns)


def scaled_deviation(deviation: Float[Tensor, "M H W 1"]) -> tuple[str, Float[Tensor, "M H W 1"]]:
    """Standard deviations as gray images from black for 0 to white, and what white is.

    Example:
        >>> scaled_deviation(torch.tensor([0.0, 0.061, 0.122]).view(1, 1, 3, 1))[0]
        'white: 0.13'
    """
    most = deviation.max().item()
    digit = 10.0 ** (math.floor(math.log10(most)) - 1) if most > 0 else 1.0
    white = max(1, math.ceil(most / digit - 1e-6)) * digit
    return f"white: {white:.2g}", deviation / white


def _central(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest central rectangle of the shape of `size`."""
    h, w = pixels.shape[:2]
    scale = min(h / size[0], w / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (h - rows) // 2, (w - columns) // 2
    return pixels[top : top + rows, left : left + columns]


def _shrink(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean of each cell, (h, w, C) float32 to (H, W, C)."""
    shape, box = (size[1], size[0]), Image.Resampling.BOX
    channels = np.moveaxis(pixels.astype(np.float32), 2, 0)
    return np.stack([np.asarray(Image.fromarray(c).resize(shape, box)) for c in channels], axis=-1)
