"""Windows of sounds as cases: which samples are known, their scale, their errors, their picture.

Loudness differs from window to window by 60 dB, and a Gaussian prior wants windows of one size: each is divided by the
root mean square of its known samples, and the prediction multiplied by it. Errors are relative to the window's own
power: 1 is what silence has.

Symbols: M windows of a set, B of a batch, N samples of a window, P known or queried samples.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.base import Case
from hypersiren.fields.coords import grid
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import NINETY
from hypersiren.plotting import figure_pixels, new_figure
from hypersiren.signals.sets.sounds import SoundSet

CONTEXTS = ("10%", "25%", "50%", "gap", "all")
"""The contexts of the test: shares of the samples at random, all but one run of them, all."""

FLOOR = 1e-6
"""Root mean square, of full scale, that no window is scaled above."""


def rms(waves: Float[Tensor, "B P"], mask: Bool[Tensor, "B P"]) -> Float[Tensor, "B 1"]:
    """The root mean square over known samples, at least `FLOOR`.

    Example:
        >>> rms(torch.tensor([[3.0, 4.0, 9.0]]), torch.tensor([[True, True, False]])).square().item()
        12.5
    """
    square = torch.where(mask, waves, 0).square().sum(1, keepdim=True)
    return (square / mask.sum(1, keepdim=True).clamp(min=1)).sqrt().clamp(min=FLOOR)


def relative_mse(
    completion: Float[Tensor, "B P"], truth: Float[Tensor, "B P"], counted: Bool[Tensor, "B P"]
) -> Float[Tensor, " B"]:
    """The squared error of each window, divided by the power of the truth: 10^(-SNR / 10).

    Example:
        >>> relative_mse(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]])).item()
        0.800000011920929
    """
    wrong, power = (torch.where(counted, v, 0).square().sum(1) for v in (completion - truth, truth))
    return wrong / power.clamp(min=FLOOR**2)


def context_masks(
    sounds: SoundSet, names: Sequence[str] = CONTEXTS, gap: float = 0.125, seed: int = 0
) -> dict[str, Bool[Tensor, "M N"]]:
    """Which samples of each window are known in the named contexts; the same on every machine for a seed.

    Args:
        sounds: The set; samples beyond the end of a recording are never known.
        names: "all", "gap" (all but one run of samples), or a share of random samples such as "25%".
        gap: Length of the run, as a share of the window.
        seed: Of places drawn at random.

    Raises:
        ValueError: On another name.

    Example:
        >>> from hypersiren.signals.sets.sounds import as_sounds
        >>> masks = context_masks(as_sounds(np.ones((2, 40))), ("25%", "gap"))
        >>> masks["25%"].sum(1).tolist(), masks["gap"].sum(1).tolist()
        ([10, 10], [35, 35])
    """
    m, n = sounds.waves.shape
    lengths = sounds.inside.sum(1).tolist()
    masks: dict[str, Tensor] = {}
    for name in names:
        share = _percent(name)
        generator = torch.Generator().manual_seed(seed)
        mask = torch.zeros(m, n, dtype=torch.bool)
        for i, length in enumerate(lengths):
            if share is not None:
                mask[i, torch.randperm(length, generator=generator)[: max(1, round(share * length))]] = True
            else:
                mask[i, :length] = True
            lost = min(round(gap * n), length - 1)
            if name == "gap":
                start = int(torch.randint(length - lost + 1, (1,), generator=generator))
                mask[i, start : start + lost] = False
        masks[name] = mask.to(sounds.waves.device)
    return masks


def _percent(name: str) -> float | None:
    """A share from 0 to 1, or None for the contexts that are none."""
    if name in ("gap", "all"):
        return None
    number = name.removesuffix("%")
    if name == number or not number.isdigit() or not 0 < int(number) <= 100:
        raise ValueError(f'expected "all", "gap" or a share such as "25%", got "{name}"')
    return int(number) / 100


def sound_case(sounds: SoundSet, mask: Bool[Tensor, "M N"]) -> Case:
    """Windows with their known samples, which are divided by their root mean square.

    Where nothing is known, or nothing but silence, the completion is silence.
    """
    scale = rms(sounds.waves, mask)
    context = Context.from_rasters((sounds.waves / scale).unsqueeze(-1), mask).compact()
    x = grid((sounds.window,), device=sounds.waves.device)
    scale = torch.where(scale > FLOOR, scale, 0).unsqueeze(-1)
    return Case(context, x, sounds.waves.unsqueeze(-1), mask, sounds.inside, scale)


def completion_picture(
    sounds: SoundSet,
    mask: Bool[Tensor, "M N"],
    completion: Float[Tensor, "M N"],
    deviation: Float[Tensor, "M N"] | None = None,
    drawn: Float[Tensor, "M K N"] | None = None,
    title: str = "",
) -> np.ndarray:
    """A row for each window: the truth, the completion with its 90 % interval, and the known samples as dots.

    Args:
        sounds: The windows.
        mask: Which samples are known.
        completion: The completed windows.
        deviation: Their standard deviations, for the interval; None for none.
        drawn: K draws of what each window may be, as thin lines; None for none.
        title: Of the picture.
    """
    figure, axes = new_figure(150 * len(sounds) + 85 + 25 * bool(title), 900, len(sounds), sharex=True)
    milliseconds = 1000 * (np.arange(sounds.window) + 0.5) / sounds.rate
    parts = (sounds.waves, completion, mask, sounds.inside)
    rows = zip(*(part.cpu().numpy() for part in parts), strict=True)
    spread = None if deviation is None else deviation.cpu().numpy()
    lines = None if drawn is None else drawn.cpu().numpy()
    for i, (truth, found, known, inside) in enumerate(rows):
        one, time = axes[i, 0], milliseconds[inside]
        if spread is not None:
            low, high = (found + sign * NINETY * spread[i] for sign in (-1, 1))
            band = {"color": "tab:orange", "alpha": 0.3, "lw": 0}
            one.fill_between(time, low[inside], high[inside], label="90 % interval", **band)
        for number, line in enumerate(() if lines is None else lines[i]):
            one.plot(time, line[inside], color="tab:green", lw=0.6, label="_" if number else "posterior samples")
        one.plot(time, truth[inside], color="0.6", lw=1.5, label="truth")
        one.plot(time, found[inside], color="tab:orange", lw=1, label="completion")
        dots = {"ls": "", "marker": ".", "ms": 3, "color": "tab:blue"}
        one.plot(milliseconds[known], truth[known], label="known", **dots)
        peak = 1.3 * max(float(np.abs(truth).max()), FLOOR)
        one.set(ylabel="amplitude", ylim=(-peak, peak), xlim=(0, 1000 * sounds.window / sounds.rate))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    axes[-1, 0].set_xlabel("time (ms)")
    figure.suptitle(title, fontsize=11)
    return figure_pixels(figure)
