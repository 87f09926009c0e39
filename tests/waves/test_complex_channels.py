"""Pairs against Python's own complex numbers."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersiren.waves.complex_channels import multiply, pair, to_channels, to_complex

numbers = st.complex_numbers(max_magnitude=100, allow_nan=False)


@settings(deadline=None)
@given(z=numbers, w=numbers)
def test_products(z, w):
    as_pair = [torch.tensor([y.real, y.imag], dtype=torch.float64) for y in (z, w)]
    a, b = multiply(*as_pair).tolist()
    assert abs(complex(a, b) - z * w) <= 1e-10 * (1 + abs(z * w))


def test_one_factor_for_many():
    z, w = torch.rand(5, 1, 2), torch.rand(5, 3, 2)
    expected = torch.view_as_complex(z) * torch.view_as_complex(w)
    torch.testing.assert_close(torch.view_as_complex(multiply(z, w)), expected)


def test_channels_and_back():
    z = torch.randn(4, 3, dtype=torch.complex128)
    y = to_channels(z)
    assert y.shape == (4, 6)
    assert torch.equal(y[:, 2::2], z.real[:, 1:])
    assert torch.equal(to_complex(y), z)
    assert torch.equal(to_complex(torch.cat([y, y], dim=-1)[:, :6]), z)  # not contiguous
    assert torch.equal(pair(y[:, 0], y[:, 1]), torch.view_as_real(z[:, 0]))
