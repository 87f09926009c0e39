"""The summary of a run for a person: what the field gives beside the truth, the headline number, and the training.

A task says its rows (`FieldTask.summary`) and its numbers (`FieldTask.measures`); both have defaults, so that a task
from outside has a summary too.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hypersiren.plotting import Curve, Picture, Plot, draw_rows
from hypersiren.signals.sound.picture import waveform
from hypersiren.tasks.panels import ImagePanel, Panel, SoundPanel, VideoPanel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Plot]]
"""Plots by name, row by row. The truth of "fit" is "true_fit"."""

History = Sequence[Mapping[str, float]]
"""What a training logged, see `hypersiren.training.fit.Fit`."""


@dataclass(frozen=True)
class Measure:
    """A number by which a field is judged, in words.

    Attributes:
        key: Its name in what `evaluate` gives.
        label: What it is.
        unit: Of the number that is shown.
        better: Its direction.
        factor: The number that is shown is so many times that of `evaluate`.

    Example:
        >>> Measure("psnr", "PSNR", "dB", "higher").text(41.234)
        'PSNR 41.2 dB (higher is better)'
        >>> Measure("error", "relative L2 error", "%", factor=100).text(0.0123)
        'relative L2 error 1.23 % (lower is better)'
    """

    key: str
    label: str
    unit: str = ""
    better: Literal["lower", "higher", ""] = "lower"
    factor: float = 1.0

    def text(self, value: float) -> str:
        """The number with its unit and direction."""
        return " ".join(part for part in (self.label, self.number(value), self.direction) if part)

    def number(self, value: float, digits: int = 3) -> str:
        """The number with its unit."""
        return f"{self.factor * value:.{digits}g} {self.unit}".rstrip()

    @property
    def direction(self) -> str:
        """Such as "(higher is better)"."""
        return f"({self.better} is better)" if self.better else ""


def measure_of(task: Any, key: str) -> Measure:
    """A task's words for one of its numbers. Where it has none: the name, and that a criterion is better lower.

    Example:
        >>> from hypersiren import Audio, FieldTask
        >>> measure_of(Audio, "snr").text(9.5), measure_of(FieldTask(), "mine").text(9.5)
        ('SNR 9.5 dB (higher is better)', 'mine 9.5')
    """
    own = {measure.key: measure for measure in getattr(task, "measures", ())}
    return own.get(key) or Measure(key, key, better="lower" if key == task.criterion else "")


def headline(task: Any, metrics: Mapping[str, float]) -> Measure | None:
    """The first of the task's measures that was evaluated; else its criterion, or the first number; None for none."""
    keys = [*(measure.key for measure in getattr(task, "measures", ())), task.criterion, *metrics]
    return next((measure_of(task, key) for key in keys if key in metrics), None)


def draw_summary(
    task: Any,
    field: Any,
    metrics: Mapping[str, float],
    history: History = (),
    levels: Mapping[str, float] | None = None,
) -> "Figure":
    """The summary of a fit: headline, the task's rows, and the course of loss and headline number.

    Args:
        task: What was fitted, ours or your own.
        field: The fitted field.
        metrics: What the task's `evaluate` says of it.
        history: Of the training.
        levels: What other methods reach, by name: lines beside the course of the headline number.

    Example:
        >>> import torch
        >>> from hypersiren import Image, Siren
        >>> task, field = Image(torch.zeros(8, 8, 1)), Siren(2, 1, 8)
        >>> figure = draw_summary(task, field, {"psnr": 41.2})
        >>> figure.get_suptitle(), figure.subfigs[0].axes[0].get_title()
        ('image: PSNR 41.2 dB (higher is better)', 'Truth')
    """
    return draw_rows(*summary_plots(task, field, metrics, history, levels))


def summary_plots(
    task: Any,
    field: Any,
    metrics: Mapping[str, float],
    history: History = (),
    levels: Mapping[str, float] | None = None,
) -> tuple[list[list[Plot]], str]:
    """The plots of a summary, row by row, and its title; see `draw_summary`."""
    measure = headline(task, metrics)
    rows = [dict(row) for row in rows_of(task, field)]
    curves = course(history, measure, levels)
    if curves and rows and len(rows[-1]) == 1:
        rows[-1] |= curves
    elif curves:
        rows.append({**curves})
    title = "\n".join(textwrap.fill(line, 76) for line in summary_title(task, metrics, history).splitlines())
    empty: dict[str, Plot] = {"nothing": Picture("No pictures and no history", np.ones((1, 3, 1)))}
    return [list(row.values()) for row in rows if row] or [list(empty.values())], title


