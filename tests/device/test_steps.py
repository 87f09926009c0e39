"""What a training step costs a GPU beside its arithmetic: kernel launches, and waits of the host for the device."""

from pathlib import Path

import pytest

from hypersiren.cli.console import find_config
from hypersiren.completion.registry import set_row
from hypersiren.completion.train import prepare
from hypersiren.fields.baselines import baseline
from hypersiren.settings.flags import load_settings
from hypersiren.tasks.registry import open_task
from hypersiren.training.fit import choose_omega, describe_field
from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.step import TrainingStep
from tests.device.fake_cuda import Counts

pytestmark = pytest.mark.device

BOUNDS = {
    "image": (90, 0),
    "image, adam": (65, 0),
    "image, lbfgs": (188, 7),
    "audio": (107, 0),
    "video": (117, 0),
    "sdf": (214, 0),
    "poisson": (205, 0),
    "inpaint": (208, 0),
    "wave": (292, 0),
    "helmholtz": (362, 0),
    "inversion": (559, 0),
    "default hypernetwork": (141, 0),
    "paper's set encoder": (380, 0),
    "paper's CNN": (425, 0),
    "conv and solve": (493, 0),
    "tokens": (332, 0),
    "gradient steps": (648, 0),
    "mixture of 32": (204, 0),
    "images on disk": (229, 0),
    "sounds": (75, 0),
}
"""At most so many launches and waits of one step: ATen operations that are no views, and those that wait."""

QUICK = ("image", "default hypernetwork")
"""Part of every run of the tests."""


def step_of(objective, training):
    """The counts of the second step."""
    step, monitor = TrainingStep(objective, training), Monitor(None)
    step(1, monitor)
    return lambda: step(2, monitor)


def field(name, changes, **training):
    task = open_task(name, changes, "cuda")
    network = choose_omega(task.defaults.network.replace(kind="siren", hidden_features=16), task)
    made = baseline(**describe_field(network, task)).to("cuda")
    used = task.defaults.training.replace(steps=1000, **training)
    return step_of(FieldObjective(made, task, used.first_lr), used)


def hypernet(config, *words, kind="folder"):
    row = set_row(kind)
    settings = load_settings(row.settings, find_config(Path(config), ["completion", "sounds"]), [*map(str, words)])
    objective, _ = prepare(row, settings, "cuda")
    objective.start = None
    return step_of(objective, settings.training)


def pictures(config, *words):
    data = ("--data.kind", "folder", "--data.root", "in/pictures", "--data.size", 16, "--context.most", 100)
    return hypernet(config, *data, "--training.batch_size", 4, *words)


SOLVE = ("--siren.hidden_features", "[32,128]")
PAPER = ("--siren.hidden_features", 16, "--encoder.latent_features", 16, "--hypernet.hidden_features", 16)
TOKENS = (
    "--encoder.token_size",
    "[8,8]",
    "--encoder.widths",
    "[8,16]",
    "--adapter.kind",
    "none",
    "--training.autocast",
    "false",
)
MIXTURE = ("--adapter.kind", "mixture", "--adapter.priors", 32, "--adapter.rank", 16)
SMALL = {"signal": {"path": "in/a.png", "size": 32}}
CELLS = {"cells": 64, "wavenumber": 5.0}
POINTS = {"training": {"points": 300}}
STEPS = {
    "image": lambda: field("image", SMALL, optimizer="muon"),
    "image, adam": lambda: field("image", SMALL, optimizer="adam"),
    "image, lbfgs": lambda: field("image", SMALL, optimizer="lbfgs"),
    "audio": lambda: field("audio", {**POINTS, "signal": {"path": "in/a.wav"}}),
    "video": lambda: field("video", {**POINTS, "signal": {"size": [18, 24], "frames": 4}}),
    "sdf": lambda: field("sdf", {**POINTS, "signal": {"count": 1000}}),
    "poisson": lambda: field("poisson", SMALL),
    "inpaint": lambda: field("inpaint", SMALL),
    "wave": lambda: field("wave", {**POINTS, "signal": {"cells": 64, "variance": 0.01}}),
    "helmholtz": lambda: field("helmholtz", {**POINTS, "signal": CELLS}),
    "inversion": lambda: field(
        "inversion", {**POINTS, "signal": {**CELLS, "sources": 2, "receivers": 4}, "loss": {"waves": "network"}}
    ),
    "default hypernetwork": lambda: pictures("faces", *SOLVE),
    "paper's set encoder": lambda: pictures("celeba_set", *PAPER, "--encoder.hidden_features", 16),
    "paper's CNN": lambda: pictures("celeba_cnn", *PAPER, "--encoder.size", "[16,16]"),
    "conv and solve": lambda: pictures("faces", *SOLVE, "--encoder.kind", "conv", "--encoder.widths", "[8,16]"),
    "tokens": lambda: pictures("faces", "--siren.hidden_features", 16, "--encoder.kind", "tokens", *TOKENS),
    "gradient steps": lambda: pictures("faces", "--siren.hidden_features", 16, "--adapter.kind", "gradient"),
    "mixture of 32": lambda: pictures("faces", *SOLVE, *MIXTURE),
    "images on disk": lambda: pictures("faces", *SOLVE, "--data.in_memory", "false"),
    "sounds": lambda: hypernet(
        "digits", "--data.root", "in/sounds", "--data.window", 128, *SOLVE, "--adapter.rank", 16, kind="sounds"
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.quick) if name in QUICK else name for name in STEPS]
)
def test_launches_and_waits_of_a_step(name, cuda):
    step = STEPS[name]()
    cuda.counts = Counts()
    step()
    launches, waits = BOUNDS[name]
    assert cuda.counts.launches.total() <= launches, cuda.counts.launches.most_common()
    assert cuda.counts.waits.total() <= waits, cuda.counts.waits
