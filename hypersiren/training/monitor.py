"""TensorBoard: scalars kept on the device and flushed together, pictures, sounds, clips, surfaces, text."""

from collections.abc import Mapping
from pathlib import Path

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from hypersiren.tasks.panels import Panel


class Monitor:
    """Writes TensorBoard events of one run.

    Args:
        run_dir: Folder of the events.
        step: First step of this process; what a former process, since lost, told of it and later ones is dropped.
    """

    def __init__(self, run_dir: Path, step: int = 1):
        from torch.utils.tensorboard import SummaryWriter  # heavy

        self._writer = SummaryWriter(str(run_dir), purge_step=step)
        self._pending: dict[str, list[Tensor]] = {}
        self._truths: set[str] = set()

    def record(self, values: Mapping[str, Tensor]) -> None:
        """Keep scalars of one step, without waiting for the device."""
        for name, value in values.items():
            self._pending.setdefault(name, []).append(value.detach())

    def collect(self) -> dict[str, Tensor]:
        """All scalars since the last time, by name, in order, on the CPU: one wait for the device."""
        pending, self._pending = self._pending, {}
        if not pending:
            return {}
        values = torch.stack([value for series in pending.values() for value in series]).float().cpu()
        return dict(zip(pending, values.split([len(series) for series in pending.values()]), strict=True))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def panels(self, step: int, panels: Mapping[str, Panel]) -> None:
        for name, panel in panels.items():
            if name.rpartition("/")[2].startswith("true_"):  # sounds and clips are large, and it stays the same
                if name in self._truths:
                    continue
                self._truths.add(name)
            self._writer._get_file_writer().add_summary(Summary(value=panel.event(name)), step)

    def text(self, name: str, text: str) -> None:
        self._writer.add_text(name, f"```\n{text}\n```")

    def close(self) -> None:
        self._writer.close()
