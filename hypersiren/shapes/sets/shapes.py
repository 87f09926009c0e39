"""Sets of shapes for a hypernetwork: surface points with normals, points near the surface, and sides, as tensors.

Each shape is closed; it lies around the origin, its farthest point `RADIUS` away. Everything about it is precomputed
once, so that training only gathers and poses. Sides are kept by sign, which no pose changes.

Symbols: M shapes, K points each, G grid points along an axis.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hypersiren.shapes.files.mesh import MESHES, read_closed
from hypersiren.shapes.mesh import sample_surface
from hypersiren.shapes.sets.settings import RADIUS
from hypersiren.shapes.sets.solids import solid_mesh
from hypersiren.shapes.sides import SIGMA, cosines, from_nearest
from hypersiren.signals.files import SignalError
from hypersiren.signals.sets.splits import SPLITS, say_equal, say_splits, split_folders

LOG = logging.getLogger(__name__)

POINTS = 8192
"""Points K that are kept of each shape, on its surface and near it."""

HELD_OUT = 0.15
"""Share of the shapes that each split has which has to be made."""

CELLS = 23
"""Cells along each axis of the grid of sides."""

HALF = 1.1 * RADIUS
"""The grid of sides spans [-HALF, HALF]^3; beyond it everything is outside."""

NamedMesh = tuple[str, Float[np.ndarray, "_V 3"], Int[np.ndarray, "_F 3"]]
"""A name, vertices and faces; the numbers of these may differ from mesh to mesh."""


@dataclass(frozen=True)
class ShapeSet:
    """M closed shapes.

    Attributes:
        names: What they are called.
        points, normals: On the surface, evenly by area, and the unit normals there.
        near, side: Points near the surface, and the cosine whose sign is that of the distance.
        height: On a grid over [-HALF, HALF]^3, axes x, y, z: how far a place is above the plane of its nearest surface
            point; the sign tells the side where it is well away from 0.
        skipped: Files that were left out, with the reason.
    """

    names: tuple[str, ...]
    points: Float[Tensor, "M K 3"]
    normals: Float[Tensor, "M K 3"]
    near: Float[Tensor, "M K 3"]
    side: Float[Tensor, "M K"]
    height: Float[Tensor, "M G G G"]
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def select(self, index: Sequence[int]) -> "ShapeSet":
        """Some of the shapes."""
        rows = torch.tensor(list(index), dtype=torch.long, device=self.points.device)
        return replace(self._map(lambda value: value[rows]), names=tuple(self.names[i] for i in index))

    def to(self, device: torch.device | str) -> "ShapeSet":
        """The same on a device."""
        return self._map(lambda value: value.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "ShapeSet":
        return replace(
            self,
            points=change(self.points),
            normals=change(self.normals),
            near=change(self.near),
            side=change(self.side),
            height=change(self.height),
        )


def load_shapes(
    kind: Literal["solids", "meshes"], root: str | Path | None = None, *, count: int = 72, seed: int = 0
) -> tuple[ShapeSet, ShapeSet, ShapeSet]:
    """Shapes to train on, to validate on and to test on: about 70, 15 and 15 %, no shape in two of them.

    Subfolders train, val and test are the splits, by these names and others like them (see
    `hypersiren.signals.sets.splits.NAMES`). Where one of val and test is missing, the other is the test split and val
    is 15 % of train, at random. Without train, or with nothing beside it, all meshes are split at random.

    Args:
        kind: "solids" that are made here, or "meshes" of a folder.
        root: That folder; subfolders count too.
        count: So many solids; at most so many meshes, a random choice.
        seed: Of the solids, the choice and the split.

    Raises:
        SignalError: If the folder holds fewer than three closed meshes that can be read, or a split none.
        DatasetError: If two folders are the same split.
    """
    skipped: list[str] = []
    held = max(1, round(HELD_OUT * count))
    if kind == "solids":
        pairs = [solid_mesh(i, seed) for i in range(count)]
        found = [(name, mesh.vertices, mesh.faces) for name, mesh in pairs]
        parts = _drawn(found, seed)
    elif root is None:
        raise SignalError("meshes need a root, the folder that holds them: --data.root DIR")
    else:
        root = Path(root)
        folders = split_folders(root) if root.is_dir() else {}
        if "train" not in folders or len(folders) < 2:
            parts = _drawn(_read_folder(root, root, count, seed, skipped, least=3), seed)
        elif len(folders) == 3:
            most = (count - 2 * held, held, held)
            parts = [
                _read_folder(root, root / folders[split], n, seed, skipped)
                for split, n in zip(SPLITS, most, strict=True)
            ]
        else:
            known = _read_folder(root, root / folders["train"], count - held, seed, skipped, least=2)
            cut = len(known) - max(1, round(HELD_OUT * len(known)))
            test = _read_folder(root, root / (folders.get("test") or folders["val"]), held, seed, skipped)
            parts = [known[:cut], known[cut:], test]
        names = {split: [name for name, *_ in part] for split, part in zip(SPLITS, parts, strict=True)}
        say_splits(root, folders, {split: len(part) for split, part in names.items()}, "meshes", HELD_OUT)
        say_equal(root, names)
    whole = make_shapes([mesh for part in parts for mesh in part], seed, skipped)
    cuts = (0, *accumulate(len(part) for part in parts))
    train, validation, test_set = (whole.select(range(a, b)) for a, b in pairwise(cuts))
    return train, validation, test_set


def _drawn(found: Sequence[NamedMesh], seed: int) -> list[list[NamedMesh]]:
    """Three splits at random."""
    order = [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
    held = max(1, round(HELD_OUT * len(order)))
    return [order[: -2 * held], order[-2 * held : -held], order[-held:]]


def make_shapes(
    meshes: Sequence[NamedMesh],
    seed: int = 0,
    skipped: Sequence[str] = (),
) -> ShapeSet:
    """A set of closed meshes."""
    rows = []
    for i, (_, vertices, faces) in enumerate(meshes):
        LOG.debug("sampling shape %d of %d", i + 1, len(meshes))
        rows.append(_pool(vertices, faces, np.random.default_rng((seed, i))))
    points, normals, near, side, height = (
        torch.from_numpy(np.stack(column).astype(np.float32)) for column in zip(*rows, strict=True)
    )
    names = tuple(name for name, _, _ in meshes)
    return ShapeSet(names, points, normals, near, side, height, tuple(skipped))


def _pool(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], generator: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Surface points, normals, near points, their sides, and the heights of the grid."""
    vertices = centred(vertices)
    points, normals = sample_surface(vertices, faces, POINTS, int(generator.integers(2**31)))
    near = points + SIGMA * generator.normal(size=(POINTS, 3))
    axis = np.linspace(-HALF, HALF, CELLS + 1)
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance, height = from_nearest(points, normals, np.concatenate([near, places]))
    side, grid = cosines(distance[:POINTS], height[:POINTS]), height[POINTS:].reshape((CELLS + 1,) * 3)
    return points, normals, near, side, grid


