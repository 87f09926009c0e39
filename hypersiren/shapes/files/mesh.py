"""Mesh files: triangles in, closed meshes in, PLY, OBJ and GLB out. Imports no torch."""

import io
import json
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.files.tables import read_bytes
from hypersiren.shapes.mesh import Mesh, face_crosses, is_watertight
from hypersiren.signals.files import SignalError, atomic_write


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


MESHES = (".obj", ".ply", ".stl", ".off", ".glb")
"""Endings of mesh files; a .ply may also be points alone."""


def read_triangles(path: str | os.PathLike[str]) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and faces of a mesh file, without faces that have no area or a vertex that is not finite."""
    try:
        import trimesh
    except ModuleNotFoundError:
        raise SignalError('expected trimesh for reading meshes: pip install "hypersiren[mesh]"') from None
    data = io.BytesIO(read_bytes(path))
    try:
        mesh = trimesh.load_mesh(data, file_type=Path(path).suffix.lower(), process=False)
        vertices, faces = np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces)
    except Exception as error:  # its readers raise whatever their file leads them to
        raise SignalError(
            f"broken or truncated mesh ({' '.join(str(error).split()) or type(error).__name__})"
        ) from error
    if not len(faces):
        raise SignalError("expected a mesh, got no faces")
    with np.errstate(all="ignore"):
        areas = np.linalg.norm(face_crosses(vertices, faces), axis=1)
    faces = faces[np.isfinite(areas) & (areas > 0)]
    if not len(faces):
        raise SignalError("expected a mesh with faces that have an area, got none")
    return vertices, faces


def read_closed(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and faces of a closed mesh, its normals outwards.

    Raises:
        SignalError: If the file cannot be read, or the mesh is open.
    """
    vertices, faces = read_triangles(path)
    # Some formats repeat a vertex for each face.
    vertices, names = np.unique(vertices, axis=0, return_inverse=True)
    faces = names.reshape(-1)[faces]
    if not is_watertight(Mesh(vertices, faces, vertices)):
        raise SignalError("expected a closed mesh, got one with open or inconsistent edges", path)
    volume = (vertices[faces[:, 0]] * face_crosses(vertices, faces)).sum()
    return vertices, faces if volume > 0 else faces[:, ::-1]
