"""The command `export`. Imports no torch before it must."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypersiren.cli.console import File, Out, check_files, choose_device, fail, make_folder
from hypersiren.cli.lines import LOG, announce, show
from hypersiren.training.folders import unused, write_text
from hypersiren.training.runs import find

if TYPE_CHECKING:
    from hypersiren.export.graphs import Field

ENDINGS = {"html": ".html", "onnx": ".onnx", "torch": ".pt2", "glsl": ".glsl"}


def export(
    run: File,
    picture: File | None = None,
    *,
    html: bool = False,
    onnx: bool = False,
    torch: bool = False,
    glsl: bool = False,
    context: int | None = None,
    samples: int = 4,
    out: Out | None = None,
) -> None:
    """Export a field for use without hypersiren: as a web page, ONNX, a program of torch.export, or a shader.

    Args:
        run: Run folder of `hypersiren fit`, or of `hypersiren train` on images, or a released model: faces.
        picture: File that a trained hypernetwork completes; the field is then the completion.
        html: One page for any browser that works offline: pan and zoom at any resolution, gradient and Laplacian,
            slices of videos and shapes, sounds to play, completions from few to all pixels.
        onnx: ONNX for any number of points; needs the extra `onnx`.
        torch: A program for any number of points that `torch.export.load` reads.
        glsl: A function of GLSL for shaders, of a SIREN of at most 20,000 weights; an image runs on Shadertoy as it is.
        context: Number of known random pixels of the picture, for --onnx, --torch and --glsl; the default is all.
        samples: Number of samples of each completion on the page, if the model predicts a distribution.
        out: File. The default is field with the ending .html, .onnx, .pt2 or .glsl in the run folder, and a
            number if that file exists.
    """
    wanted = {"html": html, "onnx": onnx, "torch": torch, "glsl": glsl}
    chosen = [name for name in ENDINGS if wanted[name]]
    if len(chosen) != 1:
        fail(f"expected one of --html, --onnx, --torch and --glsl, got {' and '.join(chosen) or 'none'}")
    [form] = chosen
    if samples < 0:
        fail(f"expected --samples of at least 0, got {samples}")
    if context is not None and (html or picture is None):
        fail("--context is for --onnx and --torch of a completed picture; a page has a slider")
    if out is not None and (out.suffix.lower() != ENDINGS[form] or not out.parent.is_dir()):
        fail(f"{out}: expected the ending {ENDINGS[form]}, in a folder that exists")
    find(run)
    check_files([picture] if picture else [])
    announce(f"export {run}")
    from hypersiren.hypernets.inpainter import Inpainter
    from hypersiren.hypernets.model import HyperSiren
    from hypersiren.training import checkpoints

    path = checkpoints.find(run)
    content = checkpoints.read(path)
    field = checkpoints.restore(content, choose_device("cpu"))
    folder = checkpoints.results_folder(path)
    if out is None:
        make_folder(folder)
    target = out or unused(folder / f"field{ENDINGS[form]}")[0]
    name = folder.resolve().name
    LOG.debug("writing %s", target)
    if isinstance(field, Inpainter):
        fail(f"{path}: no field to export; expected a fit, such as one of `hypersiren fit inpaint --start {run}`")
    if isinstance(field, HyperSiren):
        _completion(path, picture, form, target, name, context, samples)
    elif picture is not None:
        fail(f"{path}: a picture needs a run of `hypersiren train`, got a fitted field")
    elif html:
        from hypersiren.export.page import fit_page

        write_text(target, fit_page(field, checkpoints.playback(content), name))
    else:
        _graph(form, field, target, checkpoints.playback(content))
    show(target)


def _completion(
    checkpoint: Path, picture: Path | None, form: str, target: Path, name: str, context: int | None, samples: int
) -> None:
    from hypersiren.completion.images.photos import read_photo
    from hypersiren.completion.prediction import predicted
    from hypersiren.completion.train import open_run
    from hypersiren.export.page import completion_page

    opened = open_run(checkpoint, choose_device("cpu"))
    if opened.row.unit != "images":
        fail(f"{checkpoint}: `export` takes hypernetworks of images, got one of {opened.row.unit}")
    if picture is None:
        fail(f"{checkpoint}: a hypernetwork needs a picture to complete: hypersiren export {checkpoint.parent} PICTURE")
    side: Any = opened.settings.data.size
    h, w = (side, side) if isinstance(side, int) else side
    if context is not None and not 1 <= context <= h * w:
        fail(f"expected --context from 1 to {h * w}, got {context}")
    if form == "html":
        write_text(target, completion_page(opened.model, picture, (h, w), f"{name}: {picture.stem}", samples=samples))
        return
    photo = read_photo(picture, (h, w), opened.model.siren.out_features, context=context)
    about = {"kind": "image", "samples": [h, w]}
    _graph(form, predicted(opened.model, photo.context).signal(0), target, about)


def _graph(form: str, field: "Field", target: Path, about: dict[str, Any]) -> None:
    from hypersiren.export.graphs import write_onnx, write_torch
    from hypersiren.export.shader import write_glsl

    if form == "glsl":
        write_glsl(field, target)
        return
    (write_onnx if form == "onnx" else write_torch)(field, target, about)
