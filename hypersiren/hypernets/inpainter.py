"""Completion of pictures over windows: mean and standard deviation of the unknown pixels, given the known ones.

What is known is filled in from coarse to fine (`fill`) and relaxed towards the least bending (`relax`), which is as
good as biharmonic inpainting. From that first guess small windows choose Gaussians of a mixture, which give mean and
variance in closed form (`hypersiren.hypernets.patches`). A convolutional network corrects both
(`hypersiren.hypernets.picture_network`); untrained it changes nothing.

Each pixel depends on the pixels within `halo` of it and, by the filling, on the nearest known pixels however far, so a
picture of any size is computed window by window, to the same numbers.

Samples follow Matheron's rule: one draw of a stationary prior over the whole picture, less its own completion from the
same known pixels, vanishes at the known pixels and has no seams; it is scaled to the standard deviation of each pixel.

Symbols: B pictures, H x W pixels, C channels, 3 axes of colour.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from hypersiren.errors import UserError
from hypersiren.fields.savable import savable
from hypersiren.fields.window_solve import fill
from hypersiren.hypernets.patches import PatchMixture
from hypersiren.hypernets.picture_network import COARSEST, PictureNetwork

SWEEPS, STIFFNESS, LOWEST = 24, 0.5, 0.01
"""Of `relax`: its iterations, alpha, and the least eigenvalue that they reduce, relative to the largest."""

WINDOW = 512
"""Pixels of a window's side, without its halo, at most."""

SHARES, AROUND = (0.1, 0.2, 0.5, 0.9), 17
"""Shares of known pixels around a pixel for which deviations are calibrated, and the side of what is around it."""

CHECKED, CHECKED_SIDE, LEFT_OUT = 4, 128, 0.1
"""Parts of a picture, and their pixels along each axis, that tell how large its own deviations are, from this share of
the known pixels that is left out and completed."""

FEWEST, DOUBT = 50, 200
"""Values that are left out: fewer tell nothing, and so many count as much as what the calibration says."""

DRAWS = 8
"""Of the prior, from which the deviation of what its completion leaves is estimated."""

NINETY = 1.6448536
"""Standard deviations of a Gaussian within which 90 % of it lie."""

MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
"""Axes of the mirror images that the network's mean is taken over: they err a little less together."""

UNSURE = -3.0
"""The logarithm of the deviation where there is no mixture."""


def colour_axes() -> Float[Tensor, "3 3"]:
    """Luminance and two chromas: an orthonormal matrix whose columns are the axes in RGB.

    Example:
        >>> axes = colour_axes()
        >>> torch.allclose(axes.T @ axes, torch.eye(3), atol=1e-6)
        True
    """
    axes = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -2.0], [1.0, -1.0, 1.0]])
    return axes / axes.norm(dim=0)


@dataclass(frozen=True)
class Inpainted:
    """The posterior of one picture, pixel by pixel.

    Attributes:
        axes_mean: (3, H, W) in the axes of colour, less `MIDDLE`; at known pixels what is known.
        axes_deviation: (3, H, W), 0 at known pixels.
        known: (H, W).
        channels: C, 1 or 3.
    """

    axes_mean: Float[Tensor, "3 H W"]
    axes_deviation: Float[Tensor, "3 H W"]
    known: Bool[Tensor, "H W"]
    channels: int

    @property
    def mean(self) -> Float[Tensor, "H W C"]:
        """The completed picture on [0, 1]."""
        return to_picture(self.axes_mean, self.channels).clamp(0, 1)

    @property
    def deviation(self) -> Float[Tensor, "H W C"]:
        """Standard deviations of its values."""
        if self.channels == 1:
            return self.axes_deviation[0].div(math.sqrt(3)).unsqueeze(-1)
        return to_deviations(self.axes_deviation)

    def samples(self, count: int, seed: int = 0) -> Iterator[Float[Tensor, "H W C"]]:
        """Pictures drawn from the posterior, on [0, 1]; they keep what is known, and have no seams."""
        if count == 0:
            return
        generator = torch.Generator().manual_seed(seed)
        like = self.axes_mean
        total = torch.zeros(self.known.shape)
        for _ in range(DRAWS):
            total += self._residual(1, generator)[0].square() / DRAWS
        around, share = (_smooth(each) for each in (total, (~self.known).cpu().float()))
        # The mean over neighbours steadies what so few draws tell of one pixel.
        scale = (0.5 * total + 0.5 * around / share.clamp(min=0.04)).clamp(min=1e-6).rsqrt().to(like)
        for _ in range(count):
            drawn = self._residual(3, generator).to(like) * scale
            yield to_picture(like + self.axes_deviation * drawn, self.channels).clamp(0, 1)

    def _residual(self, count: int, generator: torch.Generator) -> Float[Tensor, "count H W"]:
        """Draws of the prior less their completion."""
        draw = draw_prior(count, (self.known.shape[0], self.known.shape[1]), generator).movedim(0, -1)
        known = self.known.cpu()
        return draw.movedim(-1, 0) - relax(fill(draw, known).movedim(-1, 0), known)


