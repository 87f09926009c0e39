"""The summary of every task: titles, units, the headline number with its direction, and the course of the training."""

import matplotlib
import numpy as np
import pytest
import torch

from hypersiren import FieldTask, Photographs, Siren
from hypersiren.completion.images.task import Completion
from hypersiren.completion.registry import SETS
from hypersiren.completion.shapes.settings import ShapeContext
from hypersiren.completion.shapes.task import Shapes
from hypersiren.completion.sounds.task import SoundCompletion
from hypersiren.hypernets.inpainter import Inpainter
from hypersiren.plotting import Curve, Picture, figure_pixels
from hypersiren.settings.flags import load_settings
from hypersiren.shapes.sets.shapes import make_shapes
from hypersiren.shapes.sets.solids import solid_mesh
from hypersiren.tasks.images.edit import Edit, blend, clone
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.panels import ImagePanel, SoundPanel, VideoPanel
from hypersiren.tasks.registry import TASKS, open_task
from hypersiren.tasks.summary import Measure, course, draw_summary, headline
from tests.tasks.test_tasks import SMALL

pytestmark = pytest.mark.painted

HISTORY = [
    {"step": 5, "seconds": 0.5, "loss/total": 2.0, "loss/mse": 1.5, "loss/prior": 0.5, "learning_rate": 1.0},
    {"step": 10, "seconds": 1.25, "loss/total": 0.2, "loss/mse": 0.2, "loss/prior": 0.0, "validation/psnr": 31.0},
]

HEADLINES = {
    "image": "PSNR 0.5 dB (higher is better)",
    "inpaint": "PSNR 0.5 dB (higher is better)",
    "poisson": "PSNR of the image 0.5 dB (higher is better)",
    "edit": "PSNR of the gradient 0.5 dB (higher is better)",
    "audio": "scale-invariant SNR 0.5 dB (higher is better)",
    "volume": "PSNR 0.5 dB (higher is better)",
    "video": "PSNR, mean of the frames 0.5 dB (higher is better)",
    "sdf": "chamfer-L1 distance to held-out points 0.5 % of the diagonal (lower is better)",
    "helmholtz": "relative L2 error 50 % (lower is better)",
    "wave": "relative L2 error 50 % (lower is better)",
    "inversion": "mean squared error of the velocity 0.5 (lower is better)",
}


def shown(figure) -> list:
    """Its axes, without those of empty places."""
    return [axes for part in figure.subfigs for axes in part.axes if axes.axison]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_titles_units_and_a_headline(name):
    task = open_task(name, load_settings(TASKS[name].settings, flags=[*SMALL[name], "--training.points", "100"]))
    field = Siren(task.in_features, task.out_features, 8, 1)
    figure = draw_summary(task, field, dict.fromkeys(task.evaluate(field), 0.5), HISTORY)
    assert figure.get_suptitle().replace("\n", " ") == f"{name}: {HEADLINES[name]} after 10 steps, which took 1.25 s"
    bars = {image.colorbar.ax for axes in shown(figure) for image in axes.images if image.colorbar}
    titles = []
    for axes in shown(figure):
        if axes in bars:
            assert axes.get_ylabel()
        else:
            titles.append(axes.get_title().replace("\n", " "))
            if axes.lines or axes.collections:  # a curve, or contours
                assert axes.get_xlabel()
    assert all(titles)
    assert "Loss" in titles
    rows = [plot for row in task.summary(field) for plot in row.values()]
    for plot in rows:
        if isinstance(plot, Curve):
            assert plot.x_label
            assert plot.y_label
        elif plot.values.ndim == 2:
            assert plot.unit
    wanted = {"truth", "result"} if name not in ("edit", "sdf") else {"result"}
    assert wanted <= {word.strip(":,()").lower() for title in titles for word in title.split()}
    pixels = figure_pixels(figure)
    assert pixels.shape[1] == 800
    smallest = min(text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text())
    assert smallest >= 6.9  # points: 9 pixels


def keys(task) -> set[str]:
    found = [measure.key for measure in task.measures]
    assert len(found) == len(set(found))
    assert all(measure.label for measure in task.measures)
    return set(found)


@pytest.mark.parametrize("name", TASKS)
def test_every_number_of_a_task_has_its_measure(name):
    task = open_task(name, load_settings(TASKS[name].settings, flags=[*SMALL[name], "--training.points", "100"]))
    field = Siren(task.in_features, task.out_features, 8, 1, first_omega=30.0)
    numbers = set(task.evaluate(field))
    if isinstance(task, Image):
        numbers |= set(task.evaluate_derivatives(field))
    others = {"edit": {"kept_psnr"}, "sdf": {"colour_psnr"}}  # where there is a mask, or there are colours
    assert keys(task) == numbers | others.get(name, set())


def sets():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 1), dtype=np.uint8)
    solids = [(name, mesh.vertices, mesh.faces) for name, mesh in (solid_mesh(i, resolution=16) for i in range(2))]
    shapes = make_shapes(solids)
    return {
        "completion": Completion(pixels, pixels[:2]),
        "sounds": SoundCompletion(np.random.default_rng(0).normal(size=(20, 64))),
        "shapes": Shapes(shapes, shapes, ShapeContext(evaluation=(50, 100)), resolution=8),
        "photographs": Photographs(pixels.repeat(3, 3), pixels[:2].repeat(3, 3), pixels=32),
    }


@pytest.mark.parametrize("name", SETS)
def test_every_number_of_a_task_on_a_set_has_its_measure(name):
    task = sets()[name]
    assert isinstance(task, SETS[name].load())
    if name == "photographs":
        found = task.evaluate(Inpainter((8, 8, 8, 8), (1, 1, 1, 1)))
    else:
        field = Siren(*(task.describe()[size] for size in ("in_features", "out_features")), 8)
        found = task.evaluate(lambda context: field.bind(batched(field, len(context.mask))))
    told = {key for key in keys(task) if not key.startswith("change")}  # only a correction changes anything
    assert set(found) == told
    assert headline(task, found) == next(measure for measure in task.measures if measure.key in told)


