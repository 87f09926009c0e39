"""Encodings against loops over points and features."""

import math

import pytest
import torch

from hypersiren.fields.encodings import FourierFeatures, PositionalEncoding, RadialBasis, nyquist_octaves


def points(*shape: int) -> torch.Tensor:
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1


def test_positional_encoding_is_the_octaves_of_each_axis():
    x = points(7, 2)
    encoding = PositionalEncoding([3, 1]).double()
    phases = [(0, 1), (0, 2), (0, 4), (1, 1)]
    for point, found in zip(x, encoding(x), strict=True):
        expected = [
            *point.tolist(),
            *(math.sin(f * math.pi * point[d]) for d, f in phases),
            *(math.cos(f * math.pi * point[d]) for d, f in phases),
        ]
        torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=1e-6)  # pi of single precision
    assert encoding(x).shape[-1] == encoding.out_features
    assert not encoding.state_dict()
    assert torch.equal(PositionalEncoding([0, 0])(x), x)


@pytest.mark.parametrize("samples", [1, 3, 4, 8, 100, 512, 308_207])
def test_the_highest_octave_stays_below_the_nyquist_frequency(samples):
    octaves = nyquist_octaves(samples)
    nyquist = math.pi / (2 / samples)  # radians per unit of samples that lie 2 / samples apart
    assert octaves == 0 or 2 ** (octaves - 1) * math.pi <= nyquist / 4
    assert 2**octaves * math.pi > nyquist / 4 or samples < 4


def test_fourier_features_are_tanciks_on_the_unit_domain():
    x = points(7, 2)
    encoding = FourierFeatures(2, 5, generator=torch.Generator().manual_seed(0)).double()
    v = (x + 1) / 2  # their domain: the same features up to a constant phase, so the same distances between points
    theirs = 2 * math.pi * v @ encoding.frequencies.T
    theirs = torch.cat([theirs.cos(), theirs.sin()], dim=-1)
    torch.testing.assert_close(torch.cdist(encoding(x), encoding(x)), torch.cdist(theirs, theirs))
    assert FourierFeatures(2, 10_000, std=3.0).frequencies.std().item() == pytest.approx(3, rel=0.05)


def test_fourier_frequencies_are_seeded_and_kept_in_the_state():
    x = points(7, 3).float()
    a, b = (FourierFeatures(3, 5, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert torch.equal(a(x), FourierFeatures(3, 5, generator=torch.Generator().manual_seed(0))(x))
    assert not torch.equal(a(x), b(x))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x), b(x))
    assert not list(a.parameters())


@pytest.mark.parametrize("shape", [(7, 2), (3, 7, 2)])
def test_radial_basis_is_its_formula(shape):
    x = points(*shape)
    basis = RadialBasis(2, 5).double()
    with torch.no_grad():
        basis.sigmas.copy_(torch.linspace(1, 20, 5))
    squares = (x.unsqueeze(-2) - basis.centres).square().sum(-1)
    torch.testing.assert_close(basis(x), torch.exp(-((basis.sigmas * squares) ** 2)))
    assert basis(basis.centres.detach()).diagonal().allclose(torch.ones(5).double())
    assert basis.centres.abs().max() <= 1


def test_radial_basis_is_accurate_in_single_precision():
    """The squares multiplied out cancel; what is left of them must still do."""
    x = points(1000, 2)
    basis = RadialBasis(2)
    torch.testing.assert_close(basis(x.float()), basis.double()(x).float(), rtol=0, atol=2e-5)
