"""Fitting one field to one signal: results, warm starts, resuming, and the pictures that come out."""

import io
import json

import numpy as np
import PIL.Image
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hypersiren import Siren, UserError, load
from hypersiren.fields.coords import evaluate
from hypersiren.fields.operators import prior_energy
from hypersiren.fields.render import render_image, render_sound, unit
from hypersiren.signals.image.colours import draw_gradient
from hypersiren.signals.image.opening import open_picture
from hypersiren.tasks.images.derivatives import derivatives
from hypersiren.tasks.images.edit import Edit, blend, clone
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.images.inpaint import Inpaint
from hypersiren.tasks.images.poisson import Poisson, best_affine
from hypersiren.tasks.images.settings import PoissonLoss
from hypersiren.tasks.recordings.audio import Audio
from hypersiren.tasks.recordings.video import Video
from hypersiren.tasks.registry import open_task
from hypersiren.training import checkpoints, monitor
from hypersiren.training.fit import fit
from hypersiren.training.folders import clear
from hypersiren.training.seeds import step_seed

SMALL = {"hidden_features": 64}


def camera(size: int = 24) -> torch.Tensor:
    return open_picture("camera", size=size)


def test_a_real_image_is_fitted():
    result = fit(Image(camera()), steps=100, network={"hidden_features": 128})
    assert result.metrics["psnr"] > 40
    assert result.run_dir is None
    assert result.finished
    assert not any(p.requires_grad for p in result.field.parameters())


def test_a_run_folder_can_be_loaded_and_gone_on_with(tmp_path):
    task = Image(camera(12), points=50)
    whole = fit(task, steps=20, run_dir=tmp_path / "a", network={"hidden_features": 16}, validate_every=10)
    fit(task, steps=10, run_dir=tmp_path / "b", network={"hidden_features": 16}, validate_every=10, decay="constant")
    assert torch.equal(load(tmp_path / "a")(task.grid), whole.field(task.grid))
    halves = [
        fit(task, steps=n, run_dir=tmp_path / "b", network={"hidden_features": 16}, validate_every=10, decay="constant")
        for n in (10, 20)
    ]
    straight = fit(task, steps=20, network={"hidden_features": 16}, decay="constant")
    assert torch.equal(halves[1].field(task.grid), straight.field(task.grid))


PINN = {"kind": "tanh", "hidden_features": 10, "hidden_layers": 2}


def test_lbfgs_goes_down_without_a_learning_rate_and_goes_on_bit_for_bit(tmp_path):
    task = Image(camera(12), points=50)
    arguments = {"network": PINN, "optimizer": "lbfgs", "validate_every": 15, "lr": 1e-9, "warmup": 50, "clip": 1e-9}
    whole = fit(task, steps=30, run_dir=tmp_path / "a", **arguments)
    for steps in (15, 30):
        halves = fit(task, steps=steps, run_dir=tmp_path / "b", **arguments)
    assert torch.equal(halves.field(task.grid), whole.field(task.grid))
    batch = task.sample(torch.Generator().manual_seed(step_seed(0, 0)))  # the points of all steps
    start = fit(task, steps=1, **{**arguments, "optimizer": "adam"})
    losses = [sum(task.loss(each.field, batch).values()).item() for each in (start, whole)]
    assert losses[1] < 0.5 * losses[0]


def test_baselines_fit_under_the_same_call():
    task = Image(camera(12))
    result = fit(task, network={"kind": "relu_pe", "hidden_features": 32}, steps=100, lr=3e-3, decay="cosine")
    assert result.metrics["mse"] < 0.2 * task.truth.var()


