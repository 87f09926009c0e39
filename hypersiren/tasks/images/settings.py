"""Configuration of the tasks on images: image, inpaint, poisson, edit. Pure description."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from hypersiren.fields.settings import Network
from hypersiren.settings import NotNegative, Section, Share, Size
from hypersiren.signals.sets.settings import ImageData
from hypersiren.tasks.settings import FitSettings, FitTraining, Loss, SetSettings


class ContextSampling(Section):
    """Which pixels of a training image the encoder sees."""

    sampling: Literal["uniform", "log_uniform", "bernoulli"] = "log_uniform"
    """Law of the number of pixels: exact numbers, uniform or log-uniform, or each pixel by a coin (paper's CNN)."""
    fewest: PositiveInt = 10
    """Least number of context pixels."""
    most: PositiveInt = 1000
    """Largest number of context pixels; no more than the image has are used."""
    blocks: Share = 0.25
    """Share of the images of which one side is known, up to a straight edge, instead of random pixels."""
    alike: bool = False
    """The same pixels of all images of a batch, so that one solve of the last layer serves them all; false: pixels of
    its own for each image, as in the paper."""

    @model_validator(mode="after")
    def _ordered(self) -> "ContextSampling":
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not exceed most ({self.most})")
        return self


class CompletionLoss(Loss):
    """What is minimised beside the mean squared error."""

    log: NotNegative = 0.0
    """Times the mean over images of log(MSE + 1e-4): an image that is nearly met counts as much as one that is not."""


class CompletionSettings(SetSettings):
    """Everything that `hypersiren train` can be told of images."""

    data: ImageData = ImageData()
    loss: CompletionLoss = CompletionLoss()
    context: ContextSampling = ContextSampling(alike=True)


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("expected black and white, the first the lower")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]

Known = Annotated[float, Field(gt=0, le=1)]


class ImageSignal(Section):
    """The image."""

    path: Path = Path("camera")
    """File, or a photograph that scikit-image ships, by its name: camera, astronaut, retina ..."""
    size: Size | None = None
    """Pixels: one number for a square, or [height, width], of the largest central part; null: the file's."""
    gray: bool | None = None
    """One channel or three; null: as the file has it."""
    range: Range | None = None
    """What black and white are in the file: 0,4000; null: 0 and the most of its type, 0 and 1 of floats that lie there,
    else the least and the largest value."""


class KnownSignal(ImageSignal):
    """The image, and what is known of it."""

    share: Known | None = None
    """Random share of the pixels (of the mask) that is known; null: all."""
    mask: Path | None = None
    """Mask image of the picture's size (before `size`): unknown where it is transparent, else known where it is bright,
    half of white or more."""


class ImageSettings(FitSettings):
    """Fit a field to an image."""

    signal: KnownSignal = KnownSignal()
    training: FitTraining = FitTraining(steps=700)


class InpaintSignal(KnownSignal):
    """The image, and what is known of it."""

    share: Known | None = None
    """Random share of the pixels (of the mask) that is known; null: a tenth, or all of the mask."""


class InpaintLoss(Section):
    """The prior."""

    prior: Literal["none", "tv", "hessian"] = "tv"
    """none, total variation, or the Frobenius norm of the Hessian."""
    weight: NotNegative = 3e-3
    """Times the prior; the paper's k1."""
    prior_points: PositiveInt = 2048
    """Random points of each step that the prior is asked at."""


class InpaintSettings(FitSettings):
    """Fit a field to part of an image, under a prior."""

    signal: InpaintSignal = InpaintSignal()
    loss: InpaintLoss = InpaintLoss()
    # Low frequencies: between the known pixels the field has to be smooth.
    network: Network = Network(first_omega=10.0, hidden_omega=10.0)
    training: FitTraining = FitTraining(steps=300)


class PoissonLoss(Section):
    """What is supervised."""

    target: Literal["gradient", "laplacian"] = "gradient"
    """The derivative that the field is asked for."""
    filter: Literal["sobel", "central", "stencil", "spectral"] = "spectral"
    """What makes the target: sobel (paper), central or spectral; of a Laplacian stencil (paper) or spectral."""
    finer: PositiveInt = 2
    """A spectral target is asked for on a grid so many times as fine as the pixels along each axis."""
    anchor: NotNegative = 1.0
    """Times the squared error at the central pixel, which fixes the free constant."""


class PoissonSettings(FitSettings):
    """Regain an image from its gradient or its Laplacian."""

    signal: ImageSignal = ImageSignal()
    loss: PoissonLoss = PoissonLoss()


class EditSignal(Section):
    """The two images. Their gradients are averaged, or, with a mask, the source's are cloned into the target."""

    source: Path = Path("chelsea")
    """First picture: a file, or a photograph of scikit-image."""
    target: Path = Path("coffee")
    """Second picture."""
    size: Size | None = None
    """Pixels of the target, as for an image; null: the file's."""
    source_size: Size | None = None
    """Pixels of the source; null: the file's, or the target's where gradients are averaged."""
    gray: bool = False
    """One channel instead of three."""
    range: Range | None = None
    """What black and white are in both files; null: see that of an image."""
    mask: Path | None = None
    """Mask image of the source's size in its file: what of it is cloned, where it is opaque and bright."""
    offset: tuple[int, int] = (0, 0)
    """Pixels [down, right] of the source's corner in the target."""


class EditLoss(Section):
    """How the gradients are composed."""

    mix: Literal["source", "stronger"] = "source"
    """Inside the mask the source's gradient, or at each pixel the stronger of both."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Without a mask: share of the target's gradient."""
    anchor: NotNegative = 10.0
    """Times the squared error of the pixels that are kept, or of the central one."""


class EditSettings(FitSettings):
    """Compose two images by their gradients."""

    signal: EditSignal = EditSignal()
    loss: EditLoss = EditLoss()
