"""The training of a correction on pairs of a signal and a context, solved once: of mixtures, sounds and shapes.

Where a prior is a mixture, or every signal has equations of its own, a mask's solve is no linear map of known values
that serves any signal, see `bank`. But once a signal is solved from its context, and the posterior probabilities p of
its priors are kept with it, what the second solve makes of a change v of the mean is linear again: its coefficients on
an orthonormal basis of the axes' fields are

    (B - sum_m p_m T_m) v,     T_m = Q^T phi S_m A_m^T (A_m A_m^T + s_m^2 I)^-1 (the axes at the known points),

with Q B the axes' fields on a raster. The T_m are those of a context; signals that share it have their own p. The loss
is the squared error of that along the axes, over the mean variance that the context leaves.

`loss` is tested against `predict`, to which it is equal but for rounding.

Symbols: B signals, E linear systems with a context each, b signals of each, P points of the raster, C channels, M
priors, K axes, Q columns of the basis (K, or P where there are fewer points), I inputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from hypersiren.fields.coords import grid
from hypersiren.fields.last_layers import last_layer
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Siren
from hypersiren.hypernets.adapters.bank import FLOOR, BankBatch
from hypersiren.hypernets.adapters.bayesian import BayesianLastLayer
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.linear_algebra import append_bias, shared_product


@dataclass(frozen=True)
class Pairs:
    """B signals with their contexts.

    Attributes:
        context: What is known of each; `shared_points` where one linear system serves them all.
        y: Their values on the raster, in the units of the fields.
        weight: How much an error of each counts.
    """

    context: Context
    y: Float[Tensor, "B P C"]
    weight: Float[Tensor, " B"]

    __repr__ = by_shape


DrawPairs = Callable[[Generator], Pairs]
"""Draws some pairs, as many each time."""


class PairBank:
    """Pairs of a signal and a context, with their solves.

    Args:
        siren: The hypo-SIREN, whose last layer is the priors' mean.
        solve: Has the priors and a correction.
        size: The raster on which errors are taken.
        draw: Draws pairs.
        count: E.

    Example:
        >>> from hypersiren import MixtureSolve
        >>> siren = Siren(1, 1, hidden_features=(16, 32))
        >>> solve = MixtureSolve(32, priors=2, correction=Correction(32, 1, 1, axes=8, inputs=4, width=16))
        >>> solve.set_prior(siren, [torch.rand(20, 30, 1)])
        >>> def draw(generator: Generator) -> Pairs:
        ...     y, cells = torch.rand(4, 30, 1), torch.randperm(30)[:9]
        ...     x = grid((30,))[cells].expand(4, -1, -1)
        ...     known = torch.ones(4, 9, dtype=torch.bool)
        ...     return Pairs(Context(x, y[:, cells], known, shared_points=True), y, torch.ones(4))
        >>> bank = PairBank(siren, solve, (30,), draw, count=3)
        >>> batch = BankBatch(torch.tensor([0, 3, 1]), torch.tensor([0, 0, 2]))
        >>> bank.loss(solve.correction, batch).shape
        torch.Size([])
    """

    @torch.no_grad()
    def __init__(
        self,
        siren: Siren,
        solve: BayesianLastLayer,
        size: tuple[int, ...],
        draw: DrawPairs,
        *,
        count: int,
    ):
        correction = solve.correction
        assert correction is not None
        factor = solve.factor if solve.factor.ndim == 3 else solve.factor[None]
        features = append_bias(siren.features(grid(size, device=factor.device, dtype=factor.dtype)))
        mean = features @ last_layer(siren, {})
        basis, self.shape = torch.linalg.qr(features @ correction.axes)
        along = basis.mT @ features
        across = along @ factor
        self.points = len(features)
        kept: list[tuple[Tensor, ...]] = []
        generator = torch.Generator(factor.device).manual_seed(0)
        found = 0
        while found < count:
            if generator.device.type != "cpu":  # what the host draws beside it leaves it as it is, and would come again
                generator.manual_seed(found)
            pairs = draw(generator)
            first = solve.first_solve(siren, pairs.context, correction.axes)
            systems = first.explained.shape[1]
            left = (pairs.y - mean).mT @ basis - shared_product(along, first.change).mT
            inputs = correction.read_off(siren, first.change, first.variance, first.prior)
            variance = first.variance.mean(-1).expand(len(left)) * pairs.weight
            signals = [part.unflatten(0, (systems, -1)) for part in (first.weights, inputs, left, pairs.weight)]
            weight = signals.pop() / (variance.unflatten(0, (systems, -1)).mean(1, keepdim=True) + FLOOR)
            # In half precision: of all that is kept they are by far the most.
            taken = (across.unsqueeze(1) @ first.explained).movedim(0, 1).half()
            kept.append((taken, *signals, weight))
            found += systems
        self.taken, self.weights, self.inputs, self.left, self.counts = (
            torch.cat(parts)[:count] for parts in zip(*kept, strict=True)
        )

    def __len__(self) -> int:
        """E."""
        return len(self.taken)

    @property
    def each(self) -> int:
        """b."""
        return self.inputs.shape[1]

    def examples(
        self, correction: Correction, batch: BankBatch
    ) -> tuple[Float[Tensor, "B I"], Float[Tensor, "B CQ"], Float[Tensor, " B"]]:
        """What the network reads of each pair, what the first solve leaves along the axes, and how much it counts."""
        place = self._place(batch)
        return self.inputs[place], self.left[place].flatten(1), self.counts[place]

    def _place(self, batch: BankBatch) -> tuple[Tensor, Tensor]:
        """Where the pairs of a batch are; the device does not wait for it."""
        device = self.inputs.device
        place = torch.stack([batch.masks, batch.y])
        if device.type == "cuda":
            place = place.pin_memory()
        contexts, signals = place.to(device, non_blocking=True)
        return contexts, signals

    @torch.no_grad()
    def after(self, batch: BankBatch) -> Float[Tensor, "B Q K"]:
        """From a change of the mean of each signal to its coefficients after the second solve."""
        place = self._place(batch)
        if self.taken.shape[1] == 1:
            return self.shape - self.taken[place[0], 0].to(self.shape)
        numbers, counts = torch.unique_consecutive(batch.masks, return_counts=True)
        weights = self.weights[place].split(counts.tolist())
        mixed = [
            weight @ self.taken[number].flatten(1).to(weight)
            for number, weight in zip(numbers.tolist(), weights, strict=True)
        ]
        return self.shape - torch.cat(mixed).unflatten(1, self.shape.shape)

    def loss(self, correction: Correction, batch: BankBatch, autocast: bool = False) -> Float[Tensor, ""]:
        """The mean over signals, points and channels of the squared error along the axes, over the variance left."""
        inputs, left, counts = self.examples(correction, batch)
        v = batch.changes(correction, inputs, autocast)
        errors = ((v @ self.after(batch).mT).flatten(1) - left).square().sum(1) * counts
        return errors.sum() / (len(v) * v.shape[1] * self.points)