def test_initial_weights_are_where_it_starts():
    task = Image(camera(24))
    good = fit(task, steps=50, network={"hidden_features": 64})
    params = {name: p[None] for name, p in good.field.named_parameters()}  # as a hypernetwork predicts them
    again = fit(task, init=params, steps=1, lr=1e-9, network={"hidden_features": 64}, seed=7)
    assert again.metrics["psnr"] == pytest.approx(good.metrics["psnr"], abs=0.1)
    with pytest.raises(ValueError, match=r"layers.0.weight: expected \(64, 2\), got \(3, 2\)"):
        fit(task, init={"layers.0.weight": torch.zeros(3, 2)}, steps=1, network={"hidden_features": 64})
    with pytest.raises(ValueError, match=r"layer\.weight"):
        fit(task, init={"layer.weight": torch.zeros(3, 2)}, steps=1)


def test_unknown_pixels_have_no_influence():
    known = torch.zeros(12, 12, dtype=torch.bool)
    known[::2] = True
    pixels = camera(12)
    changed = torch.where(known[..., None], pixels, -pixels)
    assert Image(pixels, known=known).criterion is None
    assert Image(pixels).criterion == "mse"
    fields = [fit(Inpaint(p, known=known), steps=5, network={"hidden_features": 16}).field for p in (pixels, changed)]
    x = torch.rand(20, 2) * 2 - 1
    assert torch.equal(fields[0](x), fields[1](x))


def test_priors_are_norms_of_derivatives():
    siren = Siren(2, 2, 8, 1).double()
    x = torch.rand(7, 2, dtype=torch.float64)
    jacobian = torch.stack([torch.autograd.functional.jacobian(siren, p[None])[0, :, 0] for p in x])
    torch.testing.assert_close(prior_energy(siren, x, "tv"), jacobian.norm(dim=-1).mean())
    hessians = torch.stack(
        [
            torch.stack([torch.autograd.functional.hessian(lambda p, c=c: siren(p[None])[0, c], p) for c in (0, 1)])
            for p in x
        ]
    )
    torch.testing.assert_close(prior_energy(siren, x, "hessian"), hessians.flatten(-2).norm(dim=-1).mean())


@pytest.mark.parametrize("gray", [True, False])
def test_an_image_is_regained_from_its_gradient(gray):
    pixels = open_picture("astronaut", size=16, gray=gray)
    result = fit(Poisson(pixels), steps=200, lr=3e-3, network=SMALL)
    assert result.metrics["psnr"] > 18  # a flat field has 12
    assert result.metrics["gradient_psnr"] > 24  # a flat field has 15


def test_the_laplacian_is_met():
    task = Poisson(camera(16), PoissonLoss(target="laplacian", filter="stencil"))
    assert fit(task, steps=150, lr=3e-3, network=SMALL).metrics["error"] < 0.1


def test_the_free_scale_and_constant_are_removed():
    truth = camera(12)
    assert best_affine(0.3 * truth - 2, truth).sub(truth).abs().max() < 1e-4
    assert best_affine(torch.zeros_like(truth), truth).isfinite().all()


def test_blending_two_images_is_the_average_of_their_gradients():
    first, second = camera(16), open_picture("moon", size=16)
    result = blend(first, second, 0.25)
    torch.testing.assert_close(result.pixels, 0.75 * first + 0.25 * second)
    single = blend(first, first).gradient
    torch.testing.assert_close(blend(first, second, 0.0).gradient, single)


def test_cloning_takes_the_source_inside_and_the_target_outside():
    source, target = camera(12), open_picture("moon", size=16)
    mask = torch.zeros(12, 12, dtype=torch.bool)
    mask[4:8, 3:9] = True
    made = clone(source, target, mask, (2, -1))
    assert made.keep.sum() == 16 * 16 - 24
    torch.testing.assert_close(made.pixels[6:10, 2:8], source[4:8, 3:9])
    torch.testing.assert_close(made.pixels[made.keep], target[made.keep])
    inner = made.gradient[6:10, 2:8]
    torch.testing.assert_close(inner, blend(source, source).gradient[4:8, 3:9] * (16 / 12))
    assert made.finer.shape[:2] == (32, 32)
    stronger = clone(source, target, mask, (2, -1), "stronger").gradient.norm(dim=-1)
    assert (stronger >= made.gradient.norm(dim=-1) - 1e-4)[~made.keep].all()
    with pytest.raises(ValueError, match="nothing of the mask lies in the target"):
        clone(source, target, mask, (20, 0))
    with pytest.raises(ValueError, match="leaves nothing"):
        clone(target, target, torch.ones(16, 16, dtype=torch.bool))


