"""What an inversion is given: sources, receivers, and the wavefields that were measured there (paper, section 4.3).

A file (.mat or .npz) holds `source` (S, 2), `receivers` (R, 2), `rec_val` (K, R, S), complex, and `wavenumbers` (K,);
it may hold `amplitude` and `variance` of the sources. Of one frequency `rec_val` may be (R, S).

The authors' file holds `source` (S, 2), `receivers` (R, 2) and `rec_val` (R, S), complex. What it does not say was
found by comparing it with the exact solution around a cylinder, which it meets to 1.7 %: the wavenumber is 20, the
squared slowness 1/4 inside radius 0.1 around the middle, waves go out as exp(-i k r), and the sources are the paper's
Gaussians of strength 1 + i under the other sign, d_0(A d_0 u) + ... = +f: in the terms of this package, -(1 + i).

Symbols: K frequencies, S sources, R receivers, n cells along an axis, k wavenumber, m squared slowness.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Complex128, Float64

from hypersiren.errors import UserError
from hypersiren.signals.files import SignalError, check_file, check_library, guarded, limit
from hypersiren.signals.numpy_files import parse_arrays
from hypersiren.waves.helmholtz_solver import check_resolution
from hypersiren.waves.media import Medium, cell_means
from hypersiren.waves.pml import PML
from hypersiren.waves.wavefields import helmholtz_wavefields, point_sources, sampling

FILE_WAVENUMBER, FILE_AMPLITUDE = 20.0, -1 - 1j
"""Wavenumber and source strength of the authors' file."""


@dataclass(frozen=True)
class InversionData:
    """Wavefields that were measured at one frequency or several.

    Attributes:
        sources: Where each of S waves starts.
        receivers: Where they are measured.
        values: The wavefield of each source at each receiver, at each frequency.
        wavenumbers: k of each, ascending.
        amplitude, variance: Of the Gaussian sources.

    Raises:
        UserError: If anything is not finite, a point lies outside [-1, 1]², a receiver on a source, or the wavenumbers
            are not positive, ascending, and as many as there are values.
    """

    sources: Float64[np.ndarray, "S 2"]
    receivers: Float64[np.ndarray, "R 2"]
    values: Complex128[np.ndarray, "K R S"]
    wavenumbers: tuple[float, ...]
    amplitude: complex = 1 + 1j
    variance: float = 1e-4

    def __post_init__(self) -> None:
        _check_points(self.sources, self.receivers, self.variance)
        if not np.isfinite(self.values).all():
            raise UserError("expected finite measured values, got NaN or infinity")
        k = list(self.wavenumbers)
        if not k or k[0] <= 0 or not np.isfinite(k).all() or sorted(set(k)) != k or len(k) != len(self.values):
            listed = ", ".join(f"{one:g}" for one in k) or "none"
            raise UserError(f"expected {len(self.values)} wavenumbers above 0, all different, got {listed}")

    @property
    def scales(self) -> Float64[np.ndarray, " K"]:
        """The root mean square of the values of each frequency; 1 where all are 0."""
        found = np.sqrt((np.abs(self.values) ** 2).mean(axis=(1, 2)))
        return np.where(found > 0, found, 1.0)

    def with_noise(self, noise: float, seed: int = 0) -> "InversionData":
        """The same with Gaussian noise, its root mean square being `noise` times that of each frequency's values.

        Example:
            >>> data = InversionData(np.zeros((1, 2)), np.full((500, 2), 0.5), np.ones((1, 500, 1)) + 0j, (5.0,))
            >>> bool(abs(np.std(data.with_noise(0.1).values - data.values) - 0.1) < 0.01)
            True
        """
        real, imaginary = np.random.default_rng(seed).standard_normal((2, *self.values.shape))
        size = noise * self.scales[:, None, None] / np.sqrt(2)
        return replace(self, values=self.values + size * (real + 1j * imaginary))


def make_inversion(
    medium: Medium,
    sources: Float64[np.ndarray, "S 2"],
    receivers: Float64[np.ndarray, "R 2"],
    wavenumber: float | Sequence[float] = 20.0,
    *,
    amplitude: complex = 1 + 1j,
    variance: float = 1e-4,
    n: int = 256,
    pml: PML = PML(),  # noqa: B008  (frozen)
) -> InversionData:
    """What would be measured in a medium, by differences of fourth order on n x n cells, at one wavenumber or several.

    Raises:
        UserError: As `InversionData` and `solve_helmholtz`.

    Example:
        >>> from hypersiren.waves.media import circle
        >>> data = make_inversion(circle, np.array([[-0.3, 0.0]]), np.array([[0.3, 0.1], [0.3, 0.2]]), 10.0, n=64)
        >>> data.values.shape
        (1, 2, 1)
    """
    _check_points(sources, receivers, variance)
    wavenumbers = tuple(sorted(np.atleast_1d(np.asarray(wavenumber, dtype=np.float64)).tolist()))
    m, read = cell_means(medium, n), sampling(n, receivers)
    check_resolution(n, wavenumbers[-1], m.max().item())
    values = []
    for k in wavenumbers:
        f = point_sources(n, sources, k, amplitude, variance)
        values.append(read(helmholtz_wavefields(m, f, k, pml)).numpy())
    return InversionData(sources, receivers, np.stack(values), wavenumbers, amplitude, variance)


