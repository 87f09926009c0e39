"""Measures of a shape: how near a surface is to another, how nearly a field is a distance, whether a mesh is closed.

Two surfaces are compared by points sampled on both, P on the one that is judged, Q on the reference. With d(p, Q) the
distance of p to the nearest point of Q, in the units of the points,

    accuracy       mean over p in P of d(p, Q)
    completeness   mean over q in Q of d(q, P)
    chamfer L1     (accuracy + completeness) / 2
    chamfer L2     the same of squared distances, in squared units
    F-score        2 a b / (a + b), a the share of P nearer than a threshold to Q, b the share of Q so near to P
    normal consistency    the mean of n_p . n_q over nearest pairs, both ways, averaged: 1 agrees, -1 is inside out

(Mescheder et al. 2019 for the means and halves; they drop the sign of n_p . n_q, which would hide a surface turned
inside out.) Points sampled at random have distances even on equal surfaces: with N points on an area A about
0.5 sqrt(A / N).

Symbols: N points, V vertices, F faces.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.coords import evaluate
from hypersiren.fields.operators import Field, gradient
from hypersiren.shapes.mesh import Mesh, sample_surface
from hypersiren.shapes.sides import find_nearest, median_distance


@dataclass(frozen=True)
class SurfaceError:
    """How two surfaces differ; see the module's docstring for what each number is."""

    accuracy: float
    completeness: float
    chamfer_l1: float
    chamfer_l2: float
    f_score: float
    normal_consistency: float


def compare_surfaces(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    reference_points: Float[np.ndarray, "M 3"],
    reference_normals: Float[np.ndarray, "M 3"],
    threshold: float,
) -> SurfaceError:
    """Compare a surface with a reference, by points on both with unit normals.

    Args:
        points, normals: On the surface that is judged, say by `hypersiren.shapes.mesh.sample_surface`.
        reference_points, reference_normals: On the surface that it should be.
        threshold: The distance for the F-score, in the units of the points.

    Raises:
        ValueError: If either has no points.

    Example:
        >>> points = np.random.default_rng(0).random((100, 3)) * [1, 1, 0]
        >>> normals = np.zeros((100, 3)) + [0, 0, 1]
        >>> error = compare_surfaces(points + [0, 0, 0.1], normals, points, normals, threshold=0.05)
        >>> round(error.chamfer_l1, 3), error.f_score, error.normal_consistency
        (0.1, 0.0, 1.0)
    """
    if not len(points) or not len(reference_points):
        raise ValueError(f"expected points on both surfaces, got {len(points)} and {len(reference_points)}")
    there, nearest = find_nearest(reference_points, points)
    back, nearest_back = find_nearest(points, reference_points)
    agreement = (normals * reference_normals[nearest]).sum(1).mean()
    agreement_back = (reference_normals * normals[nearest_back]).sum(1).mean()
    precision, recall = (there < threshold).mean(), (back < threshold).mean()
    return SurfaceError(
        accuracy=float(there.mean()),
        completeness=float(back.mean()),
        chamfer_l1=float(there.mean() + back.mean()) / 2,
        chamfer_l2=float((there**2).mean() + (back**2).mean()) / 2,
        f_score=float(2 * precision * recall / max(precision + recall, 1e-12)),
        normal_consistency=float(agreement + agreement_back) / 2,
    )


def eikonal_error(field: Field, x: Float[Tensor, "N D"], chunk: int = 65536) -> float:
    """The mean of | |gradient| - 1 | at the given points: zero for a distance.

    Example:
        >>> import torch
        >>> eikonal_error(lambda x: 1.5 * x[:, :1], torch.rand(10, 3))
        0.5
    """
    norms = evaluate(lambda part: gradient(field, part)[..., 0, :].norm(dim=-1, keepdim=True), x, chunk)
    return (norms - 1).abs().mean().item()


def mesh_errors(
    mesh: Mesh | None,
    held_points: Float[np.ndarray, "N 3"],
    held_normals: Float[np.ndarray, "N 3"],
    sides: Float[np.ndarray, " 3"],
) -> dict[str, float]:
    """How far a mesh is from points of the true surface, whose bounding box has these sides; see `SDF.evaluate`."""
    if mesh is None or not len(mesh.faces):
        return {
            "chamfer_l1": 100.0,
            "chamfer_rms": 100.0,
            "f_score": 0.0,
            "normal_consistency": -1.0,
            "median": 100.0,
        }
    percent = 100 / float(np.linalg.norm(sides))
    points, normals = sample_surface(mesh.vertices, mesh.faces, max(10_000, 2 * len(held_points)))
    error = compare_surfaces(points, normals, held_points, held_normals, 1 / percent)
    return {
        "chamfer_l1": percent * error.chamfer_l1,
        "chamfer_rms": percent * error.chamfer_l2**0.5,
        "f_score": error.f_score,
        "normal_consistency": error.normal_consistency,
        "median": 100 * median_distance(points, held_points) / float(sides.max()),
    }
