"""Grids and chunked evaluation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.fields.coords import evaluate, grid, nearest_cell
from hypersiren.fields.siren import Siren

sizes = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@settings(deadline=None)
@given(size=sizes, lower=st.floats(-5, 0), width=st.floats(0.1, 5))
def test_grid_is_the_cell_centres_in_row_major_order(size, lower, width):
    x = grid(size, lower, lower + width, dtype=torch.float64).numpy()
    axes = [lower + width * (np.arange(n) + 0.5) / n for n in size]
    oracle = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(size))
    np.testing.assert_allclose(x, oracle, atol=1e-12)


@settings(deadline=None)
@given(size=sizes)
def test_each_grid_point_lies_in_its_own_cell(size):
    assert nearest_cell(grid(size), size).tolist() == list(range(int(np.prod(size))))


def test_a_finer_grid_covers_the_same_picture():
    coarse, fine = grid((4, 4)).view(4, 4, 2), grid((8, 8)).view(4, 2, 4, 2, 2)
    torch.testing.assert_close(fine.mean(dim=(1, 3)), coarse)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_chunks_do_not_change_values(chunk):
    siren = Siren(2, 3, 8, 1).double()
    x = torch.rand(100, 2, dtype=torch.float64)
    y = evaluate(siren, x, chunk)
    torch.testing.assert_close(y, siren(x).detach())
    assert not y.requires_grad
    params = {n: p.detach().expand(2, *p.shape) for n, p in siren.named_parameters()}
    torch.testing.assert_close(evaluate(siren.bind(params), x, chunk), y.expand(2, -1, -1))


def test_bad_grids_are_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        grid((4, 0))
    with pytest.raises(ValueError, match="lower < upper"):
        grid((4,), 1, -1)
    with pytest.raises(ValueError, match="at least one point"):
        evaluate(lambda x: x, torch.rand(3, 1), 0)
