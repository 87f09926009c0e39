"""Sets of images that stay on disk: the same images as in memory, written whole or not at all, and the choice."""

import json
import logging
import multiprocessing
import os
import resource
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hypersiren.signals.files import SignalError
from hypersiren.signals.sets import decoding, disk
from hypersiren.signals.sets import images as datasets
from hypersiren.signals.sets.disk import DiskPixels, free_memory, keep_in_memory
from hypersiren.signals.sets.given import split_images
from hypersiren.signals.sets.images import ImageSet, load_images
from hypersiren.signals.sets.sources import ImageSource, Target
from hypersiren.signals.sets.splits import DatasetError
from tests.signals.test_datasets import break_some, no_decoding, save


@pytest.fixture
def pair(tmp_path) -> tuple[torch.Tensor, DiskPixels]:
    """The same pixels in memory and on disk."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 5, 7, 3), dtype=np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    return torch.from_numpy(pixels), DiskPixels(tmp_path / "pixels.npy")


@pytest.fixture
def tree(tmp_path) -> Path:
    for i in range(40):
        save(tmp_path / "tree" / "train" / f"{i:02}.png", i)
    for split in ("val", "test"):
        save(tmp_path / "tree" / split / "a.png", 99)
    return tmp_path / "tree"


@pytest.mark.parametrize("block", [1, 250, 2**24])
def test_any_images_are_those_in_memory(pair, monkeypatch, block):
    monkeypatch.setattr(disk, "BLOCK", block)
    memory, pixels = pair
    assert pixels.shape == memory.shape
    for index in (
        torch.tensor([3, 0, 49, 3, 7, 8, 9]), torch.tensor([], dtype=torch.long), torch.tensor([-1, -50]),
        torch.arange(50) % 3 == 0, slice(None), slice(7), slice(10, 40, 3), slice(50, 60),
    ):  # fmt: skip
        assert torch.equal(pixels[index], memory[index])
    some = torch.randperm(50)[:20]
    assert torch.equal(pixels.at(some)[torch.tensor([4, 4, 19])], memory[some][[4, 4, 19]])
    assert torch.equal(pixels.at(some).at(torch.arange(20) > 4)[:], memory[some][5:])
    np.testing.assert_array_equal(np.concatenate(list(pixels.blocks())), memory.numpy())
    with pytest.raises(IndexError):
        pixels[torch.tensor([50])]


def test_a_set_on_disk_is_a_set(pair):
    memory, pixels = (ImageSet(part, "demo", ("a: broken",)) for part in pair)
    assert repr(pixels) == "ImageSet(demo: 50 images of 5 x 7 x 3 on disk)"
    assert (len(pixels), pixels.size, pixels.channels) == (50, (5, 7), 3)
    index = torch.randint(50, (8,))
    assert torch.equal(pixels.images(index), memory.images(index))
    assert torch.equal(pixels.unit, memory.unit)
    assert torch.equal(pixels.spread(4).pixels, memory.spread(4).pixels)
    moved = pixels.to("meta")
    assert isinstance(moved.pixels, DiskPixels)
    assert moved.images(index).device.type == "meta"
    for on_disk, held in zip(split_images(pixels, None), split_images(memory, None), strict=True):
        assert isinstance(on_disk.pixels, DiskPixels)
        assert torch.equal(on_disk.pixels[:], held.pixels)


def test_a_file_that_is_replaced_or_removed_is_read_on(pair, tmp_path):
    memory, pixels = pair
    np.save(tmp_path / "other.npy", np.zeros((2, 5, 7, 3), np.uint8))
    os.replace(tmp_path / "other.npy", tmp_path / "pixels.npy")
    (tmp_path / "pixels.npy").unlink()
    assert torch.equal(pixels[:], memory)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 2, 2, 1), np.float32), np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 2, 1), np.uint8).T]
)
def test_other_files_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match="expected"):
        DiskPixels(tmp_path / "a.npy")


def test_decoded_straight_into_the_cache(tree, tmp_path, monkeypatch, caplog):
    broken = {f"train/{name}" for name in break_some_of(tree)}
    held = load_images("folder", "train", root=tree, in_memory=True, cache_dir=tmp_path / "held")
    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "hypersiren"):
        patch.setattr(datasets, "decode", no_decoding)
        on_disk = load_images("folder", "train", root=tree, in_memory=False, cache_dir=tmp_path / "disk")
    assert caplog.messages[-1:] == ["tree/train stays on disk, 132 kB: data.in_memory is false"]
    assert isinstance(on_disk.pixels, DiskPixels)
    assert torch.equal(on_disk.pixels[:], held.pixels)
    assert on_disk.skipped == held.skipped
    assert {line.split(": ")[0] for line in held.skipped} == broken
    both = [sorted(folder.iterdir()) for folder in (tmp_path / "held", tmp_path / "disk")]
    assert [path.name for path in both[0]] == [path.name for path in both[1]]
    assert [path.read_bytes() for path in both[0]] == [path.read_bytes() for path in both[1]]

    # Either reads what the other wrote.
    monkeypatch.setattr(datasets, "decode", no_decoding)
    monkeypatch.setattr(datasets, "decode_parts", no_decoding)
    for in_memory in (True, False):
        again = load_images("folder", "train", root=tree, in_memory=in_memory, cache_dir=tmp_path / "disk")
        assert isinstance(again.pixels, torch.Tensor) == in_memory
        assert torch.equal(again.pixels[:], held.pixels)
        assert again.skipped == held.skipped


def break_some_of(tree: Path) -> set[str]:
    for name in ("class0", "class1"):
        (tree / "train" / name).mkdir()
    return break_some(tree / "train")


def test_a_broken_cache_is_made_anew_on_disk(tree, tmp_path):
    def load() -> torch.Tensor:
        return load_images("folder", "train", root=tree, in_memory=False, cache_dir=tmp_path / "cache").pixels[:]

    first = load()
    [npy] = (tmp_path / "cache").glob("*.npy")
    content = npy.read_bytes()
    for harmed in (content[:-100], b"", content[:-1] + bytes([content[-1] ^ 1]), content + b"\0" * 9):
        npy.write_bytes(harmed)
        assert torch.equal(load(), first)
        assert npy.read_bytes() in (content, content + b"\0" * 9)
    npy.with_suffix(".json").unlink()
    assert torch.equal(load(), first)


def test_the_header_has_room_for_any_number_of_images(tmp_path):
    pixels = np.arange(999 * 4, dtype=np.uint8).reshape(999, 2, 2, 1)
    datasets._write_cache(tmp_path / "a.npy", {}, (10**9, 2, 2, 1), [(pixels[:500], ["x: broken"]), (pixels[500:], [])])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), pixels)
    assert json.loads((tmp_path / "a.json").read_text())["skipped"] == ["x: broken"]


def test_a_disk_that_is_full(tree, tmp_path, monkeypatch):
    """Known before, or found while the images are written, or at the very end: one line, and nothing is left."""

    def load() -> ImageSet:
        return load_images("folder", "train", root=tree, in_memory=False, cache_dir=tmp_path / "cache")

    message = r"tree/train: its pixels stay on disk, but 123 kB could not be written to .*cache \({}\); HYPERSIREN"
    with monkeypatch.context() as patch:
        patch.setattr(datasets.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(DatasetError, match=message.format("No space left on device")):
            load()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(DatasetError, match=message.format("File too large")):
            load()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    write = datasets.atomic_write

    def full_for_the_record(path):
        if path.suffix == ".json":
            raise OSError(28, "No space left on device")
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr(datasets, "atomic_write", full_for_the_record)
        with pytest.raises(DatasetError, match=message.format("No space left on device")):
            load()
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(load()) == 40


def test_workers_do_not_run_far_ahead_of_whoever_takes_the_images():
    read = multiprocessing.Value("i", 0)

    def count(i: int, target: Target) -> np.ndarray:
        with read.get_lock():
            read.value += 1
        return np.zeros(target.shape(1)[1:], np.uint8)

    if sys.platform != "linux":
        pytest.skip("a local function reaches forked processes only")
    parts = decoding.decode_parts(
        ImageSource("slow", [str(i) for i in range(20_000)], count), Target((2, 2)), workers=2
    )
    for _ in range(3):
        next(parts)
    time.sleep(0.5)
    ahead = (2 * decoding.AHEAD + 5) * decoding.SPAN
    assert 3 * decoding.SPAN <= read.value <= ahead < 20_000
    parts.close()
    assert all(not p.is_alive() for p in multiprocessing.active_children())


def broken(i: int, target: Target) -> np.ndarray:
    raise SignalError("broken")


def test_nothing_that_can_be_read_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "find_source", lambda *_, **__: ImageSource("bad", ["a", "b"], broken))
    with pytest.raises(DatasetError, match="bad: none of 2 files could be read as an image; the first: a: broken"):
        load_images("folder", "train", in_memory=False, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_takes_more_than_half_of_the_free_memory_stays_on_disk(monkeypatch, caplog):
    monkeypatch.setattr(disk, "free_memory", lambda device: 4_000_000_000)
    with caplog.at_level(logging.INFO, "hypersiren"):
        assert keep_in_memory(2_000_000_000, "small")
        assert keep_in_memory(2_500_000_000, "large", True)
        assert not caplog.messages
        assert not keep_in_memory(2_500_000_000, "large")
    assert caplog.messages == ["large stays on disk: its 2.5 GB are more than half of the 4 GB of free memory"]
    monkeypatch.setattr(disk, "free_memory", lambda device: None)
    assert keep_in_memory(10**15, "unknown")


def test_the_free_memory_is_that_of_the_container_and_of_this_process(tmp_path, monkeypatch):
    free = free_memory()
    assert free is not None
    assert 10**7 < free < 10**13
    for name, text in {"max": "1000000", "current": "700000", "stat": "anon 500\ninactive_file 200000\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    monkeypatch.setattr(disk, "CONTAINERS", ((str(tmp_path), "memory.max", "memory.current"),))
    assert free_memory() == 500_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory() == 125_000
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 10**7
