"""What files of shapes mean: the side of faces and normals, columns, and numbers as people write them."""

import struct
import warnings

import numpy as np
import pytest
import trimesh

from hypersiren.shapes.cloud import as_cloud, open_cloud, read_points
from hypersiren.shapes.files.mesh import read_triangles
from hypersiren.shapes.files.points import read_raw_points
from hypersiren.shapes.mesh import Mesh, is_watertight, outward_faces
from hypersiren.signals.files import SignalError
from hypersiren.tasks.registry import open_task

BALL = trimesh.creation.icosphere(3)
RNG = np.random.default_rng(0)
UNIT = RNG.normal(size=(60, 3))
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)
XYZ = np.round(RNG.normal(size=(60, 3)) * 50, 3)


def volume(vertices, faces):
    return np.linalg.det(vertices[faces]).sum() / 6


def cosine(cloud, centre=(0, 0, 0)):
    """The mean cosine between normals and the way out of a ball."""
    ways = cloud.to_input(cloud.points) - np.array(centre)
    return ((ways / np.linalg.norm(ways, axis=1, keepdims=True)) * cloud.normals).sum(1).mean()


def lines(heard):
    assert all("\n" not in str(w.message) for w in heard)
    return [str(w.message) for w in heard]


# Faces


def test_inward_faces_are_turned_and_said(tmp_path):
    inward = trimesh.Trimesh(BALL.vertices, BALL.faces[:, ::-1], process=False)
    for ending in ("ply", "obj", "stl", "off", "glb"):
        inward.export(tmp_path / f"a.{ending}")
        with pytest.warns(UserWarning, match=rf"a\.{ending}: 1280 of 1280 faces looked inwards") as heard:
            cloud = read_points(tmp_path / f"a.{ending}", count=2000)
        assert len(lines(heard)) == 1
        assert cosine(cloud) > 0.99
    with pytest.warns(UserWarning, match="mesh: 1280 of 1280 faces"):
        assert cosine(as_cloud(inward, count=2000)) > 0.99
    BALL.export(tmp_path / "right.ply")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cosine(read_points(tmp_path / "right.ply", count=2000)) > 0.99


def test_mixed_faces_come_to_agree_whatever_their_share():
    for share in (0.1, 0.5, 0.9):
        mixed = np.where(RNG.random((len(BALL.faces), 1)) < share, BALL.faces[:, ::-1], BALL.faces)
        faces, text = outward_faces(BALL.vertices, mixed)
        np.testing.assert_array_equal(np.sort(faces, 1), np.sort(BALL.faces, 1))
        assert is_watertight(Mesh(BALL.vertices, faces, BALL.vertices))
        assert volume(BALL.vertices, faces) == pytest.approx(BALL.volume)
        assert text is not None


def test_a_hollow_keeps_its_inner_side_and_a_second_ball_is_turned():
    inner = 0.5 * BALL.vertices
    n = len(BALL.vertices)
    hollow = np.vstack([BALL.faces, BALL.faces[:, ::-1] + n])
    both = np.vstack([BALL.vertices, inner])
    expected = BALL.volume * (1 - 1 / 8)
    for faces in (hollow, hollow[:, ::-1]):
        turned, _ = outward_faces(both, faces)
        assert volume(both, turned) == pytest.approx(expected)
    np.testing.assert_array_equal(outward_faces(both, hollow)[0], hollow)
    beside = np.vstack([BALL.vertices, inner + 5])
    turned, text = outward_faces(beside, hollow)
    assert volume(beside, turned) == pytest.approx(BALL.volume * (1 + 1 / 8))
    assert text == "1280 of 2560 faces looked inwards or otherwise than their neighbours, and were turned"


