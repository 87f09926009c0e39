"""A fake device, files of every kind in tiny sizes, and the commands on both; figures are made but not painted."""

from functools import partial
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.device.fake_cuda import FakeCuda


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with pictures, a mask, velocities, sounds and points."""
    folder, g = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:40] / 40
    picture = np.stack([x, y, 0.5 + 0.5 * np.sin(9 * x * y)], -1)
    for name, values in {"a": picture, "b": 1 - picture, "mask": (abs(x - 0.5) < 0.25) & (abs(y - 0.5) < 0.25)}.items():
        Image.fromarray((values * 255).astype(np.uint8)).save(folder / f"{name}.png")
    np.save(folder / "velocity.npy", 1 + 0.5 * (np.mgrid[0:16, 0:16][0] > 8))
    t = np.arange(4000) / 8000
    soundfile.write(folder / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * t) * np.exp(-3 * t), 8000)
    for split in ("train", "test"):
        (folder / "sounds" / split).mkdir(parents=True)
        for i in range(4):
            wave = 0.5 * np.sin(2 * np.pi * (200 + 100 * i) * t) + 0.02 * g.normal(size=4000)
            soundfile.write(folder / "sounds" / split / f"{i}.wav", wave, 8000)
        (folder / "pictures" / split).mkdir(parents=True)
        for i in range(12):
            noise = Image.fromarray(g.integers(0, 255, (24, 24, 3), np.uint8))
            noise.resize((40, 40)).save(folder / "pictures" / split / f"{i}.png")
    d = g.normal(size=(3000, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    np.savetxt(folder / "ball.xyz", np.concatenate([d, d], 1))
    return folder


@pytest.fixture
def cuda(files, tmp_path, monkeypatch, unpainted):
    """The device, entered, in an empty folder from which `in/` leads to the files."""
    from hypersiren.cli import train as command  # imported at last, so that its types are checked in other tests

    monkeypatch.chdir(tmp_path)
    Path("in").symlink_to(files)
    monkeypatch.setattr(command, "complete", partial(command.complete, baseline_images=2))
    # The checker of shapes asks for properties, which are calculated: launches and waits that nobody else has.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with FakeCuda() as device:
        yield device
