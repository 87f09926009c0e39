"""Configuration of the tasks on waves: helmholtz, wave, inversion. Pure description."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from hypersiren.fields.settings import Network
from hypersiren.settings.section import NotNegative, Section
from hypersiren.tasks.settings import FitSettings, FitTraining


class WaveTraining(FitTraining):
    """The optimisation."""

    points: PositiveInt = 2048
    """Random points in each step."""
    lr: PositiveFloat = 5e-4
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 40
    """Steps over which the learning rate rises from 0."""


class MediumSignal(Section):
    """The medium."""

    path: Path = Path("uniform")
    """uniform, square or circle (twice as fast inside); a NumPy file (.npy) of velocities (H, W); or a picture."""
    slowest: PositiveFloat = 1.0
    """Velocity where a picture is black."""
    fastest: PositiveFloat = 2.0
    """Velocity where a picture is white."""
    background: PositiveFloat | None = None
    """Velocity of the background in a file: 1500; null: the file has velocities relative to the background."""
    cells: Annotated[int, Field(ge=16)] = 384
    """Cells along each axis of the finite differences that give the reference solution."""


class FrequencySignal(MediumSignal):
    """The medium, waves of one frequency in it, and the layer along the border that absorbs them."""

    wavenumber: PositiveFloat = 20.0
    """Wavenumber k."""
    variance: PositiveFloat = 1e-4
    """Variance of a source, which is a Gaussian."""
    layer: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Width of the layer inside the border of [-1, 1]²."""
    absorption: NotNegative = 5.0
    """Strength of the layer, the paper's a0."""


class HelmholtzSignal(FrequencySignal):
    """The medium, one source in it, and the layer along the border that absorbs waves."""

    source: tuple[float, float] = (0.0, 0.0)
    """Position of the source."""


class ResidualLoss(Section):
    """How the residual of Helmholtz's equation is measured."""

    norm: Literal["l2", "l1"] = "l2"
    """Mean squares, or mean absolute values as in the paper."""
    balance: bool = True
    """Divide the residual by the magnitude of the layer's coefficient C, up to 26 in the corners; not in the paper."""
    near_field: NotNegative = 0.3
    """Radius around each source in which its peak is given in closed form; 0: all is learned, as in the paper."""
    source_weight: NotNegative = 1.0
    """Times the residual at a source; the paper has N / 1000."""
    source_points: Annotated[int, Field(ge=0)] = 0
    """Points of each step that are drawn around the sources."""


class HelmholtzSettings(FitSettings):
    """Solve Helmholtz's equation."""

    signal: HelmholtzSignal = HelmholtzSignal()
    loss: ResidualLoss = ResidualLoss()
    network: Network = Network(kind=None, hidden_features=96, hidden_layers=2, first_omega=20.0, numbers=None)
    training: WaveTraining = WaveTraining(lr=2e-3, decay="exponential")

    trained_steps: ClassVar[int] = 2000


class WaveSignal(MediumSignal):
    """The medium, and the initial pulse at rest."""

    source: tuple[float, float] = (0.0, 0.0)
    """Position of the pulse."""
    variance: PositiveFloat = 5e-4
    """Variance of the pulse, a Gaussian whose peak is 1."""
    duration: PositiveFloat = 0.4
    """Last time; the first is 0."""
    cells: Annotated[int, Field(ge=16)] = 768
    """Cells along each axis of the finite differences that give the reference solution, if the medium is not uniform;
    there the wave is known exactly."""


class WaveLoss(Section):
    """How the wave equation and its initial condition are measured."""

    norm: Literal["l2", "l1"] = "l2"
    """Mean squares, or mean absolute values as in the paper."""
    growth: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the training over which the range of times grows from a tenth; the paper's is 1."""
    exact_start: bool = True
    """Build the initial condition into the field; false: penalise it with the weights below, as in the paper."""
    values: NotNegative = 10.0
    """Times the error of the values at the start (Dirichlet)."""
    rates: NotNegative = 1.0
    """Times the error of their rates of change at the start (Neumann), in units of the pulse's own time."""
    start_points: PositiveInt = 1024
    """Points of each step at time 0, if the initial condition is penalised."""


class WaveSettings(FitSettings):
    """Solve the wave equation."""

    signal: WaveSignal = WaveSignal()
    loss: WaveLoss = WaveLoss()
    network: Network = Network(kind=None, hidden_features=128, hidden_layers=2, first_omega=40.0, numbers=None)
    training: WaveTraining = WaveTraining(points=4096, lr=4e-3, decay="exponential")

    trained_steps: ClassVar[int] = 2000


