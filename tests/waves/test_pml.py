"""The layer's coefficients against the formulas of the paper in complex arithmetic, differentiated by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import jacfwd, vmap

from hypersiren.waves.pml import PML


def stretches(x, pml, wavenumber=20.0):
    """e_0 and e_1 at one point as the paper writes them, with the wavenumber that cancels."""
    depth = torch.relu(x - (1 - pml.width)) + torch.relu(-x - (1 - pml.width))
    s = pml.strength * wavenumber * (depth / pml.width) ** 2
    return 1 - 1j * s / wavenumber


@settings(max_examples=30, deadline=None)
@given(width=st.floats(0.1, 0.9), strength=st.floats(0, 10), seed=st.integers(0, 2**31))
def test_coefficients_and_their_derivatives(width, strength, seed):
    pml = PML(width, strength)
    x = 2 * torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) - 1

    def abc(x):
        e0, e1 = stretches(x, pml).unbind()
        return torch.view_as_real(torch.stack([e1 / e0, e0 / e1, e0 * e1]))

    found = pml.coefficients(x)
    a, b, c = vmap(abc)(x).unbind(1)
    derivatives = vmap(jacfwd(abc))(x)  # (N, 3, 2, 2)
    for y, expected in [
        (found.a, a),
        (found.b, b),
        (found.c, c),
        (found.da, derivatives[:, 0, :, 0]),
        (found.db, derivatives[:, 1, :, 1]),
    ]:
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)


def test_nothing_happens_outside_the_layer():
    found = PML(width=0.5).coefficients(torch.rand(10, 2) - 0.5)
    one, zero = torch.tensor([1.0, 0.0]).expand(10, 2), torch.zeros(10, 2)
    for y in (found.a, found.b, found.c):
        assert torch.equal(y, one)
    for y in (found.da, found.db):
        assert torch.equal(y, zero)


@pytest.mark.parametrize(("width", "strength"), [(0.0, 5.0), (1.0, 5.0), (0.5, -1.0), (0.5, float("nan"))])
def test_what_makes_no_layer_is_refused(width, strength):
    with pytest.raises(ValueError, match="expected 0 < width < 1 and strength >= 0"):
        PML(width, strength)
