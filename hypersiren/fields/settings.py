"""Settings of the field that is fitted. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hypersiren.settings.section import Section


class Network(Section):
    """The field that is fitted."""

    kind: Literal["siren", "relu", "tanh", "softplus", "relu_pe", "relu_fourier", "rbf", "wire", "finer"] = "siren"
    """siren, or a baseline of as many weights."""
    hidden_features: PositiveInt = 256
    """Width of the SIREN; a baseline's is chosen so that it has as many weights."""
    hidden_layers: Annotated[int, Field(ge=0)] = 3
    """Layers between the first and the last."""
    first_omega: PositiveFloat | None = 30.0
    """Frequency factor of the first layer; null: chosen from the signal (image, audio)."""
    hidden_omega: PositiveFloat = 30.0
    """Frequency factor of the hidden layers."""
