"""TensorBoard: scalars kept on the device and flushed together, pictures, sounds, clips, surfaces, text."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from hypersiren.meshes import Mesh
from hypersiren.sound import encode_wav
from hypersiren.tasks import ImagePanel, MeshPanel, Panel, SoundPanel, VideoPanel
from hypersiren.video import encode_gif

CLIP_FRAMES = 40
"""Frames of a clip that TensorBoard gets at most."""


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
            if isinstance(panel, ImagePanel):
                self._writer.add_image(name, panel.pixels.clamp(0, 1).cpu().numpy(), step, dataformats="HWC")
                continue
            if isinstance(panel, MeshPanel):
                self._mesh(name, panel.mesh, step)
                continue
            value = _sound(name, panel) if isinstance(panel, SoundPanel) else _clip(name, panel)
            self._writer._get_file_writer().add_summary(Summary(value=[value]), step)

    def _mesh(self, name: str, mesh: Mesh, step: int) -> None:
        """To the mesh plugin, which knows no light: coloured by the normals."""
        centre = mesh.vertices.mean(0)
        vertices = (mesh.vertices - centre) / np.abs(mesh.vertices - centre).max()
        colors = (127.5 + 127.5 * mesh.normals).astype(np.uint8)
        points, paint, faces = (torch.from_numpy(array[None]) for array in (vertices, colors, mesh.faces))
        self._writer.add_mesh(name, points.float(), colors=paint, faces=faces.int(), global_step=step)

    def text(self, name: str, text: str) -> None:
        self._writer.add_text(name, f"```\n{text}\n```")

    def close(self) -> None:
        self._writer.close()


def _sound(name: str, panel: SoundPanel) -> Summary.Value:
    """A sound as TensorBoard keeps it. (`add_audio` of torch knows one channel.)"""
    wave = panel.wave.cpu().numpy()
    samples, channels = wave.shape
    audio = Summary.Audio(
        sample_rate=panel.rate, num_channels=channels, length_frames=samples,
        encoded_audio_string=encode_wav(wave, panel.rate, bits=16), content_type="audio/wav",
    )  # fmt: skip
    return Summary.Value(tag=name, audio=audio)


def _clip(name: str, panel: VideoPanel) -> Summary.Value:
    """A clip as a GIF, which TensorBoard plays where it expects an image. (`add_video` of torch needs moviepy.)"""
    every = -(-len(panel.frames) // CLIP_FRAMES)
    frames = panel.frames[::every].cpu().numpy()
    height, width = frames.shape[1:3]
    gif = encode_gif(frames, panel.fps / every)
    return Summary.Value(tag=name, image=Summary.Image(height=height, width=width, encoded_image_string=gif))
