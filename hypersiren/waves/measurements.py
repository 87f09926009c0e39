"""What an inversion is given: sources, receivers, and the wavefields that were measured there (paper, section 4.3).

The authors' file holds `source` (S, 2), `receivers` (R, 2) and `rec_val` (R, S), complex. What it does not say was
found by comparing it with the exact solution around a cylinder, which it meets to 1.7 %: the wavenumber is 20, the
squared slowness 1/4 inside radius 0.1 around the middle, waves go out as exp(-i k r), and the sources are the paper's
Gaussians of strength 1 + i under the other sign, d_0(A d_0 u) + ... = +f: in the terms of this package, -(1 + i).

Symbols: S sources, R receivers, n cells along an axis, k wavenumber, m squared slowness.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex128, Float64

from hypersiren.errors import UserError
from hypersiren.signals.files import SignalError, check_file, check_library, guarded, limit
from hypersiren.signals.numpy_files import parse_arrays
from hypersiren.waves.helmholtz_solver import cell_sources, sample_wavefields, solve_helmholtz
from hypersiren.waves.media import Medium, cell_means
from hypersiren.waves.pml import PML

FILE_WAVENUMBER, FILE_AMPLITUDE = 20.0, -1 - 1j
"""Wavenumber and source strength of the authors' file."""


@dataclass(frozen=True)
class InversionData:
    """Measured wavefields of one frequency.

    Attributes:
        sources: Where each of S waves starts.
        receivers: Where they are measured.
        values: The wavefield of each source at each receiver.
        wavenumber: k.
        amplitude, variance: Of the Gaussian sources.

    Raises:
        UserError: If anything is not finite, a point lies outside [-1, 1]², or a receiver on a source.
    """

    sources: Float64[np.ndarray, "S 2"]
    receivers: Float64[np.ndarray, "R 2"]
    values: Complex128[np.ndarray, "R S"]
    wavenumber: float
    amplitude: complex = 1 + 1j
    variance: float = 1e-4

    def __post_init__(self) -> None:
        _check_points(self.sources, self.receivers, self.variance)
        if not np.isfinite(self.values).all():
            raise UserError("expected finite measured values, got NaN or infinity")


def make_inversion(
    medium: Medium,
    sources: Float64[np.ndarray, "S 2"],
    receivers: Float64[np.ndarray, "R 2"],
    wavenumber: float = 20.0,
    *,
    amplitude: complex = 1 + 1j,
    variance: float = 1e-4,
    n: int = 256,
    pml: PML = PML(),  # noqa: B008  (frozen)
) -> InversionData:
    """What would be measured in a medium, by finite differences on n x n cells.

    Raises:
        UserError: As `InversionData` and `solve_helmholtz`.

    Example:
        >>> from hypersiren.waves.media import circle
        >>> data = make_inversion(circle, np.array([[-0.3, 0.0]]), np.array([[0.3, 0.1], [0.3, 0.2]]), 10.0, n=64)
        >>> data.values.shape
        (2, 1)
    """
    _check_points(sources, receivers, variance)
    f = cell_sources(n, sources, amplitude, variance)
    wavefields = solve_helmholtz(cell_means(medium, n).numpy(), f, wavenumber, pml)
    return InversionData(sources, receivers, sample_wavefields(wavefields, receivers), wavenumber, amplitude, variance)


def read_inversion(
    path: str | os.PathLike[str], wavenumber: float = FILE_WAVENUMBER, amplitude: complex = FILE_AMPLITUDE
) -> InversionData:
    """Read a MATLAB file in the layout of the authors' (see above).

    Args:
        path: The file.
        wavenumber, amplitude: Which such a file does not hold.

    Raises:
        SignalError: If the file is no .mat file, lacks one of the three arrays, or holds what no inversion can use.
    """
    arrays = _read_mat(path)
    names = ("source", "receivers", "rec_val")
    if missing := [name for name in names if name not in arrays]:
        there = ", ".join(arrays) or "nothing"
        raise SignalError(f"expected the arrays {', '.join(names)}, got {there}: {', '.join(missing)} missing", path)
    source, receivers, values = (arrays[name] for name in names)
    if not all(np.issubdtype(array.dtype, np.number) for array in (source, receivers, values)):
        raise SignalError(f"expected numbers in {', '.join(names)}", path)
    expected = source.ndim == 2 and receivers.ndim == 2 and source.shape[1] == receivers.shape[1] == 2
    if not expected or values.shape != (len(receivers), len(source)):
        shapes = f"{source.shape}, {receivers.shape} and {values.shape}"
        raise SignalError(f"expected source (S, 2), receivers (R, 2) and rec_val (R, S), got {shapes}", path)
    try:
        return InversionData(
            source.real.astype(np.float64),
            receivers.real.astype(np.float64),
            values.astype(np.complex128),
            wavenumber,
            amplitude,
        )
    except UserError as error:
        raise SignalError(str(error), path) from None


_CHILD = """
import os, sys, numpy, scipy.io
if sys.platform == "linux":
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
with open(sys.argv[1], "rb") as file:  # loadmat itself looks for other names, and blames the format
    arrays = scipy.io.loadmat(file)
plain = {name: a for name, a in arrays.items() if not name.startswith("__")}
plain = {name: a if getattr(a, "dtype", numpy.dtype(object)).kind in "biufc" else "" for name, a in plain.items()}
numpy.savez(sys.stdout.buffer, **plain)
"""


def _read_mat(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a MATLAB file, read in a process of its own: a broken one can crash SciPy.

    What holds no numbers is an empty text.
    """
    check_file(path, "a MATLAB file")
    with open(path, "rb") as file:
        head = file.read(520)
    if head.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n" in head:
        raise SignalError('a MATLAB file of version 7.3: save it with save("data.mat", ..., "-v7")', path)
    room = 2 * limit() + 2**32  # what the libraries themselves take of the address space, too
    command = [sys.executable, "-c", _CHILD, os.path.abspath(path), str(room)]
    few = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=few)
    except subprocess.TimeoutExpired:
        raise SignalError("a broken .mat file: SciPy did not end reading it in a minute", path) from None
    if done.returncode:
        kind, _, text = done.stderr.decode(errors="replace").strip().rpartition("\n")[2].partition(": ")
        if kind in ("ImportError", "ModuleNotFoundError") or (kind == "AttributeError" and text.startswith("module ")):
            check_library(ImportError(text), path)
        crash = ": SciPy crashed" if done.returncode < 0 else ""
        raise SignalError(f"not a .mat file that SciPy can read (up to version 7){crash}", path)
    with guarded("a broken .mat file", path):
        return parse_arrays(done.stdout, "")


def _check_points(sources: np.ndarray, receivers: np.ndarray, variance: float) -> None:
    for kind, points in (("source", sources), ("receiver", receivers)):
        if not len(points):
            raise UserError(f"expected at least one {kind}, got none")
        outside = ~(np.abs(points) < 1).all(axis=1)  # NaN is outside, too
        if outside.any():
            raise UserError(f"expected every {kind} inside [-1, 1]², got one at {tuple(points[outside][0].tolist())}")
    distances = np.linalg.norm(receivers[:, None] - sources, axis=-1)
    receiver, source = np.unravel_index(distances.argmin(), distances.shape)
    if distances[receiver, source] < 3 * np.sqrt(variance):
        place = tuple(receivers[receiver].tolist())
        raise UserError(f"expected receivers away from the sources, got one on source {source} at {place}")