class InversionSignal(FrequencySignal):
    """Wavefields measured at receivers, or a medium to measure them in."""

    path: Path = Path("circle")
    """A file (.mat, .npz) with source (S, 2), receivers (R, 2), rec_val (K, R, S) and wavenumbers (K,); or a medium to
    simulate data in."""
    wavenumber: tuple[PositiveFloat, ...] | None = None  # type: ignore[assignment]
    """Wavenumbers: 2,3,4,6,8; null: those of the file, of the authors' 20, and 2,3,4,6,8,10,12 of simulated data."""
    cells: Annotated[int, Field(ge=16)] = 256
    """Cells along each axis of the finite differences that simulate data."""
    truth: Path | None = None
    """The true medium of measured data, if it is known; the result is compared with it."""
    start: Path = Path("uniform")
    """The medium that the search begins with, and that is known beyond a border: as a medium."""
    sources: PositiveInt = 5
    """Number of sources of simulated data, on a line."""
    receivers: Annotated[int, Field(ge=2)] = 30
    """Number of receivers of simulated data, along two sides."""
    noise: NotNegative = 0.0
    """Noise of the data, relative to their root mean square at each frequency: it is added to simulated data, and no
    data are met more closely."""

    @field_validator("wavenumber", mode="before")
    @classmethod
    def _wavenumber(cls, value: Any) -> Any:
        return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


class InversionLoss(ResidualLoss):
    """How the waves are found, how the misfit of the data is measured, and what is known of the medium."""

    waves: Literal["solved", "network"] = "solved"
    """solved: by finite differences in the network's medium, with the adjoint's gradient; network: by the network too,
    as in the paper, at one frequency."""
    velocities: tuple[PositiveFloat, PositiveFloat] = (0.7, 3.0)
    """solved: least and greatest velocity that the medium can have."""
    cells: Annotated[int, Field(ge=16)] | None = None
    """solved: cells along each axis; null: as many as each frequency needs."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.003
    """solved: a frequency is met, and the next one joins, when the misfit relative to the data is below this or, if it
    is larger, the noise."""
    near_field: NotNegative = 0.15
    """network: radius around each source in which its peak is given in closed form; 0: all is learned, as in the
    paper."""
    data: NotNegative = 1.0
    """Times the misfit at the receivers, relative to the data."""
    pretrain: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """network: share of the training, at its start, that solves for the wavefields in the background."""
    known_beyond: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Coordinate beyond which the medium is known; the paper has 0.75."""
    variation: NotNegative | None = None
    """Times the medium's total variation; not in the paper; 0 leaves it out. null: 5e-4 where waves are the network's;
    else 1.4e-2 for one frequency, and for more of them, which leave less open, 3.5e-3 divided by their number."""

    def prior(self, frequencies: int) -> float:
        """`variation`, or what is chosen."""
        if self.variation is not None:
            return self.variation
        if self.waves == "network":
            return 5e-4
        return 1.4e-2 if frequencies == 1 else 3.5e-3 / frequencies

    @model_validator(mode="after")
    def _check(self) -> Any:
        least, greatest = self.velocities
        if not least < greatest:
            raise ValueError(f"expected velocities in order, got {least:g} and {greatest:g}")
        ours = ("velocities", "cells", "tolerance")
        theirs = ("norm", "balance", "near_field", "source_weight", "source_points", "pretrain")
        for name in theirs if self.waves == "solved" else ours:
            if (given := getattr(self, name)) != type(self).model_fields[name].default:
                raise ValueError(f"expected no {name} where waves are {self.waves}, got {given}")
        return self


class InversionTraining(WaveTraining):
    """The optimisation."""

    optimizer: Literal["adam", "muon", "lbfgs"] = "adam"
    """Adam for all weights; muon for the matrices of 16 rows and columns or more and Adam for the others; or lbfgs."""
    points: PositiveInt = 2048
    """Random points in each step, where waves are the network's (`loss.waves`)."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 10
    """Steps over which the learning rate rises from 0."""
    log_every: PositiveInt = 10
    """Steps between TensorBoard scalars."""
    validate_every: PositiveInt = 100
    """Steps between validations, pictures and checkpoints; there is one after each frequency, too."""
    steps: PositiveInt | None = None  # type: ignore[assignment]
    """Optimiser updates at most; null: 500, or 250 and 50 for each frequency if that is more; 600 where waves are the
    network's."""


class InversionSettings(FitSettings):
    """Find a medium from wavefields that were measured around it."""

    signal: InversionSignal = InversionSignal()
    loss: InversionLoss = InversionLoss()
    network: Network = Network(hidden_features=64, hidden_layers=3, first_omega=10.0)
    training: InversionTraining = InversionTraining()

    trained_steps: ClassVar[int] = 600
