"""A mixture of Gaussian priors over small windows of pictures, and the posterior of pictures that are known in part.

A window of n x n pixels, less its mean, is normal with the covariance S_k of its component k, for the luminance and for
each of two chromas. Given a first guess of a picture, each window takes the one or two components under which the
guess is likeliest; two are weighted by the evidence of the known pixels y_o alone,

    p(k | y_o) ~ pi_k N(y_o; 0, S_k[o, o] + noise),     E[y | y_o, k] = S_k[:, o] (S_k[o, o] + noise)^-1 y_o,

where S_k has a wide variance for the mean of a window. The windows overlap densely; their means are averaged with
weights of 1 / variance (piecewise linear estimators, Yu, Sapiro and Mallat 2012; EPLL, Zoran and Weiss 2011).

The components are fitted by expectation maximisation, from windows that are sorted by contrast and direction.

Symbols: N windows of P pixels, K components, 3 axes of colour, B pictures.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

CANDIDATES = 2
"""Components that a window is completed with."""

CLEAR = 20.0
"""The likeliest component alone, where the next is less likely by as much in logarithms."""

STEP = 2
"""Pixels from a row of windows to the next, which is shifted by as many; along a row twice as many. It divides 4."""

LEVEL = (0.15, 0.01)
"""Variance of the mean of a window, luminance and chroma."""

NOISE, RIDGE, BLUR = 1e-5, 2e-5, (1e-4, 1e-5)
"""Variances: of known pixels, of what each component adds to every pixel, of the error of a first guess."""

NUMBERS = 2**21
"""Numbers of the systems that are solved at a time."""

SOME, MANY = 8192, 2**15
"""Windows of which likelihoods are computed at a time, and windows whose pixels are held at a time."""


class PatchMixture(nn.Module):
    """The mixture; see the module.

    Args:
        components: K.
        side: n, a window's pixels.

    Attributes:
        factor: (2, K, P, P) A_k of S_k = A_k A_k^T + ridge, for luminance and chroma.
        logarithms: (K,) log pi_k.

    Example:
        >>> mixture = PatchMixture(4, 4)
        >>> mixture.fit(torch.randn(3, 500, 16), 2, torch.Generator().manual_seed(0))
        >>> x, known = torch.rand(1, 3, 16, 24), torch.rand(1, 16, 24) < 0.5
        >>> mean, variance = mixture(x, known)
        >>> bool((mean - x).abs().movedim(1, -1)[known].max() < 0.01), bool((variance > 0).all())
        (True, True)
    """

    factor: Tensor
    logarithms: Tensor

    def __init__(self, components: int, side: int = 8):
        super().__init__()
        self.side = side
        count = side * side
        self.register_buffer("factor", 0.1 * torch.eye(count).expand(2, components, count, count).clone())
        self.register_buffer("logarithms", torch.full((components,), -math.log(components)))

    @property
    def covariances(self) -> Float[Tensor, "2 K P P"]:
        """S_k."""
        found = self.factor @ self.factor.mT
        found.diagonal(dim1=-1, dim2=-2).add_(RIDGE)
        return found

    @torch.no_grad()
    def fit(self, x: Float[Tensor, "3 N P"], rounds: int, generator: torch.Generator) -> None:
        """Fit the components to windows, which need not be centred."""
        x = x - x.mean(-1, keepdim=True)
        covariances, self.logarithms[:] = _components(x, _sorted_windows(x[0], len(self.logarithms), generator))
        for _ in range(rounds):
            shares = _likelihoods(x, covariances, self.logarithms).softmax(1)
            covariances, self.logarithms[:] = _components(x, shares)
        values, axes = torch.linalg.eigh(covariances - RIDGE * torch.eye(x.shape[-1], device=x.device))
        self.factor[:] = axes * values.clamp(min=0).sqrt().unsqueeze(-2)

    @torch.no_grad()
    def forward(
        self, guess: Float[Tensor, "B 3 H W"], known: Bool[Tensor, "B H W"]
    ) -> tuple[Float[Tensor, "B 3 H W"], Float[Tensor, "B 3 H W"]]:
        """Means and variances of pictures.

        Args:
            guess: Pictures in the axes of colour, right where known. Sides of at least a window.
            known: Their known pixels.
        """
        b, _, h, w = guess.shape
        one = _window_index(h, w, self.side, guess.device)
        index = (one + h * w * torch.arange(b, device=one.device).view(-1, 1, 1)).flatten(0, 1)
        values, seen = guess.movedim(1, 0).flatten(1), known.flatten()
        covariances = self.covariances
        total, squares, weights = torch.zeros_like(values), torch.zeros_like(values), torch.zeros_like(values[0])
        for some in index.split(MANY):
            self._add_windows(values, seen, some, covariances, total, squares, weights)
        none = weights == 0
        mean = torch.where(none, values, total / weights)
        variance = torch.where(none, NOISE, squares / weights)
        return tuple(each.unflatten(1, (b, h, w)).movedim(0, 1) for each in (mean, variance))

    def _add_windows(
        self,
        values: Float[Tensor, "3 M"],
        known: Bool[Tensor, " M"],
        index: Int[Tensor, "N P"],
        covariances: Float[Tensor, "2 K P P"],
        total: Float[Tensor, "3 M"],
        squares: Float[Tensor, "3 M"],
        weights: Float[Tensor, " M"],
    ) -> None:
        """Add the weighted means and variances of windows, and their weights, to what others have added."""
        seen = known[index]
        index, seen = (each[~seen.all(1)] for each in (index, seen))  # of others all is known
        windows = values[:, index]
        # The level is relative to that of the first guess, so that one prior is right for dark and for light pictures.
        level = windows.mean(-1, keepdim=True)
        centred = windows - level
        likely = _likelihoods(centred, covariances + _diagonal(BLUR, centred), self.logarithms)
        likely, best = likely.topk(min(CANDIDATES, likely.shape[1]), 1)
        clear = likely[:, 0] - likely[:, -1] > CLEAR
        wide = covariances + torch.tensor(LEVEL).to(values).view(2, 1, 1, 1)
        for some, count in ((clear, 1), (~clear, CANDIDATES)):
            (some,) = some.nonzero(as_tuple=True)
            for part, order, inside in _alike(seen[some]):
                which = some[part]
                mean, variance = self._posterior(centred[:, which], order, inside, best[which, :count], wide)
                weight = 1 / (variance.sum(0) + 1e-5)
                place = index[which].flatten()
                weights.index_add_(0, place, weight.flatten())
                for axis in range(3):
                    total[axis].index_add_(0, place, (weight * (mean[axis] + level[axis, which])).flatten())
                    squares[axis].index_add_(0, place, (weight * variance[axis]).flatten())

    def _posterior(
        self,
        y: Float[Tensor, "3 n P"],
        order: Int[Tensor, "n m"],
        inside: Bool[Tensor, "n m"] | None,
        best: Int[Tensor, "n T"],
        wide: Float[Tensor, "2 K P P"],
    ) -> tuple[Float[Tensor, "3 n P"], Float[Tensor, "3 n P"]]:
        """Mean and variance of windows whose first pixels in an order are known, where `inside` if it is given."""
        right, size = y.gather(2, order.expand(3, -1, -1)), y.shape[-1]
        if inside is not None:
            right *= inside
        means, variances, evidence = [], [], []
        for k in best.unbind(1):
            across = wide.flatten(1, 2).index_select(1, (size * k[:, None] + order).flatten())
            across = across.unflatten(1, order.shape)
            system = across.gather(3, order[:, None].expand(2, -1, order.shape[1], -1))
            diagonal = system.diagonal(dim1=-1, dim2=-2)
            diagonal.add_(NOISE)
            if inside is not None:
                across *= inside[..., None]
                system *= inside[:, None] * inside[..., None]
                diagonal.add_((~inside).to(y))
            lower = torch.linalg.cholesky_ex(system)[0]
            # Of both priors at once: the known values and what they tell of every pixel.
            solved = torch.linalg.solve_triangular(lower, across, upper=False)
            light = torch.linalg.solve_triangular(lower[0], right[0].unsqueeze(-1), upper=False)
            chroma = torch.linalg.solve_triangular(lower[1], right[1:].movedim(0, -1), upper=False)
            left = wide[:, k].diagonal(dim1=-1, dim2=-2) - solved.square().sum(-2)
            variances.append(left.clamp(min=1e-7)[[0, 1, 1]])
            parts = torch.cat([solved[0].mT @ light, solved[1].mT @ chroma], -1)
            means.append(parts.movedim(-1, 0))
            spread = lower.diagonal(dim1=-1, dim2=-2).log().sum(-1)
            misfit = 0.5 * (light.square().sum((1, 2)) + chroma.square().sum((1, 2)))
            evidence.append(self.logarithms[k] - misfit - spread[0] - 2 * spread[1])
        shares = torch.stack(evidence).softmax(0)[:, None, :, None]
        stacked = torch.stack(means)
        mean = (shares * stacked).sum(0)
        return mean, (shares * (torch.stack(variances) + (stacked - mean).square())).sum(0)


def _window_index(h: int, w: int, side: int, device: torch.device) -> Int[Tensor, "N P"]:
    """The pixels of all windows of a picture, counted row by row."""
    starts = []
    for top in (*range(0, h - side, STEP), h - side):
        across = range(STEP * (top // STEP % 2), w - side, 2 * STEP)
        starts += [top * w + left for left in sorted({0, *across, w - side})]
    along = torch.arange(side, device=device)
    return torch.tensor(starts, device=device)[:, None] + (w * along[:, None] + along).flatten()


def _alike(seen: Bool[Tensor, "N P"]) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Windows that know about as many pixels, a few at a time: which, their known pixels first, which of those are.

    None for the last if all are.
    """
    counts = seen.sum(1)
    order = seen.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    sorted_ = counts.argsort()
    start = 0
    while start < len(sorted_):
        near = max(1, int(counts[sorted_[min(start + 1000, len(sorted_) - 1)]]))
        which = sorted_[start : start + max(16, NUMBERS // (4 * near * seen.shape[1]))]
        start += len(which)
        fewest, most = torch.stack(counts[which].aminmax()).tolist()  # one wait for the device
        first = max(1, most)
        inside = None if fewest == first else torch.arange(first, device=seen.device) < counts[which, None]
        yield which, order[which, :first], inside


def _diagonal(variances: tuple[float, float], like: Tensor) -> Float[Tensor, "2 1 P P"]:
    return torch.tensor(variances).to(like).view(2, 1, 1, 1) * torch.eye(like.shape[-1]).to(like)


def _likelihoods(
    x: Float[Tensor, "3 N P"], covariances: Float[Tensor, "2 K P P"], logarithms: Float[Tensor, " K"]
) -> Float[Tensor, "N K"]:
    """log pi_k + log N(x; 0, S_k), but for a constant."""
    lower = torch.linalg.cholesky(covariances)
    whitening = torch.linalg.solve_triangular(lower, torch.eye(x.shape[-1]).to(x).expand_as(lower), upper=False)
    size = lower.diagonal(dim1=-1, dim2=-2).log().sum(-1)
    found = (logarithms - size[0] - 2 * size[1]).repeat(x.shape[1], 1)
    for part, out in zip(x.split(SOME, 1), found.split(SOME), strict=True):
        for k, (light, chroma) in enumerate(zip(*whitening, strict=True)):
            squares = (part[0] @ light.mT).square().sum(-1) + (part[1:] @ chroma.mT).square().sum((0, -1))
            out[:, k] -= 0.5 * squares
    return found


def _components(
    x: Float[Tensor, "3 N P"], shares: Float[Tensor, "N K"]
) -> tuple[Float[Tensor, "2 K P P"], Float[Tensor, " K"]]:
    """Covariances and logarithms of weights, from the share of each component in each window.

    A component of few windows is drawn towards the covariance of all, scaled to its own variance.
    """
    count, size = shares.sum(0), x.shape[-1]
    whole = torch.stack([_covariance(part, torch.ones_like(part[:, 0])) for part in (x[0], x[1:].flatten(0, 1))])
    each = []
    for k in range(shares.shape[1]):
        index = (shares[:, k] > 1e-3).nonzero().squeeze(1)
        weight = shares[index, k]
        chroma = x[1:, index].flatten(0, 1)
        each.append(torch.stack([_covariance(x[0, index], weight), _covariance(chroma, weight.repeat(2))]))
    own = torch.stack(each, 1)
    scale = own.diagonal(dim1=-1, dim2=-2).mean(-1) / whole.diagonal(dim1=-1, dim2=-2).mean(-1, keepdim=True)
    few = (size / (count + size)).view(1, -1, 1, 1)
    found = (1 - few) * own + few * scale[..., None, None] * whole.unsqueeze(1)
    found.diagonal(dim1=-1, dim2=-2).add_(RIDGE)
    return found, ((count + 1) / (count + 1).sum()).log()


def _covariance(x: Float[Tensor, "N P"], weight: Float[Tensor, " N"]) -> Float[Tensor, "P P"]:
    return (x * weight.unsqueeze(-1)).mT @ x / weight.sum().clamp(min=1e-6)


def _sorted_windows(
    x: Float[Tensor, "N P"], components: int, generator: torch.Generator, rounds: int = 6
) -> Float[Tensor, "N K"]:
    """Shares to begin with: windows by contrast, and of each contrast by direction, up to sign."""
    contrast = x.norm(dim=-1)
    levels = max(1, components // 16)
    shares = x.new_zeros(len(x), components)
    columns = torch.arange(components, device=x.device).chunk(levels)
    for which, own in zip(contrast.argsort().chunk(len(columns)), columns, strict=True):
        unit = x[which] / (contrast[which, None] + 1e-3)
        centres = unit[torch.randperm(len(unit), generator=generator, device=x.device)[: len(own)]]
        for _ in range(rounds):
            likeness = unit @ centres.mT
            nearest = likeness.abs().argmax(1)
            signed = unit * likeness.gather(1, nearest[:, None]).sign()
            sums = torch.zeros_like(centres).index_add_(0, nearest, signed)
            centres = torch.where(sums.norm(dim=-1, keepdim=True) > 0, sums, centres)
            centres = centres / centres.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        shares[which, own[0] + nearest] = 1
    return shares
