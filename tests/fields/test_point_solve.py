"""Windows corrected at points: one window against dense least squares, and what many windows do."""

import math

import pytest
import torch

from hypersiren.fields.compact_windows import CompactWindows
from hypersiren.fields.lattice import lattice_siren
from hypersiren.fields.point_solve import fit_points
from hypersiren.fields.raster import local_features

DEVIATIONS = {"raster_deviation": 0.5, "prior_deviation": 2.0, "value_deviation": 0.1, "gradient_deviation": 0.3}


def drawn(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_one_window_is_the_dense_least_squares():
    field = CompactWindows(lattice_siren(2, 1, 21, 4.0), (1, 1), counts=(21,)).double()
    g = torch.Generator().manual_seed(1)
    before = torch.randn(1, 21, generator=g, dtype=torch.float64)
    field.coefficients.data.copy_(before)
    field.mix.data.fill_(-1)
    field.offset.data.fill_(0.2)
    x = drawn(30)
    y, slope = torch.randn(30, generator=g), torch.randn(30, 2, generator=g)
    fit_points(field, x, y, slope, local=(6, 6), decay=1.5, **DEVIATIONS)
    template = field.template
    weight, bias = (p.detach() * template.first_omega for p in field.layers[0].parameters())
    phase = x.double() @ weight.T + bias
    values = -phase.sin()
    slopes = [-phase.cos() * weight[:, axis] for axis in range(2)]
    prior = (1 + weight.norm(dim=1) / math.pi) ** 1.5
    rows = torch.cat([
        -local_features(field, (6, 6))[()] / 0.5, torch.diag(prior) / 2.0, values / 0.1, *(s / 0.3 for s in slopes)
    ])  # fmt: skip
    start = before[0]
    right = torch.cat([
        torch.zeros(36 + 21), (y - 0.2 - values @ start) / 0.1,
        *((slope[:, a] - slopes[a] @ start) / 0.3 for a in range(2)),
    ])  # fmt: skip
    expected = start + torch.linalg.lstsq(rows, right.unsqueeze(1), driver="gelsd").solution[:, 0]
    torch.testing.assert_close(field.coefficients.data[0], expected, rtol=1e-6, atol=1e-6)


def test_a_smooth_function_is_met_between_the_points_and_far_windows_stay():
    field = CompactWindows(lattice_siren(2, 1, 40, 4.0), (4, 4), 0.25, counts=(40,))
    x = drawn(3000)
    x = x[x[:, 0] < 0]
    value, slope = (
        (2 * x[:, 0]).sin() * x[:, 1],
        torch.stack([2 * (2 * x[:, 0]).cos() * x[:, 1], (2 * x[:, 0]).sin()], 1),
    )
    deviations = {"raster_deviation": 10.0, "prior_deviation": 10.0, "value_deviation": 1e-3, "gradient_deviation": 0.1}
    fit_points(field, x, value, slope, local=(8, 8), decay=2.0, **deviations)
    at = drawn(500, seed=3)
    at = at[at[:, 0] < -0.2]
    jet = field.jet(at)
    assert (jet.value[:, 0] - (2 * at[:, 0]).sin() * at[:, 1]).abs().max() < 5e-3
    assert (jet.gradient[:, 0, 1] - (2 * at[:, 0]).sin()).abs().mean() < 1e-2
    assert (field.coefficients.data.view(4, 4, -1)[3] == 0).all()


def test_of_many_points_some_stand_for_all():
    """A window with 1,000 points is about what it is with 96 of them that count as much."""
    x = drawn(1000)
    found = []
    for some in (x, x[torch.arange(96) * 1000 // 96]):
        field = CompactWindows(lattice_siren(2, 1, 9, 4.0), (1, 1), counts=(9,))
        share = (len(some) / 1000) ** 0.5
        deviations = {"value_deviation": 0.1 * share, "gradient_deviation": 0.3 * share}
        fit_points(field, some, some[:, 0], torch.eye(2)[:1].expand(len(some), 2), local=(4, 4), decay=1.0,
                   raster_deviation=1.0, prior_deviation=1.0, **deviations)  # fmt: skip
        found.append(field.coefficients.data)
    torch.testing.assert_close(found[0], found[1])


def test_fields_of_several_channels_are_refused():
    field = CompactWindows(lattice_siren(2, 2, 9, 4.0), (2, 2), counts=(9, 9))
    with pytest.raises(ValueError, match="one channel"):
        fit_points(field, drawn(3), torch.zeros(3), torch.zeros(3, 2), local=(4, 4), decay=1.0, **DEVIATIONS)


def test_it_can_be_stopped():
    field = CompactWindows(lattice_siren(2, 1, 9, 4.0), (2, 2), counts=(9,))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_points(
            field, drawn(9), torch.zeros(9), torch.zeros(9, 2), local=(4, 4), decay=1.0, watch=stop, **DEVIATIONS
        )
