"""What a device does, how far its numbers are off, and how long its training steps take: in some five minutes.

The reference of all numbers is the CPU in float64; beside the device's stands the CPU's own error in float32, which is
what a device may have. Without a GPU the CPU alone is measured. What a device refuses is an answer, too.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, supported_activities

from hypersiren.completion.train import make_objective
from hypersiren.fields.coords import grid
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.encoders.conv_encoder import ConvEncoder
from hypersiren.hypernets.encoders.precision import convolutions
from hypersiren.studies.benchmarks.data import synthetic_pictures
from hypersiren.studies.benchmarks.hypernet import open_task
from hypersiren.studies.benchmarks.measure import (
    Cell,
    Column,
    Report,
    Step,
    Table,
    Variant,
    count_flops,
    describe_machine,
    loop_step,
    speed_table,
    wait,
)
from hypersiren.tasks.images.image import Image
from hypersiren.training.fit import resolve
from hypersiren.training.muon import orthogonalise
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.seeds import seeded

LOG = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)
Answer = TypeVar("Answer")

Quantity = Callable[[torch.device, torch.dtype], Tensor]
"""A result, computed on a device and in a type."""

NO_GPU = "No GPU is there: the CPU's float32 is compared with its own float64, and its steps are timed."


def device_report(
    models: Mapping[str, Any],
    *,
    small: bool = False,
    rounds: int = 5,
    graphs: bool = True,
    device: torch.device | str = "cpu",
) -> Report:
    """Ask a device.

    Args:
        models: Hypernetworks that are trained, by name: `CompletionSettings` of one batch size and size of images.
        small: Smaller fields and images.
        rounds: Turns of each step; the median is taken.
        graphs: On CUDA, time the steps of the image and of the first model as CUDA graphs, too.
        device: Which one.
    """
    device = torch.device(device)
    machine = describe_machine(device)
    notes: list[str] = [NO_GPU] if device.type == "cpu" else []
    if device.type == "cuda":
        machine["GPU memory"] = f"{torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB"
    LOG.info("asking what the device can do")
    asked = rules(device, notes)
    LOG.info("comparing its numbers")
    numbers = agreement(device, small, notes)
    steps = step_table(models, small, rounds, graphs and device.type == "cuda", device, notes)
    return Report("device", machine, {"small": small, "rounds": rounds}, [asked, numbers, steps], notes)


def rules(device: torch.device, notes: list[str]) -> Table:
    """What the device does and what it refuses.

    Args:
        device: Which one.
        notes: Receives why it refuses something.

    Example:
        >>> rules(torch.device("cpu"), []).rows["float64"]
        {'answer': 'yes'}
    """
    whole = torch.arange(4, device=device)
    matrix = torch.ones(4, 2, device=device)
    questions: dict[str, Callable[[], Any]] = {
        "float64": lambda: matrix.double().sum().item(),
        "products in bfloat16": lambda: (matrix.bfloat16() @ matrix.bfloat16().mT).sum().item(),
        "products of integers": lambda: (whole @ whole).item(),
        "least squares by gels": lambda: torch.linalg.lstsq(matrix[:, :1], matrix, driver="gels").solution.sum().item(),
        "least squares by gelsd": lambda: torch.linalg.lstsq(matrix, matrix, driver="gelsd").solution.sum().item(),
        "two trainings give the same weights": lambda: _repeats(device),
    }
    if device.type == "cuda":
        questions |= {
            "TF32 in convolutions, unless told otherwise": lambda: torch.backends.cudnn.allow_tf32,
            "TF32 in products, unless told otherwise": lambda: torch.backends.cuda.matmul.allow_tf32,
        }
    rows: dict[str, dict[str, Cell]] = {}
    for name, question in questions.items():
        answer, refusal = _try(name, question, notes)
        rows[name] = {"answer": refusal or ("no" if answer is False else "yes")}
    return Table("What the device does", {"answer": Column("yes or no")}, rows)


def agreement(device: torch.device, small: bool, notes: list[str]) -> Table:
    """Differences from the CPU's float64: the device's in float32, and the CPU's own.

    Args:
        device: Which one.
        small: Smaller networks.
        notes: Receives why the device refuses something.
    """
    rows: dict[str, dict[str, Cell]] = {}
    cpu = torch.device("cpu")
    for name, quantity in quantities(small).items():
        exact, rows[name] = quantity(cpu, torch.float64), {}
        for where in dict.fromkeys((cpu, device)):
            error, refusal = _try(name, partial(_error_on, where, quantity, exact), notes)
            rows[name][where.type] = refusal if error is None else error
    columns = {where.type: Column("relative", "lower") for where in (cpu, device)}
    return Table("Largest difference from the CPU's float64, relative to the largest value", columns, rows)


def quantities(small: bool) -> dict[str, Quantity]:
    """What is compared, by name: all of the same weights and inputs.

    Args:
        small: Smaller networks.
    """
    with seeded(0):
        siren, wide = Siren(2, 3, 32 if small else 256), Siren(2, 3, (32, 128) if small else (256, 1536))
        features = wide.shapes["layers.1.bias"][0]
        encoder, matrices = ConvEncoder(3), torch.randn(4, 256, 256)
        solve, double = LastLayerSolve(features), LastLayerSolve(features, double=True)
        images, mask = torch.rand(8, 32, 32, 3) * 2 - 1, torch.rand(8, 32, 32) < 0.1
    x = grid((64, 64))

    def context(device: torch.device, dtype: torch.dtype) -> Context:
        return Context.from_rasters(images.to(device, dtype), mask.to(device))

    def solved(adapter: LastLayerSolve) -> Quantity:
        return lambda d, t: _at(adapter, d, t)(_at(wide, d, t), None, {}, context(d, t)).field(x.to(d, t))

    def encoded(tf32: bool) -> Quantity:
        def run(d: torch.device, t: torch.dtype) -> Tensor:
            with convolutions(tf32):
                return _at(encoder, d, t)(context(d, t))

        return run

    def jet(d: torch.device, t: torch.dtype) -> Any:
        return _at(siren, d, t).jet(x.to(d, t), second="full")

    return {
        "value of a SIREN": lambda d, t: _at(siren, d, t)(x.to(d, t)),
        "its gradient": lambda d, t: jet(d, t).gradient,
        "its Hessian": lambda d, t: jet(d, t).hessian,
        "last-layer solve": solved(solve),
        "last-layer solve, float64 inside": solved(double),
        "CNN encoder, without TF32": encoded(False),
        "CNN encoder, with TF32 (CUDA only)": encoded(True),
        "Muon's update (bfloat16 on CUDA)": lambda d, t: orthogonalise(matrices.to(d, t)),
    }


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Largest difference, relative to the largest value.

    Example:
        >>> relative_error(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 4.0]))
        0.25
    """
    return float((found.detach().cpu().double() - exact.detach()).abs().max() / exact.abs().max())


