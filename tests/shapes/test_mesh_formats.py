"""Meshes as the formats allow them: concave polygons, normalized and sparse GLB, its nodes, binary OFF, both sides."""

import base64
import json
import struct

import numpy as np
import pytest
import trimesh

from hypersiren.shapes.files.mesh import read_triangles, write_mesh
from hypersiren.shapes.files.polygons import MOST, triangulate
from hypersiren.shapes.mesh import Mesh, face_crosses, is_watertight
from hypersiren.signals.files import SignalError


def signed_area(vertices: np.ndarray, faces: np.ndarray) -> tuple[float, float]:
    """The area along z, and the area without a sign: equal where no triangle is turned over."""
    crosses = face_crosses(vertices, faces) / 2
    return float(crosses[:, 2].sum()), float(np.linalg.norm(crosses, axis=1).sum())


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    return float((vertices[faces[:, 0]] * face_crosses(vertices, faces)).sum() / 6)


# Polygons

LETTER = np.array([[0, 0], [4, 0], [4, 1], [1, 1], [1, 3], [4, 3], [4, 4], [0, 4.0]])  # a C, of area 10
SOLID = np.vstack([np.hstack([LETTER, np.full((8, 1), z)]) for z in (0, 2)])
SIDES = [[7, 6, 5, 4, 3, 2, 1, 0], [*range(8, 16)], *([i, (i + 1) % 8, 8 + (i + 1) % 8, 8 + i] for i in range(8))]


def as_obj(vertices, polygons) -> bytes:
    rows = ["v " + " ".join(map(str, row)) for row in vertices.tolist()]
    return "\n".join(rows + ["f " + " ".join(f"{i + 1}//1" for i in face) for face in polygons]).encode()


def as_off(vertices, polygons) -> bytes:
    rows = [" ".join(map(str, row)) for row in vertices.tolist()] + [
        " ".join(map(str, [len(face), *face])) for face in polygons
    ]
    return f"OFF\n{len(vertices)} {len(polygons)} 0\n".encode() + "\n".join(rows).encode()


def as_binary_off(vertices, polygons) -> bytes:
    body = struct.pack(">3i", len(vertices), len(polygons), 0) + vertices.astype(">f4").tobytes()
    for i, face in enumerate(polygons):
        colour = [0.5] * (i % 2 * 3)
        body += struct.pack(f">{len(face) + 2}i{len(colour)}f", len(face), *face, len(colour), *colour)
    return b"OFF BINARY\n" + body


def as_ply(vertices, polygons) -> bytes:
    head = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty float x\nproperty float y\n"
    head += f"property float z\nelement face {len(polygons)}\nproperty list uchar int vertex_indices\nend_header\n"
    return head.encode() + as_off(vertices, polygons).partition(b" 0\n")[2] + b"\n"


def as_binary_ply(vertices, polygons) -> bytes:
    head = as_ply(vertices, polygons).partition(b"end_header\n")[0].replace(b"ascii", b"binary_little_endian")
    body = b"".join(struct.pack(f"<B{len(face)}i", len(face), *face) for face in polygons)
    return head + b"end_header\n" + vertices.astype("<f4").tobytes() + body


FORMATS = {
    ".obj": as_obj,
    ".off": as_off,
    "binary.off": as_binary_off,
    ".ply": as_ply,
    "binary.ply": as_binary_ply,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shift", [0, 3, 5])
def test_a_solid_with_concave_polygons_has_its_volume_and_is_closed(name, shift):
    polygons = [face[shift:] + face[:shift] if len(face) == 8 else face for face in SIDES]
    vertices, faces = read_triangles(FORMATS[name](SOLID, polygons), name[name.index(".") :])
    assert len(faces) == 2 * 6 + 8 * 2
    assert volume(vertices, faces) == pytest.approx(20)
    assert is_watertight(Mesh(vertices, faces, vertices))
    area = np.linalg.norm(face_crosses(vertices, faces), axis=1).sum() / 2
    assert area == pytest.approx(2 * 10 + 2 * 22)


@pytest.mark.parametrize("seed", range(6))
def test_ears_cover_a_polygon_once(seed):
    generator = np.random.default_rng(seed)
    angle = np.sort(generator.uniform(0, 2 * np.pi, 40))
    star = generator.uniform(0.2, 1, 40)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    turn = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    points = np.hstack([star, np.zeros((40, 1))]) @ turn.T + 5
    faces = triangulate(points, np.arange(40), np.array([40]))
    x, y = star.T
    true = float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)
    assert signed_area((points - 5) @ turn, faces) == pytest.approx((true, true))
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    counts = np.unique(edges, axis=0, return_counts=True)[1]
    assert sorted(counts) == [1] * 40 + [2] * 37  # the rim once, each cut twice


