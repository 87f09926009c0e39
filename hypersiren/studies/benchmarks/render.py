"""Speed and memory of rendering a field: by chunks, as hypersiren does, and by one call for all pixels; and of windows.

The weights are those of a new SIREN; a fitted one takes as long. The windowed field is that of a picture of noise.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from hypersiren.fields.coords import grid
from hypersiren.fields.render import render_image
from hypersiren.fields.settings import Network
from hypersiren.fields.siren import Siren
from hypersiren.studies.benchmarks.fit import PlainSiren
from hypersiren.studies.benchmarks.measure import Report, Variant, count_flops, describe_machine, speed_table
from hypersiren.tasks.windows import solve_windows


def render_report(
    sizes: Sequence[int] = (256, 512),
    *,
    width: int = 256,
    channels: int = 3,
    rounds: int = 5,
    device: torch.device | str = "cpu",
) -> Report:
    """Measure both ways, and windows, at each size.

    Args:
        sizes: Pixels of a side.
        width: Of the SIREN, which has three hidden layers.
        channels: C.
        rounds: Turns of each.
        device: Where.
    """
    device = torch.device(device)
    machine = describe_machine(device)
    siren = Siren(2, channels, width).to(device).requires_grad_(False)
    plain = PlainSiren(siren).requires_grad_(False)
    variants: dict[str, Variant] = {}
    against: dict[str, str] = {}
    for n in sizes:
        ours, other = f"{n} x {n}: hypersiren", f"{n} x {n}: one call"
        flops = count_flops(lambda n=n: plain(grid((n, n), device=device)))  # type: ignore[misc]
        variants[ours] = Variant(lambda n=n: render_image(siren, (n, n), device=device), n * n / 1e6, flops)  # type: ignore[misc]
        variants[other] = Variant(lambda n=n: plain(grid((n, n), device=device)), n * n / 1e6, flops)  # type: ignore[misc]
        against |= {ours: other, other: other}
        noise = torch.rand(n, n, channels, generator=torch.Generator().manual_seed(0)) * 2 - 1
        windows = solve_windows((n, n), partial(_rows, noise), channels, Network(kind="windowed"), device)
        for side, words in ((n, "windows"), (n + 1, "windows, a pixel more")):  # in step with the windows, and not
            name = f"{n} x {n}: {words}"
            step = partial(render_image, windows, (side, side), device=device)
            variants[name], against[name] = Variant(step, side * side / 1e6), other
    table = speed_table(f"Rendering {siren}, fp32", "megapixels", variants, against, rounds=rounds, device=device)
    return Report("render", machine, {"rounds": rounds}, [table])


def _rows(picture: Tensor, start: int, stop: int) -> Tensor:
    return picture[start:stop]
