"""Sound files opened: what libsndfile does not see of a file is mended before it reads. Imports no torch.

    MP3 (layer I to III, in WAV too)  libsndfile guesses the length from the bytes where no Xing header tells it: the
                                      frames are counted, and the count is told in such a header
    FLAC of unknown length            is told the number of samples that its last frame tells
    FLAC in Ogg                       is taken out of its pages
    Ogg in pieces (a radio's)         the pieces follow each other
    Vorbis and Opus of 3 to 8 channels come in the order of their codec, and are brought to that of WAV

Symbols: N samples, C channels.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from hypersiren.signals.files import SignalError, check_file, check_library, check_size, muted

if TYPE_CHECKING:
    import soundfile

BLOCK = 1024
"""Samples decoded at once: what is lost, at most, before a damaged place."""

UNKNOWN = 2**40
"""Samples from which a length is none."""

WAV_ORDER = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""Of Vorbis's channels (Vorbis I, section 4.3.9; RFC 7845 for Opus), those of WAV: left, right, centre, LFE ..."""

MPEG = (b"\x50\0", b"\x55\0")
"""Formats of WAV that are MPEG audio: layer I or II, and III."""

# Of MPEG audio (ISO 11172-3, 13818-3): kbit/s by version 1 or 2, layer and index; samples a second by version.
_RATES = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class OpenSound:
    """One or several sound files of libsndfile that follow each other.

    Attributes:
        samplerate, channels, frames: As of a `soundfile.SoundFile`; frames of all.
        order: Which channel of the files each one is; None for the same.
    """

    def __init__(self, files: "Sequence[soundfile.SoundFile]", order: Sequence[int] | None = None):
        self.files, self.order = list(files), None if order is None else list(order)
        self.samplerate, self.channels = files[0].samplerate, files[0].channels
        self.frames = sum(file.frames for file in files)

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()

    @property
    def seeks(self) -> bool:
        """Whether a part is decoded without what comes before."""
        return len(self.files) == 1 and _seeks(self.files[0])

    def decode(self, first: int, last: int) -> Float32[np.ndarray, "N C"]:
        """The samples from first to last, or those of them that come before a damaged place."""
        if len(self.files) == 1:
            wave = _decode(self.files[0], first, last)
        else:
            wave = np.concatenate([_decode(file, 0, file.frames) for file in self.files])[first:last]
        return wave if self.order is None else wave[:, self.order]


@contextlib.contextmanager
def open_sound_file(path: str | os.PathLike[str]) -> Iterator[OpenSound]:
    """A sound file, ready to be decoded.

    Raises:
        SignalError: If it is missing, empty, or no sound.
    """
    check_file(path, "a sound")
    with open(path, "rb") as opened:
        head = opened.read(64)
    try:
        with muted():
            found = _open(path, head)
    except SignalError as error:
        error.path = path
        raise
    except Exception as error:  # TypeError for headerless endings such as .raw, LibsndfileError for all else
        check_library(error, path)
        raise SignalError("not a sound that libsndfile can read, or one cut off within its header", path) from error
    try:
        yield found
    finally:
        found.close()


def _open(path: str | os.PathLike[str], head: bytes) -> OpenSound:
    import soundfile

    if head[:4] == b"OggS":
        return _open_ogg(path)
    in_wav = head[:4] == b"RIFF" and head[12:16] == b"fmt " and head[20:22] in MPEG
    file = None if in_wav else soundfile.SoundFile(os.fspath(path))
    if file is not None and not file.subtype.startswith("MPEG_LAYER"):
        return OpenSound([_measured(file, path)])
    check_size(os.path.getsize(path), path)
    data = Path(path).read_bytes()
    data = _data_of_wav(data) if in_wav else data
    told, samples = _with_count(data)
    if file is not None and told is None:
        found = OpenSound([file])
    else:
        if file is not None:
            file.close()
        found = OpenSound([soundfile.SoundFile(io.BytesIO(told or data))])
    if told is None and samples is not None:
        found.frames = min(found.frames, samples)
    return found


def _measured(file: "soundfile.SoundFile", source: str | os.PathLike[str] | bytes) -> "soundfile.SoundFile":
    """The file itself, or of a FLAC of unknown length one that tells it."""
    import soundfile

    if file.frames < UNKNOWN or file.format != "FLAC":
        return file
    file.close()
    if not isinstance(source, bytes):
        check_size(os.path.getsize(source), source)
        source = Path(source).read_bytes()
    start = source.find(b"fLaC")
    count, told = _flac_samples(source, start), bytearray(source)
    if not count:
        raise SignalError("a FLAC of unknown length, without a frame that tells it")
    # STREAMINFO comes first; the number has 36 bits.
    told[start + 18 : start + 26] = (int.from_bytes(source[start + 18 : start + 26]) >> 36 << 36 | count).to_bytes(8)
    return soundfile.SoundFile(io.BytesIO(bytes(told)))


