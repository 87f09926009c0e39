"""Panels: what a task shows a person. A panel writes itself to a folder and to TensorBoard.

What writes sounds, clips and surfaces is imported where it is needed: a picture does without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hypersiren.signals.image.files import encode_png, write_encoded

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

    from hypersiren.shapes.mesh import Mesh

CLIP_FRAMES = 40
"""Frames of a clip that TensorBoard gets at most."""


@runtime_checkable
class Panel(Protocol):
    """Something for a person to look at or to listen to."""

    def write(self, folder: Path, name: str) -> Path:
        """Write it as a file of that name and the right ending; the file."""

    def event(self, name: str) -> "list[Summary.Value]":
        """What TensorBoard gets of it."""


@dataclass(frozen=True)
class ImagePanel:
    """A picture: (H, W, C) values in [0, 1], C = 1 or 3."""

    pixels: Float[Tensor, "H W C"]

    @classmethod
    def of(cls, pixels: UInt8[np.ndarray, "H W C"] | Float[np.ndarray, "H W C"]) -> "ImagePanel":
        """The panel of an array: uint8, or float values in [0, 1]."""
        scale = 255 if pixels.dtype == np.uint8 else 1
        return cls(torch.from_numpy(np.ascontiguousarray(pixels / np.float32(scale), np.float32)))

    @cached_property
    def encoded(self) -> bytes:
        """As PNG."""
        return encode_png(self.pixels.cpu().numpy())

    def write(self, folder: Path, name: str) -> Path:
        path = folder / f"{name}.png"
        write_encoded(path, self.encoded)
        return path

    def event(self, name: str) -> "list[Summary.Value]":
        height, width = self.pixels.shape[:2]
        return [_value(name, image=_summary().Image(height=height, width=width, encoded_image_string=self.encoded))]


@dataclass(frozen=True)
class SoundPanel:
    """A sound: (N, C) amplitudes, 1 being full scale, so many samples a second."""

    wave: Float[Tensor, "N C"]
    rate: int

    def write(self, folder: Path, name: str) -> Path:
        from hypersiren.signals.sound.files import write_sound

        path = folder / f"{name}.wav"
        write_sound(path, self.wave.cpu().numpy(), self.rate)
        return path

    def event(self, name: str) -> "list[Summary.Value]":
        """(`add_audio` of torch knows one channel.)"""
        from hypersiren.signals.sound.files import encode_wav

        wave = self.wave.cpu().numpy()
        samples, channels = wave.shape
        audio = _summary().Audio(
            sample_rate=self.rate, num_channels=channels, length_frames=samples,
            encoded_audio_string=encode_wav(wave, self.rate, bits=16), content_type="audio/wav",
        )  # fmt: skip
        return [_value(name, audio=audio)]


@dataclass(frozen=True)
class VideoPanel:
    """A clip, at so many frames a second."""

    frames: UInt8[Tensor, "T H W C"]
    fps: float

    def middle(self) -> ImagePanel:
        """The frame in the middle."""
        return ImagePanel(self.frames[len(self.frames) // 2] / 255)

    def write(self, folder: Path, name: str) -> Path:
        from hypersiren.signals.video.files import video_ending, write_video

        path = folder / f"{name}{video_ending()}"
        write_video(path, self.frames.cpu().numpy(), self.fps)
        return path

    def event(self, name: str) -> "list[Summary.Value]":
        """A GIF, which TensorBoard plays where it expects an image. (`add_video` of torch needs moviepy.)"""
        from hypersiren.signals.video.files import encode_gif

        every = -(-len(self.frames) // CLIP_FRAMES)
        frames = self.frames[::every].cpu().numpy()
        height, width = frames.shape[1:3]
        gif = encode_gif(frames, self.fps / every)
        return [_value(name, image=_summary().Image(height=height, width=width, encoded_image_string=gif))]


@dataclass(frozen=True)
class MeshPanel:
    """A surface, in the units of the signal."""

    mesh: "Mesh"

    def write(self, folder: Path, name: str) -> Path:
        from hypersiren.shapes.files.mesh import write_mesh

        path = folder / f"{name}.ply"
        write_mesh(path, self.mesh)
        return path

    def event(self, name: str) -> "list[Summary.Value]":
        """For the mesh plugin, which knows no light: without colours of its own it has those of its normals."""
        from torch.utils.tensorboard.summary import mesh as summary

        centre = self.mesh.vertices.mean(0)
        vertices = (self.mesh.vertices - centre) / np.abs(self.mesh.vertices - centre).max()
        own = self.mesh.colours is not None
        colors = self.mesh.levels() if own else (127.5 + 127.5 * self.mesh.normals).astype(np.uint8)
        faces = self.mesh.faces.astype(np.int32)
        return list(summary(name, vertices.astype(np.float32)[None], colors[None], faces[None], None).value)


def write_panels(folder: Path, panels: Mapping[str, Panel]) -> list[Path]:
    """Write each panel as a file of its name; the files.

    Raises:
        SignalError: If one cannot be written.
    """
    return [panel.write(folder, name) for name, panel in panels.items()]


def _summary() -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary


def _value(tag: str, **content: Any) -> "Summary.Value":
    return _summary().Value(tag=tag, **content)
