"""Where the frames of a video come from, one function per kind of source: each gives frames one by one, with times.

    folder      pictures, ordered by the numbers in their names
    array       a NumPy file
    animation   GIF or WebP, by Pillow
    container   any file that FFmpeg decodes, by PyAV

Imports no torch.
"""

import contextlib
import io
import itertools
import math
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hypersiren.signals.files import SignalError, check_file, check_library, check_size, guarded, one_line
from hypersiren.signals.image.files import picture_names, read_image, to_uint8
from hypersiren.signals.image.formats import is_tiff
from hypersiren.signals.image.tiff import read_pages
from hypersiren.signals.image.wide import Wide, limits
from hypersiren.signals.numpy_files import read_header
from hypersiren.signals.video.frames import colours, displayed, say_unused

MEND = "ask for a shorter part or a smaller size"

NO_TIMESTAMPS = 128
"""FFmpeg's flag of formats whose frames have no times."""

FASTEST = 1000
"""Frames a second that a video has at most; more are ticks of a clock."""

FPS = 25.0
"""Frames a second of what has no rate of its own: folders and arrays."""


@dataclass(frozen=True)
class Frame:
    """A picture, the time in seconds at which it begins, and how long it is shown, where the source tells."""

    time: float
    pixels: np.ndarray | Image.Image
    seconds: float | None = None


@dataclass(frozen=True)
class FrameSource:
    """Frames as they come, from the start wanted or from somewhere before; their rate, and the duration of all."""

    frames: Iterator[Frame]
    fps: float
    seconds: float


@contextlib.contextmanager
def open_video(
    path: str | os.PathLike[str], *, start: float = 0.0, size: tuple[int, int] | None = None, whole: bool = False
) -> Iterator[FrameSource]:
    """The source behind a path; where it can, it begins shortly before `start` and gives frames of `size`.

    `whole` says that all of its frames are wanted, so that one that is too large can be refused at once.
    """
    ending = Path(path).suffix.lower()
    if os.path.isdir(path):
        yield folder(path, size)
        return
    check_file(path, "a video")
    if ending == ".npy":
        yield array(path)
    elif is_tiff(path):
        yield stack(path)
    elif ending in (".gif", ".webp"):
        with animation(path, whole and size is None) as source:
            yield source
    else:
        with container(path, start) as source:
            yield source


def _even(pictures: Iterable[np.ndarray], count: int) -> FrameSource:
    """A source of so many frames that have no times of their own."""
    return FrameSource((Frame(i / FPS, picture) for i, picture in enumerate(pictures)), FPS, count / FPS)


