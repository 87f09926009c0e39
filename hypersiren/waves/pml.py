"""The perfectly matched layer: Helmholtz's equation in a square, as if the plane went on for ever (paper, section 4.3).

In a layer along the border coordinates become complex, and waves that enter it die without coming back. With k the
wavenumber, m the squared slowness, f the source and x = (x_0, x_1),

    d_0(A d_0 u) + d_1(B d_1 u) + C k² m u = -f
    A = e_1 / e_0    B = e_0 / e_1    C = e_0 e_1    e_d = 1 - i s_d    s_d = a0 (depth in the layer / its width)²

The authors write e_d = 1 - i s_d / k with s_d = a0 k (...)², which is the same. e_d depends on x_d alone, so

    d_0(A d_0 u) = A d_00 u + A' d_0 u    A' = d_0 A = -e_1 e_0' / e_0²    e_0' = -i s_0'

and likewise for B: all that is needed of u is its gradient and its Hessian's diagonal. Outside the layer A = B = C = 1.
The signs make waves go out as exp(-i k r), those of the Hankel function of the second kind.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.waves.complex_channels import multiply, pair


@dataclass(frozen=True)
class PMLCoefficients:
    """The equation's coefficients at N points, complex numbers as pairs."""

    a: Float[Tensor, "*batch N 2"]
    da: Float[Tensor, "*batch N 2"]  # d_0 A
    b: Float[Tensor, "*batch N 2"]
    db: Float[Tensor, "*batch N 2"]  # d_1 B
    c: Float[Tensor, "*batch N 2"]


@dataclass(frozen=True)
class PML:
    """A layer inside the border of [-1, 1]².

    Attributes:
        width: Of the layer (authors' code: 0.5, so that the open square is |x| < 0.5).
        strength: a0 (authors' code: 5).
    """

    width: float = 0.5
    strength: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.width < 1 or not self.strength >= 0:
            raise ValueError(f"expected 0 < width < 1 and strength >= 0, got {self.width} and {self.strength}")

    def absorption(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """s at one coordinate; 0 outside the layer.

        Example:
            >>> PML().absorption(torch.tensor([0.5, 0.75, -1.0])).tolist()
            [0.0, 1.25, 5.0]
        """
        return self.strength * (self._depth(x) / self.width).square()

    def coefficients(self, x: Float[Tensor, "*batch N 2"]) -> PMLCoefficients:
        """A, B, C and the derivatives of A and B, in closed form."""
        s = self.absorption(x)
        ds = 2 * self.strength / self.width**2 * self._depth(x) * x.sign()
        one = torch.ones_like(s)
        # Both axes at once: (..., N, 2 axes, 2).
        e, inverse = pair(one, -s), pair(one, s) / (1 + s.square()).unsqueeze(-1)
        ratio = multiply(e.flip(-2), inverse)
        slope = multiply(multiply(ratio, inverse), pair(torch.zeros_like(s), ds))
        (a, b), (da, db) = ratio.unbind(-2), slope.unbind(-2)
        return PMLCoefficients(a, da, b, db, multiply(e[..., 0, :], e[..., 1, :]))

    def _depth(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return (x.abs() - (1 - self.width)).clamp(min=0)
