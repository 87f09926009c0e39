"""The last layer of a SIREN as a Gaussian: solved from what is known, with what remains uncertain.

With phi(x) the last hidden features of the SIREN and a constant 1, a field is y(x) = phi(x) theta, linear in its last
layer theta (F + 1 weights for each of C channels). Under the prior theta ~ N(m, Sigma) with Sigma = S S^T, the same for
every channel, and values known with noise s^2,

    theta = m + S w,     w = A^T (A A^T + s^2 I)^-1 (y - phi m) = (A^T A + s^2 I)^-1 A^T (y - phi m),     A = phi S

over the known points: the first form (dual) solves a system of N known points, the second (primal) one of R columns of
S. Both are the conditional mean, and what they leave open is a Gaussian too, whose variance and samples need no more
than the same factor.

Symbols: B signals, S linear systems (B, or 1 where all signals are known at the same points), N known points, P points,
C channels, F features, R columns of S, X right-hand sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hypersiren.fields.shown import by_shape
from hypersiren.fields.siren import Params, Siren

NINETY = 1.645
"""Standard deviations of a Gaussian on both sides of its mean that hold 90 % of it."""

ROUNDING = 1e-5
"""Variance of values on [-1, 1] that are rounded to 8 bits, and a little more."""

NOTHING = 1e-14
"""Share of the largest weight below which one is nothing."""


class _Solve(torch.autograd.Function):
    """K^-1 r and log det K for symmetric positive definite K. Its backward is one more solve and an outer product, and
    an inverse where the determinant is used; autograd through the Cholesky factor would cost several of its cubes.

    `diagonal` is a part of K's diagonal that is added already, given for its gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, right: Tensor, diagonal: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # a determinant that nobody uses has no gradient
        # Unlike cholesky this does not wait for the device, and lets NaN through to where the loop reports it.
        factor = torch.linalg.cholesky_ex(matrix).L
        solution = torch.cholesky_solve(right, factor)
        ctx.save_for_backward(factor, solution)
        ctx.mark_non_differentiable(factor)
        return solution, 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1), factor

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        factor, solution = ctx.saved_tensors
        whole, _, part = ctx.needs_input_grad
        matrix, right, diagonal = None, None, None
        if gradients[0] is not None:
            right = torch.cholesky_solve(gradients[0], factor)
            if whole:
                outer = right @ solution.mT
                matrix = -0.5 * (outer + outer.mT)
            if part:
                diagonal = -(right * solution).sum(-1)
        if gradients[1] is not None and whole:
            inverse = gradients[1][..., None, None] * torch.cholesky_inverse(factor)
            matrix = inverse if matrix is None else matrix + inverse
        if gradients[1] is not None and part:
            inverse = _weighted_inverse_diagonal(factor, gradients[1])
            diagonal = inverse if diagonal is None else diagonal + inverse
        return matrix, right, diagonal


def _weighted_inverse_diagonal(factor: Float[Tensor, "*b N N"], weight: Float[Tensor, "*b"]) -> Float[Tensor, "*b N"]:
    """The diagonals of (L L^T)^-1, each times its weight. On a processor, which need not wait for a look at them,
    matrices whose weight is nothing beside the largest one are not inverted."""
    if weight.device.type != "cpu":
        return weight.unsqueeze(-1) * torch.cholesky_inverse(factor).diagonal(dim1=-2, dim2=-1)
    used = ~(weight.abs() <= NOTHING * weight.abs().max())  # NaN is used, too
    found = weight.new_zeros(factor.shape[:-1])
    found[used] = weight[used].unsqueeze(-1) * torch.cholesky_inverse(factor[used]).diagonal(dim1=-2, dim2=-1)
    return found


