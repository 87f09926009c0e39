"""Triangle meshes: what one is, points sampled on it, and whether it is whole; trimesh does the work.

Symbols: V vertices, F faces, N points.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices: Where the vertices are.
        faces: The vertices of each triangle, counterclockwise as seen from outside.
        normals: A unit normal for each vertex, outwards.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "V 3"]

    def moved(self, scale: float, centre: Float[np.ndarray, " 3"]) -> "Mesh":
        """The mesh at scale * x + centre, in double precision: from [-1, 1]^3 to the units of an input, say."""
        return replace(self, vertices=self.vertices.astype(np.float64) * scale + centre)


def face_crosses(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "F 3"]:
    """For each triangle the vector along its outward normal that is twice its area long.

    Example:
        >>> face_crosses(np.eye(3), np.array([[0, 1, 2]])).tolist()
        [[1.0, 1.0, 1.0]]
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)


def sample_surface(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int, seed: int = 0
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Random points on triangles, evenly by area, with the unit normals of their triangles.

    One version of trimesh gives the same points for the same seed.

    Raises:
        ValueError: If the triangles have no area.

    Example:
        >>> points, normals = sample_surface(np.eye(3), np.array([[0, 1, 2]]), 5)
        >>> points.sum(1).round(6).tolist(), normals[0].round(3).tolist()
        ([1.0, 1.0, 1.0, 1.0, 1.0], [0.577, 0.577, 0.577])
    """
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    if not mesh.area > 0:
        raise ValueError("expected triangles with an area, got none")
    points, chosen, *_ = trimesh.sample.sample_surface(mesh, count, seed=seed)
    # The normals of trimesh are zero for triangles with sides below 1e-7, whatever the unit.
    crosses = face_crosses(vertices.astype(np.float64), faces[chosen])
    return np.asarray(points), crosses / np.linalg.norm(crosses, axis=1, keepdims=True)


def trim(mesh: Mesh, points: Float[np.ndarray, "N 3"], distance: float) -> Mesh:
    """The faces of a mesh whose corners all lie within `distance` of some point: what a scan has seen of a surface.

    A level set closes where nothing was measured too, behind walls and beyond windows.

    Example:
        >>> both = Mesh(np.vstack([np.eye(3), np.eye(3) + 9]), np.array([[0, 1, 2], [3, 4, 5]]), np.ones((6, 3)))
        >>> trim(both, np.zeros((1, 3)), 2.0).vertices.tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    from scipy.spatial import cKDTree

    gaps, _ = cKDTree(points).query(mesh.vertices, distance_upper_bound=distance, workers=-1)
    faces = mesh.faces[np.isfinite(gaps)[mesh.faces].all(1)]
    used, corners = np.unique(faces, return_inverse=True)
    return Mesh(mesh.vertices[used], corners.reshape(-1, 3).astype(mesh.faces.dtype), mesh.normals[used])


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge belongs to exactly two faces, which run along it in opposite directions.

    Example:
        >>> solid = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        >>> corners = np.vstack([np.zeros(3), np.eye(3)])
        >>> is_watertight(Mesh(corners, solid, corners)), is_watertight(Mesh(corners, solid[:3], corners))
        (True, False)
    """
    from trimesh import geometry, graph

    edges = geometry.faces_to_edges(mesh.faces)
    # For trimesh nothing at all is watertight, and so are faces that have a corner twice.
    return bool(len(edges) and (edges[:, 0] != edges[:, 1]).all() and all(graph.is_watertight(edges)))


def components(mesh: Mesh) -> int:
    """The number of parts that hang together by edges; vertices without a face do not count.

    Example:
        >>> two = np.array([[0, 1, 2], [3, 4, 5]])
        >>> components(Mesh(np.zeros((7, 3)), two, np.zeros((7, 3))))
        2
    """
    from trimesh import geometry, graph

    return len(graph.connected_components(geometry.faces_to_edges(mesh.faces)))
