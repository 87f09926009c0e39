"""The completion task on a set that stays on disk is the one on the same set in memory, bit for bit."""

import numpy as np
import pytest
import torch

from hypersiren.completion.images import task as completion
from hypersiren.completion.images.settings import ContextSampling
from hypersiren.completion.images.task import Completion
from hypersiren.completion.train import train
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters import bayesian
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.model import HyperSiren
from hypersiren.signals.sets import disk
from hypersiren.signals.sets.disk import DiskPixels
from hypersiren.signals.sets.images import ImageSet


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """The same task twice: in memory and on disk, where a few images are read at a time."""
    monkeypatch.setattr(disk, "BLOCK", 1000)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 9, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    sets = ImageSet(torch.from_numpy(pixels), "images"), ImageSet(DiskPixels(tmp_path / "pixels.npy"), "images")
    words = {"flip": True, "shift": 1, "zoom": 0.1, "rotation": 5.0}
    return [Completion(images, None, ContextSampling(alike=True), batch_size=6, augmentation=words) for images in sets]


def model() -> HyperSiren:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return HyperSiren(None, None, Siren(2, 3, hidden_features=(16, 32)), LastLayerSolve(32))


def test_batches_are_the_same(tasks):
    for seed in range(5):
        first, second = (task.sample(torch.Generator().manual_seed(seed), 0.5) for task in tasks)
        assert torch.equal(first.y, second.y)
        assert torch.equal(first.context.y, second.context.y)
        assert torch.equal(first.context.mask, second.context.mask)


def test_so_is_all_else(tasks):
    first, second = tasks
    assert isinstance(second.train.pixels, DiskPixels)
    assert isinstance(second.validation.pixels, DiskPixels)
    assert first.digest() == second.digest()
    for a, b in zip(first.prior_signals(2, 2), second.prior_signals(2, 2), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(first.held_out(), second.held_out(), strict=True):
        assert torch.equal(a[2], b[2])
    assert first.evaluate(model().field) == second.evaluate(model().field)


def test_trainings_are_the_same(tasks):
    first, second = (train(model(), task, steps=4) for task in tasks)
    assert first.metrics == second.metrics
    for a, b in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_prior_takes_few_large_images_at_a_time(tasks, monkeypatch):
    task = tasks[0]
    monkeypatch.setattr(completion, "PRIOR_VALUES", 2 * 9 * 8 * 3 * 4)
    assert {len(chunk) for chunk in task.prior_signals(0, 2)} == {2}
    assert sum(len(chunk) for chunk in task.prior_signals(1, 2)) == 2 * len(task.train)


def test_few_systems_at_a_time_give_the_same(tasks, monkeypatch):
    task, fitted = tasks[0], model()

    def found():
        fitted.calibrate(task.held_out())
        return [*fitted.adapter.spread.tolist(), *task.evaluate(fitted.field).values()]

    whole = found()
    monkeypatch.setattr(completion, "SYSTEMS", 1)
    monkeypatch.setattr(bayesian, "MATRIX", 1)
    assert found() == pytest.approx(whole, rel=1e-4)