def folder(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> FrameSource:
    """Pictures, all of one size unless one is asked for."""
    names = picture_names(path)

    def pictures() -> Iterator[np.ndarray]:
        demanded = None
        for name in names:
            file = os.path.join(path, name)
            picture = read_image(file, size=size) if size else read_image(file, size=demanded, crop="none")
            demanded = picture.shape[0], picture.shape[1]
            yield picture

    return _even(pictures(), len(names))


def array(path: str | os.PathLike[str]) -> FrameSource:
    """(T, H, W, 3 or 1), uint8 or float in [0, 1], read from the disk as frames are asked for."""
    with guarded("not a NumPy array that can be read", path):
        with open(path, "rb") as file:
            read_header(io.BytesIO(file.read(2**16)))
        clip = np.load(path, mmap_mode="r", allow_pickle=False)
    if clip.ndim != 4 or clip.shape[3] not in (1, 3) or not (clip.dtype == np.uint8 or clip.dtype.kind == "f"):
        raise SignalError(f"expected (T, H, W, 3 or 1) uint8 or float, got {clip.shape} {clip.dtype}", path)
    if not clip.size:
        raise SignalError(f"holds no pixels: its shape is {clip.shape}", path)

    def pictures() -> Iterator[np.ndarray]:
        for i, frame in enumerate(clip):
            low, high = frame.min(), frame.max()
            if clip.dtype != np.uint8 and not (low >= 0 and high <= 1):  # so that NaN is refused too
                raise SignalError(f"expected floats in [0, 1], got {low:g} to {high:g} in frame {i}", path)
            yield to_uint8(np.asarray(frame))

    return _even(pictures(), len(clip))


def stack(path: str | os.PathLike[str]) -> FrameSource:
    """The pages of a TIFF, of one channel or three; what black and white are their type tells."""
    pages = read_pages(path)
    pages = pages[..., None] if pages.ndim == 3 else pages
    if pages.shape[3] not in (1, 3):
        raise SignalError(f"expected pages of 1 or 3 channels, got {pages.shape[3]} (`fit volume` takes any)", path)
    narrow = pages.dtype.kind == "u" and pages.dtype.itemsize <= 2
    full = (0.0, float(np.iinfo(pages.dtype).max)) if narrow else None
    with guarded("broken or truncated video", path):
        low, high = limits(Wide(pages.reshape(-1, *pages.shape[2:]), full), guess=False, name=os.fspath(path),
                           hint="`fit volume` takes any values")  # fmt: skip
    return _even((to_uint8((page - low) / (high - low)) for page in pages), len(pages))


@contextlib.contextmanager
def animation(path: str | os.PathLike[str], whole: bool = False) -> Iterator[FrameSource]:
    """An animated GIF or WebP by Pillow."""
    read_image(path)  # says what is wrong with it, if anything
    with Image.open(path) as image:
        durations: list[float] = []
        try:
            count = getattr(image, "n_frames", 1)
            for i in range(count):
                image.seek(i)
                if whole:  # each time, as a frame may be larger than the ones before
                    check_size(3 * count * image.width * image.height, path, MEND)
                image.load()
                durations.append(image.info.get("duration") or 100)  # as browsers do
        except SignalError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever their file leads them to
            check_library(error, path)
            if not durations:
                raise SignalError(f"broken or truncated image ({one_line(error)})", path) from error
            _warn(path, sum(durations) / 1000, error)
        fps, repeats = even_rate(durations)

        def frames() -> Iterator[Frame]:
            shown = 0
            for i, count in enumerate(repeats):
                image.seek(i)
                for _ in range(count):
                    yield Frame(shown / fps, image)
                    shown += 1

        yield FrameSource(frames(), fps, sum(repeats) / fps)


def even_rate(durations: Sequence[float]) -> tuple[float, list[int]]:
    """A rate in frames a second for frames that last so many ms, and how often to repeat each to keep their times.

    A frame is the mean of the durations that are near the least one (GIF rounds to 10 ms).

    Example:
        >>> even_rate([40, 50, 50, 50])
        (21.05..., [1, 1, 1, 1])
        >>> even_rate([100, 100, 2000])
        (10.0, [1, 1, 20])
    """
    short = [d for d in durations if d < 1.5 * min(durations)]
    duration = sum(short) / len(short)
    ends = [round(end / duration) for end in itertools.accumulate(durations)]
    return 1000 / duration, [b - a for a, b in itertools.pairwise([0, *ends])]


def import_av(path: str | os.PathLike[str]) -> Any:
    try:
        import av
    except ImportError:
        raise SignalError("video files other than GIF need PyAV: pip install av", path) from None
    return av


@contextlib.contextmanager
def container(path: str | os.PathLike[str], start: float) -> Iterator[FrameSource]:
    """A file that FFmpeg decodes."""
    av = import_av(path)
    with guarded("not a video that FFmpeg can read", path):
        # Of descriptions that are not in UTF-8, PyAV 19 makes what earlier ones must be asked for.
        lenient = {"metadata_errors": "surrogateescape"} if hasattr(av.container.Container, "metadata_errors") else {}
        try:
            file = av.open(os.fspath(path), **lenient)
        except av.FFmpegError as error:  # also where its tables claim more than FFmpeg gives them
            raise SignalError(f"not a video that FFmpeg can read ({error.strerror})", path) from error
    with file:
        words = "".join(str(text) for part in (file, *file.streams) for text in part.metadata.values())
        # Others, such as AVI, do not say in which encoding they are.
        if re.search("[\ud800-\udfff]", words) and any(name in file.format.name for name in ("mp4", "matroska")):
            raise SignalError("damaged: its descriptions are not in UTF-8, as its format demands", path)
        if not file.streams.video:
            raise SignalError("holds no pictures", path)
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        fps, timed = _rate(file, stream)
        begin = float((stream.start_time or 0) * stream.time_base)
        if not timed:
            seconds = math.inf
        elif stream.duration:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = file.duration / av.time_base if file.duration else math.inf
        if start > 0 and timed:
            with contextlib.suppress(av.FFmpegError):  # what cannot be searched is decoded from its beginning
                file.seek(int((start + begin) / stream.time_base), stream=stream)

        aspect = _pixel_aspect(stream, path)

        def frames() -> Iterator[Frame]:
            time, decoded = 0.0, False
            try:
                for index, frame in enumerate(_decoded(av, file, stream)):
                    time = index / fps if frame.time is None or not timed else frame.time - begin
                    if not decoded:
                        say_unused(frame, path)
                    decoded = True
                    check_size(3 * frame.width * frame.height * max(aspect, 1 / aspect), path)
                    pixels = _square(colours(frame), aspect)
                    seconds = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else None
                    yield Frame(time, displayed(frame, pixels), seconds if timed else None)
            except av.FFmpegError as error:
                if decoded:
                    _warn(path, time, error)

        yield FrameSource(frames(), fps, seconds)


def _rate(file: Any, stream: Any) -> tuple[float, bool]:
    """Frames a second, and whether the times of frames count.

    FFmpeg's mean is right for containers. Raw streams have no times: there it is a default, and only the stream itself
    tells. Of DV and some others the mean is the tick of their clock.
    """
    timed = not file.format.flags & NO_TIMESTAMPS
    average, guessed = stream.average_rate, stream.guessed_rate
    if average and timed and average <= FASTEST:
        return float(average), True
    usable = guessed or average
    return (float(usable) if usable and usable <= FASTEST else FPS), timed


def _decoded(av: Any, file: Any, stream: Any) -> Iterator[Any]:
    """Frames; those of VP8 and VP9 with opacity by the decoder that knows it."""
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.name)
    if stream.metadata.get("alpha_mode") != "1" or name is None or name not in av.codecs_available:
        yield from file.decode(stream)
        return
    decoder = av.CodecContext.create(name, "r")
    for packet in file.demux(stream):
        for frame in decoder.decode(packet):
            frame.time_base = frame.time_base or packet.time_base
            yield frame


def _pixel_aspect(stream: Any, path: str | os.PathLike[str]) -> float:
    """Width of a pixel by its height; what is not square is made so, and said."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if aspect == 1:
        return 1.0
    if not 1 / 8 < aspect < 8:
        warnings.warn(f"{os.fspath(path)}: pixels of {aspect:g} : 1 are taken as square", stacklevel=2)
        return 1.0
    width, height = _square_size(stream.width, stream.height, aspect)
    warnings.warn(
        f"{os.fspath(path)}: pixels of {aspect:.4g} : 1 are made square, {stream.width} x {stream.height} become "
        f"{width} x {height} (width x height)",
        stacklevel=2,
    )
    return aspect


def _square_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """The size in square pixels, the longer side of a pixel being kept as many."""
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def _square(pixels: np.ndarray, aspect: float) -> np.ndarray:
    if aspect == 1:
        return pixels
    size = _square_size(pixels.shape[1], pixels.shape[0], aspect)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _warn(path: str | os.PathLike[str], time: float, error: Exception) -> None:
    warnings.warn(
        f"{os.fspath(path)}: damaged at about {time:.2f} s, read up to there ({one_line(error)})", stacklevel=2
    )
