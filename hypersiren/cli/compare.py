"""The commands `compare` and `initialisation`. Imports no torch before it must."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from hypersiren.cli.console import (
    File,
    Out,
    check_least,
    check_out,
    choose_device,
    fail,
    files_of,
    make_folder,
    print_next,
)
from hypersiren.cli.fit import check_signal, open_signal, read_settings, run_name, signal_files
from hypersiren.cli.lines import LOG, announce, progress, show
from hypersiren.errors import did_you_mean
from hypersiren.settings.yaml import to_yaml
from hypersiren.training.folders import check_folder, choose_folder, sign, to_json, unused, write_text
from hypersiren.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from hypersiren.tasks.summary import Measure


def compare(
    task: str,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    fields: str = "siren,relu,tanh,relu_pe",
    preset: Literal["fast", "paper"] = "fast",
    config: File | None = None,
    out: Out | None = None,
) -> None:
    """Fit several fields with equally many weights and steps, and compare them in a table and a picture.

    Args:
        task: As for `fit`.
        words: File, then flags, as for `fit`.
        fields: Names, separated by commas: those of --network.kind, such as siren, relu, relu_pe and wire; or pinn,
            which always has 8 layers of 20 tanh and L-BFGS; or windowed, which is solved, with --network.numbers for
            each value of the signal; or pixels, a plain grid (inversion).
        preset: fast, or the paper's settings.
        config: YAML file of settings that replaces the preset.
        out: Folder for table.txt, metrics.json and comparison.png. The default is runs/compare- with the names of task
            and file, and a number if another comparison is there.
    """
    keep_freed_memory()
    settings = read_settings(task, words, preset, config)
    check_signal(task, settings)
    if out is not None:
        check_folder(out, files_of(settings))
    announce(f"compare {' '.join([task, *signal_files(task, settings)])}")
    device = choose_device(settings.device)

    from hypersiren.fields.baselines import BASELINES
    from hypersiren.signals.image.files import write_image
    from hypersiren.training import comparison

    names = fields.split(",")
    known = [*BASELINES, "windowed", *comparison.OTHERS]
    if unknown := [name for name in names if name not in known]:
        fail(f"--fields: expected some of {', '.join(known)}, got {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    steps = settings.training.steps
    made, settings = open_signal(task, settings, device)
    # Where they are left open each field has its own: windows, the default of a task, are solved without a step.
    settings = settings.replace(training=settings.training.replace(steps=steps))
    record = {**settings.model_dump(mode="json"), "fields": fields}
    base = Path("runs") / f"compare-{run_name(task, settings)}"
    folder = out or choose_folder(base, record, made.digest())
    make_folder(folder)
    sign(folder, made.digest())
    write_text(folder / "config.yaml", to_yaml(record))
    found = comparison.compare(made, names, settings, progress=progress())
    show(found)
    show("\n".join(["", *describe_columns(found.measures)]))
    write_text(folder / "table.txt", f"{found}\n")
    write_text(folder / "metrics.json", to_json(found.metrics))
    LOG.info("drawing comparison.png")
    write_image(folder / "comparison.png", found.picture())
    LOG.info(f"table and picture in {folder}")
    chosen = ["--config", config] if config else ["--preset", preset] if preset != "fast" else []
    print_next("fit", task, *words, *chosen)


def describe_columns(measures: Iterable["Measure"]) -> Iterator[str]:
    """A line for each number that has a unit or a direction.

    Example:
        >>> from hypersiren.tasks.summary import Measure
        >>> list(describe_columns([Measure("psnr", "PSNR", "dB", "higher"), Measure("weights", "weights", better="")]))
        ['psnr: dB, higher is better']
    """
    for one in measures:
        if parts := [part for part in (one.unit, f"{one.better} is better" if one.better else "") if part]:
            yield f"{one.key}: {', '.join(parts)}"


def initialisation(
    *,
    fields: str = "siren,tanh,relu,softplus",
    hidden_layers: int = 6,
    hidden_features: int = 256,
    seed: int = 0,
    out: Out | None = None,
) -> None:
    """Plot the distributions of activations and gradients by depth, before training (paper, section 3.2).

    Args:
        fields: Names, separated by commas: those of --network.kind of `fit`, such as siren, relu, relu_pe and wire.
        hidden_layers: Layers between the first and the last.
        hidden_features: Width.
        seed: Fixes the weights.
        out: The picture. The default is initialisation.png, with a number if that file exists.
    """
    check_least(0, hidden_layers=hidden_layers, seed=seed)
    check_least(1, hidden_features=hidden_features)
    check_out(out)
    announce("initialisation")
    from hypersiren.plotting import figure_pixels
    from hypersiren.signals.image.files import image_format, write_image

    if out is not None:
        image_format(out)  # refuses others before the work
    from hypersiren.studies.initialisation import initialisation_study

    study = initialisation_study(
        fields.split(","), hidden_layers=hidden_layers, hidden_features=hidden_features, seed=seed
    )
    show(study.table())
    target = out or unused(Path("initialisation.png"))[0]
    write_image(target, figure_pixels(study.figure()))
    LOG.info(str(target))
