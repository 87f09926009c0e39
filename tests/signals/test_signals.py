"""Reading and writing one image: every way a picture is stored, every way a file can be wrong."""

import numpy as np
import pytest
from PIL import Image

from hypersiren.signals.files import SignalError
from hypersiren.signals.image import files as signals
from hypersiren.signals.image.files import SizeError, convert_image, fit_image, read_image, write_image


def picture(h: int, w: int, c: int = 3) -> np.ndarray:
    """A smooth picture without symmetry."""
    y, x = np.mgrid[0:h, 0:w] / max(h, w)
    planes = [x, y, np.sin(5 * x * y) ** 2][:c]
    return np.rint(255 * np.stack(planes, -1)).astype(np.uint8)


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_written_pixels_are_read_again(tmp_path, c, dtype):
    pixels = picture(9, 13, c)
    given = pixels if dtype == np.uint8 else (pixels / 255).astype(dtype)
    write_image(tmp_path / "a.png", given)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", gray=c == 1), pixels)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_gray_and_colour_files_can_be_read_either_way(tmp_path):
    write_image(tmp_path / "gray.png", picture(8, 8, 1))
    write_image(tmp_path / "rgb.png", picture(8, 8, 3))
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), picture(8, 8, 1).repeat(3, -1))
    luma = picture(8, 8, 3) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(read_image(tmp_path / "rgb.png", gray=True)[..., 0], luma, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff", "jpg"])
def test_exif_orientation_brings_the_picture_upright(tmp_path, orientation, ending):
    upright = picture(40, 60)
    # What a camera that was held otherwise stores: the inverse of what the tag asks for.
    store = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(store(upright)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{ending}", exif=exif, **({"quality": 100, "subsampling": 0} if ending == "jpg" else {}))
    np.testing.assert_allclose(read_image(tmp_path / f"a.{ending}").astype(int), upright, atol=4 * (ending == "jpg"))
    small = read_image(tmp_path / f"a.{ending}", size=(4, 6))
    np.testing.assert_allclose(small.astype(int), fit_image(upright, (4, 6)), atol=6 * (ending == "jpg"))


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, ending):
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / f"a.{ending}")
    expected = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}", gray=True), expected)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}"), expected.repeat(3, -1))


def test_floats_of_0_to_1_are_scaled_and_what_has_no_range_is_refused(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "f.tiff")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tiff", gray=True), np.arange(256).reshape(16, 16, 1))
    for wide in (values * np.float32(1.0001), values - 0.5, (values * 9000).astype(np.int32)):
        Image.fromarray(wide).save(tmp_path / "g.tiff")
        with pytest.raises(SignalError, match=r"g\.tiff: expected .*, got (float|int)32 from .*; store it in 8"):
            read_image(tmp_path / "g.tiff")


def test_transparency_lies_over_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (200, 0, 0, 255)  # opaque
    rgba[0, 1] = (200, 0, 0, 0)  # clear
    rgba[1, 0] = (0, 0, 0, 51)  # a fifth of black
    rgba[1, 1] = (0, 0, 200, 255)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    expected = [[[200, 0, 0], [255, 255, 255]], [[204, 204, 204], [0, 0, 200]]]
    assert read_image(tmp_path / "rgba.png").tolist() == expected

    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    palette.save(tmp_path / "clear.png", transparency=1)
    assert read_image(tmp_path / "clear.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]

    Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8), "LA").save(tmp_path / "la.png")
    assert read_image(tmp_path / "la.png", gray=True).tolist() == [[[100], [255]]]


def test_one_bit_cmyk_and_animations(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "1.png")
    assert read_image(tmp_path / "1.png", gray=True).tolist() == [[[255], [0]]]
    assert read_image(tmp_path / "1.png").shape == (1, 2, 3)

    colours = np.full((16, 16, 3), (250, 128, 20), np.uint8)
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    np.testing.assert_allclose(read_image(tmp_path / "cmyk.jpg").astype(int), colours, atol=6)
    assert read_image(tmp_path / "cmyk.jpg", gray=True).shape == (16, 16, 1)

    first, second = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_the_central_crop_is_central_and_antialiased():
    # Outside the largest central rectangle all is white; none of it may leak in.
    wide = np.full((20, 60, 3), 255, np.uint8)
    wide[:, 20:40] = (10, 20, 30)
    assert (fit_image(wide, (5, 5)) == (10, 20, 30)).all()
    assert (fit_image(wide.swapaxes(0, 1).copy(), (5, 5)) == (10, 20, 30)).all()
    # A fine chequerboard averages to gray instead of aliasing to black or white.
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(fit_image(board, (8, 8)).astype(int) - 127).max() < 12
    # Averages stay: reduced by 8 a smooth picture equals its block means.
    smooth = picture(64, 96)
    means = smooth.reshape(8, 8, 12, 8, 3).mean((1, 3))
    np.testing.assert_allclose(fit_image(smooth, (8, 12))[1:-1, 1:-1], means[1:-1, 1:-1], atol=5)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 3), (31, 97), (178, 218), (1000, 999)])
