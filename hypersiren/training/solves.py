"""A solve that is interrupted, even by a kill, goes on where it was: `solve.pt` of a run folder.

It holds the rows of windows that are solved, and of what they are. It is written beside and renamed, and is gone once
the run's own checkpoint is written.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.settings.yaml import to_yaml
from hypersiren.training import checkpoints
from hypersiren.training.folders import differences, locked, refuse_others, sign, write_text
from hypersiren.training.interrupts import Stop, stop_requested

LOG = logging.getLogger(__name__)

KEEP_SECONDS = 10.0
"""Between writes, which take at most a tenth of the time."""

NAME = "solve.pt"


class KeptSolve:
    """Keeps the rows of windows that are solved in a file; see `hypersiren.fields.window_solve.Keep`.

    Args:
        path: The file.
        record: What is solved, as plain values: rows of another are not taken.
        stop: Is set when the solve is to end, after a strip, with what it has.
    """

    def __init__(self, path: Path, record: dict[str, Any], stop: Stop):
        self.path, self.record, self.stop = path, record, stop
        self.due = time.monotonic() + KEEP_SECONDS
        self.begun, self.seconds = time.perf_counter(), 0.0  # seconds: of the parts before

    @torch.no_grad()
    def load(self, field: CompactWindows) -> int:
        if not self.path.exists():
            return 0
        content = checkpoints.read(self.path)
        there = content["ema"]
        done, of = content["step"], {"mix": field.mix, "offset": field.offset}
        same = content["record"] == {**self.record, "model": field.description}
        if not same or any(not torch.equal(there[name], value.cpu()) for name, value in of.items()):
            return 0
        self.seconds = content["seconds"]
        LOG.info("going on after %d %% of the windows", 100 * done // field.windows.count[0])
        field.coefficients[: len(there["coefficients"])] = there["coefficients"].to(field.coefficients)
        return done

    def save(self, field: CompactWindows, rows: int) -> None:
        stopping = self.stop.is_set()
        if rows == field.windows.count[0] or not (stopping or time.monotonic() > self.due):
            return
        begun = time.monotonic()
        done = rows * len(field.windows) // field.windows.count[0]
        kept = {"coefficients": field.coefficients[:done].clone(), "mix": field.mix, "offset": field.offset}
        weights = {name: value.detach().cpu() for name, value in kept.items()}
        record = {**self.record, "model": field.description}
        seconds = self.seconds + time.perf_counter() - self.begun
        checkpoints.write(
            self.path, {"record": record, "ema": weights, "metrics": {}, "step": rows, "seconds": seconds}
        )
        took = time.monotonic() - begun
        self.due = time.monotonic() + max(KEEP_SECONDS, 9 * took)
        if stopping:
            raise self.stop.error()


@contextmanager
def kept_solve(folder: Path, settings: dict[str, Any], digest: str | None) -> Iterator[KeptSolve]:
    """Keep a solve in a run folder, which this process alone has meanwhile, and which says whose it is.

    Ctrl-C and SIGTERM end it after the strip that is worked on, as a KeyboardInterrupt or a SystemExit.

    Args:
        folder: The run folder.
        settings: Of the run, resolved, as plain values.
        digest: Of the signal.

    Raises:
        TrainingError: If another run, or another process, has the folder.
    """
    with locked(folder), stop_requested() as stop:
        refuse_others(folder, differences(folder, settings, digest))
        sign(folder, digest)
        write_text(folder / "config.yaml", to_yaml(settings))
        yield KeptSolve(folder / NAME, {"network": settings["network"], "digest": digest}, stop)


def forget(folder: Path) -> None:
    """Delete what is kept of a solve that is done."""
    (folder / NAME).unlink(missing_ok=True)