def test_faces_of_both_sides_count_once(tmp_path):
    generator = np.random.default_rng(5)
    both = np.vstack([BALL.faces, BALL.faces[:, ::-1]])
    for vertices, faces in (
        (BALL.vertices, both[generator.permutation(len(both))]),
        (np.vstack([BALL.vertices] * 2), np.vstack([BALL.faces, BALL.faces[:, ::-1] + len(BALL.vertices)])),
    ):
        kept, text = outward_faces(vertices, faces)
        assert len(kept) == len(BALL.faces)
        assert volume(vertices, kept) == pytest.approx(BALL.volume)
        assert str(text).count("1280 of 2560 faces are there twice, as of both sides: one is kept") == 1
        assert "not closed" not in str(text)
    trimesh.Trimesh(vertices, faces, process=False).export(tmp_path / "a.stl")
    with pytest.warns(UserWarning, match="there twice"):
        assert cosine(read_points(tmp_path / "a.stl", count=2000)) > 0.99
    sheet = BALL.faces[BALL.triangles_center[:, 2] > 0]
    kept, text = outward_faces(BALL.vertices, np.vstack([sheet, sheet[:, ::-1]]))
    np.testing.assert_array_equal(kept, sheet)
    assert "not closed" in str(text)


def test_shells_inside_of_shells_alternate_and_that_is_said():
    n = len(BALL.vertices)
    radii = [1.0, 0.8, 0.5, 0.3]
    vertices = np.vstack([r * BALL.vertices for r in radii] + [0.1 * BALL.vertices + 7])
    faces = np.vstack([BALL.faces + i * n for i in range(5)])
    turned, text = outward_faces(vertices, faces)
    assert volume(vertices, turned) == pytest.approx(BALL.volume * (1 - 0.8**3 + 0.5**3 - 0.3**3 + 0.1**3))
    assert "2 of 5 parts lie inside of others and looked outwards as these do" in str(text)
    np.testing.assert_array_equal(turned[: len(BALL.faces)], BALL.faces)
    assert outward_faces(vertices, turned)[1] is None  # as it should be: nothing to say
    # Parts that cross, or lie beside each other in a box, are no shells of each other.
    for shift in ([0.7, 0, 0], [2.2, 0, 0]):
        crossed = np.vstack([BALL.vertices, 0.6 * BALL.vertices + shift])
        assert outward_faces(crossed, faces[: 2 * len(BALL.faces)])[1] is None
    ring = trimesh.creation.torus(1.0, 0.2)
    inside = np.vstack([ring.vertices, 0.1 * BALL.vertices])  # in the box of the ring, but not in the ring
    assert outward_faces(inside, np.vstack([ring.faces, BALL.faces + len(ring.vertices)]))[1] is None


def test_vertices_that_no_face_has_do_not_matter():
    odd = np.vstack([BALL.vertices, [[np.nan, 0, 0], [1e9, 0, 0]]])
    faces, text = outward_faces(odd, BALL.faces[:, ::-1])
    assert volume(BALL.vertices, faces) == pytest.approx(BALL.volume)
    assert "1280 of 1280" in str(text)


def test_open_and_one_sided_meshes_are_said():
    half = BALL.faces[BALL.triangles_center[:, 2] > 0]
    faces, text = outward_faces(BALL.vertices, half)
    np.testing.assert_array_equal(faces, half)
    assert text == "the mesh is not closed: its faces are trusted to look outwards"
    spoiled = half.copy()
    spoiled[::5] = spoiled[::5, ::-1]
    mended, _ = outward_faces(BALL.vertices, spoiled)
    np.testing.assert_array_equal(mended[::5], half[::5, ::-1][:, ::-1])
    np.testing.assert_array_equal(mended, half)
    # A strip of five triangles with a half turn in it.
    moebius = np.array([[i, (i + 1) % 5, (i + 2) % 5] for i in range(5)])
    _, text = outward_faces(RNG.normal(size=(5, 3)), moebius)
    assert "cannot agree" in str(text)


