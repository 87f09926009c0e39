"""OFF (Geomview): counts, vertices, faces as polygons; as text, or as big-endian numbers of four bytes.

ModelNet's files have the counts on the line of the word OFF, some of them without a blank between.

Why not trimesh: it cannot read polygons of more than four corners beside a NumPy of today, nor binary files
(trimesh 5.2).

Symbols: V vertices, F faces.
"""

import codecs
import re

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.files.polygons import triangulate
from hypersiren.signals.files import SignalError

_HEAD = re.compile(rb"(?:[ \t]*(?:#[^\n]*)?\r?\n)*[ \t]*(ST)?(C)?(N)?(4)?(n)?OFF(?=[\s\d#]|$)[ \t]*(BINARY\b[^\n]*\n)?")


def read_off(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and triangles of an OFF, text or binary.

    Raises:
        SignalError: If it is none, is truncated, or has other than three coordinates.

    Example:
        >>> read_off(b"OFF3 1 0\\n0 0 0\\n1 0 0\\n0 1 0\\n3 0 1 2\\n")[1].tolist()
        [[0, 1, 2]]
    """
    data = data.removeprefix(codecs.BOM_UTF8)
    head = _HEAD.match(data)
    if head is None:
        first = (data.split(None, 1) or [b""])[0][:20].decode(errors="replace")
        raise SignalError(f"expected a file that begins with OFF, got {first!r}")
    textured, coloured, normals, four, many = (bool(part) for part in head.groups()[:5])
    if four or many:
        raise SignalError("expected an OFF of three coordinates, got one of another number (4OFF, nOFF)")
    if head[6]:
        return _binary(data[head.end() :], 3 + 3 * normals + 4 * coloured + 2 * textured)
    lines = [words for line in data[head.end() :].splitlines() if (words := line.split(b"#")[0].split())]
    vertices, faces = (int(word) for word in (lines.pop(0) if lines else [])[:2])
    _check(vertices, faces, len(data))
    if len(lines) < vertices + faces:
        raise SignalError(
            f"truncated: expected {vertices} vertices and {faces} faces, a line each, got {len(lines)} lines"
        )
    polygons = [words[1 : 1 + max(0, int(words[0]))] for words in lines[vertices : vertices + faces]]
    if any(len(words) != int(row[0]) for words, row in zip(polygons, lines[vertices:], strict=False)):
        raise SignalError("broken or truncated mesh: expected as many corners of each face as it says")
    points = np.array([words[:3] for words in lines[:vertices]], np.float64).reshape(-1, 3)
    counts = np.array([len(words) for words in polygons], np.int64)
    corners = np.array([word for words in polygons for word in words], np.int64)
    return points, triangulate(points, corners, counts)


def _check(vertices: int, faces: int, size: int) -> None:
    if not (0 <= vertices <= size and 0 <= faces <= size):
        raise SignalError(f"broken or truncated mesh: {vertices} vertices and {faces} faces in {size} bytes")


def _binary(data: bytes, columns: int) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """What follows the line OFF BINARY, `columns` numbers for each vertex."""
    whole = np.frombuffer(data, ">i4", len(data) // 4)
    if len(whole) < 3:
        raise SignalError("truncated: expected the counts of vertices and faces")
    vertices, faces = whole[:2].tolist()
    _check(vertices, faces, len(data))
    if len(whole) < 3 + columns * vertices:
        raise SignalError(f"truncated: expected {vertices} vertices, got {(len(whole) - 3) // columns}")
    points = whole[3 : 3 + columns * vertices].view(">f4").reshape(-1, columns)[:, :3].astype(np.float64)
    rest = whole[3 + columns * vertices :]
    if len(rest) >= 5 * faces and (rows := rest[: 5 * faces].reshape(-1, 5)).size and (rows[:, [0, 4]] == [3, 0]).all():
        polygons, counts = rows[:, 1:4].ravel(), np.full(faces, 3, np.int64)
    else:
        # Each face has a count, its corners, a count of numbers of its colour, and these.
        place, starts, lengths = 0, [], []
        for i in range(faces):
            length = int(rest[place]) if place < len(rest) else -1
            colour = int(rest[place + 1 + length]) if 0 <= length < len(rest) - place - 1 else -1
            if colour < 0 or place + 2 + length + colour > len(rest):
                raise SignalError(f"truncated: expected {faces} faces, got {i}")
            starts.append(place + 1)
            lengths.append(length)
            place += 2 + length + colour
        parts = [rest[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        polygons = np.concatenate(parts) if parts else np.empty(0, np.int64)
        counts = np.array(lengths, np.int64)
    return points, triangulate(points, polygons.astype(np.int64), counts)
