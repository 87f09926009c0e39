"""Evaluation of completed photographs, and completion of a user's pictures at their own size."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hypersiren.completion.complete import Output
from hypersiren.completion.images.photos import scaled_deviation
from hypersiren.completion.images.pictures import known_pixels
from hypersiren.completion.photographs.masks import CONTEXTS, context_mask, random_pixels
from hypersiren.completion.photographs.task import Photographs
from hypersiren.completion.train import SetRun
from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.progress import now_and_then
from hypersiren.fields.raster import raster
from hypersiren.fields.settings import Network
from hypersiren.hypernets.inpainter import NINETY, Inpainted, Inpainter
from hypersiren.plotting import figure_pixels, image_grid
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.files import read_image, to_uint8, write_image
from hypersiren.signals.image.masks import read_mask
from hypersiren.tasks.windows import solve_windows

LOG = logging.getLogger(__name__)

OPTIONS = ("context", "mask", "samples", "size")
"""Options of the command that photographs have a meaning for."""

PANEL = 400
"""Pixels of the side of what panel.png shows, at most."""

SLOW = 12
"""Test crops of the table, whose baselines are slow."""

SAY_SECONDS = 1.0
"""Seconds between lines on the progress."""

NUMBERS = 1.0
"""Numbers a value of the field that `--size` renders."""


@dataclass(frozen=True)
class PhotographTable:
    """Test numbers by method and context.

    Attributes:
        psnr: Means over crops, in dB.
        coverage: Share of unknown values in the 90 % intervals, in percent.
        crops: Test crops.
    """

    psnr: Mapping[str, Mapping[str, float]]
    coverage: Mapping[str, float]
    crops: int

    def __str__(self) -> str:
        width = max(map(len, [*self.psnr, "in the 90 % interval"])) + 2
        lines = ["PSNR in dB".ljust(width) + "".join(f"{name:>11}" for name in CONTEXTS)]
        for method, row in self.psnr.items():
            lines.append(method.ljust(width) + "".join(f"{row[name]:>11.2f}" for name in CONTEXTS))
        lines += ["", "in the 90 % interval".ljust(width) + "".join(f"{self.coverage[n]:>10.1f}%" for n in CONTEXTS)]
        return "\n".join([*lines, "", f"mean over {self.crops} test crops; known pixels are kept by all methods"])


def baselines() -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Methods without training: from pictures (H, W, 3) and known pixels to pictures."""
    return {"linear": partial(_interpolated, "linear"), "cubic": partial(_interpolated, "cubic"), "biharmonic": _smooth}