def centred(vertices: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Points moved and scaled: the middle of their box at the origin, the farthest of them `RADIUS` away."""
    moved = vertices - (vertices.min(0) + vertices.max(0)) / 2
    return moved * (RADIUS / np.linalg.norm(moved, axis=1).max())


def _read_folder(
    root: Path, folder: Path, count: int, seed: int, skipped: list[str], least: int = 1
) -> list[NamedMesh]:
    """At most so many closed meshes below a folder, a random choice; those that are left out are added to `skipped`."""
    if not folder.is_dir():
        raise SignalError("no such folder", folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MESHES and path.is_file())
    found: list[NamedMesh] = []
    before = len(skipped)
    for i in np.random.default_rng((seed, 1)).permutation(len(paths)):
        LOG.debug("reading meshes: %d of %d", len(found), min(count, len(paths)))
        name = str(paths[i].relative_to(root))
        try:
            found.append((name, *read_closed(paths[i])))
        except SignalError as error:
            skipped.append(f"{name}: {error.reason}")
        if len(found) == count:
            break
    if len(found) < least:
        listed = "".join(f"; {line}" for line in skipped[before : before + 3])
        many = f"at least {least} closed meshes" if least > 1 else "a closed mesh"
        raise SignalError(f"expected {many} ({', '.join(MESHES)}), got {len(found)}{listed}", folder)
    return found