def _smooth(x: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """The mean over 5 x 5 pixels."""
    return F.avg_pool2d(x[None, None], 5, stride=1, padding=2, count_include_pad=False)[0, 0]


def draw_prior(count: int, size: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "count H W"]:
    """Fields whose power falls with the square of the frequency, as that of photographs: every octave has as much.

    Example:
        >>> draw_prior(2, (40, 30), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 40, 30])
    """
    total = torch.zeros(count, *size)
    for level in range(max(1, math.ceil(math.log2(max(size))))):
        coarse = [max(1, -(-n // 2**level)) + 1 for n in size]
        noise = torch.randn(1, count, *coarse, generator=generator)
        finer = [n * 2**level for n in coarse]
        if level and max(finer) <= 4 * max(size):
            noise = F.interpolate(noise, finer, mode="bilinear", align_corners=False)
        elif level:
            noise = F.interpolate(noise, list(size), mode="bilinear", align_corners=False)
        total += noise[0, :, : size[0], : size[1]]
    return total


def relax(x: Float[Tensor, "*b C H W"], known: Bool[Tensor, "*b H W"]) -> Float[Tensor, "*b C H W"]:
    """Pictures whose unknown pixels go towards the least energy, the sum of |Laplacian|^2 + alpha |gradient|^2.

    So many iterations of Chebyshev's (Golub and Varga 1961): they end what varies within some pixels, and keep what
    varies slowly, which `fill` has right. Each pixel is a linear function of those within 2 `SWEEPS` + 2 pixels.

    Args:
        x: Pictures that are filled in.
        known: Their known pixels, which stay.

    Example:
        >>> x, known = torch.zeros(1, 1, 9), torch.tensor([[True, False, False, False, True] + 4 * [True]])
        >>> x[..., 4:] = 1
        >>> [round(v, 1) for v in relax(x, known)[0, 0, :5].tolist()]
        [0.0, 0.2, 0.5, 0.8, 1.0]
    """
    free = (~known).unsqueeze(-3).to(x)
    high = 64.0 + 8.0 * STIFFNESS
    middle, half = high * (1 + LOWEST) / 2, high * (1 - LOWEST) / 2

    def energy(x: Tensor) -> Tensor:
        once = _laplacian(x)
        return _laplacian(once).sub_(once, alpha=STIFFNESS).mul_(free)

    residual = energy(x).neg_()
    step, rate = residual / middle, half / middle
    for _ in range(SWEEPS):
        x = x + step
        residual -= energy(step)
        new = 1 / (2 * middle / half - rate)
        step = step.mul_(new * rate).add_(residual, alpha=2 * new / half)
        rate = new
    return x


def _laplacian(x: Float[Tensor, "*b C H W"]) -> Float[Tensor, "*b C H W"]:
    """The stencil of five pixels; beyond the borders each pixel repeats."""
    found = x * -4
    for axis in (-1, -2):
        n = x.shape[axis]
        for start, edge in ((0, 0), (1, n - 1)):
            found.narrow(axis, 1 - start, n - 1).add_(x.narrow(axis, start, n - 1))
            found.narrow(axis, edge, 1).add_(x.narrow(axis, edge, 1))
    return found


def to_axes(picture: Float[Tensor, "*b H W C"]) -> Float[Tensor, "*b 3 H W"]:
    """Pictures on [0, 1] in the axes of colour, centred; a gray one has all three channels alike."""
    return ((picture.expand(*picture.shape[:-1], 3) - 0.5) @ colour_axes().to(picture)).movedim(-1, -3)


def to_picture(axes: Float[Tensor, "*b 3 H W"], channels: int) -> Float[Tensor, "*b H W C"]:
    """The inverse of `to_axes`."""
    if channels == 1:
        return (axes[..., :1, :, :] / math.sqrt(3) + 0.5).movedim(-3, -1)
    return axes.movedim(-3, -1) @ colour_axes().to(axes).T + 0.5


def to_deviations(axes: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b H W 3"]:
    """Deviations of red, green and blue from those along the axes of colour, which are independent."""
    return (axes.square().movedim(-3, -1) @ colour_axes().to(axes).square().T).sqrt()


@savable
class Inpainter(nn.Module):
    """Completes pictures of any size from any of their pixels.

    Args:
        widths, blocks: Of the network, see `PictureNetwork`.
        components: Of the mixture; 0 for the network alone.

    Attributes:
        halo: Pixels beyond each side of a window that its values may depend on, but for the filling.

    Example:
        >>> model = Inpainter((8, 8, 8, 8), (1, 1, 1, 1))
        >>> picture, known = torch.rand(20, 30, 3), torch.rand(20, 30) < 0.2
        >>> found = model.complete(picture, known)
        >>> found.mean.shape, found.deviation.shape, bool((found.mean[known] - picture[known]).abs().max() < 1e-5)
        (torch.Size([20, 30, 3]), torch.Size([20, 30, 3]), True)
    """

    calibration: Tensor

    def __init__(
        self, widths: Sequence[int] = (16, 32, 48, 48), blocks: Sequence[int] = (1, 1, 1, 1), components: int = 0
    ):
        super().__init__()
        self.mixture = PatchMixture(components) if components else None
        self.network = PictureNetwork(widths, blocks)
        self.register_buffer("calibration", torch.ones(len(SHARES)))
        around = 2 * SWEEPS + 2 + self.network.reach + (2 * self.mixture.side if self.mixture else 0)
        self.halo = -(-around // COARSEST) * COARSEST

    def forward(
        self, filled: Float[Tensor, "B 3 H W"], known: Bool[Tensor, "B H W"]
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
        """Means and logarithms of deviations in the axes of colour; H and W are multiples of 8.

        Args:
            filled: Pictures in the axes of colour, filled in and relaxed, see `fill` and `relax`.
            known: Which pixels are known.
        """
        return self.corrected(filled, *self.posterior(filled, known), known)

    def corrected(
        self,
        guess: Float[Tensor, "B 3 H W"],
        mean: Float[Tensor, "B 3 H W"],
        logarithm: Float[Tensor, "B 3 H W"],
        known: Bool[Tensor, "B H W"],
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
        """The mean of what the network makes of a posterior and of its mirror images; see `PictureNetwork.forward`."""
        means, logarithms = torch.zeros_like(mean), torch.zeros_like(mean)
        x = self.network.inputs(guess, mean, logarithm, known)
        for axes in MIRRORS:
            y, found = self.network.applied(*(each.flip(axes) for each in (x, mean, logarithm)))
            means += y.flip(axes) / len(MIRRORS)
            logarithms += found.flip(axes) / len(MIRRORS)
        return means, logarithms

    @torch.no_grad()
    def posterior(
        self, filled: Float[Tensor, "B 3 H W"], known: Bool[Tensor, "B H W"]
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
        """What the network corrects; the arguments are those of `forward`. Both chromas have one deviation."""
        if self.mixture is None:
            return filled, torch.full_like(filled, UNSURE)
        # In float32: the systems are nearly singular.
        with torch.autocast(filled.device.type, enabled=False):
            mean, variance = self.mixture(filled, known)
        logarithm = 0.5 * variance.log()
        chroma = logarithm[:, 1:].mean(1, keepdim=True)
        return mean, torch.cat([logarithm[:, :1], chroma, chroma], 1)

    def deviations(
        self, logarithm: Float[Tensor, "*b 3 H W"], known: Bool[Tensor, "*b H W"]
    ) -> Float[Tensor, "*b H W 3"]:
        """Calibrated standard deviations of colours, from the logarithms of `forward`."""
        return to_deviations(logarithm.exp() * self.scale(known).unsqueeze(-3))

    def scale(self, known: Bool[Tensor, "*b H W"]) -> Float[Tensor, "*b H W"]:
        """The factor of the deviations, by the share of the pixels around that is known; between `SHARES` linear."""
        side = [min(AROUND, n - 1 + n % 2) for n in known.shape[-2:]]
        x = known.to(self.calibration).reshape(-1, 1, *known.shape[-2:])
        around = F.avg_pool2d(x, side, 1, [n // 2 for n in side], count_include_pad=False).view(known.shape)
        found = self.calibration[0].expand_as(around)
        for low, high, a, b in zip(SHARES[:-1], SHARES[1:], self.calibration[:-1], self.calibration[1:], strict=True):
            found = found + (b - a) * ((around - low) / (high - low)).clamp(0, 1)
        return found

    @torch.no_grad()
    def complete(
        self,
        picture: Float[Tensor, "H W C"],
        known: Bool[Tensor, "_ _"],
        *,
        scaled: bool = True,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> Inpainted:
        """The posterior of a picture of any size.

        Args:
            picture: Values on [0, 1]; those of unknown pixels are not looked at. One channel or three.
            known: Which pixels are known.
            scaled: Whether the deviations follow the picture, by known pixels that are left out, which takes as long as
                256 x 256 pixels.
            progress: Called with the windows that are done and all of them.

        Raises:
            UserError: If there are other than 1 or 3 channels, nothing is known, or the mask has another shape.
        """
        channels = picture.shape[-1]
        if channels not in (1, 3):
            opacity = " (drop the opacity)" if channels in (2, 4) else ""
            raise UserError(f"expected a picture of 1 or 3 channels, got {channels}{opacity}")
        if tuple(known.shape) != tuple(picture.shape[:2]):
            raise UserError(f"expected a mask of {tuple(picture.shape[:2])} pixels, got {tuple(known.shape)}")
        if not known.any():
            raise UserError("expected at least one known pixel, got none")
        device = self.calibration.device
        h, w = known.shape
        pad = [-n % COARSEST for n in (h, w)]
        seen = F.pad(known.to(device), (0, pad[1], 0, pad[0]))
        values = F.pad(to_axes(picture.float().to(device)), (0, pad[1], 0, pad[0]))
        filled = fill(values.masked_fill_(~seen, 0).movedim(0, -1), seen).movedim(-1, 0)
        del values, picture
        mean, deviation = torch.empty_like(filled), torch.empty_like(filled)
        parts = [list(_parts(n + p, self.halo)) for n, p in zip((h, w), pad, strict=True)]
        places = [(rows, columns) for rows in parts[0] for columns in parts[1]]
        for number, (rows, columns) in enumerate(places):
            (top, low, high, bottom), (left, west, east, right) = rows, columns
            inner = (..., slice(low - top, high - top), slice(west - left, east - left))
            window, mask = filled[:, top:bottom, left:right], seen[top:bottom, left:right]
            y, logarithm = self._one(relax(window, mask), mask)
            place = (..., slice(low, high), slice(west, east))
            mean[place] = torch.where(mask, window, y)[inner]
            deviation[place] = (logarithm.exp() * self.scale(mask)).masked_fill(mask, 0)[inner]
            progress(number + 1, len(places))
        if scaled:
            deviation *= self._own_scale(filled, seen)
        whole = (..., slice(h), slice(w))
        return Inpainted(mean[whole].contiguous(), deviation[whole].contiguous(), seen[whole], channels)

    def _own_scale(self, filled: Float[Tensor, "3 H W"], known: Bool[Tensor, "H W"]) -> float:
        """How much wider the deviations of this picture are than calibrated: fur and foliage err more than a sky.

        Some known pixels are left out and completed; 90 % of them are to lie in their intervals.
        """
        h, w = known.shape
        generator = torch.Generator().manual_seed(0)
        low, high = max(0, h - CHECKED_SIDE), max(0, w - CHECKED_SIDE)
        places = {(0, 0)}
        if low or high:
            drawn = torch.rand(CHECKED, 2, generator=generator)
            places = {(int(a * (low + 1)) // 8 * 8, int(b * (high + 1)) // 8 * 8) for a, b in drawn.tolist()}
        ratios = []
        for top, left in sorted(places):
            part = slice(top, top + CHECKED_SIDE), slice(left, left + CHECKED_SIDE)
            given, truth = known[part], filled[:, *part]
            out = given & (torch.rand(given.shape, generator=generator) < LEFT_OUT).to(given.device)
            left_in = given & ~out
            if not out.any() or not left_in.any():
                continue
            again = fill(truth.movedim(0, -1), left_in).movedim(-1, 0)
            y, logarithm = self._one(relax(again, left_in), left_in)
            error = (to_picture(y, 3) - to_picture(truth, 3)).abs()
            ratios.append((error / self.deviations(logarithm, left_in))[out].flatten())
        count = sum(map(len, ratios))
        if count < FEWEST:
            return 1.0
        found = float(torch.cat(ratios).quantile(0.9)) / NINETY
        return math.exp(math.log(max(found, 0.1)) * count / (count + DOUBT))

    def _one(
        self, window: Float[Tensor, "3 h w"], known: Bool[Tensor, "h w"]
    ) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "3 h w"]]:
        """Means and logarithms of deviations of one window."""
        y, logarithm = self(window[None], known[None])
        return y[0], logarithm[0]


def _parts(length: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Windows along an axis: where the halo, the window, its end and the halo's end are, in multiples of 8."""
    count = max(1, -(-length // WINDOW)) if length > WINDOW + 2 * halo else 1
    edges = [COARSEST * round(i * length / count / COARSEST) for i in range(count + 1)]
    for low, high in itertools.pairwise(edges):
        yield max(0, low - halo), low, high, min(length, high + halo)
