"""Configuration of `hypersiren fit`: one settings model for each task, its defaults the task's `fast` preset.

Pure description, as `hypersiren.config`. The `paper` presets are YAML files in `configs/`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hypersiren.config import NotNegative, Optimisation, Section

Size = PositiveInt | tuple[PositiveInt, PositiveInt]
Known = Annotated[float, Field(gt=0, le=1)]


class Network(Section):
    """The field that is fitted."""

    kind: Literal["siren", "relu", "tanh", "softplus", "relu_pe", "relu_fourier", "rbf", "wire", "finer"] = "siren"
    """siren, or a baseline of as many weights."""
    hidden_features: PositiveInt = 256
    """Width of the SIREN; a baseline's is chosen so that it has as many weights."""
    hidden_layers: Annotated[int, Field(ge=0)] = 3
    """Layers between the first and the last."""
    first_omega: PositiveFloat | None = 30.0
    """Frequency factor of the first layer; null: chosen from the signal (audio)."""
    hidden_omega: PositiveFloat = 30.0
    """Frequency factor of the hidden layers."""


class FitTraining(Optimisation):
    """The optimisation."""

    steps: PositiveInt = 1000
    """Optimiser updates."""
    points: PositiveInt | None = 8192
    """Random points of the signal in each step; null: all of them, as in the paper."""
    first_lr: PositiveFloat | None = None
    """Times the learning rate, for the first layer; null: a SIREN's hidden_omega / first_omega, at most 1."""


class FitSettings(Section):
    """What every fit can be told."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initial weights and random points."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps ...; auto: an accelerator if there is one."""
    network: Network = Network()
    training: FitTraining = FitTraining()


class ImageSignal(Section):
    """The image."""

    path: Path = Path("camera")
    """File, or a photograph that scikit-image ships, by its name: camera, astronaut, retina ..."""
    size: Size | None = None
    """Pixels: one number for a square, or [height, width], of the largest central part; null: the file's."""
    gray: bool | None = None
    """One channel or three; null: as the file has it."""


class KnownSignal(ImageSignal):
    """The image, and what is known of it."""

    share: Known | None = None
    """Random share of the pixels (of the mask) that is known; null: all."""
    mask: Path | None = None
    """Mask image of the picture's size (before `size`): known where it is bright."""


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
    mask: Path | None = None
    """Mask image of the source's size in its file: what of it is cloned."""
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


class AudioSignal(Section):
    """The sound: each channel is an output of the field."""

    path: Path = Path("chime")
    """File of any kind that libsndfile reads; chime: a sound that is made here."""
    start: NotNegative = 0.0
    """Second at which the part begins that is taken."""
    stop: PositiveFloat | None = None
    """Second at which it ends; null: the end of the file."""


class AudioSettings(FitSettings):
    """Fit a field to a sound."""

    signal: AudioSignal = AudioSignal()
    network: Network = Network(first_omega=None)
    training: FitTraining = FitTraining(steps=2000, points=4096, optimizer="adam", lr=5e-4)


class VideoSignal(Section):
    """The video."""

    path: Path = Path("coffee")
    """File that FFmpeg decodes, GIF, folder of pictures, or .npy; or a photograph that scikit-image ships, by its name,
    as for an image: a flight over it that is made here."""
    start: NotNegative = 0.0
    """Second at which the part begins that is taken."""
    stop: PositiveFloat | None = None
    """Second at which it ends; null: the end of the file."""
    frames: PositiveInt | None = None
    """Most frames that are taken."""
    size: Size | None = None
    """Pixels: one number for a square, or [height, width], of the largest central part; null: the file's."""


class VideoSettings(FitSettings):
    """Fit a field to a video."""

    signal: VideoSignal = VideoSignal()
    training: FitTraining = FitTraining(steps=1500, points=4096, lr=4e-4)


