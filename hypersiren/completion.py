"""Using a trained hypernetwork: the completion table of the paper, its figures, and a person's own pictures.

Errors are mean squared errors on [0, 1] after clipping, over all pixels, averaged over images (section 4.4).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hypersiren.coords import evaluate, grid
from hypersiren.datasets import ImageSet
from hypersiren.encoders import Context
from hypersiren.interpolation import SIMPLE, GaussianConditional
from hypersiren.metrics import image_mse
from hypersiren.models import HyperSiren
from hypersiren.refinement import refine
from hypersiren.signals import SignalError, read_image
from hypersiren.siren import BoundSiren
from hypersiren.tasks.completion import available_contexts, complete, context_masks, known_pixels

OURS, REFINED = "hypersiren", "refined"


@dataclass(frozen=True)
class Table:
    """Test errors by method and context.

    Attributes:
        rows: Method -> context -> mean squared error.
        images: Test images that the model's errors are the mean of.
        baseline_images: Test images (the first of them) that the baselines' errors are the mean of.
    """

    rows: dict[str, dict[str, float]]
    images: int
    baseline_images: int

    def __str__(self) -> str:
        contexts = list(next(iter(self.rows.values())))
        width = max(map(len, self.rows)) + 2
        lines = ["context".ljust(width) + "".join(name.rjust(9) for name in contexts)]
        for method, errors in self.rows.items():
            lines.append(method.ljust(width) + "".join(f"{errors[name]:9.4f}" for name in contexts))
        note = f"mean squared error on [0, 1], {self.images} test images"
        if self.baseline_images < self.images:
            note += f" (baselines: the first {self.baseline_images})"
        return "\n".join([*lines, note])


def completion_table(
    model: HyperSiren,
    train: ImageSet,
    validation: ImageSet,
    test: ImageSet,
    *,
    baseline_images: int = 100,
    refine_steps: int = 0,
) -> Table:
    """The model beside the baselines on the test images, for each context of the paper that fits the images.

    Args:
        model: A trained model.
        train: What the Gaussian is fitted to, mirrored images too (at most 20,000 of them).
        validation: What the Gaussian's noise is chosen on, for each context.
        test: What is completed.
        baseline_images: Baselines see so many of the first test images; they are slow.
        refine_steps: If not 0, a second row for the predicted fields refined so many steps.
    """
    # The baselines work in float64, which not every device has.
    few = ImageSet(test.pixels[:baseline_images].cpu(), test.name)
    some = ImageSet(validation.pixels[:baseline_images].cpu(), validation.name)
    fitted = ImageSet(train.pixels[:20_000].cpu(), train.name).unit
    gaussian = GaussianConditional(torch.cat([fitted, fitted.flip(2)]))
    truth, few_truth, some_truth = test.unit, few.unit, some.unit
    names = available_contexts(test.size)
    some_masks = context_masks(some, names)
    rows: dict[str, dict[str, float]] = {OURS: {}}
    for name, mask in context_masks(test, names).items():
        rows[OURS][name] = image_mse(complete(model.field, test, mask), truth).mean().item()
        if refine_steps:
            refined = complete(refining(model, refine_steps), test, mask)
            rows.setdefault(REFINED, {})[name] = image_mse(refined, truth).mean().item()
        noise = gaussian.choose_noise(some_truth, some_masks[name])
        mask = mask[: len(few)].cpu()
        found = {"Gaussian": gaussian(few_truth, mask, noise)}
        found |= {method: simple(few_truth, mask) for method, simple in SIMPLE.items()}
        for method, images in found.items():
            rows.setdefault(method, {})[name] = image_mse(images, few_truth).mean().item()
    return Table(rows, len(test), len(few))


def completion_picture(model: HyperSiren, test: ImageSet, *, rows: int = 6, zoom: int = 3) -> np.ndarray:
    """Contexts and completions of some test images, the completions evaluated at `zoom` times the resolution."""
    images = test.spread(rows)
    h, w = images.size
    columns = {}
    for name, mask in context_masks(images, available_contexts(images.size)).items():
        columns[f"{name} pixels" if name.isdigit() else name] = _enlarged(known_pixels(images.unit, mask), zoom)
        field = predicted(model, Context.from_images(_values(images), mask))
        columns[f"completed from {name}"] = _render(field, (zoom * h, zoom * w))
    columns["truth"] = _enlarged(images.unit, zoom)
    return sheet(columns)


@torch.no_grad()
def latent_line(model: HyperSiren, ends: Context, steps: int) -> BoundSiren:
    """The fields along a straight line in latent space between two signals, as so many signals."""
    z = model.encode(ends)
    t = torch.linspace(0, 1, steps, device=z.device).view(-1, *[1] * (z.ndim - 1))
    return model.siren.bind(model.decode(z[:1] + t * (z[1:] - z[:1])))


def interpolation_picture(model: HyperSiren, pairs: Sequence[Context], size: tuple[int, int], steps: int) -> np.ndarray:
    """A row for each pair of signals: the fields from the first to the second (section 4.4)."""
    rows = torch.stack([_render(latent_line(model, pair, steps), size) for pair in pairs])
    return sheet({f"{i / (steps - 1):.2f}": rows[:, i] for i in range(steps)})


def outside_picture(model: HyperSiren, images: ImageSet, *, extent: float = 5.0, pixels: int = 320) -> np.ndarray:
    """Fields far outside the range that they were trained on, [-extent, extent]^2 (section 4.4)."""
    field = predicted(model, whole(images))
    inside, beyond = _render(field, (pixels, pixels)), _render(field, (pixels, pixels), extent)
    return sheet({"[-1, 1]": inside, f"[-{extent:g}, {extent:g}]": beyond})


@torch.no_grad()
def predicted(model: HyperSiren, context: Context) -> BoundSiren:
    """The fields that the model predicts, without a graph."""
    return model.field(context)


def refining(model: HyperSiren, steps: int) -> Callable[[Context], BoundSiren]:
    """The model's prediction, refined so many steps on what is known (see `hypersiren.refinement`)."""
    return lambda context: refine(predicted(model, context), context, steps=steps)


