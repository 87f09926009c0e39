"""Reading and writing one sound: every depth, any part, every way a file can be wrong."""

import warnings
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.signals.files import SignalError
from hypersiren.signals.sound import files as room
from hypersiren.signals.sound.files import Sound, read_sound, scaled, write_sound
from hypersiren.signals.sound.opened import BLOCK
from hypersiren.tasks.panels import SoundPanel
from hypersiren.tasks.registry import open_task


def tones(samples: int, channels: int = 1) -> np.ndarray:
    """A different tone in each channel, just below full scale."""
    t = np.arange(samples)[:, None]
    return (0.9 * np.sin(0.05 * (1 + np.arange(channels)) * t)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize(
    ("ending", "subtype", "tolerance"),
    [
        ("wav", "PCM_U8", 2**-7),
        ("wav", "PCM_16", 2**-15),
        ("wav", "PCM_24", 2**-23),
        ("wav", "FLOAT", 0),
        ("wav", "DOUBLE", 0),
        ("wav", "ULAW", 2**-5),
        ("flac", "PCM_24", 2**-23),
        ("aiff", "PCM_S8", 2**-7),
    ],
)
def test_any_depth_and_number_of_channels(tmp_path, ending, subtype, tolerance, channels):
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tones(9000, channels), 22050, subtype=subtype)
    sound = read_sound(path)
    assert (sound.wave.dtype, sound.wave.shape, sound.rate) == (np.float32, (9000, channels), 22050)
    np.testing.assert_allclose(sound.wave, tones(9000, channels), atol=tolerance)


@pytest.mark.parametrize("ending", ["mp3", "ogg"])
def test_parts_of_lossy_files_are_at_their_place(tmp_path, ending):
    soundfile.write(tmp_path / f"a.{ending}", tones(44100, 2), 44100)
    for start, stop in [(0, 44100), (11025, 22050), (44099, 44100)]:
        sound = read_sound(tmp_path / f"a.{ending}", start / 44100, stop / 44100)
        np.testing.assert_allclose(sound.wave, tones(44100, 2)[start:stop], atol=0.1)


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16"])
def test_codecs_in_which_one_cannot_seek(tmp_path, subtype):
    wave = 0.5 * np.sin(np.arange(4000) / 50)
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype=subtype)
    whole, part = read_sound(tmp_path / "a.wav"), read_sound(tmp_path / "a.wav", start=0.25, stop=0.4)
    assert np.abs(whole.wave[:4000, 0] - wave).max() < 0.1
    np.testing.assert_array_equal(part.wave, whole.wave[2000:3200])


def test_floats_beyond_full_scale_are_kept(tmp_path):
    soundfile.write(tmp_path / "a.wav", 7 * tones(100), 8000, subtype="FLOAT")
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav").wave, 7 * tones(100))


