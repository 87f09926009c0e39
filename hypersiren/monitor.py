"""TensorBoard: scalars kept on the device and flushed together, pictures, clips, text."""

from collections.abc import Mapping
from pathlib import Path

import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from hypersiren.pictures import encode_gif
from hypersiren.tasks import ImagePanel, Panel


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
            if isinstance(panel, ImagePanel):
                self._writer.add_image(name, panel.pixels.clamp(0, 1).cpu().numpy(), step, dataformats="HWC")
            else:  # a GIF, which TensorBoard plays where it expects an image (`add_video` of torch needs moviepy)
                gif = encode_gif(panel.frames.cpu().numpy(), panel.fps)
                _, height, width, _ = panel.frames.shape
                image = Summary.Image(height=height, width=width, encoded_image_string=gif)
                self._writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def text(self, name: str, text: str) -> None:
        self._writer.add_text(name, f"```\n{text}\n```")

    def close(self) -> None:
        self._writer.close()
