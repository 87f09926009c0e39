"""Which pixels of a photograph are known: random ones, or all but scratches, text, strokes and blocks."""

import math

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from hypersiren.training.seeds import host_generator

CONTEXTS = ("10%", "20%", "50%", "scratches", "text")
"""Those of the table."""

LETTERS, BOTH = 0.25, 0.2
"""Of the training crops that lack strokes, the share that lacks letters instead, and the share that lacks half of the
other pixels too."""

LONGEST = 64
"""Pixels of a crop in which a stroke may be as long as the crop; in a larger one there are more of them."""

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,       "

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
    elif kind < LETTERS * strokes:
        known = _letters(pixels, host_generator(generator)).to(device)
    else:
        known = torch.ones(pixels, pixels, dtype=torch.bool, device=device)
        along = torch.arange(pixels, device=device, dtype=torch.float32)
        down, right = along[:, None], along[None, :]
        scale = min(pixels, LONGEST)
        for _ in range(1 + int(5 * share * max(1, pixels / LONGEST) ** 2)):
            a, b, c, d, e, f, g = random(7).tolist()
            y, x = down - c * pixels, right - d * pixels
            if f < 0.7:
                across = x * math.cos(math.pi * a) + y * math.sin(math.pi * a)
                along_it = y * math.cos(math.pi * a) - x * math.sin(math.pi * a)
                bent = across + (e - 0.5) * along_it.square() / pixels
                known &= (bent.abs() >= 0.5 + 4 * b) | (along_it.abs() >= scale * (0.1 + g))
            else:
                height, width = 4 + (block - 4) * a, 4 + (block - 4) * b
                known &= (y.abs() >= height / 2) | (x.abs() >= width / 2)
        if kind > (1 - BOTH) * strokes:
            known &= random(pixels, pixels) < 0.5
    if not known.any():
        known[::5, ::5] = True
    return known


def _letters(pixels: int, generator: Generator) -> Bool[Tensor, "P P"]:
    """All but lines of random letters of one size."""
    size, apart, left = (torch.rand(3, generator=generator) * torch.tensor([28.0, 1.5, 60.0])).tolist()
    canvas = Image.new("L", (pixels, pixels), 255)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=12 + size)
    top = -left / 2
    while top < pixels:
        letters = torch.randint(len(ALPHABET), (pixels // 4,), generator=generator).tolist()
        draw.text((-left, top), "".join(ALPHABET[i] for i in letters), 0, font=font)
        top += (12 + size) * (1.1 + apart)
    return torch.from_numpy(np.array(canvas) >= 128)
