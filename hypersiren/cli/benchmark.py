"""`hypersiren benchmark`: speed, as ratios within one run. Imports no torch before it must."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from cyclopts import App, Parameter

from hypersiren.cli.complete import open_run
from hypersiren.cli.console import File, Out, check_least, check_out, choose_device, fail
from hypersiren.cli.fit import check_signal, read_settings
from hypersiren.cli.lines import LOG, announce, show
from hypersiren.cli.train import read_train_settings
from hypersiren.training.folders import to_json, write_text
from hypersiren.training.memory import keep_freed_memory
from hypersiren.training.runs import find

if TYPE_CHECKING:
    from hypersiren.studies.benchmarks.measure import Report

N = TypeVar("N", int, float)

benchmark = App(name="benchmark", help="Measure speed as ratios within one run.", help_format="markdown")


@benchmark.command
def jets(
    *, points: int = 16384, width: int = 256, rounds: int = 7, device: str = "auto", out: Out | None = None
) -> None:
    """Time training steps on derivatives of a SIREN by jets and by the usual double backward, with peak memory.

    Args:
        points: Points of a step.
        width: Width of the SIREN, which has three hidden layers.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, points=points, width=width, rounds=rounds)
    check_out(out)
    announce("benchmark jets")
    from hypersiren.studies.benchmarks.derivatives import jets_report

    report(jets_report(points, width, rounds=rounds, device=choose_device(device)), out)


@benchmark.command
def steps(
    task: Literal["sdf", "helmholtz", "wave", "inversion"],
    /,
    *,
    points: int | None = None,
    width: int = 256,
    rounds: int = 5,
    compiled: bool = True,
    device: str = "auto",
    out: Out | None = None,
) -> None:
    """Time training steps of a task by the usual double backward, by jets and by compiled jets, with peak memory.

    Args:
        task: sdf, helmholtz, wave or inversion; a step is forward and backward of its loss.
        points: Points of a step. The default is 16,384; for sdf 20,000, for inversion on a CPU 2,048.
        width: Width of the SIREN, which has three hidden layers.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        compiled: Measure compiled jets too.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, width=width, rounds=rounds, **({} if points is None else {"points": points}))
    check_out(out)
    announce("benchmark steps")
    from hypersiren.studies.benchmarks.derivatives import steps_report

    report(steps_report(task, points, width, rounds=rounds, compiled=compiled, device=choose_device(device)), out)


@benchmark.command
def loop(
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    config: File | None = None,
    steps: int = 100,
) -> None:
    """Measure the shares of data, update and logging in a training step of `train`.

    Args:
        config: YAML file of settings, as for `train`; flags such as --training.batch_size 64 override it.
        steps: Training steps to measure.
    """
    row, checked = read_train_settings(config, settings)
    check_least(1, steps=steps)
    announce("benchmark loop")

    from hypersiren.completion.train import prepare
    from hypersiren.studies.benchmarks.loop import loop_shares

    objective, _ = prepare(row, checked, choose_device(checked.device))
    training = checked.training.replace(steps=steps, validate_every=steps)
    for name, share in loop_shares(objective, training).items():
        show(f"{name:8} {100 * share:5.1f} %")


@benchmark.command
def warm(run: File, *, context: str = "1000", steps: int = 500, device: str = "auto") -> None:
    """Complete test images by fields fitted from scratch, and by predicted ones refined for a tenth of the steps.

    Args:
        run: Run folder of `hypersiren train`.
        context: Known pixels: a number, half or full.
        steps: Steps of the fresh fits.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    check_least(1, steps=steps)
    find(run)
    announce("benchmark warm")
    from hypersiren.completion.images.study import warm_start
    from hypersiren.completion.images.task import Completion

    opened = open_run(run, device)
    if opened.row.unit != "images":
        fail(f"{opened.checkpoint}: expected a run of images, got one of {opened.row.unit}")
    test = Completion.load(opened.settings, next(opened.model.parameters()).device)[2]
    try:
        errors = warm_start(opened.model, test, context, steps)
    except ValueError as error:
        fail(f"--context: {error}")
    for name, value in errors.items():
        show(f"{name:32} {value:.5f}")


