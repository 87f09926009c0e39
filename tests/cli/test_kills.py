"""A training that is killed, again and again, at any moment: what comes out is the uninterrupted one, bit for bit."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hypersiren.training import checkpoints
from tests.training.test_training import assert_same

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

HOW = ["kill", "term", "ctrl-c twice"]

PASSES = {
    "decoding": 3, "decoding by several": 24, "cache": 4, "step": 12, "checkpoint": 6, "record": 5, "events": 4,
    "picture": 3,
}  # fmt: skip
"""Moments, and how often a training passes them."""

TINY = ["--data.kind", "folder", "--data.root", "pictures", "--data.size", "8", "--siren.hidden_features", "[8, 16]",
        "--siren.hidden_layers", "1", "--prior.copies", "1", "--prior.finer", "1", "--training.steps", "12",
        "--training.batch_size", "4", "--training.validate_every", "4", "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def run():
    """Run a command in a child, struck or not; the exit code."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cli.mortal"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    ) as server:  # fmt: skip

        def ask(**job: Any) -> int:
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Few; mortal.py has them decoded by several processes nevertheless."""
    folder = tmp_path_factory.mktemp("kills") / "pictures"
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 9, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i:02}.bmp")
    return folder


@pytest.fixture(scope="module")
def straight(run, pictures):
    folder = pictures.parent / "straight"
    assert train(run, pictures, folder) == 0
    return folder


def train(run: Callable[..., int], pictures: Path, folder: Path, *more: str, **strike: Any) -> int:
    """Train in a run folder, with a cache of its own; the exit code."""
    words = [str(pictures) if word == "pictures" else word for word in [*TINY, *more]]
    log, cache = folder.with_suffix(".log"), folder.with_suffix(".cache")
    code = run(words=["train", "--out", str(folder), *words], log=str(log), cache=str(cache), **strike)
    assert "Traceback" not in log.read_text(), log.read_text()
    return code


def check(folder: Path, straight: Path) -> None:
    for name in ("last.pt", "best.pt", "prior.pt"):
        both = [checkpoints.read(run / name) for run in (folder, straight)]
        for content in both:  # where the images were does not matter
            content["record"]["settings"]["data"].pop("in_memory")
        # An interruption has a row of its own in the history; the validations are the same.
        rows = [{row["step"]: row for row in content.pop("history", []) if "validation/mse" in row} for content in both]
        assert rows[0].keys() == rows[1].keys()
        for step, row in rows[1].items():
            assert {key: rows[0][step][key] for key in row if "validation" in key} == {
                key: value for key, value in row.items() if "validation" in key
            }
        assert_same(*both)
    for made, wanted in ((folder, straight), (folder.with_suffix(".cache"), straight.with_suffix(".cache"))):
        names = [
            {re.sub(r"(tfevents).*", r"\1", str(path.relative_to(root))) for path in root.rglob("*")}
            for root in (made, wanted)
        ]
        assert names[0] == names[1]
    assert (folder / "completion/table.txt").read_text() == (straight / "completion/table.txt").read_text()


@pytest.mark.slow
def test_killed_while_decoding_while_caching_and_while_drawing(run, pictures, straight):
    folder = pictures.parent / "sample"
    assert train(run, pictures, folder, moment="decoding by several", passes=4, how="kill") == -9
    assert train(run, pictures, folder, moment="cache", passes=3, how="kill") == -9
    assert train(run, pictures, folder, moment="step", passes=7, how="term") == 130
    assert train(run, pictures, folder, moment="picture", passes=2, how="ctrl-c twice") == 130
    assert train(run, pictures, folder) == 0
    check(folder, straight)


@pytest.mark.slow
def test_killed_with_images_on_disk_and_resumed_with_them_in_memory(run, pictures, straight):
    folder = pictures.parent / "disk"
    on_disk = ["--data.in_memory", "false"]
    assert train(run, pictures, folder, *on_disk, moment="decoding by several", passes=4, how="kill") == -9
    assert [path.suffix for path in folder.with_suffix(".cache").iterdir()] == [".part"]
    assert train(run, pictures, folder, *on_disk, moment="cache", passes=2, how="kill") == -9
    assert train(run, pictures, folder, *on_disk, moment="step", passes=7, how="term") == 130
    assert train(run, pictures, folder, moment="step", passes=3, how="ctrl-c twice") == 130
    assert train(run, pictures, folder, *on_disk) == 0
    assert "pictures/train stays on disk, 2.3 kB: data.in_memory is false" in folder.with_suffix(".log").read_text()
    check(folder, straight)


@pytest.mark.fuzz
def test_forty_kills_at_any_moment(run, pictures, straight):
    draw = random.Random(0)
    struck = runs = 0
    while struck < 40:
        runs += 1
        folder = pictures.parent / f"many{runs}"
        for _ in range(draw.randint(1, 3)):
            how = draw.choice(HOW)
            if draw.random() < 0.4:
                moment, passes = draw.uniform(0, 2), 1
            else:
                moment = draw.choice(list(PASSES))
                passes = draw.randint(1, PASSES[moment])
            code = train(run, pictures, folder, moment=moment, passes=passes, how=how)
            print(runs, struck, how, moment, passes, code)
            assert code in (0, -9, -15, 130)
            if code == 0:  # it was faster
                break
            struck += 1
        assert train(run, pictures, folder) == 0
        check(folder, straight)
