"""A stretch of sound as a series of cosines, which continue it by its mirror image: band-limited, without a jump."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def cosines(count: int, places: Float[Tensor, "*b N"]) -> Float[Tensor, "*b N J"]:
    """The cosines of the lowest frequencies at places in [0, 1].

    Over N evenly spaced samples (at the middles of N cells) the first N of them are the orthonormal basis of the
    DCT-II, times sqrt(N).

    Args:
        count: J, the mean among them.
        places: 0 is the beginning of the stretch, 1 its end.

    Example:
        >>> x = (torch.arange(8) + 0.5) / 8
        >>> torch.allclose(cosines(8, x).mT @ cosines(8, x) / 8, torch.eye(8), atol=1e-5)
        True
    """
    order = torch.arange(count, device=places.device, dtype=places.dtype)
    return (math.pi * order * places.unsqueeze(-1)).cos() * torch.where(order == 0, 1.0, math.sqrt(2.0))


def resampled(waves: Float[Tensor, "M N C"], factor: int) -> Float[Tensor, "M FN C"]:
    """Waves at so many times the rate, through their cosine series.

    Example:
        >>> x = (torch.arange(8) + 0.5) / 8
        >>> finer = resampled(cosines(3, x).mT.unsqueeze(-1), 2).squeeze(-1)
        >>> torch.allclose(finer, cosines(3, (torch.arange(16) + 0.5) / 16).mT, atol=1e-5)
        True
    """
    if factor == 1:
        return waves
    n = waves.shape[1]
    coarse, fine = ((torch.arange(m, device=waves.device, dtype=waves.dtype) + 0.5) / m for m in (n, factor * n))
    return cosines(n, fine) @ (cosines(n, coarse).mT @ waves / n)
