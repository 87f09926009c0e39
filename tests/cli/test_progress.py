"""What a person sees while a command runs: stages from the first second, bars, results with units, the next command."""

import fcntl
import logging
import os
import pty
import re
import struct
import sys
import termios
import time
import types

import pytest

from hypersiren.cli import lines
from hypersiren.cli.main import main
from hypersiren.training.display import bar_size
from tests.cli.test_cli import TINY as TINY_SET
from tests.cli.test_cli_fit import TINY, photo  # noqa: F401 - a fixture
from tests.cli.test_cli_fit import run as run_here
from tests.lines import refusal

TELLING = """
import sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "torch":
            print("<torch>", flush=True)
sys.meta_path.insert(0, Finder())
from hypersiren.cli.main import main
from hypersiren.training.display import bar_size
main(sys.argv[1:])
"""
"""Runs the command, and says when torch is imported."""


def in_terminal(*words) -> str:
    """What a command writes to a pseudo-terminal; what a line was before it was replaced has lines of its own."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", TELLING, *map(str, words)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    text = b"".join(parts).decode()
    assert os.waitpid(child, 0)[1] == 0, text
    return re.sub(r"\x1b\[[KA]|\r\n|\r", "\n", text)


def assert_in_order(text: str, *expected: str) -> None:
    place = 0
    for each in expected:
        assert each in text[place:], f"no {each!r} after {text[:place][-200:]!r} in {text}"
        place += text[place:].index(each) + len(each)


STAGES = {
    "fit image a.png": """
        fit image a.png: loading PyTorch | <torch> | reading a.png | run folder runs/image-a | building the field
        preparing the optimiser | 0/4 | 2/4 | evaluating | 4/4 | psnr | drawing runs/image-a/summary.png
        drawing the result | runs/image-a/summary.png | dB (higher is better)
        next: hypersiren render runs/image-a --size 1024""",
    "compare image a.png --fields siren,relu": """
        compare image a.png: loading PyTorch | <torch> | reading a.png | field 1 of 2: siren | siren: | 4/4
        field 2 of 2: relu | relu : | 4/4 | psnr: dB, higher is better | drawing comparison.png
        next: hypersiren fit image a.png""",
    "train": """
        train faces: loading PyTorch | <torch> | reading images: faces | building the model | run folder runs/faces
        0/4 | 4/4 | drawing summary.png | evaluating 6 methods on 40 test images
        evaluating 10 pixels: hypersiren (1 of 6) | evaluating 10 pixels: Gaussian (2 of 6)
        evaluating full pixels: biharmonic (6 of 7) | drawing completion.png | hypersiren
        next: hypersiren complete runs/faces photo.jpg""",
}
"""A command, and what stands in its terminal, in this order."""


@pytest.mark.parametrize("command", STAGES)
@pytest.mark.slow
def test_every_stage_has_a_word_in_a_terminal(command, photo):  # noqa: F811
    text = in_terminal(*command.split(), *(TINY_SET if command == "train" else TINY))
    assert_in_order(text, *re.split(r"\s*[|\n]\s*", STAGES[command].strip()))


@pytest.mark.parametrize(("columns", "size"), [(0, {"ncols": 80, "nrows": 24}), (120, {"dynamic_ncols": True})])
def test_a_terminal_without_a_size_has_bars(columns, size, monkeypatch):
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(isatty=lambda: True, fileno=lambda: 2))
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((columns, columns // 5)))
    assert bar_size() == size


def test_quiet_prints_results_alone_and_verbose_the_details(photo, capsys):  # noqa: F811
    code, out, err = run_here(capsys, "fit", "-q", "image", "a.png", *TINY)
    assert (code, err) == (0, "")
    assert re.search(r"^psnr +[\d.]+ dB \(higher is better\)$", out, re.MULTILINE)
    assert re.search(r"^ssim +[\d.]+ \(higher is better\)$", out, re.MULTILINE)
    code, same, err = run_here(capsys, "fit", "image", "a.png", *TINY, "--restart", "--verbose")
    assert (code, same) == (0, out)
    assert "evaluating after step 2" in err
    code, out, err = run_here(capsys, "fit", "image", "missing.png", "--quiet")
    assert (code, out, refusal(err), err.count("\n")) == (2, "", "missing.png: no such file", 1)
    assert not lines.LOG.handlers
    assert lines.LOG.level == logging.NOTSET


def test_out_has_a_short_name_and_steps_tell_where_a_run_resumes(photo, capsys):  # noqa: F811
    assert run_here(capsys, "fit", "image", "a.png", "-o", "x", *TINY)[0] == 0
    code, _, err = run_here(capsys, "fit", "image", "a.png", "-o", "x", *TINY, "--training.steps", 6)
    assert code == 0
    assert "resuming after 4 of 6 steps" in err


class Terminal:
    """A stderr that says that it is a terminal."""

    def __init__(self):
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def test_a_long_stage_counts_its_seconds_and_leaves_no_trace(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(lines, "SILENCE", 0.01)
    with lines.showing(logging.INFO):
        lines.LOG.info("thinking")
        deadline = time.monotonic() + 30
        while "... thinking, 0 s" not in terminal.text and time.monotonic() < deadline:
            time.sleep(0.01)
        logging.getLogger("hypersiren.deep").debug("a detail\nof %d lines", 2)
    assert terminal.text.startswith("thinking\n")
    assert "... thinking, 0 s" in terminal.text
    assert "\r\x1b[Ka detail\\nof 2 lines" in terminal.text
    assert terminal.text.endswith("\r\x1b[K")


def test_a_closed_pipe_is_no_error(monkeypatch, capfd):
    def broken(text: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("hypersiren.cli.main.show", broken)
    kept = os.dup(1)
    try:
        main(["settings"])
    finally:
        os.dup2(kept, 1)
    assert capfd.readouterr() == ("", "")
