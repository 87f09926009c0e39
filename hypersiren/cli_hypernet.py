"""The commands around hypernetworks: train, complete. Imports no torch before it must."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from pydantic import ValidationError

from hypersiren.cli_shapes import complete_clouds, complete_test_shapes, prepare_shapes
from hypersiren.config import Settings
from hypersiren.config_io import chosen_kind, load_settings
from hypersiren.console import choose_device, count, fail, keep_freed_memory, make_folder, say, say_skipped
from hypersiren.shape_config import SHAPE_KINDS, ShapeSettings

if TYPE_CHECKING:
    import torch

    from hypersiren.datasets import ImageSet
    from hypersiren.models import HyperSiren
    from hypersiren.training import HypernetObjective


def train(
    *settings: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    config: Path | None = None,
    run_dir: Path | None = None,
) -> None:
    """Train a hypernetwork on a set of images or shapes, then print its completion table.

    The same command goes on with an unfinished run. Any setting of the YAML file can be overridden by a flag, such as
    --training.lr 2e-3; `hypersiren settings` lists them all.

    Args:
        config: YAML file of settings; without one, the built-in experiment on faces, or on shapes with --data.kind
            solids.
        run_dir: Folder of the run; by default runs/ and the name of the YAML file.
    """
    keep_freed_memory()
    checked = read_train_settings(config, settings)
    default = "solids" if isinstance(checked, ShapeSettings) else "faces"
    folder = run_dir or Path("runs") / (config.stem if config else default)

    from hypersiren.training import train as run_training

    objective, record, training = prepare(checked)
    model = objective.model
    make_folder(folder)
    say(
        f"{len(objective.task.train)} training {objective.task.unit}; {count(model.encoder)} encoder weights and "
        f"{count(model.hypernet)} hypernetwork weights predict a SIREN of {count(model.siren)} on "
        f"{choose_device(checked.device)}"
    )
    say(f"run folder {folder}; watch it with: tensorboard --logdir {folder}")
    finished = run_training(objective, folder, record, **training)
    if not finished:
        say("stopped and saved; the same command goes on from here")
        raise SystemExit(130)
    complete(folder, device=checked.device)


def complete(
    run: Path,
    *files: Path,
    context: int | None = None,
    mask: Path | None = None,
    size: int = 256,
    extent: float = 1.0,
    interpolate: int | None = None,
    refine: int = 0,
    out: Path | None = None,
    seed: int = 0,
    baseline_images: int = 100,
    device: str = "auto",
) -> None:
    """Complete images or shapes with a trained run: the table over the test set, or files of your own.

    Args:
        run: Run folder of `hypersiren train`, or a checkpoint.
        files: Pictures to complete, or files of points (or meshes) if the run is one of shapes; without any, the
            completion table of the test set.
        context: Known random pixels of each picture, counted at the model's resolution; by default 100, or all that a
            mask leaves, or all to interpolate. Of shapes: random points.
        mask: Mask image of the picture's size: known where it is bright.
        size: Height of the completed picture in pixels; cells along the longest side of a mesh.
        extent: Look beyond the picture: coordinates reach from -extent to extent.
        refine: Fit each predicted field further to its known pixels, so many steps (50 is a good number; for shapes
            200).
        interpolate: With two pictures: so many steps from one to the other in latent space.
        out: Folder for the results; by default `completion` in the run folder.
        seed: Fixes the choice of random pixels.
        baseline_images: Test images that the (slow) baselines are measured on; at most so many test shapes are used.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    only_pictures = {"--context": context, "--mask": mask, "--interpolate": interpolate}
    if not files and (given := [name for name, value in only_pictures.items() if value is not None]):
        fail(f"{given[0]} needs a picture or points to complete")
    if seed < 0 or baseline_images < 1 or refine < 0:
        fail("expected --seed and --refine of at least 0 and --baseline-images of at least 1")
    if refine and interpolate is not None:
        fail("--refine and --interpolate exclude each other: between two pictures there is nothing to fit to")
    model, settings, path = open_run(run, choose_device(device))
    folder = out or path.parent / "completion"
    make_folder(folder)
    if isinstance(settings, ShapeSettings):
        pictures = {"--mask": mask, "--interpolate": interpolate, "--extent": None if extent == 1 else extent}
        if given := [name for name, value in pictures.items() if value is not None]:
            fail(f"{given[0]} is for pictures; {path} is a run of shapes")
        if files:
            complete_clouds(model, settings, files, folder, context, size, seed, refine)
        else:
            complete_test_shapes(model, settings, folder, refine, baseline_images)
    elif files:
        _complete_photos(model, settings, files, folder, context, mask, size, extent, interpolate, seed, refine)
    else:
        _complete_test(model, settings, folder, baseline_images, refine)


def read_train_settings(config: Path | None, words: Sequence[str] = ()) -> Settings | ShapeSettings:
    """The settings of `train`: those of images, or of shapes where data.kind says so."""
    if chosen_kind("data", config, words) in SHAPE_KINDS:
        return load_settings(ShapeSettings, config, words)
    return load_settings(Settings, config, words)


