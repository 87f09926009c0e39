"""The table of a set of sounds, its baselines against plain formulas, and a user's recordings."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hypersiren.completion.complete import complete_files
from hypersiren.completion.prediction import completed
from hypersiren.completion.registry import set_row
from hypersiren.completion.sounds.baselines import band_limited, fitted, linear, on_axes
from hypersiren.completion.sounds.cases import CONTEXTS, context_masks, relative_mse, sound_case
from hypersiren.completion.sounds.settings import SoundSettings
from hypersiren.completion.sounds.study import ONE, complete_recording, sampled, table
from hypersiren.completion.sounds.task import SoundCompletion
from hypersiren.completion.table import OURS, PRIOR
from hypersiren.completion.train import SetRun
from hypersiren.errors import UserError
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.mixture import MixtureSolve
from hypersiren.hypernets.model import HyperSiren, build
from hypersiren.settings.flags import load_settings
from hypersiren.signals.image.files import read_image
from hypersiren.signals.sets.sounds import as_sounds
from hypersiren.signals.sound.cosines import cosines
from hypersiren.signals.sound.files import read_sound, write_sound

pytestmark = pytest.mark.painted


def tones(m=60, n=64, seed=0):
    generator = np.random.default_rng(seed)
    omega = np.where(np.arange(m) % 2, 0.3, 1.2)[:, None]
    loudness = 10.0 ** generator.uniform(-3, 0, (m, 1))
    wave = np.sin(omega * np.arange(n) + generator.uniform(0, 6.3, (m, 1))) + 0.05 * generator.normal(size=(m, n))
    return (0.5 * loudness * wave).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    siren = Siren(1, 1, hidden_features=(32, 96), first_omega=60.0)
    made = HyperSiren(None, None, siren, MixtureSolve(96, priors=2, rank=16)).requires_grad_(False)
    made.set_prior(SoundCompletion(tones(), tones()).prior_signals(), shrinkage=0.5)
    return made


SETTINGS = load_settings(SoundSettings, flags=["--prior.finer", "1", "--prior.shrinkage", "0.5"])


@pytest.fixture(scope="module")
def found(model):
    task = SoundCompletion(tones(seed=0), tones(seed=1))
    task.test = as_sounds(tones(seed=2))
    return table(SetRun(set_row("sounds"), SETTINGS, model, Path("best.pt")), task, model, most=20)


def test_the_table_has_every_method_and_its_numbers(found, model):
    methods = [OURS, PRIOR, ONE, "linear", "band-limited", "PCA, 16 numbers", "Gaussian"]
    ratio = found.blocks[2].rows
    assert list(found.rows) == list(found.unknown) == list(ratio) == methods
    assert all(tuple(row) == CONTEXTS for row in found.rows.values())
    assert (found.numbers, found.signals) == (16, 20)
    assert found.rows[PRIOR] == found.rows[OURS]
    assert set(found.coverage) == {OURS, PRIOR, ONE}
    test = as_sounds(tones(seed=2)).spread(20)
    mask = context_masks(test, ["25%"])["25%"]
    waves, deviation = (v.squeeze(-1) for v in completed(model, SoundCompletion(test, test), test, mask))
    each = relative_mse(waves, test.waves, test.inside)
    assert found.rows[OURS]["25%"] == pytest.approx(each.mean().item(), rel=1e-4)
    assert ratio[OURS]["25%"] == pytest.approx((-10 * each.log10()).mean().item(), rel=1e-4)
    wrong = torch.where(mask, 0, waves - test.waves).square().sum(1) / test.waves.square().sum(1)
    assert found.unknown[OURS]["25%"] == pytest.approx(wrong.mean().item(), rel=1e-4)
    inside = ((waves - test.waves).abs() <= 1.645 * deviation)[~mask]
    assert found.coverage[OURS]["25%"] == pytest.approx(100 * inside.float().mean().item(), rel=1e-4)


def test_two_kinds_of_tones_are_told_apart(found):
    """What the mixture is for: from few samples it beats what knows one kind only."""
    for name in ("10%", "25%"):
        ours = found.rows[OURS][name]
        assert all(ours < 0.9 * found.rows[m][name] for m in (ONE, "band-limited", "PCA, 16 numbers"))
    assert found.coverage[OURS]["25%"] > 90


def test_the_table_marks_the_best(found):
    lines = str(found).splitlines()
    assert [line.count("kept") for line in lines if line.startswith(("linear", "Gaussian"))] == [1, 1, 0, 0, 1, 1]
    for block in found.blocks:
        sign = 1 if block.decimals is None else -1
        for name in block.rows[OURS]:
            competing = {
                m: sign * row[name] for m, row in block.rows.items() if name != "all" or m not in found.keeping
            }
            (best,) = {m for m, value in competing.items() if value == min(competing.values())} - {PRIOR}
            assert best in block.best[name]
    ratio = found.blocks[2]
    best = ratio.best["25%"][0]
    starred = next(line for line in lines[lines.index(ratio.title) :] if line.startswith(best))
    assert f"{ratio.rows[best]['25%']:.1f}*" in starred
    assert found.keeping == {"linear", "Gaussian"}
    assert "mean over 20 test windows" in str(found)
    assert "16 numbers per window" in str(found)


def test_baselines_equal_plain_formulas():
    waves = torch.from_numpy(tones(5)).double()
    mask = torch.rand(5, 64, generator=torch.Generator().manual_seed(0)) < 0.4
    x = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    for i, known in enumerate(mask):
        count = round(0.5 * int(known.sum()))
        basis = np.cos(np.pi * np.outer(x, np.arange(count))) * np.where(np.arange(count) == 0, 1, np.sqrt(2))
        seen = basis[known]
        level = 0.01 * len(seen) * (basis**2).mean()
        weights = np.linalg.solve(seen.T @ seen + level * np.eye(count), seen.T @ waves[i][known].numpy())
        found = band_limited(waves[i : i + 1], mask[i : i + 1], 0.5, 0.01)[0]
        np.testing.assert_allclose(found.numpy(), basis @ weights, atol=1e-8)
        # More unknowns than samples: the other form of the same formula.
        seen = cosines(64, x)[known].numpy()
        level = 0.01 * len(seen) * (cosines(64, x) ** 2).mean().item()
        weights = np.linalg.solve(seen.T @ seen + level * np.eye(64), seen.T @ waves[i][known].numpy())
        other = on_axes(waves[i : i + 1], mask[i : i + 1], cosines(64, x), 0.01)[0]
        np.testing.assert_allclose(other.numpy(), cosines(64, x).numpy() @ weights, atol=1e-8)
    assert torch.equal(linear(waves, mask)[mask], waves[mask])
    sounds = as_sounds(waves.float())
    case = sound_case(sounds, torch.ones_like(mask))
    found = {one.name: one.complete(case).squeeze(-1) for one in fitted(sounds, 3)(case)}
    axes = torch.from_numpy(np.linalg.svd(_scaled(waves) - _scaled(waves).mean(0))[2][:3])
    expected = relative_mse(waves @ axes.T @ axes, waves, case.counted).mean().item()
    error = relative_mse(found["PCA, 3 numbers"], sounds.waves, case.counted).mean().item()
    assert error == pytest.approx(expected, rel=1e-2)


def _scaled(waves):
    return (waves / waves.square().mean(1, keepdim=True).sqrt()).numpy()


def test_a_recording_is_completed_window_by_window(model):
    wave = torch.from_numpy(tones(1, n=1000)[0])
    known = torch.rand(1000, generator=torch.Generator().manual_seed(0)) < 0.5
    found = complete_recording(model, wave, known, 64, 8000)
    assert found.wave.shape == wave.shape
    assert ((found.wave - wave).square().sum() / wave.square().sum()).item() < 0.05
    assert found.picture.ndim == 3
    assert found.samples.shape == (0, 1000)
    for length in (1, 33, 64, 65, 97):  # shorter than a window, and ends of any kind
        short = complete_recording(model, wave[:length], known[:length], 64, 8000, samples=2)
        assert short.wave.isfinite().all()
        assert short.samples.isfinite().all()
        assert short.samples.shape == (2, length)
    silent = complete_recording(model, torch.zeros(100), torch.ones(100, dtype=torch.bool), 64, 8000, samples=2)
    assert silent.wave.abs().max() == silent.samples.abs().max() == 0


def test_samples_of_a_recording_vary_as_its_posterior_does(model):
    wave = torch.from_numpy(tones(2, n=1000)[1])
    known = torch.arange(1000) % 100 < 60
    found = complete_recording(model, wave, known, 64, 8000, samples=400)
    assert torch.equal(found.wave, complete_recording(model, wave, known, 64, 8000).wave)
    loudness = wave.square().mean().sqrt()
    off, deviation = (found.samples.mean(0) - found.wave).abs() / loudness, found.samples.std(0) / loudness
    assert off.max() < 0.1  # five times what the mean of 400 is off
    assert deviation[known].mean() < 0.1 < 0.3 < deviation[~known].mean()
    assert ((found.samples - wave)[:, known] / loudness).square().mean().sqrt() < 0.1
    # Two windows, the first 32 samples from one of them, the next 32 from both.
    known = torch.arange(96) % 48 < 30
    both = as_sounds(wave[:96].unfold(0, 64, 32).numpy(), rate=8000, window=64)
    mask = known.unfold(0, 64, 32)
    task = SoundCompletion(both, both)
    drawn = sampled(model, task, both, mask, 1000)
    mean, expected = (v.squeeze(-1) for v in completed(model, task, both, mask))
    torch.testing.assert_close(drawn.mean(1), mean, rtol=0, atol=0.15 * expected.max().item())
    torch.testing.assert_close(drawn.std(1), expected, rtol=0.15, atol=0.02 * expected.max().item())
    found = complete_recording(model, wave[:96], known, 64, 8000, samples=1000).samples.std(0)
    shares = torch.arange(31.5, 0, -1) / 32, torch.arange(0.5, 32) / 32  # of the first window and of the second
    power = sum(
        (share * part).square() for share, part in zip(shares, (expected[0, 32:], expected[1, :32]), strict=True)
    )
    joint = (power / (shares[0].square() + shares[1].square())).sqrt()
    torch.testing.assert_close(found[:32], expected[0, :32], rtol=0.15, atol=0.02 * expected.max().item())
    torch.testing.assert_close(found[32:64], joint, rtol=0.15, atol=0.02 * expected.max().item())


@pytest.fixture
def run(model):
    settings = load_settings(SoundSettings, flags=["--data.window", "64"])
    return SetRun(set_row("sounds"), settings, model, Path("best.pt"))


def write(path, rate=8000, n=500):
    write_sound(path, tones(2, n=n)[1][:, None], rate)
    return path


def test_a_users_recordings(run, tmp_path):
    path = write(tmp_path / "a.wav", 16000, 1000)
    options = {"size": 256, "seed": 0, "refine": 0}
    made = complete_files(run, [path], tmp_path, gap=2.0, share=0.5, **options)
    assert [path.name for path in made] == ["a_completed.wav", "a_panel.png"]
    for name in ("completed", "context", "truth"):
        sound = read_sound(tmp_path / f"a_{name}.wav")
        assert (sound.rate, len(sound.wave)) == (8000, 500)  # at the model's rate
    context = read_sound(tmp_path / "a_context.wav").wave[:, 0]
    assert (context != 0).mean() == pytest.approx(0.5 * 48 / 64, abs=0.04)
    assert all((context[s + 24 : s + 40] == 0).all() for s in range(0, 500, 64))
    assert (tmp_path / "a_panel.png").exists()
    again = complete_files(run, [path], tmp_path, **options)
    assert [path.name for path in again] == ["a_completed-2.wav", "a_panel-2.png"]
    assert (read_sound(tmp_path / "a_context-2.wav").wave != 0).mean() == pytest.approx(0.25, abs=0.02)
    mask = np.zeros((1000, 1))
    mask[:400] = 0.5
    write_sound(tmp_path / "mask.wav", mask, 16000)
    list(complete_files(run, [path], tmp_path / "", mask=tmp_path / "mask.wav", **options))
    assert np.flatnonzero(read_sound(tmp_path / "a_context-3.wav").wave[:, 0]).max() < 200


def test_samples_of_a_users_recordings(run, tmp_path):
    path = write(tmp_path / "a.wav")
    options = {"size": 256, "refine": 0, "gap": 2.0, "samples": 3}
    made = [path.name for path in complete_files(run, [path], tmp_path, seed=0, **options)]
    assert made == ["a_completed.wav", "a_sample1.wav", "a_sample2.wav", "a_sample3.wav", "a_panel.png"]
    again = [path.name for path in complete_files(run, [path], tmp_path, seed=0, **options)]
    assert again == ["a_completed-2.wav", "a_sample1-2.wav", "a_sample2-2.wav", "a_sample3-2.wav", "a_panel-2.png"]
    waves = {path.stem: read_sound(path).wave for path in tmp_path.glob("a_*.wav")}
    assert all(wave.shape == (500, 1) for wave in waves.values())
    assert all((waves[name] == waves[f"{name}-2"]).all() for name in ("a_completed", "a_sample1", "a_sample3"))
    assert (waves["a_sample1"] != waves["a_sample2"]).any()
    list(complete_files(run, [path], tmp_path, seed=1, **options))
    assert (waves["a_sample1"] != read_sound(tmp_path / "a_sample1-3.wav").wave).any()
    assert read_image(tmp_path / "a_panel.png").shape == read_image(tmp_path / "a_panel-2.png").shape


def test_samples_need_a_posterior(run, tmp_path):
    path = write(tmp_path / "a.wav")
    plain = build({"hidden_features": 8}, {"kind": "set"}, {"kind": "full"}, in_features=1, channels=1)
    with pytest.raises(UserError, match="--samples needs a model that predicts a distribution"):
        list(complete_files(replace(run, model=plain), [path], tmp_path, size=0, seed=0, refine=0, samples=2))
    assert not list(tmp_path.glob("a_*"))


def test_bad_options_are_one_line(run, tmp_path):
    path = write(tmp_path / "a.wav")
    write_sound(tmp_path / "short.wav", np.ones((3, 1)) / 2, 8000)
    write_sound(tmp_path / "none.wav", np.zeros((500, 1)), 8000)
    (tmp_path / "text.wav").write_text("no sound")
    cases = [
        ({"share": 0.0}, "expected --share above 0 and up to 1"),
        ({"gap": 8.0}, "expected --gap above 0 and below the 8 ms of a window, got 8"),
        ({"refine": 3}, "--refine is not for sounds"),
        ({"mask": tmp_path / "short.wav"}, "expected a mask of 500 samples as the recording has, got 3"),
        ({"mask": tmp_path / "none.wav"}, "the mask leaves no sample known"),
        ({"files": [path, tmp_path / "b" / "a.wav"]}, 'two files of the name "a"'),
        ({"files": [path, path], "mask": path}, "--mask belongs to one file, got 2"),
        ({"files": [tmp_path / "text.wav"]}, "not a sound that libsndfile can read"),
    ]
    for options, message in cases:
        given = {"files": [path], "folder": tmp_path, "size": 256, "seed": 0, "refine": 0, **options}
        with pytest.raises(UserError, match=message) as error:
            list(complete_files(run, **given))
        assert "\n" not in str(error.value)
