"""The metric of a correction's inputs: which directions of them tell what the prior leaves unexplained.

The average gradient outer product (AGOP; Radhakrishnan et al., *Mechanism for feature learning in neural networks and
backpropagation-free machine learning models*, Science 2024) of a kernel ridge regression from inputs to what the first
solve leaves, with few centres (Nystroem), some rounds of it, each in the metric of the one before. With it a network
learns more than twice as fast as without.

Symbols: B pairs, I inputs, O outputs, N centres.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Draw = Callable[[int], tuple[Float[Tensor, "B I"], Float[Tensor, "B O"], Float[Tensor, " B"]]]
"""So many pairs of inputs and outputs at least, and how much each counts."""

RIDGE = 1e-5
"""Of the regression, for kernel values of at most 1."""

MOST = 6
"""Times that the matrix gets more on its diagonal until it is positive definite."""

LEADING = 48
"""Directions of the outputs whose gradients are taken."""


@dataclass(frozen=True)
class Regression:
    """A Gaussian kernel regression.

    Attributes:
        centres: Inputs times the metric.
        width: Twice the squared width of the kernel.
        weights: Of the centres.
    """

    centres: Float[Tensor, "N I"]
    width: float
    weights: Float[Tensor, "N O"]

    def kernel(self, inputs: Float[Tensor, "B I"]) -> Float[Tensor, "B N"]:
        """Of inputs times the metric and the centres."""
        return gaussian(inputs, self.centres, self.width)

    def gradients(self, inputs: Float[Tensor, "B I"]) -> Float[Tensor, "I I"]:
        """The sum over inputs of the outer products of the gradients, along the leading directions of the outputs."""
        kernel = self.kernel(inputs)
        found = kernel @ self.weights
        leading = torch.linalg.eigh(found.mT @ found)[1][:, -LEADING:]
        total = torch.zeros_like(inputs[0]).expand(inputs.shape[1], -1).clone()
        for weights in (self.weights @ leading).mT:
            each = kernel * weights
            gradient = each @ self.centres - each.sum(1, keepdim=True) * inputs
            total += gradient.mT @ gradient
        return total


def gaussian(x: Float[Tensor, "B I"], y: Float[Tensor, "N I"], width: float) -> Float[Tensor, "B N"]:
    """exp(-|x - y|^2 / width)."""
    square = (x @ y.mT).mul_(-2).add_(x.square().sum(1, keepdim=True)).add_(y.square().sum(1))
    return square.clamp_(min=0).div_(-width).exp_()


@torch.no_grad()
def regress(draw: Draw, metric: Float[Tensor, "I I"], centres: int, pairs: int) -> Regression:
    """The regression on drawn pairs, its width the median distance of centres."""
    middle = draw(centres)[0][:centres] @ metric
    near = middle[:500]
    width = 2 * torch.cdist(near, middle).square().median().item()
    work = torch.float32 if middle.device.type == "mps" else torch.float64
    square = torch.zeros(len(middle), len(middle), dtype=work, device=middle.device)
    right: Tensor | float = 0.0
    total, count = 0.0, 0
    while count < pairs:
        inputs, outputs, weight = draw(min(512, pairs))
        root = weight.sqrt().unsqueeze(1)
        kernel = gaussian(inputs @ metric, middle, width) * root
        square += (kernel.mT @ kernel).to(work)
        right = right + (kernel.mT @ (outputs * root)).to(work)
        total, count = total + weight.sum().item(), count + len(inputs)
    matrix = square / total + RIDGE * gaussian(middle.to(work), middle.to(work), width)
    assert isinstance(right, Tensor)
    # Sums in single precision are not quite positive definite, least where signals are few and centres alike.
    least = 2e-6 * square.diagonal().mean() / total
    for _ in range(MOST):
        matrix.diagonal().add_(least)
        lower, failed = torch.linalg.cholesky_ex(matrix)
        if not failed:
            break
        least = 10 * least
    weights = torch.cholesky_solve(right / total, lower)
    return Regression(middle, width, weights.to(middle.dtype))


@torch.no_grad()
def learn_metric(
    draw: Draw, metric: Float[Tensor, "I I"], *, centres: int = 2048, pairs: int = 40000, rounds: int = 3
) -> Float[Tensor, "I I"]:
    """A metric that inputs are to be multiplied by, scaled so that they then have the variance 1 on average.

    Args:
        draw: Gives pairs.
        metric: The first one.
        centres, pairs, rounds: Sizes of the regressions, and how many there are.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> def draw(count: int):
        ...     x = torch.randn(count, 4, generator=generator)
        ...     return x, x[:, :1].sin(), torch.ones(count)
        >>> metric = learn_metric(draw, torch.eye(4), centres=64, pairs=1024, rounds=1)
        >>> bool(metric[0].norm() > 3 * metric[1:].norm(dim=1).max())
        True
    """
    for _ in range(rounds):
        found = regress(draw, metric, centres, pairs)
        values, vectors = torch.linalg.eigh(found.gradients(draw(1200)[0] @ metric))
        values = values.clamp(min=0) / values.mean()
        metric = metric @ (vectors * (values + 1e-3) ** 0.25)
    inputs = draw(512)[0] @ metric
    return metric / (inputs - inputs.mean(0)).square().mean().sqrt().clamp(min=torch.finfo(inputs.dtype).tiny)
