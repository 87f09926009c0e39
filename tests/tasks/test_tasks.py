"""Every task of the registry: finite loss that falls, numbers and panels, and batches of weights as a loop."""

import math

import pytest
import torch

from hypersiren import Siren
from hypersiren.settings.flags import load_settings
from hypersiren.tasks.panels import ImagePanel, SoundPanel, VideoPanel
from hypersiren.tasks.registry import TASKS, open_task
from hypersiren.training.fit import choose_omega, describe_field, fit

SMALL: dict[str, list[str]] = {
    "image": ["--signal.size", "16"],
    "inpaint": ["--signal.size", "16", "--signal.share", "0.5"],
    "poisson": ["--signal.size", "16"],
    "edit": ["--signal.size", "16"],
    "audio": ["--signal.stop", "0.01"],
    "video": ["--signal.size", "16", "--signal.frames", "3"],
    "volume": ["--signal.shrink", "6"],
    "sdf": ["--signal.count", "2000", "--signal.resolution", "20"],
    "helmholtz": ["--signal.wavenumber", "5", "--signal.variance", "0.01"],
    "wave": ["--signal.variance", "0.02", "--signal.cells", "64"],
    "inversion": ["--signal.wavenumber", "5", "--signal.cells", "80"],
}
"""Flags that make a task's default signal small."""


@pytest.fixture(params=TASKS)
def task(request):
    name = request.param
    return open_task(name, load_settings(TASKS[name].settings, flags=[*SMALL[name], "--training.points", "100"]))


def stacked(fields: list[Siren]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([dict(f.named_parameters())[name] for f in fields]) for name in fields[0].shapes}


def test_loss_is_finite_and_falls(task):
    torch.manual_seed(0)
    field = Siren(task.in_features, task.out_features, 32, 1, first_omega=task.first_omega or 30.0)
    before = task.evaluate(field)
    batch = task.sample(torch.Generator().manual_seed(0), 0.0)
    first = sum(task.loss(field, batch).values()).item()
    result = fit(task, field, steps=40, lr=3e-3, optimizer="muon", decay="cosine", warmup=0)
    last = sum(task.loss(field, batch).values()).item()
    assert math.isfinite(first)
    assert last < 0.7 * first
    assert before.keys() <= result.metrics.keys()
    assert result.metrics.keys() - before.keys() <= {"gradient_psnr", "laplacian_psnr"}  # of an image, at the end alone
    assert task.criterion is None or result.metrics[task.criterion] < before[task.criterion]


def test_numbers_are_finite_and_panels_are_pictures(task):
    field = Siren(task.in_features, task.out_features, 8, 1)
    assert all(math.isfinite(value) for value in task.evaluate(field).values())
    panels = task.panels(field)
    for panel in panels.values():
        if isinstance(panel, ImagePanel):
            assert 0 <= panel.pixels.min() <= panel.pixels.max() <= 1
        elif isinstance(panel, VideoPanel):
            assert panel.frames.dtype == torch.uint8
        elif isinstance(panel, SoundPanel):
            assert panel.wave.isfinite().all()


def test_a_batch_of_predicted_weights_equals_a_loop(task):
    fields = [Siren(task.in_features, task.out_features, 8, 1) for _ in range(3)]
    batch = task.sample(torch.Generator().manual_seed(0), 0.5)
    together = task.loss(fields[0].bind(stacked(fields)), batch)
    apart = [task.loss(field, batch) for field in fields]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.stack([terms[name] for terms in apart]).mean(), rtol=1e-4, atol=1e-6)


def test_sampling_is_seeded(task):
    def flat(batch) -> list[torch.Tensor]:
        found = []
        for value in vars(batch).values():
            found += [value] if isinstance(value, torch.Tensor) else flat(value) if value is not None else []
        return found

    if task.name == "inversion":
        return  # nothing is drawn
    a, b, c = (flat(task.sample(torch.Generator().manual_seed(seed), 0.5)) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a, c, strict=True))


def test_the_field_fits_the_task(task):
    settings = TASKS[task.name].settings()
    network = settings.network.replace(kind="siren")
    described = describe_field(choose_omega(network, task), task)
    assert described["in_features"] == task.in_features == len(task.samples)
