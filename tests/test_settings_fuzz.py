"""Settings that are random, mutilated or hostile: accepted, or refused in one line; never a traceback, never a hang."""

import random
import time
from pathlib import Path

import pytest

from hypersiren.cli.fit import read_settings
from hypersiren.cli.train import read_train_settings
from hypersiren.completion.registry import SETS
from hypersiren.errors import UserError
from hypersiren.settings.flags import load_settings
from hypersiren.settings.section import Section
from hypersiren.settings.yaml import to_yaml
from hypersiren.tasks.registry import TASKS

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))

HOSTILE = [
    "", " ", "~", "null", "yes", "off", "true", "[]", "{}", "[[]]", "{a: 1}", "[1, 2", "{a", "'", '"',
    "!!timestamp abc",
    "!!python/object/apply:os.system [ls]", "!!int abc", "!!float x", "!!binary x", "!!set {a}", "!!omap [a]", "! a",
    "&a [*a]", "&a {b: *a}", "*a", "<<: 1", "{<<: [1]}", "? a", "- - -", "a: b: c", "%YAML 1.1", "%d", "@", "`", "#",
    "[" * 1000, "{a: " * 1000, "- " * 1000, "9" * 100_000, "0x" + "f" * 9999, "1e999", "-1e999", ".nan", ".inf", "010",
    "0o17", "1_000", "12:30:45", "2024-13-45", "-0", "1e-3", "1.5.5", "9" * 40, "-" + "9" * 18, "\0", "\x85", "\u2028",
    "\udcff", "\ufeff", "é", "𝄞", "a\nb", "\t", '"\\UFFFFFFFF"', '"\\x"', "x" * 5000, "http://a.org/b", "../..",
    "/dev/null",
    "a: &a [1]\n" + "".join(f"{k}: &{k} [{', '.join(['*' + chr(ord(k) - 1)] * 9)}]\n" for k in "bcdefghijk"),
    "a: 1\na: 2", "---\n---\n", "...", "{1: 2, [a]: b}", "[true, false, null, 1, 1.5, x]",
]  # fmt: skip


def keys(root: type[Section]) -> list[str]:
    made = root.model_fields.items()
    inner = [f"{name}.{key}" for name, field in made for key in getattr(type(field.default), "model_fields", {})]
    return [*root.model_fields, *inner]


def random_flags(draw: random.Random, root: type[Section]) -> list[str]:
    words = []
    for _ in range(draw.randint(1, 4)):
        key = draw.choice(keys(root))
        key = draw.choice([key] * 6 + [f"{key}.x", key[:-1], key.upper(), "", ".", "x" * 3000, f"{key}..", "a.b.c.d"])
        value = draw.choice(HOSTILE)
        words += draw.choice([[f"--{key}", value], [f"--{key}={value}"], [f"--{key}"], [value]])
    return words


def mutilated(draw: random.Random, text: str) -> str:
    for _ in range(draw.randint(1, 3)):
        at, to = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        text = draw.choice(
            [
                text[:at] + draw.choice(HOSTILE) + text[at:],
                text[:at] + text[to:],
                text[:at] + text[at:to] * 2 + text[to:],
                text[:at] + chr(draw.randrange(1, 300)) + text[at + 1 :],
                text.replace(draw.choice(text.split() or [""]), draw.choice(HOSTILE)),
            ]
        )
    return text


def check(seed: int, folder: Path) -> None:
    draw = random.Random(seed)
    name, row = draw.choice(sorted({**TASKS, **SETS}.items()))
    config = None
    if draw.random() < 0.6:
        config = folder / "a.yaml"
        own = [path for path in CONFIGS if path.parent.name == name]
        config.write_bytes(mutilated(draw, draw.choice(own).read_text()).encode("utf-8", "surrogatepass"))
    words = random_flags(draw, row.settings) if config is None or draw.random() < 0.3 else []
    started = time.monotonic()
    try:
        found = read_settings(name, words, "fast", config) if name in TASKS else read_train_settings(config, words)[1]
    except UserError as error:
        message = str(error)
        assert len(message.splitlines()) == 1, (seed, message)
        assert len(message) < 1000, (seed, message[:2000])
    except SystemExit:  # more files than the task takes
        pass
    else:
        (folder / "b.yaml").write_text(to_yaml(found.model_dump(mode="json")))
        assert load_settings(type(found), folder / "b.yaml") == found, seed
    assert time.monotonic() - started < 5, seed


@pytest.mark.parametrize("seed", range(0, 1000, 50))
def test_a_sample_of_hostile_settings(seed, tmp_path):
    for each in (seed, seed + 1, seed + 2):
        check(each, tmp_path)


@pytest.mark.fuzz
def test_a_thousand_hostile_settings(tmp_path):
    for seed in range(1000):
        check(seed, tmp_path)
