"""GLB: binary glTF 2.0 (Khronos Group, ISO/IEC 12113): a JSON chunk that describes, a chunk of bytes that it speaks of.

Read are the triangles of every node of the scene, in the coordinates of the scene and in double precision: indexed or
not, as triangles, strips or fans, with integer positions, normalized or scaled by their node, and sparse accessors.

Why not trimesh: it takes normalized positions for whole numbers, passes over sparse values, and moves vertices in the
precision of the file; and it writes positions in single precision where they stand, which moves a northing of
4,100,000 m by up to 0.25 m (trimesh 5.2). Here they stand around a node, whose translation has double precision.

Symbols: V vertices, F faces, N rows of an accessor, C numbers of a row.
"""

import base64
import json
import struct
import urllib.parse
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hypersiren.shapes.mesh import Mesh
from hypersiren.signals.files import SignalError, check_size

_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}

_SIZES = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}

_PACKED = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
}

_UNDERSTOOD = {"KHR_mesh_quantization", "KHR_texture_transform"}
"""Extensions that a file may require: the others might change where its triangles are."""

_HARMLESS = ("KHR_materials_", "EXT_texture_", "KHR_texture_", "MSFT_texture_", "KHR_lights_", "KHR_animation_")
"""Beginnings of names of extensions that change colours and movements only."""

_DEEPEST = 100


def read_glb(data: bytes) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and triangles of a GLB file.

    Raises:
        SignalError: If it is broken, has another version, or requires an extension that is not understood.
    """
    tree, buffers = _chunks(data)
    _check_extensions(tree)
    reader = _Accessors(tree, buffers)
    meshes, vertices, faces, start = tree.get("meshes", []), [], [], 0
    for index, matrix in _placed(tree):
        for primitive in meshes[index]["primitives"]:
            if (mode := primitive.get("mode", 4)) not in (4, 5, 6):
                continue  # points and lines
            positions = reader.rows(primitive["attributes"]["POSITION"])
            if positions.shape[1] != 3:
                raise SignalError(f"broken mesh: expected positions of 3 numbers, got {positions.shape[1]}")
            indices = primitive.get("indices")
            order = np.arange(len(positions)) if indices is None else reader.rows(indices)[:, 0].astype(np.int64)
            found = _triangles(order, mode)
            if np.linalg.det(matrix[:3, :3]) < 0:
                found = found[:, ::-1]  # mirrored, and so are its sides
            if len(found) and not 0 <= found.min() <= found.max() < len(positions):
                raise SignalError(
                    f"broken mesh: expected faces of {len(positions)} vertices, from 0 on, got {found.min()} to "
                    f"{found.max()}"
                )
            vertices.append(positions @ matrix[:3, :3].T + matrix[:3, 3])
            faces.append(found + start)
            start += len(positions)
            check_size(24.0 * (start + sum(map(len, faces))))
    if not faces:
        raise SignalError("expected a GLB whose scene has a mesh of triangles, got none")
    return np.concatenate(vertices), np.concatenate(faces)


def _chunks(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The description, and the buffers that it speaks of."""
    if data[:4] != b"glTF" or len(data) < 20:
        raise SignalError("expected a GLB file, which begins with glTF")
    version, length, size = struct.unpack_from("<III", data, 4)
    if version != 2:
        raise SignalError(f"expected glTF of version 2, got {version}")
    if len(data) < length or len(data) < 20 + size:
        raise SignalError(f"broken or truncated mesh: expected {max(length, 20 + size)} bytes, got {len(data)}")
    tree = json.loads(data[20 : 20 + size])
    start, inside = 20 + size, b""
    if len(data) >= start + 8:
        (size,) = struct.unpack_from("<I", data, start)
        inside = data[start + 8 : start + 8 + size]
    buffers = []
    for i, buffer in enumerate(tree.get("buffers", [])):
        address = buffer.get("uri")
        if address is None:
            buffers.append(inside if i == 0 else b"")
        elif address.startswith("data:"):
            _, _, text = address.partition(",")
            encoded = address.partition(",")[0].endswith(";base64")
            buffers.append(base64.b64decode(text) if encoded else urllib.parse.unquote_to_bytes(text))
        else:
            raise SignalError(f"its numbers lie in another file, {address[:100]!r}: write one .glb with all in it")
    return tree, buffers