@given(first=st.integers(0, 9999), length=st.integers(1, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_part_is_what_a_slice_is(tmp_path_factory, first, length):
    path = tmp_path_factory.getbasetemp() / "part.flac"
    if not path.exists():
        soundfile.write(path, tones(10_000), 16_000, subtype="PCM_24")
    last = min(first + length, 10_000)
    sound = read_sound(path, first / 16_000, last / 16_000)
    np.testing.assert_allclose(sound.wave, tones(10_000)[first:last], atol=2**-23)
    assert sound.seconds == (last - first) / 16_000


def test_parts_outside_of_the_file(tmp_path):
    write_sound(tmp_path / "a.wav", tones(16_000), 16_000)
    with pytest.raises(SignalError, match=r"a\.wav: expected a start before the end, 1 s, got 1 s"):
        read_sound(tmp_path / "a.wav", 1.0)
    for start, stop in [(0.5, 1.5), (-0.1, 0.5), (0.6, 0.5), (0.5, 0.5), (float("nan"), None), (0, 1.001)]:
        with pytest.raises(SignalError, match=r"a\.wav: expected a part within 0 to 1 s, got "):
            read_sound(tmp_path / "a.wav", start, stop)
    with pytest.raises(SignalError, match=r"no sample lies between 0\.50001 and 0\.50002 s at 16000 samples"):
        read_sound(tmp_path / "a.wav", 0.50001, 0.50002)
    assert len(read_sound(tmp_path / "a.wav", 0.5, 1.0).wave) == 8000


def test_a_file_damaged_in_the_middle_is_read_up_to_there(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (40_000, 1)).astype(np.float32)
    soundfile.write(tmp_path / "a.flac", noise, 8000, subtype="PCM_24")
    data = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match=r"a\.flac: damaged or cut off at [12]\.\d+ s; read up to there"):
        sound = read_sound(tmp_path / "a.flac")
    assert 10_000 < len(sound.wave) <= 20_000
    np.testing.assert_allclose(sound.wave, noise[: len(sound.wave)], atol=2**-23)
    with pytest.raises(SignalError, match="nothing can be decoded from 4 s on"):
        read_sound(tmp_path / "a.flac", start=4.0)
    # The part before the damage is whole: nothing to warn of.
    assert len(read_sound(tmp_path / "a.flac", stop=1.0).wave) == 8000


def test_a_file_that_claims_more_samples_than_it_has_ends_at_once(tmp_path):
    soundfile.write(tmp_path / "a.flac", tones(3000), 8000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    assert int.from_bytes(data[21:26], "big") & (2**36 - 1) == 3000  # samples in STREAMINFO
    for claim in (2**27, 2**36 - 1):
        packed = int.from_bytes(data[21:26], "big") >> 36 << 36 | claim
        (tmp_path / "b.flac").write_bytes(data[:21] + packed.to_bytes(5, "big") + data[26:])
        if claim > 2**28:
            with pytest.raises(SignalError, match=r"b\.flac: would take 256\.0 GiB .* ask for a shorter part"):
                read_sound(tmp_path / "b.flac")
        else:
            with pytest.warns(UserWarning, match="read up to there"):
                found = read_sound(tmp_path / "b.flac")
            assert len(found.wave) > 3000 - BLOCK
            np.testing.assert_allclose(found.wave, tones(3000)[: len(found.wave)], atol=1e-4)


def test_samples_that_are_no_numbers_are_named(tmp_path):
    for bad in (np.nan, np.inf):
        samples = tones(8000, 2)
        samples[6000, 1] = bad
        soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
        with pytest.raises(SignalError, match=rf"expected finite samples, got \[.*, {bad}\] at 0.7500 s"):
            read_sound(tmp_path / "a.wav", start=0.5)
        assert len(read_sound(tmp_path / "a.wav", stop=0.75).wave) == 6000


def test_files_that_are_no_sounds(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("I am not a sound. " * 100)
    (tmp_path / "headerless.raw").write_bytes(bytes(1000))
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), 8000)
    write_sound(tmp_path / "cut.wav", tones(100), 8000)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "cut.wav").read_bytes()[:20])
    for name, reason in {
        "missing.wav": "no such file",
        ".": "a folder, not a sound",
        "empty.wav": "empty file",
        "text.wav": "not a sound that libsndfile can read",
        "headerless.raw": "not a sound that libsndfile can read",
        "cut.wav": "cut off within its header",
        "none.wav": "holds no samples",
    }.items():
        with pytest.raises(SignalError, match=reason) as caught:
            read_sound(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_scaling_to_one_and_back(tmp_path):
    sound = Sound(np.array([[0.1, -0.02], [-0.4, 0.3]], np.float32), 8000)
    loud, scale = scaled(sound)
    assert np.abs(loud.wave).max() == 1
    np.testing.assert_allclose(loud.wave * scale, sound.wave, rtol=1e-6)
    soundfile.write(tmp_path / "silence.wav", np.zeros((10, 2)), 8000)
    silence = read_sound(tmp_path / "silence.wav")  # fine in itself
    with pytest.raises(SignalError, match="got silence"):
        scaled(silence)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_written_sounds_are_read_again_and_by_others(tmp_path, dtype):
    write_sound(tmp_path / "a.WAV", tones(500, 2).astype(dtype), 11025)
    sound = read_sound(tmp_path / "a.WAV")
    np.testing.assert_allclose(sound.wave, tones(500, 2), atol=2**-23)
    with wave.open(str(tmp_path / "a.WAV")) as file:  # the plainest reader there is
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (2, 3, 11025, 500)
    assert [p.name for p in tmp_path.iterdir()] == ["a.WAV"]


def test_what_is_beyond_full_scale_is_kept_as_floats_and_said(tmp_path):
    with pytest.warns(UserWarning, match=r"a\.wav: the wave goes to 3 of full scale") as heard:
        write_sound(tmp_path / "a.wav", np.array([[1.0], [-1.0], [3.0], [-2.5], [np.inf], [np.nan]]), 8000)
    assert len(heard) == 1
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav").wave[:, 0], [1, -1, 3, -2.5, 1, 0])
    assert soundfile.info(tmp_path / "a.wav").subtype == "FLOAT"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_sound(tmp_path / "b.wav", np.array([[1.0], [-1.0 - 1e-7]]), 8000)
    assert soundfile.info(tmp_path / "b.wav").subtype == "PCM_24"


def test_a_loud_file_goes_through_the_task_and_back(tmp_path):
    loud = 4 * tones(2000)
    soundfile.write(tmp_path / "loud.wav", loud, 8000, subtype="FLOAT")
    task = open_task("audio", {"signal": {"path": tmp_path / "loud.wav"}})
    with pytest.warns(UserWarning, match="full scale"):
        SoundPanel(task.wave * task.playback["scale"], 8000).write(tmp_path, "true_fit")  # type: ignore[attr-defined]
    np.testing.assert_allclose(read_sound(tmp_path / "true_fit.wav").wave, loud, rtol=1e-5, atol=1e-6)
    assert task.playback["scale"] == pytest.approx(np.abs(loud).max(), rel=1e-6)


def test_what_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(SignalError, match="No such file or directory"):
        write_sound(tmp_path / "no" / "a.wav", tones(10), 8000)
    with pytest.raises(SignalError, match=r"expected the ending \.wav, got '\.mp3'"):
        write_sound(tmp_path / "a.mp3", tones(10), 8000)
    with pytest.raises(ValueError, match="at least one sample"):
        write_sound(tmp_path / "a.wav", np.zeros((0, 1)), 8000)
    write_sound(tmp_path / "a.wav", tones(10), 8000)

    def fill_the_disk(*_):
        raise OSError(28, "No space left on device")

    # The sound that was there stays, and nothing else is left behind.
    monkeypatch.setattr(room, "atomic_write", fill_the_disk)
    with pytest.raises(SignalError, match=r"cannot be written \(No space left on device\)"):
        write_sound(tmp_path / "a.wav", tones(20), 8000)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]
    assert len(read_sound(tmp_path / "a.wav").wave) == 10
