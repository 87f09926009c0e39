"""The command `list`: released models, configurations and runs. Imports no torch."""

import json
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hypersiren.cli.console import File, configurations
from hypersiren.cli.lines import show
from hypersiren.completion.registry import SETS, set_row
from hypersiren.errors import UserError
from hypersiren.settings.yaml import from_yaml
from hypersiren.tasks.registry import TASKS
from hypersiren.training.runs import released, runs_in

HEADLINES = ("psnr", "snr", "si_snr", "relative_error", "chamfer_l1", "error", "mse")
"""Numbers that stand for a run, the first that it has; else the first of all."""


def list_all(folder: File = Path("runs")) -> None:
    """List the models that come with hypersiren, its configurations, and the runs in a folder.

    Args:
        folder: Where the run folders are.
    """
    show("Released models, for `complete` and `export`:")
    table([[name, _about(path)] for name, path in released().items()])
    show("\nConfigurations of `train --config NAME`:")
    table([[path.stem, _first_words(path)] for task in SETS for path in configurations(task)])
    show("\nConfigurations of `fit TASK --config NAME`:")
    table([[task, path.stem, _first_words(path)] for task in TASKS for path in configurations(task)])
    runs = [_run(path) for path in runs_in(folder)]
    show(f"\nRuns in {folder}:" if runs else f"\nNo runs in {folder}.")
    table(runs)


def table(rows: list[list[str]]) -> None:
    """Print rows with their columns below each other, the last as wide as it is."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        show("  " + "  ".join(cells).rstrip())


def _about(path: Path) -> str:
    """What a released model completes."""
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        data = json.loads(file.metadata()["hypersiren"])["settings"]["data"]
    parts = [f"{set_row(data['kind']).unit} ({data['kind']})"]
    if (side := data.get("size")) is not None:
        parts.append(f"{side}x{side}" if isinstance(side, int) else "x".join(map(str, side)))
    else:
        parts.append("of any size")
    if isinstance(gray := data.get("gray"), bool):  # of photographs it is a share of the crops
        parts.append("gray" if gray else "colour")
    return ", ".join(parts)


def _first_words(path: Path) -> str:
    """The first sentence of a configuration's comment."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    first = " ".join(line.removeprefix("# ") for line in lines).split(". ")[0].rstrip(".")
    return textwrap.shorten(first, 90, placeholder=" ...")


def _run(folder: Path) -> list[str]:
    """Folder, task, steps and number of a run."""
    found: dict[str, Any] = {}
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        settings = from_yaml((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    task = task_of(settings) if isinstance(settings, dict) else ""
    if not isinstance(found, dict) or "step" not in found:
        return [str(folder), task or "-", "-", "-"]
    wanted = (settings.get("training") or {}).get("steps") if isinstance(settings, dict) else None
    steps = "solved" if wanted == 0 else f"{found['step']} of {wanted} steps" if wanted else f"{found['step']} steps"
    return [str(folder), task or "-", steps, _headline({**found.get("validation", {}), **found.get("result", {})})]


def _headline(metrics: Mapping[str, Any]) -> str:
    known = {name: value for name, value in metrics.items() if isinstance(value, int | float) and math.isfinite(value)}
    for name in [*HEADLINES, *known]:
        if name in known:
            return f"{name} {known[name]:.4g}"
    return "-"


def task_of(settings: Mapping[str, Any]) -> str:
    """The task that a run's settings are of; "" if none knows them.

    Example:
        >>> from hypersiren.tasks.recordings.settings import AudioSettings
        >>> task_of(AudioSettings().model_dump(mode="json")), task_of({"signal": {"what": 3}})
        ('audio', '')
    """
    if "fields" in settings:
        return f"compare {task_of({key: value for key, value in settings.items() if key != 'fields'})}"
    if "data" in settings:
        try:
            return f"train {set_row(settings['data']['kind']).unit}"
        except (UserError, KeyError, TypeError):
            return ""
    for name, row in TASKS.items():
        try:
            row.settings.model_validate(settings)
        except ValidationError:
            continue
        return name
    return ""