MODELS = {
    "set": ("paper's set encoder", "celeba_set", ()),
    "cnn": ("paper's CNN", "celeba_cnn", ("--encoder.size", "[SIZE, SIZE]")),
    "solve": ("default, last layer solved", "faces", ()),
    "conv": ("CNN encoder, last layer solved", "faces", ("--encoder.kind", "conv")),
    "small": (
        "CNN encoder, 512 features solved",
        "faces",
        ("--encoder.kind", "conv", "--siren.hidden_features", "[128, 512]"),
    ),
}
"""Models of `benchmark hypernet`: name in the table, configuration, flags."""


@benchmark.command(name="fit")
def fit_speed(
    *,
    picture: str = "camera",
    size: str = "128",
    thresholds: str = "30,40,50",
    every: int = 10,
    limit: float = 90.0,
    fits: int = 1,
    rounds: int = 5,
    steps: int = 3,
    compiled: bool = True,
    device: str = "auto",
    out: Out | None = None,
) -> None:
    """Time the fit of an image by windows and by one SIREN, against siren-pytorch and a plain loop.

    Printed are steps a second, seconds to a PSNR, and the PSNR of gradient, Laplacian and the picture at twice the
    size, beside interpolation by Lanczos's kernel and by cubics.

    Args:
        picture: A file, or the name of a photograph that scikit-image ships.
        size: Pixels: of a side, or height x width, such as 512x768.
        thresholds: PSNR in dB, separated by commas.
        every: Steps between two looks at the PSNR.
        limit: Seconds of steps after which a fit ends.
        fits: Whole fits of each variant; the median is printed.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        steps: Steps of a turn.
        compiled: Measure compiled steps too.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, every=every, fits=fits, rounds=rounds, steps=steps)
    if not (limit > 0 and math.isfinite(limit)):
        fail(f"expected --limit above 0, got {limit:g}")
    wanted = numbers("thresholds", thresholds, float)
    check_out(out)
    words = [picture, "--signal.size", size, "--network.kind", "siren"]
    settings, paper = (read_settings("image", words, preset, None) for preset in ("fast", "paper"))
    check_signal("image", settings)
    keep_freed_memory()  # as in `fit`; for all variants
    announce("benchmark fit")
    from hypersiren.studies.benchmarks.fit import fit_report

    given = {"thresholds": wanted, "every": every, "limit": limit, "fits": fits, "rounds": rounds, "repeats": steps}
    report(fit_report(settings, paper, **given, compiled=compiled, device=choose_device(device)), out)  # type: ignore[arg-type]


@benchmark.command
def hypernet(
    *,
    models: str = "set,cnn,solve,conv,small",
    batch: int = 16,
    size: int = 32,
    rounds: int = 3,
    device: str = "auto",
    out: Out | None = None,
) -> None:
    """Time training steps of hypernetworks over images; the paper's two against plain implementations of them.

    Args:
        models: Separated by commas: set and cnn (the paper's, of celeba_set.yaml and celeba_cnn.yaml), solve
            (hypersiren's default), conv (the same with an encoder) and small (that with a third of the features).
        batch: Images of a step.
        size: Pixels of a side.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, batch=batch, size=size, rounds=rounds)
    check_out(out)
    names = models.split(",")
    if unknown := [name for name in names if name not in MODELS]:
        fail(f"--models: expected some of {', '.join(MODELS)}, got {unknown[0]!r}")
    chosen = read_models(names, size, batch)
    keep_freed_memory()  # as in `train`; for all variants
    announce("benchmark hypernet")
    from hypersiren.studies.benchmarks.hypernet import hypernet_report

    report(hypernet_report(chosen, rounds=rounds, device=choose_device(device)), out)


@benchmark.command(name="device")
def device_speed(
    *,
    quick: bool = False,
    rounds: int = 5,
    graphs: bool = True,
    device: str = "auto",
    out: Out | None = None,
) -> None:
    """Answer in five minutes what a GPU does, how far it is off the CPU's float64, and how long its steps take.

    Without a GPU the CPU alone is measured, in the sizes of --quick.

    Args:
        quick: Smaller networks and images.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        graphs: On CUDA, time steps as CUDA graphs too (training.compile graphs).
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, rounds=rounds)
    check_out(out)
    announce("benchmark device")
    where = choose_device(device)
    small = quick or where.type == "cpu"
    size, batch, flags = (16, 4, ["--prior.copies", "0"]) if small else (32, 16, [])
    chosen = {**read_models(["solve"], size, batch, flags), **read_models(["set", "cnn"], size, batch, [])}
    keep_freed_memory()
    from hypersiren.studies.benchmarks.device import device_report

    report(device_report(chosen, small=small, rounds=rounds, graphs=graphs, device=where), out)


@benchmark.command(name="render")
def render_speed(
    *,
    sizes: str = "256,512",
    width: int = 256,
    rounds: int = 5,
    device: str = "auto",
    out: Out | None = None,
) -> None:
    """Time the rendering of a field by chunks, as hypersiren does it, and by one call for all pixels; and of windows.

    Args:
        sizes: Pixels of a side, separated by commas.
        width: Width of the SIREN, which has three hidden layers.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, width=width, rounds=rounds)
    wanted = numbers("sizes", sizes, int)
    check_out(out)
    announce("benchmark render")
    from hypersiren.studies.benchmarks.render import render_report

    report(render_report(wanted, width=width, rounds=rounds, device=choose_device(device)), out)


