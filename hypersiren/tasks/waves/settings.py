"""Configuration of the tasks on waves: helmholtz, wave, inversion. Pure description."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

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
    network: Network = Network(hidden_features=128, hidden_layers=2, first_omega=40.0)
    training: WaveTraining = WaveTraining(points=4096, lr=4e-3, decay="exponential")

    trained_steps: ClassVar[int] = 2000


class InversionSignal(FrequencySignal):
    """Wavefields measured at receivers, or a medium to measure them in."""

    path: Path = Path("circle")
    """A MATLAB file (.mat) with source (S, 2), receivers (R, 2) and rec_val (R, S); or a medium to simulate data in."""
    truth: Path | None = None
    """The true medium of measured data, if it is known; the result is compared with it."""
    sources: PositiveInt = 5
    """Number of sources of simulated data, on a line."""
    receivers: Annotated[int, Field(ge=2)] = 30
    """Number of receivers of simulated data, along two sides."""


class InversionLoss(ResidualLoss):
    """How the residual and the misfit of the data are measured."""

    near_field: NotNegative = 0.15
    """Radius around each source in which its peak is given in closed form; 0: all is learned, as in the paper."""
    data: NotNegative = 1.0
    """Times the misfit at the receivers, relative to the data."""
    pretrain: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training, at its start, that solves for the wavefields in the background."""
    known_beyond: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Coordinate beyond which the medium is known to be the background; the paper has 0.75."""
    variation: NotNegative = 5e-4
    """Times the medium's total variation; not in the paper; 0 leaves it out."""


class InversionSettings(FitSettings):
    """Find a medium from wavefields that were measured around it."""

    signal: InversionSignal = InversionSignal()
    loss: InversionLoss = InversionLoss()
    network: Network = Network(hidden_features=128, hidden_layers=2, first_omega=20.0)
    training: WaveTraining = WaveTraining()

    trained_steps: ClassVar[int] = 2000
