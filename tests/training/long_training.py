"""Run by test_training.py: fits an image for some time; prints the growth of peak resident memory in MB."""

import resource

import torch

from hypersiren import Image, fit
from hypersiren.training.memory import keep_freed_memory


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    pixels = 2 * torch.rand(128, 128, 1, generator=torch.Generator().manual_seed(0)) - 1
    fit(Image(pixels[:16, :16]), steps=2)  # what torch itself takes
    before = peak()
    fit(Image(pixels, points=8192), steps=50)
    print(peak() - before)


if __name__ == "__main__":
    main()
