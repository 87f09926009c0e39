"""The last layer solved under several priors at once: a mixture of Gaussians, each for signals of one kind.

One Gaussian knows one covariance, and completes a vowel as it does a hiss. `MixtureSolve` has K of them, taken from
clusters of training signals of similar power spectra. The known points of a signal say how likely each is,

    r_k  ~  p_k (det K_k)^(-C / 2) exp(-tr(y^T K_k^-1 y) / 2)^t,      K_k = A_k A_k^T + s_k^2 I,   A_k = phi S_k,

and the prediction is the mixture of their conditional means: theta = m + sum_k r_k S_k w_k. It is no longer linear in
the known values. Each prior may be cut to its R leading axes, so that a signal has R numbers; what is cut off becomes
the prior's noise (probabilistic principal component analysis, Tipping and Bishop 1999).

Symbols: B signals, K priors, N known points, P points of a raster, C channels, F features, G = F + 1, R columns of S_k.
"""

import copy
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hypersiren.fields.last_layers import last_layer, with_last_layer, without_last_layer
from hypersiren.fields.savable import savable
from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.adapters.base import Prediction
from hypersiren.hypernets.adapters.bayesian import BayesianLastLayer, FirstSolve, initial_factor, set_mean
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.calibration import deviation_factor
from hypersiren.hypernets.gaussian.clusters import clusters, random_part
from hypersiren.hypernets.gaussian.components import Solved, changes, portion, solve_under
from hypersiren.hypernets.gaussian.equations import Known, equations
from hypersiren.hypernets.gaussian.gram import Gram
from hypersiren.hypernets.gaussian.linear_algebra import append_bias, shared_product
from hypersiren.hypernets.gaussian.posterior import GaussianPosterior, effective_count, probes
from hypersiren.hypernets.gaussian.prior import Moments

LOG = logging.getLogger(__name__)


KEPT = 8
"""Portions of priors, of `AT_A_TIME` numbers each, whose solved matrices are kept for a second solve at most."""

EMPTY = -1e4
"""The logarithm of the weight of a prior that is not there."""

FEWEST = 8
"""Signals below which a cluster has no prior of its own."""

MOST_VALUES = 2**26
"""Values of all signals together (256 MB) that priors are taken from; of more, from a random part of the signals."""