def _check_extensions(tree: dict[str, Any]) -> None:
    for name in tree.get("extensionsRequired", []):
        if kind := _PACKED.get(name):
            raise SignalError(
                f"a GLB compressed by {kind} ({name}), which is not read here: write it without, such as "
                "gltf-transform copy in.glb out.glb does"
            )
        if name not in _UNDERSTOOD and not name.startswith(_HARMLESS):
            raise SignalError(f"requires the extension {name}, which is not understood here: write it without")


class _Accessors:
    """The arrays of a glTF."""

    def __init__(self, tree: dict[str, Any], buffers: list[bytes]):
        self.tree, self.buffers = tree, buffers

    def rows(self, index: int) -> Float[np.ndarray, "N C"]:
        """An accessor in double precision; normalized integers are divided, sparse values are put in."""
        accessor = self.tree["accessors"][_checked(index)]
        kind, count = _TYPES[accessor["componentType"]], int(accessor["count"])
        columns = _SIZES[accessor["type"]]
        if count < 1:
            raise SignalError(f"broken mesh: expected an accessor of 1 item or more, got {count}")
        check_size(8.0 * count * columns)
        if "bufferView" in accessor:
            found = self._view(accessor["bufferView"], accessor.get("byteOffset", 0), kind, count, columns)
        else:
            found = np.zeros((count, columns), kind)
        if sparse := accessor.get("sparse"):
            place, values, changed = sparse["indices"], sparse["values"], int(sparse["count"])
            which = _TYPES[place["componentType"]]
            rows = self._view(place["bufferView"], place.get("byteOffset", 0), which, changed, 1)[:, 0].astype(np.int64)
            if len(rows) and rows.max() >= count:
                raise SignalError(f"broken mesh: expected sparse rows below {count}, got {rows.max()}")
            found = found.copy()
            found[rows] = self._view(values["bufferView"], values.get("byteOffset", 0), kind, changed, columns)
        wide = found.astype(np.float64)
        if accessor.get("normalized") and (whole := np.dtype(kind)).kind in "iu":
            wide = np.maximum(wide / np.iinfo(whole).max, -1.0)
        return wide

    def _view(self, index: int, offset: int, kind: str, count: int, columns: int) -> np.ndarray:
        view = self.tree["bufferViews"][_checked(index)]
        if packed := _PACKED.keys() & view.get("extensions", {}).keys():
            raise SignalError(f"a GLB compressed by {_PACKED[packed.pop()]}, which is not read here: write it without")
        data = self.buffers[_checked(view["buffer"])]
        start, width = view.get("byteOffset", 0) + offset, columns * np.dtype(kind).itemsize
        stride = view.get("byteStride") or width
        end = start + (count - 1) * stride + width if count else start
        if min(start, count, offset) < 0 or stride < width or end > len(data):
            raise SignalError(f"broken or truncated mesh: expected {count} items in {len(data)} bytes")
        return np.ndarray((count, columns), kind, data, start, (stride, np.dtype(kind).itemsize))


def _checked(index: int) -> int:
    if not isinstance(index, int) or index < 0:
        raise SignalError(f"broken mesh: expected an index of 0 or more, got {index!r}")
    return index


