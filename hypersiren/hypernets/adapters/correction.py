"""A small network that corrects the prior's mean by what the first solve of a signal says of it.

The first solve gives a signal's posterior under a Gaussian prior. Its mean is linear in the known values; signals are
not Gaussian, and what a network reads off the posterior can improve it:

1. c, the coefficients of the posterior's mean less the prior's on the leading axes of the prior, each times
   (its variance)^(-1/4), and how large the posterior's deviation still is beside the prior's, in some parts of
   [-1, 1]^D. All times a metric, see `hypersiren.hypernets.adapters.metric`.
2. The network gives a change v on the leading axes of the prior, of the last layer's *mean*: theta <- theta + T v. That
   is a hypernetwork: a context in, weights of a SIREN out.
3. A second solve around that mean, with the same Cholesky factor, meets the known points as the first did. The loss is
   taken after it, see `hypersiren.hypernets.adapters.bank`.
4. An amplitude in [0, 1.2], chosen on validation data for each kind of context, multiplies v: 0 where it would lose.

The network's last layer is zero at first, so an untrained correction changes nothing, bit for bit.

Symbols: B signals, S linear systems (B, or 1 where all signals are known at the same points), C channels, D coordinate
dimensions, P points, G features and a constant, R columns of a prior's factor, K axes, k leading ones, I inputs.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from hypersiren.errors import UserError
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.gaussian.linear_algebra import shared_product
from hypersiren.hypernets.gaussian.posterior import probes

POINTS = 1024
"""Points of the raster on which axes have the length 1."""

KNOTS = 16
"""Kinds of context that have an amplitude of their own at most."""

LARGEST = 1.2
"""The largest amplitude."""

OUTPUT = 0.3
"""Times (variance of an axis)^(1/4): what the network's output is multiplied by."""

LEAST = 1e-6
"""The least share of the prior's variance that is told from none."""


