"""Reading and writing one video: every kind of source, any part, any size, every way a file can be wrong."""

import builtins
import fractions
import itertools
import warnings

import av
import numpy as np
import pytest
from PIL import Image

from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import fit_image, write_image
from hypersiren.signals.video.files import Clip, read_video, write_video


def clip(t: int = 12, h: int = 20, w: int = 30) -> np.ndarray:
    """A smooth picture that darkens to the right and changes from frame to frame."""
    k, y, x = np.meshgrid(np.arange(t) / t, np.arange(h) / h, np.arange(w) / w, indexing="ij")
    return np.rint(255 * np.stack([1 - x, k, 0.5 + 0.4 * np.sin(3 * y + 4 * k)], -1)).astype(np.uint8)


def written(path, ending: str, frames: np.ndarray, fps: float = 25.0):
    """The clip as a source of some kind, read back exactly up to a tolerance that is returned too."""
    if ending == "folder":
        (path / "clip").mkdir()
        for i, frame in enumerate(frames):
            write_image(path / "clip" / f"frame{i}.png", frame)
        return path / "clip", 0
    if ending == ".npy":
        np.save(path / "clip.npy", frames)
        return path / "clip.npy", 0
    write_video(path / f"clip{ending}", frames, fps)
    return path / f"clip{ending}", {".gif": 20, ".mp4": 45}[ending]


KINDS = [".mp4", ".gif", ".npy", "folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_again(tmp_path, kind):
    path, tolerance = written(tmp_path, kind, clip())
    video = read_video(path)
    assert (video.pixels.shape, video.pixels.dtype, video.fps) == (clip().shape, np.uint8, 25.0)
    error = video.pixels.astype(int) - clip()
    assert abs(error).max() <= tolerance
    assert abs(error).mean() < 5
    assert abs(error.mean((0, 1, 2))).max() < 2  # no shift of colours


@pytest.mark.parametrize("kind", KINDS)
def test_parts_and_counts(tmp_path, kind):
    path, _ = written(tmp_path, kind, clip(60, 16, 16))
    whole = read_video(path).pixels
    for part, expected in [
        ({"start": 0.4}, slice(10, None)),
        ({"stop": 0.4}, slice(0, 10)),
        ({"start": 1.2, "stop": 1.6}, slice(30, 40)),
        ({"start": 1.19, "stop": 1.61}, slice(30, 41)),
        ({"frames": 7}, slice(0, 7)),
        ({"start": 2.2, "frames": 100}, slice(55, None)),
        ({"start": 2.36, "stop": 2.4}, slice(59, 60)),
    ]:
        np.testing.assert_array_equal(read_video(path, **part).pixels, whole[expected], err_msg=str(part))
    for part in ({"start": 2.5}, {"stop": 3.0}, {"start": 99.0}):
        with pytest.raises(SignalError, match=r"expected a part within 0 to 2\.4 s, got"):
            read_video(path, **part)
    for part in ({"start": -1.0}, {"start": 1.0, "stop": 1.0}, {"start": float("nan")}, {"frames": 0}):
        with pytest.raises(SignalError, match="expected"):
            read_video(path, **part)
    with pytest.raises(SignalError, match=r"no frame can be decoded from 1\.01 to 1\.02 s"):
        read_video(path, start=1.01, stop=1.02)


@pytest.mark.parametrize("kind", KINDS)
def test_reduced_frames_are_those_of_an_image(tmp_path, kind):
    path, _ = written(tmp_path, kind, clip(5, 61, 83))
    whole, small = read_video(path), read_video(path, size=(16, 24))
    expected = np.stack([fit_image(frame, (16, 24)) for frame in whole.pixels])
    np.testing.assert_array_equal(small.pixels, expected)


@pytest.mark.parametrize(("h", "w"), [(1, 1), (3, 2), (33, 64), (64, 33), (101, 151)])
def test_odd_sizes(tmp_path, h, w):
    frames = clip(3, h, w)[..., 1:2].repeat(3, -1)  # gray: colours are for 2 x 2 pixels
    write_video(tmp_path / "a.gif", frames, 10)
    assert read_video(tmp_path / "a.gif").pixels.shape == frames.shape
    write_video(tmp_path / "a.mp4", frames, 10)
    even = read_video(tmp_path / "a.mp4").pixels
    assert even.shape == (3, h + h % 2, w + w % 2, 3)
    assert abs(even[:, :h, :w].astype(int) - frames).mean() < 4
    # What was added repeats the border.
    assert abs(even[:, h - 1].astype(int) - even[:, -1]).mean() < 3


def test_floats_gray_and_iterators(tmp_path):
    ramp = np.linspace(-0.5, 1.5, 256).reshape(1, 16, 16, 1)
    write_video(tmp_path / "a.mp4", itertools.repeat(ramp[0], 3), 24.0)
    pixels = read_video(tmp_path / "a.mp4").pixels
    assert pixels.shape == (3, 16, 16, 3)
    expected = np.rint(255 * ramp.clip(0, 1))
    np.testing.assert_allclose(pixels.astype(float), np.broadcast_to(expected, pixels.shape), atol=12)
    assert abs(pixels - expected).mean() < 3
    np.save(tmp_path / "f.npy", np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1))
    assert (read_video(tmp_path / "f.npy").pixels == np.arange(256).reshape(1, 16, 16, 1)).all()


