"""Completing a window of sound without a network: the honest yardsticks of completion.

Each takes windows (M, N), of which only the samples under `mask` are looked at, and returns completed windows.

- linear: linear interpolation between known samples, the nearest one outside; known samples keep their values
- band-limited: least squares of the cosine series of the lowest frequencies, with a ridge; where all samples are known,
  with no more terms than the model has numbers: with all of them it would be a copy
- PCA: the same least squares, of the principal axes of the training windows
- Gaussian: the conditional mean of a Gaussian fitted to the training windows (see `pixel_baselines`)

Numbers of terms, ridges and noise are chosen on validation windows, for each context by itself.
"""

import logging
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.images.baselines import GaussianConditional, PrincipalAxes
from hypersiren.completion.sounds.task import relative_mse, rms
from hypersiren.signals.sound.cosines import cosines

LOG = logging.getLogger(__name__)

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)
"""Ridges that are tried, relative to the number of known samples."""

DENSITIES = (0.25, 0.5, 0.75, 1.0)
"""Numbers of terms that are tried, relative to the number of known samples."""


def linear(waves: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"]) -> Float[Tensor, "M N"]:
    """Linear interpolation.

    Example:
        >>> linear(torch.tensor([[1.0, 9.0, 3.0, 9.0]]), torch.tensor([[True, False, True, False]])).tolist()
        [[1.0, 2.0, 3.0, 3.0]]
    """
    places, out = np.arange(waves.shape[1]), waves.clone()
    for i, known in enumerate(mask.cpu().numpy()):
        if known.any():
            out[i] = torch.from_numpy(np.interp(places, places[known], waves[i].cpu().numpy()[known])).to(out)
    return out


def band_limited(
    waves: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"], density: float, ridge: float, most: int | None = None
) -> Float[Tensor, "M N"]:
    """The least-squares series of cosines: so many as known samples, times `density`, and no more than `most`.

    Example:
        >>> wave = cosines(20, (torch.arange(40) + 0.5) / 40)[:, 3][None]
        >>> mask = torch.arange(40)[None] % 3 == 0
        >>> bool((band_limited(wave, mask, 0.5, 1e-8) - wave).abs().max() < 1e-3)
        True
    """
    n = waves.shape[1]
    basis = cosines(n, (torch.arange(n, dtype=torch.float64) + 0.5) / n)
    counts = [min(most or n, max(1, round(density * k))) for k in mask.sum(1).tolist()]
    return torch.stack(
        [_regress(y, known, basis[:, :count], ridge) for y, known, count in zip(waves, mask, counts, strict=True)]
    )


def on_axes(
    waves: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"], axes: Float[Tensor, "N J"], ridge: float
) -> Float[Tensor, "M N"]:
    """The least-squares sum of given axes."""
    return torch.stack([_regress(y, known, axes, ridge) for y, known in zip(waves, mask, strict=True)])


def _regress(
    wave: Float[Tensor, " N"], known: Bool[Tensor, " N"], basis: Float[Tensor, "N J"], ridge: float
) -> Float[Tensor, " N"]:
    seen, y = basis[known], wave[known].to(basis.dtype)
    level = ridge * max(1, len(seen)) * basis.square().sum() / basis.numel()
    if len(seen) < basis.shape[1]:
        eye = torch.eye(len(seen), dtype=basis.dtype)
        return (basis @ (seen.T @ torch.linalg.solve(seen @ seen.T + level * eye, y))).to(wave.dtype)
    eye = torch.eye(basis.shape[1], dtype=basis.dtype)
    return (basis @ torch.linalg.solve(seen.T @ seen + level * eye, seen.T @ y)).to(wave.dtype)


@dataclass(frozen=True)
class Windows:
    """Windows to choose on, or to judge: their amplitudes, which are known, which lie within their recording."""

    waves: Float[Tensor, "M N"]
    mask: Bool[Tensor, "M N"]
    inside: Bool[Tensor, "M N"]

    def error(self, completion: Float[Tensor, "M N"]) -> float:
        """The mean over windows of the relative squared error."""
        return relative_mse(completion, self.waves, self.inside).mean().item()


class Baselines:
    """Everything that the training windows say, once for all contexts.

    Args:
        train: Windows that lie within their recordings.
        numbers: Numbers that PCA keeps of each window.
    """

    def __init__(self, train: Float[Tensor, "M N"], numbers: int):
        scaled = train / rms(train, torch.ones_like(train, dtype=torch.bool))
        images = scaled[..., None, None]
        self.gaussian = GaussianConditional(images)
        axes = PrincipalAxes(images, numbers)
        self.axes, self.numbers = axes.axes, axes.numbers

    def complete(self, chosen_on: Windows, judged: Windows) -> dict[str, Float[Tensor, "M N"]]:
        """What each method makes of windows, its settings chosen on others with such a context."""
        LOG.debug("evaluating baselines: linear and band-limited (1 and 2 of 4)")
        out = {"linear": linear(judged.waves, judged.mask)}
        pairs = [(density, ridge) for density in DENSITIES for ridge in RIDGES]
        most = self.numbers if torch.equal(judged.mask, judged.inside) else None
        density, ridge = min(
            pairs, key=lambda p: chosen_on.error(band_limited(chosen_on.waves, chosen_on.mask, p[0], p[1], most))
        )
        out["band-limited"] = band_limited(judged.waves, judged.mask, density, ridge, most)
        LOG.debug("evaluating baselines: PCA (3 of 4)")
        ridge = min(RIDGES, key=lambda r: chosen_on.error(on_axes(chosen_on.waves, chosen_on.mask, self.axes, r)))
        out[f"PCA, {self.numbers} numbers"] = on_axes(judged.waves, judged.mask, self.axes, ridge)
        LOG.debug("evaluating baselines: Gaussian (4 of 4)")
        scales = [rms(w.waves, w.mask) for w in (chosen_on, judged)]
        first, second = (
            ((w.waves / s)[..., None, None], w.mask[..., None])
            for w, s in zip((chosen_on, judged), scales, strict=True)
        )
        noise = self.gaussian.choose_noise(*first)
        out["Gaussian"] = self.gaussian(*second, noise)[..., 0, 0] * scales[1]
        return out
