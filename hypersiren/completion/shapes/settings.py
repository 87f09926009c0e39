"""Settings of `hypersiren train` on shapes. Imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.completion.settings import Loss, SetSettings, Training
from hypersiren.hypernets.settings import HypoSiren, LastLayerSolve, NoAdapter, NoEncoder, Prior, SetEncoder
from hypersiren.settings.section import Section
from hypersiren.shapes.sets.settings import ShapeData
from hypersiren.tasks.shapes.settings import SDFTerms


class ShapeContext(Section):
    """Which points of a training shape are known."""

    fewest: PositiveInt = 20
    """Least number of points."""
    most: PositiveInt = 300
    """Largest number of points; numbers are drawn log-uniformly."""
    evaluation: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (30, 300)
    """Numbers of known points at which the model is evaluated."""

    @model_validator(mode="after")
    def _ordered(self) -> "ShapeContext":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class ShapeLoss(Loss, SDFTerms):
    """Weights of the terms of the task `sdf`, and of the paper's priors on the prediction."""


class ShapeTraining(Training):
    """The optimisation."""

    steps: PositiveInt = 10
    """Optimiser updates, from the prior on where there is one."""
    batch_size: PositiveInt = 4
    """Batch size: shapes of a step, before accumulation."""
    target_points: Annotated[int, Field(ge=8)] | None = 256
    """Points of each shape in a step, half of them on the surface, an eighth near it; null: 4096."""


class SurfaceSolve(LastLayerSolve):
    """The last layer is solved from points and normals under a prior taken from the training shapes."""

    noise: PositiveFloat = 3e-6
    """Variance of the error of a distance at 100 known points, for shapes within [-1, 1]."""
    slope: float = 0.0
    """The noise is multiplied by (N / 100) to this power: N points are known, or fewer that are spread as widely."""
    double: bool = True
    """Solve in float64."""
    length: PositiveFloat = 0.05
    """The error of a distance that an error of 1 in a normal counts for."""


ShapeAdapter = Annotated[SurfaceSolve | NoAdapter, Field(discriminator="kind")]
"""The sections of the adapters for shapes; `kind` says which."""

ShapeEncoder = Annotated[NoEncoder | SetEncoder, Field(discriminator="kind")]
"""The sections of the encoders for shapes; `kind` says which."""


class ShapeSettings(SetSettings):
    """Settings of `hypersiren train` on shapes."""

    data: ShapeData = ShapeData()
    context: ShapeContext = ShapeContext()
    siren: HypoSiren = HypoSiren(hidden_features=(256, 1024), first_omega=15.0, hidden_omega=12.0)
    encoder: ShapeEncoder = NoEncoder()
    adapter: ShapeAdapter = SurfaceSolve()
    prior: Prior = Prior(shrinkage=0.1, copies=11)
    loss: ShapeLoss = ShapeLoss()
    training: ShapeTraining = ShapeTraining()
    resolution: PositiveInt = 48
    """Cells along the longest side of the meshes at which the model is evaluated."""