def step_table(
    models: Mapping[str, Any], small: bool, rounds: int, graphs: bool, device: torch.device, notes: list[str]
) -> Table:
    """Milliseconds of a training step, its operations as a share of a bare matrix product's, memory, launches, waits.

    Args:
        models, small, rounds: As of `device_report`.
        graphs: Time the steps of the image and of the first model as CUDA graphs, too.
        device: Where.
        notes: Receives why the device refuses a step.
    """
    side, points = (64, 1024) if small else (256, 8192)
    makers: dict[str, Callable[..., Step]] = {f"image, {points:,} points": partial(_image_step, side, points, device)}
    makers |= {name: partial(_completion_step, settings, device) for name, settings in models.items()}
    variants: dict[str, Variant] = {}
    against: dict[str, str] = {}
    rows: dict[str, dict[str, Cell]] = {}
    for name, make in makers.items():
        LOG.info("building %s", name)
        step, refusal = _try(name, partial(_ready, make), notes)
        if step is None:
            rows[name] = {"step": refusal}
            continue
        variants[name] = Variant(step, flops=count_flops(step))
        replayed = f"{name}, graphs"
        if graphs and len(against) < 2 and (step := _try(replayed, partial(_ready, make, "graphs"), notes)[0]):
            variants[replayed] = Variant(step, flops=variants[name].flops)
            against[replayed] = name
    LOG.info("timing steps")
    repeats = 1 if device.type == "cpu" else 10
    table = speed_table("", "steps", variants, against, rounds=rounds, device=device, repeats=repeats)
    for name, row in table.rows.items():
        rows[name] = dict(row)
        if name in variants:
            rows[name]["step"] = 1e3 / rows[name].pop("speed")  # type: ignore[operator]
            rows[name] |= launches(variants[name].step, device)
    others = {**table.columns, "launches": Column("a step", "lower"), "waits": Column("a step", "lower")}
    measured = {
        name: column for name, column in others.items() if name != "speed" and any(name in r for r in rows.values())
    }
    title = f"A training step in fp32: an image of {side} x {side}"
    for settings in list(models.values())[:1]:
        title += f"; {settings.training.batch_size} images of {settings.data.size} x {settings.data.size}"
    return Table(title, {"step": Column("ms", "lower"), **measured}, rows)


