"""The last layer solved inside the model: a hypernetwork that starts at the best linear prediction there is.

`LastLayerSolve` corrects the last layer that was predicted (or, without an encoder, the SIREN's own) by known points of
a signal, see `hypersiren.hypernets.gaussian.posterior`. `set_prior` takes mean and covariance of the last layer from
the training signals themselves, in seconds and without a gradient step (empirical Bayes). With random hidden layers the
field is then the conditional mean of a Gaussian, at any point and any resolution. Training begins there.

This is Bayesian linear regression on SIREN features, a Gaussian process with a low-rank kernel. Why not GPyTorch: it
waits for the device in every solve, has no kernel of a raster that all signals of a batch share, and returns values at
given points, where what is wanted are the `Params` of a field.

Symbols: B signals, M training signals, N known points, P points of a raster, C channels, F features, R columns of S.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hypersiren.fields.last_layers import last_layer, with_last_layer
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.adapters.base import Prediction
from hypersiren.hypernets.adapters.bayesian import BayesianLastLayer, FirstSolve, initial_factor, set_mean
from hypersiren.hypernets.adapters.correction import Correction
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.gaussian.equations import Known, equations
from hypersiren.hypernets.gaussian.gram import Gram
from hypersiren.hypernets.gaussian.linear_algebra import shared_product
from hypersiren.hypernets.gaussian.posterior import GaussianPosterior, effective_count
from hypersiren.hypernets.gaussian.prior import Moments


@savable
class LastLayerSolve(BayesianLastLayer):
    """The conditional mean of the last layer, given the known points.

    The noise s^2 = exp(a + b log(N / 100)) may fall with the number N of known points: the more is known, the more
    exactly it is met. Known points that lie all on one side count for fewer, see `effective_count`. A context of
    surfaces is met in its values and its normals, see `hypersiren.hypernets.gaussian.observations`.

    Args:
        features: F, the width of the last sine layer.
        noise: s^2 at 100 known points, in the squared units of the values.
        slope: b.
        learned: Whether the prior is trained: its mean and covariance, the noise, and the SIREN's hidden layers.
        double: Solve in float64: for noise below 1e-4 of the signals' variance.
        length: For contexts of surfaces: the error of the distance that an error of 1 in the normal counts for.
        correction: Changes the mean by what the solve says, see `hypersiren.hypernets.adapters.correction`. It belongs
            to the prior: the SIREN, covariance and noise are then not trained, whatever `learned` says.

    Example:
        >>> from hypersiren import grid
        >>> siren = Siren(2, 1, hidden_features=(16, 64))
        >>> solve = LastLayerSolve(64)
        >>> context = Context.from_images(torch.rand(3, 8, 8, 1), torch.rand(3, 8, 8) < 0.5)
        >>> found = solve(siren, None, {}, context)
        >>> found.field(grid((4, 4))).shape, found.posterior.variance(grid((4, 4))).shape
        (torch.Size([3, 16, 1]), torch.Size([3, 16, 1]))
    """

    def __init__(
        self,
        features: int,
        noise: float = 1e-3,
        slope: float = -1.0,
        learned: bool = True,
        double: bool = False,
        length: float = 0.05,
        correction: Correction | None = None,
    ):
        super().__init__(length, correction)
        learned = learned and correction is None
        self.double_precision = double
        self.factor = nn.Parameter(initial_factor(features), requires_grad=learned)
        self.noise = nn.Parameter(torch.tensor([math.log(noise), slope]), requires_grad=learned)

    @property
    def trains_siren(self) -> bool:
        """No where the prior is not trained: it belongs to the features as these are."""
        return self.factor.requires_grad

    def solve(self, siren: Siren, z: Tensor | None, params: Params, context: Context) -> Prediction:
        known, change, gram, posterior = self._first(siren, params, context)
        if self.correction is not None and not self.correction.off:
            with torch.no_grad():
                probed = posterior.probed()
            factor = self.factor.to(change.dtype)
            v = self.correction.change(siren, change.to(context.y.dtype), *probed)
            moved = shared_product(self.correction.axes, v).to(change.dtype)
            moved = moved - shared_product(factor, gram.explained(known.values(moved)))
            theta = last_layer(siren, params).to(change.dtype) + change + moved
            posterior = replace(posterior, params=with_last_layer(siren, params, theta.to(context.y.dtype)))
        return Prediction(siren, posterior.params, z, posterior)

    def _first(
        self, siren: Siren, params: Params, context: Context
    ) -> tuple[Known, Float[Tensor, "B G C"], Gram, GaussianPosterior]:
        """The first solve: its equations, the change of the last layer, its matrices, and the posterior by it alone."""
        dtype = context.y.dtype
        work = torch.float64 if self.double_precision else dtype
        factor, full = self.factor.to(work), last_layer(siren, params).to(work)
        known = equations(siren, params, full, context, self.length, one_system=True)
        systems = slice(len(known.mask))  # one, or all
        noise = self.noise_at(siren, context.x[systems], context.mask[systems]).to(work)
        w, gram = Gram.solve(known, factor, noise)
        change = shared_product(factor, w)
        solved = with_last_layer(siren, params, (full + change).to(dtype))
        return known, change, gram, GaussianPosterior(siren, solved, factor.to(dtype), gram.to(dtype), self.spread)

    def first_solve(self, siren: Siren, context: Context, axes: Float[Tensor, "G K"]) -> FirstSolve:
        known, change, gram, posterior = self._first(siren, {}, context)
        explained = gram.explained(known.values(axes.to(change.dtype).expand(len(known.mask), -1, -1)))
        weights = torch.ones_like(context.y[:, 0, :1])
        return FirstSolve(change.to(axes), *posterior.probed(), weights, explained[None].to(axes))

    def noise_at(self, siren: Siren, x: Float[Tensor, "S N D"], mask: Bool[Tensor, "S N"]) -> Float[Tensor, " S"]:
        """s^2 of systems with these known points."""
        return torch.exp(self.noise[0] + self.noise[1] * torch.log(effective_count(siren, x, mask) / 100))

    @torch.no_grad()
    def set_prior(
        self, siren: Siren, signals: Iterable[Float[Tensor, "M *size C"]], ridge: float = 1e-6, shrinkage: float = 0.2
    ) -> None:
        """Take mean and covariance of the last layer from signals on a raster.

        The last layer is fitted to every signal, by one ridge solve for all of them. The mean of these weights becomes
        the SIREN's own last layer, and their covariance, over signals and channels, the prior's. Few signals do not say
        what lies beyond their span: the covariance is shrunk towards that of stationary signals of the same power
        spectrum. A raster twice as fine as what will be known keeps fields from ringing between the points.

        Args:
            siren: Its last layer is set; the hidden ones give the features and stay as they are.
            signals: Chunks of signals, all on one raster.
            ridge: Of the fits, relative to the mean square of a feature times the number of points.
            shrinkage: Share of the stationary covariance, from 0 to 1.

        Raises:
            ValueError: If there is no signal.
        """
        moments: Moments | None = None
        for chunk in signals:
            moments = Moments(siren, chunk, ridge) if moments is None else moments
            moments.add(chunk)
        if moments is None:
            raise ValueError("expected signals to take a prior from, got none")
        theta, factor = moments.prior(shrinkage)
        # The fits have fewer directions than there are features; the other columns of S are 0.
        self.factor.zero_()[:, : factor.shape[1]] = factor.to(self.factor)
        set_mean(siren, theta)
        if self.correction is not None:
            self.correction.set_axes(moments.features, factor)

    @torch.no_grad()
    def cut(self, rank: int) -> None:
        """Keep the leading axes of the prior alone, as they are after `set_prior`, and no correction."""
        used = self.factor.any(0).nonzero().flatten()
        self.factor[:, used[: max(0, len(used) - rank)]] = 0
        self.correction = None
