"""What a fit leaves for a person to open: its panels as files."""

from collections.abc import Mapping
from pathlib import Path

from hypersiren.pictures import encode_gif
from hypersiren.signals import write_image
from hypersiren.tasks import ImagePanel, Panel


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
        else:
            written.append(folder / f"{name}.gif")
            written[-1].write_bytes(encode_gif(panel.frames.cpu().numpy(), panel.fps))
    return written
