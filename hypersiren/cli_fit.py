"""The commands around single signals: fit, render, compare, initialisation. Imports no torch before it must."""

import difflib
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from hypersiren.config_io import load_settings
from hypersiren.console import choose_device, fail, keep_freed_memory, make_folder, say
from hypersiren.fit_config import PATHS, TASKS, FitSettings

if TYPE_CHECKING:
    import torch

    from hypersiren.tasks import FieldTask

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
        task: image, inpaint, poisson, edit (with two files: source and target), audio, video, sdf, helmholtz, wave (of
            both the file is a medium) or inversion (measured data).
        words: File, then flags.
        preset: fast, or the paper's settings.
        config: YAML file of settings in place of a preset.
        run_dir: Folder of the run; by default runs/ and the names of task and file.
    """
    keep_freed_memory()
    settings = read_settings(task, words, preset, config)
    folder = run_dir or Path("runs") / _run_name(task, settings)
    device = choose_device(settings.device)

    from hypersiren import fitting
    from hypersiren.outputs import write_panels

    made, settings = _open_task(task, settings, device)
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
        fields: Names, with commas: siren, relu, tanh, softplus, relu_pe, relu_fourier, rbf, wire, finer; or pinn: 8
            layers of 20 tanh and L-BFGS, whatever the settings say.
        preset: fast, or the paper's settings.
        config: YAML file of settings in place of a preset.
        out: Folder for table.txt, metrics.json and comparison.png; by default runs/compare- and task and file.
    """
    keep_freed_memory()
    settings = read_settings(task, words, preset, config)
    folder = out or Path("runs") / f"compare-{_run_name(task, settings)}"
    device = choose_device(settings.device)

    from hypersiren import comparison
    from hypersiren.baselines import BASELINES
    from hypersiren.signals import write_image

    names = fields.split(",")
    known = [*BASELINES, *comparison.OTHERS]
    if unknown := [name for name in names if name not in known]:
        fail(f"--fields: expected some of {', '.join(known)}, got {unknown[0]!r}")
    made, settings = _open_task(task, settings, device)
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


def _open_task(name: str, settings: FitSettings, device: "torch.device") -> tuple["FieldTask", FitSettings]:
    """The task, and the settings with the first omega that it chooses where they have none; what is odd is said."""
    from hypersiren import fitting

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", UserWarning)
        task = fitting.open_task(name, settings, device)
    for warning in heard:
        say(f"warning: {warning.message}")
    if settings.network.first_omega is None:
        network = fitting.choose_omega(settings.network, task)
        say(f"first omega {network.first_omega:.0f}, chosen from the signal's spectrum and duration")
        settings = settings.model_copy(update={"network": network})
    return task, settings


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


FLAGS = {"image": ("size", "region"), "sound": ("rate",), "video": ("size", "fps", "slow")}
"""Flags of `render` that a kind of signal has."""


def render(
    run: Path,
    *,
    size: int | None = None,
    region: tuple[float, float, float, float] | None = None,
    rate: int | None = None,
    fps: float | None = None,
    slow: float | None = None,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Render a fitted image, sound or video at any resolution.

    Args:
        run: Run folder of `hypersiren fit image`, inpaint, poisson, edit, audio or video.
        size: Height of an image (512 by default) or a video (its own) in pixels; the width follows.
        region: Top, left, bottom and right as shares of an image: 0 0 1 1 is all of it, 0.25 0.25 0.5 0.5 a part, and
            beyond 0 and 1 is what the field does outside.
        rate: Samples per second of a sound; its own by default.
        fps: Frames per second of a video; its own by default.
        slow: Slow motion: the video plays so many times longer, with new frames between.
        out: File; by default render.png, render.wav or render.mp4 (.gif without PyAV) in the run folder.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    top, left, bottom, right = region or (0.0, 0.0, 1.0, 1.0)
    if not (top < bottom and left < right):
        fail(f"expected --region TOP LEFT BOTTOM RIGHT with top < bottom, left < right, got {region}")
    numbers = {"size": size, "rate": rate, "fps": fps, "slow": slow}
    for name, number in numbers.items():
        if number is not None and not 0 < number < math.inf:
            fail(f"expected --{name} above 0, got {number}")
    from hypersiren import checkpoints, playback
    from hypersiren.coords import evaluate, grid
    from hypersiren.outputs import video_ending
    from hypersiren.signals import write_image

    place = choose_device(device)
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    about = content["record"]["model"]
    samples = about.get("field", {}).get("samples", [])
    kind = {"audio": "sound", "video": "video"}.get(about.get("task"), "image")
    if kind == "image" and (len(samples) != 2 or about["field"]["out_features"] not in (1, 3)):
        fail(f"{path}: expected a fitted image, sound or video (hypersiren fit image, audio, video ...)")
    given = [name for name, value in {**numbers, "region": region}.items() if value is not None]
    if wrong := [name for name in given if name not in FLAGS[kind]]:
        fail(f"--{wrong[0]}: not for the {kind} that {run} holds; it has --{', --'.join(FLAGS[kind])}")
    field = checkpoints.restore(content, place)
    ending = {"image": ".png", "sound": ".wav", "video": video_ending()}[kind]
    target = out or path.parent / f"render{ending}"
    if kind == "sound":
        playback.render_sound(target, field, samples[0], about, rate=rate, device=place)
    elif kind == "video":
        playback.render_video(target, field, samples, about, fps=fps, slow=slow or 1.0, height=size, device=place)
    else:
        height = size or 512
        width = max(1, round(height * samples[1] * (right - left) / (samples[0] * (bottom - top))))
        x = grid((height, width), (2 * top - 1, 2 * left - 1), (2 * bottom - 1, 2 * right - 1), device=place)
        pixels = (evaluate(field, x).view(height, width, -1) + 1) / 2
        write_image(target, pixels.cpu().numpy())
    print(target)
