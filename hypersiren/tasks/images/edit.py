"""Poisson editing: compose the gradients of two images and regain the picture that has them (paper, section 4.1).

blend      the gradient is (1 - t) g1 + t g2, for the paper's half-and-half t = 1/2
clone      inside a mask the gradient is that of the source, outside the picture is the target's: seamless cloning
           (Perez, Gangnet and Blake 2003)
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hypersiren.fields.operators import Field
from hypersiren.fields.render import render_image, unit
from hypersiren.fields.settings import Network
from hypersiren.fields.window_solve import Keep
from hypersiren.signals.files import SignalError
from hypersiren.signals.image.filters import continue_smoothly, image_gradient, integrate
from hypersiren.signals.image.opening import open_masked, open_picture
from hypersiren.signals.metrics import psnr
from hypersiren.tasks.images.derivatives import DERIVATIVES, gradient_row, image_row, shown_every
from hypersiren.tasks.images.poisson import Poisson
from hypersiren.tasks.images.settings import EditLoss, EditSettings, PoissonLoss
from hypersiren.tasks.panels import ImagePanel, Panel
from hypersiren.tasks.summary import Measure, Rows
from hypersiren.tasks.task import Points, content_digest, draw

Mix = Literal["source", "stronger"]

FINER = 2
"""The grid on which gradients are asked for is so many times as fine as the pixels, see `Poisson`."""


@dataclass(frozen=True)
class EditBatch:
    """What the picture shall be, where that is known, and what its gradient shall be."""

    values: Points | None
    gradients: Points


@dataclass(frozen=True)
class Composition:
    """What is asked of an edited picture.

    Attributes:
        pixels: (H, W, C) values in [-1, 1]: the plain paste or average, for comparison.
        gradient: What its gradient shall be at its pixels.
        finer: The same on a grid `FINER` times as fine, as it is supervised.
        keep: (H, W) where its values are given by `pixels`, or None if nowhere.
        original: The target without the paste, whose values those are; None with `keep`.
    """

    pixels: Float[Tensor, "H W C"]
    gradient: Float[Tensor, "H W C D"]
    finer: Float[Tensor, "FH FW C D"]
    keep: Bool[Tensor, "H W"] | None
    original: Float[Tensor, "H W C"] | None = None


def blend(first: Float[Tensor, "H W C"], second: Float[Tensor, "H W C"], share: float = 0.5) -> Composition:
    """Both pictures at once: the weighted mean of their gradients (the paper's half-and-half)."""
    mean = (1 - share) * first + share * second
    return Composition(mean, image_gradient(mean), image_gradient(mean, finer=FINER), None)


def clone(
    source: Float[Tensor, "h w C"],
    target: Float[Tensor, "H W C"],
    mask: Bool[Tensor, "h w"],
    offset: tuple[int, int] = (0, 0),
    mix: Mix = "source",
) -> Composition:
    """The masked part of the source, seamlessly in the target.

    Args:
        source, target: Values in [-1, 1].
        mask: What of the source is taken.
        offset: (down, right) of the source's upper left corner in the target, in pixels; parts beyond are cut off.
        mix: Inside the mask the gradient of the source, or at each pixel and channel the stronger of both, which keeps
            the target's texture where the source is smooth.

    Raises:
        ValueError: If nothing of the mask lies in the target, or it covers all of the target.
    """
    h, w = target.shape[:2]
    down, right = offset
    spans = [(max(0, o), min(n, o + m)) for o, n, m in zip(offset, (h, w), source.shape[:2], strict=True)]
    inside = torch.zeros(h, w, dtype=torch.bool, device=target.device)
    pasted = target.clone()
    if all(start < stop for start, stop in spans):
        (top, bottom), (left, end) = spans
        taken = mask[top - down : bottom - down, left - right : end - right]
        inside[top:bottom, left:end] = taken
        piece = source[top - down : bottom - down, left - right : end - right]
        pasted[top:bottom, left:end] = torch.where(taken[..., None], piece, pasted[top:bottom, left:end])
    if not inside.any() or inside.all():
        what = "nothing of the mask lies in" if not inside.any() else "the mask leaves nothing of"
        raise ValueError(
            f"{what} the target of {w}x{h} pixels (width x height), at the offset {down} down, {right} right"
        )

    def composed(finer: int) -> Float[Tensor, "FH FW C D"]:
        gradient = image_gradient(target, finer=finer)
        guide = torch.zeros_like(gradient)
        (top, bottom), (left, end) = [(finer * start, finer * stop) for start, stop in spans]
        # Per coordinate of the target: the source's pixels become the target's.
        ratio = torch.tensor([h / source.shape[0], w / source.shape[1]], device=target.device)
        shifted = image_gradient(source, finer=finer)[top - finer * down :, left - finer * right :] * ratio
        guide[top:bottom, left:end] = shifted[: bottom - top, : end - left]
        if mix == "stronger":
            guide = torch.where(guide.norm(dim=-1, keepdim=True) > gradient.norm(dim=-1, keepdim=True), guide, gradient)
        return torch.where(_enlarged(inside, finer)[..., None, None], guide, gradient)

    return Composition(pasted, composed(1), composed(FINER), ~inside, target)


def _enlarged(mask: Bool[Tensor, "H W"], times: int) -> Bool[Tensor, "FH FW"]:
    """A mask of pixels on a grid so many times as fine."""
    return mask.repeat_interleave(times, 0).repeat_interleave(times, 1)


class Edit(Poisson):
    """The editing task.

    Args:
        composition: From `blend` or `clone`.
        points: Random pixels a step; None for all.
        anchor: Weight of the squared error of kept values, or of the central pixel where none are kept.

    Example:
        >>> from hypersiren import Siren
        >>> mask = torch.zeros(8, 8, dtype=torch.bool)
        >>> mask[3:5, 3:5] = True
        >>> task = Edit(clone(torch.rand(8, 8, 3), torch.rand(12, 10, 3), mask, (2, 1)))
        >>> sorted(task.loss(Siren(2, 3, 8), task.sample(torch.Generator())))
        ['gradient', 'kept']
    """

    name = "edit"
    defaults = EditSettings()
    measures = (
        DERIVATIVES[0],
        Measure("error", "relative squared error of the gradient"),
        Measure("kept_psnr", "PSNR of what is kept", "dB", "higher"),
    )

    def __init__(self, composition: Composition, *, points: int | None = None, anchor: float = EditLoss().anchor):
        # A paste may go beyond [-1, 1]: only its gradient is asked for.
        self._pose(composition.pixels, PoissonLoss(anchor=anchor, refit=None), points)
        self.keep = composition.keep
        self._supervise(composition.finer)
        self.at_pixels = composition.gradient
        self.kept, self.original = None, composition.original
        if self.keep is not None:
            index = self.keep.flatten().nonzero().squeeze(1)
            self.kept = Points(self.grid[index], self.pixels.flatten(0, 1)[index])

    @classmethod
    def open(  # type: ignore[override]  # of other settings than a Poisson
        cls, settings: EditSettings, device: torch.device | str = "cpu"
    ) -> "Edit":
        """The task of two image files.

        Args:
            settings: `EditSettings`.
            device: Where to compute.

        Raises:
            SignalError: If a file cannot be read, or the mask does not fit.
        """
        signal, loss, points = settings.signal, settings.loss, settings.training.points
        as_said: dict[str, Any] = {"gray": signal.gray, "range": signal.range}
        below = open_picture(signal.target, size=signal.size, **as_said).to(device)
        h, w, _ = below.shape
        if signal.mask is None:
            above = open_picture(signal.source, size=signal.source_size or (h, w), **as_said).to(device)
            if above.shape != below.shape:
                raise SignalError(
                    f"expected a source of the target's {w}x{h} pixels (width x height) to average their gradients",
                    signal.source,
                )
            return cls(blend(above, below, loss.share), points=points, anchor=loss.anchor)
        above, mask = open_masked(signal.source, signal.mask, size=signal.source_size, whole=True, **as_said)
        assert mask is not None
        try:
            composition = clone(above.to(device), below, mask.to(device), signal.offset, loss.mix)
        except ValueError as error:
            raise SignalError(str(error), signal.mask) from None
        return cls(composition, points=points, anchor=loss.anchor)

    def windowed_field(self, network: Network, keep: Keep | None = None) -> nn.Module:
        """The windowed field of the composed picture.

        Where values are kept, Poisson's equation is solved for the others: the gradient is integrated over all of the
        picture, and the difference from what is kept is continued by a harmonic function (Perez, Gangnet and Blake).
        """
        if self.keep is None:
            return super().windowed_field(network, keep)
        assert self.original is not None
        free = self._integrated()
        kept = integrate(image_gradient(self.original, finer=FINER), self.size) + self.original.mean((0, 1))
        picture = free + continue_smoothly(kept - free, _enlarged(self.keep, FINER))
        return self._solved(picture, network, keep)

    def sample(self, generator: torch.Generator, progress: float = 0.0) -> Any:
        values = None if self.kept is None else draw(self.kept, self.points, generator)
        return EditBatch(values, super().sample(generator, progress))

    def loss(self, field: Field, batch: Any) -> dict[str, Tensor]:
        """The relative squared error of the gradient, and that of kept values, or the anchor."""
        terms = super().loss(field, batch.gradients)
        if batch.values is not None:
            del terms["anchor"]
            terms["kept"] = self.anchor * (field(batch.values.x) - batch.values.y).square().mean()
        return terms

    def digest(self) -> str:
        return content_digest(self.pixels, self.keep)

    def evaluate(self, field: Field) -> dict[str, float]:
        """Relative error and PSNR of the gradient; PSNR of what is kept of the target."""
        found = super().evaluate(field)
        metrics = {"error": found["error"], "gradient_psnr": found["gradient_psnr"]}
        if self.keep is not None:
            metrics["kept_psnr"] = psnr(self.once(field, self.render)[self.keep], ((self.pixels + 1) / 2)[self.keep])
        return metrics

    def panels(self, field: Field) -> dict[str, Panel]:
        """The composed picture."""
        return {"fit": ImagePanel(self.once(field, self.render))}

    def summary(self, field: Field) -> Rows:
        """The composed picture beside the plain paste or average, which is no truth; its gradient beside the target."""
        every = shown_every(self.size)
        gradient = self.once(field, self.derivatives)[0][::every, ::every]
        plain = "Plain average" if self.keep is None else "Plain paste"
        titles = f"{plain}, for comparison", "Result", f"Difference from the {plain.lower()}"
        paste, fit, difference = image_row((self.pixels + 1) / 2, self.once(field, self.render), titles).values()
        shown = {"paste": paste, "fit": fit, "difference": replace(difference, unit="difference, values in [0, 1]")}
        names = "Composed gradient (the target)", "Gradient of the result"
        return [shown, gradient_row(self.at_pixels[::every, ::every], gradient, names)]

    def render(self, field: Field) -> Float[Tensor, "H W C"]:
        """The composed picture on [0, 1], clipped."""
        return unit(render_image(field, self.size, device=self.device))
