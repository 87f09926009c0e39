"""A simulated survey of a window of Marmousi: python eval/marmousi.py vp_marmousi_bi FOLDER [--left 5250] [--hz 2,3,4].

The file is Simple2D/vp_marmousi_bi of github.com/devitocodes/data: 1601 x 401 velocities in km/s, 7.5 m apart. FOLDER
gets truth.npy, start.npy (smoothed by 250 m) and data.npz, of which `hypersiren fit inversion` finds the window again.

The window, 3 km wide and deep, is the square that is free of the absorbing layer; beyond it, each medium goes on as at
its own border. 12 sources lie 0.1 km deep; 33 receivers 0.2 km deep, and 20 in each of two wells near the sides.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from hypersiren.waves.measurements import make_inversion
from hypersiren.waves.media import open_medium

SPACING, SIDE, BACKGROUND = 7.5, 400, 2500.0


def places() -> tuple[np.ndarray, np.ndarray]:
    """Sources and receivers in [-0.5, 0.5]², depth first."""

    def at(depth: np.ndarray | float, along: np.ndarray | float) -> np.ndarray:
        return np.stack(np.broadcast_arrays(depth, along), -1) / 3.0 - 0.5  # of km

    well = np.linspace(0.35, 2.85, 20)
    sources = at(0.1, np.linspace(0.15, 2.85, 12))
    receivers = np.concatenate([at(0.2, np.linspace(0.1, 2.9, 33)), at(well, 0.1), at(well, 2.9)])
    return sources, receivers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--left", type=float, default=5250.0, help="of the window, in m")
    parser.add_argument("--hz", default="2,2.5,3,3.5,4,5")
    parser.add_argument("--cells", type=int, default=400, help="of the differences that simulate the data")
    words = parser.parse_args()
    velocity = 1e3 * np.fromfile(words.file, "<f4").reshape(1601, 401).T.astype(float)
    first = round(words.left / SPACING)
    words.folder.mkdir(parents=True, exist_ok=True)
    for name, values in (("truth", velocity), ("start", gaussian_filter(velocity, 250 / SPACING, mode="nearest"))):
        window = values[:SIDE, first : first + SIDE]
        np.save(words.folder / f"{name}.npy", np.pad(window, SIDE // 2, mode="edge").astype(np.float32))
    wavenumbers = [2 * np.pi * float(hz) * SPACING * SIDE / BACKGROUND for hz in words.hz.split(",")]
    medium = open_medium(words.folder / "truth.npy", background=BACKGROUND)
    data = make_inversion(medium, *places(), wavenumbers, n=words.cells)
    np.savez(
        words.folder / "data.npz",
        source=data.sources,
        receivers=data.receivers,
        rec_val=data.values,
        wavenumbers=data.wavenumbers,
        amplitude=data.amplitude,
        variance=data.variance,
    )


if __name__ == "__main__":
    main()
