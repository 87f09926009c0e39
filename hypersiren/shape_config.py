"""Configuration of a hypernetwork over shapes: what a YAML file or a flag may say, with its defaults.

Pure description, as `hypersiren.config`; `configs/shapes/solids.yaml` spells out the same defaults.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.config import FullHypernet, HypoSiren, Loss, NotNegative, Section, SetEncoder, Share, Training

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
            raise ValueError("meshes need a root, the folder that holds them")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"the range of scale must ascend, got {list(self.scale)}")
        if (reach := RADIUS * self.scale[1] * self.stretch + self.shift) > 1:
            raise ValueError(f"with this scale, stretch and shift shapes leave the box, by up to {reach - 1:.2g}")
        return self


class ShapeContext(Section):
    """Which points of a shape the encoder sees."""

    fewest: PositiveInt = 20
    """Least number of points."""
    most: PositiveInt = 300
    """Largest number of points; the law is log-uniform."""
    evaluation: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (30, 300)
    """Numbers of points from which shapes are predicted when the model is judged."""

    @model_validator(mode="after")
    def _ordered(self) -> "ShapeContext":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class ShapeLoss(Loss):
    """Weights of the terms of the task `sdf`, and of the paper's priors on what is predicted."""

    on: NotNegative = 3e3
    """On the surface."""
    off: NotNegative = 1e2
    """Off the surface."""
    normal: NotNegative = 1e2
    """Of the normals."""
    eikonal: NotNegative = 5e1
    """Of the Eikonal equation."""
    side: NotNegative = 1e4
    """Of the right side of the surface."""


class ShapeTraining(Training):
    """The optimisation."""

    steps: PositiveInt = 2000
    """Optimiser updates."""
    batch_size: PositiveInt = 16
    """Shapes a step (before accumulation)."""
    optimizer: Literal["adam", "muon"] = "adam"
    """Adam for all weights, or Muon for the matrices and Adam for the others."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps over which the learning rate rises from 0."""
    ema: Share = 0.99
    """Decay of the averaged weights that are validated and saved; 0: the weights themselves."""
    target_points: Annotated[int, Field(ge=8)] | None = 256
    """Points of each shape a step, half of them on the surface, an eighth near it; null: 4096."""


class ShapeSettings(Section):
    """Everything that `hypersiren train` can be told of shapes."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes the split, initial weights, batches and contexts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    data: ShapeData = ShapeData()
    context: ShapeContext = ShapeContext()
    siren: HypoSiren = HypoSiren(hidden_features=128)
    encoder: SetEncoder = SetEncoder(hidden_features=128, activation="relu")
    hypernet: FullHypernet = FullHypernet(layers=2)
    loss: ShapeLoss = ShapeLoss()
    training: ShapeTraining = ShapeTraining()
    resolution: PositiveInt = 48
    """Cells along the longest side of the meshes by which the model is judged."""

    @model_validator(mode="after")
    def _fitting_layers(self) -> "ShapeSettings":
        layers = self.siren.hidden_layers + 2
        if self.hypernet.layers is not None and self.hypernet.layers > layers:
            raise ValueError(f"hypernet.layers ({self.hypernet.layers}) must not exceed the hypo-SIREN's {layers}")
        return self
