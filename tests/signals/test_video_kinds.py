"""Videos of the field against what one would guess: each kind by its right value."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from hypersiren.signals.video.files import read_video
from hypersiren.tasks.registry import open_task

av = pytest.importorskip("av")

RNG = np.random.default_rng(2)
BLOCKS = np.kron(RNG.integers(30, 226, (6, 4, 6, 4), np.uint8), np.ones((1, 16, 16, 1), np.uint8))


def encoded(path, codec, pixels, frames=BLOCKS, rate=25, form=None, options=None, space=None, span=None):
    """A video of (T, H, W, 3 or 4) frames, or of raw planes if `pixels` begins with a minus."""
    with av.open(path, "w", format=form) as container:
        stream = container.add_stream(codec, rate, options or {})
        raw = pixels.startswith("-")
        stream.pix_fmt = pixels.lstrip("-")
        stream.height, stream.width = frames.shape[2:] if raw else frames.shape[1:3]
        if space is not None:
            stream.codec_context.colorspace = space
        if span is not None:
            stream.codec_context.color_range = span
        for each in frames:
            source = stream.pix_fmt if raw else "rgba" if each.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(each), format=source)
            if raw:
                frame.colorspace, frame.color_range = space or 2, span or 1
            else:
                frame = frame.reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def quietly(path, **words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_video(path, **words)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "slack"),
    [
        ("a.mov", "prores_ks", "yuva444p10le", 8),
        ("a.mov", "png", "rgba", 1),
        ("a.mov", "qtrle", "argb", 1),
        ("a.mkv", "ffv1", "bgra", 1),
        ("a.webm", "libvpx-vp9", "yuva420p", 12),
        ("a.webm", "libvpx", "yuva420p", 16),
    ],
)
def test_transparency_lies_over_white(tmp_path, name, codec, pixels, slack):
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV has no {codec} here")
    frames = BLOCKS.copy()
    frames[..., :3] = frames[..., :1]  # gray, whose chroma is not subsampled
    try:
        encoded(tmp_path / name, codec, pixels, frames, options={"crf": "1", "b:v": "5M"} if "vpx" in codec else {})
    except av.FFmpegError:
        pytest.skip(f"PyAV cannot write {codec} with transparency")
    alpha = frames[..., 3:] / 255
    expected = 255 - alpha * (255.0 - frames[..., :3])
    found = quietly(tmp_path / name)
    assert np.abs(found.pixels - expected).mean() < slack / 4
    assert np.quantile(np.abs(found.pixels - expected), 0.95) <= slack
    picture = Image.fromarray(frames[0])
    picture.save(tmp_path / "a.png")
    np.testing.assert_allclose(
        open_task("image", {"signal": {"path": tmp_path / "a.png"}}).truth * 255, expected[0], atol=1.5
    )  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "codec", "rate", "form", "size"),
    [
        ("a.dv", "dvvideo", 25, "dv", (576, 720)),
        ("a.h264", "libx264", 10, "h264", (64, 96)),
        ("a.m4v", "mpeg4", 10, "m4v", (64, 96)),
        ("a.ivf", "libvpx-vp9", 10, "ivf", (64, 96)),
        ("a.mkv", "ffv1", 12, None, (64, 96)),
    ],
)
def test_the_rate_is_that_of_the_stream(tmp_path, name, codec, rate, form, size):
    frames = np.kron(
        RNG.integers(0, 256, (12, size[0] // 16, size[1] // 16, 3), np.uint8), np.ones((1, 16, 16, 1), np.uint8)
    )
    encoded(tmp_path / name, codec, "yuv420p", frames, rate, form)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        clip = read_video(tmp_path / name, size=(32, 48))
        part = read_video(tmp_path / name, size=(32, 48), start=5 / rate, frames=4)
    assert clip.fps == pytest.approx(rate)
    assert len(clip.pixels) == 12
    np.testing.assert_array_equal(part.pixels, clip.pixels[5:9])


def two_colours(height, width):
    frames = np.empty((2, height, width, 3), np.uint8)
    frames[:, :, : width // 2], frames[:, :, width // 2 :] = (200, 30, 40), (30, 180, 60)
    return frames


def planes_of(frames, red, blue):
    """Planes of luma and chroma, limited range, by the weights of a matrix (ITU-R BT.601 or 709)."""
    r, g, b = np.moveaxis(frames / 255.0, -1, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    planes = [16 + 219 * y, 128 + 112 * (b - y) / (1 - blue), 128 + 112 * (r - y) / (1 - red)]
    return np.rint(np.stack(planes, axis=1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "space", "weights", "lines"),
    [
        (720, None, (0.2126, 0.0722), 1),
        (720, 1, (0.2126, 0.0722), 0),
        (720, 6, (0.299, 0.114), 0),
        (480, None, (0.299, 0.114), 0),
        (480, 1, (0.2126, 0.0722), 0),
    ],
)
def test_colours_are_those_of_the_matrix(tmp_path, height, space, weights, lines):
    frames = two_colours(height, 640)
    encoded(tmp_path / "a.mp4", "libx264", "-yuv444p", planes_of(frames, *weights), options={"crf": "1"}, space=space)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = read_video(tmp_path / "a.mp4").pixels
    np.testing.assert_allclose(found[0, 50, [50, 600]].astype(int), frames[0, 50, [50, 600]], atol=4)
    assert len(heard) == lines
    assert not lines or "BT.709 is taken, as it is HD" in str(heard[0].message)


@pytest.mark.parametrize("span", [1, 2])
def test_the_matrix_that_the_scaler_does_not_know(tmp_path, span):
    frames = two_colours(64, 96)
    r, g, b = np.moveaxis(frames.astype(float), -1, 0)
    planes = np.stack([(r + 2 * g + b) / 4, 128 + (2 * g - r - b) / 4, 128 + (r - b) / 2], axis=1)
    if span == 1:
        planes = np.concatenate([16 + planes[:, :1] * 219 / 255, 128 + (planes[:, 1:] - 128) * 224 / 255], axis=1)
    pixels = "-yuv444p" if span == 1 else "-yuvj444p"
    encoded(tmp_path / "a.mkv", "ffv1" if span == 1 else "libx264", pixels, np.rint(planes).astype(np.uint8), space=8,
            span=span, options={} if span == 1 else {"crf": "1"})  # fmt: skip
    found = quietly(tmp_path / "a.mkv").pixels
    np.testing.assert_allclose(found[0, 30, [20, 80]].astype(int), frames[0, 30, [20, 80]], atol=4)


def test_frames_with_side_data_that_pyav_cannot_name(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = np.kron(RNG.integers(30, 226, (3, 4, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
    file = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(file, "JPEG", exif=exif, quality=95, subsampling=0)
    (tmp_path / "a.mjpeg").write_bytes(3 * file.getvalue())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_video(tmp_path / "a.mjpeg").pixels
    assert found.shape == (3, *upright.shape)
    assert np.abs(found[1].astype(int) - upright).mean() < 3
