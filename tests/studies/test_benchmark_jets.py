"""The benchmark of jets: both ways compute the same, and the table holds what was measured."""

import pytest
import torch

from hypersiren import Siren
from hypersiren.studies.benchmarks.jets import CASES, jet_table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_ways_compute_the_same(case):
    torch.manual_seed(0)
    field = Siren(2, case.out_features, 8, 2).double()
    x = torch.rand(5, 2, dtype=torch.float64)
    torch.testing.assert_close(case.jet(field, x), case.usual(field, x.clone().requires_grad_()), rtol=1e-9, atol=1e-9)


def test_the_table_holds_times_ratios_and_memory():
    table = jet_table(points=64, width=8, hidden_layers=1, rounds=2, compiled=False)
    assert set(table.seconds) == set(table.memory) == {case.name for case in CASES}
    for case in table.seconds:
        assert table.ratio(case, "jet") == table.seconds[case]["usual"] / table.seconds[case]["jet"] > 0
        assert table.memory[case]["usual"] >= 0
    assert "diagonal, C=11, 1/8 of points" in str(table)
