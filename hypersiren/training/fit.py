"""Fit one field to one signal."""

import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hypersiren.errors import UserError, did_you_mean
from hypersiren.fields.baselines import baseline, equal_width
from hypersiren.fields.render import kind_of, render_frames, render_image, render_sound, unit
from hypersiren.fields.settings import WHOLE, WINDOWS, Network
from hypersiren.fields.siren import Params
from hypersiren.plotting import ZOOM, figure_pixels
from hypersiren.signals.image.files import encode_png, write_image
from hypersiren.tasks.later import do_later
from hypersiren.tasks.settings import FitSettings, FitTraining
from hypersiren.tasks.summary import draw_summary
from hypersiren.tasks.task import check_task, digest_of
from hypersiren.training.checkpoints import find, read, restore, save
from hypersiren.training.display import is_first, shows_progress
from hypersiren.training.distributed import join, on_first
from hypersiren.training.folders import write_metrics
from hypersiren.training.interrupts import check_on_interrupt, stop_requested
from hypersiren.training.loop import OnLog, optimise_and_load
from hypersiren.training.objectives import FieldObjective, numbers_per_value
from hypersiren.training.seeds import seeded
from hypersiren.training.solves import KeptSolve, forget, own_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """A fitted field. A notebook shows it as its summary.

    Attributes:
        field: The field, in evaluation mode.
        task: What it was fitted to.
        metrics: What the task's `evaluate` and `evaluate_result` say of it; what is not defined, as the SSIM of a
            picture of few pixels, is left out.
        history: The course of the training, as `history.json` of a run folder: rows with `step`, `seconds`, means since
            the last row ("loss/total", a "loss/..." for each term, "gradient_norm"), "learning_rate", and in rows of
            validations "validation/..." for each of `metrics`. `pandas.DataFrame(history)` is a table.
        seconds: Time spent in steps.
        run_dir: Its run folder, or None if none was kept.
        finished: Whether all steps are done; False if Ctrl-C or `on_log` stopped it.

    Example:
        >>> from hypersiren import Image, fit
        >>> result = fit(Image(torch.zeros(8, 6, 3)), steps=100, network={"hidden_features": 16})
        >>> result.render(32).shape, [row["step"] for row in result.history]
        (torch.Size([32, 24, 3]), [50, 100])
    """

    field: nn.Module = dataclass_field(repr=False)
    task: Any = dataclass_field(repr=False)
    metrics: dict[str, float]
    history: list[dict[str, float]] = dataclass_field(repr=False)
    seconds: float
    run_dir: Path | None
    finished: bool

    def render(self, size: int | None = None) -> Tensor:
        """The signal at any resolution, on the CPU.

        Args:
            size: Height in pixels of an image or a video, the width follows; samples per second of a sound. None for
                the signal's own.

        Returns:
            (H, W, C) or (T, H, W, C) values in [0, 1]; of a sound (N, C) amplitudes on the scale of its file.

        Raises:
            UserError: If the field is no image, sound, video or volume.
        """
        about = playback_of(self.task)
        samples, kind = about["samples"], kind_of(about)
        if size is not None and size < 1:
            raise UserError(f"size: expected at least 1, got {size}")
        device = self.task.device
        if kind == "sound":
            count = len_at(samples[0], size, about["rate"])
            return (render_sound(self.field, count, device=device) * about["scale"]).cpu()
        if kind in ("video", "volume"):
            depth, height, width = (len_at(n, size, samples[1]) for n in samples)
            shape = (samples[0] if kind == "video" else depth, height, width)
            return torch.stack([unit(frame).cpu() for frame in render_frames(self.field, shape, device=device)])
        if kind != "image" or ("bands" not in about and self.task.out_features not in (1, 3)):
            raise UserError(
                f"the field of {self.task.name} is no image, sound, video or volume; "
                "hypersiren.evaluate(result.field, x) gives its values at any points"
            )
        height = size or samples[0]
        return unit(render_image(self.field, (height, len_at(samples[1], size, samples[0])), device=device)).cpu()

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """The summary as a figure of matplotlib: truth, result, error, headline number, course of the training.

        Args:
            path: File that gets it as a picture too; its ending, such as .png, says the format.

        Raises:
            SignalError: If the file cannot be written.
        """
        figure = draw_summary(self.task, self.field, self.metrics, self.history)
        if path is not None:
            write_image(Path(path), figure_pixels(figure, zoom=ZOOM))
        return figure

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the field as safetensors, which `hypersiren.load` reads; see `hypersiren.save`."""
        save(self.field, path)

    def _repr_png_(self) -> bytes:
        """The summary, for notebooks."""
        return encode_png(figure_pixels(self.plot()))


@torch.inference_mode(False)
@torch.enable_grad()
def fit(
    task: Any,
    field: nn.Module | None = None,
    *,
    settings: FitSettings | None = None,
    init: Params | None = None,
    start: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    network: Mapping[str, Any] | Network | str | None = None,
    progress: bool | str | None = None,
    on_log: OnLog | None = None,
    on_interrupt: str = "raise",
    **training: Any,
) -> Fit:
    """Fit a field to a task, ours or your own.

    Fits in several threads give what each gives alone, bit for bit: nothing here draws from PyTorch's global generator.
    It is yours, and that of all threads: a field that you make yourself has its own with `Siren(..., generator=...)`.

    Where torchrun has started several processes, they share the points of each step and get the same field. Each makes
    the same call, its task on its own device: `torch.device("cuda", int(os.environ["LOCAL_RANK"]))`. The first alone
    writes, shows progress and calls `on_log`.

    Args:
        task: What is asked, such as `Image(pixels)`: any object with what `hypersiren.FieldTask` has.
        field: The module to fit, in place; None for the network of the settings.
        settings: Network and optimisation; None for the task's own.
        init: Initial weights, all or some, such as those that a hypernetwork predicted for one signal.
        start: Run folder or checkpoint of a fit of one network: this one begins with its weights and has its network. A
            field that you have begins with its own: `fit(task, field)`.
        run_dir: Folder for checkpoints, summary.png and TensorBoard events; a run that it holds is resumed. None keeps
            nothing.
        seed: Fixes the batches, and the initial weights of a network that is made here; None for the settings' seed.
        network: Changes of the settings' network, see `hypersiren.fields.settings.Network`; or its kind alone, such as
            "wire".
        progress: Show a progress bar; a text is its name; None: if stderr is a terminal, or in a notebook.
        on_log: Called as on_log(step, values) with each row of the history, when it is logged (every `log_every` steps)
            or validated (every `validate_every`); values are floats by the names of `Fit.history`. If it returns True
            (nothing else counts), the training stops as after Ctrl-C, but is validated first: the result has its
            metrics and its best weights, `finished` is False, and the same call with the same `run_dir` resumes. Two
            examples: `on_log=lambda step, values: wandb.log(values, step)` and
            `on_log=lambda step, values: values.get("validation/psnr", 0) > 40`.
        on_interrupt: After Ctrl-C or SIGTERM the step ends, the run is saved if it has a `run_dir`, `field` has the
            weights, and KeyboardInterrupt or SystemExit is raised, so that a loop over fits ends; the same call
            resumes. "return": the fit returns what it has, `finished` being False, but for a solve, which has nothing.
        training: Changes of the settings' optimisation, see `hypersiren.tasks.settings.FitTraining`; all but `points`,
            which the task has: `Image(picture, points=4096)`.

    Raises:
        TrainingError: If the loss is not finite, or the folder holds a run with other settings.
        UserError: If the task lacks something, a setting does not exist, or the network has no first omega and the task
            chooses none.
        TypeError: If `field` is no module, or `network` is one.
        ValueError: If `init` holds other weights than the field.

    Example:
        >>> from hypersiren import Image, fit
        >>> fit(Image(torch.zeros(8, 8, 1)), steps=200).metrics["psnr"] > 30
        True
        >>> small = {"hidden_features": 16}
        >>> stop = lambda step, values: values["loss/total"] < 1
        >>> fit(Image(torch.zeros(8, 8, 1)), steps=200, log_every=10, network=small, on_log=stop).history[-1]["step"]
        10
    """
    check_on_interrupt(on_interrupt)
    check_task(task)
    check_keywords(training)
    seconds = 0.0
    used = task.defaults if settings is None else settings
    used = used.replace(
        start=used.start if start is None else Path(start),
        seed=used.seed if seed is None else seed,
        network=used.network.replace(**network_changes(network)),
        training=used.training.replace(**training),
    )
    used = resolve(used, task, field)
    if field is None:
        field, seconds = make_field(used, task, None if run_dir is None else Path(run_dir))
    check_field(field, task)
    if init is not None:
        set_weights(field, init)
    LOG.info("building the field: %s", tell_size(field, task))
    record = {"settings": used.model_dump(mode="json"), "playback": playback_of(task)}
    objective = FieldObjective(field, task, used.training.first_lr, seconds=seconds)
    shown = shows_progress(progress)
    outcome = optimise_and_load(
        objective,
        run_dir,
        record,
        used.training,
        seed=used.seed,
        progress=shown,
        on_log=on_log,
        on_interrupt=on_interrupt,
    )
    if run_dir is not None and is_first():
        forget(Path(run_dir))
    field.requires_grad_(False)
    if outcome["finished"] and hasattr(task, "evaluate_result"):  # a task from outside need not have it
        outcome["metrics"] |= on_first(partial(task.evaluate_result, field))
    outcome["metrics"] = {name: value for name, value in outcome["metrics"].items() if not math.isnan(value)}
    result = Fit(field, task, **outcome)
    if result.run_dir is not None and result.finished and is_first():
        write_metrics(result.run_dir, result.metrics)
        draw = partial(objective.write_summary, result.run_dir, field, result.metrics, result.history)
        do_later(task, draw)
    return result


def resolve(settings: FitSettings, task: Any, field: nn.Module | None = None) -> FitSettings:
    """The settings with what they leave to the task: the kind of the field, its first omega, the number of steps.

    Args:
        settings: Of the fit.
        task: The task.
        field: A field from outside, whose network the settings do not say.

    Raises:
        UserError: If the task has no closed form for windows, or no first omega; if a setting is of another kind, or
            windows would be larger than the signal.
    """
    network, training = settings.network, settings.training
    if field is None and settings.start is not None and getattr(task, "completed", None) is None:
        network = network_of(settings.start, network, task.defaults.network)
    windows = bool(getattr(task, "windowed", False))  # a task from outside need not say
    if field is None:
        network = network.replace(kind=network.chosen(windows, task.defaults.network))
        if network.kind == "windowed" and not windows:
            raise UserError(
                f"network.kind: {task.name} has no closed form for windows here; expected siren or a baseline"
            )
        for name in WHOLE if network.kind == "windowed" else WINDOWS:
            if (given := getattr(network, name)) != getattr(task.defaults.network, name):
                raise UserError(f"network.{name}: expected none with kind {network.kind}, got {given}")
        if network.numbers is None and task.defaults.network.numbers is not None:
            raise UserError(f"network.numbers: expected a number, got null; {task.name} does not choose one")
        if network.window is not None and network.window > (most := max(task.samples)):
            raise UserError(f"network.window: expected at most {most} samples, as the signal has, got {network.window}")
        if network.kind != "windowed":
            network = choose_omega(network, task)
    solved = field is None and network.kind == "windowed"
    if training.steps is None:
        own = getattr(task, "trained_steps", None) or settings.trained_steps
        training = training.replace(steps=0 if solved else own)
    if training.steps == 0 and not solved:
        raise UserError("training.steps: expected at least 1 where nothing is solved, got 0")
    return settings.replace(network=network, training=training)


def is_fit(start: Path) -> bool:
    """Whether a run, or a checkpoint, is of a fit: it says its network, and no set of signals."""
    settings = read(find(start))["record"].get("settings") or {}
    return "network" in settings and "data" not in settings


def network_of(start: Path, network: Network, defaults: Network) -> Network:
    """The network of the fit that another starts from.

    Args:
        start: The run folder, or a checkpoint.
        network, defaults: Of the fit that starts, and of its task: what is changed must be what is there.

    Raises:
        CheckpointError: If there is no checkpoint.
        UserError: If it is not of a fit of one network, or another network is asked for.
    """
    record = read(find(start))["record"]["settings"]["network"] if is_fit(start) else None
    if record is None or record.get("kind") in (None, "windowed"):
        got = "windows, which are solved anew" if record else "no fit"
        raise UserError(f"start: expected a fit of one network, such as --network.kind siren, got {got}: {start}")
    there = Network.model_validate(record)
    for name in Network.model_fields:
        given, known = getattr(network, name), getattr(there, name)
        if given not in (known, getattr(defaults, name)):
            raise UserError(f"network.{name}: expected {known}, as the start has, got {given}")
    return there


def make_field(settings: FitSettings, task: Any, run_dir: Path | None) -> tuple[nn.Module, float]:
    """The field of resolved settings, and the seconds that its solve took.

    Of a run that is resumed it is not solved again: its weights come from the checkpoint, or from what is kept of a
    solve that was interrupted.
    """
    if settings.start is not None and getattr(task, "completed", None) is None:  # else the task has used it
        return restore(read(find(settings.start)), task.device).requires_grad_(True), 0.0
    if settings.network.kind != "windowed":
        with seeded(settings.seed):
            return baseline(**describe_field(settings.network, task)).to(task.device), 0.0
    if run_dir is not None and (run_dir / "last.pt").exists():
        return restore(read(run_dir / "last.pt"), task.device).requires_grad_(True), 0.0
    LOG.info("solving windows")
    begun = time.perf_counter()
    if run_dir is None:
        return task.windowed_field(settings.network), time.perf_counter() - begun
    join()
    with ExitStack() as held:
        plain, digest = settings.model_dump(mode="json"), digest_of(task)
        on_first(lambda: held.enter_context(own_folder(run_dir, plain, digest)))
        record = {"network": plain["network"], "digest": digest}
        kept = KeptSolve(run_dir, record, held.enter_context(stop_requested()))
        field = task.windowed_field(settings.network, kept)
    return field, time.perf_counter() - begun + kept.seconds


def tell_size(field: nn.Module, task: Any) -> str:
    """How large a field is: its weights, or the numbers of windows beside the values of the signal.

    Example:
        >>> from hypersiren import Image, Siren
        >>> tell_size(Siren(2, 1, 8), Image(torch.zeros(4, 4, 1)))
        '249 weights'
    """
    if (share := numbers_per_value(field, task)) is None:
        return f"{sum(p.numel() for p in field.parameters()):,} weights"
    return f"{field.numbers:,} numbers in {len(field.windows)} windows, {share:.3g} for each value"  # type: ignore[arg-type]


KEYWORDS = ("field", "settings", "init", "start", "run_dir", "seed", "network", "progress", "on_log", "on_interrupt")
"""Of `fit`, beside the settings of the optimisation."""


def check_keywords(training: Mapping[str, Any]) -> None:
    """Refuse keywords of `fit` that are no settings of the optimisation, and say what was meant.

    Raises:
        UserError: If there is one.

    Example:
        >>> check_keywords({"step": 5})
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: fit: unknown setting "step"; did you mean "steps"?
        >>> check_keywords({"hidden_features": 5})
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: fit: hidden_features belongs to the network: network={"hidden_features": 5}
    """
    known = [name for name in FitTraining.model_fields if name != "points"]
    for name, value in training.items():
        if name == "points":
            raise UserError(f"fit: points belongs to the task, such as Image(picture, points={value!r})")
        if name in Network.model_fields:
            raise UserError(f'fit: {name} belongs to the network: network={{"{name}": {value!r}}}')
        if name not in known:
            words = [*known, *KEYWORDS, *Network.model_fields, "points"]
            hint = did_you_mean(name, words, f"; expected one of {', '.join(known)}")
            raise UserError(f'fit: unknown setting "{name}"{hint}')


def network_changes(network: Any) -> dict[str, Any]:
    """What `fit` was told of its network, as changes of the settings.

    Raises:
        TypeError: If it is a module, or of another type that says no settings.

    Example:
        >>> network_changes("wire"), network_changes({"hidden_features": 64}), network_changes(None)
        ({'kind': 'wire'}, {'hidden_features': 64}, {})
    """
    if isinstance(network, str):
        return {"kind": network}
    if isinstance(network, Network):
        return network.model_dump()
    if isinstance(network, nn.Module):
        raise TypeError("network: expected settings, got a module; give it as the field: fit(task, field)")
    if network is not None and not isinstance(network, Mapping):
        raise TypeError(
            'network: expected settings, such as {"hidden_features": 64}, or a kind, such as "wire"; '
            f"got a {type(network).__name__}"
        )
    return dict(network or {})


def playback_of(task: Any) -> dict[str, Any]:
    """What a rendering of a task's field must know, as plain values."""
    return {"task": task.name, "samples": list(task.samples), **task.playback}


