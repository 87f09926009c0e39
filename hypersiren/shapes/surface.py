"""From a fitted signed distance function back to the surface in the units of its input.

Symbols: K points, V vertices.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate
from hypersiren.fields.operators import Field
from hypersiren.shapes.cloud import PointCloud
from hypersiren.shapes.level_set.extract import Extraction, extract
from hypersiren.shapes.mesh import Mesh, trim
from hypersiren.shapes.normals import unique_rows


@dataclass(frozen=True)
class Placement:
    """Where a shape lies, as plain numbers that a run's record keeps: meshing needs nothing else of the input.

    Attributes:
        scale, centre: scale * x + centre is in the input's units.
        lower, upper: The box in which the field was trained, in [-1, 1]^3.
        up: The axis that points upwards.
        reach: The surface ends so far from the nearest point of `seen`; None for a closed surface.
        seen: Where points were measured, at most one in each cube of half of `reach`.
    """

    scale: float
    centre: list[float]
    lower: list[float]
    upper: list[float]
    up: int = 2
    reach: float | None = None
    seen: list[list[float]] | None = None


def place_cloud(cloud: PointCloud, edge: float, share: float | None = None, up: int = 2) -> Placement:
    """The placement of a cloud, in a box that leaves `edge` free; `share` of the longest side is its reach.

    Example:
        >>> from hypersiren.shapes.cloud import make_cloud
        >>> found = place_cloud(make_cloud(np.random.default_rng(0).random((99, 3)) * [9, 3, 3]), 0.1)
        >>> [round(x, 3) for x in found.upper][0], round(found.scale)
        (1.0, 5)
    """
    low, high = cloud.points.min(0).astype(float), cloud.points.max(0).astype(float)
    reach = None if share is None else share * float((high - low).max())
    seen = None
    if reach is not None:
        cube = reach / 2
        cubes = np.round(cloud.points / cube)
        seen = (np.unique(cubes[unique_rows(cubes)[0]], axis=0) * cube).tolist()
    return Placement(
        float(cloud.scale), cloud.centre.tolist(), (low - edge).tolist(), (high + edge).tolist(), up, reach, seen
    )


def surface(
    field: Field,
    placement: Placement,
    resolution: int,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[float], None] | None = None,
) -> Extraction:
    """The zero level set in the placement's box, trimmed to its reach, in [-1, 1]^3.

    Args:
        field: A function from (N, 3) coordinates to (N, 1) values, or to (N, 4), whose first is the distance and whose
            others are colours; see `coloured`.
        placement: Where the shape lies.
        resolution: Cells along the longest side.
        device: Of the coordinates that the field is given.
        progress: Called with the share of the work done.

    Raises:
        UserError: If the box holds no surface, or none within reach.
    """

    def distance(x: Float[Tensor, "*N 3"]) -> Tensor:
        values = field(x)
        return values[..., :1] if values.shape[-1] == 4 else values

    reach, seen = placement.reach, placement.seen
    box = placement.lower, placement.upper
    if reach is None or seen is None:
        return extract(distance, resolution, *box, device=device, progress=progress)
    from scipy.spatial import cKDTree

    tree = cKDTree(seen)

    def within_reach(centres: Float[Tensor, "M 3"], radius: float) -> Bool[Tensor, " M"]:
        distance, _ = tree.query(centres.cpu().numpy(), distance_upper_bound=reach + radius, workers=-1)
        return torch.from_numpy(np.isfinite(distance)).to(centres.device)

    found = extract(distance, resolution, *box, device=device, where=within_reach, progress=progress)
    mesh = trim(found.mesh, np.array(seen), reach)
    if not len(mesh.faces):
        raise UserError(f"expected a surface within {reach:.3g} of the points, got none")
    return replace(found, mesh=mesh)


def coloured(mesh: Mesh, field: Field, device: torch.device | str | None = None) -> Mesh:
    """A mesh in the field's coordinates with the colours that the field has at its vertices, if it has any.

    Args:
        mesh: The surface.
        field: A function from (V, 3) coordinates to (V, 4) values: the distance, and red, green and blue in [-1, 1].
            One with other than 4 channels has no colours, and the mesh is returned itself.
        device: Of the coordinates that the field is given.

    Example:
        >>> corner = Mesh(np.eye(3), np.array([[0, 1, 2]]), np.full((3, 3), 3**-0.5))
        >>> coloured(corner, lambda x: torch.cat([x[:, :1], x], dim=1)).colours.tolist()
        [[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]]
        >>> coloured(corner, lambda x: x[:, :1]).colours is None
        True
    """
    x = torch.from_numpy(np.array(mesh.vertices, np.float32)).to(device or "cpu")
    if not len(x) or field(x[:1]).shape[-1] != 4:
        return mesh
    with torch.no_grad():
        levels = (evaluate(field, x)[:, 1:] + 1) / 2
    return replace(mesh, colours=levels.clamp(0, 1).cpu().numpy())
