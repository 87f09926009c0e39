"""Measures of a reconstruction. Images hold values in [0, 1]; sounds may have any scale."""

from jaxtyping import Float
from torch import Tensor

from hypersiren.spectrum import spectrogram


def image_mse(prediction: Float[Tensor, "B *shape"], truth: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Mean squared error of each image on [0, 1], the prediction clipped to that range first (paper, section 4.4).

    Example:
        >>> import torch
        >>> image_mse(torch.tensor([[1.5, 0.5]]), torch.tensor([[1.0, 0.0]])).tolist()
        [0.125]
    """
    _check_shapes(prediction, truth)
    return (prediction.clamp(0, 1) - truth).square().flatten(1).mean(dim=1)


def psnr(prediction: Float[Tensor, "B *shape"], truth: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Peak signal to noise ratio in dB of each image (or frame of a video) on [0, 1], the prediction clipped first.

    A video is measured by the mean and the deviation of its frames' values (paper, supplement: video), which the PSNR
    of the mean error is not.

    Example:
        >>> import torch
        >>> psnr(torch.tensor([[0.1, 0.1], [0.5, 1.5]]), torch.tensor([[0.0, 0.0], [0.5, 1.0]])).round().tolist()
        [20.0, inf]
    """
    return -10 * image_mse(prediction, truth).log10()


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
    below -100 dB count as -100, so scale the sounds to a maximum of about 1.

    Example:
        >>> import torch
        >>> noise = torch.randn(4096, 1, generator=torch.Generator().manual_seed(0))
        >>> log_spectral_distance(0.1 * noise, noise).round().item()
        20.0
    """
    _check_shapes(prediction, truth)
    return (spectrogram(prediction) - spectrogram(truth)).square().mean(dim=1).sqrt().mean()


def _check_shapes(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"expected a prediction of shape {tuple(truth.shape)}, got {tuple(prediction.shape)}")
