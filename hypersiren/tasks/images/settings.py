"""Configuration of the tasks on images: image, inpaint, poisson, edit. Pure description."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, PositiveInt

from hypersiren.fields.settings import Network
from hypersiren.settings.section import Known, NotNegative, Section, Size
from hypersiren.tasks.settings import FitSettings, FitTraining


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError("expected black and white, the first the lower")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]


class ImageSignal(Section):
    """The image."""

    path: Path = Path("camera")
    """File, or the name of a photograph that scikit-image ships: camera, astronaut, retina ..."""
    size: Size | None = None
    """Pixels: one number for a square, or [height, width]; the largest central part is resized. null: the file's."""
    gray: bool | None = None
    """One channel or three; null: as the file has it."""
    range: Range | None = None
    """Values of black and white in the file: 0,4000; null: 0 and the largest of its type; for floats 0 and 1, or their
    least and largest value if they lie outside."""


class KnownSignal(ImageSignal):
    """The image, and what is known of it."""

    share: Known | None = None
    """Random share of the pixels (of the mask) that is known; null: all."""
    mask: Path | None = None
    """Mask image of the picture's size (before `size`): opaque pixels of at least half of white are known."""


class ImageSettings(FitSettings):
    """Fit a field to an image."""

    signal: KnownSignal = KnownSignal()
    network: Network = Network(kind=None, first_omega=None)
    training: FitTraining = FitTraining(lr=4e-3, decay="exponential")

    trained_steps: ClassVar[int] = 400


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
    """Random points of each step at which the prior is evaluated."""


class InpaintSettings(FitSettings):
    """Fit a field to part of an image, under a prior."""

    signal: InpaintSignal = InpaintSignal()
    start: Path | None = None
    """Model of photographs that completes the image first, such as the released `photographs`; windows are then solved
    for it, and nothing is trained. Or a fit of one network, as for other tasks. null: one SIREN is trained under the
    prior of `loss`."""
    loss: InpaintLoss = InpaintLoss()
    # Low frequencies: between the known pixels the field has to be smooth.
    network: Network = Network(first_omega=10.0, hidden_omega=10.0)
    training: FitTraining = FitTraining()

    trained_steps: ClassVar[int] = 300


class PoissonLoss(Section):
    """Which derivative is supervised."""

    target: Literal["gradient", "laplacian"] = "gradient"
    """The supervised derivative."""
    filter: Literal["sobel", "central", "stencil", "spectral"] = "spectral"
    """Filter of the target: sobel (paper), central or spectral; for a Laplacian, stencil (paper) or spectral."""
    finer: PositiveInt = 2
    """Factor by which the grid of a spectral target is finer than the pixels, along each axis."""
    anchor: NotNegative = 1.0
    """Times the squared error at the central pixel, which fixes the free constant."""
    refit: PositiveInt | None = 10
    """Steps between solves of a SIREN's last layer for the gradient, by least squares; null: it is trained only."""


class PoissonSettings(FitSettings):
    """Reconstruct an image from its gradient or its Laplacian."""

    signal: ImageSignal = ImageSignal()
    loss: PoissonLoss = PoissonLoss()
    network: Network = Network(kind=None, numbers=2.0, noise=1e-10)
    training: FitTraining = FitTraining(lr=1.5e-3, decay="exponential")

    trained_steps: ClassVar[int] = 400


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
    """Values of black and white in both files; null: as for an image."""
    mask: Path | None = None
    """Mask image of the size of the source's file: opaque bright pixels of the source are cloned."""
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
    network: Network = Network(kind=None, numbers=2.0, noise=1e-10)