class _SolveParts(torch.autograd.Function):
    """(K_i + s_i^2 I)^-1 r_i for parts K_i of one kernel matrix: the cells that are known of each signal.

    The gradient by the kernel is one product of the solutions, spread over all cells, and never a B x N x N tensor.
    """

    @staticmethod
    def forward(
        ctx: Any, kernel: Tensor, noise: Tensor, right: Tensor, cells: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        parts = kernel[cells.unsqueeze(-1), cells.unsqueeze(-2)]
        parts *= mask.unsqueeze(-1) & mask.unsqueeze(-2)
        # A point that is not known has a row of its own, which changes nothing.
        parts.diagonal(dim1=-2, dim2=-1).add_(torch.where(mask, noise[:, None], 1.0))
        factor = torch.linalg.cholesky_ex(parts).L
        solution = torch.cholesky_solve(right, factor)
        ctx.save_for_backward(factor, solution, cells, mask)
        ctx.count = len(kernel)
        ctx.mark_non_differentiable(factor)
        return solution, factor

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, Tensor, None, None]:
        factor, solution, cells, mask = ctx.saved_tensors
        right = torch.cholesky_solve(gradients[0], factor)
        known = mask.unsqueeze(-1)
        u, v = (spread_over(part * known, cells, ctx.count).movedim(1, 0).flatten(1) for part in (right, solution))
        outer = u @ v.mT
        return -0.5 * (outer + outer.mT), -(right * solution * known).sum((1, 2)), right, None, None


def spread_over(values: Float[Tensor, "B N C"], cells: Int[Tensor, "B N"], count: int) -> Float[Tensor, "B P C"]:
    """Values at some cells as values at all of them, 0 elsewhere; of cells named twice the sum."""
    index = cells.unsqueeze(-1).expand(-1, -1, values.shape[-1])
    return values.new_zeros(len(values), count, values.shape[-1]).scatter_add(1, index, values)


def solve_positive(
    matrix: Float[Tensor, "*b N N"], right: Float[Tensor, "*b N C"]
) -> tuple[Float[Tensor, "*b N C"], Float[Tensor, "*b N N"]]:
    """K^-1 r, and the lower Cholesky factor of K, through which no gradient goes.

    Example:
        >>> solve_positive(torch.diag(torch.tensor([2.0, 4.0])), torch.ones(2, 1))[0].flatten().tolist()
        [0.5, 0.25]
    """
    solution, _, factor = _Solve.apply(matrix, right, None)
    return solution, factor


def solve_with_determinant(
    matrix: Float[Tensor, "*b N N"],
    right: Float[Tensor, "*b2 N C"],
    diagonal: Float[Tensor, "*b N"] | None = None,
) -> tuple[Float[Tensor, "*b N C"], Float[Tensor, "*b"], Float[Tensor, "*b N N"]]:
    """K^-1 r, log det K, and the lower Cholesky factor of K, through which no gradient goes.

    Args:
        matrix: K; or K less its `diagonal`, which is then added to it in place.
        right: r.
        diagonal: Where it alone has a gradient, no N x N matrix has.

    Example:
        >>> x, logarithm, _ = solve_with_determinant(torch.diag(torch.tensor([2.0, 4.0])), torch.ones(2, 1))
        >>> x.flatten().tolist(), round(logarithm.exp().item(), 4)
        ([0.5, 0.25], 8.0)
    """
    if diagonal is not None:
        matrix.diagonal(dim1=-2, dim2=-1).add_(diagonal.detach())
    return _Solve.apply(matrix, right, diagonal)


def solve_parts(
    kernel: Float[Tensor, "P P"],
    noise: Float[Tensor, " B"],
    right: Float[Tensor, "B N C"],
    cells: Int[Tensor, "B N"],
    mask: Bool[Tensor, "B N"],
) -> tuple[Float[Tensor, "B N C"], Float[Tensor, "B N N"]]:
    """As `solve_positive`, for the parts of one kernel matrix that belong to the known cells, plus their noise.

    Where `mask` is False the solution is what stands on the right there, which should be 0.
    """
    return _SolveParts.apply(kernel, noise, right, cells, mask)


def gram_matrix(
    seen: Float[Tensor, "S N R"], mask: Bool[Tensor, "S N"], noise: Float[Tensor, " S"], dual: bool
) -> Float[Tensor, "S K K"]:
    """A A^T + s^2 I (dual), where a row that is not known is one of the identity; or A^T A + s^2 I (primal).

    Example:
        >>> seen, mask = torch.tensor([[[2.0], [0.0]]]), torch.tensor([[True, False]])
        >>> gram_matrix(seen, mask, torch.tensor([0.5]), dual=True).tolist()
        [[[4.5, 0.0], [0.0, 1.0]]]
        >>> gram_matrix(seen, mask, torch.tensor([0.5]), dual=False).tolist()
        [[[4.5]]]
    """
    if dual:
        return seen @ seen.mT + torch.diag_embed(torch.where(mask, noise[:, None], 1.0))
    return seen.mT @ seen + noise[:, None, None] * torch.eye(seen.shape[-1], dtype=seen.dtype, device=seen.device)


