"""Configuration of the task on shapes: sdf. Pure description."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.fields.settings import Network
from hypersiren.settings.section import NotNegative, Section
from hypersiren.tasks.settings import FitSettings, FitTraining


class SDFTerms(Section):
    """Weights of the terms. The first four are the paper's (section 4.2)."""

    on: NotNegative = 3e3
    """Times mean |s| on the surface."""
    off: NotNegative = 1e2
    """Times mean exp(-100 |s|) off the surface."""
    normal: NotNegative = 1e2
    """Times mean 1 - cos(gradient, normal) on the surface."""
    eikonal: NotNegative = 5e1
    """Times mean | |gradient| - 1 | everywhere."""
    side: NotNegative = 1e4
    """Times mean of -s where it has the wrong sign, by the nearest normal; not in the paper; 0 leaves it out."""


class ShapeSignal(Section):
    """The shape."""

    path: Path = Path("knot")
    """Oriented points (.xyz, .txt, .csv, .asc, .pts, .ply, .pcd, .npy, .npz) or a mesh (.ply, .obj, .stl, .off, .glb);
    knot: a synthesised tube along a trefoil."""
    count: Annotated[int, Field(ge=100)] = 500_000
    """Points to sample on a mesh."""
    vertices: bool = False
    """Take the vertices of a .ply as points even if it has faces."""
    sensor: tuple[float, float, float] | Literal["outwards"] | None = None
    """Position of the sensor that saw points without normals, in their units; outwards: normals point away from an
    object; null: the position in a .pcd (the origin only if it lies amid the points), else outwards."""
    columns: str | None = None
    """Names of a table's columns: x,y,z,nx,ny,nz or x,y,z,r,g,b, and - for others; null: those in the file."""
    reach: tuple[NotNegative, PositiveFloat] | None = None
    """Keep only points within these distances from the sensor, in their units: [0.5, 5]; null: all."""
    points_kept: Annotated[int, Field(ge=100)] | None = None
    """Keep at most so many points of a cloud, spread evenly; null: all."""
    outliers: Literal["keep", "drop"] = "keep"
    """drop: leave out points that lie more than ten times as far from the middle as 99 % of them."""
    trim: PositiveFloat | None = None
    """For an open scan: cut meshes at this distance from the points, as a share of their longest side: 0.02."""
    up: Literal["x", "y", "z"] = "z"
    """The axis that points upwards in pictures."""
    colours: bool = False
    """Fit the colours of the points, or of a mesh's vertices, too: the field has four channels, its mesh colours."""
    resolution: PositiveInt = 96
    """Cells along the longest side of the mesh at each validation; `hypersiren mesh` makes finer ones."""


class SDFLoss(SDFTerms):
    """Weights of the terms, and the points at which they are evaluated."""

    near: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the points off the surface that is near it; not in the paper."""
    colour: NotNegative = 1e2
    """Times mean |c - colour| on the surface, in [-1, 1]; used with signal.colours."""


class SDFSettings(FitSettings):
    """Fit a signed distance function to oriented points or a mesh."""

    signal: ShapeSignal = ShapeSignal()
    loss: SDFLoss = SDFLoss()
    network: Network = Network(kind=None, numbers=None)
    training: FitTraining = FitTraining(points=4096, optimizer="adam", lr=5e-4, warmup=20, clip=1.0)

    @model_validator(mode="after")
    def _used(self) -> "SDFSettings":
        if not self.signal.colours and self.loss.colour != SDFLoss().colour:
            raise ValueError(f"loss.colour: expected none without signal.colours, got {self.loss.colour:g}")
        return self
