"""The command `hypersiren mesh`: the surface of a fitted signed distance function. Imports no torch before it must."""

import time

from hypersiren.cli.console import File, Out, check_files, check_least, choose_device, fail
from hypersiren.cli.lines import LOG, announce, progress, show
from hypersiren.training.display import bar_size
from hypersiren.training.folders import unused
from hypersiren.training.runs import find


def mesh(
    run: File,
    *,
    size: int = 256,
    faces: int | None = None,
    out: Out | None = None,
    view: tuple[float, float] = (35.0, 20.0),
    truth: File | None = None,
    device: str = "auto",
) -> None:
    """Mesh the surface of a fitted shape in the units of its input, and draw it.

    The field is evaluated only where the surface can be: the cost grows with the surface, not with the volume.

    Args:
        run: Run folder of `hypersiren fit sdf`.
        size: Cells along the longest side.
        faces: Triangles of the mesh, fewer than the cells give; needs fast-simplification, of the extra mesh. The
            default is all.
        out: File .ply, .obj or .glb; a picture .png is written beside it. The default is mesh.ply in the run folder,
            with preview.png, and a number if one of them exists.
        view: Direction of the camera in degrees: around the upward axis, and above the horizon.
        truth: File of the true mesh, or of points with normals, in the same units; the errors of the surface are
            printed.
        device: cpu, cuda, ...; auto: an accelerator if there is one.
    """
    if out is not None and (out.suffix.lower() not in (".ply", ".obj", ".glb") or not out.parent.is_dir()):
        fail(f"{out}: expected the ending .ply, .obj or .glb, in a folder that exists")
    if out is not None and truth is not None and truth.exists() and out.exists() and out.samefile(truth):
        fail(f"{out}: would overwrite --truth")
    check_least(1, size=size)
    find(run)
    check_files([truth] if truth else [])
    check_least(4, faces=faces)
    announce(f"mesh {run}")
    import numpy as np
    from tqdm import tqdm

    from hypersiren.shapes.cloud import read_points
    from hypersiren.shapes.decimation import check_decimation, decimate
    from hypersiren.shapes.files.mesh import write_mesh
    from hypersiren.shapes.mesh import components, is_watertight
    from hypersiren.shapes.metrics import mesh_errors
    from hypersiren.shapes.picture import render_mesh
    from hypersiren.shapes.surface import Placement, coloured, surface
    from hypersiren.signals.image.files import write_image
    from hypersiren.training import checkpoints

    if faces is not None:
        check_decimation()
    reference = None if truth is None else read_points(truth, count=100_000, seed=1)
    place = choose_device(device)
    path = checkpoints.find(run)
    content = checkpoints.read(path)
    shape = checkpoints.playback(content).get("shape")
    if shape is None:
        fail(f"{path}: expected a fitted shape (hypersiren fit sdf)")
    placement = Placement(**shape)
    field = checkpoints.restore(content, place)
    LOG.debug("meshing")
    started = time.perf_counter()
    shape_of_bar = "{desc} {percentage:3.0f}%|{bar}| {elapsed}"
    with tqdm(total=1.0, desc="meshing", bar_format=shape_of_bar, disable=not progress(), **bar_size()) as bar:

        def move(share: float) -> None:
            bar.n = share
            bar.refresh()

        found = surface(field, placement, size, device=place, progress=move)
    shown = found.mesh
    if faces is not None:
        LOG.info(f"decimating {len(shown.faces):,} faces to {faces:,}")
        shown = decimate(shown, faces, field, place)
    shown = coloured(shown, field, place)
    seconds = time.perf_counter() - started
    default = unused(path.parent / "mesh.ply", path.parent / "preview.png")
    target, picture = (out, unused(out.with_suffix(".png"))[0]) if out else default
    made = shown.moved(placement.scale, np.array(placement.centre))
    write_mesh(target, made)
    LOG.debug("drawing the preview")
    write_image(picture, render_mesh(shown, view=view, up=placement.up))
    LOG.info(f"{target}")
    LOG.info(f"{picture}")
    LOG.debug("looking for holes and parts")
    show(f"vertices         {len(shown.vertices)}")
    show(f"faces            {len(shown.faces)}")
    show(f"watertight       {'yes' if is_watertight(shown) else 'no'}")
    show(f"components       {components(shown)}")
    show(f"evaluations      {found.evaluations} ({100 * found.evaluations / found.dense:.2f} % of the dense grid)")
    show(f"seconds          {seconds:.1f}")
    if reference is not None:
        points = reference.scale * reference.points.astype(float) + reference.centre
        errors = mesh_errors(made, points, reference.normals, np.ptp(points, axis=0))
        show(f"chamfer_l1       {errors['chamfer_l1']:.4g} % of the diagonal")
        show(f"f_score          {errors['f_score']:.4g} at 1 % of the diagonal")
        show(f"normals          {errors['normal_consistency']:.4g} consistency")
        show(f"median           {errors['median']:.4g} % of the longest side, from the true points to the surface")
