"""Settings of every training of a hypernetwork. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.hypernets.settings import (
    Adapter,
    Encoder,
    FullHypernet,
    HypoSiren,
    LastLayerSolve,
    NoEncoder,
    Prior,
)
from hypersiren.settings.section import NotNegative, Section, Share
from hypersiren.tasks.settings import Optimisation


class Loss(Section):
    """Weights of the loss terms beside the mean squared error (paper, section 4.4)."""

    latent: NotNegative = 0.0
    """Times mean(z^2); the paper's code has 0.1."""
    weights: NotNegative = 0.0
    """Times mean(theta^2) over the predicted weights; the paper's code has 100."""


class PredictiveLoss(Loss):
    """Weights of the loss terms beside the mean squared error."""

    likelihood: NotNegative = 0.0
    """Times the mean negative log likelihood of the values under the predicted Gaussians; needs solve or mixture."""


class Training(Optimisation):
    """The optimisation."""

    steps: PositiveInt = 30
    """Optimiser updates, from the prior on where there is one."""
    batch_size: PositiveInt = 32
    """Batch size: images of a step, before accumulation."""
    lr: PositiveFloat = 1e-4
    """Peak learning rate; for weights taken from data, relative to their size."""
    warmup: Annotated[int, Field(ge=0)] = 5
    """Steps over which the learning rate rises from 0."""
    validate_every: PositiveInt = 30
    """Steps between validations, pictures and checkpoints."""
    clip: PositiveFloat | None = 1.0
    """Largest norm of the gradient; null: not clipped."""
    ema: Share = 0.97
    """Decay of the averaged weights that are evaluated and saved; 0: no averaging."""
    optimizer: Literal["adam", "muon"] = "adam"
    """adam for all weights, or muon for the matrices of 16 rows and columns or more and Adam for the others."""
    target_points: PositiveInt | None = None
    """Random target pixels for each image; null: all."""
    autocast: bool = False
    """bfloat16 in encoder and hypernetwork; the field stays in float32."""


class SetSettings(Section):
    """Settings of every training of a hypernetwork; a task adds its sections `data` and `context`."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes splits, initial weights, batches and contexts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    data: Any
    siren: HypoSiren = HypoSiren()
    encoder: Encoder = NoEncoder()
    hypernet: FullHypernet = FullHypernet()
    adapter: Adapter = LastLayerSolve()
    prior: Prior = Prior()
    loss: Loss = Loss()
    training: Training = Training()

    @model_validator(mode="after")
    def _fitting_layers(self) -> "SetSettings":
        layers = self.siren.layers
        if self.encoder.kind == "none" and self.adapter.kind == "none":
            raise ValueError("expected an encoder, an adapter or both, got none of either")
        if getattr(self.loss, "likelihood", 0) and self.adapter.kind not in ("solve", "mixture"):
            raise ValueError(f"loss.likelihood needs adapter.kind solve or mixture, got {self.adapter.kind}")
        if self.hypernet.layers is not None and self.hypernet.layers > layers:
            raise ValueError(f"hypernet.layers ({self.hypernet.layers}) must not exceed the hypo-SIREN's {layers}")
        return self