def test_a_ply_of_triangles_and_quads_has_its_area(tmp_path):
    box = trimesh.creation.box((1, 2, 3))
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4]]
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 2) for z in (0, 3)], float)
    faces = [*quads, [1, 5, 7], [1, 7, 3]]
    header = "ply\nformat {} 1.0\nelement vertex 8\nproperty double x\nproperty double y\nproperty double z\n"
    header += "element face 7\nproperty uchar tag\nproperty list uchar int vertex_indices\nend_header\n"
    for order, name in (("<", "binary_little_endian"), (">", "binary_big_endian"), ("", "ascii")):
        if order:
            body = corners.astype(f"{order}f8").tobytes()
            body += b"".join(struct.pack(f"{order}BB{len(f)}i", 9, len(f), *f) for f in faces)
        else:
            rows = [" ".join(map(str, row)) for row in corners.tolist()]
            rows += [" ".join(map(str, [9, len(f), *f])) for f in faces]
            body = ("\n".join(rows) + "\n").encode()
        vertices, triangles = read_triangles(header.format(name).encode() + body, ".ply")
        assert len(triangles) == 12
        assert trimesh.Trimesh(vertices, triangles).area == pytest.approx(box.area)
        turned, _ = outward_faces(vertices, triangles)
        assert volume(vertices, turned) == pytest.approx(6)


def test_faces_that_name_no_vertex_are_refused_and_relative_ones_are_read(tmp_path):
    vertices = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
    right = vertices + "f -4 -2 -3\nf -4 -3 -1\nf -3 -2 -1\nf -2 -4 -1\n"
    between = "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -1 -2\nv 0 0 1\nf -4 -3 -1\nf -3//1 -2//1 -1//1\nf -2/7 -4/7 -1/7\n"
    for text in (right, between):
        corners, faces = read_triangles(text.encode(), ".obj")
        assert volume(corners, faces) == pytest.approx(1 / 6)
    for wrong in ("f 1 2 9\n", "f 1 2 0\n", "f 1 2 -9\n"):
        with pytest.raises(SignalError, match="mesh"):
            read_triangles((vertices + "f 1 2 3\n" + wrong).encode(), ".obj")
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n"
    for wrong in ("3 0 1 3\n", "3 0 1 -1\n"):
        with pytest.raises(SignalError, match="expected faces of 3 vertices"):
            read_triangles((header + wrong).encode(), ".ply")


# Normals that are estimated


def pcd(points, viewpoint=None, extra=""):
    view = "" if viewpoint is None else f"VIEWPOINT {viewpoint}\n"
    header = f"FIELDS x y z{' none' if extra else ''}\nSIZE 8 8 8{extra and ' 4'}\nTYPE F F F{extra and ' F'}\n"
    header += f"COUNT 1 1 1{extra and ' 0'}\nWIDTH {len(points)}\nHEIGHT 1\n{view}POINTS {len(points)}\nDATA binary\n"
    return header.encode() + points.astype("<f8").tobytes()


@pytest.mark.parametrize(
    ("viewpoint", "centre", "sensor", "side", "words"),
    [
        ("0 0 0 1 0 0 0", (9, 9, 9), None, 1, r"outwards, as its VIEWPOINT is the default"),
        (None, (1.2, 0, 0), None, 1, r"outwards, as its VIEWPOINT is the default"),
        ("0 0 0 1 0 0 0", (0.2, 0, 0), None, -1, r"towards the sensor at \(0.0, 0.0, 0.0\), in the midst"),
        ("0 0 0 1 0 0 0", (0, 0, 0), "outwards", 1, r"outwards, as was asked"),
        ("9 9 9 1 0 0 0", (9, 9, 9), None, -1, r"towards the sensor at \(9.0, 9.0, 9.0\), as the file says"),
        ("0 0 0 1 0 0 0", (9, 9, 9), (9, 9, 9), -1, r"towards the sensor at \(9.0, 9.0, 9.0\), as was asked"),
    ],
)
def test_how_normals_are_turned_is_decided_by_rule_and_said(tmp_path, viewpoint, centre, sensor, side, words):
    (tmp_path / "a.pcd").write_bytes(pcd(BALL.vertices + np.array(centre), viewpoint))
    with pytest.warns(UserWarning, match=rf"a\.pcd: normals are estimated and turned {words}") as heard:
        cloud = read_points(tmp_path / "a.pcd", sensor=sensor)
    assert len(lines(heard)) == 1
    assert side * cosine(cloud, centre) > 0.95
    assert cloud.estimated