def test_corners_on_a_straight_side_stay_on_the_rim():
    points = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0], [0, 2, 0.0]])
    for shift in range(6):
        faces = triangulate(points, np.roll(np.arange(6), shift), np.array([6]))
        assert signed_area(points, faces) == pytest.approx((4, 4))
        assert (np.linalg.norm(face_crosses(points, faces), axis=1) > 0.1).all()


def test_a_polygon_that_runs_into_a_hole_and_back():
    outer = np.array([[0, 0], [4, 0], [4, 4], [0, 4.0]])
    hole = np.array([[1, 1], [1, 3], [3, 3], [3, 1.0]])
    points = np.vstack([outer, hole]) @ np.eye(2, 3)
    faces = triangulate(points, np.array([0, 1, 2, 3, 0, 4, 5, 6, 7, 4]), np.array([10]))
    assert signed_area(points, faces) == pytest.approx((12, 12))


def test_polygons_without_an_area_and_too_large_ones():
    points = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0.0]])
    assert len(triangulate(points, np.arange(4), np.array([4]))) == 2
    assert len(triangulate(points, np.array([0, 1, 2]), np.array([2, 1]))) == 0
    assert triangulate(points, np.array([], int), np.array([], int)).shape == (0, 3)
    many = MOST + 2
    angle = np.linspace(0, 2 * np.pi, many, endpoint=False)
    star = np.where(np.arange(many) % 2, 1, 0.5)[:, None] * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)
    with pytest.raises(SignalError, match=f"a polygon of {many} corners that is not convex"):
        triangulate(star, np.arange(many), np.array([many]))


# OFF


def test_a_model_of_modelnet_whose_counts_follow_without_a_blank():
    text = as_off(SOLID, SIDES).replace(b"OFF\n", b"OFF", 1)
    vertices, faces = read_triangles(text, ".off")
    assert volume(vertices, faces) == pytest.approx(20)
    with pytest.raises(SignalError, match="three coordinates"):
        read_triangles(text.replace(b"OFF", b"4OFF", 1), ".off")
    with pytest.raises(SignalError, match="truncated: expected 10 faces, got 9"):
        read_triangles(as_binary_off(SOLID, SIDES)[:-8], ".off")


# GLB