def with_one(features: Float[Tensor, "*b N F"]) -> Float[Tensor, "*b N G"]:
    """The features and a constant 1, that the bias belongs to."""
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def last_layer(siren: Siren, params: Params) -> Float[Tensor, "*b G C"]:
    """The last layer of a field as one matrix, its bias in the last row."""
    weight, bias = (params.get(name, own) for name, own in siren.last().items())
    if weight.ndim != bias.ndim + 1:  # one of them is the same for all signals
        b = max(weight.shape[0] if weight.ndim == 3 else 1, bias.shape[0] if bias.ndim == 2 else 1)
        weight, bias = weight.expand(b, *weight.shape[-2:]), bias.expand(b, bias.shape[-1])
    return torch.cat([weight, bias.unsqueeze(-1)], dim=-1).mT


def with_last_layer(siren: Siren, params: Params, theta: Float[Tensor, "*b G C"]) -> Params:
    """The parameters with another last layer."""
    weight, bias = siren.last()
    return {**params, weight: theta[..., :-1, :].mT, bias: theta[..., -1, :]}


def signals_aside(values: Float[Tensor, "*k B N C"], systems: int) -> Float[Tensor, "*k S N X"]:
    """Right-hand sides of so many systems: where one system serves all signals, they stand side by side."""
    return values if systems == values.shape[-3] else rearrange(values, "... b n c -> ... 1 n (b c)")


def signals_apart(values: Float[Tensor, "*k S N X"], signals: int) -> Float[Tensor, "*k B N C"]:
    """The inverse of `signals_aside`."""
    return values if values.shape[-3] == signals else rearrange(values, "... 1 n (b c) -> ... b n c", b=signals)