@pytest.mark.parametrize("size", [(32, 32), (1, 1), (17, 5), (3, 100)])
def test_any_image_comes_to_any_size(h, w, size):
    fitted = fit_image(np.full((h, w, 1), 77, np.uint8), size)
    assert fitted.shape == (*size, 1)
    assert (fitted == 77).all()


def test_the_right_size_is_left_alone_and_may_be_demanded(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", pixels)
    for crop in ("center", "none"):
        np.testing.assert_array_equal(read_image(tmp_path / "a.png", size=(5, 7), crop=crop), pixels)
    with pytest.raises(SizeError, match=r"a\.png: expected an image of 7 x 5 .*, got 5 x 7"):
        read_image(tmp_path / "a.png", size=(7, 5), crop="none")
    with pytest.raises(Exception, match="centre"):
        read_image(tmp_path / "a.png", size=(7, 5), crop="centre")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1 x 1"):
        fit_image(pixels, (0, 4))


def test_reducing_while_decoding_gives_the_same_picture(tmp_path, monkeypatch):
    write_image(tmp_path / "a.jpg", picture(600, 900))
    fast = read_image(tmp_path / "a.jpg", size=(32, 32))
    monkeypatch.setattr(signals, "_reduce_while_decoding", lambda image, size: None)
    np.testing.assert_allclose(fast.astype(int), read_image(tmp_path / "a.jpg", size=(32, 32)), atol=3)


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.png").write_text("I am not a picture")
    (tmp_path / "empty.png").touch()
    write_image(tmp_path / "whole.jpg", picture(200, 200))
    write_image(tmp_path / "whole.png", np.random.default_rng(0).random((50, 50, 3)))
    for ending in ("jpg", "png"):
        data = (tmp_path / f"whole.{ending}").read_bytes()
        (tmp_path / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    for name, reason in {
        "missing.png": "no such file",
        ".": "a folder, not an image",
        "text.png": "not an image that Pillow can read",
        "empty.png": "empty file",
        "cut.jpg": "broken or truncated image",
        "cut.png": "broken or truncated image",
    }.items():
        with pytest.raises(SignalError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_forbidden_and_enormous_files(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", picture(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SignalError, match="too many pixels"):
        read_image(tmp_path / "a.png")

    def forbid(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Image, "open", forbid)
    with pytest.raises(SignalError, match=r"cannot be read \(Permission denied\)"):
        read_image(tmp_path / "a.png")


def test_what_cannot_be_written(tmp_path, monkeypatch):
    pixels = picture(4, 4)
    with pytest.raises(SignalError, match="No such file or directory"):
        write_image(tmp_path / "no" / "a.png", pixels)
    with pytest.raises(SignalError, match=r"expected the ending of an image format, such as .png, got '.xyz'"):
        write_image(tmp_path / "a.xyz", pixels)
    for wrong in (pixels[..., :2], pixels.astype(int), pixels[0, 0]):
        with pytest.raises(ValueError, match=r"expected .* uint8 pixels, got"):
            write_image(tmp_path / "a.png", wrong)
    write_image(tmp_path / "a.png", pixels)

    def fill_the_disk(*_, **__):
        raise OSError(28, "No space left on device")

    # The image that was there stays, and nothing else is left behind.
    monkeypatch.setattr(Image.Image, "save", fill_the_disk)
    with pytest.raises(SignalError, match="No space left on device"):
        write_image(tmp_path / "a.png", picture(8, 8))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert read_image(tmp_path / "a.png").shape == (4, 4, 3)


def test_any_mode_converts():
    for mode in (
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBa",
        "RGBX",
        "CMYK",
        "YCbCr",
        "HSV",
        "I;16",
        "F",
    ):
        for gray in (False, True):
            assert convert_image(Image.new(mode, (2, 2)), gray=gray).mode == ("L" if gray else "RGB"), mode
