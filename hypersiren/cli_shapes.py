"""What `train` and `complete` do where the signals are shapes. Imports no torch before it must."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersiren.console import choose_device, fail, say, say_skipped
from hypersiren.shape_config import ShapeSettings

if TYPE_CHECKING:
    from hypersiren.models import HyperSiren
    from hypersiren.shape_sets import ShapeSet
    from hypersiren.training import HypernetObjective


def prepare_shapes(settings: ShapeSettings) -> "tuple[HypernetObjective, dict[str, Any], dict[str, Any]]":
    """What is trained, its description for checkpoints, and the arguments of the training loop."""
    import torch

    from hypersiren.models import build
    from hypersiren.tasks.shapes import Shapes
    from hypersiren.training import HypernetObjective

    device = choose_device(settings.device)
    train_set, validation, _ = (s.to(device) for s in shape_sets(settings))
    parts = {name: getattr(settings, name).model_dump() for name in ("siren", "encoder", "hypernet")}
    model_description = {**parts, "channels": 3, "in_features": 3, "out_features": 1}
    record = {"settings": settings.model_dump(mode="json"), "model": model_description}
    torch.manual_seed(settings.seed)
    model = build(**model_description).to(device)
    training = {"seed": settings.seed, **settings.training.model_dump()}
    weights = settings.loss.model_dump()
    priors = {name: weights.pop(name) for name in ("latent", "weights")}
    task = Shapes(
        train_set,
        validation,
        batch_size=training.pop("batch_size"),
        target_points=training.pop("target_points"),
        poses=pose_arguments(settings),
        weights=weights,
        resolution=settings.resolution,
        **settings.context.model_dump(),
    )
    return HypernetObjective(model, task, autocast=training.pop("autocast"), **priors), record, training


def pose_arguments(settings: ShapeSettings) -> dict[str, Any]:
    """Arguments of `hypersiren.poses.random_poses`."""
    data = settings.data
    names = ("rotation", "scale", "stretch", "shift")
    return {**{name: getattr(data, name) for name in names}, "up": "xyz".index(data.up)}


def shape_sets(settings: ShapeSettings) -> "tuple[ShapeSet, ShapeSet, ShapeSet]":
    """Training, validation and test shapes; files that are left out are named."""
    from hypersiren.shape_sets import load_shapes

    data = settings.data
    sets = load_shapes(data.kind, data.root, count=data.count, seed=settings.seed)
    say_skipped(sets[0].skipped, "no closed meshes")
    return sets


def complete_test_shapes(model: "HyperSiren", settings: ShapeSettings, folder: Path, refine: int, most: int) -> None:
    """The table over test shapes, and over as many training shapes in new poses, and pictures of both."""
    from hypersiren.shape_completion import predictor, shape_table
    from hypersiren.signals import write_image
    from hypersiren.tasks.shapes import posed_shapes, rows_picture

    device = next(model.parameters()).device
    train_set, _, test_set = (s.to(device) for s in shape_sets(settings))
    poses = pose_arguments(settings)
    # Another seed than that of validation, so that no pose has been looked at before.
    sets = {
        f"{name}, {points} points": posed_shapes(shapes, points, min(most, len(test_set)), settings.seed + 1, **poses)
        for name, shapes in (("unseen shapes", test_set), ("training shapes in unseen poses", train_set))
        for points in settings.context.evaluation
    }
    known = posed_shapes(train_set, settings.context.most, len(train_set), settings.seed, **poses)
    table = shape_table(model, sets, settings.resolution, known, refine)
    print(table)
    (folder / "table.txt").write_text(f"{table}\n")
    numbers = {"errors": table.rows, "shapes": table.shapes}
    (folder / "metrics.json").write_text(json.dumps(numbers, indent=1) + "\n")
    for name, shapes in (("unseen", test_set), ("seen", train_set)):
        for points in settings.context.evaluation:
            shown = posed_shapes(shapes, points, 6, settings.seed + 1, **poses)
            picture = rows_picture(shown, predictor(model), settings.resolution, poses["up"])
            write_image(folder / f"{name}_{points}.png", picture)
    say(f"table and pictures in {folder}")


def complete_clouds(
    model: "HyperSiren",
    settings: ShapeSettings,
    files: Sequence[Path],
    folder: Path,
    context: int | None,
    resolution: int,
    seed: int,
    refine: int,
) -> None:
    """A mesh and a picture for each file of points, or each mesh."""
    import numpy as np

    from hypersiren.clouds import read_points
    from hypersiren.meshes import write_mesh
    from hypersiren.rendering import render, splats
    from hypersiren.shape_completion import complete_cloud
    from hypersiren.signals import write_image

    if resolution < 1 or (context is not None and context < 1):
        fail(f"expected --size and --context of at least 1, got {resolution} and {context}")
    if len({path.stem for path in files}) < len(files):
        fail("files of one name would overwrite each other's results; complete them one by one with --out")
    low, high = settings.data.scale
    device, up = next(model.parameters()).device, "xyz".index(settings.data.up)
    clouds = [read_points(path, count=20_000, seed=seed) for path in files]
    for path, cloud in zip(files, clouds, strict=True):
        found = complete_cloud(
            model,
            cloud,
            context=context or settings.context.most,
            resolution=resolution,
            size=(low * high) ** 0.5,
            seed=seed,
            refine_steps=refine,
            device=device,
        )
        target = folder / f"{path.stem}_completed.ply"
        write_mesh(target, found.mesh)
        seen = splats(found.context.x[0].cpu().numpy(), found.context.y[0].cpu().numpy())
        size = (450, 600)
        pictures = [render(seen, size, up=up), render(found.unit_mesh, size, up=up)]
        write_image(folder / f"{path.stem}_panel.png", np.concatenate(pictures, 1).astype(np.float32))
        print(target)
