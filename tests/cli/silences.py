"""Run by hand: the longest silence of each of the README's commands, in a terminal of its own.

    python -m tests.cli.silences FOLDER [WORD ...]

FOLDER is empty or of an earlier call: runs and files are made in it. With words only the commands that have one of them
are run. Printed are the longest silence in seconds, the time of the command, and what was last said before.
"""

import fcntl
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Those of the README, in its order, without what needs files or machines that nobody has."""
    shown = re.findall(
        r"uv run hypersiren ([^`\n]+)|^\| \w+ \| `(fit [^`]+)`|`hypersiren (compare [^`]+)`|`(mesh runs[^`]+)`",
        TEXT,
        re.MULTILINE,
    )
    found = [shlex.split("".join(parts), comments=True) for parts in shown]
    found = [[word for word in words if word != "data.npz"] for words in found]  # without a file it is simulated
    return [words for words in found if not {"--data.root", "celeba_fast", "runs/celeba_fast"} & {*words}]


def make_files() -> None:
    """The files that the README's commands name."""
    import nibabel
    import numpy as np
    from skimage import data

    from hypersiren.shapes.files.mesh import write_mesh
    from hypersiren.shapes.sets.solids import solid_mesh
    from hypersiren.signals.image.files import write_image
    from hypersiren.signals.sound.files import chime, write_sound
    from hypersiren.signals.video.files import flight, write_video

    coffee = data.coffee()
    for name in ("photo.png", "photo.jpg"):
        write_image(Path(name), coffee)
    write_image(Path("portrait.jpg"), data.astronaut()[:256, 100:356])
    write_image(Path("eye.png"), data.chelsea()[90:150, 110:190])
    write_image(Path("cup.png"), coffee)
    for name, (height, width) in {"mask.png": coffee.shape[:2], "eye_mask.png": (60, 80)}.items():
        mask = np.zeros((height, width, 1), np.float32)
        mask[height // 4 : -height // 4, width // 4 : -width // 4] = 1
        write_image(Path(name), mask)
    sound = chime(0.0, None)
    write_sound(Path("speech.wav"), np.tile(sound.wave, (8, 1)), sound.rate)
    clip = flight(coffee, 64, (68, 160))
    write_video(Path("clip.mp4"), iter(clip.pixels), clip.fps)
    write_mesh(Path("bunny.ply"), solid_mesh(0, resolution=48)[1])
    volume = np.random.default_rng(0).integers(0, 1000, (32, 64, 64)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), "scan.nii.gz")


def watch(words: list[str]) -> tuple[float, str, float, int]:
    """The longest silence of a command, what was said before it, its time, and its exit code."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))  # without a width there are no bars
    begun = last = time.monotonic()
    longest, before, said = 0.0, "", "its start"
    with subprocess.Popen(
        [sys.executable, "-m", "hypersiren", *words], stdout=slave, stderr=slave, stdin=slave
    ) as child:
        os.close(slave)
        while True:
            ready, _, _ = select.select([master], [], [], 0.1)
            now = time.monotonic()
            if now - last > longest:
                longest, before = now - last, said
            if ready:
                try:
                    text = os.read(master, 65536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
                if not text:
                    break
                parts = [part.strip() for part in re.split(r"\x1b\[\w+|[\r\n]", text) if part.strip()]
                last, said = now, parts[-1] if parts else said
        code = child.wait()
    os.close(master)
    return longest, before, time.monotonic() - begun, code


def main() -> None:
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    if not Path("bunny.ply").exists():
        make_files()
    for words in commands():
        if (wanted and not {*wanted} & {*words}) or any(w.startswith("runs/") and not Path(w).exists() for w in words):
            continue
        longest, before, took, code = watch(words)
        print(f"{longest:5.1f} s of {took:6.1f} s, exit {code}: {shlex.join(words)}   after: {before[:70]}", flush=True)


if __name__ == "__main__":
    main()
