"""Speed and memory of rendering a field: by chunks, as hypersiren does, and by one call for all pixels; and of windows.

The weights are those of a new SIREN; a fitted one takes as long. The windowed field is that of a picture of noise.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.render import render_image
from hypersiren.fields.settings import Network
from hypersiren.fields.siren import Siren
from hypersiren.studies.benchmarks.fit import PlainSiren
from hypersiren.studies.benchmarks.measure import Report, Variant, count_flops, describe_machine, speed_table
from hypersiren.tasks.windows import solve_windows


@torch.no_grad()
def plain_render(model: nn.Module, size: tuple[int, int], device: torch.device) -> Float[Tensor, "H W C"]:
    """A field's values at the centres of all pixels, by one call.

    Example:
        >>> siren = Siren(2, 3, hidden_features=16).requires_grad_(False)
        >>> found = plain_render(PlainSiren(siren), (4, 6), torch.device("cpu"))
        >>> torch.allclose(found, render_image(siren, (4, 6)), atol=1e-5)
        True
    """
    axes = [(torch.arange(n, device=device) + 0.5) * 2 / n - 1 for n in size]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return model(x.view(-1, 2)).view(*size, -1)


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
    plain = PlainSiren(siren)
    variants: dict[str, Variant] = {}
    against: dict[str, str] = {}
    for n in sizes:
        ours, other = f"{n} x {n}: hypersiren", f"{n} x {n}: one call"
        flops = count_flops(lambda n=n: plain_render(plain, (n, n), device))  # type: ignore[misc]
        variants[ours] = Variant(lambda n=n: render_image(siren, (n, n), device=device), n * n / 1e6, flops)  # type: ignore[misc]
        variants[other] = Variant(lambda n=n: plain_render(plain, (n, n), device), n * n / 1e6, flops)  # type: ignore[misc]
        against |= {ours: other, other: other}
        noise = torch.rand(n, n, channels, generator=torch.Generator().manual_seed(0)) * 2 - 1
        read = partial(_rows, noise)
        windows = solve_windows((n, n), read, channels, Network(kind="windowed"), device)
        for side, words in ((n, "windows"), (n + 1, "windows, a pixel more")):  # in step with the windows, and not
            name = f"{n} x {n}: {words}"
            step = partial(render_image, windows, (side, side), device=device)
            variants[name], against[name] = Variant(step, side * side / 1e6), other
    table = speed_table(f"Rendering {siren}, fp32", "megapixels", variants, against, rounds=rounds, device=device)
    return Report("render", machine, {"rounds": rounds}, [table])


def _rows(picture: Tensor, start: int, stop: int) -> Tensor:
    return picture[start:stop]
