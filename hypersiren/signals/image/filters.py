"""Numerical derivatives of images by their coordinates, the targets of Poisson problems (paper, section 4.1).

Pixels are cell centres of [-1, 1]^2 (`fields.coords.grid`), so a derivative per pixel times n/2 is one by the
coordinate of an axis of n pixels. Beyond its border an image goes on as its mirror image.

Letters in shapes: H height, W width, C channels, D = 2 coordinates (down, right).
"""

import math
from functools import reduce
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

Filter = Literal["sobel", "central", "stencil", "spectral"]

Pixels = Float[Tensor, "H W C"]


def image_gradient(
    pixels: Pixels, kind: Filter = "spectral", finer: int = 1, every: int = 1
) -> Float[Tensor, "FH FW C D"]:
    """The gradient of an image at its pixels, or at those of a grid `finer` times as fine (spectral only).

    Args:
        pixels: Values.
        finer: Of the grid.
        every: Take every so many-th pixel of it along each axis, from the first on.
        kind: "sobel" (the paper's: central differences, smoothed across by 1 2 1), "central" differences, or
            "spectral", the exact derivative of the cosine series through all pixels. The first two lose what is near
            the Nyquist frequency, so that no image can be regained from them in full; the third loses only that
            frequency itself.

    Raises:
        ValueError: If it is another filter.

    Example:
        >>> ramp = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 4, 1).expand(4, 4, 1)
        >>> image_gradient(ramp, "central")[0, :, 0, 1]  # per coordinate, of which a pixel is 1/2
        tensor([1., 2., 2., 1.])
    """
    if kind == "spectral":
        return torch.stack([_spectral(pixels, orders, finer, every) for orders in ((1, 0), (0, 1))], dim=-1)
    if kind not in ("sobel", "central"):
        raise ValueError(f'expected "sobel", "central" or "spectral" for a gradient, got "{kind}"')
    across = torch.tensor([1.0, 2.0, 1.0] if kind == "sobel" else [0.0, 1.0, 0.0])
    kernel = torch.outer(across / across.sum(), torch.tensor([-0.5, 0.0, 0.5]))
    return torch.stack(
        [_convolve(pixels, k, every) * (n / 2) for k, n in zip((kernel.T, kernel), pixels.shape[:2], strict=True)],
        dim=-1,
    )


def image_laplacian(
    pixels: Pixels, kind: Filter = "stencil", finer: int = 1, every: int = 1
) -> Float[Tensor, "FH FW C"]:
    """The Laplacian of an image at its pixels, or at those of a grid `finer` times as fine (spectral only).

    Args:
        pixels, finer, every: As of `image_gradient`.
        kind: "stencil", the 5-point Laplace filter (the paper's), or "spectral", as for the gradient.

    Raises:
        ValueError: If it is another filter.

    Example:
        >>> bowl = torch.arange(-2.0, 3.0).square().view(1, 5, 1).expand(5, 5, 1)
        >>> image_laplacian(bowl)[2, 2].item()  # 2 per square pixel, times (5/2)²
        12.5
    """
    if kind == "spectral":
        return _spectral(pixels, (2, 0), finer, every) + _spectral(pixels, (0, 2), finer, every)
    if kind != "stencil":
        raise ValueError(f'expected "stencil" or "spectral" for a Laplacian, got "{kind}"')
    second = torch.zeros(3, 3)
    second[:, 1] = torch.tensor([1.0, -2.0, 1.0])
    h, w = pixels.shape[:2]
    return _convolve(pixels, second, every) * (h / 2) ** 2 + _convolve(pixels, second.T, every) * (w / 2) ** 2


def integrate(derivative: Float[Tensor, "FH FW C *D"], size: tuple[int, int]) -> Float[Tensor, "FH FW C"]:
    """The image whose gradient, or Laplacian, is nearest to the one given, by least squares; its mean is 0.

    Among images that go on as their mirror images beyond the border (cosine series), so that for a field of gradients
    that is none, such as a composed one, it is the solution of Poisson's equation with Neumann's condition
    (Frankot and Chellappa 1988).

    Args:
        derivative: Gradients (FH, FW, C, 2), or Laplacians (FH, FW, C), at the centres of cells.
        size: Numbers of cosines along each axis: pixels of the image that it is the derivative of, at most (FH, FW).

    Returns:
        The image at the centres of the same cells.

    Example:
        >>> image = torch.rand(8, 6, 1, dtype=torch.float64)
        >>> again = integrate(image_gradient(image), (8, 6))
        >>> bool((image_gradient(again) - image_gradient(image)).abs().max() < 1e-6)
        True
    """
    device, fine = derivative.device, derivative.shape[:2]
    work = torch.float32 if device.type == "mps" else torch.float64
    omega = [math.pi / 2 * torch.arange(n, dtype=work, device=device) for n in size]
    squares = omega[0].square()[:, None] + omega[1].square()
    squares[0, 0] = 1.0
    series = zip(*map(_series, size, fine), strict=True)
    cosine, sine = ([each.to(device, work) for each in pair] for pair in series)

    def one(channel: Tensor) -> Tensor:
        if channel.ndim == 2:
            a = -(cosine[0] @ channel @ cosine[1].mT) / squares
        else:
            down = sine[0] @ channel[..., 0] @ cosine[1].mT
            right = cosine[0] @ channel[..., 1] @ sine[1].mT
            a = -(omega[0][:, None] * down + omega[1] * right) / squares
        a[0, 0] = 0.0
        at = [each.mT * each.shape[1] / 2 for each in cosine]  # the first has half the weight, and stands for nothing
        for each in at:
            each[:, 0] *= 2
        return at[0] @ a @ at[1].mT

    return torch.stack([one(channel.to(work)).to(derivative.dtype) for channel in derivative.unbind(2)], dim=-1)