@savable
class Correction(nn.Module):
    """Changes the mean of a Gaussian prior by what the first solve says of a signal.

    `LastLayerSolve` and `MixtureSolve` take one: `LastLayerSolve(128, correction=Correction(128, 3))`.

    Args:
        features: F, the width of the last sine layer.
        channels: C, values of a field at a point.
        dimensions: D.
        axes: K, axes of the prior that the mean is changed along; at most as many as the prior has are used.
        inputs: k, leading axes that are read.
        width: Of the network's hidden layers.
        dropout: Share of the hidden features that is left out in training.
        jitter: How much training signals change in contrast and brightness, where a task can.
        masks: Of the bank that trains it, see `hypersiren.hypernets.adapters.bank`.
        rounds: Of the regressions that find the metric of its inputs; 0: none.

    Example:
        >>> from hypersiren import Context, LastLayerSolve, Siren
        >>> siren = Siren(2, 3, hidden_features=(16, 64))
        >>> solve = LastLayerSolve(64, correction=Correction(64, 3, axes=32, inputs=8, width=16))
        >>> solve.set_prior(siren, [torch.rand(9, 8, 8, 3)])
        >>> context = Context.from_images(torch.rand(4, 8, 8, 3), torch.rand(4, 8, 8) < 0.5)
        >>> solve(siren, None, {}, context).field(torch.zeros(1, 2)).shape
        torch.Size([4, 1, 3])
    """

    axes: Tensor
    read: Tensor
    length: Tensor
    metric: Tensor
    knots: Tensor
    amplitudes: Tensor

    def __init__(
        self,
        features: int,
        channels: int,
        dimensions: int = 2,
        axes: int = 256,
        inputs: int = 80,
        width: int = 1024,
        dropout: float = 0.3,
        jitter: float = 0.0,
        masks: int = 1600,
        rounds: int = 3,
    ):
        super().__init__()
        axes = min(axes, features + 1)
        inputs = min(inputs, axes)
        self.channels, self.dimensions, self.dropout = channels, dimensions, dropout
        self.jitter, self.masks, self.rounds = jitter, masks, rounds
        self.cells = 2 ** max(1, 4 // dimensions)
        count = channels * inputs + self.cells**dimensions
        # T: changes of the last layer whose fields are the axes, of length 1 over `POINTS` points.
        self.register_buffer("axes", torch.zeros(features + 1, axes))
        # From a change of the last layer to the coefficients of its field on the leading axes.
        self.register_buffer("read", torch.zeros(inputs, features + 1))
        # The prior's deviation along each axis.
        self.register_buffer("length", torch.zeros(axes))
        self.register_buffer("metric", torch.eye(count))
        # The logarithms of the remaining variances of kinds of context, ascending, and the amplitude of each.
        self.register_buffer("knots", torch.zeros(KNOTS))
        self.register_buffer("amplitudes", torch.ones(KNOTS))
        self.first = nn.Linear(count, width)
        self.middle = nn.Linear(width, width)
        self.beside = nn.Linear(width, width)
        self.last = nn.Linear(width, channels * axes)
        nn.init.uniform_(self.first.bias, -1, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        with torch.no_grad():
            self.beside.weight.mul_(0.3)
        self.fixed: float | None = None

    @torch.no_grad()
    def set_axes(self, features: Float[Tensor, "P G"], factor: Float[Tensor, "G R"]) -> None:
        """Take the axes of a prior.

        Args:
            features: Of a raster's points, and a constant.
            factor: A square root of the prior's covariance; columns in ascending order of what they explain.
        """
        k = min(self.axes.shape[1], factor.shape[1])
        leading = factor[:, factor.shape[1] - k :].flip(1)
        fields = features @ leading
        length = (POINTS * fields.square().mean(0)).sqrt()
        used = length > 1e-6 * length[0]
        inverse = torch.where(used, 1 / length.clamp(min=torch.finfo(length.dtype).tiny), 0)
        self.axes.zero_()[:, :k] = (leading * inverse).to(self.axes)
        self.length.zero_()[:k] = (length * used).to(self.length)
        few = min(k, len(self.read))
        self.read.zero_()[:few] = ((fields * inverse).mT[:few] @ features * (POINTS / len(features))).to(self.read)
        self.metric.copy_(torch.eye(len(self.metric))).div_(self._scale())

    def _scale(self) -> Tensor:
        """The root mean square of an input under the prior."""
        return self.length[: len(self.read)].mean().sqrt().clamp(min=torch.finfo(self.length.dtype).tiny)

    def inputs(self, coefficients: Float[Tensor, "B k C"], deviation: Float[Tensor, "S J"]) -> Float[Tensor, "B I"]:
        """What the network reads, before the metric.

        Args:
            coefficients: Of the first solve's change, on the leading axes.
            deviation: See `regions`.
        """
        length = self.length[: len(self.read)]
        scaled = coefficients.mT * torch.where(length > 0, length, 1).rsqrt()
        # Both parts have the same size, so that neither is lost among the other's numbers.
        weight = self._scale() * len(self.metric) ** 0.5
        return torch.cat([scaled.flatten(1), (weight * deviation).expand(len(scaled), -1)], 1)

    def regions(self, ratios: Float[Tensor, "S P"], x: Float[Tensor, "P D"]) -> Float[Tensor, "S J"]:
        """The mean ratio of the posterior's deviation to the prior's in each of J parts of [-1, 1]^D."""
        place = ((x + 1) * (self.cells / 2)).long().clamp(0, self.cells - 1)
        index = torch.zeros_like(place[:, 0])
        for d in range(self.dimensions):
            index = index * self.cells + place[:, d]
        parts = torch.arange(self.cells**self.dimensions, device=x.device)
        member = (index.unsqueeze(1) == parts).to(ratios)  # one_hot would wait for a device
        return ratios @ (member / member.sum(0).clamp(min=1))

    def forward(
        self,
        inputs: Float[Tensor, "B I"],
        generator: torch.Generator | None = None,
        first: int = 0,
        total: int | None = None,
    ) -> Float[Tensor, "B K C"]:
        """The change v on the axes; in training with dropout, where there is a generator to draw it.

        Args:
            inputs: See `inputs`.
            generator: Of the dropout; None: there is none, so that nothing depends on PyTorch's own.
            first, total: Where these signals stand in a batch whose dropout is drawn for all; None: they are all of it.
        """
        rows = slice(first, first + len(inputs)), total or len(inputs)
        h = silu(self.first(inputs @ self.metric))
        h = h + self.beside(self._drop(silu(self.middle(h)), generator, *rows))
        v = self.last(self._drop(silu(h), generator, *rows)).to(self.length.dtype)
        return v.unflatten(1, (self.channels, -1)).mT * (OUTPUT * self.length.sqrt()).unsqueeze(-1)

    def _drop(self, h: Tensor, generator: torch.Generator | None, rows: slice, total: int) -> Tensor:
        if not (self.training and self.dropout and generator is not None):
            return h
        drawn = torch.rand(total, h.shape[1], generator=generator, device=h.device, dtype=torch.float32)
        return h * (drawn[rows] >= self.dropout) / (1 - self.dropout)

    def change(
        self, siren: Siren, theta: Float[Tensor, "B G C"], variance: Float[Tensor, "S P"], prior: Float[Tensor, " P"]
    ) -> Float[Tensor, "B K C"]:
        """v times its amplitude, from a first solve.

        Args:
            siren: The hypo-SIREN.
            theta: The change of the last layer by it.
            variance: The posterior's at the points of `probes`.
            prior: The prior's there.

        Raises:
            UserError: If the fields are of other channels or coordinates.
        """
        if theta.shape[-1] != self.channels:
            raise UserError(f"expected fields of {self.channels} values for this correction, got {theta.shape[-1]}")
        with torch.no_grad():
            inputs = self.read_off(siren, theta, variance, prior)
            amplitude = self.amplitude((variance.mean(-1) / prior.mean()).clamp(LEAST, 1))
        return self(inputs) * amplitude.view(-1, 1, 1)

    def read_off(
        self, siren: Siren, theta: Float[Tensor, "B G C"], variance: Float[Tensor, "S P"], prior: Float[Tensor, " P"]
    ) -> Float[Tensor, "B I"]:
        """The network's inputs, before the metric, from a first solve: see `change`."""
        ratios = (variance / prior.clamp(min=torch.finfo(prior.dtype).tiny)).sqrt()
        return self.inputs(shared_product(self.read, theta), self.regions(ratios, probes(siren, theta)))

    def amplitude(self, remaining: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
        """What v is multiplied by, where so much of the prior's variance remains; 1 in training."""
        if self.training or self.fixed is not None:
            return torch.full_like(remaining, 1.0 if self.fixed is None else self.fixed)
        x, knots = remaining.log(), self.knots
        above = torch.searchsorted(knots, x.contiguous()).clamp(1, KNOTS - 1)
        low, high = knots[above - 1], knots[above]
        along = ((x - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        return torch.lerp(self.amplitudes[above - 1], self.amplitudes[above], along)

    @torch.no_grad()
    def set_amplitudes(self, found: Sequence[tuple[float, float]]) -> None:
        """Take the amplitude of each kind of context, named by the share of the variance that remains.

        Example:
            >>> correction = Correction(8, 1).eval()
            >>> correction.set_amplitudes([(0.01, 0.0), (1.0, 1.2)])
            >>> [round(a, 2) for a in correction.amplitude(torch.tensor([0.001, 0.1, 1.0])).tolist()]
            [0.0, 0.6, 1.2]
        """
        if not found:
            return
        ordered = sorted(found)
        kept = [ordered[round(i * (len(ordered) - 1) / (KNOTS - 1))] for i in range(KNOTS)]
        if len(ordered) <= KNOTS:
            kept = [*ordered, *[ordered[-1]] * (KNOTS - len(ordered))]
        self.knots.copy_(torch.tensor([max(share, LEAST) for share, _ in kept]).log())
        self.amplitudes.copy_(torch.tensor([amplitude for _, amplitude in kept]))

    @property
    def off(self) -> bool:
        """Whether it changes nothing: held at an amplitude of 0, or outside of training without another one."""
        if self.fixed is not None:
            return self.fixed == 0
        return not self.training and not bool(self.amplitudes.any())

    @contextmanager
    def held(self, amplitude: float) -> Iterator[None]:
        """For a while this amplitude for all contexts; 0 is the prior alone."""
        before, self.fixed = self.fixed, amplitude
        try:
            yield
        finally:
            self.fixed = before


def best_amplitude(
    error: Float[Tensor, " B"], own: Float[Tensor, " B"], source: Int[Tensor, " B"] | None = None
) -> float:
    """The amplitude in [0, 1.2] that lowers the squared error of signals most; 0 where that may be chance.

    Args:
        error: Of each signal, the sum of (truth - prior's completion) times the change.
        own: The sum of the squared change.
        source: Which photograph or recording each is from: what is gained must be more than a standard error
            over these, as signals of one source are alike. None: each is from its own.

    Example:
        >>> error, own = torch.tensor([0.5] * 9 + [-0.5]), torch.ones(10)
        >>> best_amplitude(error, own), best_amplitude(error, own, torch.tensor([0] * 9 + [1]))
        (0.4, 0.0)
    """
    total = own.sum().item()
    amplitude = min(LARGEST, max(0.0, error.sum().item() / total)) if total > 0 else 0.0
    gains = 2 * amplitude * error - amplitude**2 * own
    if source is not None:
        _, place = source.unique(return_inverse=True)
        gains = torch.zeros_like(gains).index_add(0, place, gains)[: int(place.max()) + 1]
    chance = gains.std().item() * len(gains) ** 0.5 if len(gains) > 1 else math.inf
    return amplitude if gains.sum().item() > chance else 0.0
