"""The command `complete`. Imports no torch before it must."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from hypersiren.cli.console import (
    File,
    Out,
    check_files,
    check_least,
    choose_device,
    fail,
    make_folder,
    print_next,
    report_skipped,
)
from hypersiren.cli.lines import LOG, announce, show
from hypersiren.training.folders import check_folder, sign
from hypersiren.training.runs import find

if TYPE_CHECKING:
    from hypersiren.completion.train import SetRun


EXAMPLES = {"images": "photo.jpg", "photographs": "photo.jpg", "shapes": "cloud.ply", "sounds": "speech.wav"}
"""A user's file, by the signals of a run."""


def complete(
    run: File,
    *files: File,
    context: str | None = None,
    mask: File | None = None,
    size: int | None = None,
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
    task: Annotated[Any, Parameter(parse=False)] = None,
) -> None:
    """Complete your images, shapes or sounds with a trained run, or evaluate it on its test set.

    Args:
        run: Run folder of `hypersiren train`, a checkpoint, or the name of a model that hypersiren ships: faces or
            photographs.
        files: Pictures to complete; for a run on shapes, files of points or meshes; for one on sounds, recordings.
            Without files, the test set is evaluated and the completion table printed.
        context: Number of known random pixels of each picture, at the model's resolution, or a share of them such as
            10%. The default is 100, of photographs 10%; with --mask, or to interpolate, all. For shapes, the number of
            random points.
        mask: Mask image of the picture's size; bright pixels are known. For a recording, a sound file of its length;
            samples that are not 0 are known.
        size: Height of the completed picture in pixels; for a mesh, cells along the longest side. The default is 256; a
            photograph keeps its own size.
        extent: Show the field on [-extent, extent], beyond the picture.
        refine: Number of steps that fit each predicted field further to its known pixels; 50 is a good number, 200 for
            shapes.
        interpolate: Number of steps in latent space from the first of two pictures to the second. Without an encoder,
            the weights are cross-faded.
        samples: Number of samples drawn of each picture or recording, if the model predicts a distribution. Without
            files, test images, or test windows of sound, are sampled.
        share: Random share of the samples of each recording that is known. The default is 0.25; with --mask or --gap,
            all that they leave.
        gap: Milliseconds that are missing in every window of a recording.
        out: Folder for the results. The default is `completion` in the run folder. Results for files never overwrite
            others: they get a number.
        seed: Fixes the choice of random pixels, points or samples that are known, and the samples drawn.
        baseline_images: Number of test images on which the slow baselines are evaluated; the largest number of test
            shapes, or windows of sound, that are used.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
        task: That of the run, from Python, where its sets are read already.
    """
    known = None if context is None else read_context(context)
    options = {
        "context": known,
        "mask": mask,
        "interpolate": interpolate,
        "extent": None if extent == 1 else extent,
        "samples": samples,
        "share": share,
        "gap": gap,
    }
    given = {name: value for name, value in options.items() if value is not None}
    if not files and (only := [f"--{name}" for name in given if name not in ("extent", "samples")]):
        fail(f"{only[0]} needs a picture, points or a recording to complete")
    check_least(0, seed=seed, refine=refine)
    check_least(1, baseline_images=baseline_images, size=size, samples=samples)
    if not 0 < extent < math.inf:
        fail(f"expected --extent above 0, got {extent:g}")
    if refine and interpolate is not None:
        fail("--refine and --interpolate exclude each other: between two pictures there is nothing to fit to")
    find(run)
    check_files([*files, *([mask] if mask else [])])
    announce(f"complete {run}")
    from hypersiren.completion.complete import complete_files, complete_test
    from hypersiren.training.checkpoints import results_folder

    opened = open_run(run, device)
    changed = {"refine": refine, "images": 0 if baseline_images == 100 else baseline_images}
    name = "-".join(["completion", *(f"{key}{value}" for key, value in changed.items() if value and not files)])
    folder = out or results_folder(opened.checkpoint) / name
    if out and not files:
        check_folder(out)
    if wrong := [f"--{name}" for name in given if name not in opened.row.load_study().OPTIONS]:
        fail(f"{wrong[0]} is not for {opened.row.unit}; {opened.checkpoint} is a run of {opened.row.unit}")
    make_folder(folder)
    if files:
        for made in complete_files(opened, files, folder, size=size, seed=seed, refine=refine, **given):
            show(made)
        return
    sign(folder, "table")
    table, skipped = complete_test(opened, folder, most=baseline_images, refine=refine, samples=samples, task=task)
    report_skipped(skipped)
    show(table)
    LOG.info(f"table and pictures in {folder}")
    print_next("complete", run, EXAMPLES[opened.row.unit])


def read_context(text: str) -> int | float:
    """How many points are known, or their share, above 0 and below 1, as people write them: 100, 10%.

    Example:
        >>> read_context("100"), read_context("10%")
        (100, 0.1)
    """
    try:
        if text.endswith("%"):
            share = float(text[:-1]) / 100
            return share if 0 < share < 1 else fail(f"expected --context above 0% and below 100%, got {text}")
        number = int(text)
    except ValueError:
        fail(f'expected --context such as 100 or 10%, got "{text}"')
    check_least(1, context=number)
    return number


def open_run(run: Path, device: str) -> "SetRun":
    """A run of `train`: its model, its settings, and where they are from."""
    from hypersiren.completion.train import open_run

    return open_run(run, choose_device(device))
