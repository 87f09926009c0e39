"""Pictures in the precision of their files, their ranges, and masks: by the right values."""

import struct
import warnings
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile
import torch

from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import read_image
from hypersiren.signals.image.masks import read_mask
from hypersiren.signals.image.opening import as_pixels, open_masked, open_picture
from hypersiren.tasks.registry import open_task

GENERATOR = np.random.default_rng(0)
GRAY = GENERATOR.integers(0, 65536, (9, 7), dtype=np.uint16)
COLOUR = GENERATOR.integers(0, 65536, (9, 7, 3), dtype=np.uint16)


def quietly(path, **words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return open_picture(path, **words)


def said(path, **words):
    """The picture, and the one line that was said of it."""
    with pytest.warns(UserWarning, match="tiff|png|gif") as heard:
        pixels = open_picture(path, **words)
    assert len(heard) == 1
    assert "\n" not in str(heard[0].message)
    return pixels, str(heard[0].message)


def write_png(path, values, kind):
    """A PNG of 16 bits, of a kind of colours (2, 4, 6) that Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    size = 2 * values.shape[2]
    pixels = np.ascontiguousarray(values.astype(">u2")).view(np.uint8).reshape(len(values), -1).astype(int)
    rows, above = [], np.zeros_like(pixels[0])
    for i, row in enumerate(pixels):  # one filter after the other, as the specification has them
        left, corner = (np.concatenate([np.zeros(size, int), line[:-size]]) for line in (row, above))
        paeth = [
            min((a, b, c), key=lambda v, p=a + b - c: abs(v - p)) for a, b, c in zip(left, above, corner, strict=True)
        ]
        guess = [0, left, above, (left + above) // 2, np.array(paeth)][i % 5]
        rows.append(bytes([i % 5]) + ((row - guess) % 256).astype(np.uint8).tobytes())
        above = row
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def write_wide(path, values):
    """16-bit pixels in the format of the ending."""
    if path.suffix == ".tiff":
        tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack", compression="deflate")
    elif path.suffix == ".ppm":
        height, width = values.shape[:2]
        path.write_bytes(f"P6\n# 16 bits\n{width} {height}\n65535\n".encode() + values.astype(">u2").tobytes())
    elif values.ndim == 3:
        write_png(path, values, 2)
    else:
        PIL.Image.fromarray(values).save(path)


@pytest.mark.parametrize("name", ["g.png", "g.tiff", "g.pgm", "c.png", "c.tiff", "c.ppm"])
def test_16_bits_keep_their_precision(tmp_path, name):
    values = GRAY if name.startswith("g") else COLOUR
    write_wide(tmp_path / name, values)
    expected = (values.astype(np.float64) / 32767.5 - 1).reshape(9, 7, -1)
    pixels = quietly(tmp_path / name)
    assert pixels.dtype == torch.float32
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-7)
    if values is COLOUR:
        gray = expected @ [0.299, 0.587, 0.114]
        np.testing.assert_allclose(quietly(tmp_path / name, gray=True).squeeze(2).numpy(), gray, atol=1e-6)
    small = quietly(tmp_path / name, size=(4, 4))
    bytes_ = read_image(tmp_path / name, gray=None, size=(4, 4)) / 127.5 - 1
    np.testing.assert_allclose(small.numpy(), bytes_, atol=0.02)  # resized as 8 bits are


def test_16_bit_transparency_lies_over_white(tmp_path):
    values = np.array([[[0, 65535], [0, 0], [0, 13107]]], np.uint16)
    write_png(tmp_path / "a.png", values, 4)
    np.testing.assert_allclose(quietly(tmp_path / "a.png").flatten().numpy(), [-1, 1, 0.6], atol=1e-6)
    tifffile.imwrite(tmp_path / "a.tiff", values[..., [0, 0, 0, 1]], photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff")[0, :, 0].numpy(), [-1, 1, 0.6], atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_wide_pictures_are_turned_upright(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray((GRAY >> 8).astype(np.uint8)).save(tmp_path / "narrow.png", exif=exif)
    PIL.Image.fromarray(GRAY >> 8 << 8).save(tmp_path / "a.png", exif=exif)
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tiff", GRAY >> 8 << 8, photometric="minisblack", extratags=tags)
    expected = open_picture(tmp_path / "narrow.png") * 255 / 256  # 255 << 8 of 65535 is just below white
    for name in ("a.png", "a.tiff"):
        torch.testing.assert_close(quietly(tmp_path / name), expected, atol=5e-3, rtol=0)


def test_floats_keep_their_precision_and_colours(tmp_path):
    values = np.linspace(0, 1, 63 * 3, dtype=np.float32).reshape(9, 7, 3)
    for dtype in (np.float32, np.float64):
        tifffile.imwrite(tmp_path / "a.tiff", values.astype(dtype), photometric="rgb")
        np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), 2 * values - 1, atol=1e-7)
    tifffile.imwrite(tmp_path / "a.tiff", values[..., 0], photometric="minisblack")
    np.testing.assert_allclose(quietly(tmp_path / "a.tiff").numpy(), 2 * values[..., :1] - 1, atol=1e-7)
    assert len(np.unique(read_image(tmp_path / "a.tiff"))) > 50  # sets of images hold bytes


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1.0001, 63, dtype=np.float32),
        np.linspace(-0.5, 0.5, 63, dtype=np.float32),
        np.linspace(0, 255, 63, dtype=np.float32),
        np.linspace(0, 70000, 63).astype(np.int32),
        np.linspace(-900, 3000, 63).astype(np.int16),
        np.linspace(2**31, 2**32 - 1, 63).astype(np.uint32),
    ],
    ids=lambda values: f"{values.dtype}-{values[0]:g}",
)
def test_what_has_no_range_by_its_type_is_taken_from_least_to_most_and_said(tmp_path, values):
    tifffile.imwrite(tmp_path / "a.tiff", values.reshape(9, 7), photometric="minisblack")
    pixels, text = said(tmp_path / "a.tiff")
    low, high = float(values[0]), float(values[-1])
    expected = 2 * (values.astype(np.float64) - low) / (high - low) - 1
    np.testing.assert_allclose(pixels.flatten().numpy(), expected, atol=1e-6)
    assert f"values of {values.dtype} from {low:.7g} to {high:.7g} are taken as black to white" in text
    assert "--signal.range" in text
    middle = (low + high) / 2
    pixels, text = said(tmp_path / "a.tiff", range=(low, middle))
    np.testing.assert_allclose(pixels.flatten().numpy(), np.minimum(2 * expected + 1, 1), atol=1e-5)
    assert "31 of 63 values" in text
    assert "clipped" in text
    torch.testing.assert_close(quietly(tmp_path / "a.tiff", range=(low, high)), said(tmp_path / "a.tiff")[0])


def test_depth_in_mm_is_said_to_be_nearly_black(tmp_path):
    PIL.Image.fromarray((GRAY % 4000).astype(np.uint16)).save(tmp_path / "depth.png")
    pixels, text = said(tmp_path / "depth.png")
    assert pixels.max() < -0.87
    assert "nearly black" in text
    assert "--signal.range" in text
    assert quietly(tmp_path / "depth.png", range=(0, 4000)).max() > 0.98
    task = open_task("image", {"signal": {"path": tmp_path / "depth.png", "range": "0,4000"}})
    assert task.pixels.max() > 0.98  # type: ignore[attr-defined]


def test_what_is_not_finite_is_counted_and_what_is_constant_refused(tmp_path):
    values = np.linspace(0, 1, 63, dtype=np.float32).reshape(9, 7)
    values[0, :2], values[3, 3] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tiff", values, photometric="minisblack")
    for read in (open_picture, read_image):
        with pytest.raises(SignalError, match=r"a\.tiff: expected finite values, got 3 of 63 that are NaN"):
            read(tmp_path / "a.tiff")
    tifffile.imwrite(tmp_path / "a.tiff", np.full((4, 4), 7, np.float32), photometric="minisblack")
    with pytest.raises(SignalError, match=r"--signal\.range"):
        open_picture(tmp_path / "a.tiff")


def test_a_picture_of_pil_of_many_bits_is_as_its_file(tmp_path):
    PIL.Image.fromarray(GRAY).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tiff", GRAY.astype(np.float32), photometric="minisblack")
    for name in ("a.png", "a.tiff"):
        with PIL.Image.open(tmp_path / name) as picture:
            found = as_pixels(picture, range=(0, 65535))
            torch.testing.assert_close(found, open_picture(tmp_path / name, range=(0, 65535)))
    narrow = PIL.Image.fromarray(np.array([[0, 100]], np.uint8))
    assert as_pixels(narrow, range=(0, 100)).flatten().tolist() == [-1, 1]


def test_a_range_is_two_ascending_numbers(tmp_path):
    PIL.Image.fromarray(GRAY).save(tmp_path / "a.png")
    for wrong in ((1, 0), (0, np.inf), (2, 2)):
        with pytest.raises(SignalError, match="expected range"):
            open_picture(tmp_path / "a.png", range=wrong)
    with pytest.raises(ValueError, match=r"signal\.range|range"):
        open_task("image", {"signal": {"path": tmp_path / "a.png", "range": "5,1"}})


def test_several_pictures_in_a_file_are_said(tmp_path):
    first, second = (PIL.Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    pixels, text = said(tmp_path / "a.gif")
    assert pixels[0, 0].tolist() == [1, -1, -1]
    assert "first" in text


def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 10**6)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(SignalError, match=r"bomb\.png: would take 1\.9 GiB .* HYPERSIREN_LIMIT=2"):
        open_picture(tmp_path / "bomb.png")
    wide = bomb.replace(header, header[:8] + b"\x10" + header[9:])
    (tmp_path / "bomb.png").write_bytes(wide)
    with pytest.raises(SignalError, match=r"bomb\.png: would take 2\.8 GiB"):
        open_picture(tmp_path / "bomb.png")
    for mode, size in (("L", 4 * 400), ("P", 3 * 4 * 400), ("1", 4 * 400), ("RGBA", 3 * 4 * 400)):
        PIL.Image.new(mode, (20, 20)).save(tmp_path / "a.png")
        monkeypatch.setenv("HYPERSIREN_LIMIT", f"{(size + 1) / 2**30}")
        open_picture(tmp_path / "a.png")
        monkeypatch.setenv("HYPERSIREN_LIMIT", f"{(size - 1) / 2**30}")
        with pytest.raises(SignalError, match="HYPERSIREN_LIMIT"):
            open_picture(tmp_path / "a.png")
    PIL.Image.fromarray(GRAY).save(tmp_path / "a.png")
    monkeypatch.setenv("HYPERSIREN_LIMIT", "1e-8")
    with pytest.raises(SignalError, match="HYPERSIREN_LIMIT"):
        open_picture(tmp_path / "a.png")


def test_known_is_what_is_opaque_and_bright(tmp_path):
    cells = np.array([[[255, 255], [128, 255], [127, 255], [255, 127], [255, 128], [0, 0]]], np.uint8)
    PIL.Image.fromarray(cells, "LA").save(tmp_path / "la.png")
    expected = [[True, True, False, False, True, False]]
    assert read_mask(tmp_path / "la.png", (1, 6)).tolist() == expected
    PIL.Image.fromarray(cells[..., [0, 0, 0, 1]], "RGBA").save(tmp_path / "rgba.png")
    assert read_mask(tmp_path / "rgba.png", (1, 6)).tolist() == expected
    PIL.Image.fromarray(cells[..., 0]).save(tmp_path / "l.png")
    assert read_mask(tmp_path / "l.png", (1, 6)).tolist() == [[True, True, False, True, True, False]]
    PIL.Image.fromarray(cells[..., 0] > 127).save(tmp_path / "1.png")
    assert read_mask(tmp_path / "1.png", (1, 6)).tolist() == [[True, True, False, True, True, False]]
    PIL.Image.fromarray(cells[..., 0].astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert read_mask(tmp_path / "16.png", (1, 6)).tolist() == [[True, True, False, True, True, False]]


def test_a_mask_of_all_or_nothing_is_refused_with_what_was_found(tmp_path):
    PIL.Image.fromarray((GRAY >> 8).astype(np.uint8)).save(tmp_path / "a.png")
    for colour, words in {
        (255, 255): "every pixel is known: the mask has 0 % transparent, values from 255 to 255",
        (255, 0): "no pixel is known: the mask has 100 % transparent, values from 255 to 255",
        (1, 255): "no pixel is known: the mask has 0 % transparent, values from 1 to 1",
    }.items():
        PIL.Image.new("LA", (7, 9), colour).save(tmp_path / "mask.png")
        with pytest.raises(SignalError, match=words) as caught:
            open_masked(tmp_path / "a.png", tmp_path / "mask.png")
        assert "\n" not in str(caught.value)
    PIL.Image.new("L", (7, 9), 255).save(tmp_path / "mask.png")
    _, known = open_masked(tmp_path / "a.png", tmp_path / "mask.png", whole=True)
    assert known is not None
    assert known.all()
