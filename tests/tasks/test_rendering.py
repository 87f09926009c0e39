"""A validation and the end of a fit compute once what they show; a playback says its kind."""

import numpy as np
import pytest
import torch
from torch import nn

from hypersiren import Audio, Image, Poisson, Siren, Video, fit, load
from hypersiren.cli.main import main
from hypersiren.fields.render import kind_of
from hypersiren.tasks.panels import write_panels
from hypersiren.tasks.rendering import Renderings
from hypersiren.training import checkpoints

SMALL = {"hidden_features": 16, "hidden_layers": 1}


def finish(task, folder, **settings):
    """A fit with its summary and its panels, as the command `fit` makes it."""
    result = fit(task, steps=4, validate_every=4, network=SMALL, run_dir=folder, **settings)
    write_panels(folder, task.panels(result.field))
    return result


def test_a_finished_shape_is_meshed_once(tmp_path, monkeypatch):
    from hypersiren.shapes.cloud import open_cloud
    from hypersiren.tasks.shapes import sdf

    meshed = []
    surface = sdf.surface
    monkeypatch.setattr(sdf, "surface", lambda *args, **kwargs: meshed.append(1) or surface(*args, **kwargs))
    finish(sdf.SDF(open_cloud("knot", count=300), resolution=16), tmp_path / "run")
    assert len(meshed) == 1


@pytest.mark.parametrize("task", [lambda x: Image(x, points=10), Poisson], ids=["image", "poisson"])
def test_a_finished_image_has_its_pixels_evaluated_at_most_twice(tmp_path, monkeypatch, task):
    made, points = task(torch.rand(20, 16, 3) * 2 - 1), []

    def counted(name):
        original = getattr(Siren, name)

        def call(self, x, *args, **kwargs):
            if not self.training:
                points.append(len(x))
            return original(self, x, *args, **kwargs)

        monkeypatch.setattr(Siren, name, call)

    counted("forward")
    counted("jet")
    finish(made, tmp_path / "run")
    assert 0 < sum(points) <= 2 * 20 * 16  # once its values, once its derivatives


@pytest.mark.parametrize(
    "task",
    [lambda: Audio(torch.rand(500, 1) - 0.5, rate=8000), lambda: Video(torch.zeros(3, 8, 6, 3, dtype=torch.uint8), 25)],
    ids=["audio", "video"],
)
def test_recordings_are_rendered_once(tmp_path, monkeypatch, task):
    made, rendered = task(), []
    original = type(made).render

    def render(self, field):
        rendered.append(1)
        return original(self, field)

    monkeypatch.setattr(type(made), "render", render)
    finish(made, tmp_path / "run")
    assert len(rendered) == 1


def test_nothing_is_kept_of_other_weights_and_during_training(tmp_path):
    task = Image(torch.rand(8, 8, 1), range=(0, 1))
    kept = []
    result = fit(task, steps=4, log_every=1, network=SMALL, on_log=lambda *_: kept.append(task.renderings))
    assert kept[:3] == [None] * 3
    before = task.evaluate(result.field)
    with torch.no_grad():
        next(result.field.parameters()).mul_(2)
    assert task.evaluate(result.field) != before
    with torch.no_grad():
        next(result.field.parameters()).div_(2)
    assert task.evaluate(result.field) == before


def test_fields_of_one_shape_and_other_functions_are_told_apart():
    kept = Renderings()
    one, other = nn.Sequential(nn.Linear(1, 1), nn.ReLU()), nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    other.load_state_dict(one.state_dict())

    def values(field):
        return field(torch.ones(1, 1))

    assert kept.once(one, values) is kept.once(one, values)
    assert kept.once(other, values) == other(torch.ones(1, 1))
    sirens = Siren(1, 1, 8, first_omega=10.0), Siren(1, 1, 8, first_omega=20.0)
    sirens[1].load_state_dict(sirens[0].state_dict())
    assert kept.once(sirens[0], values) != kept.once(sirens[1], values)


def test_playbacks_say_their_kind_and_old_ones_are_understood(tmp_path):
    assert [kind_of({key: 1}) for key in ("rate", "fps", "shape")] == ["sound", "video", "shape"]
    assert kind_of({"samples": [4, 4]}) == "image"
    assert kind_of({"samples": [4, 4, 4]}) == kind_of({}) == ""
    assert kind_of({"kind": "wavefield", "samples": [4, 4]}) == "wavefield"

    run = tmp_path / "run"
    fit(Audio(np.zeros(200, np.float32), rate=8000), steps=1, network=SMALL, run_dir=run)
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    assert checkpoints.playback(content)["kind"] == "sound"
    del content["record"]["playback"]["kind"]  # as version 0.1 wrote it
    checkpoints.write(path, content)
    assert load(run).out_features == 1
    main(["render", str(run), "--out", str(tmp_path / "a.wav")])
    assert (tmp_path / "a.wav").exists()
