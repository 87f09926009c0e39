"""Sets of sounds: folders, splits, windows, masks, and whatever Python hands over."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from hypersiren.signals.sets.sounds import as_sounds, at_rate, cut, load_all_sounds, load_sounds, split_sounds
from hypersiren.signals.sets.splits import DatasetError
from hypersiren.signals.sound.cosines import resampled
from hypersiren.signals.sound.files import write_sound


def tone(n, rate=8000, hertz=440.0):
    return np.sin(2 * np.pi * hertz * np.arange(n) / rate)[:, None].astype(np.float32) / 2


@pytest.fixture
def folder(tmp_path):
    for i in range(40):
        (tmp_path / f"speaker{i % 3}").mkdir(exist_ok=True)
        write_sound(tmp_path / f"speaker{i % 3}/{i:02d}.wav", tone(100 + 10 * i, hertz=300.0 + i), 8000)
    (tmp_path / "readme.txt").write_text("nothing to hear")
    return tmp_path


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    window=st.integers(8, 24),
    hop=st.integers(1, 30),
    partial=st.sampled_from(["mask", "drop"]),
)
def test_windows_are_parts_of_their_recordings(lengths, window, hop, partial):
    waves = [np.arange(1, n + 1, dtype=np.float32) + 1000 * i for i, n in enumerate(lengths)]
    made = cut([(str(i), wave) for i, wave in enumerate(waves)], 8000, window, hop, partial=partial)
    assert len(made) + len(made.skipped) >= len(lengths)
    for wave, inside, i in zip(made.waves, made.inside, made.recording.tolist(), strict=True):
        count = int(inside.sum())
        assert inside[:count].all()  # one stretch, from the beginning
        assert count >= window / 8
        assert partial == "mask" or count == window
        start = int(wave[0]) - 1000 * i - 1
        assert start % hop == 0
        assert np.array_equal(wave[:count].numpy(), waves[i][start : start + window])
        assert not wave[count:].any()
    assert made.recording.tolist() == sorted(made.recording.tolist())
    if hop <= window and partial == "mask":  # everything is in a window, but for ends of less than an eighth
        for i, wave in enumerate(waves):
            seen = {float(v) for w, m in zip(made.waves, made.inside, strict=True) for v in w[m].tolist()}
            missing = [v for v in wave.tolist() if v not in seen]
            assert len(missing) < max(1, window / 8) or str(i) in str(made.skipped)


def test_silence_teaches_nothing():
    loud, faint = tone(64)[:, 0], 1e-4 * tone(64)[:, 0]
    recordings = [("a", np.concatenate([loud, faint, np.zeros(64, np.float32)])), ("b", np.zeros(64, np.float32))]
    made = cut(recordings, 8000, 64, 64)
    assert len(made) == 1
    assert made.skipped == ("b: silent",)
    assert len(cut(recordings, 8000, 64, 64, silence=100)) == 2


def test_a_folder_is_split_by_file(folder):
    sets = {split: load_sounds(folder, split, window=64) for split in ("train", "val", "test")}
    files = {split: len(s.recording.unique()) for split, s in sets.items()}
    assert files == {"train": 36, "val": 2, "test": 2}
    assert sets["train"].skipped == ("readme.txt: not a sound that libsndfile can read",)
    starts = [tuple(s.of(int(i)).waves[0].tolist()) for s in sets.values() for i in s.recording.unique()]
    assert len(set(starts)) == 40  # no recording is in two splits
    again = load_sounds(folder, "val", window=64)
    assert torch.equal(again.waves, sets["val"].waves)
    others = {tuple(load_sounds(folder, "val", window=64, seed=s).waves[0].tolist()) for s in range(4)}
    assert len(others) > 1
    assert load_sounds(folder, "test", window=64).waves.shape[1] == 64
    for made, one in zip(load_all_sounds(folder, window=64), sets.values(), strict=True):
        assert torch.equal(made.waves, one.waves)
        assert (made.name, made.skipped) == (one.name, one.skipped)


def test_folders_train_and_test_are_the_splits(tmp_path):
    for part, count in (("train", 30), ("test", 4)):
        (tmp_path / part).mkdir()
        for i in range(count):
            write_sound(tmp_path / part / f"{i}.wav", tone(256, hertz=200.0 + i + 50 * (part == "test")), 8000)
    train, val, test = (load_sounds(tmp_path, split, window=128) for split in ("train", "val", "test"))
    assert [len(s.recording.unique()) for s in (train, val, test)] == [28, 2, 4]
    assert len(train) == 28 * 3  # windows to learn from overlap by half, others do not
    assert len(test) == 4 * 2


def test_rates_and_channels(tmp_path):
    write_sound(tmp_path / "a.wav", np.concatenate([tone(4410, 44100), -tone(4410, 44100)], 1), 44100)
    stereo = np.concatenate([tone(4410, 44100), 0 * tone(4410, 44100)], 1)
    write_sound(tmp_path / "b.wav", stereo, 44100)
    write_sound(tmp_path / "c.wav", tone(1600, 16000), 16000)
    write_sound(tmp_path / "d.wav", tone(800), 8000)
    names = [load_sounds(tmp_path, split, window=800, hop=800, seed=0) for split in ("train", "val", "test")]
    waves = torch.cat([s.waves for s in names])
    skipped = sum((s.skipped for s in names), ())
    assert skipped == ("a.wav: silent",)  # channels are averaged
    peaks = sorted(waves.abs().amax(1).tolist())
    assert peaks == pytest.approx([0.25, 0.5, 0.5], abs=0.03)
    for wave in waves:  # all of them 440 Hz
        assert int(torch.fft.rfft(wave).abs().argmax()) == 44
    assert at_rate(tone(441, 44100)[:, 0], 44100, 8000).shape == (80,)


def test_bad_folders_are_told_in_one_line(tmp_path):
    cases = [
        (None, "sounds need a root"),
        (tmp_path / "none", "no such folder"),
        (tmp_path, "at least 3 audio files in .* to split them, found 0"),
    ]
    for root, message in cases:
        with pytest.raises(DatasetError, match=message) as error:
            load_sounds(root, "train")
        assert "\n" not in str(error.value)
    for i in range(3):
        write_sound(tmp_path / f"{i}.wav", tone(100), 8000)
    with pytest.raises(DatasetError, match=r"none of 1 files holds a window of sound; the first: .* fill no window"):
        load_sounds(tmp_path, "train", window=4096)
    with pytest.raises(DatasetError, match="expected a split of train, val, test, got 'tests'"):
        load_sounds(tmp_path, "tests")


class Pairs(Dataset):
    """As torchaudio's sets: (waveform (1, N), rate, label)."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.full((1, 50 + i), 0.5), 8000, "label"