class ShapeSignal(Section):
    """The shape."""

    path: Path = Path("knot")
    """Oriented points (.xyz, .ply, .pcd, .npy, .npz) or a mesh (.ply, .obj, .stl, .off, .glb); knot: a synthesised
    tube along a trefoil."""
    count: Annotated[int, Field(ge=100)] = 500_000
    """Points to sample on a mesh."""
    vertices: bool = False
    """Take the vertices of a .ply as points even if it has faces."""
    sensor: tuple[float, float, float] | Literal["outwards"] | None = None
    """Where points without normals were seen from, in their units; outwards: nowhere, as an object's; null: what a
    .pcd says, else outwards."""
    reach: tuple[NotNegative, PositiveFloat] | None = None
    """Keep only points at such distances from the sensor, in their units: [0.5, 5]; null: all."""
    trim: PositiveFloat | None = None
    """For a scan that is not closed: meshes end so far from the points, as a share of their longest side: 0.02."""
    up: Literal["x", "y", "z"] = "z"
    """The axis that points upwards in pictures."""
    resolution: PositiveInt = 96
    """Cells along the longest side of the mesh at each validation; `hypersiren mesh` makes finer ones."""


class SDFLoss(Section):
    """Weights of the terms. The first four are the paper's (section 4.2)."""

    on: NotNegative = 3e3
    """Times mean |s| on the surface."""
    off: NotNegative = 1e2
    """Times mean exp(-100 |s|) off the surface."""
    normal: NotNegative = 1e2
    """Times mean 1 - cos(gradient, normal) on the surface."""
    eikonal: NotNegative = 5e1
    """Times mean | |gradient| - 1 | everywhere."""
    side: NotNegative = 1e4
    """Times mean of -s where it has the wrong sign, by the nearest normal; not in the paper; 0 leaves it out."""
    near: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the points off the surface that is near it; not in the paper."""


class SDFSettings(FitSettings):
    """Fit a signed distance function to oriented points or a mesh."""

    signal: ShapeSignal = ShapeSignal()
    loss: SDFLoss = SDFLoss()
    training: FitTraining = FitTraining(steps=1000, points=4096, optimizer="adam", lr=5e-4, warmup=20, clip=1.0)


class WaveTraining(FitTraining):
    """The optimisation."""

    steps: PositiveInt = 2000
    """Optimiser updates."""
    points: PositiveInt = 2048
    """Random points in each step."""
    lr: PositiveFloat = 5e-4
    """Peak learning rate."""
    warmup: Annotated[int, Field(ge=0)] = 40
    """Steps over which the learning rate rises from 0."""


class MediumSignal(Section):
    """The medium."""

    path: Path = Path("uniform")
    """uniform, square or circle (twice as fast inside); a NumPy file (.npy) of velocities (H, W); or a picture."""
    slowest: PositiveFloat = 1.0
    """Velocity where a picture is black."""
    fastest: PositiveFloat = 2.0
    """Velocity where a picture is white."""
    cells: Annotated[int, Field(ge=16)] = 384
    """Cells along each axis of the finite differences that find the truth."""


class FrequencySignal(MediumSignal):
    """The medium, waves of one frequency in it, and the layer along the border that absorbs them."""

    wavenumber: PositiveFloat = 20.0
    """k."""
    variance: PositiveFloat = 1e-4
    """Of a source, a Gaussian."""
    layer: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Width of the layer inside the border of [-1, 1]²."""
    absorption: NotNegative = 5.0
    """Strength of the layer, the paper's a0."""


class HelmholtzSignal(FrequencySignal):
    """The medium, one source in it, and the layer along the border that absorbs waves."""

    source: tuple[float, float] = (0.0, 0.0)
    """Where the source is."""


class ResidualLoss(Section):
    """How the residual of Helmholtz's equation is measured."""

    norm: Literal["l2", "l1"] = "l2"
    """Mean squares, or mean absolute values as in the paper."""
    balance: bool = True
    """Divide the residual by the size of the layer's coefficient C, up to 26 in the corners; the paper does not."""
    near_field: NotNegative = 0.3
    """Radius around each source in which its peak is given in closed form; 0: all is learned, as in the paper."""
    source_weight: NotNegative = 1.0
    """Times the residual where a source is; the paper's N / 1000."""
    source_points: Annotated[int, Field(ge=0)] = 0
    """Points of each step that are drawn around the sources."""


