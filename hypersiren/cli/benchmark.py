"""`hypersiren benchmark`: speed, as ratios within one run. Imports no torch before it must."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from hypersiren.cli.complete import open_run
from hypersiren.cli.console import File, check_least, choose_device, fail
from hypersiren.cli.lines import announce, show
from hypersiren.cli.train import read_train_settings

benchmark = App(name="benchmark", help="Measure speed as ratios within one run.", help_format="markdown")


@benchmark.command
def jets(*, points: int = 16384, width: int = 256, rounds: int = 7, device: str = "auto") -> None:
    """Time training steps on derivatives of a SIREN by jets and by the usual double backward, with peak memory.

    Args:
        points: Points of a step.
        width: Width of the SIREN, which has three hidden layers.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    check_least(1, points=points, width=width, rounds=rounds)
    announce("benchmark jets")
    from hypersiren.studies.benchmarks.jets import jet_table

    show(jet_table(points, width, rounds=rounds, device=choose_device(device)))


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
) -> None:
    """Time training steps of a task by the usual double backward, by jets and by compiled jets, with peak memory.

    Args:
        task: sdf, helmholtz, wave or inversion; a step is forward and backward of its loss.
        points: Points of a step. The default is 16,384; for sdf 20,000, for inversion on a CPU 2,048.
        width: Width of the SIREN, which has three hidden layers.
        rounds: Number of rounds in which all variants take turns; the median is printed.
        compiled: Measure compiled jets too.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    announce("benchmark steps")
    from hypersiren.studies.benchmarks.steps import default_points, report, step_times

    where = choose_device(device)
    points = default_points(task, where) if points is None else points
    check_least(1, points=points, width=width, rounds=rounds)
    show(f"{task}: {points:,} points, three hidden layers of {width}, median of {rounds} rounds, {where}")
    times = step_times(task, points=points, hidden_features=width, rounds=rounds, compiled=compiled, device=where)
    show(report(times))


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

    from hypersiren.studies.benchmarks.loop import loop_shares
    from hypersiren.training.hypernet import prepare

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
    announce("benchmark warm")
    from hypersiren.studies.benchmarks.loop import warm_start
    from hypersiren.tasks.images.completion import open_sets

    opened = open_run(run, device)
    if opened.row.unit != "images":
        fail(f"{opened.checkpoint}: expected a run of images, got one of {opened.row.unit}")
    test = open_sets(opened.settings, next(opened.model.parameters()).device)[2]
    try:
        errors = warm_start(opened.model, test, context, steps)
    except ValueError as error:
        fail(f"--context: {error}")
    for name, value in errors.items():
        show(f"{name:32} {value:.5f}")
