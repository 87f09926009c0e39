"""Settings of encoders, hypernetworks and the hypo-SIREN. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.settings.section import NotNegative, Section, Share


class HypoSiren(Section):
    """The hypo-SIREN, the network whose weights are predicted."""

    hidden_features: PositiveInt | Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 1536)
    """Width, or a width for each sine layer."""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """Sine layers after the first, where one width is given; the paper's has 3."""
    first_omega: PositiveFloat = 30.0
    """Frequency factor of the first layer (omega_0, w0)."""
    hidden_omega: PositiveFloat = 15.0
    """Frequency factor of the hidden layers; the paper's is 30."""

    @property
    def layers(self) -> int:
        """Linear layers."""
        widths = self.hidden_features
        return self.hidden_layers + 2 if isinstance(widths, int) else len(widths) + 1


class SetEncoder(Section):
    """The paper's set encoder: an MLP on each (coordinate, value), then the mean."""

    kind: Literal["set"] = "set"
    """The encoder's name: a set encoder."""
    latent_features: PositiveInt = 256
    """Features of the latent z."""
    hidden_features: PositiveInt = 256
    """Width of the MLP."""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """Layers between the first and the last."""
    activation: Literal["sine", "relu"] = "sine"
    """Activation after every layer."""
    omega: PositiveFloat = 30.0
    """Frequency factor of the sines."""


class ConvEncoder(Section):
    """Our strided CNN on the context filled by normalised convolution, beside a regression on learned functions."""

    kind: Literal["conv"] = "conv"
    """The encoder's name: our strided CNN."""
    latent_features: PositiveInt = 256
    """Features of the latent z."""
    widths: Annotated[tuple[Annotated[int, Field(gt=0, multiple_of=8)], ...], Field(min_length=1)] = (32, 64, 128)
    """Features at half, quarter ... resolution."""
    pool: PositiveInt = 4
    """Cells along each axis of the last feature map."""
    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.7, 1.5, 3.0, 6.0, 12.0)
    """Scales of the normalised convolution, in pixels."""
    basis: Annotated[int, Field(ge=0)] = 128
    """Learned basis functions that the context is regressed on in closed form; 0: none."""


class PaperConvEncoder(Section):
    """The paper's CNN at full resolution, or its partial-convolution variant."""

    kind: Literal["paper_conv"] = "paper_conv"
    """The encoder's name: the paper's CNN."""
    latent_features: Annotated[int, Field(ge=2)] = 256
    """Features of the latent z and of the network."""
    size: tuple[PositiveInt, PositiveInt] = (32, 32)
    """Size of the learned map of position weights."""
    mask_channel: bool = True
    """Give the mask as an input channel; the paper's code does not."""
    partial: bool = False
    """Partial convolutions."""


class TokenEncoder(Section):
    """A U-Net that gives tokens with a place; the hypo-SIREN is then a LocalSiren, its phases shifted by them."""

    kind: Literal["tokens"] = "tokens"
    """The encoder's name: tokens with a place. Section `hypernet` is not used."""
    token_size: tuple[PositiveInt, PositiveInt] = (16, 16)
    """Tokens along height and width: the image's pixels divided by the stride."""
    token_features: PositiveInt = 32
    """Numbers of each token."""
    stride: Annotated[int, Field(gt=1, multiple_of=2)] = 2
    """2, 4 ...: pixels along a cell of the last feature map."""
    widths: Annotated[tuple[Annotated[int, Field(gt=0, multiple_of=8)], ...], Field(min_length=1)] = (64, 96, 128)
    """Features at half, quarter ... resolution."""
    sigmas: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.7, 1.5, 3.0, 6.0, 12.0)
    """Scales of the normalised convolution, in pixels."""
    radius: PositiveFloat = 0.5
    """Range of a token as a share of the distance between tokens."""

    @model_validator(mode="after")
    def _reached(self) -> "TokenEncoder":
        strides = [2 ** (i + 1) for i in range(len(self.widths))]
        if self.stride not in strides:
            raise ValueError(f"expected a stride of {strides}, one for each width, got {self.stride}")
        return self


class FullHypernet(Section):
    """The hypernetwork: predicts weights of the hypo-SIREN from z."""

    kind: Literal["full"] = "full"
    """The hypernetwork's name: it predicts whole tensors."""
    layers: PositiveInt | None = 1
    """Number of last layers that are predicted; all signals share the trained others. null: all, as in the paper."""
    hidden_features: PositiveInt = 256
    """Width of its MLPs."""
    hidden_layers: Annotated[int, Field(ge=0)] = 0
    """Hidden layers of its MLPs; the paper has 2."""
    trunk: Literal["separate", "shared"] = "shared"
    """separate: one MLP for each tensor of the hypo-SIREN (paper); shared: hidden layers shared by all."""


