"""How far a posterior's intervals may be trusted: their calibration, and the likelihood of values.

Symbols: B signals, P points, C channels, X values.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.hypernets.gaussian.base import Posterior

NINETY = 1.645
"""Standard deviations of a Gaussian on both sides of its mean that hold 90 % of it."""

ROUNDING = 1e-5
"""Variance of values on [-1, 1] that are rounded to 8 bits, and a little more."""


def deviation_factor(calibration: Float[Tensor, " 2"], posterior: Posterior) -> Tensor:
    """What multiplies the standard deviation, see `GaussianPosterior`; 1 where the calibration is zero.

    A processor then asks for no more; on a device the question would be a wait.
    """
    if calibration.device.type == "cpu" and not calibration.any():
        return torch.ones((1,)).to(calibration)
    return torch.exp(calibration[0] + calibration[1] * posterior.remaining_variance.log())


def negative_log_likelihood(
    posterior: Posterior, x: Float[Tensor, "*b P D"], y: Float[Tensor, "B P C"]
) -> Float[Tensor, "B P C"]:
    """How unlikely each value is under the Gaussian that is predicted of it, up to a constant.

    A variance is not taken to be below `ROUNDING`, so that a value that is met exactly does not count without limit.

    Example:
        >>> from hypersiren import Context, LastLayerSolve, Siren
        >>> images, siren = torch.rand(1, 4, 4, 1), Siren(2, 1, hidden_features=(8, 16))
        >>> context = Context.from_images(images, torch.rand(1, 4, 4) < 0.5)
        >>> posterior = LastLayerSolve(16)(siren, None, {}, context).posterior
        >>> negative_log_likelihood(posterior, context.x, context.y).shape
        torch.Size([1, 16, 1])
    """
    variance = posterior.variance(x) + ROUNDING
    return 0.5 * ((y - posterior.mean(x)).square() / variance + variance.log())


def fit_calibration(found: Sequence[tuple[Tensor, Tensor]]) -> Float[Tensor, " 2"]:
    """The calibration with which 90 % intervals hold 90 %, from signals whose unknown values are known after all.

    Args:
        found: For each signal its `remaining_variance`, and the absolute errors of its unknown values over the standard
            deviation before the calibration, (X,).

    Returns:
        Intercept and slope of the logarithm of that factor by the logarithm of the remaining variance.

    Example:
        >>> errors = torch.linspace(0, 1, 11)  # 90 % of them are below 0.9
        >>> fit_calibration([(torch.tensor(0.5), 1.645 * errors), (torch.tensor(0.1), 1.645 * errors)]).exp()[0]
        tensor(0.9000)
    """
    x = torch.stack([remaining.log() for remaining, _ in found])
    y = torch.stack([(ratio.quantile(0.9).clamp(min=1e-3) / NINETY).log() for _, ratio in found])
    rows = torch.stack([torch.ones_like(x), x], dim=1).cpu()
    # They may be equal: the shortest solution then, for which CUDA has no driver.
    return torch.linalg.lstsq(rows, y.cpu().unsqueeze(-1), driver="gelsd").solution.flatten().to(x)
