"""What is known of B signals: their context, and its raster for encoders that are convolutional.

Symbols: B signals, N points, D coordinate dimensions, C channels, H height, W width.
"""

import warnings
from dataclasses import dataclass, replace
from functools import cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.fields.coords import grid, nearest_cell
from hypersiren.fields.shown import by_shape
from hypersiren.hypernets.gaussian.observations import VALUES, Observation, SurfaceNormals
from hypersiren.values import channels_last, to_signed


@dataclass(frozen=True, init=False)
class Context:
    """What is known of B signals: values at coordinates, each of them observed or not.

    Attributes:
        x: (B, N, D) coordinates in [-1, 1].
        y: (B, N, C) values.
        mask: (B, N), True where observed; what stands in x and y elsewhere has no influence.
        size: Cells along each axis of the raster that a convolutional encoder shall see, (H, W) of an image; None for
            point sets.
        cells: Which cell of the raster each point is the centre of; None if they are not, or nobody knows.
        shared_points: Whether all signals are known at the same points, so that one linear system serves them all.
        kind: What y says of the field at x: its `Values`, or, with `surface=True`, `SurfaceNormals`: x lie on a surface
            and y are its unit normals, so that a signed distance has the value 0 and the gradient y there.
        source: Of validation signals, which photograph or recording each is from, where there are several of
            one: see `hypersiren.hypernets.adapters.correction.best_amplitude`.

    Example:
        >>> Context(torch.zeros(4, 10, 2), torch.zeros(4, 10, 3), torch.ones(4, 10, dtype=torch.bool))
        Context(x (4, 10, 2), y (4, 10, 3), mask (4, 10), shared_points=False, kind=Values())
    """

    x: Float[Tensor, "B N D"]
    y: Float[Tensor, "B N C"]
    mask: Bool[Tensor, "B N"]
    size: tuple[int, ...] | None = None
    cells: Int[Tensor, "B N"] | None = None
    shared_points: bool = False
    kind: Observation = VALUES
    source: Int[Tensor, " B"] | None = None

    __repr__ = by_shape

    def __init__(
        self,
        x: Float[Tensor, "B N D"],
        y: Float[Tensor, "B N C"],
        mask: Bool[Tensor, "B N"],
        size: tuple[int, ...] | None = None,
        cells: Int[Tensor, "B N"] | None = None,
        shared_points: bool = False,
        surface: bool = False,
        *,
        kind: Observation = VALUES,
        source: Int[Tensor, " B"] | None = None,
        alike: bool | None = None,
    ):
        if alike is not None:
            _warn_of_alike()
        values = {"x": x, "y": y, "mask": mask, "size": size, "cells": cells, "source": source}
        said = {"shared_points": bool(shared_points or alike), "kind": SurfaceNormals() if surface else kind}
        for name, value in {**values, **said}.items():
            object.__setattr__(self, name, value)

    @property
    def surface(self) -> bool:
        """Whether it is one of surfaces and their normals."""
        return isinstance(self.kind, SurfaceNormals)

    @property
    def alike(self) -> bool:
        """The name of `shared_points` before version 0.2."""
        _warn_of_alike()
        return self.shared_points

    @classmethod
    def from_images(
        cls, images: Tensor, mask: Bool[Tensor, "B H W"], *, range: tuple[float, float] | None = None
    ) -> "Context":
        """The pixels of B images where `mask` is True.

        Args:
            images: (B, H, W, C), by the rule of `hypersiren.Image`: uint8, uint16, bool, or floats in [-1, 1]. What
                stands where the mask is False has no influence.
            mask: True where known.
            range: What the values run over, from black to white, where that rule is not meant.

        Raises:
            UserError: If known values are outside of their range, or not finite.
            ValueError: If the mask has another shape.

        Warns:
            UserWarning: If floats without a range all lie in [0, 1], where [0, 1] may have been meant.

        Example:
            >>> mask = torch.zeros(1, 8, 8, dtype=torch.bool)
            >>> mask[0, :4] = True
            >>> Context.from_images(torch.rand(1, 8, 8, 3) * 2 - 1, mask).x.shape
            torch.Size([1, 64, 2])
        """
        if images.ndim != 4 or images.shape[:-1] != mask.shape:
            turned = channels_last(tuple(images.shape), True)
            expected = "images (B, H, W, C)" if images.ndim != 4 or turned else f"a mask of {tuple(images.shape[:-1])}"
            got = f"images {tuple(images.shape)} and a mask {tuple(mask.shape)}"
            raise ValueError(f"expected {expected}, got {got}{turned}")
        if range is None and images.is_floating_point() and bool((images < 0).any()):
            range = -1.0, 1.0  # as few known pixels may not show
        if (known := images[mask]).numel():
            signed = to_signed(known, range)
            if not images.is_floating_point() or not torch.equal(signed, known.to(signed.dtype)):
                images = torch.zeros(images.shape, dtype=signed.dtype, device=images.device)
                images[mask] = signed
        return cls.from_rasters(images if images.is_floating_point() else images.float(), mask)

    @classmethod
    def from_rasters(cls, values: Float[Tensor, "B *size C"], mask: Bool[Tensor, "B *size"]) -> "Context":
        """The samples of B signals on a raster of any dimension where `mask` is True: sounds, images, clips.

        Example:
            >>> Context.from_rasters(torch.rand(2, 100, 1), torch.ones(2, 100, dtype=torch.bool)).x.shape
            torch.Size([2, 100, 1])
        """
        size = tuple(values.shape[1:-1])
        b, cells = len(values), torch.arange(mask[0].numel(), device=values.device)
        x = grid(size, device=values.device, dtype=values.dtype).expand(b, -1, -1)
        return cls(x, values.flatten(1, -2), mask.flatten(1), size, cells.expand(b, -1))

    def compact(self) -> "Context":
        """The same, with no more points than the most that are observed of any signal, at least one.

        Whether all signals are known at the same points, `shared_points`, is found out.

        Example:
            >>> mask = torch.tensor([[[True, False], [False, True]]])
            >>> Context.from_images(-torch.rand(1, 2, 2, 3), mask).compact().y.shape
            torch.Size([1, 2, 3])
        """
        most = max(1, int(self.mask.sum(1).max()))
        order = self.mask.to(torch.uint8).sort(dim=1, descending=True, stable=True).indices[:, :most, None]
        x, y = (torch.take_along_dim(values, order, dim=1) for values in (self.x, self.y))
        order = order.squeeze(-1)
        cells = None if self.cells is None else self.cells.gather(1, order)
        mask = self.mask.gather(1, order)
        shared = bool((mask == mask[:1]).all()) and bool((x == x[:1]).all())
        return replace(self, x=x, y=y, mask=mask, cells=cells, shared_points=shared)

    def signals(self, index: slice) -> "Context":
        """Some of the signals."""
        cells, source = (None if values is None else values[index] for values in (self.cells, self.source))
        return replace(self, x=self.x[index], y=self.y[index], mask=self.mask[index], cells=cells, source=source)


