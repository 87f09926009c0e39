"""OBJ (Wavefront): lines v of vertices and f of faces, which count vertices from 1 on, or back from the last one.

Names, materials, normals, texture places, lines and curves are passed over; polygons become triangles.

Why not trimesh: its polygons that are not convex become fans, with triangles outside of them; and it counts back from
the last vertex of the file (trimesh 5.2).

Symbols: V vertices, F faces.
"""

import codecs
import re

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.files.polygons import triangulate
from hypersiren.signals.files import SignalError


def read_obj(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and triangles of an OBJ.

    Raises:
        SignalError: If a face has a vertex 0, or one that is not there.

    Example:
        >>> read_obj(b"v 0 0 0\\nv 1 0 0\\nv 0 1 0\\nf 1//1 2//1 -1//1\\n")[1].tolist()
        [[0, 1, 2]]
    """
    data = data.removeprefix(codecs.BOM_UTF8).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    rows: list[list[bytes]] = []
    faces: list[bytes] = []
    before: list[int] = []  # vertices before each face
    for line in data.splitlines():
        words = line.split(None, 1)
        if len(words) < 2:
            continue
        if words[0] == b"v":
            rows.append(words[1].split(None, 3)[:3])
        elif words[0] in (b"f", b"fo"):
            faces.append(words[1].partition(b"#")[0])
            before.append(len(rows))
    vertices = np.array(rows, np.float64).reshape(-1, 3)
    text = re.sub(rb"/\S*", b"", b"\n".join(faces))
    counts = np.array([len(face.split()) for face in text.split(b"\n")] if faces else [], np.int64)
    corners = np.array(text.split(), np.int64)
    if (corners == 0).any():
        raise SignalError("broken mesh: expected faces of vertices from 1 on, got a vertex 0")
    owner = np.arange(len(counts)).repeat(counts)
    back = corners < 0
    corners = np.where(back, corners + np.array(before, np.int64)[owner], corners - 1)
    if (bad := np.flatnonzero(back & (corners < 0))).size:
        line = b"f " + faces[owner[bad[0]]]
        raise SignalError(f"broken mesh: expected a face of vertices before it, got {line.decode(errors='replace')!r}")
    return vertices, triangulate(vertices, corners, counts)
