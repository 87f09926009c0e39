"""Settings of a set of shapes. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from hypersiren.settings.section import NotNegative, Section

SHAPE_KINDS = ("solids", "meshes")
"""Values of data.kind by which settings are those of shapes."""

RADIUS = 0.75
"""Distance of a shape's farthest point from the origin before its pose: room for stretching and shifting."""


class ShapeData(Section):
    """The set of shapes, and the poses in which they are shown."""

    kind: Literal["solids", "meshes"] = "solids"
    """solids: simple closed shapes that are made here; meshes: closed meshes in a folder."""
    root: Path | None = None
    """Folder of the meshes, .off .ply .obj .stl .glb."""
    count: Annotated[int, Field(ge=3)] = 72
    """How many solids to make, or at most so many meshes to take."""
    up: Literal["x", "y", "z"] = "z"
    """The axis that points upwards."""
    rotation: Literal["none", "vertical", "full"] = "vertical"
    """Turn each shape at random about the upward axis, or in any way."""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.0)
    """Range of its size."""
    stretch: Annotated[float, Field(ge=1)] = 1.2
    """Stretch or squeeze each axis by a factor of up to this."""
    shift: NotNegative = 0.05
    """Shift it along each axis by up to this."""

    @model_validator(mode="after")
    def _possible(self) -> "ShapeData":
        if self.kind == "meshes" and self.root is None:
            raise ValueError("meshes need a root, the folder that holds them: --data.root DIR")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"the range of scale must ascend, got {list(self.scale)}")
        if (reach := RADIUS * self.scale[1] * self.stretch + self.shift) > 1:
            raise ValueError(f"with this scale, stretch and shift shapes leave the box, by up to {reach - 1:.2g}")
        return self
