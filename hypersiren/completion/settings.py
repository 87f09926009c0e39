"""Settings of every training of a hypernetwork. Imports no torch."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.hypernets.settings import (
    Adapter,
    Corrections,
    Encoder,
    FullHypernet,
    HypoSiren,
    LastLayerSolve,
    MixtureSolve,
    NoCorrection,
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
    """bfloat16 in encoder and hypernetwork, in the correction on devices that have it; the field stays in float32."""


CORRECTING = Training(
    steps=1200, batch_size=256, lr=1e-3, warmup=60, validate_every=200, ema=0.99, weight_decay=0.05, autocast=True
)
"""The optimisation of a correction."""

SOLVES = (LastLayerSolve, MixtureSolve)
"""Sections of the adapters that solve the last layer under a prior."""


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
    correction: Corrections = NoCorrection()
    loss: Loss = Loss()
    training: Training = Training()

    @model_validator(mode="after")
    def _fitting_layers(self) -> "SetSettings":
        layers = self.siren.layers
        if self.encoder.kind == "none" and self.adapter.kind == "none":
            raise ValueError("expected an encoder, an adapter or both, got none of either")
        kind, solves = self.adapter.kind, [one.model_fields["kind"].default for one in SOLVES]
        if getattr(self.loss, "likelihood", 0) and kind not in solves:
            raise ValueError(f"expected adapter.kind {' or '.join(solves)} with loss.likelihood, got {kind}")
        if kind not in solves and self.prior != type(self).model_fields["prior"].default:
            raise ValueError(f"expected adapter.kind {' or '.join(solves)} with prior.{self._changed()}, got {kind}")
        if self.correction != type(self).model_fields["correction"].default and self.correction.kind != "none":
            if kind not in solves:
                raise ValueError(f"expected adapter.kind {' or '.join(solves)} with a correction, got {kind}")
            if self.encoder.kind != "none":
                raise ValueError(f"expected encoder.kind none with a correction, got {self.encoder.kind}")
            if self.trains_prior:
                raise ValueError("expected adapter.learned (and covariance) false beside a correction, got true")
        if self.hypernet.layers is not None and self.hypernet.layers > layers:
            raise ValueError(f"hypernet.layers ({self.hypernet.layers}) must not exceed the hypo-SIREN's {layers}")
        return self

    @property
    def corrects(self) -> bool:
        """Whether there is a correction: not with an encoder, a trained prior, or without a solve of the last layer."""
        solves = isinstance(self.adapter, SOLVES) and not self.trains_prior
        return self.correction.kind != "none" and self.encoder.kind == "none" and solves

    @property
    def trains_prior(self) -> bool:
        """Whether the prior of the last layer is trained."""
        return any(getattr(self.adapter, name, False) for name in ("learned", "covariance"))

    def _changed(self) -> str:
        """The first setting of the prior that is not the default."""
        default = type(self).model_fields["prior"].default
        return next(name for name in Prior.model_fields if getattr(self.prior, name) != getattr(default, name))