def _flac_samples(data: bytes, start: int) -> int:
    """Where the last frame of a FLAC ends, in samples, by its header (RFC 9639, section 9.1)."""
    fixed, place = int.from_bytes(data[start + 8 : start + 10]), len(data)
    while (place := data.rfind(b"\xff", start, place)) >= 0:
        head = data[place : place + 17]
        if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
            continue
        extra = max(0, 8 - (head[4] ^ 0xFF).bit_length() - 1)  # bytes after the first of a number in UTF-8's manner
        number = head[4] & (0x7F >> (extra + 1 if extra else 0))
        for byte in head[5 : 5 + extra]:
            number = number << 6 | byte & 0x3F
        code, end = head[2] >> 4, 5 + extra
        size = {1: 192, 6: head[end] + 1 if len(head) > end else 0, 7: int.from_bytes(head[end : end + 2]) + 1}.get(
            code, 576 << (code - 2) if 2 <= code <= 5 else 256 << (code - 8) if code >= 8 else 0
        )
        end += {6: 1, 7: 2}.get(code, 0) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
        if len(head) > end and size and _crc8(head[:end]) == head[end]:
            return size + (number if head[1] & 1 else number * fixed)
    return 0


def _crc8(data: bytes) -> int:
    found = 0
    for byte in data:
        found ^= byte
        for _ in range(8):
            found = (found << 1 ^ 0x07) & 0xFF if found & 0x80 else found << 1
    return found


def _open_ogg(path: str | os.PathLike[str]) -> OpenSound:
    import soundfile

    check_size(os.path.getsize(path), path)
    data = Path(path).read_bytes()
    pieces = _pieces(data)
    files = []
    try:
        for piece in pieces if len(pieces) > 1 else [data]:
            first = _packets(piece[: 2**16])[:1]
            source = _flac_of(piece) if first and first[0].startswith(b"\x7fFLAC") else piece
            file = _measured(soundfile.SoundFile(io.BytesIO(source)), source)
            files.append(file)
            if (file.samplerate, file.channels) != (files[0].samplerate, files[0].channels):
                raise SignalError(
                    f"expected pieces of {files[0].samplerate} Hz and {files[0].channels} channels (chained Ogg), got "
                    f"one of {file.samplerate} Hz and {file.channels} channels: cut the file apart"
                )
    except BaseException:
        for file in files:
            file.close()
        raise
    if len(files) > 1:
        warnings.warn(f"{os.fspath(path)}: {len(files)} sounds in a row (chained Ogg), read one after the other",
                      stacklevel=5)  # fmt: skip
    order = WAV_ORDER.get(files[0].channels) if files[0].subtype in ("VORBIS", "OPUS") else None
    return OpenSound(files, order)


def _pages(data: bytes) -> Iterator[tuple[int, int, int, list[int], int]]:
    """Where pages of Ogg begin; their flags, serial numbers and lengths of segments; where their data begin."""
    place = 0
    while (place := data.find(b"OggS", place)) >= 0 and place + 27 <= len(data):
        count = data[place + 26]
        lengths = list(data[place + 27 : place + 27 + count])
        begin = place + 27 + count
        if data[place + 4] == 0 and len(lengths) == count and begin + sum(lengths) <= len(data):
            yield place, data[place + 5], int.from_bytes(data[place + 14 : place + 18], "little"), lengths, begin
            place = begin + sum(lengths)
        else:
            place += 4


def _pieces(data: bytes) -> list[bytes]:
    """The logical streams that follow each other: one begins at a first page after pages that are none."""
    starts, running = [], True
    for place, flags, _, _, _ in _pages(data):
        if flags & 2 and running:
            starts.append(place)
        running = not flags & 2
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)] or [data]


def _packets(data: bytes) -> list[bytes]:
    """The packets of the first stream of an Ogg file."""
    found, part, serial = [], b"", None
    for _, _, number, lengths, begin in _pages(data):
        serial = number if serial is None else serial
        if number != serial:
            continue
        for length in lengths:
            part += data[begin : begin + length]
            begin += length
            if length < 255:
                found.append(part)
                part = b""
    return found


def _flac_of(data: bytes) -> bytes:
    """Ogg FLAC as FLAC: the first packet has 9 bytes before it, the others are blocks and frames as they are."""
    packets = _packets(data)
    return packets[0][9:] + b"".join(packets[1:])


def _data_of_wav(data: bytes) -> bytes:
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if data[place : place + 4] == b"data":
            return data[place + 8 : place + 8 + size]
        place += 8 + size + size % 2
    return b""


