"""Several fields fitted to one task, side by side, with equally many weights and steps (paper, figures 1 and 3).

A windowed field is solved, not trained, and has as many numbers as `network.numbers` says.
`OTHERS` lists fields that are compared as their authors had them, with their own size and optimiser.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypersiren.errors import UserError
from hypersiren.fields.settings import WHOLE, WINDOWS, Network
from hypersiren.plotting import Curve, Pixels, Plot, draw_rows, figure_pixels
from hypersiren.tasks.images.image import Image
from hypersiren.tasks.settings import FitSettings
from hypersiren.tasks.summary import Measure, Rows, course, headline, measure_of, rows_of
from hypersiren.tasks.task import FieldTask
from hypersiren.training.fit import Fit, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = logging.getLogger(__name__)

OTHERS: dict[str, dict[str, dict[str, Any]]] = {
    "pinn": {
        "network": {"kind": "tanh", "hidden_features": 20, "hidden_layers": 7},
        "training": {"optimizer": "lbfgs"},
    },
    "pixels": {"training": {"optimizer": "adam", "lr": 0.05}},
}
"""pinn: the physics-informed network of Raissi et al. 2019, that the paper's Helmholtz experiment is compared with: 8
layers of 20 tanh, trained by L-BFGS. A step is one iteration, which costs two evaluations of the loss and more.
pixels: the plain grid that a task has for this (`Inversion.pixels`), a trained number for each pixel."""


SECONDS = Measure("seconds", "training time", "s of training or solving")

NUMBERS = Measure("numbers_per_value", "numbers per value", better="")


@dataclass(frozen=True)
class Comparison:
    """Fits of several fields to one task.

    Attributes:
        task: The task.
        fits: By the name of the field.
        metrics: What the task says of each, its number of weights, and the seconds of its training.
    """

    task: FieldTask
    fits: dict[str, Fit]
    metrics: dict[str, dict[str, float]]

    @property
    def measures(self) -> list[Measure]:
        """What the columns of the table are."""
        names = next(iter(self.metrics.values()))
        own = {one.key: one for one in (SECONDS, NUMBERS)}
        return [own.get(name) or measure_of(self.task, name) for name in names]

    def __str__(self) -> str:
        columns = {measure: max(10, len(measure.key) + 2) for measure in self.measures}
        width = max(map(len, self.metrics)) + 2
        lines = ["field".ljust(width) + "".join(one.key.rjust(wide) for one, wide in columns.items())]
        for name, row in self.metrics.items():
            cells = [_number(one.factor * row.get(one.key, math.nan)).rjust(wide) for one, wide in columns.items()]
            lines.append(name.ljust(width) + "".join(cells))
        return "\n".join(lines)

    def picture(self) -> Pixels:
        """`figure` as an image."""
        return figure_pixels(self.figure())

    def figure(self) -> "Figure":
        """A row for the truth, where it is known, one for each field, and the courses of their trainings.

        A column is what the task's summary has of the field itself, not of its error; all are on the truth's scale.
        """
        measure = headline(self.task, next(iter(self.metrics.values())))
        shown = {name: plots(rows_of(self.task, fitted.field)) for name, fitted in self.fits.items()}
        first = next(iter(shown.values()))
        columns = [name for name in first if f"true_{name}" in first or name == "fit"]
        rows: list[list[Plot | None]] = [[first.get(f"true_{column}") for column in columns]]
        for name, found in shown.items():
            number = f": {measure.number(self.metrics[name][measure.key])}" if measure else ""
            heads = [f"{name}{number}", *[name] * len(columns)]
            rows.append([
                replace(found[column], title=f"{head}\n{found[column].title}")
                for head, column in zip(heads, columns, strict=False)
            ])  # fmt: skip
        rows.append([*[first[name] for name in ["wheel"] if name in first], *self._courses(measure)])
        by = f" by {measure.label} {measure.direction}" if measure else ""
        return draw_rows([row for row in rows if any(row)], f"{self.task.name}: fields compared{by}")

    def _courses(self, measure: Measure | None) -> list[Plot]:
        """Loss and number of every field in common axes."""
        courses = {name: course(fitted.history, measure) for name, fitted in self.fits.items()}
        merged: dict[str, Curve] = {}
        for name, curves in courses.items():
            for key, curve in curves.items():
                before = merged[key].lines if key in merged else {}
                merged[key] = replace(curve, lines={**before, name: next(iter(curve.lines.values()))})
        return list(merged.values())


def plots(rows: Rows) -> dict[str, Plot]:
    """All plots of a summary by name."""
    return {name: plot for row in rows for name, plot in row.items()}


def compare(
    task: FieldTask, names: Sequence[str], settings: FitSettings | None = None, *, progress: bool = False
) -> Comparison:
    """Fit each of the named fields (see `hypersiren.fields.baselines`) to the task.

    Args:
        task: What is asked.
        names: Fields; or some of `OTHERS`; or "windowed".
        settings: The same for all, but for `OTHERS`; its network is the SIREN whose number of weights all have, but for
            a windowed field, which has its `numbers` for each value of the signal. None for the task's own.
        progress: Show a progress bar for each.

    Raises:
        UserError: If a windowed field is asked of a task that has no closed form for it, or pixels of one that has no
            grid; as `fit` too.
    """
    if "windowed" in names and not task.windowed:
        raise UserError(f"windowed: {task.name} has no closed form for windows; compare other fields")
    if "pixels" in names and not hasattr(task, "pixels"):
        raise UserError(f"pixels: {task.name} has no pixel grid; compare other fields")
    used = task.defaults if settings is None else settings
    fits: dict[str, Fit] = {}
    metrics: dict[str, dict[str, float]] = {}
    for number, name in enumerate(names, 1):
        own = {"training": {"steps": 0}} if name == "windowed" else OTHERS.get(name, {})
        network = {"kind": name, **_defaults(name, task), **own.get("network", {})}
        LOG.info("field %d of %d: %s", number, len(names), name)
        bar = name.ljust(max(map(len, names))) if progress else False
        grid = task.pixels() if name == "pixels" else None  # type: ignore[attr-defined]
        told = network if grid is None else None
        fits[name] = fit(task, grid, settings=used, network=told, progress=bar, **own.get("training", {}))
        field = fits[name].field
        weights = float(getattr(field, "numbers", None) or sum(p.numel() for p in field.parameters()))
        LOG.debug("evaluating %s", name)
        derivatives = task.evaluate_derivatives(field) if isinstance(task, Image) else {}
        row = {**fits[name].metrics, **derivatives, "weights": weights}
        if "windowed" in names:  # others have weights for a signal of any size
            row[NUMBERS.key] = weights / (math.prod(task.samples) * task.out_features)
        metrics[name] = {**row, "seconds": fits[name].seconds}
    return Comparison(task, fits, metrics)


def _defaults(name: str, task: FieldTask) -> dict[str, Any]:
    """The settings of the network that are not for a kind of field, as they are by default."""
    if name == "windowed":
        return {key: Network.model_fields[key].default for key in WHOLE}
    return {**{key: Network.model_fields[key].default for key in WINDOWS}, "numbers": task.defaults.network.numbers}


def _number(value: float) -> str:
    if math.isnan(value):  # not defined here, as the SSIM of a picture smaller than its window
        return "-"
    return f"{value:.0f}" if math.isfinite(value) and value == round(value) and abs(value) >= 100 else f"{value:.4g}"
