"""Pictures of image completion: context, completion and truth.

Symbols: M images, H x W pixels, C channels.
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

from hypersiren.plotting import figure_pixels, image_grid

TONES = ((1.0, 0.68, 0.91), (1.0, 0.88, 0.97))
"""Of the checkerboard that stands for unknown pixels: two pinks, RGB on [0, 1], which no gray image has."""


def known_pixels(
    truth: Float[Tensor, "M H W C"], mask: Bool[Tensor, "M H W"], size: tuple[int, int] | None = None
) -> Float[Tensor, "M h w 3"]:
    """Images on [0, 1] as pictures show their context: unknown pixels are a checkerboard of two pinks.

    Enlarged, every unknown pixel shows two by two squares of it, every known one a single tone.

    Args:
        truth: All pixels.
        mask: Which of them are known.
        size: (h, w) of the picture; None for that of the images.

    Example:
        >>> known = torch.tensor([[[True, False]]])
        >>> known_pixels(torch.zeros(1, 1, 2, 1), known, (2, 4))[0, ..., 1].mul(100).round().tolist()
        [[0.0, 0.0, 68.0, 88.0], [0.0, 0.0, 88.0, 68.0]]
    """
    shape = size or (truth.shape[1], truth.shape[2])
    side = max(1, round(shape[0] / truth.shape[1] / 2))
    row, column = (torch.arange(n, device=truth.device) // side for n in shape)
    board = truth.new_tensor(TONES)[(row[:, None] + column) % 2]
    known = enlarged(mask[..., None].to(truth.dtype), shape) > 0.5
    return torch.where(known, enlarged(truth, shape), board)


def enlarged(images: Float[Tensor, "M H W C"], size: tuple[int, int]) -> Float[Tensor, "M h w C"]:
    """Images of another size whose pixels stay squares of one tone."""
    x = rearrange(images, "m h w c -> m c h w")
    return rearrange(interpolate(x, size), "m c h w -> m h w c")


def context_completion_truth(
    truth: Float[Tensor, "M H W C"], mask: Bool[Tensor, "M H W"], completion: Float[Tensor, "M H W C"]
) -> Float[Tensor, "X Y 3"]:
    """One picture: a row for each image, with its context, its completion, and the truth; small images are enlarged."""
    zoom = max(1, 128 // max(truth.shape[1:3]))
    size = (zoom * truth.shape[1], zoom * truth.shape[2])
    shown = [known_pixels(truth, mask, size), enlarged(completion.clamp(0, 1), size), enlarged(truth, size)]
    rows = list(zip(*(images.float().cpu().numpy() for images in shown), strict=True))
    figure = image_grid(rows, column_titles=("context", "completion", "truth"))
    return torch.from_numpy(figure_pixels(figure) / np.float32(255))
