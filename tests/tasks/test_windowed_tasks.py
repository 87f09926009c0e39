"""Tasks that windows solve: numbers and quality, gradient steps afterwards, mistakes, interrupted solves."""

import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

from hypersiren import Audio, Image, Inpaint, Poisson, Siren, Video, fit, open_picture
from hypersiren.errors import UserError
from hypersiren.fields import window_solve
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.memo import Memo
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import fill
from hypersiren.signals.image.filters import image_gradient, image_laplacian, integrate
from hypersiren.tasks.images.edit import Edit, clone
from hypersiren.training import checkpoints, solves
from hypersiren.training.fit import Fit, resolve
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.optimizers import make_optimizers


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    """Summaries have tests of their own, and take most of the time."""
    monkeypatch.setattr(Fit, "plot", lambda self, path=None: None)
    monkeypatch.setattr(FieldObjective, "pictures", lambda self, *given: {})


def photograph(size=64):
    return torch.from_numpy(data.astronaut()[60 : 60 + size, 190 : 190 + size] / 127.5 - 1).float()


def tune(samples=4000):
    t = torch.linspace(0, 1, samples)
    return torch.stack([(500 * t).sin() * 0.5, (900 * t + (40 * t).sin()).sin() * 0.4], -1)


def clip():
    t, y, x = torch.meshgrid(*[torch.linspace(0, 1, n) for n in (9, 20, 26)], indexing="ij")
    waves = (7 * x + 3 * t).sin() * (5 * y - 2 * t).cos()
    return ((waves.unsqueeze(-1) * torch.tensor([1.0, 0.7, 0.4]) + 1) * 127).to(torch.uint8).numpy()


TASKS = {
    "image": lambda: Image(photograph()),
    "gray": lambda: Image(photograph()[..., :1]),
    "audio": lambda: Audio(tune(), 8000),
    "video": lambda: Video(clip(), 25),
    "poisson": lambda: Poisson(photograph()[..., :1]),
}


def test_signals_of_one_size_share_a_system_and_give_what_each_gives_alone(monkeypatch):
    systems = []
    real = window_solve._system
    monkeypatch.setattr(window_solve, "_system", lambda *given: systems.append(given) or real(*given))
    few = {"numbers": 0.3}
    alone = [fit(Image(pixels), network=few) for pixels in (photograph(), -photograph())]
    assert len(systems) == 2
    memo = Memo()
    for before in alone:
        task = Image(before.task.pixels)
        task.memo = memo
        together = fit(task, network=few)
        assert together.metrics == before.metrics
        for name, value in before.field.state_dict().items():
            assert torch.equal(together.field.state_dict()[name], value)
    assert len(systems) == 3
    task = Image(photograph(48))
    task.memo = memo
    assert fit(task, network=few).metrics == fit(Image(photograph(48)), network=few).metrics


@pytest.mark.parametrize("name", TASKS)
def test_a_signal_is_solved_by_default(name):
    task = TASKS[name]()
    result = fit(task)
    assert isinstance(result.field, CompactWindows)
    assert result.finished
    assert [row["step"] for row in result.history] == [0]
    values = math.prod(task.samples) * task.out_features
    assert result.metrics["numbers_per_value"] == pytest.approx(result.field.numbers / values)
    assert result.metrics["numbers_per_value"] <= task.defaults.network.numbers + 20 / values
    assert result.seconds > 0
    quality = {"image": 38, "gray": 38, "audio": 40, "video": 38, "poisson": 30}[name]
    assert result.metrics["si_snr" if name == "audio" else "psnr"] > quality
    assert result.metrics["mse"] < 1e-2 if "mse" in result.metrics else True


def test_half_a_number_for_each_value_is_enough_for_a_photograph():
    result = fit(Image(photograph(96)), network={"numbers": 0.5})
    assert result.metrics["numbers_per_value"] <= 0.5 + 1e-3
    assert result.metrics["psnr"] > 32


def test_a_width_or_a_kind_gives_one_siren():
    task = Image(photograph(16))
    for network in ("siren", {"hidden_features": 16}, {"hidden_omega": 20.0}):
        assert isinstance(fit(task, network=network, steps=2).field, Siren)
    used = resolve(task.defaults.replace(network=task.defaults.network.replace(kind="siren")), task)
    assert used.training.steps == 400
    assert used.network.first_omega == task.first_omega
    used = resolve(task.defaults, task, Siren(2, 3, 8))
    assert used.training.steps == 400
    known = torch.zeros(16, 16, dtype=torch.bool)
    known[::2] = True
    task = Image(photograph(16), known=known)
    assert resolve(task.defaults, task).network.kind == "windowed"