def _placed(tree: dict[str, Any]) -> Iterator[tuple[int, Float[np.ndarray, "4 4"]]]:
    """The number of the mesh, and the matrix, of each node of the scene with a mesh; of all nodes without a scene."""
    nodes, scenes = tree.get("nodes", []), tree.get("scenes", [])
    if scenes:
        roots = scenes[_checked(tree.get("scene", 0))].get("nodes", [])
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    waiting, left = [(i, np.eye(4), 0) for i in roots], 100_000
    while waiting:
        index, above, depth = waiting.pop(0)
        if (left := left - 1) < 0 or depth > _DEEPEST:
            raise SignalError("broken mesh: expected a tree of nodes, got a circle, or more than 100,000 nodes")
        node = nodes[_checked(index)]
        matrix = above @ _matrix(node)
        if "EXT_mesh_gpu_instancing" in node.get("extensions", {}):
            raise SignalError("repeats a mesh by EXT_mesh_gpu_instancing, which is not read here: write it without")
        if "mesh" in node:
            yield _checked(node["mesh"]), matrix
        waiting += [(child, matrix, depth + 1) for child in node.get("children", [])]


def _matrix(node: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    """The matrix of a node: its own, or translation times rotation times scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = (float(number) for number in node.get("rotation", (0, 0, 0, 1)))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = np.array(node.get("translation", (0, 0, 0)), np.float64)
    return matrix


def _triangles(order: Int[np.ndarray, " N"], mode: int) -> Int[np.ndarray, "F 3"]:
    """Triangles of vertices in this order: one by one (4), as a strip (5) or as a fan (6)."""
    if mode == 4:
        return order[: len(order) // 3 * 3].reshape(-1, 3)
    if len(order) < 3:
        return np.empty((0, 3), np.int64)
    if mode == 6:
        return np.stack([order[1:-1], order[2:], np.full(len(order) - 2, order[0])], 1)
    strip = np.stack([order[:-2], order[1:-1], order[2:]], 1)
    strip[1::2] = strip[1::2][:, [0, 2, 1]]  # every other triangle runs the other way
    return strip


def glb_bytes(mesh: Mesh) -> bytes:
    """A mesh as GLB: single precision around a node, which stands where the mesh is in double precision."""
    low, high = mesh.vertices.min(0).astype(np.float64), mesh.vertices.max(0).astype(np.float64)
    middle = (low + high) / 2
    # Only where it is worth it: most programs show coordinates without the node's.
    centre = np.where(np.abs(middle) > 4 * (high - low).max(), middle, 0.0)
    arrays = [(mesh.vertices - centre).astype("<f4"), mesh.normals.astype("<f4")]
    names = ["POSITION", "NORMAL"]
    if mesh.colours is not None:
        levels = mesh.levels()
        arrays.append(np.concatenate([levels, np.full((len(levels), 1), 255, "u1")], 1))
        names.append("COLOR_0")
    arrays.append(mesh.faces.astype("<u4").reshape(-1, 1))
    body, views, accessors = b"", [], []
    for i, array in enumerate(arrays):
        raw = array.tobytes()
        last = i == len(arrays) - 1
        views.append({"buffer": 0, "byteOffset": len(body), "byteLength": len(raw), "target": 34963 if last else 34962})
        kind = {"f": 5126, "u": 5125 if last else 5121}[array.dtype.kind]
        shape = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[array.shape[1]]
        accessors.append(
            {"bufferView": i, "byteOffset": 0, "componentType": kind, "count": len(array), "type": shape}
            | ({"normalized": True} if kind == 5121 else {})
        )
        body += raw + bytes(-len(raw) % 4)
    accessors[0] |= {"min": arrays[0].min(0).tolist(), "max": arrays[0].max(0).tolist()}
    node: dict[str, Any] = {"mesh": 0}
    if centre.any():
        node["translation"] = centre.tolist()
    attributes = {name: i for i, name in enumerate(names)}
    tree = {
        "asset": {"version": "2.0", "generator": "hypersiren"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": len(arrays) - 1, "mode": 4}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(body)}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(body)
    head = b"glTF" + struct.pack("<IIII", 2, length, len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(body), 0x004E4942) + body
