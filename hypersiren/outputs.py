"""What a fit leaves for a person to open: its panels as files."""

from collections.abc import Mapping
from pathlib import Path

from hypersiren.meshes import write_mesh
from hypersiren.signals import SignalError, write_image
from hypersiren.sound import write_sound
from hypersiren.tasks import ImagePanel, MeshPanel, Panel, SoundPanel
from hypersiren.video import write_video
from hypersiren.video_sources import import_av


def video_ending() -> str:
    """.mp4, or .gif where PyAV is missing."""
    try:
        import_av("")
    except SignalError:
        return ".gif"
    return ".mp4"


def write_panels(folder: Path, panels: Mapping[str, Panel]) -> list[Path]:
    """Write each panel as a file of its name; the files.

    Raises:
        SignalError: If one cannot be written.
    """
    written = []
    for name, panel in panels.items():
        if isinstance(panel, ImagePanel):
            written.append(folder / f"{name}.png")
            write_image(written[-1], panel.pixels.cpu().numpy())
        elif isinstance(panel, SoundPanel):
            written.append(folder / f"{name}.wav")
            write_sound(written[-1], panel.wave.cpu().numpy(), panel.rate)
        elif isinstance(panel, MeshPanel):
            written.append(folder / f"{name}.ply")
            write_mesh(written[-1], panel.mesh)
        else:
            written.append(folder / f"{name}{video_ending()}")
            write_video(written[-1], panel.frames.cpu().numpy(), panel.fps)
    return written