def test_cloning_has_no_colour_cast():
    """A constant added to the source changes nothing: only its gradient is seen."""
    target = open_picture("coffee", size=(16, 24))
    mask = torch.zeros(16, 24, dtype=torch.bool)
    mask[5:11, 8:16] = True
    made = clone(target + torch.tensor([0.5, -0.3, 0.1]), target, mask)
    for how, error, kept in (({"steps": 200, "lr": 3e-3, "network": SMALL}, 1e-3, 25), ({}, 1e-4, 45)):
        result = fit(Edit(made), **how)
        y = evaluate(result.field, Edit(made).grid).view_as(target)
        assert (y - target).square().mean() < error
        assert result.metrics["kept_psnr"] > kept


def test_a_colour_of_each_direction():
    gradient = torch.zeros(1, 4, 1, 2)
    gradient[0, :, 0, 0] = torch.tensor([0.0, 1.0, 0.0, -1.0])
    gradient[0, :, 0, 1] = torch.tensor([1.0, 0.0, -1.0, 0.0])
    colours = draw_gradient(gradient)[0]
    assert len({tuple(np.round(c.tolist(), 3)) for c in colours}) == 4
    torch.testing.assert_close(colours.max(dim=-1).values, torch.ones(4))


def test_derivatives_come_in_chunks():
    field = Siren(2, 1, 8, 1)
    task = Image(torch.zeros(200, 200, 1))  # more points than one chunk
    gradient, laplacian = derivatives(field, task.size, task.device)
    part = field.jet(task.grid[-10:], second="laplacian")
    torch.testing.assert_close(gradient.flatten(0, 1)[-10:], part.gradient)
    torch.testing.assert_close(laplacian.flatten(0, 1)[-10:], part.laplacian)


@pytest.mark.parametrize("size", [1, (1, 3)])
def test_the_smallest_images(size):
    pixels = open_picture("astronaut", size=size)
    assert fit(Image(pixels), steps=30, network={"hidden_features": 16}).metrics["mse"] < 0.1
    assert np.isfinite(fit(Poisson(pixels), steps=3, network={"hidden_features": 16}).metrics["error"])


def test_the_history_grows_with_the_steps_and_survives_a_resumption(tmp_path):
    task = Image(camera(12), points=50)
    arguments = {"network": {"hidden_features": 16}, "validate_every": 10, "log_every": 5, "decay": "constant"}
    first = fit(task, steps=20, run_dir=tmp_path / "a", **arguments).history
    resumed = fit(task, steps=30, run_dir=tmp_path / "a", **arguments)
    straight = fit(task, steps=30, **arguments)
    assert [row["step"] for row in resumed.history] == [5, 10, 15, 20, 25, 30]
    assert resumed.history[:4] == first
    assert [row["seconds"] for row in resumed.history] == sorted(row["seconds"] for row in resumed.history)
    for a, b in zip(resumed.history, straight.history, strict=True):
        assert {key: a[key] for key in a if key != "seconds"} == {key: b[key] for key in b if key != "seconds"}
        assert {"loss/total", "loss/mse", "gradient_norm", "learning_rate"} <= a.keys()
        assert ("validation/psnr" in a) == (a["step"] % 10 == 0)
    assert resumed.history[-1]["validation/psnr"] == resumed.metrics["psnr"]
    assert json.loads((tmp_path / "a" / "history.json").read_text()) == resumed.history
    again = fit(task, steps=30, run_dir=tmp_path / "a", **arguments)  # finished before
    assert again.history == resumed.history
    clear(tmp_path / "a")
    assert not (tmp_path / "a" / "history.json").exists()
    assert not (tmp_path / "a" / "summary.png").exists()


