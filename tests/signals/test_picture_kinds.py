"""Pictures of the field against what one would guess: each kind by its right value, or refused in one line."""

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from hypersiren.errors import UserError
from hypersiren.signals.image import spaces
from hypersiren.signals.image.files import read_image, read_values
from hypersiren.signals.image.masks import read_mask
from hypersiren.signals.image.opening import as_pixels, open_masked, open_picture, open_values
from hypersiren.tasks.registry import open_task
from tests.signals.test_wide import quietly, said

RNG = np.random.default_rng(5)
NARROW = RNG.integers(0, 256, (17, 12, 3), np.uint8)
DEEP = NARROW.astype(np.uint16) * 257
EXPECTED = NARROW / 127.5 - 1


def refused(read, *words):
    with pytest.raises(UserError) as caught:
        read()
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line, (word, line)


def write_tags(path, data, **tags):
    """A TIFF of one strip written by hand: `data` with tags by their numbers, (type, values)."""
    height, width, samples, bits = tags.pop("shape")
    entries = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [1])}
    entries |= {277: (3, [samples]), 278: (4, [height]), 279: (4, [len(data)]), 273: (4, [8])}
    entries |= {int(key[1:]): value for key, value in tags.items()}
    table, beyond, start = b"", b"", 8 + len(data)
    after = start + 2 + 12 * len(entries) + 4
    for code, (kind, values) in sorted(entries.items()):
        raw = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{'_BsHI'[kind]}", *values)
        field = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack("<I", after + len(beyond))
        beyond += raw if len(raw) > 4 else b""
        table += struct.pack("<HHI", code, kind, len(values)) + field
    head = struct.pack("<2sHI", b"II", 42, start)
    path.write_bytes(head + data + struct.pack("<H", len(entries)) + table + bytes(4) + beyond)


