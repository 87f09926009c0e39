"""Triangle meshes: what one is, points sampled on it, and files of it (PLY, OBJ, GLB) by writers of our own.

Symbols: V vertices, F faces, N points.
"""

import json
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from hypersiren.signals import SignalError, atomic_write


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


def write_mesh(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write a mesh with its normals, in the format that the name's ending tells; complete or not at all.

    Args:
        path: A file .ply (binary, vertices in the mesh's precision), .obj (text, 9 digits) or .glb (glTF 2, single
            precision); its folder must exist. What was there is replaced.
        mesh: What to write.

    Raises:
        SignalError: If the format is unknown, or the file cannot be written (no such folder, forbidden, full disk).
    """
    write = {".ply": _write_ply, ".obj": _write_obj, ".glb": _write_glb}.get(Path(path).suffix.lower())
    if write is None:
        raise SignalError(f"expected the ending .ply, .obj or .glb, got {Path(path).suffix!r}", path)
    try:
        with atomic_write(path) as file:
            write(file, mesh)
    except OSError as error:
        raise SignalError(f"cannot be written ({error.strerror or error})", path) from error


def _write_ply(file: BinaryIO, mesh: Mesh) -> None:
    double = mesh.vertices.dtype == np.float64
    vertices = np.empty(len(mesh.vertices), [("position", "<f8" if double else "<f4", 3), ("normal", "<f4", 3)])
    vertices["position"], vertices["normal"] = mesh.vertices, mesh.normals
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {'double' if double else 'float'} {name}" for name in ("x", "y", "z")),
        *(f"property float {name}" for name in ("nx", "ny", "nz")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    file.write(("\n".join(lines) + "\n").encode() + vertices.tobytes() + faces.tobytes())


def _write_obj(file: BinaryIO, mesh: Mesh) -> None:
    rows = 100_000  # at a time: the text is many times as large as the numbers
    for line, numbers in (("v %.9g %.9g %.9g\n", mesh.vertices), ("vn %.6g %.6g %.6g\n", mesh.normals)):
        for start in range(0, len(numbers), rows):
            part = numbers[start : start + rows]
            file.write((line * len(part) % tuple(part.ravel().tolist())).encode())
    for start in range(0, len(mesh.faces), rows):
        corners = (mesh.faces[start : start + rows] + 1).repeat(2, axis=1)
        file.write(("f %d//%d %d//%d %d//%d\n" * len(corners) % tuple(corners.ravel().tolist())).encode())


def _write_glb(file: BinaryIO, mesh: Mesh) -> None:
    positions, normals = mesh.vertices.astype("<f4"), mesh.normals.astype("<f4")
    parts = [positions.tobytes(), normals.tobytes(), mesh.faces.astype("<u4").tobytes()]
    offsets = np.cumsum([0, *map(len, parts)]).tolist()
    array_buffer, element_array_buffer, single, unsigned, triangles = 34962, 34963, 5126, 5125, 4  # glTF's numbers
    vectors = {"componentType": single, "count": len(positions), "type": "VEC3"}
    bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    description = {
        "asset": {"version": "2.0", "generator": "hypersiren"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "NORMAL": 1}, "indices": 2, "mode": triangles}]}],
        "accessors": [
            {"bufferView": 0, **vectors, **bounds},
            {"bufferView": 1, **vectors},
            {"bufferView": 2, "componentType": unsigned, "count": mesh.faces.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": offset, "byteLength": len(part), "target": target}
            for offset, part, target in zip(
                offsets, parts, [array_buffer, array_buffer, element_array_buffer], strict=False
            )
        ],
        "buffers": [{"byteLength": offsets[-1]}],
    }
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + offsets[-1]))
    file.write(struct.pack("<I4s", len(text), b"JSON") + text)
    file.write(struct.pack("<I4s", offsets[-1], b"BIN\0"))
    for part in parts:
        file.write(part)