def summary_title(task: Any, metrics: Mapping[str, float], history: History = ()) -> str:
    """The headline number, and after how many steps and seconds.

    Example:
        >>> from hypersiren import FieldTask
        >>> summary_title(FieldTask(), {"psnr": 40.0}, [{"step": 0, "seconds": 0.7, "validation/psnr": 40.0}])
        'task: psnr 40\\nsolved in 0.7 s'
    """
    measure = headline(task, metrics)
    title = f"{task.name}: {measure.text(metrics[measure.key])}" if measure else task.name
    if not history:
        return title
    at, last = _row_of(metrics, history), history[-1]["step"]
    done = f"after {at['step']:.0f} steps, which took {at['seconds']:.3g} s"
    solved = f"solved in {at['seconds']:.3g} s" if at["seconds"] else "before the first step"
    best = f"; the best of {last:.0f} steps" if at["step"] < last else ""
    return f"{title}\n{done if at['step'] else solved}{best}"


def rows_of(task: Any, field: Any) -> Rows:
    """The rows of a task, which need not have `summary` if it is from outside."""
    return task.summary(field) if hasattr(task, "summary") else panel_rows(task.panels(field))


FAR = 3.0
"""A level so many times as high as a curve is no line beside it: it would be flat."""


def course(
    history: History, measure: Measure | None = None, levels: Mapping[str, float] | None = None
) -> dict[str, Curve]:
    """Loss over steps, its terms too, and a measure over the seconds of training, where there are two values or more.

    Levels, by name, are level lines beside the measure.

    Example:
        >>> history = [{"step": i, "seconds": i, "loss/total": 2.0, "validation/psnr": 9.0} for i in (1, 2)]
        >>> found = course(history, Measure("psnr", "PSNR", "dB", "higher"))
        >>> [(curve.title, curve.x_label, curve.y_label) for curve in found.values()]
        [('Loss', 'step', 'loss'), ('PSNR', 'time in steps (s)', 'dB')]
    """
    plots: dict[str, Curve] = {}
    names = dict.fromkeys(key for row in history for key in row if key.startswith("loss/"))
    found = {name.removeprefix("loss/"): _series(history, "step", name) for name in names}
    terms = {name: series for name, series in found.items() if len(series[0]) > 1}  # one point is no course
    if len(terms) == 2:  # one term, which is the total
        terms = {"total": terms["total"]} if "total" in terms else terms
    if terms:
        plots["loss"] = Curve("Loss", terms, "step", "loss", log=True)
    if measure and len((series := _series(history, "seconds", f"validation/{measure.key}"))[0]) > 1:
        values = [measure.factor * value for value in series[1]]
        lines = {measure.label: (series[0], values)}
        ends = [series[0][0], series[0][-1]]
        for name, level in (levels or {}).items():
            if measure.factor * level <= FAR * max(values) or level == 0:
                lines[name] = (ends, [measure.factor * level] * 2)
        values = [value for _, line in lines.values() for value in line]
        top = max(values)
        # From 0, where there is one: the last digits of what hardly changes would fill the axes.
        limits = (0.0, 1.05 * top) if min(values) >= 0 < top else None
        label = "time in steps (s)"
        plots["course"] = Curve(_capital(measure.label), lines, label, measure.unit, y_limits=limits)
    return plots


def panel_rows(panels: Mapping[str, Panel]) -> list[dict[str, Plot]]:
    """Rows of what panels of images, sounds and clips show, by their names: what a summary has by default."""
    plots: dict[str, Plot] = {}
    for name, panel in panels.items():
        title = _capital(name.replace("_", " "))
        if isinstance(panel, ImagePanel):
            plots[name] = Picture(title, panel.pixels.cpu().numpy())
        elif isinstance(panel, VideoPanel):
            plots[name] = Picture(f"{title}, middle frame", panel.middle().pixels.cpu().numpy())
        elif isinstance(panel, SoundPanel):
            wave = panel.wave[:, 0].cpu().numpy()
            peak = float(np.abs(wave).max()) if wave.size else 0.0
            plots[name] = waveform(wave, len(wave) / panel.rate, peak or 1.0, title=title)
    names = list(plots)
    return [{name: plots[name] for name in names[i : i + 3]} for i in range(0, len(names), 3)]


def error_picture(title: str, error: np.ndarray, unit: str) -> Picture:
    """A picture of an error without sign, from 0 (dark) to its 99.5th percentile; the colour bar has its values."""
    finite = error[np.isfinite(error)]
    top = float(np.quantile(finite, 0.995)) if finite.size else 0.0
    return Picture(title, error, unit, (0.0, top or 1e-12), "magma")


def _row_of(metrics: Mapping[str, float], history: History) -> Mapping[str, float]:
    """The row of the validation that gave these metrics, which need not be the last one; else the last row."""
    known = {f"validation/{key}": value for key, value in metrics.items() if not math.isnan(value)}
    rows = [row for row in history if known and known.items() <= row.items()]
    return rows[-1] if rows else history[-1]


def _series(history: History, x: str, y: str) -> tuple[list[float], list[float]]:
    rows = [row for row in history if y in row and math.isfinite(row[y])]
    return [row[x] for row in rows], [row[y] for row in rows]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
