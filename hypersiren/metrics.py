"""Measures of a reconstruction. Images hold values in [0, 1]."""

import math

from jaxtyping import Float
from torch import Tensor


def image_mse(prediction: Float[Tensor, "B *shape"], truth: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Mean squared error of each image on [0, 1], the prediction clipped to that range first (paper, section 4.4).

    Example:
        >>> import torch
        >>> image_mse(torch.tensor([[1.5, 0.5]]), torch.tensor([[1.0, 0.0]])).tolist()
        [0.125]
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"expected a prediction of shape {tuple(truth.shape)}, got {tuple(prediction.shape)}")
    return (prediction.clamp(0, 1) - truth).square().flatten(1).mean(dim=1)


def psnr(prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"], full: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, of the mean squared error over all values; infinite where there is none.

    Args:
        prediction, truth: Values, as they are (nothing is clipped).
        full: The range that values can have, the peak.

    Example:
        >>> import torch
        >>> round(psnr(torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.4])), 3)
        20.0
    """
    error = (prediction.double() - truth.double()).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(full**2 / error)


def ssim(prediction: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window of 11 pixels), the mean over pixels and channels.

    Images of fewer than 11 pixels along an axis have none: NaN.
    """
    if min(truth.shape[:2]) < 11:
        return math.nan
    from skimage.metrics import structural_similarity  # heavy

    value = structural_similarity(
        prediction.clamp(0, 1).cpu().numpy(),
        truth.cpu().numpy(),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)
