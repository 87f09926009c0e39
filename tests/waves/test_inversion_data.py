"""Measured wavefields against the exact solution around a cylinder, and the authors' file layout."""

import math

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.special import h2vp, hankel2, jv, jvp

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.signals.files import SignalError
from hypersiren.waves import measurements as room
from hypersiren.waves.helmholtz_solver import sample_wavefields
from hypersiren.waves.measurements import InversionData, make_inversion, read_inversion
from hypersiren.waves.media import circle

SOURCES = np.array([[-0.35, -0.35], [0.0, -0.35]])
RECEIVERS = np.array([[0.3, 0.4], [-0.4, 0.1], [0.05, 0.42]])


def around_the_circle(sources, receivers, wavenumber, radius=0.1, squared_slowness=0.25):
    """Point sources of strength 1 outside a cylinder: the series of Bessel functions, u and du/dr continuous."""
    k, inside = wavenumber, wavenumber * math.sqrt(squared_slowness)
    (r, rs), (phi, phis) = (
        (np.linalg.norm(receivers, axis=1)[:, None], np.linalg.norm(sources, axis=1)),
        (np.arctan2(*receivers.T)[:, None], np.arctan2(*sources.T)),
    )
    u = -0.25j * hankel2(0, k * np.linalg.norm(receivers[:, None] - sources, axis=-1))
    for n in range(-15, 16):
        j, dj = jv(n, inside * radius), inside * jvp(n, inside * radius)
        scattered = -(k * jvp(n, k * radius) * j - jv(n, k * radius) * dj)
        scattered /= k * h2vp(n, k * radius) * j - hankel2(n, k * radius) * dj
        u = u - 0.25j * scattered * hankel2(n, k * rs) * hankel2(n, k * r) * np.exp(1j * n * (phi - phis))
    return u


def test_made_data_are_the_exact_ones():
    errors = []
    for n in (128, 256):
        made = make_inversion(circle, SOURCES, RECEIVERS, 20.0, amplitude=2 - 1j, n=n)
        exact = (2 - 1j) * math.exp(-(20**2) * 1e-4 / 2) * around_the_circle(SOURCES, RECEIVERS, 20.0)
        errors.append(np.linalg.norm(made.values[0] - exact) / np.linalg.norm(exact))
    assert errors[0] < 0.003
    assert errors[1] < 0.0015
    assert (made.wavenumbers, made.amplitude, made.variance) == ((20.0,), 2 - 1j, 1e-4)


def test_wavefields_are_sampled_at_any_point():
    n = 64
    x = grid((n, n), dtype=torch.float64).numpy()

    def wavefields(x):
        return np.stack([np.exp(1j * (5 * x[:, 0] + 3 * x[:, 1])), x[:, 0] ** 2 - 1j * x[:, 1]])

    points = np.random.default_rng(0).uniform(-0.98, 0.98, (50, 2))
    found = sample_wavefields(wavefields(x).reshape(2, n, n), points)
    np.testing.assert_allclose(found, wavefields(points).T, atol=2e-5)


def file(tmp_path, **changes):
    """A .mat file in the authors' layout."""
    arrays = {"source": SOURCES, "receivers": RECEIVERS, "rec_val": np.arange(6).reshape(3, 2) * (1 + 2j)} | changes
    savemat(tmp_path / "data.mat", {name: array for name, array in arrays.items() if array is not None})
    return tmp_path / "data.mat"


def test_a_file_in_the_authors_layout(tmp_path):
    data = read_inversion(file(tmp_path))
    np.testing.assert_array_equal(data.sources, SOURCES)
    np.testing.assert_array_equal(data.receivers, RECEIVERS)
    np.testing.assert_array_equal(data.values, np.arange(6).reshape(1, 3, 2) * (1 + 2j))
    assert (data.wavenumbers, data.amplitude) == ((20.0,), -1 - 1j)
    assert read_inversion(file(tmp_path), wavenumber=5.0, amplitude=1 + 0j).wavenumbers == (5.0,)


@pytest.mark.parametrize("ending", ["mat", "npz"])
def test_a_file_of_several_frequencies(tmp_path, ending):
    """They come in order, with the file's own sources."""
    values = np.arange(18).reshape(3, 3, 2) * (1 + 2j)
    arrays = {"source": SOURCES, "receivers": RECEIVERS, "rec_val": values, "wavenumbers": np.array([8, 2, 4])}
    path = tmp_path / f"data.{ending}"
    (savemat(path, arrays | {"amplitude": 2j}) if ending == "mat" else np.savez(path, **arrays, amplitude=2j))
    data = read_inversion(path)
    assert (data.wavenumbers, data.amplitude) == ((2.0, 4.0, 8.0), 2j)
    np.testing.assert_array_equal(data.values, values[[1, 2, 0]])
    with pytest.raises(SignalError, match="the file has wavenumbers of its own: expected none as a setting"):
        read_inversion(path, 3.0)


