"""Run by test_training.py: trains on so many images on disk; prints the pixels and the growth of memory in MB.

The growth is that of the peak resident memory, pages of files included, from before the first image is read.
"""

import resource
import sys
import tempfile

import numpy as np
import torch

from hypersiren.completion.images.settings import ContextSampling
from hypersiren.completion.images.task import Completion
from hypersiren.completion.train import train
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.last_layer import LastLayerSolve
from hypersiren.hypernets.model import HyperSiren
from hypersiren.signals.sets.disk import DiskPixels
from hypersiren.signals.sets.images import ImageSet


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main(images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/pixels.npy", "wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (images, 64, 64, 3)}
            np.lib.format.write_array_header_1_0(file, header)
            for i in range(0, images, 500):
                file.write(np.random.default_rng(i).integers(0, 256, (min(500, images - i), 64, 64, 3), np.uint8).data)
        validation = torch.randint(0, 256, (8, 64, 64, 3), dtype=torch.uint8)
        model = HyperSiren(None, None, Siren(2, 3, hidden_features=(16, 64)), LastLayerSolve(64))
        few = Completion(validation, validation, ContextSampling(alike=True))
        train(model, few, steps=2)  # what torch itself takes
        before = peak()
        large = ImageSet(DiskPixels(f"{folder}/pixels.npy"), "large")
        task = Completion(large, validation, ContextSampling(alike=True))
        task.digest()
        train(model, task, steps=40)
    print(images * 64 * 64 * 3 / 1e6, peak() - before)


if __name__ == "__main__":
    main(int(sys.argv[1]))