def _image_step(side: int, points: int, device: torch.device, compile: bool | str = False) -> Step:
    task = Image(synthetic_pictures(1, (side, side))[0].to(device), points=points)
    objective = FieldObjective(Siren(2, 3, side).to(device), task)
    training = resolve(task.defaults, task, objective.model).training
    return loop_step(objective, training.replace(compile=compile))


def _completion_step(settings: Any, device: torch.device, compile: bool | str = False) -> Step:
    task = open_task(settings, max(64, settings.training.batch_size), device)
    return loop_step(make_objective(task, settings, device), settings.training.replace(compile=compile))


def _ready(make: Callable[..., Step], *compile: str) -> Step:
    """A training step after the first three, in which it compiles and captures what it replays."""
    with seeded(0):
        step = make(*compile)
    for _ in range(3):
        step()
    return step


def launches(step: Step, device: torch.device) -> dict[str, Cell]:
    """How often the host launches kernels (or graphs) in a step, and how often it waits for the device.

    Nothing where torch cannot count that.

    Example:
        >>> launches(lambda: torch.ones(2) + 1, torch.device("cpu"))
        {}
    """
    if device.type != "cuda" or ProfilerActivity.CUDA not in supported_activities():
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as traced:
        step()
        wait(device)
    counts = {event.key: event.count for event in traced.key_averages()}
    words = {"launches": ("LaunchKernel", "GraphLaunch"), "waits": ("StreamSynchronize", "EventSynchronize")}
    return {
        name: sum(count for key, count in counts.items() if any(word in key for word in each))
        for name, each in words.items()
    }


def _at(module: M, device: torch.device, dtype: torch.dtype) -> M:
    """A copy of a module."""
    return copy.deepcopy(module).to(device, dtype).requires_grad_(False)


def _error_on(device: torch.device, quantity: Quantity, exact: Tensor) -> float:
    return relative_error(quantity(device, torch.float32), exact)


def _repeats(device: torch.device) -> bool:
    """Whether three steps give the same weights twice, to the bit."""
    found = []
    for _ in range(2):
        with seeded(0):
            siren = Siren(2, 1, 64).to(device)
        task = Image(grid((32, 32), device=device).view(32, 32, 2)[..., :1], points=512)
        step = loop_step(FieldObjective(siren, task), resolve(task.defaults, task, siren).training)
        for _ in range(3):
            step()
        found.append(nn.utils.parameters_to_vector(siren.parameters()).detach())
    return torch.equal(*found)


def _try(name: str, function: Callable[[], Answer], notes: list[str]) -> tuple[Answer | None, str]:
    """What a function returns; or nothing and the word "refused", with a note that says why."""
    try:
        return function(), ""
    except (RuntimeError, TypeError, AssertionError) as error:
        notes.append(f"{name}: {(str(error) or type(error).__name__).splitlines()[0]}")
        return None, "refused"
