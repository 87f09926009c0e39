"""Mesh files: triangles in, closed meshes in, PLY, OBJ and GLB out. Imports no torch.

trimesh reads STL and writes OBJ; the other formats have modules of their own, which say why. PLY is written here
because trimesh writes its vertices in single precision: at a northing of 4 000 km they move by up to 0.12 m.
"""

import codecs
import io
import math
import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.files.glb import glb_bytes, read_glb
from hypersiren.shapes.files.obj import read_obj
from hypersiren.shapes.files.off import read_off
from hypersiren.shapes.files.ply import ply_triangles
from hypersiren.shapes.files.tables import read_bytes
from hypersiren.shapes.mesh import Mesh, face_crosses, is_watertight, outward_faces
from hypersiren.signals.files import SignalError, atomic_write, guarded, unlogged


def write_mesh(path: str | os.PathLike[str], mesh: Mesh) -> None:
    """Write a mesh with its normals, in the format that the name's ending tells; complete or not at all.

    Args:
        path: A file .ply (binary, vertices in the mesh's precision), .obj (text, to 1e-9 of the unit or of the mesh's
            extent if that is less) or .glb (glTF 2, single precision
            around a node, which stands where the mesh is); its folder must exist. What was there is
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
            file.write({".ply": _ply, ".obj": _obj, ".glb": glb_bytes}[ending](mesh))
    except OSError as error:
        raise SignalError(f"cannot be written ({error.strerror or error})", path) from error


def _obj(mesh: Mesh) -> bytes:
    """A .obj by trimesh."""
    import trimesh
    from trimesh.exchange import obj

    colours = None if mesh.colours is None else mesh.levels()
    made = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=mesh.normals, vertex_colors=colours, process=False)
    # Decimals by the extent: the 8 of trimesh are too few where a mesh is small in its unit.
    digits = 9 - min(0, math.floor(math.log10(np.ptp(mesh.vertices, axis=0).max() or 1)))
    return obj.export_obj(made, include_normals=True, digits=digits, header=None).encode()


def _ply(mesh: Mesh) -> bytes:
    double = mesh.vertices.dtype == np.float64
    kinds: list[tuple] = [("position", "<f8" if double else "<f4", 3), ("normal", "<f4", 3)]
    vertices = np.empty(len(mesh.vertices), kinds if mesh.colours is None else [*kinds, ("colour", "u1", 3)])
    vertices["position"], vertices["normal"] = mesh.vertices, mesh.normals
    if mesh.colours is not None:
        vertices["colour"] = mesh.levels()
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {'double' if double else 'float'} {name}" for name in ("x", "y", "z")),
        *(f"property float {name}" for name in ("nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue") if mesh.colours is not None),
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
        read = {".ply": ply_triangles, ".off": read_off, ".obj": read_obj, ".glb": read_glb, ".stl": _stl}[ending]
        vertices, faces = read(data)
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


def _stl(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles of an STL, text or binary."""
    import trimesh

    if data.lstrip()[:5] == b"solid":
        # Names and comments in an old encoding say nothing that is needed, and trimesh would guess it.
        try:
            data.decode()
        except UnicodeDecodeError:
            if b"facet" in data[:4096]:  # some binary files begin with "solid", too
                data = data.translate(bytes(range(128)) + b"?" * 128)
        data = data.removeprefix(codecs.BOM_UTF8)
    if len(data) >= 84 and not data.isascii():
        count = int.from_bytes(data[80:84], "little")
        if len(data) < 84 + 50 * count:
            raise SignalError(
                f"broken or truncated mesh: expected {count} triangles of 50 bytes, got {len(data)} bytes"
            )
        data = b"\0" * 80 + data[80:]
    with warnings.catch_warnings(), unlogged("trimesh"):
        warnings.simplefilter("ignore")
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type=".stl", process=False)
    return np.asarray(mesh.vertices, np.float64).reshape(-1, 3), np.asarray(mesh.faces, np.int64).reshape(-1, 3)


def read_closed(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and faces of a closed mesh, turned outwards, see `hypersiren.shapes.mesh.outward_faces`.

    Raises:
        SignalError: If the file cannot be read, or the mesh is open.
    """
    vertices, faces = read_triangles(read_bytes(path), path.suffix.lower())
    faces, _ = outward_faces(vertices, faces)
    # Some formats repeat a vertex for each face.
    vertices, names = np.unique(vertices, axis=0, return_inverse=True)
    faces = names.reshape(-1)[faces]
    if not is_watertight(Mesh(vertices, faces, vertices)):
        raise SignalError("expected a closed mesh, got one with open or inconsistent edges", path)
    return vertices, faces
