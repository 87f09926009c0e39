"""A signal on a raster as a windowed field, solved in closed form; for images, sounds and videos alike.

Sizes of windows and priors were chosen on photographs that scikit-image ships, on a recording and on a clip, for
numbers, seconds and the values between samples together; see eval/README.md.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.memo import Memo
from hypersiren.fields.progress import now_and_then
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep, solve_raster

LOG = logging.getLogger(__name__)

STEP = {1: (976,), 2: (29, 29), 3: (7, 13, 13)}
"""Samples from window to window along each axis, by the number of axes."""

LAP = {1: (24,), 2: (3, 3), 3: (1, 3, 3)}
"""Samples that neighbouring windows share."""

COLOUR_WINDOW = 24
"""A window's samples, overlap included, where settings say none, of a signal of several channels that is solved on a
finer grid: 32 of them take three times as long."""

PERIOD = {1: 2.05, 2: 2.2, 3: 2.2}
"""Of the lowest frequency, in units of which a window has 2."""

SMOOTHNESS, NOISE = {1: 0.5, 2: 2.5, 3: 2.0}, {1: 1e-6, 2: 1e-8, 3: 1e-7}
"""Of the prior, see `hypersiren.fields.settings.Network`."""

SAY_SECONDS = 1.0
"""Seconds between lines on the progress of a solve."""


def solve_windows(
    size: Sequence[int],
    read: Callable[[int, int], Tensor],
    channels: int,
    network: Network,
    device: torch.device | str,
    *,
    known: Tensor | None = None,
    keep: Keep | None = None,
    finer: int = 1,
    memo: Memo | None = None,
) -> CompactWindows:
    """The windowed field of a signal.

    Args:
        size: Samples along each axis, of 1 to 3.
        read: Rows start to stop - 1 along the first axis, (rows, *size, C), values about [-1, 1].
        channels: C.
        network: Its `numbers`, `window`, `overlap`, `smoothness` and `noise`.
        device: Where to solve.
        known: Which samples are known, (*size,); None for all.
        keep: See `hypersiren.fields.window_solve.solve_raster`.
        memo: As `keep`.
        finer: How many times as fine, along each axis, the raster is as the signal that the numbers are counted by.
    """
    dims = len(size)
    step, lap = STEP[dims], LAP[dims]
    window = COLOUR_WINDOW if network.window is None and finer > 1 and channels > 1 else network.window
    if window is not None:
        factor = window / max(s + o for s, o in zip(step, lap, strict=True))
        lap = tuple(max(1, round(o * factor)) for o in lap)
        step = tuple(max(1, round(s * factor)) for s in step)
    if network.overlap is not None:
        both = [s + o for s, o in zip(step, lap, strict=True)]
        lap = tuple(max(1, min(b // 2, round(network.overlap * b))) for b in both)
        step = tuple(b - o for b, o in zip(both, lap, strict=True))
    due = now_and_then(SAY_SECONDS)

    def progress(done: int, total: int) -> None:
        if due():
            LOG.info("solving windows: %d %%", 100 * done // total)

    return solve_raster(
        size,
        read,
        channels,
        network.numbers / finer**dims,
        [s * finer for s in step],
        [o * finer for o in lap],
        multiple=finer,
        period=PERIOD[dims],
        ridge=NOISE[dims] if network.noise is None else network.noise,
        decay=SMOOTHNESS[dims] if network.smoothness is None else network.smoothness,
        known=known,
        device=device,
        progress=progress,
        keep=keep,
        memo=memo,
    )


def watch(field: CompactWindows, keep: Keep | None) -> Callable[[], object]:
    """What a solve calls now and then, so that it can be interrupted. Of the solve itself nothing is kept."""
    if keep is None:
        return lambda: None
    keep.load(field, (0, field.windows.count[0]))
    return lambda: keep.save(field, (0, 0))
