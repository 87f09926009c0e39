"""Folders of splits by their names, what was drawn, and files that are in two splits."""

import logging

import numpy as np
import pytest
import soundfile
from PIL import Image

from hypersiren.signals.sets.images import load_images
from hypersiren.signals.sets.sounds import load_all_sounds, load_sounds
from hypersiren.signals.sets.splits import SPLITS, DatasetError, equal_files, split_folders


def fill(folder, count, first=0):
    folder.mkdir(parents=True)
    for i in range(first, first + count):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(folder / f"{i}.png")


def values(images):
    return set(images.pixels[:][:, 0, 0, 0].tolist())


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "Val", "Test"),
        ("training", "validation", "testing"),
        ("TRAIN", "valid", "test"),
    ],
)
def test_splits_are_told_by_their_names(tmp_path, names, caplog):
    root = tmp_path / "set"
    for i, name in enumerate(names):
        fill(root / name, 5, 50 * i)
    with caplog.at_level(logging.INFO, "hypersiren"):
        sets = {split: load_images("folder", split, root=root, size=8, cache_dir=tmp_path) for split in SPLITS}
    for i, split in enumerate(SPLITS):
        assert values(sets[split]) == set(range(50 * i, 50 * i + 5))
    [line] = [record.getMessage() for record in caplog.records if "splits are" in record.getMessage()]
    assert all(name in line for name in names)
    assert "train 5, val 5, test 5" in line


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "valid")])
def test_of_two_folders_the_other_is_the_test_split(tmp_path, names, caplog):
    root = tmp_path / "set"
    fill(root / names[0], 30)
    fill(root / names[1], 5, 50)
    with caplog.at_level(logging.INFO, "hypersiren"):
        sets = {split: values(load_images("folder", split, root=root, size=8, cache_dir=tmp_path)) for split in SPLITS}
    assert sets["test"] == set(range(50, 55))
    assert len(sets["train"]) == 28
    assert sets["train"] | sets["val"] == set(range(30))
    assert any(f"{names[1]} is the split test, and val is 5 % of {names[0]}" in r.getMessage() for r in caplog.records)


def test_two_folders_for_one_split_are_refused(tmp_path):
    for name in ("train", "training", "test"):
        (tmp_path / name).mkdir()
    with pytest.raises(DatasetError, match="one folder for the split train, got train and training"):
        split_folders(tmp_path)


def test_equal_files_in_train_and_test_are_named(tmp_path, caplog):
    root = tmp_path / "set"
    fill(root / "train", 6)
    fill(root / "val", 3, 20)
    fill(root / "test", 4, 4)  # 4 and 5 are in train, too
    with caplog.at_level(logging.INFO, "hypersiren"):
        load_images("folder", "train", root=root, size=8, cache_dir=tmp_path)
    [line] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "2 files of val and test are in train too, such as test/4.png = train/4.png" in line
    names = [f"train/{i}.png" for i in range(6)]
    assert equal_files(root, names, ["val/20.png", "test/5.png"]) == [("test/5.png", "train/5.png")]


def test_what_is_said_of_files_is_said_once_of_all(tmp_path, caplog):
    from tests.signals.test_picture_kinds import PROPHOTO

    root = tmp_path / "set"
    root.mkdir()
    for i in range(30):
        Image.fromarray(np.full((8, 8, 3), 7 * i, np.uint8)).save(root / f"{i}.png", icc_profile=PROPHOTO)
    with caplog.at_level(logging.INFO, "hypersiren"):
        images = load_images("folder", "train", root=root, size=8, cache_dir=tmp_path)
    lines = [record.getMessage() for record in caplog.records if "ProPhoto" in record.getMessage()]
    assert len(lines) == 1
    assert f"set/train: {len(images)} of {len(images)} files, the first " in lines[0]


def test_sounds_are_split_by_the_same_names(tmp_path, caplog):
    generator = np.random.default_rng(0)
    for name, count in (("Training", 4), ("Validation", 2), ("Testing", 3)):
        (tmp_path / name).mkdir()
        for i in range(count):
            soundfile.write(tmp_path / name / f"{i}.wav", 0.5 * generator.uniform(-1, 1, 600), 8000)
    (tmp_path / "Testing" / "3.wav").write_bytes((tmp_path / "Training" / "0.wav").read_bytes())
    with caplog.at_level(logging.INFO, "hypersiren"):
        sets = load_all_sounds(tmp_path)
    assert [len(each.recording.unique()) for each in sets] == [4, 2, 4]
    assert len(load_sounds(tmp_path, "test").recording.unique()) == 4
    assert any("splits are the folders Training, Validation, Testing" in r.getMessage() for r in caplog.records)
    assert any("1 files of val and test are in train" in r.getMessage() for r in caplog.records)