@savable
class MixtureSolve(BayesianLastLayer):
    """The conditional mean of the last layer under a mixture of priors, given the known points.

    Args:
        features: F, the width of the last sine layer.
        priors: K; fewer where clusters of signals are too small.
        rank: R, the axes that each prior keeps; None for all.
        noise, slope: As of `LastLayerSolve`, for every prior at first; what `rank` cuts off is added.
        learned: Whether noise and weights (and how far the evidence is tempered) are trained.
        covariance: Whether the covariances are trained, too, and with them the SIREN. That costs several times as much;
            without, a `HyperSiren` freezes the SIREN, whose features they belong to.
        correction: Changes the common mean, see `LastLayerSolve`; which prior is how likely, the first solve says. It
            belongs to the priors, which are then not trained, whatever `learned` says.

    Raises:
        ValueError: If covariances shall be trained beside a correction.

    Example:
        >>> from hypersiren import grid
        >>> siren = Siren(1, 1, hidden_features=(16, 32))
        >>> solve = MixtureSolve(32, priors=3)
        >>> context = Context.from_rasters(torch.rand(2, 20, 1), torch.rand(2, 20) < 0.5)
        >>> found = solve(siren, None, {}, context)
        >>> found.field(grid((7,))).shape, found.posterior.variance(grid((7,))).shape
        (torch.Size([2, 7, 1]), torch.Size([2, 7, 1]))
    """

    def __init__(
        self,
        features: int,
        priors: int = 32,
        rank: int | None = None,
        noise: float = 1e-3,
        slope: float = 0.0,
        learned: bool = True,
        covariance: bool = False,
        correction: Correction | None = None,
    ):
        super().__init__(correction=correction)
        if covariance and correction is not None:
            raise ValueError("expected no trained covariances beside a correction, which belongs to them")
        learned = learned and correction is None
        self.priors, self.rank, self.least = priors, rank, noise
        one = initial_factor(features)[:, :rank]
        self.factor = nn.Parameter(one.expand(priors, -1, -1).clone(), requires_grad=covariance)
        level = torch.tensor([math.log(noise), slope])
        self.noise = nn.Parameter(level.expand(priors, -1).clone(), requires_grad=learned)
        self.shares = nn.Parameter(torch.full((priors,), -math.log(priors)), requires_grad=learned)
        self.tempering = nn.Parameter(torch.zeros(()), requires_grad=learned)

    @property
    def trains_siren(self) -> bool:
        """No where the covariances are not trained: they belong to the features as these are."""
        return self.factor.requires_grad and self.correction is None

    def solve(self, siren: Siren, z: Tensor | None, params: Params, context: Context) -> Prediction:
        posterior, mixed, solved = self._first(siren, params, context)
        if self.correction is not None and not self.correction.off:
            posterior = self._corrected(posterior, self.correction, mixed, solved)
        return Prediction(siren, posterior.params, z, posterior)

    def _first(
        self, siren: Siren, params: Params, context: Context
    ) -> tuple["MixturePosterior", Float[Tensor, "B G C"], Sequence[Solved] | None]:
        """The posterior by the first solve and its change of the last layer; and the solve, if it is small."""
        theta = last_layer(siren, params)
        known = equations(siren, params, theta, context, self.length, one_system=True)
        noise = self._noises(siren, context, len(known.mask))
        some = portion(known, self.factor)
        found = [solve_under(known, *part) for part in zip(self.factor.split(some), noise.split(some), strict=True)]
        w, evidence = torch.cat([each.w for each in found]), torch.cat([each.evidence for each in found])
        weights = (self.tempering.exp() * (evidence.mT + self.shares.log_softmax(0))).softmax(1)
        mixed = changes(self.factor, weights.mT[..., None, None] * w).sum(0)
        params_after = with_last_layer(siren, params, theta + mixed)
        posterior = MixturePosterior(siren, params_after, self, params, known, noise, weights.detach())
        return posterior, mixed, found if len(found) <= KEPT else None

    def first_solve(self, siren: Siren, context: Context, axes: Float[Tensor, "G K"]) -> FirstSolve:
        first, change, solved = self._first(siren, {}, context)
        values = first.known.values(axes.expand(len(first.known.mask), -1, -1))
        return FirstSolve(change, *first.probed(solved), first.weights, self._explained(first, values, solved))

    def _explained(
        self, first: "MixturePosterior", values: Float[Tensor, "B N X"], solved: Sequence[Solved] | None
    ) -> Float[Tensor, "K B R X"]:
        """The solutions w under each prior for other values at the known points."""
        if solved is not None:
            return torch.cat([part.gram.explained(values) for part in solved])
        known = replace(first.known, residual=values)
        some = portion(known, self.factor)
        parts = zip(self.factor.split(some), first.noise.split(some), strict=True)
        return torch.cat([solve_under(known, *part).w for part in parts])

    def _corrected(
        self,
        first: "MixturePosterior",
        correction: Correction,
        change: Float[Tensor, "B G C"],
        solved: Sequence[Solved] | None,
    ) -> "MixturePosterior":
        """Solved again around the corrected mean, the likelihoods of the priors as they were."""
        siren, known = first.siren, first.known
        with torch.no_grad():
            probed = first.probed(solved)
        moved = shared_product(correction.axes, correction.change(siren, change, *probed))
        values = known.values(moved)
        w = self._explained(first, values, solved)
        lost = changes(self.factor, first.weights.mT[..., None, None] * w).sum(0)
        before = last_layer(siren, first.prior_params) + moved
        after = with_last_layer(siren, first.params, last_layer(siren, first.params) + (moved - lost))
        return replace(
            first,
            params=after,
            prior_params=with_last_layer(siren, first.prior_params, before),
            known=replace(known, residual=known.residual - values),
        )

    def _noises(self, siren: Siren, context: Context, systems: int) -> Float[Tensor, "K S"]:
        count = effective_count(siren, context.x[:systems], context.mask[:systems])
        return torch.exp(self.noise[:, :1] + self.noise[:, 1:] * torch.log(count / 100))

    @torch.no_grad()
    def set_prior(
        self, siren: Siren, signals: Iterable[Float[Tensor, "M *size C"]], ridge: float = 1e-6, shrinkage: float = 0.2
    ) -> None:
        """Take mean and covariances of the last layer from signals on a raster, and clusters of them.

        All priors have one mean; see `LastLayerSolve.set_prior` for arguments. Signals are told apart by k-means on the
        logarithms of their power spectra, in bands, less their means: by the form of the spectrum and not by loudness.
        They are looked at several times, and so held in memory: at most `MOST_VALUES` of them, a random part.

        Raises:
            ValueError: If there is no signal.
        """
        everything = random_part(signals, MOST_VALUES)
        # Few enough that not all of them can be too small.
        kind = clusters(everything, min(self.priors, max(1, len(everything) // FEWEST)))
        first = Moments(siren, everything[:1], ridge)
        total = copy.copy(first)
        total.add(everything)
        theta, common = total.prior(shrinkage)
        centred = everything - everything.mean(0)
        factors, noises, counts = [], [], []
        for k in range(self.priors):
            LOG.debug("prior %d of %d", k + 1, self.priors)
            if len(members := centred[kind == k]) < min(FEWEST, len(everything)):
                continue
            moments = copy.copy(first)
            moments.add(members)
            moments.add(-members)  # second moments about the common mean
            _, factor = moments.prior(shrinkage)
            kept = factor[:, -self.rank :] if self.rank else factor
            cut = (moments.features @ factor[:, : factor.shape[1] - kept.shape[1]]).square().sum()
            factors.append(kept)
            noises.append(self.least + cut / max(1, len(moments.features) - kept.shape[1]))
            counts.append(len(members))
        # Priors and columns that the signals do not fill are empty, and no prior is likely that is.
        self.factor.zero_()
        self.shares.fill_(EMPTY)
        for k, (factor, level, count) in enumerate(zip(factors, noises, counts, strict=True)):
            self.factor[k, :, : factor.shape[1]] = factor.to(self.factor)
            self.noise[k, 0], self.shares[k] = math.log(level), math.log(count)
        set_mean(siren, theta)
        if self.correction is not None:
            self.correction.set_axes(first.features, common)


@dataclass(frozen=True)
class MixturePosterior:
    """The posterior over the last layers of B fields, under a mixture of priors.

    Each call solves again, some priors at a time, so that no matrix is kept.

    Attributes:
        siren, params: The fields; their last layer is the mean of the mixture.
        solver: The priors.
        prior_params: The parameters before the solve.
        known: The equations of the known points.
        noise: s^2 of each system under each prior.
        weights: The posterior probability of each prior.
    """

    siren: Siren
    params: Params
    solver: MixtureSolve
    prior_params: Params
    known: Known
    noise: Float[Tensor, "K S"]
    weights: Float[Tensor, "B K"]

    __repr__ = by_shape

    @property
    def mask(self) -> Bool[Tensor, "S N"]:
        """Which points are known."""
        return self.known.mask

    @property
    def rank(self) -> int:
        """R."""
        return self.solver.factor.shape[2]

    @cached_property
    def likely(self) -> Int[Tensor, " L"]:
        """Priors that any signal may be of."""
        return (self.weights > 1e-6).any(0).nonzero().flatten()

    def component(self, k: int) -> GaussianPosterior:
        """The posterior under one prior, without the calibration."""
        known, factor, noise = self.known, self.solver.factor[k], self.noise[k]
        found = solve_under(known, factor[None], noise[None])
        theta = last_layer(self.siren, self.prior_params) + factor @ found.w[0]
        solved = with_last_layer(self.siren, self.prior_params, theta)
        points = known.features @ factor
        if known.cells is None:
            points = points * known.mask.unsqueeze(-1)
        lower = found.gram.lower
        assert lower is not None
        gram = Gram(points, known.cells, known.mask, noise, lower[0])
        return GaussianPosterior(self.siren, solved, factor, gram, torch.zeros_like(self.solver.spread))

    def mean(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The mean of the fields' values at x."""
        return self.siren(x, self.params)

    def variance(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The variance of the fields' values at x: that within the priors and that between them."""
        return self.deviation_factor.square()[:, None, None] * self._variance(x)

    def _variance(self, x: Float[Tensor, "*b P D"], solved: Sequence[Solved] | None = None) -> Float[Tensor, "B P C"]:
        """Before the calibration; of all priors as they are solved already, if they are."""
        features = append_bias(self.siren.features(x, without_last_layer(self.siren, self.params)))
        before, mean = (last_layer(self.siren, params) for params in (self.prior_params, self.params))
        priors = self.solver.factor, self.noise, self.weights.mT
        training = torch.is_grad_enabled() or self.solver.training
        looks = not training or features.device.type == "cpu"  # a training step does not wait for a device
        if solved is None and looks:
            priors = tuple(values[self.likely] for values in priors)  # type: ignore[assignment]
        some = portion(self.known, priors[0], features.shape[-2]) if solved is None else len(solved[0].w)
        total = torch.zeros_like(features[..., :1] @ mean[:, :1])
        for i, (factor, noise, weights) in enumerate(zip(*(values.split(some) for values in priors), strict=True)):
            found = solve_under(self.known, factor, noise) if solved is None else solved[i]
            within = found.variance(features @ (factor if features.ndim == 2 else factor.unsqueeze(1)))
            apart = before + changes(factor, found.w) - mean
            if features.ndim == 2:  # one product for all signals and priors
                between = shared_product(features, apart.flatten(0, 1)).unflatten(0, apart.shape[:2])
            else:
                between = features @ apart
            total = total + (weights[..., None, None] * (within.unsqueeze(-1) + between.square())).sum(0)
        return total

    @property
    def remaining_variance(self) -> Float[Tensor, " B"]:
        """As that of `GaussianPosterior`; the prior is the mixture."""
        variance, prior = self.probed()
        return (variance.mean(1) / prior.mean()).clamp(1e-6, 1)

    def probed(self, solved: Sequence[Solved] | None = None) -> tuple[Float[Tensor, "B P"], Float[Tensor, " P"]]:
        """As that of `GaussianPosterior`, the mean over channels; the prior is the mixture."""
        x = probes(self.siren, self.solver.factor)
        each = (append_bias(self.siren.features(x)) @ self.solver.factor).square().sum(-1)
        return self._variance(x, solved).mean(2), self.solver.shares.softmax(0) @ each

    @cached_property
    def deviation_factor(self) -> Tensor:
        """What multiplies the standard deviation of each signal."""
        return deviation_factor(self.solver.spread, self)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal: (B * count, *shape), the first signal's first."""
        chosen = torch.multinomial(self.weights, count, replacement=True, generator=generator).flatten()
        mean = last_layer(self.siren, self.params).repeat_interleave(count, 0)
        theta, repeated = mean, self.params
        for k in self.likely.tolist():
            repeated = self.component(k).sample(count, generator)
            theta = torch.where((chosen == k)[:, None, None], last_layer(self.siren, repeated), theta)
        wider = self.deviation_factor.expand(len(self.weights)).repeat_interleave(count)[:, None, None]
        return with_last_layer(self.siren, repeated, mean + wider * (theta - mean))
