"""Sound and video as a person types them: every kind of file gets the right result or one clear line."""

import json
import re
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hypersiren.signals.video.files import read_video, write_video
from hypersiren.training import checkpoints
from tests.cli.test_cli import run
from tests.cli.test_cli_fit import TINY
from tests.lines import refusal
from tests.signals.test_video import encoded

RATE = 4000


@pytest.fixture
def tone(tmp_path, monkeypatch):
    """A stereo tone in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    t = np.arange(RATE) / RATE
    wave = 0.5 * np.sin(2 * np.pi * np.outer(t, [200, 300]))
    soundfile.write("a.wav", wave, RATE)
    return wave


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A video of odd size in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    write_video("a.mp4", np.random.default_rng(0).integers(0, 256, (6, 15, 21, 3), np.uint8), 12)
    return tmp_path / "a.mp4"


def test_fit_audio_leaves_a_sound_and_pictures_and_render_takes_any_rate(tone, tmp_path, capsys):
    code, out, err = run(capsys, "fit", "audio", "a.wav", *TINY)
    assert code == 0, err
    assert re.search(r"first omega 13\d\d, chosen from the spectrum", err)  # sqrt(3) pi f T, 255 Hz in the mean square
    assert {"mse", "snr", "si_snr", "spectral_distance"} <= set(out.split())
    folder = tmp_path / "runs/audio-a"
    assert json.loads((folder / "metrics.json").read_text())["step"] == 4
    for name in ("fit", "true_fit"):
        wave, rate = soundfile.read(folder / f"{name}.wav")
        assert (wave.shape, rate) == ((RATE, 2), RATE)
    np.testing.assert_allclose(wave, tone, atol=1e-4)  # on the scale of the file
    assert [path.name for path in folder.glob("*.png")] == ["summary.png"]
    assert Image.open(folder / "summary.png").width == 1200
    events = EventAccumulator(str(folder), {"audio": 0, "images": 0}).Reload()
    assert len(events.Audio("audio/fit")) == 2
    assert len(events.Audio("audio/true_fit")) == 1
    assert events.Images("audio/summary")
    assert run(capsys, "render", folder, "--rate", 3 * RATE, "--out", "b.wav")[0] == 0
    assert soundfile.info("b.wav").frames == 3 * RATE
    fitted, _ = soundfile.read(folder / "fit.wav")
    np.testing.assert_allclose(soundfile.read("b.wav")[0][1::3], fitted, atol=1e-4)
    again, same, _ = run(capsys, "fit", "audio", "a.wav", *TINY)
    assert (again, same) == (0, out)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "FLOAT"])
def test_sounds_of_every_depth(subtype, tone, capsys):
    soundfile.write("b.wav", 3 * tone, RATE, subtype=subtype)  # beyond full scale: integers are clipped
    assert run(capsys, "fit", "audio", "b.wav", "--signal.start", 0.25, "--signal.stop", 0.5, *TINY)[0] == 0
    assert soundfile.info("runs/audio-b/fit.wav").frames == RATE // 4


def test_fit_video_leaves_a_clip_and_render_is_slow_motion_and_larger(clip, tmp_path, capsys):
    code, out, err = run(capsys, "fit", "video", "a.mp4", *TINY)
    assert code == 0, err
    assert {"psnr", "psnr_deviation"} <= set(out.split())
    folder = tmp_path / "runs/video-a"
    made = read_video(folder / "fit.mp4")
    assert (made.pixels.shape, made.fps) == ((6, 16, 22, 3), 12)  # MP4 has even sizes
    events = EventAccumulator(str(folder), {"images": 0}).Reload()
    assert events.Images("video/fit")[0].encoded_image_string.startswith(b"GIF8")
    words = ["--slow", 2, "--fps", 24, "--size", 45, "--out", "slow.gif"]
    assert run(capsys, "render", folder, *words)[0] == 0
    slow = read_video("slow.gif")
    assert slow.pixels.shape == (24, 45, 62, 3)
    assert slow.fps == pytest.approx(24, rel=0.05)


@pytest.mark.parametrize("part", [("--signal.stop", 0.82), ("--signal.frames", 5)])
def test_a_clip_with_dropped_frames_read_in_part_ends_renders_and_resumes(part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    frames = [np.full((32, 48, 3), 20 * i, np.uint8) for i in range(10)]
    # By its own words 11.25 frames a second; every second one of the first part was dropped.
    encoded("a.mkv", frames, [0, 200, 400, 600, 800, 850, 900, 950, 1000, 1050])
    code, _, err = run(capsys, "fit", "video", "a.mkv", *part, *TINY)
    assert code == 0, err
    folder = tmp_path / "runs/video-a"
    assert read_video(folder / "fit.mp4").pixels.shape == (5, 32, 48, 3)
    assert type(checkpoints.read(folder / "best.pt")["record"]["playback"]["fps"]) is float
    code, _, err = run(capsys, "render", folder, "--slow", 2, "--out", "slow.gif")
    assert code == 0, err
    assert read_video("slow.gif").fps == pytest.approx(5, rel=0.05)
    code, _, err = run(capsys, "fit", "video", "a.mkv", *part, *TINY, "--training.steps", 6)
    assert code == 0, err
    assert "resuming after 4 of 6 steps" in err


def test_without_pyav_a_gif_is_read_and_written_and_other_files_name_the_extra(clip, tmp_path, monkeypatch, capsys):
    write_video("b.gif", np.random.default_rng(0).integers(0, 256, (3, 8, 9, 3), np.uint8), 10)
    monkeypatch.setitem(sys.modules, "av", None)
    assert run(capsys, "fit", "video", "b.gif", *TINY)[0] == 0
    assert read_video(tmp_path / "runs/video-b/fit.gif").pixels.shape == (3, 8, 9, 3)
    code, _, err = run(capsys, "fit", "video", "a.mp4", *TINY)
    assert code == 2
    assert "pip install av" in err


def test_a_damaged_file_is_taken_up_to_there_and_that_is_said(clip, tone, capsys):
    soundfile.write("b.flac", np.random.default_rng(0).normal(size=(40_000, 1)) / 5, RATE)
    with open("b.flac", "r+b") as file:
        file.truncate(file.seek(0, 2) // 2)
    code, _, err = run(capsys, "fit", "audio", "b.flac", *TINY)
    assert code == 0, err
    assert "warning: b.flac: damaged or cut off" in err


@pytest.mark.parametrize("task", ["audio", "video"])
def test_compare_writes_a_table_and_a_picture(task, clip, tone, tmp_path, capsys):
    name = {"audio": "a.wav", "video": "a.mp4"}[task]
    code, out, err = run(capsys, "compare", task, name, "--fields", "siren,relu_pe", *TINY)
    assert code == 0, err
    assert out.split()[:2] == ["field", "mse"]
    picture = Image.open(tmp_path / f"runs/compare-{task}-a/comparison.png")
    assert picture.height > 3 * 115


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "audio", "empty.wav"], "empty.wav: empty file"),
        (["fit", "audio", "none.wav"], "holds no samples"),
        (["fit", "audio", "silent.wav"], "silent.wav: expected a sound, got silence"),
        (["fit", "audio", "nan.wav"], "expected finite samples, got [nan]"),
        (["fit", "audio", "text.wav"], "not a sound"),
        (["fit", "audio", "a.wav", "--signal.stop", 9], "a part within 0 to 1 s"),
        (["fit", "audio", "a.wav", "--signal.start", -1], "signal.start"),
        (["fit", "video", "text.mp4"], "not a video"),
        (["fit", "video", "cut.mp4"], "not a video"),
        (["fit", "video", "a.mp4", "--signal.start", 9], "a part within 0 to 0.5 s"),
        (
            ["fit", "edit", "--signal.size", 8, "--network.kind", "siren", "--network.first_omega", "null"],
            "first_omega: expected a num",
        ),
        (["render", "RUN", "--fps", 3], "--fps: not for the sound"),
        (["render", "RUN", "--rate", 0], "--rate above 0"),
        (["render", "RUN", "--out", "a.mp3"], "expected the ending .wav"),
    ],
)
def test_mistakes_get_one_line_and_exit_code_2(words, message, clip, tone, tmp_path, capsys):
    for name in ("empty.wav", "text.wav", "text.mp4"):
        (tmp_path / name).write_text("" if name.startswith("empty") else "nothing to play")
    soundfile.write("none.wav", np.zeros((0, 1)), RATE)
    soundfile.write("silent.wav", np.zeros((99, 1)), RATE)
    soundfile.write("nan.wav", np.full((99, 1), np.nan), RATE, subtype="FLOAT")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:-500])  # its index lies at the end
    if "RUN" in words:
        run(capsys, "fit", "audio", "a.wav", *TINY)
        words = ["runs/audio-a" if word == "RUN" else word for word in words]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert message.lower() in err.lower()
    assert refusal(err)