class HelmholtzSettings(FitSettings):
    """Solve Helmholtz's equation."""

    signal: HelmholtzSignal = HelmholtzSignal()
    loss: ResidualLoss = ResidualLoss()
    network: Network = Network(hidden_features=96, hidden_layers=2, first_omega=20.0)
    training: WaveTraining = WaveTraining()


class WaveSignal(MediumSignal):
    """The medium, and the pulse at rest that starts the wave."""

    source: tuple[float, float] = (0.0, 0.0)
    """Where the pulse is."""
    variance: PositiveFloat = 5e-4
    """Of the pulse, a Gaussian whose peak is 1."""
    duration: PositiveFloat = 0.4
    """Times run from 0 to this."""


class WaveLoss(Section):
    """How the wave equation and its start are measured."""

    norm: Literal["l2", "l1"] = "l2"
    """Mean squares, or mean absolute values as in the paper."""
    growth: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the training over which the range of times grows from a tenth; the paper's is 1."""
    exact_start: bool = True
    """Build the start into the field; false: ask for it by the settings below, as the paper does."""
    values: NotNegative = 10.0
    """Times the error of the values at the start (Dirichlet)."""
    rates: NotNegative = 1.0
    """Times the error of their rates of change at the start (Neumann), in units of the pulse's own time."""
    start_points: PositiveInt = 1024
    """Points of each step at the start, where it is asked for."""


class WaveSettings(FitSettings):
    """Solve the wave equation."""

    signal: WaveSignal = WaveSignal()
    loss: WaveLoss = WaveLoss()
    network: Network = Network(hidden_features=128, hidden_layers=2, first_omega=40.0)
    training: WaveTraining = WaveTraining(points=4096)


class InversionSignal(FrequencySignal):
    """Wavefields measured at receivers, or a medium to measure them in."""

    path: Path = Path("circle")
    """A MATLAB file (.mat) with source (S, 2), receivers (R, 2) and rec_val (R, S); or a medium, to make data of."""
    truth: Path | None = None
    """The medium that a file was measured in, where it is known: the result is compared with it."""
    sources: PositiveInt = 5
    """Number of sources where data are made, on a line."""
    receivers: Annotated[int, Field(ge=2)] = 30
    """Number of receivers where data are made, along two sides."""


class InversionLoss(ResidualLoss):
    """How the residual and the misfit of the data are measured."""

    near_field: NotNegative = 0.15
    """Radius around each source in which its peak is given in closed form; 0: all is learned, as in the paper."""
    data: NotNegative = 1.0
    """Times the misfit at the receivers, relative to the data."""
    pretrain: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training that solves for the wavefields in the background first."""
    known_beyond: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Beyond this along either axis the medium is known to be the background; the paper's is 0.75."""
    variation: NotNegative = 5e-4
    """Times the medium's total variation, a prior that is not in the paper; 0 leaves it out."""


class InversionSettings(FitSettings):
    """Find a medium from wavefields that were measured around it."""

    signal: InversionSignal = InversionSignal()
    loss: InversionLoss = InversionLoss()
    network: Network = Network(hidden_features=128, hidden_layers=2, first_omega=20.0)
    training: WaveTraining = WaveTraining()


TASKS: dict[str, type[FitSettings]] = {
    "image": ImageSettings,
    "inpaint": InpaintSettings,
    "poisson": PoissonSettings,
    "edit": EditSettings,
    "audio": AudioSettings,
    "video": VideoSettings,
    "sdf": SDFSettings,
    "helmholtz": HelmholtzSettings,
    "wave": WaveSettings,
    "inversion": InversionSettings,
}
"""The settings of each task of `hypersiren fit`."""

PATHS: dict[str, tuple[str, ...]] = {"edit": ("source", "target")}
"""The keys of `signal` that the files on the command line stand for; ("path",) where nothing else is said."""
