"""Speed of a fit to an image: steps at equal mathematics, seconds to a quality, and what is between the pixels.

Windows, which are solved, stand beside one SIREN that is trained and beside what others use. `PlainSiren` is the loop
that everybody writes: nn.Linear, torch.sin, torch.optim.Adam on all pixels. siren-pytorch
(github.com/lucidrains/siren-pytorch) is measured where it is installed. Both get the network and the learning rate of
the `paper` preset. Seconds are processor time, on a GPU those of a clock.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from statistics import median
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.baselines import baseline
from hypersiren.fields.interpolation import KERNELS
from hypersiren.fields.siren import Siren
from hypersiren.signals.image.opening import open_picture
from hypersiren.signals.metrics import psnr
from hypersiren.studies.benchmarks.between import COLUMNS, field_between, interpolation_between
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
    shown,
    speed_table,
    wait,
)
from hypersiren.tasks.images.image import Image
from hypersiren.training.fit import choose_omega, describe_field, fit
from hypersiren.training.objectives import FieldObjective
from hypersiren.training.seeds import seeded

LOG = logging.getLogger(__name__)

OURS, COMPILED, OTHER, PLAIN = "one SIREN", "one SIREN, compiled", "siren-pytorch", "plain loop"
WINDOWS = "windows"
"""The variants; the first two and the windows are hypersiren's."""

NUMBERS = (0.25, 0.5, 1.15)
"""Numbers of windows for each value of the image."""

MISSING = "siren-pytorch is not installed and therefore left out; pip install siren-pytorch adds it"

N = TypeVar("N", bound=nn.Module)

Course = list[tuple[float, float]]
"""Seconds of steps, and the PSNR in dB after them; of windows, seconds of solves with more and more numbers."""