@pytest.mark.parametrize(
    ("network", "training", "message"),
    [
        ({"kind": "windowed", "window": 17}, {}, "expected at most 16 samples"),
        (
            {"kind": "windowed", "hidden_features": 8},
            {},
            "network.hidden_features: expected none with kind windowed, got 8",
        ),
        ({"kind": "siren", "window": 8}, {}, "network.window: expected none with kind siren, got 8"),
        ({"kind": "siren", "numbers": 0.5}, {}, "network.numbers: expected none with kind siren, got 0.5"),
        ({"kind": "wire", "numbers": 0.5}, {}, "none with kind wire, got 0.5"),
        ({"kind": "siren"}, {"steps": 0}, "at least 1 where nothing is solved"),
        ({"numbers": 0.0}, {}, "greater than 0"),
        ({"overlap": 0.6}, {}, "less than or equal to 0.5"),
        ({"window": 1}, {}, "greater than or equal to 2"),
    ],
)
def test_a_mistake_is_one_line(network, training, message):
    with pytest.raises((UserError, ValueError), match=message):
        fit(Image(photograph(16)), network=network, **training)


def test_a_task_without_a_closed_form_says_so():
    with pytest.raises(UserError, match="inpaint has no closed form for windows here") as caught:
        fit(Inpaint(photograph(16), known=torch.ones(16, 16, dtype=torch.bool)), network="windowed")
    assert "\n" not in str(caught.value)


def test_half_of_the_pixels_are_met_and_the_others_are_filled_in():
    photo = photograph(64)
    known = torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) < 0.5
    result = fit(Image(photo, known=known), progress=False)
    error = (result.render() - (torch.as_tensor(photo) + 1) / 2).square().mean(-1)
    assert -10 * error[known].mean().log10() > 40
    nearest = fill(torch.as_tensor(photo), known)
    assert error[~known].mean() < 0.95 * ((nearest - torch.as_tensor(photo)) / 2).square().mean(-1)[~known].mean()


def test_what_is_unknown_is_not_looked_at():
    photo, known = torch.as_tensor(photograph(40)), torch.ones(40, 40, dtype=torch.bool)
    known[10:25, 5:30] = False
    other = torch.where(known[..., None], photo, torch.full_like(photo, -1.0))
    fields = [Image(each, known=known).windowed_field(Network(kind="windowed")) for each in (photo, other)]
    assert torch.equal(fields[0].coefficients, fields[1].coefficients)


@pytest.mark.parametrize("optimizer", ["adam", "muon", "lbfgs"])
def test_gradient_steps_after_a_solve_make_few_numbers_better(tmp_path, optimizer):
    """Each window is solved for itself: where windows overlap, and in what they share, there is something to gain."""
    task = Image(photograph(40))
    solved = fit(task, network={"numbers": 0.3})
    lr = 1e-3 if optimizer != "lbfgs" else 1.0  # relative to the size of what learns
    settings = {"network": {"kind": "windowed", "numbers": 0.3}, "optimizer": optimizer, "lr": lr, "validate_every": 4}
    trained = fit(task, run_dir=tmp_path / "run", steps=8, **settings)
    assert trained.history[0]["validation/psnr"] == pytest.approx(solved.metrics["psnr"], abs=1e-4)
    # The line search of L-BFGS finds no step in single precision, so steep are the phases; it must do no harm.
    assert trained.metrics["psnr"] >= solved.metrics["psnr"] + (0.02 if optimizer != "lbfgs" else 0)
    assert (tmp_path / "run/prior.pt").exists()
    again = fit(task, run_dir=tmp_path / "run", steps=8, **settings)
    assert again.metrics == trained.metrics
    if optimizer == "adam":
        in_one = fit(task, steps=8, decay="constant", **settings)
        for steps in (4, 8):  # resumed half way
            in_two = fit(task, run_dir=tmp_path / "two", steps=steps, decay="constant", **settings)
        assert in_two.history[-1]["step"] == 8
        for name, value in in_one.field.state_dict().items():
            assert torch.allclose(value, in_two.field.state_dict()[name], atol=1e-6)