class NoEncoder(Section):
    """No encoder and no hypernetwork: the last layer is solved from the context alone."""

    kind: Literal["none"] = "none"
    """The encoder's name: none."""


class NoAdapter(Section):
    """No adapter: the predicted weights are used as they are, as in the paper."""

    kind: Literal["none"] = "none"
    """The adapter's name: none."""


class LastLayerSolve(Section):
    """The last layer is solved from the context under a prior taken from the training signals."""

    kind: Literal["solve"] = "solve"
    """The adapter's name: the last layer is solved."""
    noise: PositiveFloat = 1e-3
    """Variance of the noise at 100 known points, for values in [-1, 1]."""
    slope: float = -1.0
    """The noise is multiplied by (N / 100) to this power: N points are known, or fewer that are spread as widely."""
    learned: bool = True
    """Train the prior (mean, covariance, noise) and the SIREN's hidden layers; not beside a correction."""
    double: bool = False
    """Solve in float64."""


class GradientSteps(Section):
    """A latent fitted to the context by gradient descent, from zero or from the encoder's latent."""

    kind: Literal["gradient"] = "gradient"
    """The adapter's name: gradient steps. Without an encoder the hypo-SIREN is a LocalSiren with these tokens."""
    steps: PositiveInt = 3
    """Gradient steps for each prediction."""
    step_size: PositiveFloat = 10.0
    """Initial step size of every entry; it is learned."""
    token_size: tuple[PositiveInt, PositiveInt] = (1, 1)
    """Without an encoder: tokens along height and width; [1, 1] is one latent for the whole signal, as in Functa."""
    token_features: PositiveInt = 256
    """Without an encoder: numbers of each token."""


class MixtureSolve(Section):
    """The last layer is solved from the context under several priors taken from clusters of training signals."""

    kind: Literal["mixture"] = "mixture"
    """The adapter's name: the last layer is solved under a mixture of priors."""
    priors: PositiveInt = 32
    """Number of priors, one for each cluster of power spectra."""
    rank: PositiveInt | None = None
    """Leading axes that each prior keeps: the numbers for a signal; null: all."""
    noise: PositiveFloat = 1e-3
    """Variance of the noise at 100 known points, plus the variance that `rank` cuts off."""
    slope: float = 0.0
    """The noise is multiplied by (N / 100) to this power: N points are known, or fewer that are spread as widely."""
    learned: bool = True
    """Train the noise and the weights of the priors; not beside a correction."""
    covariance: bool = False
    """Train the covariances and the SIREN's hidden layers too, several times as slowly."""


class Correction(Section):
    """A network that corrects the prior's mean by what the solve says of a signal. Not used with an encoder, nor where
    the prior is trained (adapter.learned)."""

    kind: Literal["network"] = "network"
    """The correction's name: a network."""
    axes: PositiveInt = 256
    """Leading axes of the prior that the mean is changed along."""
    inputs: PositiveInt = 80
    """Leading axes that the network reads."""
    width: PositiveInt = 1024
    """Width of its hidden layers."""
    dropout: Share = 0.3
    """Share of its hidden features that is left out in training."""
    jitter: NotNegative = 0.0
    """Deviation of the logarithm of the contrast of training images; brightness and colours change half as much."""
    masks: PositiveInt = 1600
    """Sets of known points that it is trained on, solved once."""
    rounds: Annotated[int, Field(ge=0)] = 3
    """Regressions that find the metric of its inputs before the first step."""


class NoCorrection(Section):
    """No correction: the prior alone."""

    kind: Literal["none"] = "none"
    """The correction's name: none."""


class Prior(Section):
    """How the prior of the last layer is taken from the training signals before the first step."""

    ridge: PositiveFloat = 1e-6
    """Ridge of the fits of the last layer to the signals."""
    shrinkage: Share = 0.2
    """Share of the stationary covariance of the same power spectrum: more for few signals."""
    copies: Annotated[int, Field(ge=0)] = 6
    """Augmented copies of every signal."""
    finer: PositiveInt = 2
    """Factor by which the raster of the fits is finer than the pixels, so that fields do not ring between them."""


Adapter = Annotated[LastLayerSolve | MixtureSolve | GradientSteps | NoAdapter, Field(discriminator="kind")]
"""The sections of all adapters; `kind` says which."""

Corrections = Annotated[NoCorrection | Correction, Field(discriminator="kind")]
"""The sections of the correction; `kind` says which."""

Encoder = Annotated[NoEncoder | SetEncoder | ConvEncoder | TokenEncoder | PaperConvEncoder, Field(discriminator="kind")]
"""The sections of all encoders; `kind` says which."""
