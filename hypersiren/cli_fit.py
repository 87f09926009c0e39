"""The commands around single signals: fit, render, compare, initialisation. Imports no torch before it must."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from hypersiren.config_io import load_settings
from hypersiren.console import choose_device, fail, make_folder, say
from hypersiren.fit_config import PATHS, TASKS, FitSettings

CONFIGS = Path(__file__).parent / "configs"
"""The presets, in an installed package; in a clone they lie beside it."""


def fit(
    task: str,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    preset: Literal["fast", "paper"] = "fast",
    config: Path | None = None,
    run_dir: Path | None = None,
) -> None:
    """Fit a field to one signal: `hypersiren fit image photo.png`.

    The same command goes on with an unfinished run. Any setting can be overridden by a flag after the file, such as
    --training.steps 500; `hypersiren settings image` lists them all.

    Args:
        task: image, inpaint, poisson, edit (with two files: source and target), helmholtz, wave (both: a medium) or
            inversion (measured data).
        words: File, then flags.
        preset: fast, or the paper's settings.
        config: YAML file of settings in place of a preset.
        run_dir: Folder of the run; by default runs/ and the names of task and file.
    """
    settings = read_settings(task, words, preset, config)
    folder = run_dir or Path("runs") / _run_name(task, settings)
    device = choose_device(settings.device)

    from hypersiren import fitting
    from hypersiren.outputs import write_panels

    made = fitting.open_task(task, settings, device)
    make_folder(folder)
    say(f"run folder {folder}; watch it with: tensorboard --logdir {folder}")
    arguments = settings.training.model_dump(exclude={"points"})
    result = fitting.fit(
        made, run_dir=folder, seed=settings.seed, network=settings.network.model_dump(),
        settings=settings.model_dump(mode="json"), progress=True, **arguments,
    )  # fmt: skip
    if not result.finished:
        say("stopped and saved; the same command goes on from here")
        raise SystemExit(130)
    for path in write_panels(folder, made.panels(result.field)):
        say(str(path))
    for name, value in result.metrics.items():
        print(f"{name:16} {value:.6g}")


def compare(
    task: str,
    *words: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    fields: str = "siren,relu,tanh,relu_pe",
    preset: Literal["fast", "paper"] = "fast",
    config: Path | None = None,
    out: Path | None = None,
) -> None:
    """Fit several fields side by side, with equally many weights and steps; a table and a picture.

    Args:
        task: As for `fit`.
        words: File, then flags, as for `fit`.
        fields: Names, with commas: siren, relu, tanh, softplus, relu_pe, relu_fourier, rbf, wire, finer.
        preset: fast, or the paper's settings.
        config: YAML file of settings in place of a preset.
        out: Folder for table.txt, metrics.json and comparison.png; by default runs/compare- and task and file.
    """
    settings = read_settings(task, words, preset, config)
    folder = out or Path("runs") / f"compare-{_run_name(task, settings)}"
    device = choose_device(settings.device)

    from hypersiren import comparison, fitting
    from hypersiren.baselines import BASELINES
    from hypersiren.signals import write_image

    names = fields.split(",")
    if unknown := [name for name in names if name not in BASELINES]:
        fail(f"--fields: expected some of {', '.join(BASELINES)}, got {unknown[0]!r}")
    made = fitting.open_task(task, settings, device)
    make_folder(folder)
    arguments = settings.training.model_dump(exclude={"points"})
    found = comparison.compare(
        made, names, network=settings.network.model_dump(), seed=settings.seed, progress=True, **arguments
    )
    print(found)
    (folder / "table.txt").write_text(f"{found}\n")
    (folder / "metrics.json").write_text(json.dumps(found.metrics, indent=1) + "\n")
    write_image(folder / "comparison.png", found.picture())
    say(f"table and picture in {folder}")


def initialisation(
    *,
    fields: str = "siren,tanh,relu,softplus",
    hidden_layers: int = 6,
    hidden_features: int = 256,
    seed: int = 0,
    out: Path = Path("initialisation.png"),
) -> None:
    """Draw how activations and gradients are distributed by depth before any training (paper, section 3.2).

    Args:
        fields: Names, with commas: siren, relu, tanh, softplus, relu_pe, relu_fourier, rbf, wire, finer.
        hidden_layers: Layers between the first and the last.
        hidden_features: Width.
        seed: Fixes the weights.
        out: The picture.
    """
    if hidden_layers < 0 or hidden_features < 1 or seed < 0:
        fail("expected --hidden-layers and --seed of at least 0 and --hidden-features of at least 1")
    from hypersiren.initialisation import initialisation_study
    from hypersiren.signals import write_image

    study = initialisation_study(
        fields.split(","), hidden_layers=hidden_layers, hidden_features=hidden_features, seed=seed
    )
    print(study.table())
    write_image(out, study.picture())
    say(str(out))


def _run_name(task: str, settings: FitSettings) -> str:
    signal = [Path(getattr(settings.signal, key)).stem for key in PATHS.get(task, ("path",))]  # type: ignore[attr-defined]
    return "-".join([task, *signal])


def read_settings(task: str, words: Sequence[str], preset: str, config: Path | None) -> FitSettings:
    """The settings of a fit, from its preset or YAML file, the files named first, and flags."""
    if task not in TASKS:
        near = difflib.get_close_matches(task, TASKS, n=1)
        expected = f'did you mean "{near[0]}"?' if near else f"expected one of {', '.join(TASKS)}"
        fail(f'unknown task "{task}"; {expected}')
    files = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    keys = PATHS.get(task, ("path",))
    if files > len(keys):
        fail(f"{task} takes {len(keys)} file{'s' * (len(keys) > 1)}, got {' '.join(words[:files])}")
    if config is None and preset == "paper":
        config = preset_file(task, preset)
    named = [f"--signal.{key}={word}" for key, word in zip(keys, words[:files], strict=False)]
    return load_settings(TASKS[task], config, [*named, *words[files:]])


def preset_file(task: str, preset: str) -> Path:
    """The YAML file of a preset."""
    folder = CONFIGS if CONFIGS.is_dir() else Path(__file__).parent.parent / "configs"
    return folder / task / f"{preset}.yaml"


def render(
    run: Path,
    *,
    size: int = 512,
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Render a fitted image at any resolution, all of it or a region.

    Args:
        run: Run folder of `hypersiren fit image`, inpaint, poisson or edit.
        size: Height of the rendering in pixels; the width follows.
        region: Top, left, bottom and right as shares of the image: 0 0 1 1 is all of it, 0.25 0.25 0.5 0.5 a part, and
            beyond 0 and 1 is what the field does outside.
        out: Image file; by default render.png in the run folder.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    top, left, bottom, right = region
    if size < 1 or not (top < bottom and left < right):
        fail(f"expected --size of at least 1 and --region TOP LEFT BOTTOM RIGHT with top < bottom, left < right, "
             f"got {size} and {region}")  # fmt: skip
    from hypersiren import checkpoints
    from hypersiren.coords import evaluate, grid
    from hypersiren.signals import write_image

    place = choose_device(device)
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    samples = content["record"]["model"].get("field", {}).get("samples", [])
    if len(samples) != 2 or content["record"]["model"]["field"]["out_features"] not in (1, 3):
        fail(f"{path}: expected a fitted image (hypersiren fit image, inpaint, poisson or edit)")
    field = checkpoints.restore(content, place)
    width = max(1, round(size * samples[1] * (right - left) / (samples[0] * (bottom - top))))
    x = grid((size, width), (2 * top - 1, 2 * left - 1), (2 * bottom - 1, 2 * right - 1), device=place)
    pixels = (evaluate(field, x).view(size, width, -1) + 1) / 2
    target = out or path.parent / "render.png"
    write_image(target, pixels.cpu().numpy())
    print(target)
