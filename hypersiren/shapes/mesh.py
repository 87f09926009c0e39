"""Triangle meshes: what one is, points sampled on it, and files of it (PLY, OBJ, GLB) by writers of our own.

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


def sample(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int, seed: int = 0
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Random points on triangles, evenly by area, with the unit normals of their triangles.

    Raises:
        ValueError: If the triangles have no area.

    Example:
        >>> points, normals = sample(np.eye(3), np.array([[0, 1, 2]]), 5)
        >>> points.sum(1).round(6).tolist(), normals[0].round(3).tolist()
        ([1.0, 1.0, 1.0, 1.0, 1.0], [0.577, 0.577, 0.577])
    """
    crosses = face_crosses(vertices.astype(np.float64), faces)
    areas = np.linalg.norm(crosses, axis=1)
    if not areas.sum() > 0:
        raise ValueError("expected triangles with an area, got none")
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(faces), count, p=areas / areas.sum())
    # The square root makes the points even: u is how far from the first corner, v where between the other two.
    u, v = np.sqrt(generator.random((count, 1))), generator.random((count, 1))
    a, b, c = (vertices[faces[chosen, i]] for i in range(3))
    return a + u * ((1 - v) * (b - a) + v * (c - a)), crosses[chosen] / areas[chosen, None]


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
    start, end = _directed_edges(mesh)
    forth, back = np.sort(start * len(mesh.vertices) + end), np.sort(end * len(mesh.vertices) + start)
    # No direction twice, and each with its opposite.
    return bool(len(forth) and (forth[1:] != forth[:-1]).all() and (forth == back).all() and (start != end).all())


def components(mesh: Mesh) -> int:
    """The number of parts that hang together by edges; vertices without a face do not count.

    Example:
        >>> two = np.array([[0, 1, 2], [3, 4, 5]])
        >>> components(Mesh(np.zeros((7, 3)), two, np.zeros((7, 3))))
        2
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    start, end = _directed_edges(mesh)
    size = len(mesh.vertices)
    _, labels = connected_components(coo_array((np.ones(len(start), bool), (start, end)), (size, size)), directed=False)
    return len(np.unique(labels[mesh.faces]))


def _directed_edges(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    faces = mesh.faces.astype(np.int64)
    return faces.ravel(), faces[:, [1, 2, 0]].ravel()
