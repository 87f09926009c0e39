"""Triangle meshes: what one is, points sampled on it, and whether it is whole; trimesh does the work.

Symbols: V vertices, F faces, N points.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int


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


def outward_faces(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, "F 3"], str | None]:
    """Faces that agree with their neighbours and look outwards, and one line on what was turned or is in doubt, if any.

    Neighbours agree if they run along their edge in opposite directions. A closed mesh of negative volume is turned,
    and so is each of its closed parts of negative volume that does not lie inside of a part of positive volume, where
    it bounds a hollow. Of a mesh that is not closed the side of most of its area is kept: what is outside is not known.

    Example:
        >>> solid = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        >>> corners = np.vstack([np.zeros(3), np.eye(3)])
        >>> turned, text = outward_faces(corners, solid[:, ::-1])
        >>> is_watertight(Mesh(corners, turned, corners)), text
        (True, '4 of 4 faces looked inwards or otherwise than their neighbours, and were turned')
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Some formats repeat a vertex for each face.
    places, names = np.unique(vertices, axis=0, return_inverse=True)
    welded = names.reshape(-1)[faces]
    one, other, against, odd = _neighbours(welded)
    count = len(faces)
    links = coo_array((np.ones(len(one)), (one, other)), (count, count)).tocsr()
    parts, part = connected_components(links, directed=False)
    sign = np.ones(count, np.int64)
    if against.any():
        sign = _agreeing(one, other, against, count)
    crosses = face_crosses(places, welded)
    areas = np.linalg.norm(crosses, axis=1)
    middle = (places.min(0) + places.max(0)) / 2
    volumes = ((places[welded[:, 0]] - middle) * crosses).sum(1)
    # Neighbours agree now; each part keeps the side that most of its area had.
    kept = np.bincount(part, areas * sign, parts) >= 0
    sign *= np.where(kept, 1, -1)[part]
    open_ = np.zeros(parts, bool)
    open_[part[odd]] = True
    notes = []
    disagree = bool(len(one)) and bool((against != (sign[one] != sign[other])).any())
    if disagree:
        notes.append("some faces cannot agree with all of their neighbours")
    if not open_.all() and not disagree:
        volume = np.bincount(part, volumes * sign, parts)
        closed = ~open_
        if volume[closed].sum() < 0:
            sign[closed[part]] *= -1
            volume[closed] *= -1
        for inward in np.flatnonzero(closed & (volume < 0)):
            solid = (closed & (volume > 0))[part]
            corner = places[welded[part == inward][0]].mean(0)
            flipped = np.where(sign[solid, None] > 0, welded[solid], welded[solid][:, ::-1])
            if abs(_winding(corner, places, flipped)) < 0.5:
                sign[part == inward] *= -1
    turned = int((sign < 0).sum())
    if turned:
        notes.insert(0, f"{turned} of {count} faces looked inwards or otherwise than their neighbours, and were turned")
    if open_.any():
        notes.append("the mesh is not closed: its faces are trusted to look outwards")
    return np.where(sign[:, None] > 0, faces, faces[:, ::-1]), "; ".join(notes) or None


def _neighbours(
    faces: Int[np.ndarray, "F 3"],
) -> tuple[Int[np.ndarray, " E"], Int[np.ndarray, " E"], Bool[np.ndarray, " E"], Int[np.ndarray, " _O"]]:
    """Pairs of faces with an edge in common, whether they run along it alike, and faces with an edge not so shared."""
    count = len(faces)
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    owner = np.arange(count).repeat(3)
    forward = edges[:, 0] < edges[:, 1]
    _, edge, uses = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    order = edge.argsort(kind="stable")
    shared = order[uses[edge[order]] == 2].reshape(-1, 2)
    odd = np.unique(owner[uses[edge] != 2])
    return owner[shared[:, 0]], owner[shared[:, 1]], forward[shared[:, 0]] == forward[shared[:, 1]], odd


def _agreeing(
    one: Int[np.ndarray, " E"], other: Int[np.ndarray, " E"], against: Bool[np.ndarray, " E"], count: int
) -> Int[np.ndarray, " F"]:
    """For each face 1 or -1: what makes neighbours agree, from one face of each part on."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Each face twice, as it is and turned: what belongs together is one part of that graph.
    first, second = np.concatenate([one, one + count]), np.concatenate([other, other + count])
    second = np.where(np.concatenate([against, against]), (second + count) % (2 * count), second)
    links = coo_array((np.ones(len(first)), (first, second)), (2 * count, 2 * count)).tocsr()
    _, label = connected_components(links, directed=False)
    return np.where(label[:count] <= label[count:], 1, -1)


def _winding(x: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> float:
    """How often faces wind around a point: 1 inside of a closed surface that looks outwards, 0 outside."""
    corners = vertices[faces] - x
    a, b, c = (corners[:, i] for i in range(3))
    lengths = np.linalg.norm(corners, axis=2)
    volume = (a * np.cross(b, c)).sum(1)
    dots = [(p * q).sum(1) * lengths[:, k] for p, q, k in ((a, b, 2), (b, c, 0), (c, a, 1))]
    return float(np.arctan2(volume, lengths.prod(1) + sum(dots)).sum() / (2 * np.pi))


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
