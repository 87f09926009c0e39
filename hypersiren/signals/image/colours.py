"""Derivatives as colours."""

import torch
from jaxtyping import Float
from torch import Tensor


def draw_gradient(gradient: Float[Tensor, "H W C D"], full: float | None = None) -> Float[Tensor, "H W 3"]:
    """A gradient as colour: its direction as hue, its strength as brightness.

    Channels are averaged. Down is along axis 0, right along axis 1. `gradient_wheel` is the legend.

    Args:
        gradient: Derivatives along (down, right).
        full: The strength of full brightness; None for `gradient_strength`.

    Example:
        >>> draw_gradient(torch.tensor([0.0, 1.0]).expand(1, 1, 1, 2))  # to the right: red
        tensor([[[1., 0., 0.]]])
    """
    down, right = gradient.float().mean(-2).unbind(-1)
    strength = torch.hypot(down, right)
    full = full or gradient_strength(gradient)
    hue = torch.atan2(down, right) / (2 * torch.pi) * 6  # in sixths of the circle
    corners = torch.tensor([0.0, 2.0, 4.0], device=hue.device)  # red, green, blue
    distance = ((hue[..., None] - corners + 3) % 6 - 3).abs()
    return (2 - distance).clamp(0, 1) * (strength / full).clamp(0, 1)[..., None]


def gradient_strength(gradient: Float[Tensor, "H W C D"]) -> float:
    """The strength that `draw_gradient` gives full brightness: the 99th percentile.

    Example:
        >>> gradient_strength(torch.tensor([3.0, 4.0]).expand(1, 1, 1, 2))
        5.0
    """
    return percentile(gradient.float().mean(-2).norm(dim=-1), 0.99)


def gradient_wheel(size: int = 256) -> Float[Tensor, "H W 3"]:
    """The legend of `draw_gradient`: a gradient that rises towards a place of the disc has the colour there.

    Example:
        >>> wheel = gradient_wheel(65)
        >>> [round(value, 1) for value in wheel[32, 63].tolist()], wheel[0, 0].tolist()  # right: red; outside: white
        ([1.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    """
    axis = torch.linspace(-1, 1, size)
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    colours = draw_gradient(torch.stack([down, right], dim=-1)[:, :, None], full=1.0)
    return torch.where(torch.hypot(down, right)[..., None] <= 1, colours, 1.0)


def percentile(values: Float[Tensor, "*shape"], share: float) -> float:
    """A percentile, above 0: of some of the values where they are many.

    Example:
        >>> percentile(torch.arange(101.0), 0.99)
        99.0
    """
    flat = values.float().flatten()
    flat = flat[:: max(1, len(flat) // 1_000_000)]  # torch.quantile takes no more than 16 million
    return torch.quantile(flat, share).clamp_min(torch.finfo(torch.float32).tiny).item()