def continue_smoothly(values: Float[Tensor, "H W C"], known: Bool[Tensor, "H W"]) -> Float[Tensor, "H W C"]:
    """Values where they are known, and elsewhere the harmonic function that they border: each pixel is the mean of its
    neighbours, of which there are fewer at the picture's border.

    Args:
        values: (H, W, C); those that are not known are not looked at.
        known: (H, W), at least one.

    Example:
        >>> line = torch.tensor([0.0, 9.0, 9.0, 3.0]).view(1, 4, 1)
        >>> continue_smoothly(line, torch.tensor([[True, False, False, True]])).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    from scipy import sparse
    from scipy.sparse.linalg import splu

    h, w = known.shape
    place = np.arange(h * w).reshape(h, w)
    one = np.concatenate([place[1:].ravel(), place[:, 1:].ravel()])
    other = np.concatenate([place[:-1].ravel(), place[:, :-1].ravel()])
    rows, columns = np.concatenate([one, other]), np.concatenate([other, one])
    links = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (h * w, h * w))
    laplacian = sparse.diags(np.asarray(links.sum(1)).ravel()) - links
    here = known.cpu().numpy().ravel()
    free, fixed = (~here).nonzero()[0], here.nonzero()[0]
    if not len(free):
        return values
    flat = values.detach().cpu().double().numpy().reshape(h * w, -1)
    rest = laplacian.tocsr()[free]
    found = flat.copy()
    found[free] = splu(rest[:, free].tocsc()).solve(-(rest[:, fixed] @ flat[fixed]))
    return torch.from_numpy(found).view(values.shape).to(values)


def _series(n: int, samples: int) -> tuple[Float[Tensor, "N FN"], Float[Tensor, "N FN"]]:
    """From values at cell centres to the first n coefficients of their cosine series, and of their sine series."""
    k = torch.arange(n, dtype=torch.float64)
    phase = math.pi * k[:, None] * ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples)
    return phase.cos() * torch.where(k == 0, 1.0, 2.0)[:, None] / samples, phase.sin() * 2.0 / samples


def _convolve(pixels: Pixels, kernel: Float[Tensor, "3 3"], every: int) -> Float[Tensor, "h w C"]:
    """The sum of the shifted image, by weight: cuDNN's convolution would round values to 10 bits (TF32) on a GPU."""
    h, w = pixels.shape[:2]
    weights = [(i, j, weight) for i, row in enumerate(kernel.tolist()) for j, weight in enumerate(row) if weight]

    def convolved(one: Float[Tensor, "H W"]) -> Float[Tensor, "h w"]:
        wide = pad(one[None, None], (1, 1, 1, 1), "replicate")[0, 0]
        return reduce(torch.add, (weight * wide[i : i + h : every, j : j + w : every] for i, j, weight in weights))

    # One channel after the other, for the memory of large images.
    return torch.stack([convolved(one) for one in pixels.unbind(-1)], dim=-1)


def _spectral(pixels: Pixels, orders: tuple[int, int], finer: int, every: int) -> Float[Tensor, "FH FW C"]:
    """A derivative of the cosine series through the pixels, at a grid `finer` times as fine along each axis."""
    down, right = (
        _cosine_matrix(n, finer, every, order).to(pixels.device) for n, order in zip(pixels.shape, orders, strict=False)
    )
    return torch.stack([(down @ one.double() @ right.mT).to(pixels.dtype) for one in pixels.unbind(-1)], dim=-1)


def _cosine_matrix(n: int, finer: int, every: int, order: int) -> Float[Tensor, "FN N"]:
    """From n values at cell centres to a derivative of their cosine series at the centres of (some) finer cells."""
    k = torch.arange(n, dtype=torch.float64)
    at = (torch.arange(0, n * finer, every, dtype=torch.float64) + 0.5) / (n * finer)
    # d/dt of cos(pi k t) is a shift of the phase by pi/2, times pi k; and t = (coordinate + 1) / 2.
    synthesis = torch.cos(math.pi * k * at[:, None] + order * math.pi / 2) * (k * math.pi / 2) ** order
    x = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return synthesis @ (math.pi * k[:, None] * x).cos_().mul_(torch.where(k == 0, 1.0, 2.0)[:, None]).div_(n)
