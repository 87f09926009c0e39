"""Configuration: what a YAML file or a flag may say, with its defaults.

Pure description: pydantic models, no torch, no behaviour. The defaults are the `faces` experiment, the same that
`configs/completion/faces.yaml` spells out. Reading and checking are in `hypersiren.config_io`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class Data(Section):
    """The set of images."""

    kind: str = "faces"
    """faces, photos, folder, celeba, or a set of torchvision's by its name, such as FashionMNIST or CIFAR10."""
    root: Path | None = None
    """Folder of the images (folder, celeba, torchvision's sets)."""
    size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32
    """Pixels of an image: one number for a square, or [height, width]."""
    gray: bool = True
    """One channel instead of three."""
    crop: Literal["center", "none"] = "center"
    """center: the largest central rectangle of the right shape, resized; none: images must have the size already."""
    crops: PositiveInt | None = None
    """Random crops to cut for training (photos); null: 10,000."""
    download: bool = False
    """Let torchvision download its set."""
    flip: bool = True
    """Mirror half of the training images."""
    shift: Annotated[int, Field(ge=0)] = 2
    """Shift training images by up to so many pixels."""


class ContextSampling(Section):
    """Which pixels of a training image the encoder sees."""

    sampling: Literal["uniform", "log_uniform", "bernoulli"] = "log_uniform"
    """Law of the number of pixels: exact numbers, uniform or log-uniform, or each pixel by a coin (paper's CNN)."""
    fewest: PositiveInt = 10
    """Least number of context pixels."""
    most: PositiveInt = 1000
    """Largest number of context pixels; no more than the image has are used."""

    @model_validator(mode="after")
    def _ordered(self) -> "ContextSampling":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class HypoSiren(Section):
    """The hypo-SIREN, the network whose weights are predicted."""

    hidden_features: PositiveInt = 256
    """Width."""
    hidden_layers: Annotated[int, Field(ge=0)] = 2
    """Sine layers after the first; the paper's has 3."""
    first_omega: PositiveFloat = 10.0
    """Frequency factor of the first layer; the paper's is 30."""
    hidden_omega: PositiveFloat = 8.0
    """Frequency factor of the hidden layers; the paper's is 30."""


class SetEncoder(Section):
    """The paper's set encoder: an MLP on each (coordinate, value), then the mean."""

    kind: Literal["set"] = "set"
    """set"""
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
    """conv"""
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
    """paper_conv"""
    latent_features: Annotated[int, Field(ge=2)] = 256
    """Features of the latent z and of the network."""
    size: tuple[PositiveInt, PositiveInt] = (32, 32)
    """Size of the learned map of position weights."""
    mask_channel: bool = True
    """Give the mask as an input channel; the paper's code does not."""
    partial: bool = False
    """Partial convolutions."""


class FullHypernet(Section):
    """The hypernetwork: predicts weights of the hypo-SIREN from z."""

    kind: Literal["full"] = "full"
    """full"""
    layers: PositiveInt | None = 1
    """Predict so many last layers, the others being shared by all images and trained; null: all, as in the paper."""
    hidden_features: PositiveInt = 256
    """Width of its MLPs."""
    hidden_layers: Annotated[int, Field(ge=0)] = 0
    """Hidden layers of its MLPs; the paper has 2."""
    trunk: Literal["separate", "shared"] = "shared"
    """One MLP for each tensor of the hypo-SIREN (the paper's), or hidden layers shared by all."""


class Loss(Section):
    """Weights of the loss terms beside the mean squared error (paper, section 4.4)."""

    latent: NotNegative = 0.0
    """Times mean(z^2); the paper's code has 0.1."""
    weights: NotNegative = 0.0
    """Times mean(theta^2) over the predicted weights; the paper's code has 100."""


class Optimisation(Section):
    """What every training has."""

    steps: PositiveInt
    """Optimiser updates."""
    optimizer: Literal["adam", "muon", "lbfgs"] = "muon"
    """Adam for all weights; Muon for the matrices and Adam for the others; or lbfgs: each step is one iteration of
    L-BFGS with its line search, on points drawn once; it takes no heed of lr, first_lr, warmup, decay, weight_decay and
    clip."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises from 0."""
    decay: Literal["constant", "cosine"] = "cosine"
    """Course of the learning rate after the warm-up; cosine ends at 0."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    clip: PositiveFloat | None = None
    """Largest norm of the gradient; null: not clipped."""
    ema: Share = 0.0
    """Decay of the averaged weights that are validated and saved; 0: the weights themselves."""
    compile: bool = False
    """torch.compile the forward pass."""
    log_every: PositiveInt = 50
    """Steps between TensorBoard scalars."""
    validate_every: PositiveInt = 500
    """Steps between validations, pictures and checkpoints."""


class Training(Optimisation):
    """The optimisation."""

    steps: PositiveInt = 2200
    """Optimiser updates."""
    batch_size: PositiveInt = 32
    """Images a step (before accumulation)."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Steps over which the learning rate rises from 0."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; null: not clipped."""
    ema: Share = 0.998
    """Decay of the averaged weights that are validated and saved; 0: the weights themselves."""
    accumulate: PositiveInt = 1
    """Batches whose gradients make one step."""
    optimizer: Literal["adam", "muon"] = "muon"
    """Adam for all weights, or Muon for the matrices and Adam for the others."""
    target_points: PositiveInt | None = None
    """Random target pixels for each image; null: all."""
    autocast: bool = False
    """bfloat16 in encoder and hypernetwork; the field stays in float32."""


class Settings(Section):
    """Everything that `hypersiren train` can be told."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initial weights, batches and contexts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    data: Data = Data()
    context: ContextSampling = ContextSampling()
    siren: HypoSiren = HypoSiren()
    encoder: Annotated[SetEncoder | ConvEncoder | PaperConvEncoder, Field(discriminator="kind")] = ConvEncoder()
    hypernet: FullHypernet = FullHypernet()
    loss: Loss = Loss()
    training: Training = Training()

    @model_validator(mode="after")
    def _fitting_layers(self) -> "Settings":
        layers = self.siren.hidden_layers + 2
        if self.hypernet.layers is not None and self.hypernet.layers > layers:
            raise ValueError(f"hypernet.layers ({self.hypernet.layers}) must not exceed the hypo-SIREN's {layers}")
        return self
