"""Speed of the data path: JPEGs decoded once, cached and held, against Pillow and torchvision for each draw.

Both read the same files, cut the centre, resize by Lanczos, and mirror, turn, magnify and shift each image when it is
drawn. Where much is to be reduced, hypersiren lets the JPEG decoder do a part of it, which changes pixels by a few
levels of 255. The pictures are synthetic.
"""

import itertools
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from hypersiren.signals.sets.images import ImageSet, augment, load_images
from hypersiren.studies.benchmarks.measure import Cell, Column, Report, Step, Table, describe_machine, take_turns

LOG = logging.getLogger(__name__)


def synthetic_pictures(count: int, size: tuple[int, int], seed: int = 0) -> UInt8[Tensor, "M H W 3"]:
    """Smooth random colour pictures with some grain.

    Example:
        >>> synthetic_pictures(5, (8, 6)).shape
        torch.Size([5, 8, 6, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    pictures = F.interpolate(coarse, size, mode="bicubic", align_corners=False)
    pictures = pictures + 0.03 * torch.randn(pictures.shape, generator=generator)
    return (255 * pictures.clamp(0, 1)).to(torch.uint8).movedim(1, -1).contiguous()


def write_jpegs(folder: Path, count: int, size: tuple[int, int] = (218, 178)) -> None:
    """Write synthetic pictures as JPEGs; the size is that of CelebA's."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(synthetic_pictures(1, size, seed=i)[0].numpy()).save(folder / f"{i:06}.jpg", quality=90)


class PillowImages(Dataset[Tensor]):
    """Files one by one: opened by Pillow, brought to a size and augmented by torchvision's transforms.

    Args:
        folder: Of JPEGs.
        size: Pixels of a side.
        flip, shift, zoom, rotation: See `hypersiren.signals.sets.images.augment`.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        flip: bool = False,
        shift: int = 0,
        zoom: float = 0.0,
        rotation: float = 0.0,
    ):
        from torchvision import transforms as T
        from torchvision.transforms import InterpolationMode

        self.files = sorted(folder.glob("*.jpg"))
        with Image.open(self.files[0]) as image:
            side = min(image.size)
        moved = T.RandomAffine(
            rotation, (shift / size,) * 2, (1 - zoom, 1 + zoom), interpolation=InterpolationMode.BICUBIC
        )
        self.transform = T.Compose(
            [
                T.CenterCrop(side),
                T.Resize(size, InterpolationMode.LANCZOS),
                *([T.RandomHorizontalFlip()] if flip else []),
                *([moved] if shift or zoom or rotation else []),
                T.ToTensor(),
                T.Normalize(0.5, 0.5),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """(3, H, W) in [-1, 1]."""
        with Image.open(self.files[index]) as image:
            return self.transform(image.convert("RGB"))


FIRST, CACHED, EPOCH, PILLOW = (
    "hypersiren, the first time: decode and cache",
    "hypersiren, later: open the cache",
    "hypersiren, an epoch: draw and augment",
    "DataLoader with Pillow, an epoch: read and augment",
)
"""The parts of the data path."""


def data_report(
    augmentation: dict[str, Any],
    *,
    images: int = 300,
    size: int = 32,
    batch_size: int = 32,
    workers: int = 0,
    rounds: int = 5,
    device: torch.device | str = "cpu",
) -> Report:
    """Measure all parts on the same files.

    Args:
        augmentation: flip, shift, zoom and rotation, see `hypersiren.signals.sets.images.augment`.
        images: JPEGs of 178 x 218 pixels that are written.
        size: Pixels of a side that they are brought to.
        batch_size: B.
        workers: Processes of the DataLoader; 0 for none beside this one.
        rounds: Turns of each.
        device: Where batches are drawn, or taken to.
    """
    device = torch.device(device)
    machine = describe_machine(device)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        LOG.info("writing %d JPEGs", images)
        for split in ("train", "val", "test"):
            write_jpegs(root / "files" / split, images if split == "train" else 1)
        folders = (root / f"cache{i}" for i in itertools.count())

        def load(cache: Path) -> ImageSet:
            return load_images(
                "folder", "train", root=root / "files", size=size, cache_dir=cache, in_memory=True, progress=False
            )

        held = load(kept := next(folders)).to(device)
        generator = torch.Generator(device)

        files = PillowImages(root / "files" / "train", size, **augmentation)
        loader = DataLoader(
            files, batch_size, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
        )

        def draw() -> None:
            for _ in range(len(loader)):
                index = torch.randint(len(held), (batch_size,), generator=generator, device=device)
                augment(held.images(index), generator, **augmentation)

        def read() -> None:
            for batch in loader:
                batch.to(device)

        steps: dict[str, Step] = {
            FIRST: lambda: load(next(folders)),
            CACHED: lambda: load(kept),
            EPOCH: draw,
            PILLOW: read,
        }
        for step in steps.values():
            step()  # the first time takes longer
        LOG.info("timing")
        seconds = take_turns(steps, rounds=rounds, device=device)
    drawn = len(loader) * batch_size
    counts = {FIRST: images, CACHED: images, EPOCH: drawn, PILLOW: drawn}
    speeds = {name: counts[name] / seconds[name] for name in steps}
    memory = {EPOCH: held.pixels[:].nbytes / 1e6, PILLOW: 0.0}
    rows: dict[str, dict[str, Cell]] = {
        name: {"speed": speed, "ratio": speed / speeds[PILLOW], "held": memory.get(name)}
        for name, speed in speeds.items()
    }
    columns = {
        "speed": Column("images/s", "higher"),
        "ratio": Column("times", "higher"),
        "held": Column("MB", "lower"),
    }
    title = f"{images} JPEGs of 178 x 218 pixels to batches of {batch_size}, {size} x {size} x 3"
    notes = [
        "Held: pixels that stay in memory between batches. No product of matrices takes part, so no FLOP/s are given.",
        "Files are in the system's cache. Up to 500 of them hypersiren decodes in one process, more in all cores.",
    ]
    told = {"workers of the DataLoader": workers, "rounds": rounds}
    return Report("data", machine, told, [Table(title, columns, rows)], notes)