def test_data_of_several_frequencies_are_those_of_each():
    both = make_inversion(circle, SOURCES, RECEIVERS, [6.0, 3.0], n=64)
    assert both.wavenumbers == (3.0, 6.0)
    for i, k in enumerate(both.wavenumbers):
        np.testing.assert_array_equal(both.values[i], make_inversion(circle, SOURCES, RECEIVERS, k, n=64).values[0])
    noisy = both.with_noise(0.1, seed=3)
    np.testing.assert_array_equal(noisy.values, both.with_noise(0.1, seed=3).values)
    assert not np.array_equal(noisy.values, both.with_noise(0.1, seed=4).values)


def test_an_archive_that_is_none(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK no archive")
    with pytest.raises(SignalError, match="not a NumPy archive"):
        read_inversion(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rec_val": None}, "expected the arrays source, receivers, rec_val, got source, receivers: rec_val missing"),
        (
            {"rec_val": np.ones((2, 3))},
            r"expected .* rec_val \(K, R, S\) or \(R, S\), got \(2, 2\), \(3, 2\) and \(2, 3\)",
        ),
        ({"rec_val": np.array([["a", "b"]] * 3)}, "expected numbers in source, receivers, rec_val"),
        ({"rec_val": np.full((3, 2), np.nan)}, "expected finite measured values"),
        ({"source": SOURCES * 3}, r"expected every source inside \[-1, 1\]², got one at \(-1.0.*, -1.0.*\)"),
        ({"receivers": RECEIVERS * np.nan}, r"expected every receiver inside \[-1, 1\]², got one at \(nan, nan\)"),
        (
            {"receivers": np.concatenate([RECEIVERS[:2], SOURCES[1:] + 0.01])},
            r"expected receivers away from the sources, got one on source 1 at \(0.01, -0.33.*\)",
        ),
        ({"rec_val": np.ones((3, 3, 2))}, "expected a wavenumber for each of 3 frequencies, got 1; give them as"),
        ({"rec_val": np.ones((2, 3, 2)), "wavenumbers": [1, 2, 3]}, "a wavenumber for each of 2 frequencies, got 3"),
        ({"rec_val": np.ones((2, 3, 2)), "wavenumbers": [2, 2]}, "2 wavenumbers above 0, all different, got 2, 2"),
        ({"wavenumbers": "k"}, "expected numbers in wavenumbers"),
        ({"source": SOURCES[:0], "rec_val": np.ones((3, 0))}, "expected at least one source, got none"),
    ],
)
def test_a_file_that_no_inversion_can_use(tmp_path, changes, message):
    path = file(tmp_path, **changes)
    with pytest.raises(SignalError, match=message) as caught:
        read_inversion(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_or_no_mat(tmp_path):
    (tmp_path / "text.mat").write_text("no matrix in here, but enough bytes to be asked for a header" * 9)
    with pytest.raises(SignalError, match=r"text.mat: not a .mat file that SciPy can read"):
        read_inversion(tmp_path / "text.mat")
    with pytest.raises(SignalError, match=r"none.mat: no such file"):
        read_inversion(tmp_path / "none.mat")


def test_a_file_of_version_7_3_is_told_how_to_be_saved(tmp_path):
    for name, head in {
        "a.mat": b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n",
        "b.mat": b"\x89HDF\r\n\x1a\n" + bytes(600),
    }.items():
        (tmp_path / name).write_bytes(head)
        with pytest.raises(SignalError, match=r'version 7\.3: save it with save\("data.mat", \.\.\., "-v7"\)'):
            read_inversion(tmp_path / name)


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF, 3, 0])
def test_a_broken_mat_does_not_crash_the_process(tmp_path, size):
    data = bytearray(file(tmp_path).read_bytes())
    data[132:136] = size.to_bytes(4, "little")  # of the first array
    (tmp_path / "broken.mat").write_bytes(data)
    with pytest.raises(SignalError) as caught:
        read_inversion(tmp_path / "broken.mat")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_crash_of_scipy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_CHILD", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(SignalError, match=r"data\.mat: not a \.mat file .*: SciPy crashed"):
        read_inversion(file(tmp_path))


def test_bad_places_are_refused_before_anything_is_solved():
    with pytest.raises(UserError, match="receivers away from the sources"):
        make_inversion(circle, SOURCES, SOURCES, 20.0, n=10_000)
    with pytest.raises(UserError, match="finite measured values"):
        InversionData(SOURCES, RECEIVERS, np.full((1, 3, 2), np.nan + 0j), (20.0,))
