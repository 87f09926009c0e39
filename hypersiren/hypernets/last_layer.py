"""The last layer solved inside the model: a hypernetwork that starts at the best linear prediction there is.

`LastLayerSolve` corrects the last layer that was predicted (or, without an encoder, the SIREN's own) by what is known of a
signal, see `hypersiren.hypernets.posterior`. `set_prior` takes mean and covariance of the last layer from the training
signals themselves, in seconds and without a gradient step (empirical Bayes, Robbins 1956; of a SIREN with random hidden
layers this is the conditional mean of a Gaussian, at any point and any resolution). Training begins there.

Symbols: B signals, M training signals, N known points, P points of a raster, C channels, F features, R columns of S.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hypersiren.fields.coords import grid
from hypersiren.fields.savable import savable
from hypersiren.fields.siren import Params, Siren
from hypersiren.hypernets.adapter import Decode, Prediction
from hypersiren.hypernets.context import Context
from hypersiren.hypernets.posterior import Posterior, last_layer, solve_positive, with_last_layer, with_one


@savable
class LastLayerSolve(nn.Module):
    """The conditional mean of the last layer, given the known points.

    The noise s^2 = exp(a + b log(N / 100)) may fall with the number N of known points: the more is known, the more exactly
    it is met.

    Args:
        features: F, the width of the last sine layer.
        noise: s^2 at 100 known points, in the squared units of the values.
        slope: b.
        learned: Whether covariance and noise are trained; the mean is trained in any case.
        spread: Multiplies the posterior's standard deviation.
        double: Solve in float64: for noise below 1e-4 of the signals' variance.

    Example:
        >>> siren = Siren(2, 1, hidden_features=(16, 64))
        >>> solve = LastLayerSolve(64)
        >>> context = Context.from_images(torch.rand(3, 8, 8, 1), torch.rand(3, 8, 8) < 0.5)
        >>> found = solve(siren, None, {}, context)
        >>> found.field(grid((4, 4))).shape, found.posterior.variance(grid((4, 4))).shape
        (torch.Size([3, 16, 1]), torch.Size([3, 16, 1]))
    """

    spread: Tensor

    def __init__(
        self,
        features: int,
        noise: float = 1e-3,
        slope: float = -0.5,
        learned: bool = True,
        spread: float = 1.0,
        double: bool = False,
    ):
        super().__init__()
        self.double_precision = double
        # Until a prior is set: that of a SIREN's own initial weights, scaled to values of variance 1.
        self.factor = nn.Parameter(torch.eye(features + 1) * (2 / (features + 1)) ** 0.5, requires_grad=learned)
        self.noise = nn.Parameter(torch.tensor([math.log(noise), slope]), requires_grad=learned)
        self.register_buffer("spread", torch.tensor(spread))

    def forward(
        self, siren: Siren, z: Tensor | None, params: Params, context: Context, decode: Decode | None = None
    ) -> Prediction:
        """The prediction with its last layer corrected.

        Args:
            siren: The hypo-SIREN.
            z: Handed on.
            params: What is predicted of its weights; what is missing is the SIREN's own, the same for all signals.
            context: What is known of each signal.
            decode: Not used.

        Raises:
            ValueError: If the SIREN's last sine layer has another width.
        """
        if self.factor.shape[0] != list(siren.shapes.values())[-2][1] + 1:
            width = list(siren.shapes.values())[-2][1]
            raise ValueError(
                f"expected a SIREN whose last sine layer has {self.factor.shape[0] - 1} features, got {width}"
            )
        with torch.autocast(context.y.device.type, enabled=False):
            return self._solve(siren, z, params, context)

    def _solve(self, siren: Siren, z: Tensor | None, params: Params, context: Context) -> Prediction:
        dtype = context.y.dtype
        work = torch.float64 if self.double_precision else dtype
        mask = context.mask
        count = mask.sum(1).to(work)
        noise = torch.exp(self.noise[0] + self.noise[1] * torch.log(count.clamp(min=1) / 100)).to(work)
        factor = self.factor.to(work)
        theta = last_layer(siren, params)
        b, n = mask.shape
        dual = n <= factor.shape[1]
        hidden = {name: p for name, p in params.items() if name not in siren.last()}
        shared = context.cells is not None and not hidden
        if shared:
            # One set of features for the whole batch: the raster's.
            assert context.size is not None
            assert context.cells is not None
            raster = with_one(siren.features(grid(context.size, device=context.x.device, dtype=dtype))).to(work)
            a = raster @ factor
            cells = torch.where(mask, context.cells, 0)
            phi = raster[cells]
        else:
            phi = with_one(siren.features(torch.where(mask.unsqueeze(-1), context.x, 0), hidden)).to(work)
            phi = phi.expand(b, -1, -1)
            a = phi @ factor
        known = mask.unsqueeze(-1)
        wrong = torch.where(known, torch.where(known, context.y, 0).to(work) - phi @ theta.to(work), 0)
        if dual:
            if shared:
                kernel = a @ a.mT
                gram = kernel[cells.unsqueeze(-1), cells.unsqueeze(-2)]
                seen = a[cells] * known
            else:
                seen = a * known
                gram = seen @ seen.mT
            gram = torch.where(known & known.mT, gram, 0)
            # A point that is not known has a row of its own, which changes nothing.
            gram = gram + torch.diag_embed(torch.where(mask, noise[:, None], 1.0))
            solution, lower = solve_positive(gram, wrong)
            w = seen.mT @ solution
        else:
            seen = (a[cells] if shared else a) * known
            gram = seen.mT @ seen + noise[:, None, None] * torch.eye(seen.shape[-1], dtype=work, device=seen.device)
            w, lower = solve_positive(gram, seen.mT @ wrong)
        theta = (theta + factor @ w).to(dtype)
        solved = with_last_layer(siren, params, theta)
        posterior = Posterior(
            siren,
            solved,
            self.factor.to(dtype),
            seen.to(dtype),
            lower.to(dtype),
            noise.to(dtype),
            dual,
            float(self.spread),
        )
        return Prediction(siren, solved, z, posterior)

    @torch.no_grad()
    def set_prior(
        self, siren: Siren, signals: Iterable[Float[Tensor, "M *size C"]], ridge: float = 1e-4, shrinkage: float = 1e-3
    ) -> None:
        """Take mean and covariance of the last layer from signals on a raster.

        The last layer is fitted to every signal by one ridge solve for all of them; the mean of these weights becomes the
        SIREN's own last layer, and their covariance, over signals and channels, the prior's. Of few signals it is exact
        on what they span, and `shrinkage` fills the rest.

        Args:
            siren: Its last layer is set.
            signals: Chunks of signals, all on one raster; gone through twice, so a list or a set, not a generator.
            ridge: Of the fits, relative to the mean square of a feature times the number of points.
            shrinkage: Variance of every weight beside the covariance, relative to the weights' mean variance.

        Raises:
            ValueError: If there is no signal.
        """
        chunks = iter(signals)
        first = next(chunks, None)
        if first is None:
            raise ValueError("expected signals to take a prior from, got none")
        size, device = first.shape[1:-1], first.device
        work = torch.float64 if device.type != "mps" else torch.float32
        phi = with_one(siren.features(grid(size, device=device, dtype=first.dtype))).to(work)
        gram = phi.mT @ phi
        gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=work, device=device)
        lower = torch.linalg.cholesky(gram)
        points = phi.shape[0]
        total, count = 0, 0
        second = torch.zeros(points, points, dtype=work, device=device)
        for chunk in signals:
            y = chunk.flatten(1, -2).to(work)
            total, count = total + y.sum(0), count + len(y)
        mean = total / count
        power: Tensor | float = 0.0
        for chunk in signals:
            y = chunk.flatten(1, -2).to(work) - mean
            y = y.movedim(-1, 0).flatten(0, 1)
            second += y.mT @ y
            power = power + _power(y.unflatten(1, size))
        stationary = _stationary(power / (count * mean.shape[-1]), size)
        second = (1 - shrinkage) * second / (count * mean.shape[-1]) + shrinkage * stationary
        fit = torch.cholesky_solve(phi.mT, lower)  # from values to weights
        theta, covariance = fit @ mean, fit @ second @ fit.mT
        # The symmetric root: a change of the covariance's small directions stays small.
        values, vectors = torch.linalg.eigh(covariance)
        self.factor.copy_((vectors * values.clamp(min=0).sqrt()) @ vectors.mT)
        weight, bias = siren.last().values()
        weight.copy_(theta[:-1].mT)
        bias.copy_(theta[-1])


def _power(signals: Float[Tensor, "M *size"]) -> Tensor:
    """The summed power spectrum of signals, each beside as many zeros along each axis."""
    padded = [2 * n for n in signals.shape[1:]]
    dims = tuple(range(1, signals.ndim))
    return torch.fft.fftn(signals, padded, dims).abs().square().sum(0)


def _stationary(power: Tensor, size: Sequence[int]) -> Float[Tensor, "P P"]:
    """The covariance of points of a raster that depends on their difference alone, with this power spectrum."""
    lags = torch.fft.ifftn(power).real / math.prod(size)
    places = torch.cartesian_prod(*[torch.arange(n, device=power.device) for n in size]).view(-1, len(size))
    difference = (places[:, None] - places[None]) % torch.tensor(power.shape, device=power.device)
    return lags[difference.unbind(-1)]