@runtime_checkable
class Uncertainty(Protocol):
    """What is still open of B fields: `Posterior`, or one like it."""

    @property
    def siren(self) -> Siren:
        """The hypo-SIREN."""

    @property
    def params(self) -> Params:
        """The fields' weights; their last layer is the mean."""

    @property
    def mask(self) -> Tensor:
        """(B, N), which points are known."""

    @property
    def columns(self) -> int:
        """R, numbers that a field has under its prior."""

    @property
    def open_share(self) -> Tensor:
        """The share of the prior's variance that is still open, of each signal or one for all, from 0 to 1."""

    def variance(self, x: Tensor) -> Tensor:
        """The variance of the fields' values at x, (B, P, C)."""

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal."""


@dataclass(frozen=True)
class Posterior:
    """What is still open of the last layers of B fields.

    Signals that are known at the same points share one linear system; cells, mask, gram and noise then have one entry.

    Attributes:
        siren, params: The fields; their last layer is the mean.
        factor: S.
        points: A: the known points' features times S, 0 in rows that are not known; or those of all cells of a raster.
        cells: Which rows of `points` each signal's known ones are, where they are those of a raster.
        mask: Which of these are known.
        gram: Lower Cholesky factor of A A^T + s^2 I (dual), or of A^T A + s^2 I (primal).
        noise: s^2 of each system.
        dual: Which of both it is.
        spread: The logarithm of what multiplies the standard deviation is spread[0] + spread[1] log u, u being the
            share of the prior's variance that is still open, see `open_share`.
    """

    siren: Siren
    params: Params
    factor: Float[Tensor, "G R"]
    points: Float[Tensor, "*b P R"]
    cells: Int[Tensor, "S N"] | None
    mask: Bool[Tensor, "S N"]
    gram: Float[Tensor, "S K K"]
    noise: Float[Tensor, " S"]
    dual: bool
    spread: Float[Tensor, " 2"]

    __repr__ = by_shape

    @property
    def signals(self) -> int:
        """B."""
        return len(last_layer(self.siren, self.params))

    @property
    def columns(self) -> int:
        """R."""
        return self.factor.shape[1]

    @property
    def seen(self) -> Float[Tensor, "S N R"]:
        """A for each system."""
        return self.points if self.cells is None else self.points[self.cells] * self.mask.unsqueeze(-1)

    def variance(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "B P C"]:
        """The variance of the fields' values at x, of the field itself and not of a noisy measurement of it."""
        variance = self.spreads.square()[:, None] * self.raw_variance(self._features(x))
        return variance.expand(self.signals, -1).unsqueeze(-1).expand(-1, -1, self.siren.out_features)

    def raw_variance(self, a: Float[Tensor, "*b P R"]) -> Float[Tensor, "S P"]:
        """The variance before the spread, where the features times S are known."""
        a = a.expand(len(self.gram), -1, -1)
        if torch.is_grad_enabled() and a.requires_grad:
            return self._trained_variance(a)
        if self.dual:
            explained = torch.linalg.solve_triangular(self.gram, self.seen @ a.mT, upper=False).square().sum(-2)
            return (a.square().sum(-1) - explained).clamp(min=0)
        left = torch.linalg.solve_triangular(self.gram, a.mT, upper=False)
        return self.noise[:, None] * left.square().sum(-2)

    def _trained_variance(self, a: Float[Tensor, "S P R"]) -> Float[Tensor, "S P"]:
        """The same by a solve of its own: no gradient goes through the Cholesky factor."""
        seen = self.seen
        gram = gram_matrix(seen, self.mask, self.noise, self.dual)
        if self.dual:
            across = seen @ a.mT
            return (a.square().sum(-1) - (across * solve_positive(gram, across)[0]).sum(-2)).clamp(min=0)
        return self.noise[:, None] * (a.mT * solve_positive(gram, a.mT)[0]).sum(-2)

    @property
    def open_share(self) -> Float[Tensor, " S"]:
        """u: the share of the prior's variance that is still open, over [-1, 1]^D, from 0 to 1."""
        a = self._features(probes(self.siren, self.points))
        return (self.raw_variance(a).mean(-1) / a.square().sum(-1).mean(-1)).clamp(1e-6, 1)

    @cached_property
    def spreads(self) -> Float[Tensor, " S"]:
        """What multiplies the standard deviation of each system."""
        return spreads(self.spread, self)

    def left_open(self, w: Float[Tensor, "B R X"], error: Tensor | float = 0.0) -> Float[Tensor, "B R X"]:
        """What the known points leave of a change S w of the last layers, themselves known with an error (S N X)."""
        w = signals_aside(w, len(self.gram))
        if not self.dual:
            known = 0.0 if isinstance(error, float) else self.seen.mT @ error
            return signals_apart(torch.cholesky_solve(self.noise[:, None, None] * w - known, self.gram), self.signals)
        if self.cells is None:
            change = self.points @ w
        else:
            change = (self.points @ w).gather(1, self.cells.unsqueeze(-1).expand(-1, -1, w.shape[-1]))
        solution = torch.cholesky_solve((change + error) * self.mask.unsqueeze(-1), self.gram)
        back = solution if self.cells is None else spread_over(solution, self.cells, len(self.points))
        return signals_apart(w - self.points.mT @ back, self.signals)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Params:
        """Parameters of `count` fields for each signal: (B * count, *shape), the first signal's first.

        Matheron's rule: a sample of the prior, corrected by what it says at the known points.
        """
        b, r, channels = self.signals, self.factor.shape[1], self.siren.out_features
        like = {"device": self.points.device, "dtype": self.points.dtype, "generator": generator}
        w = torch.randn(b, r, count * channels, **like)  # type: ignore[call-overload]
        error = torch.randn(b, self.mask.shape[1], count * channels, **like)  # type: ignore[call-overload]
        error = signals_aside(error, len(self.gram)) * self.noise.sqrt()[:, None, None] * self.mask.unsqueeze(-1)
        change = self.spreads[:, None, None] * (self.factor @ self.left_open(w, error))
        change = change.unflatten(-1, (count, -1)).movedim(-2, 1).flatten(0, 1)
        repeated = {
            name: p.repeat_interleave(count, 0) if p.ndim > len(self.siren.shapes[name]) else p
            for name, p in self.params.items()
        }
        return with_last_layer(self.siren, repeated, last_layer(self.siren, repeated) + change)

    def _features(self, x: Float[Tensor, "*b P D"]) -> Float[Tensor, "*c P R"]:
        hidden = {name: p for name, p in self.params.items() if name not in self.siren.last()}
        return with_one(self.siren.features(x, hidden)) @ self.factor