def line_and_sides(
    sources: int, receivers: int, half: float = 0.5
) -> tuple[Float64[np.ndarray, "S 2"], Float64[np.ndarray, "R 2"]]:
    """Where the authors' file has sources and receivers, for any number of them, in a square of that half width.

    Sources are on a line along x_0 on one side of the middle; receivers along the other side, and along one more.

    Example:
        >>> line_and_sides(3, 4)[0].tolist()
        [[-0.35, -0.35], [0.0, -0.35], [0.35, -0.35]]
    """
    near, far = 0.7 * half, 0.8 * half
    lines = np.linspace(-near, near, sources) if sources > 1 else np.zeros(1)
    first, second = (np.linspace(-near, far, n) for n in (receivers - receivers // 2, receivers // 2))
    along = np.stack([first, np.full_like(first, far)], axis=-1)
    across = np.stack([np.full_like(second, far), second], axis=-1)[: receivers // 2]
    return np.stack([lines, np.full(sources, -near)], axis=-1), np.concatenate([along, across])


def read_inversion(
    path: str | os.PathLike[str],
    wavenumber: float | Sequence[float] | None = None,
    amplitude: complex = FILE_AMPLITUDE,
    variance: float = 1e-4,
) -> InversionData:
    """Read measured wavefields, see above. Frequencies are put in order.

    Args:
        path: A MATLAB file (.mat) or a NumPy archive (.npz).
        wavenumber: Of a file that holds none; None for the authors'.
        amplitude, variance: Likewise.

    Raises:
        SignalError: If the file cannot be read, lacks one of the three arrays, or holds what no inversion can use; or
            its wavenumbers are neither in it nor given, or both.
    """
    arrays = _read_arrays(path)
    names = ("source", "receivers", "rec_val")
    if missing := [name for name in names if name not in arrays]:
        there = ", ".join(arrays) or "nothing"
        raise SignalError(f"expected the arrays {', '.join(names)}, got {there}: {', '.join(missing)} missing", path)
    source, receivers, values = (arrays[name] for name in names)
    if not all(np.issubdtype(array.dtype, np.number) for array in (source, receivers, values)):
        raise SignalError(f"expected numbers in {', '.join(names)}", path)
    expected = source.ndim == 2 and receivers.ndim == 2 and source.shape[1] == receivers.shape[1] == 2
    if not expected or values.shape[-2:] != (len(receivers), len(source)) or values.ndim not in (2, 3):
        shapes = f"{source.shape}, {receivers.shape} and {values.shape}"
        names_of = "source (S, 2), receivers (R, 2) and rec_val (K, R, S) or (R, S)"
        raise SignalError(f"expected {names_of}, got {shapes}", path)
    if "wavenumbers" in arrays and wavenumber is not None:
        raise SignalError("the file has wavenumbers of its own: expected none as a setting", path)
    given = FILE_WAVENUMBER if wavenumber is None else wavenumber
    known = {"wavenumbers": given, "amplitude": amplitude, "variance": variance}
    found = {name: np.atleast_1d(np.asarray(arrays.get(name, default))).ravel() for name, default in known.items()}
    if not all(np.issubdtype(array.dtype, np.number) and array.size for array in found.values()):
        raise SignalError(f"expected numbers in {', '.join(known)}", path)
    values = values if values.ndim == 3 else values[None]
    k = found["wavenumbers"].real.astype(np.float64)
    if len(k) != len(values):
        hint = "" if "wavenumbers" in arrays else "; give them as wavenumbers (K,) in the file, or --signal.wavenumber"
        raise SignalError(f"expected a wavenumber for each of {len(values)} frequencies, got {len(k)}{hint}", path)
    order = np.argsort(k)
    try:
        return InversionData(
            source.real.astype(np.float64),
            receivers.real.astype(np.float64),
            values[order].astype(np.complex128),
            tuple(k[order].tolist()),
            complex(found["amplitude"][0]),
            float(found["variance"][0].real),
        )
    except UserError as error:
        raise SignalError(str(error), path) from None


def _read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file, by its ending."""
    if os.fspath(path).lower().endswith(".npz"):
        check_file(path, "measured wavefields")
        with open(path, "rb") as file, guarded("not a NumPy archive (.npz) of arrays", path):
            return parse_arrays(file.read(), "")
    return _read_mat(path)


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
