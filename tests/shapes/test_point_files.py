"""Files of points: every format against one truth, and every way that they can be wrong."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.shapes.cloud import read_points
from hypersiren.shapes.files.pcd import lzf_decompress
from hypersiren.shapes.files.ply import ply_faces
from hypersiren.shapes.files.points import read_raw_points
from hypersiren.signals.files import SignalError

POINTS = np.random.default_rng(0).normal(size=(40, 3))
NORMALS = np.random.default_rng(1).normal(size=(40, 3))
NORMALS /= np.linalg.norm(NORMALS, axis=1, keepdims=True)


def ply(encoding: str, *, faces: str = "", kind: str = "double") -> bytes:
    """Points with normals, colours between them, and perhaps faces "before" or "after" them."""
    order = ">" if "big" in encoding else "<"
    number = f"{order}f{8 if kind == 'double' else 4}"
    colour = np.arange(40) % 7
    if encoding == "ascii":
        vertices = "".join(
            f"{' '.join(map(repr, p.tolist()))} {c} {' '.join(map(repr, n.tolist()))}\n"
            for p, c, n in zip(POINTS, colour, NORMALS, strict=True)
        ).encode()
        triangles = b"3 0 1 2 0.5\n4 0 1 2 3 0.25\n"
    else:
        table = np.empty(40, [("p", number, 3), ("c", f"{order}u2"), ("n", number, 3)])
        table["p"], table["c"], table["n"] = POINTS, colour, NORMALS
        vertices = table.tobytes()
        triangles = struct.pack(f"{order}B3if", 3, 0, 1, 2, 0.5) + struct.pack(f"{order}B4if", 4, 0, 1, 2, 3, 0.25)
    of_faces = "element face 2\nproperty list uchar int vertex_indices\nproperty float quality\n" if faces else ""
    names = [f"property {kind} {n}\n" for n in ("x", "y", "z", "nx", "ny", "nz")]
    of_vertices = "element vertex 40\n" + "".join(names[:3]) + "property ushort red\n" + "".join(names[3:])
    parts = [(of_faces, triangles if faces else b""), (of_vertices, vertices)]
    if faces != "before":
        parts.reverse()
    header = f"ply\nformat {encoding} 1.0\ncomment by hand\n" + "".join(p[0] for p in parts) + "end_header\n"
    return header.encode() + b"".join(p[1] for p in parts)


def lzf_compress(data: bytes) -> bytes:
    """A simple compressor: the longest match among the last positions of the same three bytes."""
    out, literals, seen, i = bytearray(), bytearray(), {}, 0

    def flush():
        for start in range(0, len(literals), 32):
            part = literals[start : start + 32]
            out.append(len(part) - 1)
            out.extend(part)
        literals.clear()

    while i < len(data):
        before = seen.get(data[i : i + 3], -1)
        seen[data[i : i + 3]] = i
        length = 0
        while before >= 0 and i - before <= 8192 and i + length < len(data) and length < 264:
            if data[before + length] != data[i + length]:
                break
            length += 1
        if length < 3:
            literals.append(data[i])
            i += 1
            continue
        flush()
        distance = i - before - 1
        if length - 2 < 7:
            out.append((length - 2) << 5 | distance >> 8)
        else:
            out += bytes([7 << 5 | distance >> 8, length - 2 - 7])
        out.append(distance & 255)
        i += length
    flush()
    return bytes(out)


def pcd(encoding: str, size: int = 8) -> bytes:
    """Points with normals, padding and a field of several numbers between them."""
    fields = [("x", 1), ("y", 1), ("z", 1), ("_", 3), ("histogram", 2), ("normal_x", 1), ("normal_y", 1)]
    fields += [("_", 1), ("normal_z", 1)]
    kinds = {"_": "<u1", "histogram": "<u2"}
    columns = dict(zip(["x", "y", "z"], POINTS.T, strict=True))
    columns |= dict(zip(["normal_x", "normal_y", "normal_z"], NORMALS.T, strict=True))
    arrays = [
        columns.get(name, np.ones(40)).astype(kinds.get(name, f"<f{size}"))[:, None].repeat(count, 1)
        for name, count in fields
    ]
    header = "\n".join(
        [
            "# .PCD v0.7 - Point Cloud Data file format",
            "VERSION 0.7",
            "FIELDS " + " ".join(name for name, _ in fields),
            "SIZE " + " ".join(str(a.itemsize) for a in arrays),
            "TYPE " + " ".join(a.dtype.kind.upper() for a in arrays),
            "COUNT " + " ".join(str(count) for _, count in fields),
            "WIDTH 40",
            "HEIGHT 1",
            "VIEWPOINT 1 -2 0.5 1 0 0 0",
            "POINTS 40",
            f"DATA {encoding}\n",
        ]
    ).encode()
    if encoding == "ascii":
        rows = np.hstack([a.astype(float) for a in arrays])
        return header + "\n".join(" ".join(map(repr, row)) for row in rows.tolist()).encode()
    if encoding == "binary":
        return header + b"".join(a[i].tobytes() for i in range(40) for a in arrays)
    plain = b"".join(a.tobytes() for a in arrays)
    packed = lzf_compress(plain)
    return header + struct.pack("<II", len(packed), len(plain)) + packed


def written(tmp_path, name: str, data: bytes):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("faces", ["", "before", "after"])
@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply(tmp_path, encoding, faces):
    data = ply(encoding, faces=faces)
    found = read_raw_points(data, ".ply")
    np.testing.assert_array_equal(found.points, POINTS)
    np.testing.assert_array_equal(found.normals, NORMALS)
    assert found.sensor is None
    assert ply_faces(data) == (2 if faces else 0)
    single = read_raw_points(ply(encoding, faces=faces, kind="float"), ".ply")
    np.testing.assert_allclose(single.points, POINTS, rtol=1e-6)
    assert len(read_points(written(tmp_path, "a.PLY", data), vertices=True).points) == 40


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd(encoding):
    found = read_raw_points(pcd(encoding), ".pcd")
    np.testing.assert_array_equal(found.points, POINTS)
    np.testing.assert_array_equal(found.normals, NORMALS)
    assert found.sensor.tolist() == [1, -2, 0.5]
    old = pcd(encoding, size=4).replace(b"POINTS 40\n", b"").replace(b"VIEWPOINT 1 -2 0.5 1 0 0 0\n", b"")
    found = read_raw_points(old, ".pcd")
    np.testing.assert_allclose(found.points, POINTS, rtol=1e-6)
    assert found.sensor.tolist() == [0, 0, 0]


@pytest.mark.parametrize("delimiter", [" ", "\t", ",", ", "])
def test_text_and_numpy(tmp_path, delimiter):
    both = np.hstack([POINTS, NORMALS])
    np.savetxt(tmp_path / "a.xyz", both, delimiter=delimiter, header="x y z nx ny nz", fmt="%.17g")
    np.savetxt(tmp_path / "b.txt", POINTS, delimiter=delimiter, fmt="%.17g", comments="//", header="points")
    np.save(tmp_path / "c.npy", both)
    np.savez(tmp_path / "d.npz", points=POINTS, normals=NORMALS)
    np.savez_compressed(tmp_path / "e.npz", points=POINTS.astype(np.float32))
    for name in ("a.xyz", "c.npy", "d.npz"):
        found = read_raw_points((tmp_path / name).read_bytes(), (tmp_path / name).suffix)
        np.testing.assert_array_equal(found.points, POINTS)
        np.testing.assert_array_equal(found.normals, NORMALS)
    for name in ("b.txt", "e.npz"):
        found = read_raw_points((tmp_path / name).read_bytes(), (tmp_path / name).suffix)
        np.testing.assert_allclose(found.points, POINTS, rtol=1e-6)
        assert found.normals is None


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"ab", b"abcabc", b"\0" * 50, b"xyz" * 200, bytes(range(256))]), max_size=12))
def test_lzf_there_and_back(parts):
    data = b"".join(parts)
    packed = lzf_compress(data)
    assert lzf_decompress(packed, len(data)) == data
    if len(packed) > 1:
        with pytest.raises(SignalError, match="broken compressed points"):
            lzf_decompress(packed[:-1], len(data))


BROKEN = {
    "empty.xyz": (b"", "empty file"),
    "two.xyz": (b"1 2\n3 4\n", "rows of 3 numbers, or 6 with normals, got 2 columns"),
    "four.txt": (b"1 2 3 4\n", "got 4 columns"),
    "ragged.xyz": (b"1 2 3\n1 2 3 4 5 6\n", "all of one length"),
    "words.xyz": (b"one two three\n", "rows of numbers"),
    "binary.xyz": (b"\xff\xfe\x00\x01" * 9, "rows of numbers"),
    "doubtful.xyz": (
        b"1 2 3 3 -1 0\n" * 20,
        r"expected normals .* got lengths from 3\.162.*signal\.columns",
    ),
    "a.las": (b"LASF", r"expected points as .*, got '\.las'"),
    "a.npy": (b"\x93NUMPY nonsense", "broken NumPy file"),
    "a.npz": (b"PK nonsense", "broken NumPy file"),
    "text.ply": (b"I am not a mesh", "from a line ply"),
    "no_end.ply": (b"ply\nformat ascii 1.0\n", "to a line end_header"),
    "type.ply": (b"ply\nformat ascii 1.0\nelement vertex 3\nproperty quad x\nend_header\n", "at 'property quad x'"),
    "lost.ply": (b"ply\nformat ascii 1.0\nproperty float x\nend_header\n", "at 'property float x'"),
    "count.ply": (b"ply\nformat ascii 1.0\nelement vertex -3\nend_header\n", "at 'element vertex -3'"),
    "format.ply": (b"ply\nformat utf8 1.0\nelement vertex 0\nend_header\n", "ascii or binary, got 'utf8'"),
    "no_vertex.ply": (b"ply\nformat ascii 1.0\nelement edge 0\nend_header\n", "element vertex, got none"),
    "no_z.ply": (ply("ascii").replace(b"double z", b"double t"), "columns x, y and z"),
    "cut.ply": (ply("binary_big_endian")[:-1], "truncated: expected 2000 bytes of points, got 1999"),
    "cut_ascii.ply": (ply("ascii").rsplit(b"\n", 4)[0], "truncated: expected 40 rows of numbers, got 37"),
    "cut_faces.ply": (ply("binary_little_endian", faces="before")[:290], "truncated among its 2 elements face"),
    "lists.ply": (
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty list int int x\nend_header\n1 2\n",
        "without lists",
    ),
    "no_data.pcd": (b"FIELDS x y z\n", "ends with a line DATA"),
    "no_fields.pcd": (b"VERSION 0.7\nDATA ascii\n1 2 3\n", "broken PCD header"),
    "odd.pcd": (pcd("binary").replace(b"SIZE 8", b"SIZE 5"), "broken PCD header"),
    "encoding.pcd": (pcd("binary").replace(b"DATA binary", b"DATA packed"), "binary_compressed, got 'packed'"),
    "cut.pcd": (pcd("binary")[:-1], "truncated: expected 2240 bytes of points, got 2239"),
    "cut_ascii.pcd": (pcd("ascii").rsplit(b"\n", 2)[0], "truncated: expected 40 rows of numbers, got 38"),
    "cut_packed.pcd": (pcd("binary_compressed")[:-1], "truncated: expected .* of compressed points"),
    "headless.pcd": (pcd("binary_compressed").split(b"compressed\n")[0] + b"compressed\n\1", "truncated"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_refused_in_one_line(tmp_path, name):
    data, reason = BROKEN[name]
    path = written(tmp_path, name, data)
    with pytest.raises(SignalError, match=reason) as caught:
        read_points(path, vertices=True)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_arrays(tmp_path):
    for name, arrays, reason in (
        ("a", {"points": np.zeros((5, 4))}, r"points \(N, 3\), or \(N, 6\) with normals, got \(5, 4\) float64"),
        ("b", {"points": np.zeros((5, 3)), "normals": np.zeros((4, 3))}, r"normals \(5, 3\), got \(4, 3\)"),
        ("c", {"x": np.zeros((5, 3))}, r'an array "points" .*, got \[\'x\'\]'),
        ("d", {"points": np.array([["a", "b", "c"]])}, "got .* <U1"),
    ):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(SignalError, match=reason):
            read_points(tmp_path / f"{name}.npz", vertices=True)
    np.save(tmp_path / "e.npy", np.array([{}, {}]), allow_pickle=True)
    with pytest.raises(SignalError, match="expected numbers, got Python objects"):
        read_points(tmp_path / "e.npy", vertices=True)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(SignalError, match=r"missing\.ply: no such file"):
        read_points(tmp_path / "missing.ply", vertices=True)
    (tmp_path / "folder.xyz").mkdir()
    with pytest.raises(SignalError, match=r"folder\.xyz: cannot be read"):
        read_points(tmp_path / "folder.xyz", vertices=True)