def glb(tree: dict, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    tree = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": len(body)}], **tree}
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    head = b"glTF" + struct.pack("<IIII", 2, 28 + len(text) + len(body), len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(body), 0x004E4942) + body


BALL = trimesh.creation.icosphere(2)


def ball_glb(kind: str, *, node: dict | None = None, normalized: bool = False, indexed: bool = True, **tree) -> bytes:
    """The ball with positions of a type; whole numbers are stretched to its range."""
    code = {"f4": 5126, "i2": 5122, "i1": 5120, "u2": 5123, "u1": 5121}[kind]
    positions = BALL.vertices if kind == "f4" else BALL.vertices * np.iinfo(kind).max
    if kind[0] == "u":
        positions = (BALL.vertices + 1) / 2 * np.iinfo(kind).max
    if not indexed:
        positions = positions[BALL.faces.ravel()]
    rows = np.zeros((len(positions), 4), "<" + kind)  # rows of whole numbers stand on multiples of 4 bytes
    rows[:, :3] = positions if kind == "f4" else np.round(positions)
    faces = BALL.faces.astype("<u2").tobytes()
    accessors = [
        {"bufferView": 0, "componentType": code, "count": len(rows), "type": "VEC3", "normalized": normalized},
        {"bufferView": 1, "componentType": 5123, "count": BALL.faces.size, "type": "SCALAR"},
    ]
    primitive = {"attributes": {"POSITION": 0}} | ({"indices": 1} if indexed else {})
    description = {
        "nodes": [{"mesh": 0, **(node or {})}],
        "scenes": [{"nodes": [0]}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteLength": rows.nbytes, "byteStride": 4 * rows.itemsize},
            {"buffer": 0, "byteOffset": rows.nbytes, "byteLength": len(faces)},
        ],
    }
    return glb(description | tree, rows.tobytes() + faces)


@pytest.mark.parametrize(("kind", "atol"), [("f4", 1e-6), ("i2", 4e-5), ("i1", 8e-3), ("u2", 4e-5), ("u1", 8e-3)])
@pytest.mark.parametrize("indexed", [True, False])
def test_normalized_positions_are_divided(kind, atol, indexed):
    node = {"scale": [4, 4, 4], "translation": [10, -2, -2]} if kind[0] == "u" else {}
    data = ball_glb(kind, node=node, normalized=kind != "f4", indexed=indexed)
    vertices, faces = read_triangles(data, ".glb")
    expected = (BALL.vertices + 1) / 2 * 4 + [10, -2, -2] if kind[0] == "u" else BALL.vertices
    np.testing.assert_allclose(vertices[faces].reshape(-1, 3), expected[BALL.faces.ravel()], atol=4 * atol)


def test_whole_positions_that_are_not_normalized_are_scaled_by_their_node():
    data = ball_glb("i2", node={"scale": [1 / 32767] * 3}, extensionsRequired=["KHR_mesh_quantization"])
    np.testing.assert_allclose(read_triangles(data, ".glb")[0], BALL.vertices, atol=4e-5)


NODES = [
    {"children": [1], "translation": [500_000.5, 4_100_000.25, 0]},
    {"mesh": 0, "rotation": [0, 0, 2**-0.5, 2**-0.5], "scale": [-1, 1, 2], "children": [2]},
    {"mesh": 0, "matrix": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]},
    {"mesh": 0, "translation": [99, 99, 99]},  # of no scene
]


def test_nodes_above_nodes_place_turn_and_mirror():
    vertices, faces = read_triangles(ball_glb("f4", nodes=NODES), ".glb")
    x, y, z = BALL.vertices.astype(np.float32).T.astype(float)
    first = np.stack([500_000.5 - y, 4_100_000.25 - x, 2 * z], 1)
    expected = np.vstack([first, first - np.array([0, 5, 0])])
    np.testing.assert_allclose(vertices, expected, rtol=0, atol=1e-9)
    assert len(faces) == 2 * len(BALL.faces)
    for part in np.split(faces, 2):
        assert volume(vertices - expected.mean(0), part) == pytest.approx(2 * BALL.volume)


MOVED = BALL.vertices * np.where(np.isin(np.arange(len(BALL.vertices)), [3, 7])[:, None], 3, 1)


def sparse_glb(base: bool = True) -> bytes:
    """The ball with two vertices moved by sparse values; without a base all others are zeros, and there is one face."""
    data = ball_glb("f4")
    size = int.from_bytes(data[12:16], "little")
    tree, body = json.loads(data[20 : 20 + size]), data[28 + size :]
    start = len(body)
    tree["bufferViews"] += [
        {"buffer": 0, "byteOffset": start, "byteLength": 24},
        {"buffer": 0, "byteOffset": start + 24, "byteLength": 4},
    ]
    accessor = tree["accessors"][0]
    accessor["sparse"] = {"count": 2, "indices": {"bufferView": 3, "componentType": 5123}, "values": {"bufferView": 2}}
    del tree["buffers"], tree["asset"]
    if not base:
        del accessor["bufferView"]
        tree["accessors"][1]["count"] = 3
        body = body.replace(BALL.faces.astype("<u2").tobytes()[:6], np.array([3, 7, 0], "<u2").tobytes(), 1)
    return glb(tree, body + MOVED[[3, 7]].astype("<f4").tobytes() + np.array([3, 7], "<u2").tobytes())