def whole(images: ImageSet) -> Context:
    """All pixels of all images of a set."""
    values = _values(images)
    return Context.from_images(values, torch.ones_like(values[..., 0], dtype=torch.bool))


@dataclass(frozen=True)
class Photo:
    """A person's picture, brought to the model's pixels.

    Attributes:
        values: (1, H, W, C) on [-1, 1].
        mask: (1, H, W), True where known.
    """

    values: Float[Tensor, "1 H W C"]
    mask: Bool[Tensor, "1 H W"]

    @property
    def context(self) -> Context:
        return Context.from_images(self.values, self.mask)


def read_photo(
    path: Path,
    size: tuple[int, int],
    channels: int,
    *,
    context: int | None = None,
    mask: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Photo:
    """Read a picture and what is known of it: so many random pixels, or where a mask image is bright (128 or more).

    The picture is cropped and reduced as images of a data set are. With a mask a model pixel is the mean of the known
    picture pixels in it, and known if at least half of them are.

    Raises:
        SignalError: If a file cannot be read, the mask has another size than the picture, or nothing is known.
    """
    gray = channels == 1
    if mask is None:
        values = read_image(path, gray=gray, size=size) / np.float32(255)
        seen = np.ones(size, bool)
    else:
        picture, raw = read_image(path, gray=gray), read_image(mask, gray=True)
        (h, w), (mask_h, mask_w) = picture.shape[:2], raw.shape[:2]
        if (h, w) != (mask_h, mask_w):
            raise SignalError(f"expected a mask of the picture's size, {w}x{h}, got {mask_w}x{mask_h}", mask)
        pixels, known = _central(picture, size) / np.float32(255), (_central(raw, size) >= 128).astype(np.float32)
        share = _shrink(known, size)
        # Cells that hold nothing known get their plain mean: only the panel shows it.
        known_mean = _shrink(pixels * known, size) / np.maximum(share, 1e-6)
        values = np.where(share > 0, known_mean, _shrink(pixels, size)).clip(0, 1)
        seen = share[..., 0] >= 0.5
    if context is not None:
        order = np.random.default_rng(seed).permutation(np.flatnonzero(seen))
        seen = np.isin(np.arange(seen.size), order[:context]).reshape(seen.shape)
    if not seen.any():
        raise SignalError(f"no known pixel is left at the model's {size[1]}x{size[0]} pixels", mask or path)
    images = torch.from_numpy(values)[None].to(device)
    return Photo(images * 2 - 1, torch.from_numpy(seen)[None].to(device))


def complete_photo(
    model: HyperSiren, photo: Photo, size: tuple[int, int], extent: float = 1.0, refine_steps: int = 0
) -> Float[Tensor, "H W C"]:
    """The completed picture at any size, values on [0, 1]; with extent > 1 also what lies around it."""
    predict = refining(model, refine_steps) if refine_steps else model.field
    with torch.no_grad():
        field = predict(photo.context)
    return _render(field, size, extent)[0]


def photo_pair(first: Photo, second: Photo) -> Context:
    """What is known of two photos, as one context."""
    return Context.from_images(torch.cat([first.values, second.values]), torch.cat([first.mask, second.mask]))


def photo_panel(photo: Photo, completed: Float[Tensor, "H W C"]) -> np.ndarray:
    """Context, completion and truth side by side, at the completion's size."""
    h, w = completed.shape[:2]
    truth = (photo.values + 1) / 2

    def enlarged(image: Tensor) -> Tensor:
        x = rearrange(image, "m h w c -> m c h w")
        return rearrange(torch.nn.functional.interpolate(x, (h, w)), "m c h w -> m h w c")

    return sheet(
        {
            "context": enlarged(known_pixels(truth, photo.mask)),
            "completion": completed[None],
            "picture": enlarged(truth),
        }
    )


def sheet(columns: Mapping[str, Float[Tensor, "M H W C"]], gap: int = 2) -> np.ndarray:
    """Pictures in columns with titles, as (H, W, C) uint8 on white.

    Example:
        >>> sheet({"a": torch.zeros(2, 8, 8, 1), "b": torch.zeros(2, 8, 8, 1)}).shape
        (34, 18, 1)
    """
    stacked = torch.stack([images.float().clamp(0, 1).cpu() for images in columns.values()], dim=1)
    w = stacked.shape[3]
    padded = torch.nn.functional.pad(stacked, (0, 0, 0, gap, 0, gap), value=1.0)
    cells = rearrange(padded, "m k h w c -> (m h) (k w) c")[: -gap or None, : -gap or None]
    pixels = (cells * 255).round().to(torch.uint8).numpy()
    title = Image.new("L", (pixels.shape[1], 16), 255)
    font = ImageFont.load_default(size=11)
    for i, name in enumerate(columns):
        ImageDraw.Draw(title).text(((i + 0.5) * w + i * gap, 8), name, fill=0, font=font, anchor="mm")
    return np.concatenate([np.repeat(np.asarray(title)[..., None], pixels.shape[2], axis=2), pixels])


def _render(field: BoundSiren, size: tuple[int, int], extent: float = 1.0) -> Float[Tensor, "B H W C"]:
    signals = next(iter(field.params.values())).shape[0]
    x = grid(size, -extent, extent, device=next(field.siren.parameters()).device)
    y = evaluate(field, x, chunk=max(1, 131072 // signals))
    return rearrange((y + 1) / 2, "b (h w) c -> b h w c", h=size[0]).clamp(0, 1)


def _values(images: ImageSet) -> Float[Tensor, "M H W C"]:
    return images.images(torch.arange(len(images), device=images.pixels.device))


def _enlarged(images: Float[Tensor, "M H W C"], zoom: int) -> Float[Tensor, "M ZH ZW C"]:
    return images.repeat_interleave(zoom, dim=1).repeat_interleave(zoom, dim=2)


def _central(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The largest central rectangle of the shape of `size`."""
    h, w = pixels.shape[:2]
    scale = min(h / size[0], w / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (h - rows) // 2, (w - columns) // 2
    return pixels[top : top + rows, left : left + columns]


def _shrink(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mean of each cell, (h, w, C) float32 to (H, W, C)."""
    shape, box = (size[1], size[0]), Image.Resampling.BOX
    channels = np.moveaxis(pixels.astype(np.float32), 2, 0)
    return np.stack([np.asarray(Image.fromarray(c).resize(shape, box)) for c in channels], axis=-1)
