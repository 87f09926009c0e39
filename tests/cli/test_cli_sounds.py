"""A set of sounds from the command line: training, its table and sounds, and a recording of one's own."""

import numpy as np
import pytest
import soundfile

from hypersiren.signals.sound.files import read_sound, write_sound
from tests.cli.test_cli import run

SMALL = [
    "--data.kind=sounds", "--data.window=64", "--siren.hidden_features=[16,64]", "--siren.first_omega=60",
    "--adapter.priors=2", "--adapter.rank=16", "--prior.finer=1", "--training.steps=2", "--training.batch_size=4",
    "--training.validate_every=2", "--device=cpu",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    for i in range(20):
        wave = np.sin((0.3 + i % 2) * np.arange(200) + generator.uniform(0, 6))
        write_sound(tmp_path / f"set/{i}.wav", 0.5 * wave[:, None], 8000)
    (tmp_path / "set/notes.txt").write_text("no sound")
    return tmp_path


@pytest.mark.painted
def test_train_and_complete_sounds(folder, capsys, monkeypatch):
    opened = []

    class SoundFile(soundfile.SoundFile):
        def __init__(self, file, *more, **options):
            if "set/" in str(file):
                opened.append(str(file))
            super().__init__(file, *more, **options)

    monkeypatch.setattr(soundfile, "SoundFile", SoundFile)
    code, out, err = run(capsys, "train", *SMALL, "--data.root", "set")
    assert code == 0, err
    assert len(opened) == len(set(opened)) == 21  # each file once, for training and table
    assert "band-limited" in out
    assert "training windows" in err
    assert "notes.txt: not a sound that libsndfile can read" in err
    made = {path.name for path in (folder / "runs/sounds/completion").iterdir()}
    assert {"table.txt", "metrics.json", "truth.wav", "gap_completion.wav", "25_percent.png"} <= made
    assert (folder / "runs/sounds/prior.pt").exists()
    words = ["complete", "runs/sounds", "--device", "cpu"]
    code, out, err = run(capsys, *words, "set/3.wav", "--gap", "1.5", "--out", "mine", "--samples", "2")
    assert code == 0, err
    assert out.split() == [f"mine/3_{name}" for name in ("completed.wav", "sample1.wav", "sample2.wav", "panel.png")]
    assert len(read_sound("mine/3_completed.wav").wave) == len(read_sound("mine/3_sample2.wav").wave) == 200
    assert run(capsys, *words, "--samples", "3", "--out", "drawn")[0] == 0
    plain, drawn = ((folder / name / "25_percent.png").read_bytes() for name in ("runs/sounds/completion", "drawn"))
    assert plain != drawn
    for more, message in (
        (["set/3.wav", "--context", "5"], "--context is not for sounds"),
        (["--share", "0.5"], "--share needs a picture, points or a recording to complete"),
        (["set/notes.txt"], "not a sound that libsndfile can read"),
    ):
        code, _, err = run(capsys, *words, *more)
        assert code
        assert message in err


def test_a_set_needs_a_root(folder, capsys):
    code, _, err = run(capsys, "train", *SMALL)
    assert code
    assert "sounds need a root, the folder that holds them: --data.root DIR" in err
