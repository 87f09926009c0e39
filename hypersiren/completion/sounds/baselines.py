"""Baselines of sound completion: methods without a network.

Each takes windows (M, N), of which only the samples under `mask` are looked at, and returns completed windows.

- linear: linear interpolation between known samples, the nearest one outside; known samples keep their values
- band-limited: least squares of the cosine series of the lowest frequencies, with a ridge; where all samples are known,
  with no more terms than the model has numbers: with all of them it would be a copy
- PCA: the same least squares, of the principal axes of the training windows
- Gaussian: the conditional mean of a Gaussian fitted to the training windows (see `completion.images.baselines`)

Numbers of terms, ridges and noise are chosen on validation windows, for each context by itself.
"""

import logging
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.base import Baseline, Case
from hypersiren.completion.images.baselines import GaussianConditional, PrincipalAxes
from hypersiren.completion.sounds.cases import relative_mse, rms
from hypersiren.signals.sets.sounds import SoundSet
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
    """The least-squares series of cosines: as many as known samples, times `density`, and no more than `most`.

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
    design, y = basis[known], wave[known].to(basis.dtype)
    level = ridge * max(1, len(design)) * basis.square().sum() / basis.numel()
    if len(design) < basis.shape[1]:
        eye = torch.eye(len(design), dtype=basis.dtype)
        return (basis @ (design.T @ torch.linalg.solve(design @ design.T + level * eye, y))).to(wave.dtype)
    eye = torch.eye(basis.shape[1], dtype=basis.dtype)
    return (basis @ torch.linalg.solve(design.T @ design + level * eye, design.T @ y)).to(wave.dtype)


def fitted(train: SoundSet, numbers: int) -> Callable[[Case], list[Baseline]]:
    """All baselines, fitted to the training windows that lie within their recordings.

    Args:
        train: Training windows.
        numbers: Numbers that PCA keeps of each window.

    Returns:
        The baselines for contexts as that of a case, on which their settings are chosen.
    """
    whole = train.waves[train.inside.all(1)].cpu()
    waves = whole if len(whole) else train.waves.cpu()
    images = (waves / rms(waves, torch.ones_like(waves, dtype=torch.bool)))[..., None, None]
    gaussian, axes = GaussianConditional(images), PrincipalAxes(images, numbers)

    def conditional(noise: float, waves: Float[Tensor, "M N"], mask: Bool[Tensor, "M N"]) -> Float[Tensor, "M N"]:
        scale = rms(waves, mask)
        return gaussian(_raster(waves / scale), mask[..., None], noise)[..., 0, 0] * scale

    def choose(case: Case) -> list[Baseline]:
        LOG.debug("choosing the settings of the baselines")
        waves, mask = case.truth.squeeze(-1), case.known

        def error(method: Completion) -> float:
            return relative_mse(method(waves, mask), waves, case.counted).mean().item()

        most = None if case.unknown.any() else axes.numbers
        series: list[Completion] = [
            partial(band_limited, density=density, ridge=ridge, most=most) for density in DENSITIES for ridge in RIDGES
        ]
        projections: list[Completion] = [partial(on_axes, axes=axes.axes, ridge=ridge) for ridge in RIDGES]
        noise = gaussian.choose_noise(_raster(waves / rms(waves, mask)), mask[..., None])
        methods: list[tuple[str, Completion, bool]] = [
            ("linear", linear, True),
            ("band-limited", min(series, key=error), False),
            (f"PCA, {axes.numbers} numbers", min(projections, key=error), False),
            ("Gaussian", partial(conditional, noise), True),
        ]
        return [Baseline(name, partial(_on_case, method), keeps=keeps) for name, method, keeps in methods]

    return choose


Completion = Callable[[Tensor, Tensor], Tensor]
"""From windows (M, N) and their known samples (M, N) to completed windows (M, N)."""


def _raster(waves: Float[Tensor, "M N"]) -> Float[Tensor, "M N 1 1"]:
    return waves[..., None, None]


def _on_case(method: Completion, case: Case) -> Float[Tensor, "M N 1"]:
    return method(case.truth.squeeze(-1), case.known).unsqueeze(-1)
