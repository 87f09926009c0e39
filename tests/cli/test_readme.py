"""What the README shows is there and runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hypersiren.cli.fit import one_by_one, read_settings
from hypersiren.cli.main import app
from hypersiren.cli.train import read_train_settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text()
RESULTS = (ROOT / "eval" / "README.md").read_text()
TASKS = (ROOT / "configs" / "README.md").read_text()


SMALLER = {'Image("camera")': 'Image("mine.png")', "512": "64"}
"""What the blocks run with here: the calls are the README's, the pictures small."""


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 40), np.uint8)).save("mine.png")
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        for shown, small in SMALLER.items():
            assert shown in block
            block = block.replace(shown, small)
        exec(block, names)
    assert names["y"].shape == (4, 64 * 64, 3)


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 200


def test_files_that_it_names_exist():
    named = re.findall(r"(configs/[\w/]+\.yaml)|`(celeba_\w+\.yaml|photos\.yaml)`", TEXT + RESULTS)
    paths = [a or f"configs/completion/{b}" for a, b in named]
    assert len(paths) > 6
    assert all((ROOT / path).exists() for path in paths)
    for text, folder in ((TEXT, "."), (RESULTS, "eval"), (TASKS, "configs")):
        for link in re.findall(r"\]\(([\w/.]+)\)", text):
            assert (ROOT / folder / link).exists(), link
    for path in (ROOT / "configs" / "completion").glob("*.yaml"):
        assert path.name in TASKS


SHOWN = re.findall(r"uv run hypersiren ([^`\n]+)", TEXT)
BRIEF = re.findall(r"`(?:hypersiren )?((?:fit|compare) \w+ [^`|]+)`", TEXT + TASKS)


@pytest.mark.parametrize("line", SHOWN + [line for line in BRIEF if "TASK" not in line])
def test_commands_parse(line):
    words = shlex.split(line, comments=True)
    if words[:2] == ["benchmark", "loop"] or words[0] == "train":
        at = words.index("--config")
        read_train_settings(Path(words[at + 1]), words[at + 2 :])
    if words[0] in ("fit", "compare"):
        own = {"--fields", "--out", "--preset"}
        rest = [w for i, w in enumerate(words[2:], 2) if w not in own and words[i - 1] not in own]
        for each in one_by_one(words[1], rest):
            read_settings(words[1], each, "fast", None)
    app.parse_args(words, print_error=False, exit_on_error=False)