def probes(siren: Siren, like: Tensor) -> Float[Tensor, "P D"]:
    """256 points spread over [-1, 1]^D by the Sobol sequence, which keeps step with no raster; not to be written to."""
    return _sobol(siren.in_features, like.device, like.dtype)


@cache
def _sobol(dimensions: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "P D"]:
    """They are drawn on the processor, and would otherwise be copied to the device in every step."""
    with torch.inference_mode(False):  # a training may want them that were first asked for in inference
        return 2 * torch.quasirandom.SobolEngine(dimensions).draw(256).to(device, dtype) - 1


@torch.no_grad()
def effective_count(siren: Siren, x: Float[Tensor, "S N D"], mask: Bool[Tensor, "S N"]) -> Float[Tensor, " S"]:
    """How many points, spread evenly over [-1, 1]^D, would be as near to everywhere as the known ones are.

    N evenly random points are about N^(-1/D) away on average. Points that all lie on one side count for less than they
    are; none counts for more than one.

    Example:
        >>> x = torch.linspace(-1, 1, 100).view(1, -1, 1)
        >>> known = torch.ones(2, 100, dtype=torch.bool)
        >>> known[1, 50:] = False
        >>> [round(n) for n in effective_count(Siren(1, 1), x.expand(2, -1, -1), known).tolist()]
        [100, 4]
    """
    if x.shape[1] == 0:
        return x.new_ones(len(x))
    far = torch.finfo(x.dtype).max
    nearest = torch.cdist(probes(siren, x), x).masked_fill(~mask.unsqueeze(1), far).amin(-1)
    count = mask.sum(1).to(x.dtype)
    return torch.minimum(count, nearest.mean(-1) ** -x.shape[-1]).clamp(min=1)


def spreads(spread: Float[Tensor, " 2"], posterior: Uncertainty) -> Tensor:
    """What multiplies the standard deviation, see `Posterior`; 1 where the spread is zero.

    A processor then asks for no more; on a device the question would be a wait.
    """
    if spread.device.type == "cpu" and not spread.any():
        return torch.ones((1,)).to(spread)
    return torch.exp(spread[0] + spread[1] * posterior.open_share.log())


def negative_log_likelihood(
    posterior: Uncertainty, x: Float[Tensor, "*b P D"], y: Float[Tensor, "B P C"]
) -> Float[Tensor, "B P C"]:
    """How unlikely each value is under the Gaussian that is predicted of it, up to a constant.

    A variance is not taken to be below `ROUNDING`, so that a value that is met exactly does not count without limit.

    Example:
        >>> from hypersiren import Context, LastLayerSolve
        >>> images, siren = torch.rand(1, 4, 4, 1), Siren(2, 1, hidden_features=(8, 16))
        >>> context = Context.from_images(images, torch.rand(1, 4, 4) < 0.5)
        >>> posterior = LastLayerSolve(16)(siren, None, {}, context).posterior
        >>> negative_log_likelihood(posterior, context.x, context.y).shape
        torch.Size([1, 16, 1])
    """
    variance = posterior.variance(x) + ROUNDING
    return 0.5 * ((y - posterior.siren(x, posterior.params)).square() / variance + variance.log())


def fit_spread(found: Sequence[tuple[Tensor, Tensor]]) -> Float[Tensor, " 2"]:
    """The spread with which 90 % intervals hold 90 %, from signals whose unknown values are known after all.

    Args:
        found: For each signal its `open_share`, and the absolute errors of its unknown values divided by the standard
            deviation before the spread, (X,).

    Returns:
        Intercept and slope of the logarithm of the spread by the logarithm of the open share.

    Example:
        >>> errors = torch.linspace(0, 1, 11)  # 90 % of them are below 0.9
        >>> fit_spread([(torch.tensor(0.5), 1.645 * errors), (torch.tensor(0.1), 1.645 * errors)]).exp()[0]
        tensor(0.9000)
    """
    x = torch.stack([share.log() for share, _ in found])
    y = torch.stack([(ratio.quantile(0.9).clamp(min=1e-3) / NINETY).log() for _, ratio in found])
    rows = torch.stack([torch.ones_like(x), x], dim=1).cpu()
    # The shares may be equal: the shortest solution then, for which CUDA has no driver.
    return torch.linalg.lstsq(rows, y.cpu().unsqueeze(-1), driver="gelsd").solution.flatten().to(x)