def test_a_run_without_a_history_is_resumed_with_one(tmp_path):
    task = Image(camera(12), points=50)
    arguments = {"network": {"hidden_features": 16}, "validate_every": 10, "log_every": 5}
    fit(task, steps=10, run_dir=tmp_path, **arguments)
    content = checkpoints.read(tmp_path / "last.pt")
    del content["history"]  # as version 0.1 left it
    checkpoints.write(tmp_path / "last.pt", content)
    assert [row["step"] for row in fit(task, steps=20, run_dir=tmp_path, **arguments).history] == [15, 20]


@pytest.mark.painted
def test_a_result_is_drawn_rendered_and_saved(tmp_path):
    result = fit(Image(camera(12)), steps=2, run_dir=tmp_path / "run", network={"hidden_features": 8})
    assert result.render().shape == (12, 12, 1)
    picture = result.render(20)
    torch.testing.assert_close(picture, unit(render_image(result.field, (20, 20))))
    figure = result.plot(tmp_path / "a.png")
    assert "PSNR" in figure.get_suptitle()
    assert [axes.get_title() for axes in figure.subfigs[0].axes[:3]] == ["Truth", "Result", "Error"]
    for path in (tmp_path / "a.png", tmp_path / "run" / "summary.png"):
        assert PIL.Image.open(path).width == 1200
    assert PIL.Image.open(io.BytesIO(result._repr_png_())).width == 800
    result.save(tmp_path / "field.safetensors")
    x = torch.rand(5, 2)
    assert torch.equal(load(tmp_path / "field.safetensors")(x), result.field(x))
    assert "history" not in repr(result)
    with pytest.raises(UserError, match="size: expected at least 1, got 0"):
        result.render(0)


def test_sounds_and_clips_are_rendered_and_other_fields_are_not():
    small = {"steps": 1, "network": {"hidden_features": 8}}
    sound = fit(Audio(0.5 * torch.ones(100, 2), rate=50, scale=2.0), **small)
    assert sound.render().shape == (100, 2)
    assert sound.render(150).shape == (300, 2)
    torch.testing.assert_close(sound.render(), 2 * render_sound(sound.field, 100))
    clip = fit(Video(torch.zeros(3, 4, 6, 3, dtype=torch.uint8), fps=5), **small)
    assert clip.render(8).shape == (3, 8, 12, 3)
    with pytest.raises(UserError, match="the field of helmholtz is no image, sound, video or volume"):
        fit(
            open_task("helmholtz", {"signal": {"wavenumber": 5.0, "cells": 64}, "training": {"points": 20}}), **small
        ).render(8)


def test_pictures_of_a_fit_without_a_folder_are_not_drawn():
    class Proud(Image):
        def panels(self, field):
            raise AssertionError("nobody looks")

    assert fit(Proud(camera(8)), steps=2, network={"hidden_features": 8}).finished


@pytest.mark.painted
def test_tensorboard_gets_figures_at_the_end_and_now_and_then(tmp_path, monkeypatch):
    arguments = {"steps": 3, "validate_every": 1, "network": {"hidden_features": 8}}

    def steps(folder) -> list[int]:
        fit(Image(camera(8)), run_dir=folder, **arguments)
        events = EventAccumulator(str(folder), {"images": 0}).Reload()
        assert [event.step for event in events.Images("image/fit")] == [1, 2, 3]
        return [event.step for event in events.Images("image/summary")]

    monkeypatch.setattr(monitor, "FIGURE_SECONDS", 1e9)
    assert steps(tmp_path / "long") == [3]
    monkeypatch.setattr(monitor, "FIGURE_SECONDS", 0.0)
    assert steps(tmp_path / "short") == [1, 2, 3]
