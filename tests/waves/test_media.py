"""Media: the paper's and those given as images."""

import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.signals.files import SignalError
from hypersiren.tasks.registry import open_task
from hypersiren.waves.media import MEDIA, VelocityImage, cell_means, circle, open_medium, square, uniform


@pytest.mark.parametrize(("medium", "area"), [(uniform, 0.0), (square, 0.36), (circle, 0.0314159)])
def test_means_over_cells_add_up_to_the_shape(medium, area):
    m = cell_means(medium, 50, samples=8)
    assert m.shape == (50, 50)
    assert ((1 - m) / 0.75).mean().item() * 4 == pytest.approx(area, rel=1e-2)
    assert torch.equal(m, m.T)
    assert set(MEDIA) == {"uniform", "square", "circle"}


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_an_image_has_its_pixels_at_cell_centres(rows, columns):
    velocity = 0.5 + torch.rand(rows, columns, dtype=torch.float64)
    found = VelocityImage(velocity)(grid((rows, columns), dtype=torch.float64))
    torch.testing.assert_close(found, (1 / velocity**2).reshape(-1, 1))


def test_an_image_is_linear_between_pixels_and_constant_beyond():
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(8.0), indexing="ij")
    medium = VelocityImage(1 + 2 * rows + columns)
    x = 0.6 * (2 * torch.rand(3, 20, 2) - 1)
    expected = 1 + 2 * ((x[..., :1] + 1) * 2 - 0.5) + ((x[..., 1:] + 1) * 4 - 0.5)
    torch.testing.assert_close(medium(x), expected.square().reciprocal())
    corner = torch.tensor([[-1.0, -1.0], [-5.0, -0.95]])
    torch.testing.assert_close(medium(corner), torch.ones(2, 1))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_an_impossible_velocity_is_named(value):
    velocity = torch.ones(3, 4)
    velocity[1, 2] = value
    with pytest.raises(UserError, match=r"expected finite velocities above 0, got .* at row 1, column 2"):
        VelocityImage(velocity)
    with pytest.raises(UserError, match="empty"):
        VelocityImage(torch.ones(0, 4))


def test_velocities_in_metres_a_second_are_refused_until_a_background_is_given(tmp_path):
    velocity = np.full((6, 6), 1500)
    velocity[2:4, 2:4] = 3000
    np.save(tmp_path / "c.npy", velocity)
    with pytest.raises(SignalError, match=r"c\.npy: .* got 1500 to 3000: --signal\.background 1500 \(the border's\)"):
        open_medium(tmp_path / "c.npy")
    medium = open_medium(tmp_path / "c.npy", background=1500.0)
    torch.testing.assert_close(medium(torch.tensor([[0.0, 0.0], [-0.9, 0.9]])), torch.tensor([[0.25], [1.0]]))
    signal = {"path": tmp_path / "c.npy", "background": 1500.0, "wavenumber": 5.0, "cells": 64}
    task = open_task("helmholtz", {"signal": signal})
    assert task.medium(torch.zeros(1, 2)).item() == pytest.approx(0.25)  # type: ignore[attr-defined]
    with pytest.raises(SignalError, match="background of 10"):
        open_medium(tmp_path / "c.npy", background=10.0)
    PIL.Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(SignalError, match="got 1500 to 3000"):
        open_medium(tmp_path / "c.png", slowest=1500, fastest=3000)
    found = open_medium(tmp_path / "c.png", slowest=1500, fastest=3000, background=1500.0)
    torch.testing.assert_close(found(torch.tensor([[0.5, 0.5], [0.5, -0.5]])), torch.tensor([[1.0], [0.25]]))


@pytest.mark.parametrize("turned", [False, True])
def test_a_rectangular_model_keeps_its_shape_and_that_is_said(tmp_path, turned):
    velocity = np.tile(np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5]), (2, 1))  # 2 x 8: columns span [-1, 1]
    velocity[1] += 4
    np.save(tmp_path / "c.npy", velocity.T if turned else velocity)
    with pytest.warns(
        UserWarning, match=rf"c\.npy: .* {'columns' if turned else 'rows'} span \[-0.25, 0.25\]"
    ) as heard:
        medium = open_medium(tmp_path / "c.npy")
    assert len(heard) == 1
    x = torch.tensor([[-0.125, 0.125], [0.125, -0.875], [0.9, 0.125], [-0.9, -1.0]])
    expected = torch.tensor([[3.0], [5.0], [7.0], [1.0]])  # beyond the rows as at their border
    torch.testing.assert_close(medium(x.flip(1) if turned else x).rsqrt(), expected)


def test_pictures_of_velocities_keep_their_precision(tmp_path):
    PIL.Image.fromarray(np.array([[0, 1], [2, 65535]], np.uint16)).save(tmp_path / "c.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        medium = open_medium(tmp_path / "c.png")
    assert medium(torch.tensor([[-0.5, 0.5]])).rsqrt().item() == pytest.approx(1 + 1 / 65535, abs=1e-7)
    PIL.Image.fromarray(np.array([[1.0, 2.0]], np.float32)).save(tmp_path / "c.tiff")
    with pytest.raises(SignalError, match=r"c\.tiff: expected floats in \[0, 1\].*NumPy file"):
        open_medium(tmp_path / "c.tiff")


def test_what_is_no_array_of_velocities(tmp_path):
    for name, words in {"missing.npy": "no such file", "text.npy": "NumPy", "cube.npy": "got float64 of shape"}.items():
        if name == "text.npy":
            (tmp_path / name).write_bytes(b"\x93NUMPY\x01\0v\0{'descr': '<f8', 'shape': (((".ljust(200))
        elif name == "cube.npy":
            np.save(tmp_path / name, np.ones((2, 2, 2)))
        with pytest.raises(SignalError, match=words) as caught:
            open_medium(tmp_path / name)
        assert "\n" not in str(caught.value)
