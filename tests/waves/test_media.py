"""Media: the paper's and those given as images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.errors import UserError
from hypersiren.fields.coords import grid
from hypersiren.waves.media import MEDIA, VelocityImage, cell_means, circle, square, uniform


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
