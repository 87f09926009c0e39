"""Meshes of fewer faces, by quadric errors (Garland and Heckbert 1997); fast-simplification does the work.

Symbols: V vertices.
"""

import importlib.util

import numpy as np
import torch

from hypersiren.errors import UserError
from hypersiren.fields.coords import evaluate
from hypersiren.fields.operators import Field, gradient
from hypersiren.shapes.mesh import Mesh


def check_decimation() -> None:
    """Raise a UserError if the library that decimates is not installed."""
    if importlib.util.find_spec("fast_simplification") is None:
        raise UserError('fewer faces need fast-simplification: install it, or hypersiren with its extra "mesh"')


def decimate(mesh: Mesh, faces: int, field: Field, device: torch.device | str | None = None) -> Mesh:
    """A mesh of about so many faces, which stays as near to the given one as it can.

    Args:
        mesh: A level set of the field, in its coordinates.
        faces: How many to keep; a mesh that has no more is returned itself.
        field: A function from (V, 3) coordinates to (V, 1) values; the normals are along its gradient.
        device: Of the coordinates that the field is given.

    Raises:
        UserError: If fast-simplification is not installed, or nothing is left.

    Example:
        >>> from hypersiren.shapes.level_set.extract import extract
        >>> ball = lambda x: x.norm(dim=-1, keepdim=True) - 0.5
        >>> len(decimate(extract(ball, 32).mesh, 300, ball).faces) <= 300
        True
    """
    check_decimation()
    if len(mesh.faces) <= faces:
        return mesh
    import fast_simplification

    vertices, corners = mesh.vertices, mesh.faces
    for aggression in (5, 5, 6, 6, 7, 8, 9):  # each pass goes as far as its threshold of the error lets it
        if len(corners) > faces:
            vertices, corners = fast_simplification.simplify(vertices, corners, target_count=faces, agg=aggression)
    if not len(corners):
        raise UserError(f"expected a mesh of {faces} faces, got none: ask for more")
    x = torch.from_numpy(np.array(vertices, np.float32)).to(device or "cpu")
    slopes = evaluate(lambda part: gradient(field, part)[..., 0, :], x)
    normals = torch.nn.functional.normalize(slopes, dim=-1).cpu().numpy().astype(mesh.normals.dtype)
    return Mesh(vertices.astype(mesh.vertices.dtype), corners.astype(mesh.faces.dtype), normals)