def png(path, values, parts=(), kind=2, bits=16, interlaced=0):
    """A PNG without filters, its rows as they are, with more parts before its pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def rows(part):
        raw = part.astype(f">u{bits // 8}").view(np.uint8).reshape(len(part), -1)
        return b"".join(b"\0" + row.tobytes() for row in raw)

    values = np.ascontiguousarray(values)
    plain = rows(values)
    if interlaced:
        steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        plain = b"".join(
            rows(np.ascontiguousarray(values[a::c, b::d])) for a, b, c, d in steps if values[a::c, b::d].size
        )
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, interlaced)
    body = b"".join(chunk(*part) for part in parts)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IDAT", zlib.compress(plain)) + chunk(b"IEND", b"")
    )


# TIFF


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "zstd", "tiff_adobe_deflate"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_16_bits_under_every_compression(tmp_path, compression, predictor):
    try:
        Image.fromarray(DEEP[..., 0]).save(tmp_path / "a.tiff", compression=compression, tiffinfo={317: predictor})
    except OSError as error:  # of Pillow 11.0, whose library has no zstd
        pytest.skip(f"Pillow cannot write it: {error}")
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff")[..., 0].numpy(), EXPECTED[..., 0], atol=1e-6)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_white_is_zero_is_inverted_once(tmp_path, compression):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "a.tiff", compression=compression, tiffinfo=tags)
    with tifffile.TiffFile(tmp_path / "a.tiff") as file:
        data = bytearray((tmp_path / "a.tiff").read_bytes())
        entry = file.pages[0].tags[262]  # type: ignore[union-attr]
        data[entry.valueoffset : entry.valueoffset + 2] = b"\0\0"
    (tmp_path / "a.tiff").write_bytes(data)
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff")[..., 0].numpy(), -EXPECTED[..., 0], atol=1e-6)
    with Image.open(tmp_path / "a.tiff") as picture:
        np.testing.assert_allclose(as_pixels(picture)[..., 0].numpy(), -EXPECTED[..., 0], atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14, 24])
def test_any_number_of_bits(tmp_path, bits):
    values = RNG.integers(0, 2**bits, (5, 7))
    binary = np.array([[[int(c) for c in f"{v:0{bits}b}"] for v in row] for row in values]).reshape(5, -1)
    write_tags(tmp_path / "a.tiff", np.packbits(binary, axis=1).tobytes(), shape=(5, 7, 1, bits))
    limits = {} if bits <= 16 else {"range": (0, 2**bits - 1)}
    found = quietly(tmp_path / "a.tiff", **limits)[..., 0]
    np.testing.assert_allclose(found.numpy(), 2 * values / (2**bits - 1) - 1, atol=1e-6)
    if bits <= 16:
        np.testing.assert_allclose(read_image(tmp_path / "a.tiff")[..., 0], 255 * values / (2**bits - 1), atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "RGB"])
def test_pictures_that_pillow_maps_lie_as_their_tag_says(tmp_path, orientation, mode):
    plain = Image.fromarray(NARROW).convert(mode)
    plain.save(tmp_path / "a.tiff", tiffinfo={274: orientation})
    upright = read_values(tmp_path / "a.tiff").pixels
    turns = {2: np.fliplr, 3: lambda a: a[::-1, ::-1], 4: np.flipud, 5: lambda a: a.swapaxes(0, 1)}
    turns |= {6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}
    expected = np.asarray(plain.convert("L" if mode == "L" else "RGB")).reshape(17, 12, -1) / 127.5 - 1
    np.testing.assert_allclose(upright, turns.get(orientation, lambda a: a)(expected), atol=1e-6)
    if mode == "L":
        shape = upright.shape[:2]
        known = read_mask(tmp_path / "a.tiff", shape)
        np.testing.assert_array_equal(known, upright[..., 0] >= 128 / 127.5 - 1 - 1e-6)


def test_a_band_that_is_no_opacity_is_none(tmp_path):
    four = np.dstack([DEEP, DEEP[..., :1] // 3])
    tifffile.imwrite(tmp_path / "a.tiff", four, photometric="rgb", extrasamples=["unspecified"])
    for wide in (four, (four // 257).astype(np.uint8)):
        tifffile.imwrite(tmp_path / "a.tiff", wide, photometric="rgb", extrasamples=["unspecified"])
        with pytest.warns(UserWarning, match="1 channels beside its colours are left out"):
            np.testing.assert_allclose(open_picture(tmp_path / "a.tiff").numpy(), EXPECTED, atol=1e-6)
        task = open_task("image", {"signal": {"path": tmp_path / "a.tiff"}})
        assert task.out_features == 4
        np.testing.assert_allclose(task.pixels[..., :3].numpy(), EXPECTED, atol=1e-6)  # type: ignore[attr-defined]
    for wide in (four, (four // 257).astype(np.uint8)):
        tifffile.imwrite(tmp_path / "a.tiff", wide, photometric="rgb", extrasamples=["unassalpha"])
        alpha = (wide[..., 3:] / np.iinfo(wide.dtype).max).astype(np.float64)
        expected = 1 - 2 * alpha * (1 - NARROW / 255)
        np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), expected, atol=0.01)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_associated_alpha_is_not_multiplied_twice(tmp_path, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    values = np.array([[[0.5, 0.25, 0.0, 0.5], [0, 0, 0, 0], [1, 0.2, 0.4, 1]]])
    stored = (values * top).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tiff", stored, photometric="rgb", extrasamples=["assocalpha"])
    expected = 2 * (values[..., :3] + 1 - values[..., 3:]) - 1
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), expected, atol=0.02)


def test_cmyk_of_16_bits_is_as_that_of_8(tmp_path):
    inks = RNG.integers(0, 256, (9, 8, 4), np.uint8)
    tifffile.imwrite(tmp_path / "narrow.tiff", inks, photometric="separated")
    tifffile.imwrite(tmp_path / "deep.tiff", inks.astype(np.uint16) * 257, photometric="separated")
    narrow, deep = quietly(tmp_path / "narrow.tiff"), quietly(tmp_path / "deep.tiff")
    np.testing.assert_allclose(deep.numpy(), narrow.numpy(), atol=0.01)
    np.testing.assert_allclose(read_image(tmp_path / "deep.tiff"), read_image(tmp_path / "narrow.tiff"), atol=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_lab_becomes_colours(tmp_path, dtype):
    colours = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.2, 0.5, 0.7], [0, 0, 0]]])
    srgb = ImageCms.createProfile("sRGB")
    made = ImageCms.profileToProfile(
        Image.fromarray((colours * 255).astype(np.uint8)), srgb, ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab = np.concatenate([np.asarray(made)[..., :1] / 2.55, np.asarray(made)[..., 1:].view(np.int8)], -1)
    step = 1 if dtype == np.uint8 else 256
    top = np.iinfo(dtype).max
    stored = np.concatenate([np.rint(lab[..., :1] / 100 * top), np.rint(lab[..., 1:] * step) % (top + 1)], -1)
    write_tags(
        tmp_path / "a.tiff", stored.astype(dtype).tobytes(), shape=(1, 6, 3, 8 * stored.astype(dtype).itemsize),
        t262=(3, [8]),
    )  # fmt: skip
    np.testing.assert_allclose((quietly(tmp_path / "a.tiff").numpy() + 1) / 2, colours, atol=0.05)


def test_planes_apart_and_tiles(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), EXPECTED, atol=1e-6)
    for words in (
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "deflate", "predictor": True},
        {"rowsperstrip": 5},
    ):
        tifffile.imwrite(tmp_path / "a.tiff", DEEP, photometric="rgb", byteorder=">", **words)
        np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), EXPECTED, atol=1e-6)


def test_the_predictor_of_floats(tmp_path):
    values = RNG.random((6, 5)).astype(np.float32)
    planes = values.astype(">f4").view(np.uint8).reshape(6, 5, 4).transpose(0, 2, 1).reshape(6, -1)
    steps = np.diff(planes, axis=1, prepend=np.uint8(0)).astype(np.uint8)
    data = zlib.compress(steps.tobytes())
    write_tags(tmp_path / "a.tiff", data, shape=(6, 5, 1, 32), t259=(3, [8]), t317=(3, [3]), t339=(3, [3]))
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff")[..., 0].numpy(), 2 * values - 1, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["plain", "imagej", "ome", "shaped"])
def test_stacks_are_announced_on_every_path(tmp_path, dtype, kind):
    stack = RNG.integers(0, 2, (4, 30, 20)).astype(dtype)
    stack[:, 0, 0] = 1 if dtype == np.float32 else np.iinfo(dtype).max
    path = tmp_path / ("a.ome.tiff" if kind == "ome" else "a.tiff")
    words = {"plain": {"metadata": None}, "imagej": {"imagej": True}, "ome": {}, "shaped": {}}[kind]
    tifffile.imwrite(path, stack, photometric="minisblack", **words)
    _, text = said(path)
    assert "holds several pictures, the first is taken" in text
    for read in (read_image, lambda p: as_pixels(p)):
        with pytest.warns(UserWarning, match="several pictures"):
            read(path)


def test_reduced_pictures_and_masks_are_passed_over(tmp_path):
    small, mask = DEEP[:4, :4], np.zeros((17, 12), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tiff") as file:
        file.write(small, photometric="rgb", subfiletype=1)
        file.write(mask, photometric="minisblack", subfiletype=1)
        file.write(DEEP, photometric="rgb")
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), EXPECTED, atol=1e-6)
    with tifffile.TiffWriter(tmp_path / "a.tiff") as file:
        file.write(small.astype(np.uint8), photometric="rgb", subfiletype=1)
        file.write(NARROW, photometric="rgb")
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), EXPECTED, atol=1e-6)


def test_raw_photographs_are_refused(tmp_path):
    thumbnail = {"photometric": "rgb", "subfiletype": 1}
    with tifffile.TiffWriter(tmp_path / "a.dng") as file:
        file.write(NARROW, extratags=[(50706, 1, 4, b"\1\4\0\0", True)], subifds=1, **thumbnail)
        file.write(DEEP[..., 0], photometric=32803, subfiletype=0)
    with tifffile.TiffWriter(tmp_path / "a.tiff") as file:  # as a NEF has it
        file.write(NARROW, subifds=1, **thumbnail)
        file.write(DEEP[..., 0], photometric=32803, subfiletype=0)
    tifffile.imwrite(tmp_path / "mosaic.tiff", DEEP[..., 0], photometric=32803)
    tifffile.imwrite(tmp_path / "a.nef", NARROW, photometric="rgb")
    for name, head in {
        "a.cr2": b"II*\0\x10\0\0\0CR\2\0", "a.raf": b"FUJIFILMCCD-RAW 0201", "a.orf": b"IIRO\x08\0\0\0",
        "a.rw2": b"IIU\0\x18\0\0\0", "a.cr3": b"\0\0\0\x18ftypcrx ", "a.x3f": b"FOVb\0\0",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(head + bytes(200))
    names = [path.name for path in tmp_path.iterdir()]
    assert len(names) == 10
    for name in names:
        for read in (read_values, read_image, open_picture, lambda p: read_mask(p, (17, 12))):
            refused(lambda n=name, r=read: r(tmp_path / n), name, "raw photograph", "develop it first")


def test_what_is_not_known_is_refused_with_what_to_do(tmp_path):
    write_tags(tmp_path / "a.tiff", bytes(70), shape=(5, 7, 1, 16), t262=(3, [32844]))
    refused(lambda: open_picture(tmp_path / "a.tiff"), "LogL", "RGB")
    write_tags(tmp_path / "a.tiff", bytes(5 * 7 * 8), shape=(5, 7, 1, 64), t339=(3, [6]))
    refused(lambda: open_picture(tmp_path / "a.tiff"), "complex")
    write_tags(tmp_path / "a.tiff", bytes(70), shape=(5, 7, 1, 16), t259=(3, [34887]))
    refused(lambda: open_picture(tmp_path / "a.tiff"), "LERC", "deflate")
    tifffile.imwrite(
        tmp_path / "a.tiff", np.zeros((9, 8, 5), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    refused(lambda: open_picture(tmp_path / "a.tiff"), "1 or 3 channels, got 5")
    refused(lambda: read_image(tmp_path / "a.tiff"), "1 or 3 channels, got 5")


# PNG


def test_16_bit_pngs_with_a_transparent_colour(tmp_path):
    values = DEEP[:3, :4].copy()
    values[0, 0], values[1, 1] = (257, 300, 65535), (257, 300, 65534)
    png(tmp_path / "a.png", values, [(b"tRNS", struct.pack(">3H", 257, 300, 65535))])
    expected = values / 32767.5 - 1
    expected[0, 0] = 1
    np.testing.assert_allclose(quietly(tmp_path / "a.png").numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), 127.5 * (expected + 1), atol=0.51)
    png(tmp_path / "a.png", values[..., 0], [(b"tRNS", struct.pack(">H", 257))], kind=0)
    gray = values[..., 0] / 32767.5 - 1
    np.testing.assert_allclose(
        quietly(tmp_path / "a.png")[..., 0].numpy(), np.where(values[..., 0] == 257, 1, gray), atol=1e-6
    )
    np.testing.assert_allclose(
        read_image(tmp_path / "a.png")[..., 0], np.where(values[..., 0] == 257, 255, 127.5 * (gray + 1)), atol=0.51
    )


@pytest.mark.parametrize("size", [(17, 12), (1, 1), (2, 5), (9, 3)])
def test_interlaced_16_bits(tmp_path, size):
    part = DEEP[: size[0], : size[1]]
    png(tmp_path / "a.png", part, interlaced=1)
    np.testing.assert_allclose(quietly(tmp_path / "a.png").numpy(), EXPECTED[: size[0], : size[1]], atol=1e-6)


# Colour


def srgb_of_linear(values):
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * np.clip(values, 0, None) ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("bits", [8, 16])
def test_gamma_of_a_png(tmp_path, bits):
    values = NARROW if bits == 8 else DEEP
    png(tmp_path / "a.png", values, [(b"gAMA", struct.pack(">I", 100000))], bits=bits)
    found, text = said(tmp_path / "a.png")
    assert "converted from gamma 1 to sRGB" in text
    np.testing.assert_allclose((found.numpy() + 1) / 2, srgb_of_linear(NARROW / 255), atol=0.003)
    for parts in ([(b"gAMA", struct.pack(">I", 45455))], [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))]):
        png(tmp_path / "a.png", values, parts, bits=bits)
        np.testing.assert_allclose(quietly(tmp_path / "a.png").numpy(), EXPECTED, atol=1e-6)


def p3(values):
    """Display P3 to sRGB, by the matrices of both in XYZ under D65 (SMPTE EG 432-1, IEC 61966-2-1)."""
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[1.2249401, -0.2249404, 0], [-0.0420569, 1.0420571, 0], [-0.0196376, -0.0786361, 1.0982735]])
    return srgb_of_linear((linear @ matrix.T).clip(0, 1))


@pytest.mark.parametrize("bits", [8, 16])
def test_code_points_of_a_png(tmp_path, bits):
    values = NARROW if bits == 8 else DEEP
    png(tmp_path / "a.png", values, [(b"cICP", bytes([12, 13, 0, 1]))], bits=bits)
    found, text = said(tmp_path / "a.png")
    assert "converted from Display P3 to sRGB" in text
    np.testing.assert_allclose((found.numpy() + 1) / 2, p3(NARROW / 255), atol=0.005)
    png(tmp_path / "a.png", values, [(b"cICP", bytes([1, 13, 0, 1]))], bits=bits)
    np.testing.assert_allclose(quietly(tmp_path / "a.png").numpy(), EXPECTED, atol=1e-6)
    png(tmp_path / "a.png", values, [(b"cICP", bytes([9, 16, 0, 1]))], bits=bits)
    assert "high dynamic range" in said(tmp_path / "a.png")[1]


def icc(primaries, gamma, name="Wide"):
    """An ICC profile of primaries and one power, as bytes."""
    space = spaces.space_of_primaries(name, primaries)
    assert space.to_xyz is not None

    def xyz(column):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in column))

    text = name.encode("ascii")
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" + bytes(78)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    parts = {b"desc": described, b"wtpt": xyz((0.9642, 1, 0.8249)), b"cprt": b"text\0\0\0\0none\0"}
    parts |= {c + b"XYZ": xyz(space.to_xyz[:, i]) for i, c in enumerate((b"r", b"g", b"b"))}
    parts |= {c + b"TRC": curve for c in (b"r", b"g", b"b")}
    table, body, place = struct.pack(">I", len(parts)), b"", 132 + 12 * len(parts)
    for key, data in parts.items():
        data = data.ljust(-(-len(data) // 4) * 4, b"\0")
        table += key + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12s4s", place + len(body), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ", bytes(12), b"acsp"
    )
    return head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061) + bytes(48) + table + body


PROPHOTO = icc((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585), 1.8, "ProPhoto")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_colour_profiles_are_applied(tmp_path, ending):
    words = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(ending, {})
    Image.fromarray(NARROW).save(tmp_path / f"a.{ending}", icc_profile=PROPHOTO, **words)
    with Image.open(tmp_path / f"a.{ending}") as image:
        stored = image.convert("RGB")
        picture = as_pixels(image)
    source = ImageCms.getOpenProfile(io.BytesIO(PROPHOTO))
    expected = np.asarray(ImageCms.profileToProfile(stored, source, ImageCms.createProfile("sRGB")))
    with pytest.warns(UserWarning, match="converted from ProPhoto to sRGB"):
        found = open_picture(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(127.5 * (found.numpy() + 1), expected, atol=1)
    torch.testing.assert_close(picture, found)
    with pytest.warns(UserWarning, match="converted from ProPhoto"):
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}"), expected)


def test_profiles_of_16_bits_are_as_those_of_8(tmp_path):
    Image.fromarray(NARROW).save(tmp_path / "narrow.png", icc_profile=PROPHOTO)
    png(tmp_path / "deep.png", DEEP, [(b"iCCP", b"x\0\0" + zlib.compress(PROPHOTO))])
    tifffile.imwrite(tmp_path / "deep.tiff", DEEP, photometric="rgb", iccprofile=PROPHOTO)
    expected = said(tmp_path / "narrow.png")[0]
    for name in ("deep.png", "deep.tiff"):
        found, text = said(tmp_path / name)
        assert "converted from ProPhoto" in text
        np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=0.02)


def test_profiles_of_srgb_change_nothing_and_say_nothing(tmp_path):
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(NARROW).save(tmp_path / "a.png", icc_profile=plain)
    assert torch.equal(quietly(tmp_path / "a.png"), quietly_plain(tmp_path))
    png(tmp_path / "a.png", DEEP, [(b"iCCP", b"x\0\0" + zlib.compress(plain))])
    np.testing.assert_allclose(quietly(tmp_path / "a.png").numpy(), EXPECTED, atol=1e-6)


def quietly_plain(tmp_path):
    Image.fromarray(NARROW).save(tmp_path / "plain.png")
    return quietly(tmp_path / "plain.png")


def test_transparency_and_turns_go_with_a_profile(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = RNG.integers(0, 256, (17, 12, 1), np.uint8)
    Image.fromarray(np.dstack([NARROW, alpha])).save(tmp_path / "a.png", icc_profile=PROPHOTO, exif=exif)
    source = ImageCms.getOpenProfile(io.BytesIO(PROPHOTO))
    colours = np.asarray(ImageCms.profileToProfile(Image.fromarray(NARROW), source, ImageCms.createProfile("sRGB")))
    expected = np.rot90(255 - alpha / 255 * (255.0 - colours), -1)
    np.testing.assert_allclose(127.5 * (said(tmp_path / "a.png")[0].numpy() + 1), expected, atol=1.5)


def test_a_broken_profile_is_said_and_costs_nothing(tmp_path):
    Image.fromarray(NARROW).save(tmp_path / "a.png", icc_profile=b"no profile" * 30)
    found, text = said(tmp_path / "a.png")
    assert "profile is not applied" in text
    assert torch.equal(found, quietly_plain(tmp_path))


def test_cameras_that_say_adobe_rgb(tmp_path):
    exif = Image.Exif()
    with suppress(KeyError):  # of Pillow 11.0, which makes no new directory
        exif.get_ifd(0xA005)[1] = "R03"
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8)).save(tmp_path / "a.jpg", exif=exif, quality=100)
    with Image.open(tmp_path / "a.jpg") as image:
        if 0xA005 not in image.getexif().get_ifd(0x8769):
            pytest.skip("Pillow 11.0 cannot write what cameras write")
    with pytest.warns(UserWarning, match="Adobe RGB"):
        found = open_picture(tmp_path / "a.jpg")
    space = spaces.space_of_primaries("", spaces.ADOBE, lambda v: v ** (563 / 256))
    expected = 255 * space.to_srgb(np.array([200, 100, 50]) / 255)
    np.testing.assert_allclose(127.5 * (found[8, 8].numpy() + 1), expected, atol=3)


# Values that are missing


def dem(path, nodata="-9999", dtype=np.float32):
    values = np.linspace(0, 1, 32 * 24).reshape(32, 24).astype(dtype)
    values[4:9, 6:12] = float(nodata)
    tifffile.imwrite(path, values, photometric="minisblack", extratags=[(42113, 2, len(nodata) + 1, nodata, True)])
    return values


@pytest.mark.parametrize("nodata", ["-9999", "nan", "-3.4028234663852886e+38"])
def test_pixels_without_a_value_are_not_known(tmp_path, nodata):
    values = dem(tmp_path / "a.tiff", nodata)
    holes = np.zeros((32, 24), bool)
    holes[4:9, 6:12] = True
    with pytest.warns(UserWarning, match="30 of 768 pixels have no value"):
        task = open_task("image", {"signal": {"path": tmp_path / "a.tiff"}})
    np.testing.assert_array_equal(task.known.numpy(), ~holes)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        task.pixels[..., 0].numpy()[~holes], 2 * values[~holes] - 1, atol=1e-6  # type: ignore[attr-defined]
    )  # fmt: skip
    field = task.windowed_field(task.defaults.network.replace(kind="windowed"))
    found = task.evaluate(field)
    assert found["psnr"] > 50
    for name in ("poisson", "edit"):
        key = "path" if name == "poisson" else "source"
        refused(lambda n=name, k=key: open_task(n, {"signal": {k: tmp_path / "a.tiff"}}), "no value", "fill them")
    refused(lambda: read_image(tmp_path / "a.tiff"), "30 of 768 pixels have no value")


def test_a_mask_comes_before_range_and_nan(tmp_path):
    values = np.linspace(0, 1, 32 * 24).reshape(32, 24).astype(np.float32)
    values[:3] = np.nan
    values[3:6] = 1e6
    tifffile.imwrite(tmp_path / "a.tiff", values, photometric="minisblack")
    known = np.zeros((32, 24), np.uint8)
    known[6:] = 255
    Image.fromarray(known).save(tmp_path / "mask.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, mask = open_masked(tmp_path / "a.tiff", tmp_path / "mask.png")
    assert mask is not None
    np.testing.assert_array_equal(mask.numpy(), known > 0)
    np.testing.assert_allclose(pixels[6:, :, 0].numpy(), 2 * values[6:] - 1, atol=1e-6)
    small, few = open_masked(tmp_path / "a.tiff", tmp_path / "mask.png", size=(16, 12))
    assert few is not None
    np.testing.assert_allclose(
        small[4:, :, 0].numpy(), 2 * values[6:].reshape(13, 2, 12, 2).mean((1, 3))[1:] - 1, atol=0.02
    )
    refused(lambda: open_picture(tmp_path / "a.tiff"), "72 of 768", "NaN", "mask")


def test_nodata_of_8_bits(tmp_path):
    values = NARROW.copy()
    values[2, 3] = 0
    values[values == 0] = 1
    values[2, 3] = 0
    tifffile.imwrite(tmp_path / "a.tiff", values, photometric="rgb", extratags=[(42113, 2, 2, "0", True)])
    with pytest.warns(UserWarning, match="1 of 204 pixels"):
        found = open_values(tmp_path / "a.tiff", holes=True)
    assert found.valid is not None
    assert found.valid.sum() == 203
    assert not found.valid[2, 3]


# FITS and NumPy


def write_fits(path, values, bits, **cards):
    values = np.ascontiguousarray(values[::-1])
    words = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": values.shape[1], "NAXIS2": values.shape[0], **cards}
    head = "".join(f"{key:<8}= {value!s:>20}".ljust(80) for key, value in words.items()) + "END".ljust(80)
    data = values.tobytes()
    path.write_bytes(
        head.ljust(-(-len(head) // 2880) * 2880).encode() + data.ljust(-(-len(data) // 2880) * 2880, b"\0")
    )


def test_fits_has_the_values_of_its_header(tmp_path):
    whole = DEEP[..., 0]
    write_fits(tmp_path / "a.fits", (whole.astype(int) - 32768).astype(">i2"), 16, BZERO=32768, BSCALE=1)
    np.testing.assert_allclose(quietly(tmp_path / "a.fits")[..., 0].numpy(), EXPECTED[..., 0], atol=1e-6)
    np.testing.assert_allclose(read_image(tmp_path / "a.fits")[..., 0], NARROW[..., 0], atol=0.51)
    signed = RNG.integers(-300, 300, (8, 9)).astype(">i2")
    write_fits(tmp_path / "a.fits", signed, 16)
    found = quietly(tmp_path / "a.fits", range=(-300, 300))
    np.testing.assert_allclose(found[..., 0].numpy(), signed / 300, atol=1e-6)
    write_fits(tmp_path / "a.fits", signed, 16, BZERO=10, BSCALE="0.5")
    np.testing.assert_allclose(
        quietly(tmp_path / "a.fits", range=(-200, 200))[..., 0].numpy(), (10 + 0.5 * signed) / 200, atol=1e-6
    )
    signed[2, 3] = -32768
    write_fits(tmp_path / "a.fits", signed, 16, BLANK=-32768)
    with pytest.warns(UserWarning, match="1 of 72 pixels have no value"):
        assert not open_values(tmp_path / "a.fits", holes=True, range=(-300, 300)).valid[2, 3]  # type: ignore[index]
    write_fits(tmp_path / "a.fits", NARROW[..., 0], 8)
    np.testing.assert_allclose(quietly(tmp_path / "a.fits")[..., 0].numpy(), EXPECTED[..., 0], atol=1e-6)
    write_fits(tmp_path / "a.fits", np.zeros((0, 0)), 8, NAXIS=0)
    refused(lambda: open_picture(tmp_path / "a.fits"), "a.fits", "first part", "funpack")


def test_arrays_in_numpy_files(tmp_path):
    for values in (NARROW, DEEP, (NARROW / 255).astype(np.float32), NARROW[..., 0]):
        np.save(tmp_path / "a.npy", values)
        found = quietly(tmp_path / "a.npy").numpy()
        np.testing.assert_allclose(found, EXPECTED if values.ndim == 3 else EXPECTED[..., :1], atol=1e-6)
    np.save(tmp_path / "a.npy", np.zeros((3, 40, 50)))
    refused(lambda: open_picture(tmp_path / "a.npy"), "channels last", "transpose")
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4, 5)))
    refused(lambda: open_picture(tmp_path / "a.npy"), "of numbers", "(2, 3, 4, 5)")
