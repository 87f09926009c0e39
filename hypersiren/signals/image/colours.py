"""Derivatives and waves as colours."""

import torch
from jaxtyping import Float
from torch import Tensor


def draw_gradient(gradient: Float[Tensor, "H W C D"]) -> Float[Tensor, "H W 3"]:
    """A gradient as colour: its direction as hue, its strength as brightness (the 99th percentile is full).

    Channels are averaged. Down is along axis 0, right along axis 1.

    Example:
        >>> draw_gradient(torch.tensor([0.0, 1.0]).expand(1, 1, 1, 2))  # to the right: red
        tensor([[[1., 0., 0.]]])
    """
    down, right = gradient.float().mean(-2).unbind(-1)
    strength = torch.hypot(down, right)
    full = _percentile(strength, 0.99)
    hue = torch.atan2(down, right) / (2 * torch.pi) * 6  # in sixths of the circle
    corners = torch.tensor([0.0, 2.0, 4.0], device=hue.device)  # red, green, blue
    distance = ((hue[..., None] - corners + 3) % 6 - 3).abs()
    return (2 - distance).clamp(0, 1) * (strength / full).clamp(0, 1)[..., None]


def draw_signed(values: Float[Tensor, "H W C"]) -> Float[Tensor, "H W C"]:
    """Signed values as gray or colour: 0 is mid gray, the 99th percentile of the size is black or white.

    Example:
        >>> draw_signed(torch.tensor([-2.0, 0.0, 2.0]).view(1, 3, 1)).flatten().tolist()
        [0.0, 0.5, 1.0]
    """
    return (0.5 + 0.5 * values.float() / _percentile(values.abs(), 0.99)).clamp(0, 1)


def draw_wave(values: Float[Tensor, "*shape"], full: float) -> Float[Tensor, "*shape 3"]:
    """Signed values as colour: 0 is white, `full` and beyond red, -`full` blue.

    Example:
        >>> draw_wave(torch.tensor([-2.0, 0.0, 1.0]), full=2.0).tolist()
        [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.5, 0.5]]
    """
    part = (values.float() / full).clamp(-1, 1)
    return torch.stack([1 + part.clamp(max=0), 1 - part.abs(), 1 - part.clamp(min=0)], dim=-1)


def _percentile(values: Tensor, share: float) -> Tensor:
    flat = values.float().flatten()
    flat = flat[:: max(1, len(flat) // 1_000_000)]  # torch.quantile takes no more than 16 million
    return torch.quantile(flat, share).clamp_min(torch.finfo(torch.float32).tiny)