class PlainSiren(nn.Module):
    """A SIREN as everybody writes it, with copies of a `Siren`'s weights.

    Example:
        >>> siren, x = Siren(2, 3, hidden_features=16), torch.rand(10, 2)
        >>> torch.allclose(PlainSiren(siren)(x), siren(x), atol=1e-5)
        True
    """

    def __init__(self, siren: Siren):
        super().__init__()
        self.layers = copy.deepcopy(siren.layers)
        self.first_omega, self.hidden_omega = siren.first_omega, siren.hidden_omega

    def forward(self, x: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        *sines, last = self.layers
        for i, layer in enumerate(sines):
            x = torch.sin((self.hidden_omega if i else self.first_omega) * layer(x))
        return last(x)


def other_siren(siren: Siren, *, copied: bool) -> nn.Module:
    """The network of siren-pytorch with a `Siren`'s sizes and omegas.

    Args:
        siren: The example.
        copied: Whether it gets its weights, too; else those that siren-pytorch draws.

    Raises:
        ImportError: If siren-pytorch is not installed.
    """
    from siren_pytorch import SirenNet

    width, sines = siren.shapes["layers.0.bias"][0], len(siren.layers) - 1
    omegas = {"w0": siren.hidden_omega, "w0_initial": siren.first_omega}
    net = SirenNet(siren.in_features, width, siren.out_features, sines, **omegas)
    net.to(next(siren.parameters()).device)
    return with_weights(net, siren) if copied else net


@torch.no_grad()
def with_weights(net: N, other: nn.Module) -> N:
    """The network, which gets the weights of one of the same sizes."""
    for own, given in zip(net.parameters(), other.parameters(), strict=True):
        own.copy_(given)
    return net


def plain_step(model: nn.Module, x: Float[Tensor, "N D"], y: Float[Tensor, "N C"], lr: float) -> Step:
    """A step of Adam on the mean squared error at all points, as everybody writes it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    def step() -> None:
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()

    return step


def equal_steps(
    siren: Siren, task: Image, training: Any, *, compiled: bool = True
) -> dict[str, tuple[nn.Module, Step]]:
    """Networks with the same weights, each with a training step of the same mathematics: all pixels, fp32, Adam.

    Args:
        siren: The initial weights.
        task: The image, with all pixels in a step.
        training: Those of the `paper` preset; the others get its learning rate.
        compiled: Compile ours and the plain loop, too.
    """

    def ours(compile: bool) -> tuple[nn.Module, Step]:
        # One learning rate for all layers, as the others have it.
        objective = FieldObjective(copy.deepcopy(siren), task, first_lr=1.0)
        return objective.model, loop_step(objective, training.replace(compile=compile))

    def plain(model: nn.Module, compile: bool = False) -> tuple[nn.Module, Step]:
        run: Any = torch.compile(model) if compile else model
        return model, plain_step(run, task.all.x, task.all.y, training.lr)

    ways = {OURS: ours(False)}
    if compiled:
        ways[COMPILED] = ours(True)
    if find_spec("siren_pytorch"):
        ways[OTHER] = plain(other_siren(siren, copied=True))
    ways[PLAIN] = plain(PlainSiren(siren))
    if compiled:
        ways[f"{PLAIN}, compiled"] = plain(PlainSiren(siren), compile=True)
    return ways


def processor_time(device: torch.device) -> float:
    """Seconds of all threads of this process; on a GPU those of a clock, when all is done."""
    wait(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


class Watched(Image):
    """An image task that measures how long its evaluations take."""

    seconds = 0.0

    def evaluate(self, field: Any) -> dict[str, float]:
        start = processor_time(self.device)
        found = super().evaluate(field)
        self.seconds += processor_time(self.device) - start
        return found


def our_course(
    task: Watched, settings: Any, stop: Callable[[Course], bool], every: int, seed: int
) -> tuple[Course, nn.Module]:
    """The course of hypersiren's whole `fit`, looked at every so many steps, and its field; looks take no time."""
    course: Course = []
    start = processor_time(task.device)

    def look(step: int, values: dict[str, float]) -> bool:
        course.append((processor_time(task.device) - start - task.seconds, values["validation/psnr"]))
        return stop(course)

    settings = settings.replace(training=settings.training.replace(log_every=every, validate_every=every))
    return course, fit(task, settings=settings, seed=seed, progress=False, on_log=look).field


def plain_course(model: nn.Module, task: Image, lr: float, stop: Callable[[Course], bool], every: int) -> Course:
    """The same of a plain loop on all pixels, which changes the model."""
    step, seconds = plain_step(model, task.all.x, task.all.y, lr), 0.0
    course: Course = []
    while not course or not stop(course):
        start = processor_time(task.device)
        for _ in range(every):
            step()
        seconds += processor_time(task.device) - start
        with torch.no_grad():
            course.append((seconds, psnr(task.render(model), task.truth)))
    return course


def solved(task: Image, network: Any, numbers: float) -> tuple[float, float, nn.Module]:
    """Seconds of a solve, the PSNR, and the windows, with so many numbers for each value."""
    start = processor_time(task.device)
    field = task.windowed_field(network.replace(kind="windowed", numbers=numbers))
    return processor_time(task.device) - start, psnr(task.render(field), task.truth), field


def first_crossing(course: Course, threshold: float, limit: float) -> float:
    """Seconds until the PSNR was first seen at the threshold; infinity if that was not within the limit.

    Example:
        >>> course = [(1.0, 20.0), (2.0, 31.0), (3.0, 30.5)]
        >>> first_crossing(course, 30, 60), first_crossing(course, 40, 60)
        (2.0, inf)
    """
    return next((seconds for seconds, reached in course if reached >= threshold and seconds <= limit), math.inf)


def quality_table(
    title: str, courses: Mapping[str, Sequence[Course]], thresholds: Sequence[float], limit: float
) -> Table:
    """Seconds to each threshold, how many times sooner than the plain loop, and how far each fit came.

    Args:
        title: What was fitted.
        courses: Variant -> its fits; medians over them are shown.
        thresholds: PSNR in dB.
        limit: Seconds that each fit had.

    Example:
        >>> fits = {OURS: [[(2.0, 31.0), (4.0, 33.0)]], PLAIN: [[(30.0, 25.0), (60.5, 29.0)]]}
        >>> print(quality_table("A picture", fits, [30, 40], 60))
        A picture
                     30 dB  30 dB, sooner        40 dB  40 dB, sooner  last PSNR  all steps
                         s          times            s          times         dB          s
        better is    lower         higher        lower         higher     higher      lower
        one SIREN     2.00         > 30.0  not reached              -       33.0       4.00
        plain loop  > 60 s              -       > 60 s              -       29.0       60.5
    """
    columns: dict[str, Column] = {}
    rows: dict[str, dict[str, Cell]] = {
        name: {"last PSNR": median(fit[-1][1] for fit in fits), "all steps": median(fit[-1][0] for fit in fits)}
        for name, fits in courses.items()
    }
    for threshold in thresholds:
        key = f"{threshold:g} dB"
        columns |= {key: Column("s", "lower"), f"{key}, sooner": Column("times", "higher")}
        found = {name: median(first_crossing(fit, threshold, limit) for fit in fits) for name, fits in courses.items()}
        for name, seconds in found.items():
            if math.isfinite(seconds):
                plain = found[PLAIN]
                ratio: Cell = plain / seconds if math.isfinite(plain) else f"> {shown(limit / seconds)}"
                rows[name] |= {key: seconds, f"{key}, sooner": ratio}
            else:  # a schedule may end before the limit does
                late = any(fit[-1][0] >= limit for fit in courses[name])
                rows[name][key] = f"> {limit:g} s" if late else "not reached"
    return Table(title, {**columns, "last PSNR": Column("dB", "higher"), "all steps": Column("s", "lower")}, rows)


def fit_report(
    settings: Any,
    paper: Any,
    *,
    thresholds: Sequence[float] = (30, 40, 50),
    every: int = 10,
    limit: float = 90.0,
    fits: int = 1,
    rounds: int = 5,
    repeats: int = 3,
    compiled: bool = True,
    device: torch.device | str = "cpu",
) -> Report:
    """Measure steps of equal mathematics, whole fits, and what the results are between the pixels.

    Args:
        settings: `ImageSettings` of hypersiren's own fit of one SIREN.
        paper: Those of the `paper` preset, of the same picture.
        thresholds: PSNR in dB.
        every: Steps between two looks at the PSNR.
        limit: Seconds of steps after which a fit ends.
        fits: Fits of each variant, with seeds 0, 1 ...
        rounds, repeats: Turns of each variant, and steps of a turn.
        compiled: Measure compiled steps, too.
        device: Where.
    """
    device = torch.device(device)
    machine = describe_machine(device)
    whole = Image.open(paper, device)
    h, w, c = whole.pixels.shape

    def fresh(seed: int) -> Siren:
        network = choose_omega(paper.network, whole)
        with seeded(seed):
            return baseline(**describe_field(network, whole)).to(device)  # type: ignore[return-value]

    LOG.info("timing steps")
    siren = fresh(0)
    ways = equal_steps(siren, whole, paper.training, compiled=compiled)
    steps = {name: step for name, (_, step) in ways.items()}
    flops = count_flops(steps[PLAIN])
    speed = speed_table(
        f"Training steps of equal mathematics: {siren}, all {h * w:,} pixels, Adam, fp32",
        "steps",
        {name: Variant(step, flops=flops) for name, step in steps.items()},
        dict.fromkeys(steps, PLAIN),
        rounds=rounds,
        device=device,
        repeats=repeats,
    )

    def stop(course: Course) -> bool:
        return course[-1][0] >= limit or course[-1][1] >= max(thresholds)

    lr = paper.training.lr
    courses: dict[str, list[Course]] = {name: [] for name in steps if "compiled" not in name}
    results: dict[str, tuple[float, float, nn.Module]] = {}  # seconds, PSNR and field, of the first seed
    for seed in range(fits):
        for name, found in courses.items():
            LOG.info("fitting with %s, for %g s of steps at most", name, limit)
            if name == OURS:
                watched: Any = Watched.open(settings, device)
                course, field = our_course(watched, settings, stop, every, seed)
            else:
                with seeded(seed):
                    net = PlainSiren(fresh(seed)) if name == PLAIN else other_siren(fresh(seed), copied=False)
                course, field = plain_course(net, whole, lr, stop, every), with_weights(fresh(seed), net)
            found.append(course)
            results.setdefault(name, (*course[-1], field))
    LOG.info("solving windows")
    windows = {f"{WINDOWS}, {numbers:g}": solved(whole, settings.network, numbers) for numbers in NUMBERS}
    courses[WINDOWS] = [[found[:2] for found in windows.values()]]
    rows: dict[str, dict[str, Cell]] = {}
    twice = twice_the_size(settings, (h, w))
    for name, (seconds, reached, field) in {**results, **windows}.items():
        weights = getattr(field, "numbers", None) or sum(p.numel() for p in field.parameters())
        rows[name] = {"numbers": weights / (h * w * c), "time": seconds, "pixels": reached}
        rows[name] |= field_between(whole.pixels, twice, field)
    for kind in KERNELS:
        rows[kind] = {"numbers": 1.0, "pixels": "exact", **interpolation_between(whole.pixels, twice, kind)}
    quality = quality_table(f"Seconds to a PSNR: {h} x {w} x {c} values", courses, thresholds, limit)
    columns = {
        "numbers": Column("a value", "lower"),
        "time": Column("s", "lower"),
        "pixels": Column("dB", "higher"),
        **COLUMNS,
    }
    between = Table("PSNR at the pixels, of derivatives there, and between them", columns, rows)
    notes = [
        f"Fits: one SIREN with hypersiren's settings of steps, the others with Adam at {lr:g} on all pixels. "
        f"The PSNR is looked at every {every} steps; looking takes no part in the seconds, of a processor.",
        "Windows are solved in closed form, once for each number; seconds to a PSNR are those of the fewest numbers.",
        "Derivatives are compared with the cosine series through the pixels, relative to their range; twice the size "
        "with the picture opened at it, where its file is so large. Lanczos and cubic keep the pixels.",
        *([] if find_spec("siren_pytorch") else [MISSING]),
    ]
    told = {"picture": str(settings.signal.path), "limit in s": limit, "fits": fits}
    told |= {"rounds": rounds, "steps of a turn": repeats}
    return Report("fit", machine, told, [speed, quality, between], notes)


def twice_the_size(settings: Any, size: tuple[int, int]) -> Tensor | None:
    """The picture at twice the size that is fitted, values in [-1, 1]; None where its file has not so many pixels."""
    signal = settings.signal
    whole = open_picture(signal.path, gray=signal.gray, range=signal.range)
    wanted = (2 * size[0], 2 * size[1])
    if whole.shape[0] < wanted[0] or whole.shape[1] < wanted[1]:
        return None
    return open_picture(signal.path, gray=signal.gray, size=wanted, range=signal.range)
