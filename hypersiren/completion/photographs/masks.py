"""Which pixels of a photograph are known: random ones, or all but scratches, text, strokes and blocks."""

import math

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

CONTEXTS = ("10%", "20%", "50%", "scratches", "text")
"""Those of the table."""

WORDS = "the quick brown fox jumps over the lazy dog and runs away"


def context_mask(name: str, size: tuple[int, int], seed: int = 0) -> Bool[Tensor, "H W"]:
    """The known pixels of a named context, the same on every machine for a seed.

    Args:
        name: A share of random pixels such as "10%", "scratches" (lines 5 pixels wide) or "text".
        size: (H, W).
        seed: Of the pixels, lines and letters.

    Raises:
        ValueError: On another name.

    Example:
        >>> [round(context_mask(name, (128, 128)).double().mean().item(), 1) for name in CONTEXTS]
        [0.1, 0.2, 0.5, 0.9, 0.9]
    """
    if name.endswith("%"):
        return random_pixels(size, float(name[:-1]) / 100, seed)
    if name not in CONTEXTS:
        raise ValueError(f'expected a share such as "10%", "scratches" or "text", got "{name}"')
    canvas = Image.new("L", (size[1], size[0]), 255)
    draw, random = ImageDraw.Draw(canvas), np.random.default_rng(seed)
    if name == "scratches":
        for _ in range(max(1, round(math.prod(size) / 6000))):
            angle, length = random.uniform(0, math.pi), random.uniform(40, 160)
            y, x = random.uniform(0, 1, 2) * size
            reach = np.array([math.cos(angle), math.sin(angle)]) * length / 2
            draw.line((x - reach[0], y - reach[1], x + reach[0], y + reach[1]), 0, width=5)
    else:
        font = ImageFont.load_default(size=24)
        for row, top in enumerate(range(4, size[0], 48)):
            draw.text((4 - 40 * (row % 3), top), (WORDS + " ") * (1 + size[1] // 600), 0, font=font)
    return torch.from_numpy(np.array(canvas) >= 128)


def random_pixels(size: tuple[int, int], share: float, seed: int = 0) -> Bool[Tensor, "H W"]:
    """A random share of the pixels, at least one."""
    count = math.prod(size)
    known = np.zeros(count, bool)
    known[np.random.default_rng(seed).permutation(count)[: max(1, round(share * count))]] = True
    return torch.from_numpy(known.reshape(size))


def training_mask(
    pixels: int, fewest: float, most: float, strokes: float, block: int, generator: Generator
) -> Bool[Tensor, "P P"]:
    """The known pixels of one training crop; the arguments are those of `PhotographContext`."""
    device = generator.device

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    kind, share = random(2).tolist()
    if kind >= strokes:
        known = random(pixels, pixels) < fewest * (most / fewest) ** share
    else:
        known = torch.ones(pixels, pixels, dtype=torch.bool, device=device)
        along = torch.arange(pixels, device=device, dtype=torch.float32)
        down, right = along[:, None], along[None, :]
        for _ in range(1 + int(5 * share)):
            a, b, c, d, e, f, g = random(7).tolist()
            y, x = down - c * pixels, right - d * pixels
            if f < 0.7:
                across = x * math.cos(math.pi * a) + y * math.sin(math.pi * a)
                along_it = y * math.cos(math.pi * a) - x * math.sin(math.pi * a)
                bent = across + (e - 0.5) * along_it.square() / pixels
                known &= (bent.abs() >= 0.5 + 4 * b) | (along_it.abs() >= pixels * (0.1 + g))
            else:
                height, width = 4 + (block - 4) * a, 4 + (block - 4) * b
                known &= (y.abs() >= height / 2) | (x.abs() >= width / 2)
        if kind < strokes / 4:  # both
            known &= random(pixels, pixels) < 0.5
    if not known.any():
        known[::5, ::5] = True
    return known
