"""Sounds of the field against what one would guess: each kind by its right value."""

import io
import warnings

import numpy as np
import pytest
import soundfile

from hypersiren.signals.files import SignalError
from hypersiren.signals.sets.sounds import load_sounds
from hypersiren.signals.sound import opened
from hypersiren.signals.sound.files import read_sound

RATE = 44100
T = np.arange(6 * RATE) / RATE
# Loud noise after silence: a variable rate varies much.
WAVE = np.where(T < 4, 0, 0.3) * np.sin(2 * np.pi * 440 * T) + np.where(T < 4, 0, 0.1) * np.random.default_rng(
    0
).normal(size=len(T))
TONES = np.stack([0.3 * np.sin(2 * np.pi * 200 * (k + 1) * np.arange(2 * 48000) / 48000) for k in range(8)], axis=1)


def quietly(path, **words):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_sound(path, **words)


def said(path, **words):
    with pytest.warns(UserWarning, match="ogg|flac|mp3") as heard:
        sound = read_sound(path, **words)
    assert len(heard) == 1
    return sound, str(heard[0].message)


def peaks(wave, rate, first=0):
    """Which of the tones of 200, 400, 600 ... Hz each channel has."""
    part = wave[rate // 2 : 3 * rate // 2]
    return [round(np.abs(np.fft.rfft(part[:, c])).argmax() / 200) - 1 - first for c in range(wave.shape[1])]


def mp3(mode="VARIABLE", wave=WAVE):
    file = io.BytesIO()
    words = {"compression_level": 0.6, "bitrate_mode": mode}
    soundfile.write(file, wave, RATE, format="MP3", subtype="MPEG_LAYER_III", **words)
    return file.getvalue()


def without_header(data):
    """Without the first frame, which tells the number of frames."""
    size, _, _ = opened._frame(data, 0)
    assert b"Xing" in data[:size] or b"Info" in data[:size]
    return data[size:]


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("before", ["", "id3"])
def test_mp3_without_a_header_of_its_length(tmp_path, mode, before):
    whole = mp3(mode)
    data = without_header(whole)
    tag = b"ID3\4\0\0\0\0\2\0" + bytes(256) if before else b""
    (tmp_path / "a.mp3").write_bytes(tag + data)
    (tmp_path / "whole.mp3").write_bytes(whole)
    sound, true = quietly(tmp_path / "a.mp3"), quietly(tmp_path / "whole.mp3")
    assert abs(sound.seconds - 6) < 0.1
    # The header of a whole file also tells what the encoder put before the sound.
    late = np.correlate(
        sound.wave[5 * RATE : 5 * RATE + 9000, 0], true.wave[5 * RATE + 2000 : 5 * RATE + 6000, 0]
    ).argmax()
    start = 5 * RATE + late
    np.testing.assert_allclose(
        sound.wave[start : start + 4000], true.wave[5 * RATE + 2000 : 5 * RATE + 6000], atol=1e-4
    )
    part = quietly(tmp_path / "a.mp3", start=4.5, stop=5)
    np.testing.assert_allclose(part.wave, sound.wave[round(4.5 * RATE) : 5 * RATE], atol=1e-6)


def test_mp3s_in_a_row_are_read_whole(tmp_path):
    (tmp_path / "a.mp3").write_bytes(mp3("CONSTANT") + mp3("CONSTANT"))
    assert abs(quietly(tmp_path / "a.mp3").seconds - 12) < 0.2


def test_frames_are_counted_whatever_lies_between(tmp_path):
    data = without_header(mp3("CONSTANT"))
    size, samples, _ = opened._frame(data, 0)
    junk = data[: 50 * size] + b"junk" * 99 + data[50 * size :]
    told, count = opened._with_count(junk)
    assert count == opened._with_count(data)[1]
    assert count == pytest.approx(len(WAVE), abs=4 * samples)
    assert told is not None
    assert opened._with_count(b"\xff\xfb" * 300) == (None, None)


def test_mp2_and_mp3_in_wav(tmp_path):
    av = pytest.importorskip("av")
    for name, codec, form in (("a.mp2", "mp2", "mp2"), ("a.wav", "libmp3lame", "wav"), ("b.wav", "mp2", "wav")):
        with av.open(tmp_path / name, "w", format=form) as container:
            stream = container.add_stream(codec, RATE, layout="mono")
            stream.bit_rate = 128000
            resampler = av.AudioResampler(stream.codec_context.format.name, "mono", RATE)
            for i in range(0, len(WAVE), 4096):
                frame = av.AudioFrame.from_ndarray(WAVE[None, i : i + 4096].astype(np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts = RATE, i
                for part in resampler.resample(frame):
                    container.mux(stream.encode(part))
            for part in resampler.resample(None):
                container.mux(stream.encode(part))
            container.mux(stream.encode())
        sound = quietly(tmp_path / name)
        assert abs(sound.seconds - 6) < 0.15, name
        assert np.abs(sound.wave[: 3 * RATE]).max() < 0.01
        spectrum = np.abs(np.fft.rfft(sound.wave[5 * RATE : 5 * RATE + RATE // 2, 0]))
        assert 2 * spectrum.argmax() == pytest.approx(440, abs=2), name


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_in_pieces_is_read_whole(tmp_path, subtype):
    pieces = []
    for tone in (0, 1, 2):
        file = io.BytesIO()
        soundfile.write(file, TONES[:, tone], 48000, format="OGG", subtype=subtype)
        pieces.append(file.getvalue())
    (tmp_path / "a.ogg").write_bytes(b"".join(pieces))
    sound, text = said(tmp_path / "a.ogg")
    assert "3 sounds in a row (chained Ogg)" in text
    assert sound.seconds == pytest.approx(6)
    assert [peaks(sound.wave[2 * i * 48000 :], 48000)[0] for i in range(3)] == [0, 1, 2]
    part, _ = said(tmp_path / "a.ogg", start=3, stop=5)
    np.testing.assert_allclose(part.wave, sound.wave[3 * 48000 : 5 * 48000], atol=1e-6)
    file = io.BytesIO()
    soundfile.write(file, TONES[:, :2], 48000, format="OGG", subtype=subtype)
    (tmp_path / "b.ogg").write_bytes(pieces[0] + file.getvalue())
    with pytest.raises(SignalError, match=r"b\.ogg: expected pieces of 48000 Hz and 1 channels"):
        read_sound(tmp_path / "b.ogg")
    (tmp_path / "c.ogg").write_bytes(pieces[0])
    assert quietly(tmp_path / "c.ogg").seconds == pytest.approx(2)


# The order of Vorbis, by its specification, in the numbers of WAV's order.
CODEC = {3: (0, 2, 1), 5: (0, 2, 1, 3, 4), 6: (0, 2, 1, 4, 5, 3), 7: (0, 2, 1, 5, 6, 4, 3), 8: (0, 2, 1, 6, 7, 4, 5, 3)}


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 7, 8])
def test_channels_come_in_the_order_of_wav(tmp_path, subtype, channels):
    wave = TONES[:, list(CODEC.get(channels, range(channels)))]  # as an encoder hands them to its codec
    soundfile.write(tmp_path / "a.ogg", wave, 48000, format="OGG", subtype=subtype)
    found = peaks(quietly(tmp_path / "a.ogg").wave, 48000)
    low = 3 if channels == 6 else 3 if channels in (7, 8) else None  # its LFE channel is cut above 120 Hz
    assert [c for c in range(channels) if found[c] != c and c != low] == []


def test_five_one_of_an_encoder(tmp_path):
    av = pytest.importorskip("av")
    with av.open(tmp_path / "a.opus", "w") as container:
        stream = container.add_stream("libopus", 48000, layout="5.1")
        resampler = av.AudioResampler(stream.codec_context.format.name, "5.1", 48000)
        wave = np.ascontiguousarray(TONES[:, :6].T.astype(np.float32))
        for i in range(0, wave.shape[1], 4800):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, i : i + 4800]), "fltp", "5.1")
            frame.sample_rate, frame.pts = 48000, i
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        for part in resampler.resample(None):
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    assert peaks(quietly(tmp_path / "a.opus").wave, 48000) == [0, 1, 2, 3, 4, 5]


def test_flac_of_unknown_length(tmp_path):
    soundfile.write(tmp_path / "a.flac", 0.3 * TONES[:, :2], 48000)
    true = quietly(tmp_path / "a.flac")
    data = bytearray((tmp_path / "a.flac").read_bytes())
    length = int.from_bytes(data[18:26])
    data[18:26] = (length >> 36 << 36).to_bytes(8)
    (tmp_path / "b.flac").write_bytes(data)
    for words in ({}, {"start": 0.5, "stop": 1.5}):
        np.testing.assert_array_equal(
            quietly(tmp_path / "b.flac", **words).wave, quietly(tmp_path / "a.flac", **words).wave
        )
    assert quietly(tmp_path / "b.flac").seconds == true.seconds
    (tmp_path / "b.flac").write_bytes(data[: len(data) // 2])
    assert 0.5 < read_sound(tmp_path / "b.flac").seconds < 1.5


def test_flac_in_ogg(tmp_path):
    av = pytest.importorskip("av")
    with av.open(tmp_path / "a.oga", "w", format="ogg") as container:
        stream = container.add_stream("flac", 48000, layout="stereo")
        wave = np.rint(32767 * TONES[:, :2]).astype(np.int16)
        for i in range(0, len(wave), 4608):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[i : i + 4608]).reshape(1, -1), "s16", "stereo")
            frame.sample_rate, frame.pts = 48000, i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_allclose(quietly(tmp_path / "a.oga").wave, wave / 32768, atol=1e-4)
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "test").mkdir()
    for part in ("train/a.oga", "train/b.oga", "test/a.oga"):
        (tmp_path / "set" / part).write_bytes((tmp_path / "a.oga").read_bytes())
    assert len(load_sounds(tmp_path / "set", "test")) > 10