def test_whatever_python_hands_over(tmp_path):
    write_sound(tmp_path / "a.wav", tone(60), 8000)
    assert as_sounds(np.ones((4, 30))).waves.shape == (4, 30)
    assert as_sounds(torch.full((2, 30), 16384, dtype=torch.int16)).waves.unique().tolist() == [0.5]
    assert as_sounds(Pairs()).inside.sum(1).tolist() == [50, 51, 52]
    assert as_sounds([tmp_path / "a.wav", str(tmp_path / "a.wav")], window=20).recording.tolist() == [0] * 3 + [1] * 3
    made = as_sounds([np.ones(40), np.ones(25)], window=20, rate=16000)
    assert (made.rate, made.recording.tolist(), made.inside.sum(1).tolist()) == (16000, [0, 0, 1, 1], [20, 20, 20, 5])
    assert as_sounds(made) is made


@pytest.mark.parametrize(
    ("sounds", "message"),
    [
        (np.ones(30), r"expected an array \(M, N\), a recording in each row, got \(30,\)"),
        ([], "expected at least one recording, got none"),
        ([np.ones((3, 30))], r"expected a wave \(N,\) or \(1, N\) of recording 0, got \(3, 30\)"),
        ([np.array([0.0, np.inf])], "expected finite samples in recording 0"),
        ([np.ones(4, np.int64)], "expected floats, int16 or int32 in recording 0, got torch.int64"),
        ([np.zeros(30)], "nothing to learn from in 1 recordings; the first: 0: silent"),
        (["nowhere.wav"], "recording 0: nowhere.wav: no such file"),
        ([{}], "recording 0: expected a wave or a file, got a dict"),
    ],
)
def test_what_is_no_set_of_sounds_is_refused(sounds, message):
    with pytest.raises(DatasetError, match=message):
        as_sounds(sounds)


def test_a_split_never_separates_windows_of_a_recording():
    made = as_sounds([np.ones(50 + i) for i in range(25)], window=16, hop=8)
    train, validation = split_sounds(made, None)
    assert not set(train.recording.tolist()) & set(validation.recording.tolist())
    assert len(validation.recording.unique()) == 2
    assert len(train) + len(validation) == len(made)
    with pytest.raises(DatasetError, match="at least 2 recordings"):
        split_sounds(as_sounds([np.ones(50)]), None)


def test_a_finer_raster_keeps_the_samples_spectrum():
    n, f = 32, 3
    x, fine = (np.arange(n) + 0.5) / n, (np.arange(f * n) + 0.5) / (f * n)
    wave = torch.from_numpy(np.cos(np.pi * 5 * x) + 0.3 * np.cos(np.pi * 20 * x) + 0.1)
    expected = torch.from_numpy(np.cos(np.pi * 5 * fine) + 0.3 * np.cos(np.pi * 20 * fine) + 0.1)
    torch.testing.assert_close(resampled(wave[None, :, None], f)[0, :, 0], expected)
