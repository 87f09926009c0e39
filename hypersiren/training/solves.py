"""A solve that is interrupted, even by a kill, goes on where it was: `solve.pt` of a run folder.

It holds the rows of windows that are solved, and of what they are. It is written beside and renamed, and is gone once
the run's own checkpoint is written. Several processes divide the rows, and keep theirs in a file each.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.settings.yaml import to_yaml
from hypersiren.training import checkpoints
from hypersiren.training.display import processes, rank
from hypersiren.training.folders import differences, locked, refuse_others, sign, write_text
from hypersiren.training.interrupts import Stop

LOG = logging.getLogger(__name__)

KEEP_SECONDS = 10.0
"""Between writes, which take at most a tenth of the time."""


class KeptSolve:
    """Keeps the rows of windows that are solved in a file; see `hypersiren.fields.window_solve.Keep`.

    Args:
        folder: The run folder; on another machine than the first process's it need not be there, and nothing is kept.
        record: What is solved, as plain values: rows of another are not taken.
        stop: Is set when the solve is to end, after a strip, with what it has.
    """

    def __init__(self, folder: Path, record: dict[str, Any], stop: Stop):
        one = processes() == 1
        self.path = folder / ("solve.pt" if one else f"solve-{rank() + 1}of{processes()}.pt")
        self.record, self.stop, self.last = record, stop, 0
        self.due = time.monotonic() + KEEP_SECONDS
        self.begun, self.seconds = time.perf_counter(), 0.0  # seconds: of the parts before

    def share(self, strips: int) -> tuple[int, int]:
        return rank() * strips // processes(), (rank() + 1) * strips // processes()

    @torch.no_grad()
    def load(self, field: CompactWindows, rows: tuple[int, int]) -> int:
        first, self.last = rows
        if not self.path.exists():
            return first
        content = checkpoints.read(self.path)
        there = content["ema"]
        done, of = content["step"], {"mix": field.mix, "offset": field.offset}
        same = content["record"] == {**self.record, "model": field.description}
        if not same or any(not torch.equal(there[name], value.cpu()) for name, value in of.items()):
            return first
        self.seconds = content["seconds"]
        LOG.info("going on after %d %% of the windows", 100 * (done - first) // (self.last - first))
        field.coefficients[cells(field, (first, done))] = there["coefficients"].to(field.coefficients)
        return done

    def save(self, field: CompactWindows, rows: tuple[int, int]) -> None:
        stopping = self.stop.is_set()
        if rows[1] == self.last or not (stopping or time.monotonic() > self.due) or not self.path.parent.exists():
            return
        begun = time.monotonic()
        kept = {
            "coefficients": field.coefficients[cells(field, rows)].clone(),
            "mix": field.mix,
            "offset": field.offset,
        }
        weights = {name: value.detach().cpu() for name, value in kept.items()}
        record = {**self.record, "model": field.description}
        seconds = self.seconds + time.perf_counter() - self.begun
        checkpoints.write(
            self.path, {"record": record, "ema": weights, "metrics": {}, "step": rows[1], "seconds": seconds}
        )
        took = time.monotonic() - begun
        self.due = time.monotonic() + max(KEEP_SECONDS, 9 * took)
        if stopping:
            raise self.stop.error()

    @torch.no_grad()
    def gather(self, field: CompactWindows, rows: tuple[int, int]) -> None:
        if processes() == 1:
            return
        shares: list[Any] = [None] * processes()
        dist.all_gather_object(shares, rows)
        for process, share in enumerate(shares):
            if share[1] > share[0]:
                dist.broadcast(field.coefficients[cells(field, share)], process)


def cells(field: CompactWindows, rows: tuple[int, int]) -> slice:
    """The windows of some rows, as places in a field's coefficients."""
    each = len(field.windows) // field.windows.count[0]
    return slice(rows[0] * each, rows[1] * each)


@contextmanager
def own_folder(folder: Path, settings: dict[str, Any], digest: str | None) -> Iterator[None]:
    """Have a run folder for this process and those that it works with alone, and write into it whose it is.


    Args:
        folder: The run folder.
        settings: Of the run, resolved, as plain values.
        digest: Of the signal.

    Raises:
        TrainingError: If another run, or another process, has the folder.
    """
    with locked(folder):
        refuse_others(folder, differences(folder, settings, digest))
        sign(folder, digest)
        write_text(folder / "config.yaml", to_yaml(settings))
        yield


def forget(folder: Path) -> None:
    """Delete what is kept of a solve that is done."""
    for path in folder.glob("solve*.pt"):
        path.unlink(missing_ok=True)
