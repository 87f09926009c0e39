"""The command `complete`. Imports no torch before it must."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from hypersiren.cli.console import File, Out, check_least, choose_device, fail, make_folder, print_next, report_skipped
from hypersiren.cli.lines import LOG, show
from hypersiren.training.folders import check_folder, sign

if TYPE_CHECKING:
    from hypersiren.training.hypernet import SetRun


EXAMPLES = {"images": "photo.jpg", "shapes": "cloud.ply", "sounds": "speech.wav"}
"""A file of a person's own, by what a run is of."""


def complete(
    run: File,
    *files: File,
    context: int | None = None,
    mask: File | None = None,
    size: int = 256,
    extent: float = 1.0,
    interpolate: int | None = None,
    refine: int = 0,
    samples: int | None = None,
    share: float | None = None,
    gap: float | None = None,
    out: Out | None = None,
    seed: int = 0,
    baseline_images: int = 100,
    device: str = "auto",
) -> None:
    """Complete images, shapes or sounds with a trained run: the table over the test set, or files of your own.

    Args:
        run: Run folder of `hypersiren train`, a checkpoint, or the name of a model that comes with hypersiren: faces,
            natural.
        files: Pictures to complete, files of points (or meshes) if the run is one of shapes, recordings if it is one of
            sounds; without any, the completion table of the test set.
        context: Known random pixels of each picture, counted at the model's resolution; by default 100, or all that a
            mask leaves, or all to interpolate. Of shapes: random points.
        mask: Mask image of the picture's size: known where it is bright. Of a recording: a sound file of its length,
            known where it is not 0.
        size: Height of the completed picture in pixels; cells along the longest side of a mesh.
        extent: Look beyond the picture: coordinates reach from -extent to extent.
        refine: Fit each predicted field further to its known pixels, so many steps (50 is a good number; for shapes
            200).
        interpolate: With two pictures: so many steps from one to the other in latent space; of a model without an
            encoder, a cross-fade of weights.
        samples: Draw so many samples of what each picture may be, if the model knows what is still open; without
            pictures, so many of test images.
        share: Known random share of the samples of each recording; by default 0.25, or all that --mask or --gap leave.
        gap: Milliseconds of a recording that are lost in every window.
        out: Folder for the results; by default `completion` in the run folder. Results for files never overwrite
            others: they get a number.
        seed: Fixes the choice of random pixels.
        baseline_images: Test images that the (slow) baselines are measured on; at most so many test shapes, or windows
            of sound, are used.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    asked = {
        "context": context,
        "mask": mask,
        "interpolate": interpolate,
        "extent": None if extent == 1 else extent,
        "samples": samples,
        "share": share,
        "gap": gap,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    if not files and (only := [f"--{name}" for name in given if name not in ("extent", "samples")]):
        fail(f"{only[0]} needs a picture, points or a recording to complete")
    check_least(0, seed=seed, refine=refine)
    check_least(1, baseline_images=baseline_images, size=size, context=context, samples=samples)
    if not 0 < extent < math.inf:
        fail(f"expected --extent above 0, got {extent:g}")
    if refine and interpolate is not None:
        fail("--refine and --interpolate exclude each other: between two pictures there is nothing to fit to")
    LOG.info(f"complete {run}: loading PyTorch")
    from hypersiren.training.checkpoints import results_folder

    opened = open_run(run, device)
    changed = {"refine": refine, "images": 0 if baseline_images == 100 else baseline_images}
    name = "-".join(["completion", *(f"{key}{value}" for key, value in changed.items() if value and not files)])
    folder = out or results_folder(opened.checkpoint) / name
    if out and not files:
        check_folder(out)
    study = opened.row.load_study()
    if wrong := [f"--{name}" for name in given if name not in study.OPTIONS]:
        fail(f"{wrong[0]} is not for {opened.row.unit}; {opened.checkpoint} is a run of {opened.row.unit}")
    make_folder(folder)
    if files:
        for made in study.complete_files(opened, files, folder, size=size, seed=seed, refine=refine, **given):
            show(made)
        return
    wanted = {} if samples is None else {"samples": samples}
    sign(folder, "table")
    table, skipped = study.complete_test(opened, folder, most=baseline_images, refine=refine, **wanted)
    report_skipped(skipped)
    show(table)
    LOG.info(f"table and pictures in {folder}")
    print_next("complete", run, EXAMPLES[opened.row.unit])


def open_run(run: Path, device: str) -> "SetRun":
    """A run of `train`: its model, its settings, and where they are from."""
    from hypersiren.training.hypernet import open_run

    return open_run(run, choose_device(device))
