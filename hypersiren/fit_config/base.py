"""Configuration that every task of `hypersiren fit` has: the network and the optimisation. Pure description."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hypersiren.config import Optimisation, Section

Size = PositiveInt | tuple[PositiveInt, PositiveInt]
Known = Annotated[float, Field(gt=0, le=1)]


class Network(Section):
    """The field that is fitted."""

    kind: Literal["siren", "relu", "tanh", "softplus", "relu_pe", "relu_fourier", "rbf", "wire", "finer"] = "siren"
    """siren, or a baseline of as many weights."""
    hidden_features: PositiveInt = 256
    """Width of the SIREN; a baseline's is chosen so that it has as many weights."""
    hidden_layers: Annotated[int, Field(ge=0)] = 3
    """Layers between the first and the last."""
    first_omega: PositiveFloat | None = 30.0
    """Frequency factor of the first layer; null: chosen from the signal (audio)."""
    hidden_omega: PositiveFloat = 30.0
    """Frequency factor of the hidden layers."""


class FitTraining(Optimisation):
    """The optimisation."""

    steps: PositiveInt = 1000
    """Optimiser updates."""
    points: PositiveInt | None = 8192
    """Random points of the signal in each step; null: all of them, as in the paper."""
    first_lr: PositiveFloat | None = None
    """Times the learning rate, for the first layer; null: a SIREN's hidden_omega / first_omega, at most 1."""


class FitSettings(Section):
    """What every fit can be told."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initial weights and random points."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    network: Network = Network()
    training: FitTraining = FitTraining()