def test_what_was_solved_may_be_trained_in_the_same_folder(tmp_path):
    task = Image(photograph(48))
    network = {"kind": "windowed", "numbers": 0.3}
    solved = fit(task, run_dir=tmp_path, network=network)
    assert fit(task, run_dir=tmp_path, network=network).metrics == solved.metrics
    assert not (tmp_path / "best.pt").exists()
    # Steps that only harm: the solved field stays the best.
    worse = fit(task, run_dir=tmp_path, network=network, steps=3, lr=10.0, optimizer="adam")
    assert worse.metrics == solved.metrics
    assert worse.history[0]["validation/psnr"] == solved.metrics["psnr"]
    assert worse.seconds >= solved.seconds
    # And what was trained is not solved again.
    again = fit(task, run_dir=tmp_path, network=network, lr=10.0, optimizer="adam")
    assert again.metrics == solved.metrics
    assert again.history[-1]["step"] == 3


def test_derivative_losses_train_windows(tmp_path):
    task = Poisson(photograph(32)[..., :1])
    result = fit(task, network={"kind": "windowed", "numbers": 0.4}, steps=15, lr=1e-4, optimizer="adam")
    rows = [row for row in result.history if "loss/total" in row]
    assert all(math.isfinite(row["loss/total"]) for row in rows)
    assert result.metrics["psnr"] > 20


def test_the_numbers_of_windows_are_no_matrix_for_muon():
    count = (5, 4)
    field = CompactWindows(Siren(2, 3, hidden_features=(40, 32)), count, counts=(32, 16))
    objective = FieldObjective(field, Image(photograph(16)))
    muon, adam = make_optimizers(
        list(field.parameters()), "muon", 1e-3, 0.0, objective.lr_factors(), objective.tables()
    )
    names = {id(p): name for name, p in field.named_parameters()}
    assert [names[id(p)] for group in muon.param_groups for p in group["params"]] == ["layers.1.weight"]
    factors = {names[id(p)]: group["factor"] for group in adam.param_groups for p in group["params"]}
    assert factors["coefficients"] == 1.0
    assert len(factors) == len(names) - 1


def interrupted(monkeypatch, task, folder, rows, error, **settings):
    """Fit until so many strips are solved and kept, and be struck then."""
    monkeypatch.setattr(window_solve, "STRIP", 1)
    monkeypatch.setattr(solves, "KEEP_SECONDS", -1.0)
    original = solves.KeptSolve.save
    seen = []

    def save(self, field, done):
        self.due = 0.0
        original(self, field, done)
        seen.append(done)
        if len(seen) == rows:
            raise error

    monkeypatch.setattr(solves.KeptSolve, "save", save)
    with pytest.raises(type(error)):
        fit(task, run_dir=folder, **settings)
    monkeypatch.setattr(solves.KeptSolve, "save", original)
    return seen


@pytest.mark.parametrize("name", ["image", "audio", "video", "poisson"])
def test_an_interrupted_solve_goes_on_and_gives_the_same_to_the_bit(monkeypatch, tmp_path, name):
    monkeypatch.setattr(window_solve, "STRIP", 1)
    settings = {"network": {"kind": "windowed", "numbers": 0.4, "window": {"audio": 500, "video": 4}.get(name, 16)}}
    whole = fit(TASKS[name](), **settings)
    interrupted(monkeypatch, TASKS[name](), tmp_path / "run", 2, KeyboardInterrupt(), **settings)
    kept = tmp_path / "run/solve.pt"
    assert checkpoints.read(kept)["step"] == 2
    assert not (tmp_path / "run/last.pt").exists()
    assert (tmp_path / "run/config.yaml").exists()
    strips = []
    original = window_solve._windows
    monkeypatch.setattr(window_solve, "_windows", lambda plan, read, a, b, device: (
        strips.append((a, b)), original(plan, read, a, b, device))[1])  # fmt: skip
    again = fit(TASKS[name](), run_dir=tmp_path / "run", **settings)
    assert strips[-1][1] == again.field.windows.count[0]
    solved = strips[-(again.field.windows.count[0] - 2) :]
    assert [a for a, _ in solved] == list(range(2, again.field.windows.count[0])), "rows are solved twice"
    for key, value in whole.field.state_dict().items():
        assert torch.equal(value, again.field.state_dict()[key]), key
    assert not kept.exists()
    assert again.metrics == whole.metrics


def test_what_is_kept_of_another_signal_or_network_is_not_taken(monkeypatch, tmp_path):
    network = {"kind": "windowed", "numbers": 0.4, "window": 16}
    interrupted(monkeypatch, TASKS["image"](), tmp_path, 2, KeyboardInterrupt(), network=network)
    with pytest.raises(UserError, match="holds a run"):
        fit(TASKS["image"](), run_dir=tmp_path, network={**network, "numbers": 0.5})
    with pytest.raises(UserError, match="holds a run of another signal"):
        fit(Image(photograph().flip(0)), run_dir=tmp_path, network=network)
    (tmp_path / "solve.pt").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"solve\.pt") as caught:
        fit(TASKS["image"](), run_dir=tmp_path, network=network)
    assert "\n" not in str(caught.value)