def test_sparse_values_are_put_in():
    np.testing.assert_allclose(read_triangles(sparse_glb(), ".glb")[0], MOVED, atol=1e-6)
    alone = np.where(np.isin(np.arange(len(MOVED)), [3, 7])[:, None], MOVED, 0)
    np.testing.assert_allclose(read_triangles(sparse_glb(False), ".glb")[0], alone, atol=1e-6)


def test_strips_and_fans_and_what_has_no_triangles():
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0.0]])
    for mode, order, area in ((5, [0, 1, 2, 3], 1), (6, [0, 1, 3, 2], 1), (4, [0, 1, 2, 3], 0.5)):
        tree = {
            "nodes": [{"mesh": 0}],
            "meshes": [
                {
                    "primitives": [
                        {"attributes": {"POSITION": 0}, "mode": mode},
                        {"attributes": {"POSITION": 0}, "mode": 1},
                    ]
                }
            ],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}],
            "bufferViews": [{"buffer": 0, "byteLength": 48}],
        }
        vertices, faces = read_triangles(glb(tree, square[order].astype("<f4").tobytes()), ".glb")
        assert signed_area(vertices, faces) == pytest.approx((area, area))
    tree["meshes"][0]["primitives"][0]["mode"] = 0
    with pytest.raises(SignalError, match="a GLB whose scene has a mesh of triangles, got none"):
        read_triangles(glb(tree, square.astype("<f4").tobytes()), ".glb")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "compressed by Draco .* write it without"),
        ({"extensionsRequired": ["EXT_meshopt_compression"]}, "compressed by meshopt .* write it without"),
        ({"extensionsRequired": ["XX_odd"]}, "requires the extension XX_odd, which is not understood"),
        ({"nodes": [{"mesh": 0, "extensions": {"EXT_mesh_gpu_instancing": {}}}]}, "repeats a mesh by EXT_mesh_gpu"),
        ({"buffers": [{"byteLength": 9, "uri": "a.bin"}]}, "its numbers lie in another file, 'a.bin'"),
        ({"nodes": [{"children": [0]}]}, "a tree of nodes, got a circle"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(tree, message):
    with pytest.raises(SignalError, match=message):
        read_triangles(ball_glb("f4", **tree), ".glb")


def test_extensions_of_colours_do_not_matter_and_buffers_may_be_text():
    assert len(read_triangles(ball_glb("f4", extensionsRequired=["KHR_materials_unlit"]), ".glb")[1]) == 320
    data = ball_glb("f4")
    size = int.from_bytes(data[12:16], "little")
    body = data[28 + size :]
    address = "data:application/octet-stream;base64," + base64.b64encode(body).decode()
    data = ball_glb("f4", buffers=[{"byteLength": len(body), "uri": address}])
    np.testing.assert_allclose(read_triangles(data, ".glb")[0], BALL.vertices, atol=1e-6)


def test_a_glb_far_from_its_origin_keeps_its_vertices(tmp_path):
    ball = BALL.vertices.astype(np.float32)
    centre = np.array([500_000.0, 4_100_000.0, 80.0])
    for middle in (centre, np.zeros(3)):
        mesh = Mesh(ball, BALL.faces.astype(np.int32), ball).moved(1.0, middle)
        write_mesh(tmp_path / "a.glb", mesh)
        vertices, faces = read_triangles((tmp_path / "a.glb").read_bytes(), ".glb")
        np.testing.assert_allclose(vertices, mesh.vertices, rtol=0, atol=1e-7)
        np.testing.assert_array_equal(faces, mesh.faces)
        data = (tmp_path / "a.glb").read_bytes()
        assert (b'"translation"' in data) == bool(middle.any())
    write_mesh(tmp_path / "a.glb", mesh)
    scene = trimesh.load_scene(tmp_path / "a.glb")
    np.testing.assert_allclose(scene.bounds, mesh.vertices.min(0) * [[1] * 3, [-1] * 3], atol=1e-6)
