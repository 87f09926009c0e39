"""Muon: momentum whose update of a matrix is orthogonalised (Jordan et al. 2024), scaled to the size of Adam's.

    B <- mu B + (1 - mu) G            momentum of the gradient G
    U  = (1 - mu) G + mu B            Nesterov's
    O  = NewtonSchulz(U)              U with all singular values near 1
    W <- (1 - lr decay) W - 0.2 lr sqrt(max(m, n)) O

The last factor gives O the root mean square of an update of Adam, so that one learning rate serves both (Liu et al.
2025). Here the iteration has the precision of the weights, float32, on a CPU and on a GPU: a fit is the same on both
but for rounding. Matrices of one shape, as most of a SIREN's are, are orthogonalised together.

Why not `torch.optim.Muon`: it iterates in bfloat16, which a CPU without instructions for it emulates, and takes one
matrix at a time. The time of its step in times of ours, PyTorch 2.15, one thread of an Intel Xeon with AMX, oneDNN also
held to fewer instructions (ONEDNN_MAX_CPU_ISA):

    four matrices of     AMX         AVX-512 with bf16   AVX-512   AVX2
    256 x 256            0.33        1.3                 3.7       20 or more
    64 x 64              4           4                   5         12 or more

Of these, PyTorch's is the faster one, by three, for the large matrices with AMX only.

Symbols: B matrices of m x n, mu momentum.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.training.plain import PlainOptimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose slope at 0 is steep, so that five iterations raise small singular values to 0.7 to 1.2."""


class Muon(PlainOptimizer):
    """The optimiser for matrices.

    Args:
        params: Matrices, or groups of them.
        lr: Learning rate, as Adam's.
        weight_decay: Decoupled weight decay.
        momentum: mu.
        iterations: Of Newton and Schulz.

    Raises:
        ValueError: If a parameter is not a matrix.

    Example:
        >>> weight = torch.nn.Parameter(torch.zeros(8, 8))
        >>> (weight * torch.diag(torch.arange(1.0, 9.0))).sum().backward()
        >>> Muon([weight], lr=0.1).step()
        >>> bool((weight.diagonal() < -0.03).all())  # 0.2 lr sqrt(8) = 0.057, however small the gradient
        True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        iterations: int = 5,
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "iterations": iterations}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"expected matrices, got a parameter of shape {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Update the matrices from their gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, mu = group["lr"], group["momentum"]
            shapes: dict[Any, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    shapes.setdefault((p.shape, p.dtype, p.device), []).append(p)
            for (shape, *_), members in shapes.items():
                momenta = []
                for p in members:
                    if "momentum_buffer" not in self.state[p]:
                        self.state[p]["momentum_buffer"] = torch.zeros_like(p)
                    momenta.append(self.state[p]["momentum_buffer"])
                gradients = [p.grad for p in members if p.grad is not None]
                torch._foreach_lerp_(momenta, gradients, 1 - mu)
                updates = orthogonalise(torch.stack(torch._foreach_lerp(gradients, momenta, mu)), group["iterations"])
                torch._foreach_mul_(members, 1 - lr * group["weight_decay"])
                torch._foreach_add_(members, list(updates.unbind()), alpha=-0.2 * lr * max(shape) ** 0.5)
        return loss


def orthogonalise(matrices: Float[Tensor, "B m n"], iterations: int = 5) -> Float[Tensor, "B m n"]:
    """Each matrix U S V^T as near to U V^T as a few iterations of Newton and Schulz bring it (Jordan et al. 2024).

    Example:
        >>> matrices = torch.randn(3, 16, 8, generator=torch.Generator().manual_seed(0))
        >>> values = torch.linalg.svdvals(orthogonalise(matrices))
        >>> bool(values.min() > 0.5), bool(values.max() < 1.5)
        (True, True)
    """
    a, b, c = COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.flatten(1).norm(dim=1).clamp_min(1e-7)[:, None, None]
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
