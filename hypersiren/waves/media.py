"""Media: the squared slowness m(x) = 1 / c(x)² that waves meet, as functions of coordinates (paper, section 4.3).

Symbols: N points, c velocity, m squared slowness; the background has c = m = 1.
"""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.signals.files import SignalError, check_file, guarded
from hypersiren.signals.image.files import read_values
from hypersiren.signals.numpy_files import parse_array

Medium = Callable[[Float[Tensor, "*batch N 2"]], Float[Tensor, "*batch N 1"]]

INSIDE = 0.25
"""Squared slowness of the paper's square and circle: waves are twice as fast there (authors' code)."""


def uniform(x: Float[Tensor, "*batch N 2"]) -> Float[Tensor, "*batch N 1"]:
    """m = 1 everywhere."""
    return torch.ones_like(x[..., :1])


def square(x: Float[Tensor, "*batch N 2"]) -> Float[Tensor, "*batch N 1"]:
    """m = 1/4 where both |x_0| and |x_1| are below 0.3 (authors' code).

    Example:
        >>> square(torch.tensor([[0.29, -0.29], [0.29, 0.31]])).tolist()
        [[0.25], [1.0]]
    """
    return _inside(x.abs().amax(-1, keepdim=True) < 0.3)


def circle(x: Float[Tensor, "*batch N 2"]) -> Float[Tensor, "*batch N 1"]:
    """m = 1/4 inside the circle of radius 0.1 (authors' code)."""
    return _inside(x.norm(dim=-1, keepdim=True) < 0.1)


def _inside(mask: Tensor) -> Tensor:
    return torch.where(mask, INSIDE, 1.0)


MEDIA: dict[str, Medium] = {"uniform": uniform, "square": square, "circle": circle}
"""The paper's media by name."""


def cell_means(medium: Medium, n: int, samples: int = 4) -> Float[Tensor, "n n"]:
    """The mean of m over each cell of `coords.grid((n, n))`, float64, as solvers want it: jumps make no staircase.

    Args:
        medium: m(x).
        n: Cells along each axis.
        samples: Along each axis of a cell.

    Example:
        >>> cell_means(square, 10, samples=2)[2:5, 4].tolist()  # the square's edge divides a cell
        [1.0, 0.625, 0.25]
    """
    m = medium(grid((n * samples, n * samples), dtype=torch.float64)).double()
    return reduce(m, "(n i m j) 1 -> n m", "mean", n=n, i=samples, j=samples)


@dataclass(frozen=True)
class VelocityImage:
    """A medium given as an image of velocities over [-1, 1]², bilinear between its pixels' centres.

    Attributes:
        velocity: (H, W), finite and positive; x_0 runs down the rows.
        extent: Half of what the rows and the columns span: (0.5, 1) for rows in [-0.5, 0.5]. Beyond, the medium is as
            at its border.

    Raises:
        UserError: If a velocity is not finite or not positive.

    Example:
        >>> medium = VelocityImage(torch.tensor([[1.0], [2.0]]))
        >>> medium(torch.tensor([[-0.9, 0.0], [0.0, 0.0], [0.9, 0.0]])).tolist()  # 1 / c² at c = 1, 1.5, 2
        [[1.0], [0.444...], [0.25]]
    """

    velocity: Float[Tensor, "H W"]
    extent: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.velocity.numel() == 0:
            raise UserError("expected velocities, got an empty image")
        bad = ~(self.velocity.isfinite() & (self.velocity > 0))
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            value = self.velocity[row, column].item()
            raise UserError(f"expected finite velocities above 0, got {value:g} at row {row}, column {column}")

    def __call__(self, x: Float[Tensor, "*batch N 2"]) -> Float[Tensor, "*batch N 1"]:
        """Squared slowness at x."""
        image = self.velocity.to(x).expand(1, 1, *self.velocity.shape)
        inside = x / x.new_tensor(self.extent)
        columns_first = inside.flip(-1).reshape(1, 1, -1, 2)  # grid_sample wants (column, row)
        velocity = F.grid_sample(image, columns_first, "bilinear", "border", align_corners=False)
        return velocity.reshape(*x.shape[:-1], 1).square().reciprocal()


UNLIKELY = 10.0
"""Velocities beyond so many times the background's, or less than such a part of it, are taken to have another unit."""


def open_medium(
    path: str | Path, *, slowest: float = 1.0, fastest: float = 2.0, background: float | None = None
) -> Medium:
    """One of `MEDIA` by name, or a file of velocities.

    The background has velocity 1, of which wavenumbers and durations are told. An image that is not square keeps its
    shape: its longer side spans [-1, 1], and along the shorter one the medium goes on as at the border.

    Args:
        path: A name, a NumPy file (.npy) of an array (H, W) of velocities, or a picture.
        slowest, fastest: The velocities that black and white of a picture stand for.
        background: The velocity that counts as 1, in the unit of the others; None if they are relative already.

    Raises:
        SignalError: If the file cannot be read, or holds what no velocity can be, or what is no velocity relative to a
            background of 1: above 10 or below 0.1.

    Warns:
        UserWarning: If the image is not square.

    Example:
        >>> open_medium("circle")(torch.zeros(1, 2)).tolist()
        [[0.25]]
    """
    if str(path) in MEDIA:
        return MEDIA[str(path)]
    if Path(path).suffix.lower() == ".npy":
        check_file(path, "velocities")
        with guarded("not a NumPy file of numbers", path):
            velocity = parse_array(Path(path).read_bytes())
        if velocity.ndim != 2 or not np.isrealobj(velocity) or not np.issubdtype(velocity.dtype, np.number):
            raise SignalError(f"expected velocities (H, W), got {velocity.dtype} of shape {velocity.shape}", path)
        velocity = velocity.astype(np.float64)
    else:
        values = read_values(path, gray=True, guess=False, hint="or give the velocities as a NumPy file (.npy)").pixels
        velocity = slowest + (fastest - slowest) * (values[..., 0].astype(np.float64) + 1) / 2
    with guarded("", path):
        found = _relative(velocity, background)
    h, w = velocity.shape
    if h != w:
        side, half = ("rows", h / w) if h < w else ("columns", w / h)
        warnings.warn(
            f"{os.fspath(path)}: {h} x {w} velocities keep their shape: {side} span [-{half:.4g}, {half:.4g}], beyond "
            "which the medium is as at their border",
            stacklevel=2,
        )
    return VelocityImage(found.velocity, (h / max(h, w), w / max(h, w)))


def _relative(velocity: np.ndarray, background: float | None) -> VelocityImage:
    """Velocities by that of the background, checked."""
    try:
        found = VelocityImage(torch.from_numpy(velocity / (background or 1.0)).float())
    except UserError as error:
        raise SignalError(str(error)) from None
    least, most = (value.item() for value in found.velocity.aminmax())
    if most > UNLIKELY or least < 1 / UNLIKELY:
        border = np.concatenate([velocity[0], velocity[-1], velocity[:, 0], velocity[:, -1]])
        unit = "" if background is None else f" of {background:g}"
        raise SignalError(
            f"expected velocities relative to the background{unit}, from {1 / UNLIKELY:g} to {UNLIKELY:g} times it, "
            f"got {least:.6g} to {most:.6g}: --signal.background {np.median(border):.6g} (the border's) divides by it"
        )
    return found