def _frame(data: bytes, place: int) -> tuple[int, int, tuple[int, int, int]] | None:
    """Bytes and samples of the frame of MPEG audio at a place, and what all frames of a stream share."""
    if place + 4 > len(data) or data[place] != 0xFF or data[place + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[place + 1] >> 3 & 3, 4 - (data[place + 1] >> 1 & 3)
    index, hertz, padding = data[place + 2] >> 4, data[place + 2] >> 2 & 3, data[place + 2] >> 1 & 1
    if version == 1 or layer == 4 or index in (0, 15) or hertz == 3:
        return None
    rate, bits = _HERTZ[version][hertz], 1000 * _RATES[1 if version == 3 else 2, layer][index]
    if layer == 1:
        return (12 * bits // rate + padding) * 4, 384, (version, layer, rate)
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * bits // rate + padding, samples, (version, layer, rate)


def _with_count(data: bytes) -> tuple[bytes | None, int | None]:
    """A stream of MPEG audio with the number of its frames before it, where it needs that; and its samples, counted."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        a, b, c, d = data[start + 6 : start + 10]
        start += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if data[start + 5] & 16 else 0)
    first = place = _next_frame(data, start, None)
    if first is None or place is None:
        return None, None
    found = _frame(data, first)
    assert found is not None
    size, samples, shared = found
    count, told = 0, _told(data[first : first + size])
    if told is not None:
        place += size
    while place is not None:
        frame = _frame(data, place)
        if frame is None or frame[2] != shared:
            place = _next_frame(data, place + 1, shared)
            continue
        if place + frame[0] > len(data):
            break
        count, place = count + 1, place + frame[0]
    if told is not None and count <= told + 1 + told // 100:
        return None, None
    if shared[1] != 3:  # no header tells of layers I and II
        return None, count * samples
    body = data[first + size if told is not None else first :]
    return _header(data[first : first + 4], count) + body, count * samples


def _next_frame(data: bytes, place: int, shared: tuple[int, int, int] | None) -> int | None:
    """The next place where a frame begins that another one follows, or the end of the data."""
    while (place := data.find(b"\xff", place)) >= 0:
        frame = _frame(data, place)
        if frame is not None and (shared is None or frame[2] == shared):
            after = _frame(data, place + frame[0])
            if (after is not None and after[2] == frame[2]) or place + frame[0] == len(data):
                return place
        place += 1
    return None


def _told(frame: bytes) -> int | None:
    """How many frames follow, by the header Xing, Info or VBRI in a frame without sound."""
    for name in (b"Xing", b"Info"):
        if (at := frame.find(name, 4, 64)) >= 0 and len(frame) >= at + 12:
            return int.from_bytes(frame[at + 8 : at + 12]) if frame[at + 7] & 1 else None
    at = frame.find(b"VBRI", 4, 64)
    return int.from_bytes(frame[at + 14 : at + 18]) if at >= 0 and len(frame) >= at + 18 else None


def _header(like: bytes, count: int) -> bytes:
    """A frame without sound that tells the number of frames: of the rate and channels of another frame."""
    mono = like[3] >> 6 == 3
    beside = (17 if mono else 32) if like[1] >> 3 & 3 == 3 else (9 if mono else 17)
    head = bytes([0xFF, like[1] | 1, (like[2] & 0x0C) | 0x90, like[3]])  # without checksum, of 128 or 80 kbit/s
    frame = _frame(head, 0)
    assert frame is not None
    return (head + bytes(beside) + b"Info" + (1).to_bytes(4) + count.to_bytes(4)).ljust(frame[0], b"\0")


def _seeks(file: "soundfile.SoundFile") -> bool:
    return not file.subtype.startswith("MPEG_LAYER") and file.seekable()


def _decode(file: "soundfile.SoundFile", first: int, last: int) -> Float32[np.ndarray, "N C"]:
    """The samples from first to last, or those of them that come before a damaged place."""
    import soundfile

    # soundfile seeks with every read, and seeking in an MP3 leaves gaps: that is read from its beginning, at once. In
    # old codecs of telephones one cannot seek.
    begin, block = (first, BLOCK) if _seeks(file) else (0, last)
    blocks = [np.empty((0, file.channels), np.float32)]
    with contextlib.suppress(soundfile.LibsndfileError):
        for position in range(file.seek(begin) if begin else 0, last, block):
            wanted = min(block, last - position)
            out = np.zeros((wanted, file.channels), np.float32)
            try:
                blocks.append(file.read(out=out))
            except soundfile.LibsndfileError:
                # Of some Opus files the last samples are read, and only the seek behind them fails.
                if file.subtype == "OPUS" and position + wanted == file.frames:
                    blocks.append(out)
                break
            if len(blocks[-1]) < wanted:  # fewer samples than the file claims
                break
    return np.concatenate(blocks)[first - begin :]
