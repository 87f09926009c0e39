"""Videos: read and write one, as uint8 frames (T, H, W, 3) with their rate.

A video is a file that FFmpeg decodes (by PyAV, the extra `video`), an animated GIF or WebP (by Pillow), a folder of
numbered pictures, or a NumPy array. Frames are brought to the wanted size as they come, one by one: the clip is never
in memory at its full size when a smaller one is asked for. Imports no torch: a wrong file is told at once.

Symbols: T frames, H, W pixels.
"""

import io
import itertools
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hypersiren.signals.files import SignalError, atomic_write, check_size, guarded, one_line
from hypersiren.signals.image.files import convert_image, fit_image, to_uint8
from hypersiren.signals.video.sources import FPS, MEND, import_av, open_video

SLACK = 1e-3
"""Seconds by which times are rounded, in files and by people."""

EVEN = 0.2
"""Share of their mean by which the durations of frames may differ and count as equal: rounded times, dropped bits."""


@dataclass(frozen=True)
class Clip:
    """Frames with their rate.

    Attributes:
        pixels: Colours, rows from top to bottom.
        fps: Frames per second.
    """

    pixels: UInt8[np.ndarray, "T H W 3"]
    fps: float


def read_video(
    path: str | os.PathLike[str],
    *,
    start: float = 0.0,
    stop: float | None = None,
    frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> Clip:
    """Read a video: any file that FFmpeg decodes, an animated GIF or WebP, a folder of pictures, or an array.

    A file that is damaged or breaks off is read up to there, with a warning. A folder's pictures follow each other by
    the numbers in their names (frame2 before frame10). An array is a .npy file, (T, H, W, 3 or 1), uint8 or float in
    [0, 1].

    Args:
        path: The file or folder.
        start, stop: The part wanted, in seconds: frames that begin at start or later, and before stop.
        frames: Take at most so many.
        size: Pixels (H, W) of the result: the largest central rectangle of that shape, reduced with antialiasing as
            images are (`signals.fit_image`); None keeps the file's.

    Returns:
        The frames, upright and mirrored as the file says, pixels square, gray ones in three equal channels,
        transparency over white. Where frames last differently, longer ones are repeated, so that the time is kept.
        Folders and arrays have 25 frames a second.

    Raises:
        SignalError: If the file is missing, empty, no video, or damaged so that no frame can be decoded; if no frame
            lies in the part; if the frames would fill more than `hypersiren.signals.files.limit`; or if PyAV is needed
            and missing.

    Warns:
        UserWarning: If the file is damaged; if frames of a container last differently, or its pixels are not square; or
            if it says something else of how they are to be shown, which is not heeded.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(f"{folder}/a.gif", np.linspace(0, 1, 10)[:, None, None, None] * np.ones((20, 31, 3)), 10)
        ...     video = read_video(f"{folder}/a.gif", start=0.5, size=(8, 8))
        >>> video.pixels.shape, video.fps
        ((5, 8, 8, 3), 10.0)
    """
    end = math.inf if stop is None else stop
    asked = f"{start:g} s to the end" if stop is None else f"{start:g} to {stop:g} s"
    if not 0 <= start < end:
        raise SignalError(f"expected a part of some length from 0 s on, got {asked}", path)
    if frames is not None and frames < 1:
        raise SignalError(f"expected at least 1 frame to be asked for, got {frames}", path)
    pixels = bytearray()  # grows in place, where a list of frames would have to be copied together
    times: list[float] = []
    last: float | None = None
    whole = start == 0 and stop is None and frames is None
    with guarded("broken or truncated video", path), open_video(path, start=start, size=size, whole=whole) as source:
        if max(start, stop or 0) > source.seconds + SLACK:
            raise SignalError(f"expected a part within 0 to {source.seconds:g} s, got {asked}", path)
        until = itertools.takewhile(lambda frame: frame.time < end - SLACK, source.frames)
        for frame in itertools.islice((f for f in until if f.time >= start - SLACK), frames):
            picture = convert_image(frame.pixels)
            size = size or (picture.height, picture.width)
            if whole and not times and math.isfinite(source.seconds):
                check_size(3 * size[0] * size[1] * source.seconds * source.fps, path, MEND)
            pixels += fit_image(picture, size).tobytes()
            times.append(frame.time)
            last = frame.seconds
            check_size(len(pixels), path, MEND)
    if not pixels:
        raise SignalError(f"no frame can be decoded from {asked}", path)
    assert size is not None
    clip = np.frombuffer(pixels, np.uint8).reshape(-1, *size, 3)
    fps, repeats = even_times(times, source.fps, last, end)
    if repeats is None:
        return Clip(clip, fps)
    check_size(clip[0].size * sum(repeats), path, MEND)
    gaps = np.diff(times)
    warnings.warn(
        f"{os.fspath(path)}: frames last from {gaps.min():.3g} to {gaps.max():.3g} s; by their times {len(clip)} "
        f"become {sum(repeats)}, {fps:.4g} a second",
        stacklevel=2,
    )
    return Clip(np.repeat(clip, repeats, axis=0)[:frames], fps)


def even_times(
    times: Sequence[float], fps: float, last: float | None = None, end: float = math.inf
) -> tuple[float, list[int] | None]:
    """A rate for frames that begin at such times, and how often to show each to keep them; None for once each.

    A frame of the result lasts as long as the shorter ones do, a tenth of which may be shorter still.

    Args:
        times: Seconds.
        fps: The rate that the file tells; taken if the times agree to a hundredth.
        last: How long the last one lasts, where the file tells.
        end: When the part ends.

    Example:
        >>> even_times([0.0, 0.04, 0.08, 0.12], 25.0)
        (25.0, None)
        >>> even_times([0.0, 0.1, 0.2], 25.0)  # a plain number, not NumPy's
        (10.0, None)
        >>> even_times([0.0, 0.5, 1.0, 3.0], 10.0, last=0.5)
        (2.0, [1, 1, 4, 1])
    """
    gaps = np.diff(times)
    if not len(gaps) or not (gaps > 0).any():
        return fps, None
    mean = gaps.mean()
    if (np.abs(gaps - mean) <= max(EVEN * mean, SLACK)).all():
        return (fps if abs(mean * fps - 1) < 0.01 else float(1 / mean)), None
    positive = gaps[gaps > 0]
    duration = positive[positive < 1.5 * np.quantile(positive, 0.1)].mean()
    starts = np.append(times, times[-1] + min(last or duration, end - times[-1])) - times[0]
    return float(1 / duration), np.diff(np.rint(starts / duration).astype(int)).clip(0).tolist()


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> None:
    """Write a video that plays everywhere; it appears complete or not at all.

    An .mp4 is H.264 in yuv420p at constant quality (x264 crf 18, next to no visible loss) and needs PyAV, the extra
    `video`. That format has colours for 2 x 2 pixels and so only even sizes: of an odd one the last row or column is
    repeated. A .gif needs nothing, has 256 colours for each frame and at most 50 frames a second, and loops.

    Args:
        path: The file, ending in .mp4 or .gif; its folder must exist. What was there is replaced.
        frames: (H, W, 3 or 1) each, uint8, or float in [0, 1] (values beyond are clipped); an array or any iterable,
            taken one by one.
        fps: Frames per second.

    Raises:
        SignalError: If the ending is another, PyAV is needed and missing, or the file cannot be written.
        ValueError: If there is no frame, or frames are not pictures or of different sizes.
    """
    if not 0 < fps < math.inf:
        raise ValueError(f"expected a positive rate of frames, got {fps}")
    writers = {".mp4": _write_mp4, ".gif": _write_gif}
    ending = Path(path).suffix.lower()
    if ending not in writers:
        raise SignalError(f"expected the ending .mp4 or .gif, got {ending!r}", path)
    if ending == ".mp4":
        import_av(path)
    try:
        with atomic_write(path) as file:
            writers[ending](file, _pictures(frames), fps)
    except OSError as error:
        raise SignalError(f"cannot be written ({one_line(error)})", path) from error


def video_ending() -> str:
    """.mp4, or .gif where PyAV is missing."""
    try:
        import_av("")
    except SignalError:
        return ".gif"
    return ".mp4"


def encode_gif(frames: Iterable[np.ndarray], fps: float) -> bytes:
    """The bytes of a GIF of frames as `write_video` takes them."""
    data = io.BytesIO()
    _write_gif(data, _pictures(frames), fps)
    return data.getvalue()


def flight(pixels: UInt8[np.ndarray, "H W C"], frames: int = 32, size: tuple[int, int] = (72, 96)) -> Clip:
    """A camera's flight over a picture, around it and nearer: a video to try things on, made here.

    Example:
        >>> flight(np.zeros((300, 400, 3), np.uint8)).pixels.shape
        (32, 72, 96, 3)
    """
    picture = convert_image(pixels)
    shots = []
    for i in range(frames):
        turn, share = 2 * math.pi * i / frames, 0.75 - 0.25 * i / frames
        width = share * min(picture.width, picture.height * size[1] / size[0])
        height = width * size[0] / size[1]
        left = (picture.width - width) * (1 + math.sin(turn)) / 2
        top = (picture.height - height) * (1 + math.cos(turn)) / 2
        box = (left, top, left + width, top + height)
        shots.append(np.asarray(picture.resize(size[::-1], Image.Resampling.BICUBIC, box, reducing_gap=3.0)))
    return Clip(np.stack(shots), FPS)


def _pictures(frames: Iterable[np.ndarray]) -> Iterator[Image.Image]:
    """Frames as RGB pictures, checked to be of one size; at least one."""
    first = None
    for frame in frames:
        picture = convert_image(to_uint8(frame))
        first = first or picture.size
        if picture.size != first:
            raise ValueError(f"expected frames of {first[1]} x {first[0]} pixels as the first, got {frame.shape}")
        yield picture
    if first is None:
        raise ValueError("expected at least one frame, got none")


def _write_mp4(file: BinaryIO, pictures: Iterator[Image.Image], fps: float) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    first = next(pictures)
    width, height = first.width + first.width % 2, first.height + first.height % 2
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", Fraction(fps).limit_denominator(1001), {"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Said, not left to the player to guess from the size.
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # ITU-R BT.709
        for picture in itertools.chain([first], pictures):
            pixels = np.asarray(picture)
            pixels = np.pad(pixels, ((0, height - len(pixels)), (0, width - pixels.shape[1]), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _write_gif(file: BinaryIO | io.BytesIO, pictures: Iterator[Image.Image], fps: float) -> None:
    rate = min(fps, 50.0)  # faster ones are played slowly, at 10 a second

    def frames() -> Iterator[Image.Image]:
        for i, picture in enumerate(pictures):
            # GIF counts hundredths of a second: roundings must not add up.
            hundredths = round(100 * (i + 1) / rate) - round(100 * i / rate)
            frame = picture.quantize(256, kmeans=1)  # k-means keeps small bright things bright
            frame.info["duration"] = 10 * hundredths
            yield frame

    each = frames()
    next(each).save(file, "GIF", save_all=True, append_images=each, loop=0)
