"""Settings of `hypersiren train` on sounds. Imports no torch."""

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.completion.settings import PredictiveLoss, SetSettings, Training
from hypersiren.hypernets.settings import Adapter, Correction, Corrections, HypoSiren, MixtureSolve, Prior
from hypersiren.settings.section import Known, Section, Share
from hypersiren.signals.sets.settings import SoundData


class SoundContext(Section):
    """Which samples of a training window are known."""

    fewest: Known = 0.1
    """Least share of known samples."""
    most: Known = 0.5
    """Largest share of known samples; a share is drawn for each batch, log-uniformly."""
    gaps: Share = 0.25
    """Share of the batches whose windows have one gap instead."""
    gap: Annotated[float, Field(gt=0, lt=1)] = 0.125
    """Length of a gap as a share of the window, in training and in the table."""

    @model_validator(mode="after")
    def _ordered(self) -> "SoundContext":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class SoundTraining(Training):
    """The optimisation."""

    batch_size: PositiveInt = 16
    """Batch size: windows of a step, before accumulation."""
    steps: PositiveInt = 600
    """Optimiser updates."""
    lr: PositiveFloat = 1e-3
    """Peak learning rate; for weights taken from data, relative to their size."""
    ema: Share = 0.99
    """Decay of the averaged weights that are evaluated and saved; 0: no averaging."""
    validate_every: PositiveInt = 300
    """Steps between validations, pictures and checkpoints."""
    target_points: PositiveInt | None = None
    """Random target samples for each window; null: all."""


class SoundSettings(SetSettings):
    """Settings of `hypersiren train` on sounds."""

    data: SoundData = SoundData()
    context: SoundContext = SoundContext()
    # The Nyquist frequency of 512 samples on [-1, 1] is an omega of 256 pi = 804, which the second layer reaches. With
    # more, fields ring between the samples.
    siren: HypoSiren = HypoSiren(hidden_features=(256, 640), first_omega=300.0, hidden_omega=15.0)
    loss: PredictiveLoss = PredictiveLoss()
    adapter: Adapter = MixtureSolve(priors=32, rank=256, slope=-0.5, learned=False)
    correction: Corrections = Correction(axes=128, inputs=64, width=256, masks=128, rounds=0)
    prior: Prior = Prior(shrinkage=0.9, copies=0, finer=1)
    training: SoundTraining = SoundTraining()
