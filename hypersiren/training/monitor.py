"""TensorBoard: scalars kept on the device and flushed together, pictures, sounds, clips, surfaces, text.

The events are written here and not by torch's SummaryWriter, whose thread prints a traceback and raises into the
training where the disk is full: a training never stops for its pictures.
"""

import contextlib
import os
import platform
import secrets
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from torch import Tensor

from hypersiren.tasks.panels import Panel
from hypersiren.training.records import record

FIGURE_SECONDS = 10.0
"""Between figures for TensorBoard, at least."""


class Monitor:
    """Writes TensorBoard events of one run. If that cannot be done, it warns once and is silent from then on.

    Args:
        run_dir: Folder of the events; None: nobody will look, and nothing is written.
        step: First step of this process; what a former process, since lost, told of it and later ones is dropped.
    """

    def __init__(self, run_dir: Path | None, step: int = 1):
        self._pending: list[tuple[list[str], Tensor]] = []
        self._truths: set[str] = set()
        self._drawn = time.monotonic()
        self._file: Any = None
        if run_dir is None:
            return
        self._path = run_dir / (
            f"events.out.tfevents.{int(time.time())}.{platform.node()}.{os.getpid()}.{secrets.token_hex(3)}"
        )
        try:
            self._file = open(self._path, "xb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            self._give_up(error)
        self._write(Event(file_version="brain.Event:2"))
        self._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    @property
    def writes(self) -> bool:
        """Whether what it gets is written: pictures that nobody sees need not be drawn."""
        return self._file is not None

    def wants_figure(self) -> bool:
        """Whether the last figure is long enough ago: drawing one takes a second or so."""
        now = time.monotonic()
        if not self.writes or now - self._drawn < FIGURE_SECONDS:
            return False
        self._drawn = now
        return True

    def record(self, values: Mapping[str, Tensor]) -> None:
        """Keep copies of one step's scalars, for a CUDA graph overwrites its own; does not wait for the device."""
        self._pending.append((list(values), torch.stack([value.detach() for value in values.values()])))

    def collect(self) -> dict[str, Tensor]:
        """All scalars since the last time, by name, in order, on the CPU: one wait for the device."""
        pending, self._pending = self._pending, []
        if not pending:
            return {}
        values = torch.cat([copies for _, copies in pending]).float().cpu()
        names = [name for each, _ in pending for name in each]
        return {name: values[[i for i, other in enumerate(names) if other == name]] for name in dict.fromkeys(names)}

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._values(step, [Summary.Value(tag=name, simple_value=value) for name, value in values.items()])

    def panels(self, step: int, panels: Mapping[str, Panel]) -> None:
        for name, panel in panels.items():
            if name.rpartition("/")[2].startswith("true_"):  # sounds and clips are large, and it stays the same
                if name in self._truths:
                    continue
                self._truths.add(name)
            self._values(step, panel.event(name))

    def text(self, name: str, text: str) -> None:
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        tensor = TensorProto(dtype="DT_STRING", string_val=[f"```\n{text}\n```".encode()], tensor_shape=shape)
        about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        self._values(0, [Summary.Value(tag=f"{name}/text_summary", metadata=about, tensor=tensor)])

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _values(self, step: int, values: Iterable[Summary.Value]) -> None:
        self._write(Event(step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        if self._file is None:
            return
        event.wall_time = time.time()
        try:
            self._file.write(record(event.SerializeToString()))
            self._file.flush()
            os.stat(self._path)  # a folder that was deleted takes whatever is written
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.close()
        warnings.warn(
            f"{self._path.parent}: no events for TensorBoard can be written ({error.strerror or error}); "
            "the training continues without them",
            stacklevel=2,
        )
