"""Baselines of image completion: methods without a network.

Each method takes images (M, H, W, C) on [0, 1], of which only the pixels under `mask` (M, H, W) are looked at, and
returns completed images of the same shape; known pixels keep their values.

- mean: every unknown pixel is the image's mean known colour
- nearest: the value of the nearest known pixel
- linear: linear interpolation in the Delaunay triangles of the known pixels, nearest outside their hull
- biharmonic: scikit-image's `inpaint_biharmonic` (Damelin and Hoang 2018)
- Gaussian: the conditional mean of a Gaussian fitted to training images, the best linear prediction there is

`PrincipalAxes` keeps a whole image as a given count of numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from hypersiren.completion.base import Baseline, Case
from hypersiren.signals.sets.images import ImageSet

Images = Float[Tensor, "M H W C"]

Masks = Bool[Tensor, "M H W"]


def mean_colour(images: Images, mask: Masks) -> Images:
    """The mean of the known pixels everywhere.

    Example:
        >>> image = torch.tensor([[[[0.0], [1.0], [9.0]]]])
        >>> mean_colour(image, torch.tensor([[[True, True, False]]])).flatten().tolist()
        [0.0, 1.0, 0.5]
    """
    known = mask.unsqueeze(-1)
    mean = (images * known).sum((1, 2), keepdim=True) / known.sum((1, 2), keepdim=True).clamp(min=1)
    return torch.where(known, images, mean)


def nearest(images: Images, mask: Masks) -> Images:
    """The nearest known pixel."""
    from scipy.interpolate import NearestNDInterpolator

    return _each(images, mask, lambda x, y, all_x: NearestNDInterpolator(x, y)(all_x))


def linear_interpolation(images: Images, mask: Masks) -> Images:
    """Linear interpolation inside the convex hull of the known pixels, the nearest one outside."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.spatial import QhullError

    def interpolate(x: np.ndarray, y: np.ndarray, all_x: np.ndarray) -> np.ndarray:
        outside = NearestNDInterpolator(x, y)(all_x)
        try:
            inside = LinearNDInterpolator(x, y)(all_x)
        except QhullError:  # fewer than three points, or all of them on a line: there is no hull
            return outside
        return np.where(np.isnan(inside), outside, inside)

    return _each(images, mask, interpolate)


def biharmonic(images: Images, mask: Masks) -> Images:
    """Biharmonic inpainting: the smoothest surface through the known pixels."""
    from skimage.restoration import inpaint_biharmonic

    out = images.clone()
    for i in range(len(images)):
        unknown = ~mask[i].cpu().numpy()
        if unknown.any():
            filled = inpaint_biharmonic(images[i].double().cpu().numpy(), unknown, channel_axis=-1)
            out[i] = torch.as_tensor(filled, dtype=images.dtype)
    return out


LARGE = 4096
"""Values of an image from which on the Gaussian is fitted to a part of the images only."""


def _parts(images: Tensor, size: int = 4096) -> Iterator[Images]:
    """Images on [0, 1], a part at a time."""
    for part in images.split(size):
        yield part.float() / 255 if part.dtype == torch.uint8 else part


def _mean(images: Tensor) -> Float[Tensor, "H W C"]:
    total = [part.sum(0, dtype=torch.float64) for part in _parts(images)]
    return torch.stack(total).sum(0) / len(images)


def _gram(images: Tensor, mean: Float[Tensor, " P"]) -> Float[Tensor, "P P"]:
    """The sum of the squares of what images differ from their mean."""
    gram = mean.new_zeros(len(mean), len(mean))
    for part in _parts(images):
        flat = part.flatten(1) - mean
        gram += flat.T @ flat
    return gram


def _span(flat: Float[Tensor, "M P"], numbers: int) -> Float[Tensor, "P N"]:
    """The principal axes of fewer vectors than they have values, of any length, the largest last."""
    return flat.T @ torch.linalg.eigh(flat @ flat.T)[1][:, -numbers:]


