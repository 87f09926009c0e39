"""Settings of `hypersiren train` on photographs at their own size. Imports no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from hypersiren.settings.section import Known, NotNegative, Section, Share
from hypersiren.tasks.settings import Optimisation


class PhotographData(Section):
    """The photographs, and the crops that are cut from them at their own size."""

    kind: Literal["photographs"] = "photographs"
    """photographs: pictures of any sizes, at their own resolution."""
    root: Path | None = None
    """Folder of the photographs, see data.kind folder; null: those that scikit-image ships."""
    crops: PositiveInt = 2000
    """Random crops to cut for training, as many from each photograph; at most 32 to validate and test."""
    side: Annotated[int, Field(ge=64, multiple_of=8)] = 128
    """Pixels of a crop's side; smaller photographs are left out."""
    reduced: Share = 0.3
    """Share of the training crops that are cut from a photograph reduced to two thirds."""
    contrast: Share = 0.4
    """Training crops get contrasts from 1 - contrast to 1.2, and are made lighter or darker."""
    gray: Share = 0.1
    """Share of the training crops without colour."""


class PhotographContext(Section):
    """Which pixels of a training crop are known."""

    fewest: Known = 0.03
    """Least share of random pixels that are known."""
    most: Known = 0.9
    """Largest share; a share is drawn for each crop, log-uniformly."""
    strokes: Share = 0.3
    """Share of the crops that lack strokes, blocks and letters instead of random pixels."""
    block: PositiveInt = 24
    """Pixels of the longest side of a block that is lacking."""

    @model_validator(mode="after")
    def _ordered(self) -> "PhotographContext":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class PhotographNetwork(Section):
    """The mixture of Gaussians, and the network that corrects it, see `hypersiren.hypernets.inpainter`."""

    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (16, 32, 48, 48)
    """Channels at full, half, quarter and eighth resolution."""
    blocks: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (1, 1, 1, 1)
    """Residual blocks at each of them; of the first three, before and after the coarser ones."""
    components: Annotated[int, Field(ge=0)] = 64
    """Gaussians of the mixture, fitted before the first step; 0: the network alone, with steps ten times as fast."""
    rounds: PositiveInt = 12
    """Rounds of expectation maximisation."""
    start: Path | None = None
    """A run, or the released photographs, whose mixture and network are trained further; null: a new mixture."""


class PhotographLoss(Section):
    """The loss."""

    deviation: NotNegative = 3e-3
    """Times the negative log likelihood by which the deviations are learned, beside the mean error of the colours."""


class PhotographTraining(Optimisation):
    """The optimisation."""

    steps: PositiveInt = 6000
    """Optimiser updates."""
    bank: Annotated[int, Field(ge=0)] = 800
    """Crops that the mixture completes before the first step, from which the network learns; 0: new crops in each step,
    which takes many times as long."""
    batch_size: PositiveInt = 8
    """Crops of a step, before accumulation."""
    pixels: Annotated[int, Field(ge=16, multiple_of=8)] = 64
    """Pixels of the side of the part of a crop that a step sees."""
    optimizer: Literal["adam", "muon"] = "adam"
    """adam for all weights, or muon for the matrices of 16 rows and columns or more and Adam for the others."""
    lr: PositiveFloat = 2e-3
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 20
    """Steps over which the learning rate rises from 0."""
    clip: PositiveFloat | None = 0.5
    """Largest norm of the gradient; null: not clipped."""
    ema: Share = 0.995
    """Decay of the averaged weights that are evaluated and saved; 0: no averaging."""
    autocast: bool = True
    """bfloat16 in the network while it is trained, on devices that have it."""
    validate_every: PositiveInt = 500
    """Steps between validations, pictures and checkpoints."""


class PhotographSettings(Section):
    """Settings of `hypersiren train` on photographs."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes splits, crops, initial weights, batches and contexts."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    data: PhotographData = PhotographData()
    network: PhotographNetwork = PhotographNetwork()
    context: PhotographContext = PhotographContext()
    loss: PhotographLoss = PhotographLoss()
    training: PhotographTraining = PhotographTraining()

    @model_validator(mode="after")
    def _fitting_parts(self) -> "PhotographSettings":
        if self.training.pixels > self.data.side:
            raise ValueError(f"training.pixels ({self.training.pixels}) must not exceed data.side ({self.data.side})")
        return self