def batched(field, signals):
    return {key: value.expand(signals, *value.shape) for key, value in field.named_parameters()}


def test_what_is_no_truth_is_not_called_so():
    field = Siren(2, 3, 8, 1)
    source, target = torch.rand(8, 8, 3), torch.rand(8, 8, 3)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:5, 2:5] = True
    for composition, name in ((blend(source, target), "average"), (clone(source, target, mask), "paste")):
        titles = [plot.title for row in Edit(composition).summary(field) for plot in row.values()]
        assert titles[0] == f"Plain {name}, for comparison"
        assert not any("truth" in title.lower() for title in titles)


def test_an_error_has_its_values_at_a_colour_bar():
    task = Image(torch.zeros(4, 4, 3))
    row = task.summary(lambda x: torch.full((len(x), 3), 0.5) + 0 * x[:, :1])[0]
    error = row["error"]
    np.testing.assert_allclose(error.values, 0.25, atol=1e-6)  # half of the range [-1, 1] is one on [0, 1]
    assert error.limits == pytest.approx((0, 0.25))
    assert error.unit == "error, values in [0, 1]"
    assert "Known pixels" not in [plot.title for plot in row.values()]
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[0] = True
    assert Image(torch.zeros(4, 4, 3), known=known).summary(Siren(2, 3, 8))[0]["known"].title == "Known pixels (25 %)"


def test_the_course_has_every_term_and_the_measure_over_seconds():
    later = {"step": 15, "seconds": 2.0, "validation/psnr": 33.0}
    found = course([*HISTORY, later], Measure("psnr", "PSNR", "dB", "higher"))
    assert {name: list(map(list, line)) for name, line in found["loss"].lines.items()} == {
        "total": [[5, 10], [2.0, 0.2]],
        "mse": [[5, 10], [1.5, 0.2]],
        "prior": [[5, 10], [0.5, 0.0]],
    }
    assert list(map(list, found["course"].lines["PSNR"])) == [[1.25, 2.0], [31.0, 33.0]]
    assert "course" not in course(HISTORY, Measure("psnr", "PSNR", "dB", "higher"))  # one value is no course
    assert found["course"].x_label == "time in steps (s)"
    assert course([]) == {}
    alone = [{"step": i, "seconds": 0.1 * i, "loss/total": 2.0, "loss/mse": 2.0} for i in (1, 2)]
    assert list(course(alone)["loss"].lines) == ["total"]


def test_what_other_methods_reach_are_level_lines_beside_the_measure():
    history = [{"step": i, "seconds": 2.0 * i, "validation/mse": 0.5 - 0.1 * i} for i in (1, 2)]
    measure = Measure("mse", "error", "%", factor=100)
    curve = course(history, measure, {"linear": 0.6, "far": 5.0})["course"]
    assert {name: list(map(list, line)) for name, line in curve.lines.items()} == {
        "error": [[2.0, 4.0], [40.0, 30.0]],
        "linear": [[2.0, 4.0], [60.0, 60.0]],
    }
    assert curve.y_limits == pytest.approx((0.0, 63.0))
    changes = [{**row, "validation/change": -0.01 * row["step"]} for row in history]
    curve = course(changes, Measure("change", "change", "%", factor=100), {"prior alone": 0.0})["course"]
    assert curve.lines["prior alone"] == ([2.0, 4.0], [0.0, 0.0])


def test_the_headline_is_of_the_step_that_it_was_measured_at():
    later = {"step": 15, "seconds": 2.0, "loss/total": 0.1, "validation/psnr": 30.0}
    for value, when in (
        (31.0, "after 10 steps, which took 1.25 s; the best of 15 steps"),
        (30.0, "after 15 steps, which took 2 s"),
    ):
        figure = draw_summary(Own(), None, {"psnr": value, "ssim": float("nan")}, [*HISTORY, later])
        assert when in figure.get_suptitle()


class Own(FieldTask):
    in_features, out_features = 1, 1

    def panels(self, field):
        wave = torch.zeros(100, 1)
        frames = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
        image = ImagePanel(torch.zeros(4, 4, 1))
        return {"fit": image, "my_sound": SoundPanel(wave, 100), "clip": VideoPanel(frames, 5.0)}


def test_a_task_from_outside_shows_its_panels_and_its_loss():
    figure = draw_summary(Own(), None, {"error": 0.5, "other": 1.0}, HISTORY)
    assert figure.get_suptitle().startswith("task: error 0.5\n")  # no direction is known
    titles = [axes.get_title() for axes in shown(figure)]
    assert titles == ["Fit", "My sound", "Clip, middle frame", "Loss"]
    bare = draw_summary(FieldTask(), None, {})
    assert figure_pixels(bare).shape[1] == 800

    class Judged(Own):
        criterion = "error"

    assert "error 0.5 (lower is better)" in draw_summary(Judged(), None, {"error": 0.5}).get_suptitle()
    Judged.measures = (Measure("missing", "not evaluated"), Measure("share", "my share", "%", "higher", 100))
    title = draw_summary(Judged(), None, {"error": 0.5, "share": 0.5}).get_suptitle()
    assert title == "task: my share 50 % (higher is better)"


def test_a_picture_of_nothing_finite_can_be_drawn():
    class Broken(Own):
        def summary(self, field):
            return [{"a": Picture("A", np.full((3, 3), np.nan), "u")}]

    assert figure_pixels(draw_summary(Broken(), None, {"error": float("nan")})).shape[1] == 800