def test_ctrl_c_ends_the_strip_and_keeps_it(monkeypatch, tmp_path):
    monkeypatch.setattr(window_solve, "STRIP", 1)
    network = {"kind": "windowed", "numbers": 0.4, "window": 16}
    whole = fit(TASKS["image"](), network=network)
    for number in (signal.SIGINT, signal.SIGTERM):
        folder = tmp_path / str(int(number))
        original, strips = window_solve._windows, []

        def struck(plan, read, a, b, device, number=number, strips=strips, original=original):
            strips.append(a)
            if b == 2 and len(strips) > plan.windows.count[0]:  # after the look at some windows
                os.kill(os.getpid(), number)
            return original(plan, read, a, b, device)

        monkeypatch.setattr(window_solve, "_windows", struck)
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            fit(TASKS["image"](), run_dir=folder, network=network)
        monkeypatch.setattr(window_solve, "_windows", original)
        assert checkpoints.read(folder / "solve.pt")["step"] == 2
        again = fit(TASKS["image"](), run_dir=folder, network=network)
        assert torch.equal(again.field.coefficients, whole.field.coefficients)


@pytest.mark.parametrize("finer", [1, 2])
def test_an_image_is_integrated_from_its_derivatives(finer):
    image = photograph(24).double()[:, :20]
    size = (24, 20)
    centred = image - image.mean((0, 1))
    gradient, laplacian = image_gradient(image, finer=finer), image_laplacian(image, "spectral", finer=finer)
    for derivative in (gradient, laplacian):
        found = integrate(derivative, size)
        assert found.shape == (24 * finer, 20 * finer, 3)
        if finer == 1:
            assert (image_gradient(found) - gradient).abs().max() < 0.02 * gradient.abs().max()
        else:
            assert (found.unflatten(1, (20, 2)).unflatten(0, (24, 2)).mean((1, 3)) - centred).abs().max() < 0.2
        assert found.mean((0, 1)).abs().max() < 1e-9


def test_a_composed_gradient_is_met_as_nearly_as_any_image_can():
    """Least squares: what is left of the gradient is at right angles to the gradient of every cosine."""
    size = (9, 7)
    gradient = torch.randn(*size, 1, 2, dtype=torch.double)
    image = integrate(gradient, size)
    h, w = size
    y, x = ((torch.arange(n, dtype=torch.double) + 0.5) / n for n in size)

    def cosine(a, b):
        return (math.pi * a * y).cos()[:, None] * (math.pi * b * x).cos()

    def slopes(a, b):
        down = -math.pi / 2 * a * (math.pi * a * y).sin()[:, None] * (math.pi * b * x).cos()
        right = -math.pi / 2 * b * (math.pi * a * y).cos()[:, None] * (math.pi * b * x).sin()
        return torch.stack([down, right], -1).flatten()

    pairs = [(a, b) for a in range(h) for b in range(w)]
    basis = torch.stack([cosine(a, b).flatten() for a, b in pairs], 1)
    theta = torch.linalg.solve(basis, image.flatten())
    rows = torch.stack([slopes(a, b) for a, b in pairs], 1)
    residual = gradient.flatten() - rows @ theta
    assert (rows.mT @ residual).abs().max() < 1e-8


def test_nothing_is_kept_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(TASKS["audio"]())
    assert list(Path().iterdir()) == []


def test_a_constant_picture_and_one_pixel():
    assert fit(Image(np.full((20, 30, 3), 90, np.uint8))).metrics["psnr"] > 60
    assert math.isfinite(fit(Image(torch.zeros(1, 1, 1))).metrics["mse"])
    assert math.isfinite(fit(Image(torch.rand(1, 50, 3) * 2 - 1)).metrics["mse"])
    assert math.isfinite(fit(Audio(torch.rand(3, 1) - 0.5, 8000)).metrics["mse"])


def test_a_solved_edit_has_the_composed_gradient_and_keeps_the_rest():
    """On the pixels alone, and not between them, windows left a tenth of the gradient's square."""
    source, target = open_picture("chelsea", size=40), open_picture("coffee", size=48)
    mask = torch.zeros(source.shape[:2], dtype=torch.bool)
    mask[8:30, 10:40] = True
    found = fit(Edit(clone(source, target, mask, (6, 9)))).metrics
    assert found["error"] < 0.05
    assert found["kept_psnr"] > 50
