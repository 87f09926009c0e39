"""Measures of a reconstruction. Images hold values in [0, 1]; sounds may have any scale."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.signals.sound.spectrum import spectrogram

PIECE = 2**18
"""Values, or samples of a sound, that are compared at once: no copy of a large image or a long sound is made."""

ROWS = 32
"""Rows of an image whose structural similarity is taken at once: more would not stay in a processor's cache."""

DEVIATION, REACH = 1.5, 5
"""Of the Gaussian window of structural similarity, in pixels, and how far it reaches to each side; where it does not
fit into the image there is no similarity."""


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


def mean_square(prediction: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"]) -> float:
    """Mean squared error over all values, in float64.

    Example:
        >>> import torch
        >>> mean_square(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]))
        0.25
    """
    total = _sum(lambda a, b: (a.double() - b.double()).square().sum(), prediction.flatten(), truth.flatten())
    return total.item() / truth.numel()


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
    error = mean_square(prediction, truth)
    return math.inf if error == 0 else 10 * math.log10(full**2 / error)


def ssim(prediction: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"]) -> float:
    """Structural similarity (Wang et al. 2004: Gaussian window of 11 pixels), the mean over pixels and channels.

    Images of fewer than 11 pixels along an axis have none: NaN.
    """
    height, width = truth.shape[:2]
    if min(height, width) <= 2 * REACH:
        return math.nan
    total = 0.0
    for top in range(REACH, height - REACH, ROWS):
        bottom = min(top + ROWS, height - REACH)
        rows = slice(top - REACH, bottom + REACH)  # those at the border only fill the windows of the others
        total += _similarity(prediction[rows].clamp(0, 1), truth[rows]).sum().item()
    return total / ((height - 2 * REACH) * (width - 2 * REACH) * truth.shape[2])


def _similarity(a: Float[Tensor, "H W C"], b: Float[Tensor, "H W C"]) -> Float[Tensor, "h w C"]:
    """The structural similarity of windows that lie within an image, in double precision."""
    work = torch.float32 if a.device.type == "mps" else torch.float64
    a, b = a.to(work), b.to(work)
    window = torch.exp(-0.5 * (torch.arange(-REACH, REACH + 1, dtype=work) / DEVIATION) ** 2)
    weights = (window / window.sum()).tolist()
    both = torch.stack([a, b, a * b, a.square() + b.square()])
    for axis in (1, 2):
        length = both.shape[axis] - 2 * REACH
        smooth = both.narrow(axis, REACH, length) * weights[REACH]
        for i in range(REACH):
            pair = both.narrow(axis, i, length) + both.narrow(axis, 2 * REACH - i, length)
            smooth.add_(pair, alpha=weights[i])
        both = smooth
    mean_a, mean_b, product, squares = both
    means = mean_a * mean_b
    covariance, mean_squares = product - means, mean_a.square() + mean_b.square()
    light, contrast = 0.01**2, 0.03**2
    top = (2 * means + light) * (2 * covariance + contrast)
    return top / ((mean_squares + light) * (squares - mean_squares + contrast))


def snr(prediction: Float[Tensor, "N C"], truth: Float[Tensor, "N C"]) -> Float[Tensor, ""]:
    """Signal to noise ratio in dB of a sound, all channels together: 10 log10(|truth|^2 / |prediction - truth|^2).

    Example:
        >>> import torch
        >>> snr(torch.tensor([[1.1], [-1.1]]), torch.tensor([[1.0], [-1.0]])).round().item()
        20.0
    """
    _check_shapes(prediction, truth)
    error = _sum(lambda a, b: (a - b).square().sum(), prediction, truth)
    return 10 * (_sum(lambda b: b.square().sum(), truth) / error).log10()


def si_snr(prediction: Float[Tensor, "N C"], truth: Float[Tensor, "N C"]) -> Float[Tensor, ""]:
    """Scale-invariant SNR in dB (Le Roux et al. 2019): of the sounds without their means, and with the truth scaled to
    fit the prediction best. A prediction that has nothing in common with the truth has -inf. Of two samples without
    their mean one is the other's negative, so that all predictions are equal: NaN.

    Example:
        >>> import torch
        >>> truth = torch.sin(torch.arange(100.0))[:, None]
        >>> (si_snr(3 * truth + 1 + 0.3 * torch.cos(torch.arange(100.0))[:, None], truth)).round().item()
        20.0
    """
    _check_shapes(prediction, truth)
    if len(truth) < 3:
        return torch.full((), math.nan, device=truth.device)
    middle, true_middle = prediction.mean(dim=0), truth.mean(dim=0)
    power = _sum(lambda b: (b - true_middle).square().sum(), truth)
    scale = _sum(lambda a, b: ((a - middle) * (b - true_middle)).sum(), prediction, truth) / power
    error = _sum(lambda a, b: (a - middle - scale * (b - true_middle)).square().sum(), prediction, truth)
    return 10 * (scale.square() * power / error).log10()


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
    total = _sum(
        lambda a, b: len(b) * (spectrogram(a) - spectrogram(b)).square().mean(dim=1).sqrt().mean(), prediction, truth
    )
    return total / len(truth)


def _sum(measure: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """The sum of a measure over pieces of the values' first axis."""
    pieces = zip(*(each.split(PIECE) for each in values), strict=True)
    return torch.stack([measure(*piece) for piece in pieces]).sum()


def _check_shapes(prediction: Tensor, truth: Tensor) -> None:
    if prediction.shape != truth.shape:
        raise ValueError(f"expected a prediction of shape {tuple(truth.shape)}, got {tuple(prediction.shape)}")