@benchmark.command
def data(
    *,
    images: int = 300,
    size: int = 32,
    batch: int = 32,
    workers: int = 0,
    rounds: int = 5,
    device: str = "auto",
    out: Out | None = None,
) -> None:
    """Time reading, caching and augmenting of JPEGs, against a DataLoader that opens each by Pillow.

    Args:
        images: Synthetic JPEGs that are written to a temporary folder.
        size: Pixels of a side that they are brought to.
        batch: Images of a batch.
        workers: Processes of the DataLoader beside this one.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        out: JSON file that gets the same numbers.
    """
    check_least(1, size=size, batch=batch, rounds=rounds)
    check_least(0, workers=workers)
    check_least(batch, images=images)
    check_out(out)
    settings = read_train_settings(None)[1].data
    announce("benchmark data")
    from hypersiren.completion.images.task import AUGMENTATION
    from hypersiren.studies.benchmarks.data import data_report

    augmentation = settings.model_dump(include=set(AUGMENTATION))
    sizes = {"images": images, "size": size, "batch_size": batch, "workers": workers, "rounds": rounds}
    report(data_report(augmentation, **sizes, device=choose_device(device)), out)


def read_models(names: Sequence[str], size: int, batch: int, more: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of some of MODELS by their titles, for colour images."""
    chosen = {}
    for title, config, flags in (MODELS[name] for name in names):
        own = [flag.replace("SIZE", str(size)) for flag in flags]
        data = ["--data.size", str(size), "--data.gray", "false", "--training.batch_size", str(batch)]
        chosen[title] = read_train_settings(Path(config), [*data, *own, *more])[1]
    return chosen


def numbers(flag: str, text: str, kind: Callable[[str], N]) -> list[N]:
    """Numbers above 0, separated by commas."""
    try:
        found = [kind(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number < math.inf for number in found):
        fail(f"--{flag}: expected numbers above 0, separated by commas, got {text!r}")
    return found


def report(found: "Report", out: Path | None) -> None:
    """Print what was measured, and write it as JSON."""
    show(found)
    if out is not None:
        write_text(out, to_json(found.plain()))
        LOG.info(f"numbers in {out}")
