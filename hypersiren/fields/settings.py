"""Settings of the field that is fitted. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hypersiren.settings.section import Section

Kind = Literal["siren", "relu", "tanh", "softplus", "relu_pe", "relu_fourier", "rbf", "wire", "finer", "windowed"]

WHOLE = ("hidden_features", "hidden_layers", "hidden_omega")
"""Settings of fields that are one for the whole signal."""

WINDOWS = ("numbers", "window", "overlap", "smoothness", "noise")
"""Settings of windows."""


class Network(Section):
    """The field that is fitted."""

    kind: Kind | None = "siren"
    """siren, one for the whole signal; a baseline of as many weights; or windowed, small SIRENs that overlap, solved in
    closed form (image, poisson, audio, video, sdf, helmholtz, wave). null: windowed, unless a width, a depth or
    hidden_omega is given."""
    hidden_features: PositiveInt = 256
    """Width of the SIREN; a baseline's is chosen so that it has as many weights."""
    hidden_layers: Annotated[int, Field(ge=0)] = 3
    """Layers between the first and the last."""
    first_omega: PositiveFloat | None = 30.0
    """Frequency factor of the first layer; null: chosen from the signal (image, audio)."""
    hidden_omega: PositiveFloat = 30.0
    """Frequency factor of the hidden layers."""
    numbers: PositiveFloat | None = 1.15
    """windowed: numbers of the field for each value of the signal; null: as many as waves or a shape
    need. A point with its normal has 4 values."""
    window: Annotated[int, Field(ge=2)] | None = None
    """windowed: samples of a window along its longest axis; null: 32 pixels, 1000 samples of a sound, 8 cells of a
    shape, or as small as waves need."""
    overlap: Annotated[float, Field(gt=0, le=0.5)] | None = None
    """windowed: share of a window that it gives to each neighbour; null: about a tenth, less for sounds, a quarter
    for shapes."""
    smoothness: Annotated[float, Field(ge=0)] | None = None
    """windowed: the prior's standard deviation falls with frequency to this power, so that the field does not ring
    between samples; null: 2.5 for images, 2 for videos and shapes, 0.5 for sounds."""
    noise: PositiveFloat | None = None
    """windowed: variance of the noise, relative to that of the prior at frequency 0; null: 1e-8, 1e-7, 1e-6, for shapes
    1e-6."""

    def chosen(self, windows: bool, defaults: "Network | None" = None) -> Kind:
        """The kind, chosen where it is null: windowed where the task solves `windows` and no width or depth is given
        that differs from the task's `defaults`.

        Example:
            >>> Network(kind=None).chosen(True), Network(kind=None, hidden_features=64).chosen(True)
            ('windowed', 'siren')
        """
        if self.kind is not None:
            return self.kind
        before = defaults or type(self)()
        own = any(getattr(self, name) != getattr(before, name) for name in WHOLE)
        return "windowed" if windows and not own else "siren"
