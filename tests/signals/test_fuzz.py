"""Mutilated files: whatever a reader is given, it reads it or says in one line why not, soon and in little memory.

A short sample runs with the suite; `pytest -m fuzz` tries 300 mutants of each seed.
"""

import contextlib
import io
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile
import tifffile
import trimesh
from scipy.io import savemat

from hypersiren.completion.images.settings import CompletionSettings
from hypersiren.errors import UserError
from hypersiren.settings.flags import load_settings
from hypersiren.shapes.cloud import read_points
from hypersiren.signals.image.files import read_image, read_values
from hypersiren.signals.image.masks import read_mask
from hypersiren.signals.sound.files import read_sound
from hypersiren.signals.sound.opened import _frame
from hypersiren.signals.video.files import read_video, write_video
from hypersiren.signals.volume.files import read_volume
from hypersiren.waves.measurements import read_inversion
from hypersiren.waves.media import open_medium
from tests.shapes.test_mesh_formats import FORMATS, NODES, SIDES, SOLID, as_obj, ball_glb, sparse_glb
from tests.shapes.test_point_files import pcd, ply
from tests.signals import test_picture_kinds as kinds
from tests.signals.test_wide import write_png, write_wide

SECONDS, MEMORY = 15, 2 * 2**30

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
WIDE = RNG.integers(0, 65536, (12, 10, 3), dtype=np.uint16)
FRAMES = np.kron(RNG.integers(0, 256, (6, 4, 4, 3), dtype=np.uint8), np.ones((1, 8, 8, 1), np.uint8))
BALL = trimesh.creation.icosphere(1)
ROWS = np.hstack([BALL.vertices * 50 + 3, BALL.vertices])
WAVE = 0.5 * np.sin(np.arange(2000) / 5)[:, None]


def picture(image: np.ndarray, **words: Any) -> Callable[[Path], Any]:
    return lambda path: PIL.Image.fromarray(image).save(path, **words)


def sound(**words: Any) -> Callable[[Path], Any]:
    return lambda path: soundfile.write(path, WAVE, 8000, **words)


def text(head: str, delimiter: str, rows: np.ndarray) -> Callable[[Path], Any]:
    return lambda path: np.savetxt(path, rows, "%.6g", delimiter, header=head, comments="")


def mesh(**words: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        data = BALL.export(file_type=path.suffix[1:], **words)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    return write


def quads(path: Path) -> None:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 8\n" + "".join(
        f"property float {n}\n" for n in "xyz"
    )
    header += "element face 5\nproperty list uchar int vertex_indices\nend_header\n"
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], "<f4")
    faces = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6]]
    path.write_bytes(
        header.encode() + corners.tobytes() + b"".join(struct.pack(f"<B{len(f)}i", len(f), *f) for f in faces)
    )


def both_sides() -> trimesh.Trimesh:
    return trimesh.Trimesh(BALL.vertices, np.vstack([BALL.faces, BALL.faces[:, ::-1]]), process=False)


def chained(path: Path) -> None:
    file = io.BytesIO()
    soundfile.write(file, WAVE, 8000, format="OGG", subtype="VORBIS")
    path.write_bytes(2 * file.getvalue())


def without_length(path: Path) -> None:
    """An MP3 without the frame that tells its length, or a FLAC whose head does not."""
    file = io.BytesIO()
    soundfile.write(file, WAVE, 8000, format=path.suffix[1:].upper())
    data = bytearray(file.getvalue())
    if path.suffix == ".flac":
        data[22:26], data[21] = bytes(4), data[21] & 0xF0
    else:
        data = data[_frame(bytes(data), 0)[0] :]  # type: ignore[index]
    path.write_bytes(data)