@pytest.mark.parametrize("fps", [1.0, 10.0, 24.0, 30000 / 1001, 50.0])
@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_rates(tmp_path, ending, fps):
    write_video(tmp_path / f"a{ending}", clip(61, 8, 8), fps)
    video = read_video(tmp_path / f"a{ending}")
    assert len(video.pixels) == 61
    assert video.fps == pytest.approx(fps, rel=0.01)  # GIF counts hundredths of a second
    assert len(read_video(tmp_path / f"a{ending}", start=30 / fps).pixels) == pytest.approx(31, abs=1)


def test_frames_of_a_gif_that_stay_are_repeated(tmp_path):
    frames = [Image.fromarray(frame) for frame in clip(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[40, 80, 40, 200])
    video = read_video(tmp_path / "a.gif")
    assert (len(video.pixels), video.fps) == (9, 25.0)
    assert [len(list(same)) for _, same in itertools.groupby(f.tobytes() for f in video.pixels)] == [1, 2, 1, 5]
    # Written again, equal frames become one that stays; the time is kept.
    write_video(tmp_path / "b.gif", video.pixels, video.fps)
    assert len(read_video(tmp_path / "b.gif").pixels) == 9


def test_transparent_and_single_frames(tmp_path):
    Image.new("RGBA", (6, 4), (0, 0, 0, 0)).save(tmp_path / "a.webp", lossless=True)
    video = read_video(tmp_path / "a.webp")
    assert video.pixels.shape == (1, 4, 6, 3)
    assert (video.pixels == 255).all()


def test_folders_are_sorted_by_number(tmp_path):
    for i in (10, 9, 1, 2, 100):
        write_image(tmp_path / f"shot_{i}.png", np.full((4, 4, 3), i, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(b"no picture")
    assert read_video(tmp_path).pixels[:, 0, 0, 0].tolist() == [1, 2, 9, 10, 100]
    write_image(tmp_path / "shot_11.png", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(SignalError, match=r"shot_11\.png: expected an image of 4 x 4 pixels .*, got 4 x 5"):
        read_video(tmp_path)
    assert read_video(tmp_path, size=(2, 2)).pixels.shape == (6, 2, 2, 3)
    (tmp_path / "shot_3.png").write_bytes(b"broken")
    with pytest.raises(SignalError, match=r"shot_3\.png: not an image"):
        read_video(tmp_path)


# a, b, c, d of a display matrix: (x, y) is shown at (a x + c y, b x + d y).
MATRICES = {
    (1, 0, 0, 1): lambda image: image,
    (-1, 0, 0, 1): lambda image: image[:, :, ::-1],
    (1, 0, 0, -1): lambda image: image[:, ::-1],
    (-1, 0, 0, -1): lambda image: image[:, ::-1, ::-1],
    (0, 1, -1, 0): lambda image: np.rot90(image, -1, axes=(1, 2)),
    (0, -1, 1, 0): lambda image: np.rot90(image, 1, axes=(1, 2)),
    (0, 1, 1, 0): lambda image: image.swapaxes(1, 2),
    (0, -1, -1, 0): lambda image: image.swapaxes(1, 2)[:, ::-1, ::-1],
}


def with_matrix(data: bytes, a: float, b: float, c: float, d: float) -> bytes:
    """An MP4 with another display matrix."""
    place = data.index(b"tkhd") + 4 + 40
    rows = [a, b, 0, c, d, 0, 0, 0, 1 << 14]
    packed = b"".join(round(v * (1 << 16)).to_bytes(4, "big", signed=True) for v in rows)
    return data[:place] + packed + data[place + 36 :]


@pytest.mark.parametrize("matrix", MATRICES)
def test_turned_and_mirrored_telephones(tmp_path, matrix):
    write_video(tmp_path / "a.mp4", clip(3, 32, 48), 25)
    stored = read_video(tmp_path / "a.mp4").pixels
    (tmp_path / "b.mp4").write_bytes(with_matrix((tmp_path / "a.mp4").read_bytes(), *matrix))
    np.testing.assert_array_equal(read_video(tmp_path / "b.mp4").pixels, MATRICES[matrix](stored))


def test_an_angle_that_is_not_heeded_is_said(tmp_path):
    write_video(tmp_path / "a.mp4", clip(3, 32, 48), 25)
    (tmp_path / "b.mp4").write_bytes(with_matrix((tmp_path / "a.mp4").read_bytes(), 0.8, 0.6, -0.6, 0.8))
    with pytest.warns(UserWarning, match=r"b\.mp4: frames are taken without heed of an angle"):
        assert read_video(tmp_path / "b.mp4").pixels.shape == (3, 32, 48, 3)


def encoded(path, frames, milliseconds, aspect=None):
    """A video whose frames begin at such times."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", 1000, {"crf": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv444p"
        stream.codec_context.time_base = fractions.Fraction(1, 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for pixels, time in zip(frames, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, fractions.Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def gray(count: int) -> list[np.ndarray]:
    return [np.full((32, 48, 3), 20 * i, np.uint8) for i in range(count)]


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_frames_keep_their_times_where_rates_vary(tmp_path, ending):
    times = [0, 40, 80, 120, 1120, 1160, 1200, 3200, 3240, 3280]
    encoded(tmp_path / f"a.{ending}", gray(10), times)
    with pytest.warns(UserWarning, match=r"a\.m..: frames last from 0\.04 to 2 s; by their times 10 become") as heard:
        video = read_video(tmp_path / f"a.{ending}")
    assert len(heard) == 1
    assert video.fps == pytest.approx(25)
    assert len(video.pixels) == pytest.approx(83, abs=1)
    for time, level in [(0, 0), (0.5, 60), (1.0, 60), (1.13, 80), (2.5, 120), (3.25, 160)]:
        assert int(video.pixels[int(time * 25), 0, 0, 0]) == pytest.approx(level, abs=6), time
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        part = read_video(tmp_path / f"a.{ending}", stop=0.13)  # this part has one rate
    assert (len(part.pixels), part.fps) == (4, pytest.approx(25))


def test_rounded_times_are_one_rate(tmp_path):
    encoded(tmp_path / "a.mkv", gray(12), [round(1000 * i / 29.97) for i in range(12)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        video = read_video(tmp_path / "a.mkv")
    assert len(video.pixels) == 12
    assert video.fps == pytest.approx(29.97, rel=0.01)


@pytest.mark.parametrize(("aspect", "size"), [((4, 3), (32, 64)), ((3, 4), (43, 48))])
def test_pixels_are_made_square(tmp_path, aspect, size):
    frames = [np.zeros((32, 48, 3), np.uint8) for _ in range(3)]
    for frame in frames:
        frame[:16, :24] = 200
    encoded(tmp_path / "a.mp4", frames, [0, 40, 80], fractions.Fraction(*aspect))
    with pytest.warns(UserWarning, match=rf"a\.mp4: pixels of .* 48 x 32 become {size[1]} x {size[0]}") as heard:
        video = read_video(tmp_path / "a.mp4")
    assert len(heard) == 1
    assert video.pixels.shape[1:3] == size
    bright = video.pixels[0, ..., 0] > 100
    assert bright.mean() == pytest.approx(0.25, abs=0.01)
    assert bright[: size[0] // 2 - 1, : size[1] // 2 - 1].all()


def test_many_large_frames_are_refused_before_they_are_decoded(tmp_path):
    frames = [Image.new("P", (3000, 3000), i % 2) for i in range(50)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    with pytest.raises(SignalError, match=r"a\.gif: would take 1\.3 GiB .* shorter part or a smaller size"):
        read_video(tmp_path / "a.gif")


def noisy(t: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (t, 48, 64, 3), dtype=np.uint8)


def test_a_later_frame_that_claims_to_be_larger_is_refused(tmp_path):
    frames = [Image.fromarray(f) for f in np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    data, part = (tmp_path / "a.gif").read_bytes(), b"\x2c\0\0\0\0\x20\0\x20\0"
    at = data.rindex(part)
    (tmp_path / "a.gif").write_bytes(data[:at] + b"\x2c\0\0\0\0\xc8\x32\xc8\x32" + data[at + 9 :])
    with pytest.raises(SignalError, match=r"would take 1\.4 GiB"):
        read_video(tmp_path / "a.gif")


def test_a_damaged_file_is_read_up_to_there(tmp_path):
    write_video(tmp_path / "whole.mp4", noisy(60), 25)
    data = bytearray((tmp_path / "whole.mp4").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.warns(UserWarning, match=r"a\.mp4: damaged at about \d\.\d\d s, read up to there"):
        video = read_video(tmp_path / "a.mp4")
    assert 5 < len(video.pixels) < 40
    np.testing.assert_array_equal(video.pixels, read_video(tmp_path / "whole.mp4").pixels[: len(video.pixels)])

    write_video(tmp_path / "whole.gif", noisy(10), 25)
    data = (tmp_path / "whole.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match=r"a\.gif: damaged at about \d\.\d\d s, read up to there"):
        video = read_video(tmp_path / "a.gif")
    assert 3 <= len(video.pixels) <= 6
    np.testing.assert_array_equal(video.pixels, read_video(tmp_path / "whole.gif").pixels[: len(video.pixels)])


def test_sources_that_are_no_videos(tmp_path):
    (tmp_path / "nothing").mkdir()
    for ending in ("mp4", "gif", "npy"):
        (tmp_path / f"empty.{ending}").touch()
        (tmp_path / f"text.{ending}").write_text("I am not a video. " * 50)
    write_video(tmp_path / "cut.mp4", clip(), 25)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "cut.mp4").read_bytes()[:1000])  # the table of frames comes last
    with av.open(tmp_path / "sound.wav", "w") as container:
        stream = container.add_stream("pcm_s16le", 8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
    np.save(tmp_path / "shape.npy", np.zeros((5, 4, 3), np.uint8))
    np.save(tmp_path / "type.npy", np.zeros((2, 5, 4, 3), np.int64))
    np.save(tmp_path / "none.npy", np.zeros((0, 5, 4, 3), np.uint8))
    np.save(tmp_path / "range.npy", np.full((2, 5, 4, 3), 255.0))
    np.save(tmp_path / "nan.npy", np.full((2, 5, 4, 3), np.nan))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, reason in {
        "missing.mp4": "no such file",
        "missing.gif": "no such file",
        "nothing": "expected a folder of pictures, found none in it",
        "empty.mp4": "empty file",
        "empty.gif": "empty file",
        "empty.npy": "empty file",
        "text.mp4": "not a video that FFmpeg can read",
        "text.gif": "not an image that Pillow can read",
        "text.npy": "not a NumPy array that can be read",
        "cut.mp4": "not a video that FFmpeg can read",
        "sound.wav": "holds no pictures",
        "shape.npy": r"expected \(T, H, W, 3 or 1\) uint8 or float, got \(5, 4, 3\) uint8",
        "type.npy": r"got \(2, 5, 4, 3\) int64",
        "none.npy": "holds no pixels",
        "range.npy": r"expected floats in \[0, 1\], got 255 to 255 in frame 0",
        "nan.npy": "got nan to nan in frame 0",
        "object.npy": "expected numbers, got Python objects",
    }.items():
        with pytest.raises(SignalError, match=reason) as caught:
            read_video(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_clip_too_large_for_memory_is_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "a.gif", clip(), 25)
    monkeypatch.setenv("HYPERSIREN_LIMIT", "1e-5")
    with pytest.raises(SignalError, match="ask for a shorter part or a smaller size"):
        read_video(tmp_path / "a.gif")
    assert len(read_video(tmp_path / "a.gif", size=(10, 10)).pixels) == 12


def test_without_pyav_only_mp4_is_missing(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", clip(), 25)
    really = builtins.__import__

    def without_av(name, *args, **kwargs):
        if name == "av":
            raise ImportError("No module named 'av'")
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_av)
    for attempt in (lambda: read_video(tmp_path / "a.mp4"), lambda: write_video(tmp_path / "b.mp4", clip(), 25)):
        with pytest.raises(SignalError, match="pip install av"):
            attempt()
    write_video(tmp_path / "a.gif", clip(), 25)
    assert isinstance(read_video(tmp_path / "a.gif"), Clip)


def test_what_cannot_be_written(tmp_path):
    write_video(tmp_path / "a.mp4", clip(), 25)
    before = (tmp_path / "a.mp4").read_bytes()
    with pytest.raises(SignalError, match=r"expected the ending \.mp4 or \.gif, got '\.avi'"):
        write_video(tmp_path / "a.avi", clip(), 25)
    for ending in (".mp4", ".gif"):
        with pytest.raises(SignalError, match="No such file or directory"):
            write_video(tmp_path / "no" / f"a{ending}", clip(), 25)
        with pytest.raises(ValueError, match="at least one frame"):
            write_video(tmp_path / f"a{ending}", [], 25)
        with pytest.raises(ValueError, match=r"expected frames of 20 x 30 pixels as the first, got \(20, 31, 3\)"):
            write_video(tmp_path / f"a{ending}", [clip()[0], clip(1, 20, 31)[0]], 25)
        for fps in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="positive rate"):
                write_video(tmp_path / f"a{ending}", clip(), fps)
    # The video that was there stays, and nothing else is left behind.
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == before