class GaussianConditional:
    """The conditional mean of a Gaussian fitted to training images.

    The covariance is kept as its leading principal axes plus isotropic noise, A A^T + noise I, so that the mean given
    the known pixels o is mean + A (A_o^T A_o + noise I)^-1 A_o^T (y_o - mean_o), at any number of known pixels.

    Args:
        images: Training images, on [0, 1] or as bytes.
        axes: Largest number of principal axes.

    Example:
        >>> ramps = torch.linspace(0, 1, 50)[:, None, None, None] * torch.ones(50, 1, 2, 1)
        >>> gaussian = GaussianConditional(ramps)
        >>> known = torch.tensor([[[True, False]]])
        >>> bool(gaussian(ramps[40:41], known, noise=1e-6).sub(ramps[40]).abs().max() < 1e-3)
        True
    """

    def __init__(self, images: Num[Tensor, "M H W C"], axes: int = 512):
        if images[0].numel() > LARGE:  # neither the covariance nor all images would fit
            images = images[:: -(-len(images) // (2 * axes))]
        self.mean = _mean(images).flatten()
        if len(images) > 4 * axes:  # the covariance is small, the data are not
            values, vectors = torch.linalg.eigh(_gram(images, self.mean) / len(images))
            values, vectors = values[-axes:].clamp(min=0), vectors[:, -axes:]
            self.factor = vectors * values.sqrt()
        else:
            flat = torch.cat(list(_parts(images))).flatten(1).double()
            _, s, v = torch.linalg.svd(flat - self.mean, full_matrices=False)
            self.factor = (v.T * (s / len(flat) ** 0.5))[:, :axes]

    def __call__(self, images: Images, mask: Masks, noise: float) -> Images:
        return self._conditional_means(images, mask, [noise])[0]

    def choose_noise(self, images: Images, mask: Masks) -> float:
        """The noise variance with the lowest error on (validation) images."""
        candidates = [10.0**e for e in (-5, -4, -3.5, -3, -2.5, -2, -1.5, -1, 0)]
        means = self._conditional_means(images, mask, candidates)
        return candidates[int(np.argmin([(m - images).square().mean().item() for m in means]))]

    def _conditional_means(self, images: Images, mask: Masks, noises: Sequence[float]) -> list[Images]:
        known = mask.unsqueeze(-1).expand_as(images).flatten(1)
        out = torch.empty(len(noises), *known.shape, dtype=torch.float64, device=images.device)
        for i, y in enumerate(images.flatten(1).double()):
            design, offset = self.factor[known[i]], (y - self.mean)[known[i]]
            # One eigendecomposition, of the smaller of the two Gram matrices, serves every noise.
            few = len(design) < design.shape[1]
            values, vectors = torch.linalg.eigh(design @ design.T if few else design.T @ design)
            left, right = (
                (design.T @ vectors, vectors.T @ offset) if few else (vectors, vectors.T @ (design.T @ offset))
            )
            for j, noise in enumerate(noises):
                out[j, i] = self.mean + self.factor @ (left @ (right / (values + noise)))
        return [torch.where(mask.unsqueeze(-1), images, o.view_as(images).to(images.dtype)) for o in out]


class PrincipalAxes:
    """Principal component analysis of training images: whole images from `numbers` numbers each.

    Args:
        images: Training images, on [0, 1] or as bytes.
        numbers: Numbers for each image; fewer where the images span fewer axes.

    Attributes:
        numbers: Those that it has.

    Example:
        >>> ramps = torch.linspace(0, 1, 50)[:, None, None, None] * torch.ones(50, 1, 2, 1)
        >>> axes = PrincipalAxes(ramps, 1)
        >>> torch.allclose(axes(ramps), ramps)
        True
    """

    def __init__(self, images: Num[Tensor, "M H W C"], numbers: int):
        if images[0].numel() > LARGE:  # neither the covariance nor all images would fit
            images = images[:: max(1, len(images) // (2 * numbers))]
        self.mean = _mean(images)
        pixels, m = self.mean.numel(), len(images)
        self.numbers = min(numbers, pixels, m - 1)
        if m > pixels:
            axes = torch.linalg.eigh(_gram(images, self.mean.flatten()))[1]
        else:
            axes = _span((torch.cat(list(_parts(images))) - self.mean).flatten(1), self.numbers)
        # The eigenvectors of a Gram matrix span the images; QR makes them unit vectors, the largest axis first.
        self.axes = torch.linalg.qr(axes.flip(1)[:, : self.numbers])[0]

    def __call__(self, images: Images) -> Images:
        """Whole images, kept as `numbers` numbers each."""
        flat = (images - self.mean).flatten(1)
        return (self.mean + (flat @ self.axes @ self.axes.T).view_as(images)).to(images.dtype)


SIMPLE: dict[str, Callable[[Images, Masks], Images]] = {
    "mean colour": mean_colour,
    "nearest pixel": nearest,
    "linear": linear_interpolation,
    "biharmonic": biharmonic,
}
"""The baselines that need no training images."""


FITTED = 20_000
"""Training images that baselines are fitted to, at most."""


def fitted(train: ImageSet, numbers: int) -> Callable[[Case], list[Baseline]]:
    """All baselines, fitted to training images and mirrored ones: the first `FITTED`, or 100 MB.

    Args:
        train: Training images.
        numbers: Numbers that principal axes keep of each image, at most one for each pixel.

    Returns:
        The baselines for contexts as that of a case, on which the Gaussian's noise is chosen.
    """
    pixels = train.pixels[: min(FITTED, 10**8 // train.pixels[:1].numel() + 1)].cpu()
    pixels = torch.cat([pixels, pixels.flip(2)])
    gaussian = GaussianConditional(pixels)

    def on_case(method: Callable[..., Images], case: Case) -> Float[Tensor, "M P C"]:
        return method(*_raster(case)).flatten(1, 2)

    def choose(case: Case) -> list[Baseline]:
        methods: dict[str, Callable[..., Images]] = {
            "Gaussian": partial(gaussian, noise=gaussian.choose_noise(*_raster(case))),
            **SIMPLE,
        }
        found = [Baseline(name, partial(on_case, method), keeps=True) for name, method in methods.items()]
        if not case.unknown.any():
            axes = PrincipalAxes(pixels, min(numbers, case.truth.shape[1]))
            complete = partial(on_case, lambda images, _: axes(images))
            found.append(Baseline(f"PCA of all pixels, {axes.numbers} numbers", complete, fast=True))
        return found

    return choose


def _raster(case: Case) -> tuple[Images, Masks]:
    size = case.context.size
    assert size is not None
    return case.truth.unflatten(1, size), case.known.unflatten(1, size)


def _each(images: Images, mask: Masks, method: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Images:
    h, w = mask.shape[1:]
    points = np.indices((h, w)).reshape(2, -1).T.astype(float)
    out = images.clone()
    for i in range(len(images)):
        known = mask[i].flatten().cpu().numpy()
        values = images[i].flatten(0, 1).double().cpu().numpy()
        out[i] = torch.as_tensor(method(points[known], values[known], points), dtype=images.dtype).view_as(out[i])
    return torch.where(mask.unsqueeze(-1), images, out)
