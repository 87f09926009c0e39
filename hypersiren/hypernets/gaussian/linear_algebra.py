"""Positive definite systems: solves with gradients that are one more solve, Gram matrices, and many right-hand sides.

Symbols: B signals, S linear systems (B, or 1 where all signals are known at the same points), N known points, P points,
C channels, F features, G = F + 1, R columns, X right-hand sides.
"""

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

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
    design: Float[Tensor, "S N R"], mask: Bool[Tensor, "S N"], noise: Float[Tensor, " S"], dual: bool
) -> Float[Tensor, "S K K"]:
    """A A^T + s^2 I (dual), where a row that is not known is one of the identity; or A^T A + s^2 I (primal).

    Example:
        >>> design, mask = torch.tensor([[[2.0], [0.0]]]), torch.tensor([[True, False]])
        >>> gram_matrix(design, mask, torch.tensor([0.5]), dual=True).tolist()
        [[[4.5, 0.0], [0.0, 1.0]]]
        >>> gram_matrix(design, mask, torch.tensor([0.5]), dual=False).tolist()
        [[[4.5]]]
    """
    if dual:
        return design @ design.mT + torch.diag_embed(torch.where(mask, noise[:, None], 1.0))
    return design.mT @ design + noise[:, None, None] * torch.eye(
        design.shape[-1], dtype=design.dtype, device=design.device
    )


def append_bias(features: Float[Tensor, "*b N F"]) -> Float[Tensor, "*b N G"]:
    """The features and a constant 1, that the bias belongs to."""
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def shared_product(matrix: Float[Tensor, "*k P R"], values: Float[Tensor, "*k B R X"]) -> Float[Tensor, "*k B P X"]:
    """The products of one matrix with B others, as one product with these side by side.

    Example:
        >>> shared_product(torch.rand(5, 2), torch.rand(7, 2, 1)).shape
        torch.Size([7, 5, 1])
    """
    product = matrix @ rearrange(values, "... b r x -> ... r (b x)")
    return rearrange(product, "... p (b x) -> ... b p x", x=values.shape[-1])


def stack_signals(values: Float[Tensor, "*k B N C"], systems: int) -> Float[Tensor, "*k S N X"]:
    """Right-hand sides of `systems` linear systems: where one serves all signals, they stand side by side."""
    return values if systems == values.shape[-3] else rearrange(values, "... b n c -> ... 1 n (b c)")


def unstack_signals(values: Float[Tensor, "*k S N X"], signals: int) -> Float[Tensor, "*k B N C"]:
    """The inverse of `stack_signals`."""
    return values if values.shape[-3] == signals else rearrange(values, "... 1 n (b c) -> ... b n c", b=signals)