def test_points_of_other_files_are_turned_outwards_and_given_normals_are_left(tmp_path):
    np.savetxt(tmp_path / "a.xyz", BALL.vertices)
    with pytest.warns(UserWarning, match=r"a\.xyz: normals are estimated and turned outwards, as of a closed object"):
        assert cosine(read_points(tmp_path / "a.xyz")) > 0.95
    np.savetxt(tmp_path / "b.xyz", np.hstack([BALL.vertices, -BALL.vertices]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cosine(read_points(tmp_path / "b.xyz")) < -0.99


def test_a_pcd_with_a_field_of_no_numbers_is_read():
    np.testing.assert_array_equal(read_raw_points(pcd(XYZ, extra="yes"), ".pcd").points, XYZ)


# Columns


def table(rows, delimiter=" ", decimal=".", head="", fmt="%.6f"):
    text = "\n".join(delimiter.join((fmt % v).replace(".", decimal) for v in row) for row in rows)
    return (head + text + "\n").encode()


COLOURS = RNG.integers(0, 256, (60, 3)).astype(float)


@pytest.mark.parametrize("colours", [COLOURS, COLOURS / 255, np.round(COLOURS / 255)], ids=["255", "1", "pure"])
def test_colours_are_no_normals(tmp_path, colours):
    both = np.hstack([XYZ, colours])
    np.save(tmp_path / "a.npy", both)
    for data, ending in ((table(both, fmt="%.9g"), ".xyz"), ((tmp_path / "a.npy").read_bytes(), ".npy")):
        with pytest.warns(UserWarning, match="taken as colours"):
            found = read_raw_points(data, ending)
        assert found.normals is None
        np.testing.assert_allclose(found.points, XYZ)
        named = read_raw_points(data, ending, "x,y,z,r,g,b")
        assert named.normals is None


def test_normals_are_known_by_length_and_sign_and_the_doubtful_is_refused(tmp_path):
    found = read_raw_points(table(np.hstack([XYZ, UNIT])), ".txt")
    np.testing.assert_allclose(found.normals, UNIT, atol=1e-6)
    for doubtful in (3 * UNIT, np.abs(UNIT), 300 * np.abs(UNIT)):
        data = table(np.hstack([XYZ, doubtful]))
        with pytest.raises(SignalError, match=r"expected normals in columns 4 to 6.*--signal\.columns"):
            read_raw_points(data, ".txt")
        found = read_raw_points(data, ".txt", "x,y,z,nx,ny,nz")
        np.testing.assert_allclose(found.normals, doubtful, atol=1e-6)
    found = read_raw_points(table(np.hstack([XYZ, COLOURS, UNIT])), ".txt", "X, Y, Z, -, -, -, nx, ny, nz")
    np.testing.assert_allclose(found.normals, UNIT, atol=1e-6)
    found = read_raw_points(table(np.hstack([UNIT, XYZ])), ".txt", "nx,ny,nz,x,y,z")
    np.testing.assert_allclose(found.points, XYZ, atol=1e-6)
    for columns, words in {"x,y": "x, y and z", "x,y,z": "expected 3 columns", "x,y,z,x,-,-": "once"}.items():
        with pytest.raises(SignalError, match=words):
            read_raw_points(table(np.hstack([XYZ, UNIT])), ".txt", columns)


def test_integer_normals_are_scaled_by_their_type():
    for kind, dtype, stored in (
        ("char", "i1", np.rint(UNIT * 127)),
        ("uchar", "u1", np.rint((UNIT + 1) * 127.5)),
        ("short", "<i2", np.rint(UNIT * 32767)),
        ("ushort", "<u2", np.rint((UNIT + 1) * 32767.5)),
    ):
        rows = np.empty(60, [("p", "<f8", 3), ("n", dtype, 3)])
        rows["p"], rows["n"] = XYZ, stored
        head = "ply\nformat {} 1.0\nelement vertex 60\n" + "".join(f"property double {n}\n" for n in "xyz")
        head += "".join(f"property {kind} n{n}\n" for n in "xyz") + "end_header\n"
        text = table(np.hstack([XYZ, stored]), fmt="%.9g")
        for data in (
            head.format("binary_little_endian").encode() + rows.tobytes(),
            head.format("ascii").encode() + text,
        ):
            normals = read_raw_points(data, ".ply").normals
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            np.testing.assert_allclose(normals, UNIT, atol=0.01)
    whole = table(np.hstack([XYZ, np.rint((UNIT + 1) * 127.5)]), fmt="%.9g", head="x y z nx ny nz\n")
    np.testing.assert_allclose(read_raw_points(whole, ".txt").normals, UNIT, atol=0.01)
    with pytest.raises(SignalError, match="not of unit length"):
        read_raw_points(table(np.hstack([XYZ, COLOURS]), fmt="%.9g", head="x y z nx ny nz\n"), ".txt")


@pytest.mark.parametrize("ending", [".csv", ".asc", ".txt", ".xyz", ".pts"])
@pytest.mark.parametrize("delimiter", [",", ", ", ";", "; ", " ", "\t", "   "])
def test_numbers_however_they_are_set_apart(ending, delimiter):
    both = np.hstack([XYZ, UNIT])
    heads = [
        "X{0}Y{0}Z{0}Nx{0}Ny{0}Nz\n",
        "\ufeffx{0}y{0}z{0}normal_x{0}normal_y{0}normal_z\n",
        '"x"{0}"y"{0}"z"{0}nx{0}ny{0}nz\n',
        "//X Y Z Nx Ny Nz\n",
        "# by hand\n# x y z nx ny nz\n",
    ]
    for head in heads:
        for end in ("\n", "\r\n"):
            data = table(both, delimiter, head=head.format(delimiter)).replace(b"\n", end.encode())
            found = read_raw_points(data, ending)
            np.testing.assert_allclose(found.points, XYZ, atol=1e-6)
            np.testing.assert_allclose(found.normals, UNIT, atol=1e-6)
    data = table(XYZ, delimiter, head="60\n")
    np.testing.assert_allclose(read_raw_points(data, ending).points, XYZ, atol=1e-6)
    with pytest.raises(SignalError, match="counts 61 rows, got 60"):
        read_raw_points(table(XYZ, delimiter, head="61\n"), ending)
    ended = data.replace(b"\n", delimiter.strip(" ").encode() + b"\n")[3:]
    np.testing.assert_allclose(read_raw_points(ended, ending).points, XYZ, atol=1e-6)


@pytest.mark.parametrize("delimiter", [";", "; ", " ", "\t"])
def test_decimal_commas_are_read_as_such(delimiter):
    data = table(XYZ, delimiter, ",")
    for encoded in (data, b"\xef\xbb\xbf" + data, data.decode().encode("utf-16")):
        np.testing.assert_allclose(read_raw_points(encoded, ".csv").points, XYZ, atol=1e-6)
    both = table(np.hstack([XYZ, UNIT]), delimiter, ",", head="X;Y;Z;NX;NY;NZ\n")
    np.testing.assert_allclose(read_raw_points(both, ".csv").normals, UNIT, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        b"1,5,2,25,3,75\n" * 20,  # decimal commas between commas
        b"1.234,5;2;3\n" * 20,  # thousands
        b"1,234.5;2;3\n" * 20,
        b"1,5 2.5 3\n" * 20,
        b"1'234.5 2 3\n" * 20,
        b"1;;3;4\n" * 20,
        b"1,2 3,4\n" * 20,
        b"1,,3,4.5\n" * 20,
    ],
)
def test_numbers_that_could_be_others_are_refused(data):
    with pytest.raises(SignalError) as caught:
        read_raw_points(data, ".csv")
    assert "\n" not in str(caught.value)


def test_whole_numbers_in_named_columns_are_right():
    found = read_raw_points(b"1,5,2,25,3,75\n" * 20, ".csv", "x,y,z,r,g,b")
    assert found.points[0].tolist() == [1, 5, 2]
    found = read_raw_points(b"x,y,z,r,g,b\n" + b"1,5,2,25,3,75\n" * 20, ".csv")
    assert found.points[0].tolist() == [1, 5, 2]


def test_columns_of_a_pts_are_those_of_scanners():
    seven = np.hstack([XYZ, COLOURS[:, :1], COLOURS])
    for rows in (seven, seven[:, :4], seven[:, [0, 1, 2, 4, 5, 6]]):
        found = read_raw_points(table(rows, head="60\n", fmt="%.9g"), ".pts")
        np.testing.assert_allclose(found.points, XYZ)
        assert found.normals is None
    with pytest.raises(SignalError, match="7 columns"):
        read_raw_points(table(seven, fmt="%.9g"), ".xyz")


def test_columns_are_a_setting(tmp_path):
    (tmp_path / "a.txt").write_bytes(table(np.hstack([BALL.vertices, 3 * BALL.vertices])))
    task = open_task("sdf", {"signal": {"path": tmp_path / "a.txt", "columns": "x,y,z,nx,ny,nz"}})
    assert cosine(task.cloud) > 0.99  # type: ignore[attr-defined]
    (tmp_path / "a.ply").write_bytes(BALL.export(file_type="ply"))
    with pytest.raises(SignalError, match="no columns"):
        read_points(tmp_path / "a.ply", vertices=True, columns="x,y,z")


# What is claimed


def test_claims_are_compared_with_what_is_there(tmp_path, monkeypatch):
    head = "ply\nformat {} 1.0\nelement {} 1000000000000\nproperty {}\nend_header\n1 2 3\n"
    claims = [
        (head.format("binary_little_endian", "vertex", "float x"), ".ply"),
        (head.format("binary_little_endian", "edge", "list uchar int x"), ".ply"),
        (head.format("ascii", "vertex", "float x"), ".ply"),
        (head.format("ascii", "edge", "float x"), ".ply"),
        ("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nHEIGHT 1\nPOINTS 2000000000\nDATA ascii\n1 2 3\n", ".pcd"),
        ("FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 9\nHEIGHT 1\nPOINTS 2000000000\nDATA binary\n1 2 3\n", ".pcd"),
    ]  # fmt: skip
    packed = pcd(XYZ).replace(b"POINTS 60\nDATA binary\n", b"POINTS 170000000\nDATA binary_compressed\n")
    packed = packed[: -XYZ.nbytes] + struct.pack("<II", 100, 170000000 * 24) + b"\0" * 100
    for data, ending in [*((text.encode(), ending) for text, ending in claims), (packed, ".pcd")]:
        with pytest.raises(SignalError) as caught:
            read_raw_points(data, ending)
        assert "\n" not in str(caught.value)
    np.savez_compressed(tmp_path / "a.npz", points=np.zeros((100_000, 3)))
    monkeypatch.setenv("HYPERSIREN_LIMIT", "0.001")
    with pytest.raises(SignalError, match=r"a\.npz: would take .* HYPERSIREN_LIMIT"):
        read_points(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.zeros((10, 3)))
    data = (tmp_path / "a.npy").read_bytes().replace(b"(10, 3), }      ", b"(10000000, 3), }")
    (tmp_path / "b.npy").write_bytes(data)
    with pytest.raises(SignalError, match=r"b\.npy: .*truncated"):
        read_points(tmp_path / "b.npy")


def test_points_that_are_left_out_are_counted(tmp_path):
    (tmp_path / "a.xyz").write_text("nan 0 0\n" + "".join(f"{i} {i * i} 1\n" for i in range(20)))
    with pytest.warns(UserWarning, match="1 points are left out, not finite"):
        assert len(read_points(tmp_path / "a.xyz").points) == 20


def test_columns_are_refused_where_there_are_none(tmp_path):
    trimesh.creation.icosphere(1).export(tmp_path / "a.obj")
    for open_it in (
        lambda: read_points(tmp_path / "a.obj", columns="x,y,z"),
        lambda: open_cloud("knot", columns="x,y,z"),
    ):
        with pytest.raises(SignalError, match="expected no columns"):
            open_it()


def test_the_advice_of_numpy_is_not_shown(tmp_path):
    (tmp_path / "a.xyz").write_text("1 2 3\n" * 20 + "1 2\n")
    with pytest.raises(SignalError, match="changed from 3 to 2 at row 21") as caught:
        read_points(tmp_path / "a.xyz")
    assert "usecols" not in str(caught.value)
