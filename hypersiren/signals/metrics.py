"""Measures of a reconstruction. Images hold values in [0, 1]; sounds may have any scale."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.signals.sound.spectrum import spectrogram

PIECE = 2**18
"""Samples of a sound whose spectrogram is taken at once."""


def image_mse(prediction: Float[Tensor, "B *shape"], truth: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Mean squared error of each image on [0, 1], the prediction clipped to that range first (paper, section 4.4).

    Example:
        >>> import torch
        >>> image_mse(torch.tensor([[1.5, 0.5]]), torch.tensor([[1.0, 0.0]])).tolist()
        [0.125]
    """
    _check_shapes(prediction, truth)
    return (prediction.clamp(0, 1) - truth).square().flatten(1).mean(dim=1)


def image_psnr(prediction: Float[Tensor, "B *shape"], truth: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Peak signal to noise ratio in dB of each image (or frame of a video) on [0, 1], the prediction clipped first.

    A video is measured by the mean and the deviation of its frames' values (paper, supplement: video), which the PSNR
    of the mean error is not.

    Example:
        >>> import torch
        >>> image_psnr(torch.tensor([[0.1, 0.1], [0.5, 1.5]]), torch.tensor([[0.0, 0.0], [0.5, 1.0]])).round().tolist()
        [20.0, inf]
    """
    return -10 * image_mse(prediction, truth).log10()


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


def snr(prediction: Float[Tensor, "N C"], truth: Float[Tensor, "N C"]) -> Float[Tensor, ""]:
    """Signal to noise ratio in dB of a sound, all channels together: 10 log10(|truth|^2 / |prediction - truth|^2).

    Example:
        >>> import torch
        >>> snr(torch.tensor([[1.1], [-1.1]]), torch.tensor([[1.0], [-1.0]])).round().item()
        20.0
    """
    _check_shapes(prediction, truth)
    return 10 * (truth.square().sum() / (prediction - truth).square().sum()).log10()


def si_snr(prediction: Float[Tensor, "N C"], truth: Float[Tensor, "N C"]) -> Float[Tensor, ""]:
    """Scale-invariant SNR in dB (Le Roux et al. 2019): of the sounds without their means, and with the truth scaled to
    fit the prediction best. A prediction that has nothing in common with the truth has -inf.

    Example:
        >>> import torch
        >>> truth = torch.sin(torch.arange(100.0))[:, None]
        >>> (si_snr(3 * truth + 1 + 0.3 * torch.cos(torch.arange(100.0))[:, None], truth)).round().item()
        20.0
    """
    _check_shapes(prediction, truth)
    prediction, truth = prediction - prediction.mean(dim=0), truth - truth.mean(dim=0)
    scaled = truth * ((prediction * truth).sum() / truth.square().sum())
    return 10 * (scaled.square().sum() / (prediction - scaled).square().sum()).log10()


def log_spectral_distance(prediction: Float[Tensor, "N C"], truth: Float[Tensor, "N C"]) -> Float[Tensor, ""]:
    """Distance in dB of the spectrograms: root mean square over the frequencies, mean over frames and channels.

    It weighs what is faint as what is loud: the hiss of a fit in the pauses of speech, which SNR hardly sees. Levels
    below -100 dB count as -100, so scale the sounds to a maximum of about 1. Long sounds are taken in pieces, each with
    silence beyond its ends, so that minutes of sound fit in memory.

    Example:
        >>> import torch
        >>> noise = torch.randn(4096, 1, generator=torch.Generator().manual_seed(0))
        >>> log_spectral_distance(0.1 * noise, noise).round().item()
        20.0
    """
    _check_shapes(prediction, truth)
    pieces = zip(prediction.split(PIECE), truth.split(PIECE), strict=True)
    distances = [len(b) * (spectrogram(a) - spectrogram(b)).square().mean(dim=1).sqrt().mean() for a, b in pieces]
    return torch.stack(distances).sum() / len(truth)


def _check_shapes(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"expected a prediction of shape {tuple(truth.shape)}, got {tuple(prediction.shape)}")
