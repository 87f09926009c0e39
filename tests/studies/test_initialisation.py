"""Statistics at initialisation: what the theory promises at any depth, and what is counted against sums by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from hypersiren.errors import UserError
from hypersiren.fields.baselines import BASELINES, baseline
from hypersiren.fields.mlp import CoordinateMLP
from hypersiren.fields.siren import Siren
from hypersiren.plotting import figure_pixels
from hypersiren.studies.initialisation import (
    Distribution,
    InitialisationStudy,
    initial_statistics,
    initialisation_study,
    layer_values,
)

pytestmark = pytest.mark.painted


@pytest.fixture(scope="module")
def study() -> InitialisationStudy:
    return initialisation_study(points=400)


def points(count: int = 200) -> torch.Tensor:
    return 2 * torch.rand(count, 2, generator=torch.Generator().manual_seed(1)) - 1


def miss(found: Distribution) -> float:
    """Half of what differs between what is found and the theory: 0 if equal, 1 if nowhere at the same place."""
    return 0.5 * (abs(found.density - found.theory) * np.diff(found.edges)).sum()


# A few units, each with its own bias, are a small sample of the theory.
@pytest.mark.parametrize(("hidden_features", "tolerance"), [(64, 0.13), (256, 0.05), (1024, 0.02)])
def test_a_siren_follows_the_theory_at_every_depth(hidden_features, tolerance):
    field = Siren(2, 1, hidden_features, 9, generator=torch.Generator().manual_seed(0))
    first, *others = initial_statistics(field, points())
    assert first.pre_activation.theory is None
    assert np.mean([miss(layer.pre_activation) for layer in others]) < tolerance
    for layer in others:
        assert miss(layer.pre_activation) < 2 * tolerance
        # 1 of the weights, and of the biases omega²/3n
        assert layer.pre_activation.std == pytest.approx(np.sqrt(1 + 300 / hidden_features), rel=0.15)
        assert abs(layer.pre_activation.mean) < 5 / np.sqrt(hidden_features)
    for layer in (first, *others):
        assert miss(layer.activation) < 0.15
        assert layer.activation.std == pytest.approx(np.sqrt(0.5), abs=0.05)


def test_the_theory_is_a_density():
    """And where biases do not count the paper's, N(0, 1), or a little narrower: the power of sin N(0, 1) is not 1/2."""
    layers = initial_statistics(Siren(2, 1, 4096, 2, hidden_omega=1.0), points(2))
    for layer in layers:
        assert (layer.activation.theory * np.diff(layer.activation.edges)).sum() == pytest.approx(1, abs=0.02)
    second, third = (layer.pre_activation for layer in layers[1:])
    for found, variance in [(second, 1.0), (third, 1 - np.exp(-2))]:
        middle = (found.edges[1:] + found.edges[:-1]) / 2
        expected = np.exp(-(middle**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        np.testing.assert_allclose(found.theory, expected, rtol=5e-3, atol=5e-4)


def test_gradients_of_a_siren_neither_fade_nor_grow(study):
    """Every layer's have the size of the last weights, U(-sqrt(6/n)/omega, +); those of tanh fade on the way back."""
    expected = np.sqrt(2 / 256) / 30
    for layer in study.layers["siren"]:
        assert layer.gradient.std == pytest.approx(expected, rel=0.15)
        assert abs(layer.gradient.mean) < 0.2 * expected
    tanh = study.layers["tanh"]
    assert tanh[0].gradient.std < 0.8 * tanh[-1].gradient.std
    assert tanh[-1].activation.std < 0.8 * tanh[0].activation.std
    assert all(layer.pre_activation.theory is None for layer in tanh)


@pytest.mark.parametrize("name", BASELINES)
def test_the_walk_ends_at_the_values_of_the_field(name):
    field = baseline(name, 2, 3, hidden_features=16, hidden_layers=2, samples=(16, 16))
    stages, y = layer_values(field, points())
    torch.testing.assert_close(y, field(points()))
    assert len(stages) == 3
    assert len(initial_statistics(field, points())) == 3


def test_gradients_are_those_of_the_sum_of_the_channels():
    field = CoordinateMLP(2, 3, 8, 1, activation="tanh").requires_grad_(False)
    first, second, last = (layer.weight for layer in field.layers)
    (_, h), (a, _) = layer_values(field, points())[0]
    with torch.no_grad():
        layers = initial_statistics(field, points())
    by_hand = [(last.sum(0) * (1 - a.tanh() ** 2)) @ second, last.sum(0)]
    for layer, expected in zip(layers, by_hand, strict=True):
        assert layer.gradient.mean == pytest.approx(expected.mean().item(), abs=1e-6)
        assert layer.gradient.std == pytest.approx(expected.std(correction=0).item(), rel=1e-5)
    assert layers[0].activation.std == pytest.approx(h.std(correction=0).item(), rel=1e-5)
    assert h.shape[-1] == first.shape[0]


def test_complex_values_count_by_their_parts():
    field = CoordinateMLP(2, 1, 16, 1, activation="wire")
    (_, h), _ = layer_values(field, points())[0]
    layer = initial_statistics(field, points())[0]
    parts = torch.cat([h.real.flatten(), h.imag.flatten()])
    assert layer.activation.mean == pytest.approx(parts.mean().item(), abs=1e-6)
    assert layer.activation.std == pytest.approx(parts.std(correction=0).item(), rel=1e-5)


def test_densities_hold_all_but_the_outermost_values(study):
    for layers in study.layers.values():
        for layer in layers:
            for found in (layer.pre_activation, layer.activation, layer.gradient):
                assert 0.99 < (found.density * np.diff(found.edges)).sum() <= 1 + 1e-9


def test_values_that_are_all_the_same_are_drawn_too():
    field = CoordinateMLP(2, 1, 4, 0)
    with torch.no_grad():
        for p in field.parameters():
            p.zero_()
    layers = initial_statistics(field, points())
    assert layers[0].activation.std == 0
    assert figure_pixels(InitialisationStudy({"zero": layers}).figure()).ndim == 3


def test_table(study):
    lines = study.table().splitlines()
    assert lines[0].split()[:4] == ["network", "quantity", "layer", "1"]
    assert len(lines) == 1 + 4 * 3
    assert lines[1].startswith("siren     pre-activation  ")
    last = study.layers["siren"][-1].pre_activation
    assert lines[1].endswith(f"{last.mean:.2g} ± {last.std:.2g}")


def test_the_picture_has_a_named_row_for_each_quantity_and_a_column_for_each_layer(study):
    figure = study.figure()
    grid = np.array(figure.axes).reshape(4 * 3, 7)
    assert [axes.get_title() for axes in grid[0]] == [f"layer {i}" for i in range(1, 8)]
    labels = [axes.get_ylabel() for axes in grid[:, 0]]
    assert labels[:3] == ["siren\npre-activation", "siren\nactivation", "siren\ngradient"]
    assert labels[-1] == "softplus\ngradient"
    assert "theory of a SIREN" in figure.get_suptitle()
    pixels = figure_pixels(figure)
    assert pixels.shape == (12 * 110 + 60, 7 * 150 + 60, 3)
    assert (pixels == 255).mean() > 0.5  # on white, with something on it
    for row in grid:  # no two numbers of neighbouring ticks touch
        for axes in row:
            low, high = axes.get_xlim()
            ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            boxes = [text.get_window_extent() for tick, text in ticks if low <= tick <= high]
            assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_histograms_are_the_densities_and_lines_the_theory(study):
    grid = np.array(study.figure().axes).reshape(4 * 3, 7)
    layers = study.layers["siren"]
    for axes, layer in zip(grid[0], layers, strict=True):
        (patch,) = axes.patches
        np.testing.assert_array_equal(patch.get_data().values, layer.pre_activation.density)
        np.testing.assert_array_equal(patch.get_data().edges, layer.pre_activation.edges)
    assert [len(axes.lines) for axes in grid[0]] == [0, 1, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(grid[1, 3].lines[0].get_ydata(), layers[3].activation.theory)
    assert not any(axes.lines for axes in grid[2:].flat)
    limits = [axes.get_xlim() for axes in grid[0]]
    assert len(set(limits[1:])) == 1  # one axis of values, but for the first layer
    assert limits[0][1] > 2 * limits[1][1]
    np.testing.assert_allclose(limits[0], layers[0].pre_activation.edges[[0, -1]])


def test_networks_of_different_depth_leave_cells_empty():
    study = initialisation_study(["siren"], hidden_layers=2, hidden_features=8, points=20)
    shorter = InitialisationStudy({"deep": study.layers["siren"], "flat": study.layers["siren"][:1]})
    grid = np.array(shorter.figure().axes).reshape(6, 3)
    assert [[axes.axison for axes in row] for row in grid] == [[True] * 3] * 3 + [[True, False, False]] * 3


def test_studies_are_seeded_and_know_their_names():
    size = {"hidden_layers": 1, "hidden_features": 8, "points": 20}
    a, again, other = (initialisation_study(["siren"], **size, seed=seed).table() for seed in (0, 0, 1))
    assert a == again
    assert a != other
    with pytest.raises(UserError, match="expected a baseline of siren"):
        initialisation_study(["siren", "sine"], **size)
