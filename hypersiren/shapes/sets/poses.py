"""Poses: shapes stretched, turned and shifted at random, a whole batch at once.

A pose takes a point x to R (s * x) + t. Normals go by the inverse transpose, R (n / s), made unit length again.

Symbols: B shapes, N points.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

Rotation = Literal["none", "vertical", "full"]


@dataclass(frozen=True)
class Poses:
    """Where B shapes are.

    Attributes:
        rotation: R.
        scale: s, along each axis of the shape.
        shift: t.
    """

    rotation: Float[Tensor, "B 3 3"]
    scale: Float[Tensor, "B 3"]
    shift: Float[Tensor, "B 3"]

    def points(self, x: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Points of each shape, posed."""
        return (x * self.scale.unsqueeze(1)) @ self.rotation.mT + self.shift.unsqueeze(1)

    def normals(self, n: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Unit normals of each shape, posed."""
        return normalize((n / self.scale.unsqueeze(1)) @ self.rotation.mT, dim=-1)

    def back(self, x: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
        """Where posed points were before."""
        return ((x - self.shift.unsqueeze(1)) @ self.rotation) / self.scale.unsqueeze(1)


def random_poses(
    count: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    *,
    rotation: Rotation = "full",
    up: int = 2,
    scale: tuple[float, float] = (1.0, 1.0),
    stretch: float = 1.0,
    shift: float = 0.0,
) -> Poses:
    """Draw so many poses.

    Args:
        count: B.
        generator: On the device.
        rotation: "none", "vertical" (evenly about the axis `up`) or "full" (evenly over all rotations).
        up: The axis that points upwards.
        scale: Range of the size, log-uniform.
        stretch: Each axis has a factor of its own beside that, from 1/stretch to stretch, log-uniform.
        shift: Each coordinate of the shift is within so much of 0.

    Example:
        >>> poses = random_poses(4, torch.Generator().manual_seed(0), scale=(0.5, 0.5))
        >>> x = torch.rand(4, 10, 3)
        >>> torch.allclose(poses.points(x).norm(dim=-1), 0.5 * x.norm(dim=-1))
        True
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    # As unit quaternions (w, x, y, z): four normal numbers point in an even direction (Muller 1959).
    quaternion = torch.zeros(count, 4, device=device)
    if rotation == "full":
        quaternion = normalize(torch.randn(count, 4, generator=generator, device=device), dim=-1)
    elif rotation == "vertical":
        half = torch.pi * uniform(count)
        quaternion[:, 0], quaternion[:, 1 + up] = half.cos(), half.sin()
    else:
        quaternion[:, 0] = 1
    low, high = scale
    sizes = low * (high / low) ** uniform(count, 1) * stretch ** (2 * uniform(count, 3) - 1)
    return Poses(_matrix(quaternion), sizes, shift * (2 * uniform(count, 3) - 1))


def _matrix(quaternion: Float[Tensor, "B 4"]) -> Float[Tensor, "B 3 3"]:
    w, x, y, z = quaternion.unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