def open_run(run: Path, device: "torch.device") -> "tuple[HyperSiren, Settings | ShapeSettings, Path]":
    """The model of a run of `train`, its settings, and the checkpoint they are from."""
    from hypersiren import checkpoints
    from hypersiren.models import HyperSiren

    path = checkpoints.find(run)
    content = checkpoints.read(path)
    model = checkpoints.restore(content, device)
    if not isinstance(model, HyperSiren):
        fail(f"{path}: expected a run of `hypersiren train`, got a fitted field; see `hypersiren render`")
    try:
        record = content["record"]["settings"]
        shapes = record["data"]["kind"] in SHAPE_KINDS
        return model, (ShapeSettings if shapes else Settings).model_validate(record), path
    except (ValidationError, KeyError, TypeError):
        fail(f"{path}: its settings are not those of this version of hypersiren")


def _complete_test(model: "HyperSiren", settings: Settings, folder: Path, baseline_images: int, refine: int) -> None:
    from hypersiren.completion import (
        completion_picture,
        completion_table,
        interpolation_picture,
        outside_picture,
        whole,
    )
    from hypersiren.datasets import ImageSet
    from hypersiren.signals import write_image

    device = next(model.parameters()).device
    train_set, validation, test = (s.to(device) for s in image_sets(settings))
    table = completion_table(model, train_set, validation, test, baseline_images=baseline_images, refine_steps=refine)
    print(table)
    (folder / "table.txt").write_text(f"{table}\n")
    numbers = {"mse": table.rows, "images": table.images, "baseline_images": table.baseline_images}
    (folder / "metrics.json").write_text(json.dumps(numbers, indent=1) + "\n")
    write_image(folder / "completion.png", completion_picture(model, test))
    ends = test.spread(8).pixels
    if pairs := [whole(ImageSet(ends[i : i + 2], test.name)) for i in range(0, len(ends) - 1, 2)]:
        h, w = test.size
        write_image(folder / "interpolation.png", interpolation_picture(model, pairs, (3 * h, 3 * w), 8))
    write_image(folder / "outside.png", outside_picture(model, ImageSet(ends[:2], test.name)))
    say(f"table and pictures in {folder}")


def _complete_photos(
    model: "HyperSiren",
    settings: Settings,
    images: Sequence[Path],
    folder: Path,
    context: int | None,
    mask: Path | None,
    size: int,
    extent: float,
    interpolate: int | None,
    seed: int,
    refine: int,
) -> None:
    from hypersiren.completion import complete_photo, interpolation_picture, photo_pair, photo_panel, read_photo
    from hypersiren.signals import write_image

    raw = settings.data.size
    h, w = (raw, raw) if isinstance(raw, int) else raw
    if size < 1 or (context is not None and not 1 <= context <= h * w) or not extent > 0:
        fail(f"expected --size of at least 1, --context from 1 to {h * w} and --extent above 0")
    if interpolate is not None and (len(images) != 2 or interpolate < 2):
        fail(f"--interpolate needs two pictures and at least 2 steps, got {len(images)} and {interpolate}")
    if mask is not None and len(images) != 1:
        fail(f"--mask belongs to one picture, got {len(images)}")
    if len({path.stem for path in images}) < len(images) and interpolate is None:
        fail("pictures of one name would overwrite each other's results; complete them one by one with --out")
    device = next(model.parameters()).device
    number = 100 if context is None and mask is None and interpolate is None else context
    photos = [
        read_photo(path, (h, w), model.siren.out_features, context=number, mask=mask, seed=seed, device=device)
        for path in images
    ]
    shape = (size, max(1, round(size * w / h)))
    if interpolate is not None:
        target = folder / f"{images[0].stem}_to_{images[1].stem}.png"
        write_image(target, interpolation_picture(model, [photo_pair(photos[0], photos[1])], shape, interpolate))
        print(target)
        return
    for path, photo in zip(images, photos, strict=True):
        completed = complete_photo(model, photo, shape, extent, refine)
        target = folder / f"{path.stem}_completed.png"
        write_image(target, completed.cpu().numpy())
        write_image(folder / f"{path.stem}_panel.png", photo_panel(photo, completed))
        print(target)


def prepare(settings: Settings | ShapeSettings) -> "tuple[HypernetObjective, dict[str, Any], dict[str, Any]]":
    """What is trained, its description for checkpoints, and the arguments of the training loop."""
    if isinstance(settings, ShapeSettings):
        return prepare_shapes(settings)
    import torch

    from hypersiren.models import build
    from hypersiren.tasks.completion import Completion
    from hypersiren.training import HypernetObjective

    device = choose_device(settings.device)
    train_set, validation, _ = (s.to(device) for s in image_sets(settings))
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet")}
    record = {
        "settings": settings.model_dump(mode="json"),
        "model": {**parts, "channels": train_set.channels},
    }
    torch.manual_seed(settings.seed)
    model = build(**record["model"]).to(device)
    training = {"seed": settings.seed, **settings.training.model_dump()}
    task = Completion(
        train_set,
        validation,
        batch_size=training.pop("batch_size"),
        target_points=training.pop("target_points"),
        flip=settings.data.flip,
        shift=settings.data.shift,
        **settings.context.model_dump(),
    )
    objective = HypernetObjective(model, task, autocast=training.pop("autocast"), **settings.loss.model_dump())
    return objective, record, training


def image_sets(settings: Settings) -> "list[ImageSet]":
    from hypersiren.datasets import load_images

    arguments = settings.data.model_dump(exclude={"flip", "shift"})
    kind = arguments.pop("kind")
    sets = []
    for split in ("train", "val", "test"):
        sets.append(load_images(kind, split, seed=settings.seed, **arguments))
    say_skipped(list(dict.fromkeys(name for s in sets for name in s.skipped)), "not readable images")
    return sets