@cache
def _warn_of_alike() -> None:
    warnings.warn("Context.alike is now Context.shared_points", DeprecationWarning, stacklevel=3)


def rasterise(context: Context) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 1 H W"]]:
    """Observed values on the context's raster (0 where nothing is observed) and the mask as 0 or 1.

    Points in the same pixel are averaged.

    Raises:
        ValueError: If the context has no size, or coordinates that are not two-dimensional.
    """
    if context.size is None or context.x.shape[-1] != 2:
        raise ValueError(
            "expected a context with a size (H, W) and coordinates (B, N, 2); "
            f"got size {context.size} and coordinates {tuple(context.x.shape)}"
        )
    (h, w), (b, _, c) = context.size, context.y.shape
    index = nearest_cell(context.x, (h, w)).unsqueeze(-1)
    weight = context.mask.unsqueeze(-1).to(context.y.dtype)
    values = torch.where(context.mask.unsqueeze(-1), context.y, 0)
    total = context.y.new_zeros(b, h * w, c + 1)
    total = total.scatter_add(1, index.expand(-1, -1, c + 1), torch.cat([values, weight], dim=-1))
    count = total[..., c:]
    image = total[..., :c] / count.clamp(min=1)
    return (
        rearrange(image, "b (h w) c -> b c h w", h=h),
        rearrange(count.clamp(max=1), "b (h w) c -> b c h w", h=h),
    )
