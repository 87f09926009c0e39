"""What all benchmarks share: turns, peak memory, floating-point operations, the machine, and tables.

Times are medians over rounds in which the variants take turns, so that slow drifts of the machine meet all of them.
Ratios hold within one run only. Operations are those of matrix products and convolutions, by torch's own formulas; a
variant that is compiled counts as the same mathematics does without.
"""

import gc
import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hypersiren.training.monitor import Monitor
from hypersiren.training.objectives import Objective
from hypersiren.training.step import TrainingStep

Step = Callable[[], Any]
"""What is timed."""

Cell = float | str | None
"""A number, words where there is none to give ("> 60 s"), or nothing."""


@dataclass(frozen=True)
class Variant:
    """One way to do something.

    Attributes:
        step: Does it once.
        count: How many units it does: images, points, ...
        flops: Floating-point operations that it takes; None if nobody counts them.
    """

    step: Step
    count: float = 1.0
    flops: int | None = None


@dataclass(frozen=True)
class Column:
    """What stands in a column of a table.

    Attributes:
        unit: Unit of its numbers.
        better: "higher" or "lower" is better; "" if neither is.
    """

    unit: str
    better: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers with their units, a row for each variant.

    Attributes:
        title: What was measured.
        columns: By name.
        rows: Variant -> name of the column -> number; what is missing does not apply.

    Example:
        >>> print(Table("Steps", {"speed": Column("steps/s", "higher")}, {"ours": {"speed": 12.5}, "plain": {}}))
        Steps
                     speed
                   steps/s
        better is   higher
        ours          12.5
        plain            -
    """

    title: str
    columns: Mapping[str, Column]
    rows: Mapping[str, Mapping[str, Cell]]

    def __str__(self) -> str:
        heads = [
            ["", *self.columns],
            ["", *(column.unit for column in self.columns.values())],
            ["better is", *(column.better for column in self.columns.values())],
        ]
        body = [[name, *(shown(row.get(key)) for key in self.columns)] for name, row in self.rows.items()]
        widths = [max(len(line[i]) for line in [*heads, *body]) for i in range(len(self.columns) + 1)]
        lines = [
            "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
            for line in [*heads, *body]
        ]
        return "\n".join([self.title, *(line.rstrip() for line in lines)])


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        benchmark: Its name.
        machine: See `describe_machine`.
        settings: What it was told, plain values.
        tables: The numbers.
        notes: What a reader must know of them.
    """

    benchmark: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    tables: Sequence[Table]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        about = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        told = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return "\n\n".join(
            [f"{about}\n{told}", *map(str, self.tables), *(["\n".join(self.notes)] if self.notes else [])]
        )

    def plain(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)


def shown(value: Cell) -> str:
    """A cell as a person reads it.

    Example:
        >>> shown(1234.5), shown(12.345), shown(0.01234), shown("> 60 s"), shown(None)
        ('1,234', '12.3', '0.0123', '> 60 s', '-')
    """
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def speed_table(
    title: str,
    unit: str,
    variants: Mapping[str, Variant],
    against: Mapping[str, str],
    *,
    rounds: int,
    device: torch.device,
    repeats: int = 1,
) -> Table:
    """Speed, ratio, peak memory; where operations are counted, also these as a share of a bare matrix product's.

    Args:
        title: What is measured.
        unit: What `Variant.count` counts.
        variants: By name; they and the matrix product take turns.
        against: Variant -> the one that it is compared with.
        rounds: Turns of each; the median is taken.
        device: Where.
        repeats: Steps of a turn.
    """
    steps: dict[str, Step] = {name: variant.step for name, variant in variants.items()}
    peaks = {name: peak_memory(step, device) for name, step in steps.items()}  # warms up and compiles, too
    columns = {
        "speed": Column(f"{unit}/s", "higher"),
        "ratio": Column("times", "higher"),
        "peak memory": Column("MB", "lower"),
    }
    n = 1024 if device.type == "cpu" else 8192
    bare = f"matrix product {n} x {n}, fp32"
    if counted := any(variant.flops is not None for variant in variants.values()):
        a, b = torch.rand(2, n, n, device=device)
        steps[bare] = lambda: a @ b
        columns |= {"model": Column("GFLOP/s", "higher"), "share": Column("% of the product", "higher")}
    seconds = take_turns(steps, rounds=rounds, device=device, repeats=repeats)
    limit = 2 * n**3 / seconds[bare] if counted else math.inf
    rows: dict[str, dict[str, Cell]] = {}
    for name, variant in variants.items():
        row: dict[str, Cell] = {"speed": variant.count / seconds[name], "peak memory": peaks[name] / 1e6}
        if name in against:
            row["ratio"] = seconds[against[name]] / variants[against[name]].count * row["speed"]  # type: ignore[operator]
        if variant.flops is not None:
            row |= {"model": variant.flops / seconds[name] / 1e9, "share": 100 * variant.flops / seconds[name] / limit}
        rows[name] = row
    if counted:
        rows[bare] = {"model": limit / 1e9, "share": 100.0}
    return Table(title, columns, rows)


def loop_step(objective: Objective, training: Any) -> Step:
    """The step of hypersiren's training loop, its batch's drawing included.

    Args:
        objective: What is trained; it begins here, see `Objective.begin`.
        training: The settings' section of this name.
    """
    step, monitor, numbers = TrainingStep(objective, training), Monitor(None), itertools.count()
    return lambda: step(next(numbers), monitor)


def take_turns(
    steps: Mapping[str, Step], *, rounds: int, device: torch.device | str, repeats: int = 1
) -> dict[str, float]:
    """Median seconds of each step, over rounds in which they take turns.

    Args:
        steps: By name; they must have run before, if the first time takes longer.
        rounds: Turns of each.
        device: Where; each turn ends when it is done.
        repeats: Steps of a turn.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            wait(device)
            start = time.perf_counter()
            for _ in range(repeats):
                step()
            wait(device)
            times[name].append((time.perf_counter() - start) / repeats)
    return {name: median(values) for name, values in times.items()}


def count_flops(step: Step) -> int:
    """Floating-point operations of a step that is not compiled: two for each product and its addition.

    Example:
        >>> count_flops(lambda: torch.ones(4, 5) @ torch.ones(5, 6))
        240
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def peak_memory(run: Step, device: torch.device) -> int:
    """The most bytes that tensors made by `run` take at once; it runs twice, what the first time leaves is not counted.

    Example:
        >>> peak_memory(lambda: torch.zeros(1000, dtype=torch.float64).sum().item(), torch.device("cpu"))
        8008
    """
    run()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def wait(device: torch.device | str) -> None:
    """Until a GPU has done all that it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """The processor's model, PyTorch's threads and version, the device, and how busy the machine is.

    Example:
        >>> list(describe_machine(torch.device("cpu")))[:4]
        ['CPU', 'threads', 'torch', 'device']
    """
    about: dict[str, Any] = {
        "CPU": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
    }
    if hasattr(os, "getloadavg"):
        about["load at the start"] = round(os.getloadavg()[0], 2)
    return about


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
