"""Mesh files: triangles in, closed meshes in, PLY, OBJ and GLB out. Imports no torch.

trimesh reads OBJ, STL and GLB, and writes OBJ and GLB. PLY is read by `ply`, see there, and written here because
trimesh writes its vertices in single precision: at a northing of 4 000 km they move by up to 0.12 m.
"""

import codecs
import io
import json
import math
import os
import re
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.files.ply import ply_triangles
from hypersiren.shapes.files.tables import read_bytes
from hypersiren.shapes.mesh import Mesh, face_crosses, is_watertight
from hypersiren.signals.files import SignalError, atomic_write, guarded, unlogged


def write_mesh(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write a mesh with its normals, in the format that the name's ending tells; complete or not at all.

    Args:
        path: A file .ply (binary, vertices in the mesh's precision), .obj (text, to 1e-9 of the unit or of the mesh's
            extent if that is less) or .glb (glTF 2, single precision); its folder must exist. What was there is
            replaced.
        mesh: What to write, with at least one face.

    Raises:
        SignalError: If the format is unknown, or the file cannot be written (no such folder, forbidden, full disk).
    """
    ending = Path(path).suffix.lower()
    if ending not in (".ply", ".obj", ".glb"):
        raise SignalError(f"expected the ending .ply, .obj or .glb, got {Path(path).suffix!r}", path)
    try:
        with atomic_write(path) as file:
            file.write(_ply(mesh) if ending == ".ply" else _exported(mesh, ending))
    except OSError as error:
        raise SignalError(f"cannot be written ({error.strerror or error})", path) from error


def _exported(mesh: Mesh, ending: str) -> bytes:
    """A .obj or .glb by trimesh."""
    import trimesh
    from trimesh.exchange import gltf, obj

    made = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, process=False)
    if ending == ".glb":
        return gltf.export_glb(made, include_normals=True, unitize_normals=False)
    # Decimals by the extent: the 8 of trimesh are too few where a mesh is small in its unit.
    digits = 9 - min(0, math.floor(math.log10(np.ptp(mesh.vertices, axis=0).max() or 1)))
    return obj.export_obj(made, include_normals=True, digits=digits, header=None).encode()


def _ply(mesh: Mesh) -> bytes:
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
    return ("\n".join(lines) + "\n").encode() + vertices.tobytes() + faces.tobytes()


MESHES = (".obj", ".ply", ".stl", ".off", ".glb")
"""Endings of mesh files; a .ply may also be points alone."""


def read_triangles(data: bytes, ending: str) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and faces of a mesh file, without faces that have no area or a vertex that is not finite.

    Args:
        data: What the file holds.
        ending: That of its name, one of `MESHES`.
    """
    with guarded("broken or truncated mesh"):
        if ending == ".ply":
            vertices, faces = ply_triangles(data)
        elif ending == ".off":
            vertices, faces = _off(data)
        else:
            vertices, faces = _by_trimesh(data, ending)
    if not len(faces):
        raise SignalError("expected a mesh, got no faces: points alone, or a broken or truncated mesh")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise SignalError(
            f"broken or truncated mesh: expected faces of {len(vertices)} vertices, from 0 on, got {faces.min()} to "
            f"{faces.max()}"
        )
    with np.errstate(all="ignore"):
        areas = np.linalg.norm(face_crosses(vertices, faces), axis=1)
    faces = faces[np.isfinite(areas) & (areas > 0)]
    if not len(faces):
        raise SignalError("expected a mesh with faces that have an area, got none")
    return vertices, faces


def _off(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """A text OFF: the word OFF, counts, a line for each vertex, a line for each face, polygons as fans of triangles.

    Not by trimesh, which cannot read polygons of more than four corners beside a NumPy of today (trimesh 5.2).
    """
    lines = [
        words for line in data.removeprefix(codecs.BOM_UTF8).splitlines() if (words := line.split(b"#")[0].split())
    ]
    kind, *counts = lines.pop(0) if lines else [b""]
    if kind not in (b"OFF", b"COFF", b"NOFF", b"CNOFF", b"STOFF") or b"BINARY" in counts:
        raise SignalError(f"expected a text file that begins with OFF, got {kind[:20].decode(errors='replace')!r}")
    vertices, faces = (int(word) for word in (counts or lines.pop(0))[:2])
    if len(lines) < vertices + faces:
        raise SignalError(
            f"truncated: expected {vertices} vertices and {faces} faces, a line each, got {len(lines)} lines"
        )
    corners = [[int(word) for word in words[1 : 1 + int(words[0])]] for words in lines[vertices : vertices + faces]]
    fans = [(row[0], *pair) for row in corners for pair in pairwise(row[1:])]
    points = np.array([words[:3] for words in lines[:vertices]], np.float64)
    return points.reshape(-1, 3), np.array(fans, np.int64).reshape(-1, 3)


def _by_trimesh(data: bytes, ending: str) -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    if ending == ".obj" or (ending == ".stl" and data.lstrip()[:5] == b"solid"):
        # Names and comments in an old encoding say nothing that is needed, and would need charset-normalizer.
        try:
            data.decode()
        except UnicodeDecodeError:
            if ending != ".stl" or b"facet" in data[:4096]:  # some binary files begin with "solid", too
                data = data.translate(bytes(range(128)) + b"?" * 128)
        data = data.removeprefix(codecs.BOM_UTF8)
    if ending == ".stl" and len(data) >= 84 and not data.isascii():
        count = int.from_bytes(data[80:84], "little")
        if len(data) < 84 + 50 * count:
            raise SignalError(
                f"broken or truncated mesh: expected {count} triangles of 50 bytes, got {len(data)} bytes"
            )
        data = b"\0" * 80 + data[80:]
    if ending == ".glb":
        _check_glb(data)
    if ending == ".obj":
        data = _absolute(data)
    with warnings.catch_warnings(), unlogged("trimesh"):
        warnings.simplefilter("ignore")
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type=ending, process=False)
    return np.asarray(mesh.vertices, np.float64).reshape(-1, 3), np.asarray(mesh.faces, np.int64).reshape(-1, 3)


def _absolute(data: bytes) -> bytes:
    """An OBJ whose faces count all vertices from 1 on; negative numbers count back from the last one before.

    trimesh counts back from the last one of the file, and takes 0 for it.
    """
    if re.search(rb"^f\b[^\n]*[ \t]0+(?:/|\s|$)", data, re.MULTILINE):
        raise SignalError("broken mesh: expected faces of vertices from 1 on, got a vertex 0")
    if not re.search(rb"^f\b[^\n]*[ \t/]-\d", data, re.MULTILINE):
        return data
    lines, counts = data.split(b"\n"), {b"v": 0, b"vt": 0, b"vn": 0}
    for i, line in enumerate(lines):
        kind, *words = line.split() or [b""]
        if kind in counts:
            counts[kind] += 1
        elif kind == b"f":
            corners = [[int(number) if number else None for number in word.split(b"/")] for word in words]
            rows = [
                [n if n is None or n > 0 else n + 1 + count for n, count in zip(corner, counts.values(), strict=False)]
                for corner in corners
            ]
            if any(n is not None and n < 1 for row in rows for n in row):
                raise SignalError(f"broken mesh: expected a face of vertices before it, got {line.decode()!r}")
            lines[i] = b"f " + b" ".join(b"/".join(b"" if n is None else b"%d" % n for n in row) for row in rows)
    return b"\n".join(lines)


def _check_glb(data: bytes) -> None:
    """The lengths that a GLB and its accessors claim, compared with what is there."""
    length = int.from_bytes(data[12:16], "little")
    header = json.loads(data[20 : 20 + length])
    for accessor in header.get("accessors", []):
        if not 0 <= int(accessor["count"]) <= len(data):
            raise SignalError(f"broken or truncated mesh: expected {accessor['count']} items in {len(data)} bytes")


def read_closed(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and faces of a closed mesh, its normals outwards.

    Raises:
        SignalError: If the file cannot be read, or the mesh is open.
    """
    vertices, faces = read_triangles(read_bytes(path), path.suffix.lower())
    # Some formats repeat a vertex for each face.
    vertices, names = np.unique(vertices, axis=0, return_inverse=True)
    faces = names.reshape(-1)[faces]
    if not is_watertight(Mesh(vertices, faces, vertices)):
        raise SignalError("expected a closed mesh, got one with open or inconsistent edges", path)
    volume = (vertices[faces[:, 0]] * face_crosses(vertices, faces)).sum()
    return vertices, faces if volume > 0 else faces[:, ::-1]
