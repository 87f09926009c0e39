"""Settings of `hypersiren train` on images. Imports no torch."""

from typing import Literal

from pydantic import PositiveInt, model_validator

from hypersiren.completion.settings import CORRECTING, PredictiveLoss, SetSettings, Training
from hypersiren.hypernets.settings import Adapter, Correction, Corrections, LastLayerSolve
from hypersiren.settings.section import NotNegative, Section, Share
from hypersiren.signals.sets.settings import ImageData


class ContextSampling(Section):
    """Which pixels of a training image are known."""

    sampling: Literal["uniform", "log_uniform", "bernoulli"] = "log_uniform"
    """Distribution of the number of known pixels: uniform or log-uniform; bernoulli draws each pixel by itself, as for
    the paper's CNN."""
    fewest: PositiveInt = 10
    """Least number of context pixels."""
    most: PositiveInt = 1000
    """Largest number of context pixels, at most all of the image."""
    blocks: Share = 0.25
    """Share of the images in which one side of a straight edge is known, instead of random pixels."""
    alike: bool = False
    """Use the same pixels for all images of a batch, so that one solve of the last layer is enough; false: draw pixels
    for each image, as in the paper."""

    @model_validator(mode="after")
    def _ordered(self) -> "ContextSampling":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class CompletionLoss(PredictiveLoss):
    """Weights of the loss terms beside the mean squared error."""

    log: NotNegative = 0.0
    """Times the mean over images of log(MSE + 1e-4), in which easy and hard images count alike."""


class CompletionSettings(SetSettings):
    """Settings of `hypersiren train` on images."""

    data: ImageData = ImageData()
    adapter: Adapter = LastLayerSolve(learned=False)
    correction: Corrections = Correction()
    loss: CompletionLoss = CompletionLoss()
    training: Training = CORRECTING
    context: ContextSampling = ContextSampling(alike=True)