def len_at(samples: int, size: int | None, own: int) -> int:
    """Samples along an axis where `own` samples, of another or of a second, become `size`.

    Example:
        >>> len_at(30, 40, 20), len_at(30, None, 20)
        (60, 30)
    """
    return max(1, round(samples * (size or own) / own))


def check_field(field: Any, task: Any) -> None:
    """Refuse what is no module, and a field whose coordinates or channels, where it tells them, are not the task's.

    Values of one channel would be compared with those of three without a word.

    Raises:
        TypeError: If it is no module.
        UserError: If its size is another.
    """
    if not isinstance(field, nn.Module):
        raise TypeError(f"field: expected a torch.nn.Module from coordinates to values, got a {type(field).__name__}")
    for name in ("in_features", "out_features"):
        own = getattr(field, name, None)
        if isinstance(own, int) and own != getattr(task, name):
            raise UserError(f"field: expected {name} {getattr(task, name)} as {task.name} has, got {own}")


def choose_omega(network: Network, task: Any) -> Network:
    """The network with a first omega: where it has none, the task's.

    Raises:
        UserError: If the task has none either.
    """
    if network.first_omega is not None:
        return network
    if task.first_omega is None:
        raise UserError(f"network.first_omega: expected a number, got null; {task.name} does not choose one")
    return network.replace(first_omega=task.first_omega)