def flac_in_ogg(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w", format="ogg") as container:
        stream = container.add_stream("flac", 8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.rint(9999 * WAVE.T).astype(np.int16), "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def nifti(path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(RNG.integers(-9, 99, (3, 5, 4)).astype(np.int16), np.eye(4)), path)


def transparent(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "bgra"
        for pixels in FRAMES:
            frame = av.VideoFrame.from_ndarray(np.dstack([pixels, pixels[..., :1]]), format="rgba")
            container.mux(stream.encode(frame.reformat(format="bgra")))
        container.mux(stream.encode())


def tiff(values: np.ndarray, **words: Any) -> Callable[[Path], Any]:
    return lambda path: tifffile.imwrite(path, values, **words)


def any_bands(path: Path) -> Any:
    return read_values(path, bands=True, holes=True)


def inversion(path: Path) -> None:
    places = {"source": np.array([[-0.3, 0.0]]), "receivers": np.array([[0.3, 0.1], [0.3, -0.2]])}
    savemat(path, places | {"rec_val": np.array([[1 + 2j], [0.5j]])}, do_compression=path.stem == "packed")


def mask(path: Path) -> Any:
    return read_mask(path, (12, 10))


def sized(path: Path) -> Any:
    return read_image(path, size=(5, 5))


def cloud(path: Path) -> Any:
    return read_points(path, count=200)


def load_settings_of(path: Path) -> Any:
    return load_settings(CompletionSettings, path)


def vertices(path: Path) -> Any:
    return read_points(path, vertices=True)


LEVELS = (PIXELS[..., 0] > 99).astype(np.uint8) * 255

SEEDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "rgb.png": (picture(PIXELS), read_values),
    "gray16.png": (picture(WIDE[..., 0]), read_values),
    "rgb16.png": (lambda path: write_png(path, WIDE, 2), read_values),
    "mask.png": (picture(LEVELS), mask),
    "alpha.png": (picture(np.dstack([PIXELS, LEVELS])), mask),
    "a.jpg": (picture(PIXELS, quality=90), sized),
    "a.bmp": (picture(PIXELS), read_values),
    "a.webp": (picture(PIXELS), sized),
    "still.gif": (picture(PIXELS), read_values),
    "a.pgm": (picture(WIDE[..., 0]), read_values),
    "a.ppm": (lambda path: write_wide(path, WIDE), read_values),
    "rgb16.tiff": (lambda path: write_wide(path, WIDE), read_values),
    "float.tiff": (lambda path: tifffile.imwrite(path, PIXELS / np.float32(255), photometric="rgb"), read_values),
    "packed.tiff": (picture(PIXELS, compression="tiff_lzw"), sized),
    "lzw16.tiff": (picture(WIDE[..., 0], compression="tiff_lzw"), read_values),
    "bits12.tiff": (lambda path: kinds.write_tags(path, bytes(range(180)), shape=(12, 10, 1, 12)), read_values),
    "cmyk16.tiff": (tiff(np.dstack([WIDE, WIDE[..., :1]]), photometric="separated"), read_image),
    "lab16.tiff": (tiff(WIDE, photometric="cielab"), read_image),
    "planes.tiff": (tiff(np.moveaxis(WIDE, -1, 0), photometric="rgb", planarconfig="separate"), read_values),
    "tiles.tiff": (tiff(WIDE, photometric="rgb", tile=(16, 16), compression="deflate", predictor=True), read_values),
    "bands.tiff": (tiff(np.dstack([WIDE, WIDE]), photometric="minisblack", planarconfig="contig"), any_bands),
    "holes.tiff": (lambda path: kinds.dem(path), any_bands),
    "stack.tiff": (tiff(np.moveaxis(WIDE, -1, 0), photometric="minisblack"), read_values),
    "profile.png": (picture(PIXELS, icc_profile=kinds.PROPHOTO), read_values),
    "profile16.tiff": (tiff(WIDE, photometric="rgb", iccprofile=kinds.PROPHOTO), read_values),
    "profile.jpg": (picture(PIXELS, icc_profile=kinds.PROPHOTO, quality=90), sized),
    "gamma.png": (
        lambda path: kinds.png(path, WIDE, [(b"gAMA", b"\0\1\x86\xa0"), (b"cICP", b"\x0c\x0d\0\1")]),
        read_values,
    ),
    "passes.png": (lambda path: kinds.png(path, WIDE, interlaced=1), read_values),
    "a.fits": (lambda path: kinds.write_fits(path, WIDE[..., 0].astype(">i2"), 16, BZERO=32768, BLANK=5), any_bands),
    "picture.npy": (lambda path: np.save(path, WIDE), any_bands),
    "volume.npy": (lambda path: np.save(path, RNG.integers(-9, 99, (3, 5, 4)).astype(np.int16)), read_volume),
    "volume.tif": (tiff(np.stack([WIDE[..., 0]] * 3), photometric="minisblack"), read_volume),
    "imagej.tif": (tiff(np.stack([WIDE[..., 0]] * 3), imagej=True), read_volume),
    "a.nii": (nifti, read_volume),
    "a.nii.gz": (nifti, read_volume),
    "frames.tif": (tiff(np.stack([PIXELS] * 3), photometric="rgb"), read_video),
    "a.mp3": (without_length, read_sound),
    "unknown.flac": (without_length, read_sound),
    "chained.ogg": (chained, read_sound),
    "flac.oga": (flac_in_ogg, read_sound),
    "alpha.mkv": (transparent, read_video),
    "pcm.wav": (sound(subtype="PCM_16"), read_sound),
    "float.wav": (sound(subtype="FLOAT"), read_sound),
    "a.flac": (sound(), read_sound),
    "a.ogg": (sound(), read_sound),
    "a.mp4": (lambda path: write_video(path, FRAMES, 25), read_video),
    "a.gif": (lambda path: write_video(path, FRAMES, 25), read_video),
    "video.npy": (lambda path: np.save(path, FRAMES), read_video),
    "a.xyz": (text("", " ", ROWS), cloud),
    "a.csv": (text("X;Y;Z;Nx;Ny;Nz", ";", ROWS), cloud),
    "a.pts": (text("42", " ", ROWS[:, :3]), cloud),
    "text.ply": (lambda path: path.write_bytes(ply("ascii")), vertices),
    "little.ply": (lambda path: path.write_bytes(ply("binary_little_endian", faces="before")), vertices),
    "big.ply": (lambda path: path.write_bytes(ply("binary_big_endian")), vertices),
    "text.pcd": (lambda path: path.write_bytes(pcd("ascii")), cloud),
    "binary.pcd": (lambda path: path.write_bytes(pcd("binary")), cloud),
    "packed.pcd": (lambda path: path.write_bytes(pcd("binary_compressed")), cloud),
    "points.npy": (lambda path: np.save(path, ROWS), cloud),
    "points.npz": (lambda path: np.savez_compressed(path, points=ROWS[:, :3], normals=ROWS[:, 3:]), cloud),
    "a.obj": (mesh(), cloud),
    "a.off": (mesh(), cloud),
    "a.glb": (mesh(), cloud),
    "binary.stl": (mesh(), cloud),
    "text.stl": (lambda path: path.write_text(BALL.export(file_type="stl_ascii")), cloud),
    "mesh.ply": (mesh(), cloud),
    "lines.ply": (mesh(encoding="ascii"), cloud),
    "quads.ply": (quads, cloud),
    **{
        f"concave.{i}{Path(name).suffix or name}": (
            lambda path, write=write: path.write_bytes(write(SOLID, SIDES)),
            cloud,
        )
        for i, (name, write) in enumerate(FORMATS.items())
    },
    "back.obj": (lambda path: path.write_bytes(as_obj(SOLID, SIDES).replace(b"f 1//1 2//1", b"f -16//1 2//1")), cloud),
    "double.stl": (lambda path: path.write_bytes(both_sides().export(file_type="stl")), cloud),
    "whole.glb": (lambda path: path.write_bytes(ball_glb("i2", normalized=True)), cloud),
    "sparse.glb": (lambda path: path.write_bytes(sparse_glb()), cloud),
    "nodes.glb": (lambda path: path.write_bytes(ball_glb("f4", indexed=False, nodes=NODES)), cloud),
    "half.npy": (lambda path: np.save(path, ROWS.astype(np.float16)[:, :3]), cloud),
    "few.xyz": (text("", " ", np.repeat(ROWS[:, :3] + [500_000, 4_100_000, 0], 3, axis=0)), cloud),
    "medium.npy": (lambda path: np.save(path, 1 + RNG.random((8, 8))), open_medium),
    "a.mat": (inversion, read_inversion),
    "packed.mat": (inversion, read_inversion),
}


def mutant(data: bytes, generator: np.random.Generator) -> bytes:
    """The data, damaged in up to four places, more often near its beginning, where headers are."""
    damaged = bytearray(data)
    for _ in range(generator.integers(1, 5)):
        size = max(1, len(damaged))
        place = int(generator.integers(size)) if generator.random() < 0.5 else int(generator.integers(min(size, 200)))
        length = int(generator.integers(1, 9))
        match generator.integers(8):
            case 0:
                damaged[place : place + 1] = generator.bytes(1)
            case 1:
                damaged[place : place + length] = generator.bytes(length)
            case 2:
                damaged[place : place + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)][
                    generator.integers(4)
                ]
            case 3:
                del damaged[place:]
            case 4:
                del damaged[place : place + length]
            case 5:
                damaged[place:place] = damaged[place : place + 10 * length]
            case 6:  # a number in text, if there is one
                digits = next((i for i in range(place, size) if damaged[i : i + 1].isdigit()), place)
                words = [b"-1", b"0", b"99999999999", b"1e300", b"nan", b",", b"4294967295", b""]
                damaged[digits : digits + 1] = words[generator.integers(len(words))]
            case _:
                if place < len(damaged):
                    damaged[place] ^= 1 << int(generator.integers(8))
    return bytes(damaged)


class Late(BaseException):
    """A reader that does not end; no guard may catch it."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Within so many seconds, and so much more memory than there is now."""

    def stop(*_: Any) -> None:
        raise Late

    before, limits = signal.signal(signal.SIGALRM, stop), resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def escapes(name: str, tmp_path: Path, count: int, first: int = 0) -> list[str]:
    """What came of so many mutants of a seed that is neither a signal nor a line; and the seed itself is read."""
    write, read = SEEDS[name]
    path = tmp_path / name
    write(path)
    data = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read(path)
        found = []
        for i in range(first, first + count):
            damaged = mutant(data, np.random.default_rng((i, len(name), *name.encode())))
            path.write_bytes(damaged)
            try:
                with contextlib.redirect_stderr(io.StringIO()), bounded():
                    read(path)
            except UserError as error:
                line = str(error)
                if "\n" in line or len(line) > 600 or "more memory than there is" in line:
                    found.append(f"{i}: {line!r}")
            except (Exception, Late) as error:
                found.append(f"{i}: {type(error).__name__}: {error}")
    return found


needs_linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory as Linux tells it")


@needs_linux
@pytest.mark.parametrize("name", SEEDS)
def test_a_few_mutants_of_each_kind_of_file(tmp_path, name):
    assert not escapes(name, tmp_path, 1 if name.endswith(".mat") else 8)


@needs_linux
@pytest.mark.fuzz
@pytest.mark.parametrize("name", SEEDS)
def test_many_mutants_of_each_kind_of_file(tmp_path, name):
    assert not escapes(name, tmp_path, 300)


# Kinds of damage that once ended in a traceback


def one_line(read: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("read", [read_video, open_medium, cloud])
def test_an_array_whose_header_is_no_python(tmp_path, read):
    np.save(tmp_path / "a.npy", 1 + RNG.random((4, 3)))
    data = (tmp_path / "a.npy").read_bytes()
    for old, new in ((b"}", b"("), (b"(4", b"((4"), (b"'shape'", b"'shape\""), (b"(4, 3)", b"(-4,3)")):
        (tmp_path / "a.npy").write_bytes(data.replace(old, new, 1))
        assert "a.npy: " in one_line(lambda: read(tmp_path / "a.npy"))


def test_descriptions_in_another_encoding(tmp_path):
    import av

    for ending in ("mp4", "avi"):
        with av.open(tmp_path / f"a.{ending}", "w") as container:
            container.metadata["title"] = "M?bel"
            stream = container.add_stream("mpeg4", 25)
            stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
            for pixels in FRAMES:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(stream.encode())
        data = (tmp_path / f"a.{ending}").read_bytes()
        assert b"M?bel" in data
        (tmp_path / f"a.{ending}").write_bytes(data.replace(b"M?bel", "Möbel".encode("latin-1")))
    assert "not in UTF-8" in one_line(lambda: read_video(tmp_path / "a.mp4"))
    assert len(read_video(tmp_path / "a.avi").pixels) == 6  # whose format tells of no encoding


def test_point_clouds_without_points_or_of_strange_types(tmp_path):
    for name, data in {
        "none.ply": ply("binary_little_endian").replace(b"vertex 40", b"vertex 0"),
        "none.pcd": pcd("binary").replace(b"POINTS 40", b"POINTS 0"),
        "type.pcd": pcd("binary").replace(b"TYPE F", b"TYPE M"),
        "count.pcd": pcd("binary").replace(b"COUNT 1 1 1", b"COUNT 1 -1 1"),
        "huge.pcd": pcd("binary").replace(b"COUNT 1 1 1", b"COUNT 1 99999999999 1"),
    }.items():
        (tmp_path / name).write_bytes(data)
        assert f"{name}: " in one_line(lambda name=name: read_points(tmp_path / name))


def test_what_libraries_log_is_not_shown(tmp_path, caplog):
    write_wide(tmp_path / "a.tiff", WIDE)
    data = (tmp_path / "a.tiff").read_bytes()
    (tmp_path / "a.tiff").write_bytes(data[:20] + b"\xff\xff\xff\xff" + data[24:])
    one_line(lambda: read_values(tmp_path / "a.tiff"))
    assert not caplog.records


def test_what_c_libraries_print_is_not_shown(tmp_path, capfd):
    PIL.Image.fromarray(PIXELS).save(tmp_path / "a.tiff", compression="tiff_lzw")
    data = (tmp_path / "a.tiff").read_bytes()
    (tmp_path / "a.tiff").write_bytes(data[:8] + bytes(100) + data[108:])
    one_line(lambda: read_values(tmp_path / "a.tiff"))
    soundfile.write(tmp_path / "a.mp3", WAVE, 8000)
    data = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(data[:900] + bytes(300) + data[1200:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read_sound(tmp_path / "a.mp3")
    assert capfd.readouterr().err == ""
    print("heard again", file=sys.stderr)
    assert capfd.readouterr().err == "heard again\n"


READERS = [read_image, read_values, mask, read_sound, read_video, cloud, open_medium, read_inversion, load_settings_of]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.wav", "a.mp4", "a.ply", "a.xyz", "a.npy", "a.mat", "a.yaml"])
def test_pipes_are_refused_at_once(tmp_path, read, name):
    os.mkfifo(tmp_path / name)
    with bounded():
        assert name in one_line(lambda: read(tmp_path / name))