def _interpolated(method: str, picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    from scipy.interpolate import griddata

    places, wanted = np.argwhere(known), np.argwhere(~known)
    completed = picture.copy()
    inside = griddata(places, picture[known], wanted, method)
    beyond = griddata(places, picture[known], wanted, "nearest")
    completed[~known] = np.where(np.isfinite(inside), inside, beyond)
    return completed


def _smooth(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic

    return inpaint_biharmonic(picture * known[..., None], ~known, channel_axis=-1)


@torch.no_grad()
def table(run: SetRun, task: Photographs, before: None, *, most: int, refine: int) -> PhotographTable:
    """PSNR from each context, beside the baselines, on test crops."""
    crops = task.test.spread(min(most, SLOW, len(task.test)))
    psnr: dict[str, dict[str, float]] = {"hypersiren": {}, **{name: {} for name in baselines()}}
    coverage: dict[str, float] = {}
    for name in CONTEXTS:
        LOG.info("evaluating from %s", name)
        errors = task.errors(run.model, crops, name)
        psnr["hypersiren"][name] = _decibel(errors)
        surprises = task.surprises(run.model, crops, name)
        coverage[name] = 100 * (surprises < NINETY).double().mean().item()
        for method, complete in baselines().items():
            found = []
            for i, truth in enumerate(crops.unit.cpu().double().numpy()):
                completed = complete(truth, context_mask(name, crops.size, i).numpy())
                found.append(((completed.clip(0, 1) - truth) ** 2).mean())
            psnr[method][name] = _decibel(torch.tensor(found))
    return PhotographTable(psnr, coverage, len(crops))


def _decibel(errors: Tensor) -> float:
    return (-10 * errors.clamp(min=1e-12).log10()).mean().item()


def metrics(table: PhotographTable) -> dict[str, Any]:
    """The numbers of a table."""
    return {"psnr": table.psnr, "coverage": table.coverage, "crops": table.crops}


def draw(run: SetRun, task: Photographs, folder: Path, samples: int | None) -> None:
    """A test crop from each context: context, completion, deviation, samples, truth."""
    truth = task.test.spread(1).unit[0]
    rows = []
    for name in CONTEXTS:
        known = context_mask(name, task.test.size).to(truth.device)
        found = run.model.complete(truth, known)
        rows.append(_panel_row(truth, found, list(found.samples(2 if samples is None else samples))))
    titles = ["context", "completion", _white(rows)]
    titles += [f"sample {i + 1}" for i in range(len(rows[0]) - 4)] + ["truth"]
    write_image(folder / "completion.png", figure_pixels(image_grid(rows, list(CONTEXTS), titles)))


def _white(rows: Sequence[Sequence[np.ndarray]]) -> str:
    """Scale the deviations of rows alike; the title of their column."""
    white, _ = scaled_deviation(torch.tensor(max(row[2].max() for row in rows)).view(1, 1, 1, 1))
    for row in rows:
        row[2][:] = row[2] / float(white.partition(": ")[2])
    return f"deviation\n({white})"


def _panel_row(truth: Tensor, found: Inpainted, samples: Sequence[Tensor]) -> list[np.ndarray]:
    context = known_pixels(truth[None], found.known[None])[0]
    deviation = found.deviation.mean(-1, keepdim=True)
    return [part.float().cpu().numpy() for part in (context, found.mean, deviation, *samples, truth)]


def complete(
    run: SetRun,
    files: Sequence[Path],
    *,
    size: int | None = None,
    seed: int,
    refine: int,
    context: int | float | None = None,
    mask: Path | None = None,
    samples: int | None = None,
) -> Iterator[tuple[str, list[Output]]]:
    """Complete a user's pictures at their own size; see `Study.complete`."""
    if context is None and mask is None:
        context = 0.1
        LOG.info("without --context or --mask, 10 % of the pixels at random are taken to be known")
    cases = [(path, *_read(path, context, mask, seed)) for path in files] if len(files) == 1 else None
    for path in files:
        _, pixels, known = cases[0] if cases else (path, *_read(path, context, mask, seed))
        yield path.stem, outputs(run.model, pixels, known, size=size, samples=samples, seed=seed)


def _read(path: Path, context: int | float | None, mask: Path | None, seed: int) -> tuple[np.ndarray, Tensor]:
    """A picture (H, W, C) in bytes, and its known pixels: random ones, a share if below 1, of those that a mask has."""
    pixels = read_image(path, gray=None)
    size = (pixels.shape[0], pixels.shape[1])
    seen = torch.ones(size, dtype=torch.bool) if mask is None else torch.from_numpy(read_mask(mask, size))
    if context is not None:
        whole = int(seen.sum())
        share = context if isinstance(context, float) else context / whole
        if share > 1:
            raise SignalError(f"expected --context of at most {whole}, the known pixels there are, got {context}", path)
        chosen = random_pixels((1, whole), share, seed)
        seen[seen.clone()] = chosen[0]
    return pixels, seen


def outputs(
    model: Inpainter,
    pixels: np.ndarray,
    known: Bool[Tensor, "H W"],
    *,
    size: int | None,
    samples: int | None,
    seed: int,
) -> list[Output]:
    """The files of a completion: the picture, its deviation, samples, and a panel of a part of it.

    Args:
        model: Completes it.
        pixels: (H, W, C) bytes.
        known: Which of them are known.
        size: Height of the picture that is rendered from a windowed field; None for the picture's own pixels.
        samples: Samples drawn.
        seed: Of the samples.
    """
    due = now_and_then(SAY_SECONDS)

    def progress(done: int, total: int) -> None:
        if due():
            LOG.info("completing windows: %d %%", 100 * done // total)

    found = model.complete(torch.from_numpy(pixels).float().div_(255), known, progress=progress)
    completed = _bytes(found.mean)
    if size is not None:
        field = windowed_field(found)
        shape = (size, max(1, round(size * known.shape[1] / known.shape[0])))
        shown = to_uint8(raster(field, shape, then=lambda y: (y + 1) / 2).clamp(0, 1).cpu().numpy())
    else:
        shown = completed
    deviation = found.deviation.mean(-1, keepdim=True)
    white, scaled = scaled_deviation(deviation[None])
    result = [
        Output("completed.png", partial(write_image, pixels=shown)),
        Output("deviation.png", partial(write_image, pixels=_bytes(scaled[0]))),
    ]
    drawn = []
    for number, sample in enumerate(found.samples(samples or 0, seed)):
        drawn.append(_bytes(sample))
        result.append(Output(f"sample_{number + 1}.png", partial(write_image, pixels=drawn[-1])))
    panel = _panel(pixels, found.known, completed, _bytes(scaled[0]), white, drawn)
    return [*result, Output("panel.png", partial(write_image, pixels=panel))]


def _bytes(values: Float[Tensor, "H W C"]) -> np.ndarray:
    return to_uint8(values.cpu().numpy())


def _panel(
    pixels: np.ndarray,
    known: Tensor,
    completed: np.ndarray,
    deviation: np.ndarray,
    white: str,
    samples: list[np.ndarray],
) -> np.ndarray:
    """The central part, pixel for pixel, side by side."""
    h, w = known.shape
    top, left = max(0, (h - PANEL) // 2), max(0, (w - PANEL) // 2)
    part = (slice(top, top + PANEL), slice(left, left + PANEL))
    truth = torch.from_numpy(pixels[part]).float()[None] / 255
    context = known_pixels(truth, known[part][None].cpu())[0].numpy()
    row = [context, completed[part], deviation[part], *[sample[part] for sample in samples], pixels[part]]
    names = [f"sample {i + 1}" for i in range(len(samples))]
    return figure_pixels(
        image_grid([row], column_titles=["context", "completion", f"deviation\n({white})", *names, "picture"])
    )


def windowed_field(found: Inpainted, numbers: float = NUMBERS) -> CompactWindows:
    """The windowed field of a completed picture, values on [-1, 1], to be rendered at any size."""
    y = 2 * found.mean - 1
    return solve_windows(y.shape[:2], lambda a, b: y[a:b], y.shape[2], Network(numbers=numbers), y.device)