def describe_field(network: Network, task: Any) -> dict[str, Any]:
    """The arguments of `fields.baselines.baseline` for a task: a baseline has as many weights as the SIREN."""
    size: dict[str, Any] = {
        "in_features": task.in_features,
        "out_features": task.out_features,
        "hidden_layers": network.hidden_layers,
        "samples": list(task.samples) or [256] * task.in_features,
    }
    assert network.kind is not None
    width = equal_width(network.kind, hidden_features=network.hidden_features, **size)
    omegas = {"first_omega": network.first_omega, "hidden_omega": network.hidden_omega}
    return {"name": network.kind, **size, "hidden_features": width, **omegas}


@torch.no_grad()
def set_weights(field: nn.Module, params: Params) -> None:
    """Give a field these weights, by name; a leading signal axis of one signal is dropped.

    Raises:
        ValueError: If a name or a shape is not the field's.
    """
    own = dict(field.named_parameters())
    for name, value in params.items():
        if name not in own or value.numel() != own[name].numel() or value.shape[-own[name].ndim :] != own[name].shape:
            expected = tuple(own[name].shape) if name in own else f"one of {', '.join(own)}"
            raise ValueError(f"initial weight {name}: expected {expected}, got {tuple(value.shape)}")
        own[name].copy_(value.view_as(own[name]))
