"""Training signals of one kind: clusters by the form of their power spectra, and random parts of large sets.

Symbols: M signals, K kept ones, C channels.
"""

import logging
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

LOG = logging.getLogger(__name__)


BANDS = 40
"""Bands of the power spectrum by which signals are told apart."""

NOTHING = 1e-6
"""Share of the mean power below which a frequency tells nothing."""


def random_part(
    signals: Iterable[Float[Tensor, "M *size C"]], values: int, seed: int = 0
) -> Float[Tensor, "K *size C"]:
    """All signals in their order, or a random part of them that has at most `values` values.

    Raises:
        ValueError: If there is no signal.

    Example:
        >>> signals = [torch.full((5, 4, 1), float(i)) for i in range(100)]
        >>> random_part(signals, 10_000).shape, random_part(signals, 100).shape
        (torch.Size([500, 4, 1]), torch.Size([25, 4, 1]))
    """
    generator = torch.Generator().manual_seed(seed)
    kept: list[tuple[Tensor, Tensor]] = []  # signals, and where each stands in a random order
    most, count = 1, 0

    def thin() -> None:
        last = torch.cat([order for _, order in kept]).kthvalue(most).values
        kept[:] = [(chunk[(order <= last).to(chunk.device)], order[order <= last]) for chunk, order in kept]

    for chunk in signals:
        most, count = max(1, values // chunk[0].numel()), count + len(chunk)
        kept.append((chunk, torch.rand(len(chunk), generator=generator, dtype=torch.float64)))
        if sum(len(order) for _, order in kept) > 2 * most:
            thin()
    if not kept:
        raise ValueError("expected signals to take a prior from, got none")
    if count > most:
        thin()
        LOG.info("priors from %s of %s signals, drawn at random", f"{most:,}", f"{count:,}")
    return torch.cat([chunk for chunk, _ in kept])


@torch.no_grad()
def clusters(signals: Float[Tensor, "M *size C"], count: int, rounds: int = 20, seed: int = 0) -> Int[Tensor, " M"]:
    """A cluster for each signal, by the form of its power spectrum.

    Example:
        >>> t = torch.arange(64.0)
        >>> tones = torch.stack([torch.sin(f * t + i) for i in range(4) for f in (0.2, 1.5)])
        >>> kind = clusters(tones[..., None], 2)
        >>> bool((kind[::2] == kind[0]).all()), bool((kind[1::2] == 1 - kind[0]).all())
        (True, True)
    """
    size, dims = signals.shape[1:-1], list(range(1, signals.ndim - 1))
    window = torch.ones(size, device=signals.device, dtype=signals.dtype)
    frequency = torch.zeros(size, device=signals.device)[..., : size[-1] // 2 + 1]
    for axis, n in enumerate(size):
        shape = [-1 if i == axis else 1 for i in range(len(size))]
        window = window * torch.hann_window(n, periodic=False).to(window).view(shape)
        values = torch.fft.rfftfreq(n) if axis == len(size) - 1 else torch.fft.fftfreq(n)
        frequency = frequency + values.to(frequency).view(shape).square()
    order = frequency.flatten().argsort(stable=True)
    spectra = torch.cat(
        [
            torch.fft.rfftn(part * window.unsqueeze(-1), dim=dims).abs().square().sum(-1).flatten(1)[:, order]
            for part in signals.split(4096)
        ]
    )
    # On a raster finer than the signals are, the highest frequencies hold nothing that could tell them apart.
    mean = spectra.mean(0)
    spectra = spectra[:, mean > NOTHING * mean.mean()]
    spectra = nn.functional.adaptive_avg_pool1d(spectra.unsqueeze(1), min(BANDS, spectra.shape[1])).squeeze(1)
    logarithm = (spectra + 1e-4 * spectra.mean(1, keepdim=True) + 1e-20).log()
    points = logarithm - logarithm.mean(1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    centres = points[torch.randperm(len(points), generator=generator)[:count].to(points.device)]
    for _ in range(rounds):
        kind = torch.cdist(points, centres).argmin(1)
        total = torch.zeros_like(centres).index_add(0, kind, points)
        members = torch.bincount(kind, minlength=len(centres)).unsqueeze(-1)
        centres = torch.where(members > 0, total / members.clamp(min=1), centres)
    return torch.cdist(points, centres).argmin(1)
