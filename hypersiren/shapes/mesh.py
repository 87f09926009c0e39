"""Triangle meshes: what one is, points sampled on it, and whether it is whole.

Symbols: V vertices, F faces, N points.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from hypersiren.shapes.normals import two_sided, unique_rows


@dataclass(frozen=True)
class Mesh:
    """A surface of triangles.

    Attributes:
        vertices: Where the vertices are.
        faces: The vertices of each triangle, counterclockwise as seen from outside.
        normals: A unit normal for each vertex, outwards.
        colours: Red, green and blue of each vertex, in [0, 1]; None if it has none.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    normals: Float[np.ndarray, "V 3"]
    colours: Float[np.ndarray, "V 3"] | None = None

    def moved(self, scale: float, centre: Float[np.ndarray, " 3"]) -> "Mesh":
        """The mesh at scale * x + centre, in double precision: from [-1, 1]^3 to the units of an input, say."""
        return replace(self, vertices=self.vertices.astype(np.float64) * scale + centre)

    def levels(self) -> UInt8[np.ndarray, "V 3"]:
        """The colours as bytes."""
        assert self.colours is not None
        return np.round(self.colours * 255).clip(0, 255).astype(np.uint8)


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

    They are those that `trimesh.sample.sample_surface` gives for the same seed; to import it takes a second.

    Raises:
        ValueError: If the triangles have no area.

    Example:
        >>> points, normals = sample_surface(np.eye(3), np.array([[0, 1, 2]]), 5)
        >>> points.sum(1).round(6).tolist(), normals[0].round(3).tolist()
        ([1.0, 1.0, 1.0, 1.0, 1.0], [0.577, 0.577, 0.577])
    """
    points, normals, _, _ = sample_triangles(vertices, faces, count, seed)
    return points, normals


def sample_triangles(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], count: int, seed: int = 0
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"], Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
    """As `sample_surface`, with the triangle of each point and the weights of its corners there."""
    corners = vertices.astype(np.float64)
    crosses = face_crosses(corners, faces)
    sums = np.cumsum(np.sqrt((crosses**2).sum(1)) / 2)
    if not (len(sums) and sums[-1] > 0):
        raise ValueError("expected triangles with an area, got none")
    random = np.random.default_rng(seed).random
    chosen = np.searchsorted(sums, random(count) * sums[-1])
    # Places in a parallelogram; those beyond the triangle are turned into it.
    places = random((count, 2, 1))
    places[places.sum(1).ravel() > 1] -= 1
    places = np.abs(places)
    first, *others = (corners[faces[chosen, i]] for i in range(3))
    sides = np.stack(others, 1) - first[:, None]
    normals = crosses[chosen]
    weights = np.concatenate([1 - places.sum(1), places[..., 0]], 1)
    points = (sides * places).sum(1) + first
    return points, normals / np.linalg.norm(normals, axis=1, keepdims=True), chosen, weights


def outward_faces(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, "G 3"], str | None]:
    """Faces that agree with their neighbours and look outwards, and one line on what was changed or is in doubt.

    Of faces that are there twice, once for each side, one is kept. Neighbours agree if they run along their edge in
    opposite directions. A closed mesh of negative volume is turned. Its closed parts look outwards if they lie inside
    of none of the others, or of two, and else inwards, as walls of hollows: what lies between two surfaces cannot be
    inside of the one and outside of the other. Of a mesh that is not closed the side of most of its area is kept: what
    is outside is not known.

    Example:
        >>> solid = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
        >>> corners = np.vstack([np.zeros(3), np.eye(3)])
        >>> turned, text = outward_faces(corners, solid[:, ::-1])
        >>> is_watertight(Mesh(corners, turned, corners)), text
        (True, '4 of 4 faces looked inwards or otherwise than their neighbours, and were turned')
    """
    # Some formats repeat a vertex for each face.
    first, names = unique_rows(vertices)
    places, welded = vertices[first], names[faces]
    notes = []
    once = np.sort(unique_rows(np.sort(welded, axis=1))[0])
    if len(once) < len(faces):
        notes.append(f"{len(faces) - len(once)} of {len(faces)} faces are there twice, as of both sides: one is kept")
        faces, welded = faces[once], welded[once]
    one, other, against, odd = _neighbours(welded)
    count = len(faces)
    sign, part = two_sided(one, other, against, count)
    parts = int(part.max()) + 1
    crosses = face_crosses(places, welded)
    areas = np.linalg.norm(crosses, axis=1)
    used = places[welded]
    middle = (used.min((0, 1)) + used.max((0, 1))) / 2
    volumes = ((used[:, 0] - middle) * crosses).sum(1)
    # Neighbours agree now; each part keeps the side that most of its area had.
    kept = np.bincount(part, areas * sign, parts) >= 0
    sign *= np.where(kept, 1, -1)[part]
    open_ = np.zeros(parts, bool)
    open_[part[odd]] = True
    disagree = bool(len(one)) and bool((against != (sign[one] != sign[other])).any())
    if disagree:
        notes.append("some faces cannot agree with all of their neighbours")
    hollow = 0
    if not open_.all() and not disagree:
        volume = np.bincount(part, volumes * sign, parts)
        closed = ~open_
        if volume[closed].sum() < 0:
            sign[closed[part]] *= -1
            volume[closed] *= -1
        depth = _depths(places, welded, part, np.flatnonzero(closed))
        inward = closed & (volume < 0) & (depth % 2 == 0)
        hollows = closed & (volume > 0) & (depth % 2 == 1)
        hollow = int(hollows.sum())
        sign[(inward | hollows)[part]] *= -1
    turned = int((sign < 0).sum())
    if turned:
        notes.insert(0, f"{turned} of {count} faces looked inwards or otherwise than their neighbours, and were turned")
    if hollow:
        notes.append(
            f"{hollow} of {parts} parts lie inside of others and looked outwards as these do: they are taken for the "
            "walls of hollows and turned; if they are solid, leave them out of the file"
        )
    if open_.any():
        notes.append("the mesh is not closed: its faces are trusted to look outwards")
    return np.where(sign[:, None] > 0, faces, faces[:, ::-1]), "; ".join(notes) or None


_MOST_WORK = 1 << 28
"""Faces times corners by which parts are compared before their boxes must do."""


def _depths(
    places: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], part: Int[np.ndarray, " F"], closed: np.ndarray
) -> Int[np.ndarray, " P"]:
    """For each part, inside of how many closed ones it lies wholly; 0 for parts that are not closed themselves."""
    depth = np.zeros(part.max() + 1, np.int64)
    if len(closed) < 2:
        return depth
    order = part.argsort(kind="stable")
    groups = dict(enumerate(np.split(order, np.flatnonzero(np.diff(part[order])) + 1)))
    corners = {p: places[faces[groups[p]]].reshape(-1, 3) for p in closed.tolist()}
    lower = np.array([corners[p].min(0) for p in closed.tolist()])
    upper = np.array([corners[p].max(0) for p in closed.tolist()])
    work = 0
    for i, inner in enumerate(closed.tolist()):
        around = np.flatnonzero((lower < lower[i]).all(1) & (upper > upper[i]).all(1))
        some = corners[inner][:: max(1, len(corners[inner]) // 8)]  # parts that cross lie in each other only partly
        for outer in closed[around].tolist():
            shell = faces[groups[outer]]
            work += len(shell) * len(some)
            depth[inner] += work > _MOST_WORK or all(abs(_winding(x, places, shell)) > 0.5 for x in some)
    return depth


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
