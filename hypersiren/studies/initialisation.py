"""What initial weights do to activations and to gradients, layer by layer (paper, section 3.2 and its supplement).

A network learns at any depth only if neither its activations nor the gradients that come back fade or grow on the way.
A SIREN's initial weights see to that: with h = sin p the activation of a layer and p = omega (W h' + b), h' being the
activation of the layer before,

    p ~ N(0, 2 E[h'²]) + U(-c, c)    with c = omega / sqrt(n), for every layer but the first
    h ~ arcsine                      on [-1, 1], as the sine of a uniform phase; E[h²] = 1/2, almost

with n inputs of a layer. The paper says p ~ N(0, 1): that is the first part, of the weights; the second, of the biases,
vanishes for wide layers.

Symbols: N points, D coordinate dimensions, C channels, H hidden features.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from hypersiren.fields.baselines import baseline
from hypersiren.fields.mlp import CoordinateMLP
from hypersiren.fields.siren import Siren
from hypersiren.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60


@dataclass(frozen=True)
class Distribution:
    """How the values of one layer, over all units and points, are distributed.

    Attributes:
        mean, std: Of all values.
        edges: Ends of the bins, which leave out the thousandth of the values at either end.
        density: Share of the values per unit of the axis, in each bin.
        theory: What the theory says of each bin, if it says anything.
    """

    mean: float
    std: float
    edges: Float[np.ndarray, " edges"]
    density: Float[np.ndarray, " bins"]
    theory: Float[np.ndarray, " bins"] | None = None


@dataclass(frozen=True)
class LayerStatistics:
    """One layer at initialisation. Of complex values (WIRE), real and imaginary parts count as values each.

    Attributes:
        pre_activation: What enters the activation function; of a SIREN, omega (W h + b).
        activation: What leaves it.
        gradient: Derivative of the sum of the field's channels by the activation.
    """

    pre_activation: Distribution
    activation: Distribution
    gradient: Distribution


@dataclass(frozen=True)
class InitialisationStudy:
    """Statistics of several networks at initialisation: `layers[name]` holds those of each layer, the first one first.

    Example:
        >>> study = initialisation_study(["siren", "tanh"], hidden_layers=2, hidden_features=16, points=50)
        >>> len(study.layers["siren"])
        3
        >>> len(study.figure().axes)  # a row for each network and quantity, a column for each layer
        18
    """

    layers: dict[str, tuple[LayerStatistics, ...]]

    def table(self) -> str:
        """Mean and standard deviation of everything by depth, as text."""
        depth = max(map(len, self.layers.values()))
        rows = [["network", "quantity", *(f"layer {i + 1}" for i in range(depth))]]
        for name, layers in self.layers.items():
            for quantity in _QUANTITIES:
                found = [getattr(layer, quantity) for layer in layers]
                rows.append([name, quantity.replace("_", "-"), *(f"{d.mean:.2g} ± {d.std:.2g}" for d in found)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def figure(self) -> "Figure":
        """Histograms in a grid: for each network a row per quantity, a column per layer, and the theory as a line.

        A row has one axis of values; only the pre-activations of the first layer have their own, as they may be much
        wider. The height of a panel is that of its highest bin.
        """
        depth = max(map(len, self.layers.values()))
        rows = [(name, quantity) for name in self.layers for quantity in _QUANTITIES]
        figure, grid = new_figure(110 * len(rows) + 60, 150 * depth + 60, len(rows), depth)
        figure.suptitle("Densities at initialisation, over all units and points\nOrange line: theory of a SIREN")
        for row, (name, quantity) in zip(grid, rows, strict=True):
            found = [getattr(layer, quantity) for layer in self.layers[name]]
            row[0].set_ylabel(f"{name}\n{quantity.replace('_', '-')}")
            apart = 1 if quantity == "pre_activation" else 0
            for part in (slice(0, apart), slice(apart, len(found))):
                _draw(row[part], found[part])
            for axes in row[len(found) :]:
                axes.set_axis_off()
        for i, axes in enumerate(grid[0]):
            axes.set_title(f"layer {i + 1}")
        return figure


_QUANTITIES = [field.name for field in fields(LayerStatistics)]


def initial_statistics(field: Siren | CoordinateMLP, x: Float[Tensor, "N D"]) -> tuple[LayerStatistics, ...]:
    """Statistics of every layer with an activation, the first one first, at the points given.

    Example:
        >>> layers = initial_statistics(Siren(2, 1, 64, 5), 2 * torch.rand(100, 2) - 1)
        >>> [round(layer.activation.std, 1) for layer in layers]
        [0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
    """
    with torch.enable_grad():
        # The points ask for a graph even where the weights are frozen.
        stages, y = layer_values(field, x.detach().requires_grad_())
        gradients = torch.autograd.grad(y.sum(), [h for _, h in stages])
    found = []
    power = 0.5  # E[h²] by theory: the phase of the first layer spans many periods
    for i, ((a, h), gradient) in enumerate(zip(stages, gradients, strict=True)):
        before, after = None, None
        if isinstance(field, Siren):
            after = _arcsine
            if i > 0:
                std, bias = math.sqrt(2 * power), field.hidden_omega / math.sqrt(h.shape[-1])
                before = partial(_normal_plus_uniform, std=std, bound=bias)
                power = (1 - math.exp(-2 * std**2) * math.sin(2 * bias) / (2 * bias)) / 2
        found.append(LayerStatistics(_distribution(a, before), _distribution(h, after), _distribution(gradient)))
    return tuple(found)


def layer_values(
    field: Siren | CoordinateMLP, x: Float[Tensor, "N D"]
) -> tuple[list[tuple[Inexact[Tensor, "N H"], Inexact[Tensor, "N H"]]], Float[Tensor, "N C"]]:
    """Pre-activation and activation of every layer that has one, and the field's values at last.

    Example:
        >>> stages, y = layer_values(CoordinateMLP(2, 3, 16, 2), torch.rand(10, 2))
        >>> len(stages), stages[-1][1].shape, y.shape
        (3, torch.Size([10, 16]), torch.Size([10, 3]))
    """
    stages = []
    *hidden, last = field.layers
    h = x if isinstance(field, Siren) or field.encoding is None else field.encoding(x)
    for i, layer in enumerate(hidden):
        a = (field.hidden_omega if i else field.first_omega) * layer(h) if isinstance(field, Siren) else layer(h)
        h = torch.sin(a) if isinstance(field, Siren) else field.activation(a, first=i == 0)
        stages.append((a, h))
    return stages, last(h).real


def initialisation_study(
    names: Sequence[str] = ("siren", "tanh", "relu", "softplus"),
    *,
    hidden_layers: int = 6,
    hidden_features: int = 256,
    points: int = 1000,
    samples: Sequence[int] = (256, 256),
    seed: int = 0,
) -> InitialisationStudy:
    """Statistics of freshly initialised networks of one channel, at random points of [-1, 1]^D.

    Args:
        names: Baselines, see `hypersiren.fields.baselines`.
        hidden_layers, hidden_features: As of a Siren, the same for all.
        points: How many points to look at.
        samples: Samples of the signal that the networks are for, along each of its D axes.
        seed: Of weights and points.

    Raises:
        UserError: If there is no baseline of such a name.
    """
    layers = {}
    for name in names:
        generator = torch.Generator().manual_seed(seed)
        x = 2 * torch.rand(points, len(samples), generator=generator) - 1
        size = {"hidden_features": hidden_features, "hidden_layers": hidden_layers}
        field = baseline(name, len(samples), 1, **size, samples=samples, generator=generator)
        layers[name] = initial_statistics(field, x)
    return InitialisationStudy(layers)


def _distribution(values: Inexact[Tensor, "N H"], cdf: Callable[[float], float] | None = None) -> Distribution:
    flat = (torch.view_as_real(values) if values.is_complex() else values).detach().double().cpu().numpy().ravel()
    low, high = np.quantile(flat, [0.001, 0.999])
    edges = np.linspace(low, high, BINS + 1) if low < high else np.linspace(low - 0.5, low + 0.5, BINS + 1)
    density = np.histogram(flat, edges)[0] / (flat.size * np.diff(edges))
    theory = None if cdf is None else np.diff([cdf(edge) for edge in edges]) / np.diff(edges)
    return Distribution(float(flat.mean()), float(flat.std()), edges, density, theory)


def _normal_plus_uniform(p: float, std: float, bound: float) -> float:
    """The distribution function of N(0, std²) + U(-bound, bound)."""
    normal = NormalDist()
    upper, lower = (p + bound) / std, (p - bound) / std
    integral = upper * normal.cdf(upper) + normal.pdf(upper) - lower * normal.cdf(lower) - normal.pdf(lower)
    return integral * std / (2 * bound)


def _arcsine(h: float) -> float:
    """The distribution function of the sine of a uniform phase."""
    return 0.5 + math.asin(min(max(h, -1.0), 1.0)) / math.pi


def _draw(panels: np.ndarray, distributions: Sequence[Distribution]) -> None:
    """Histograms over one common range, each on its own axes."""
    for axes, d in zip(panels, distributions, strict=True):
        axes.stairs(d.density, d.edges, fill=True, color="#a9c8e6")
        if d.theory is not None:
            axes.plot((d.edges[1:] + d.edges[:-1]) / 2, d.theory, color="tab:orange")
        ends = min(d.edges[0] for d in distributions), max(d.edges[-1] for d in distributions)
        axes.set(xlim=ends, ylim=(0, None), yticks=[])
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(labelsize="small")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(-3, 3))
        axes.xaxis.get_offset_text().set_size("small")
