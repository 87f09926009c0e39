"""Complex numbers as two real channels: z = a + i b is the pair (a, b).

Said here once for the Helmholtz equation and the inversion (paper, section 4.3). Networks, jets and compiled code know
real tensors only, so S complex wavefields are 2 S channels, (a_1, b_1, a_2, b_2, ...), and complex coefficients are
pairs along a last axis of 2.
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

Pair = Float[Tensor, "*shape 2"]
"""A complex number: real and imaginary part along the last axis."""


def pair(real: Float[Tensor, "*shape"], imaginary: Float[Tensor, "*shape"]) -> Pair:
    """The number with these parts."""
    return torch.stack([real, imaginary], dim=-1)


def multiply(z: Float[Tensor, "*shape 2"], w: Float[Tensor, "*shape2 2"]) -> Float[Tensor, "*out 2"]:
    """z w, of shapes that broadcast.

    Example:
        >>> multiply(torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0])).tolist()
        [5.0, 5.0]
    """
    (a, b), (c, d) = z.unbind(-1), w.unbind(-1)
    return pair(a * c - b * d, a * d + b * c)


def to_channels(z: Complex[Tensor, "*batch N S"]) -> Float[Tensor, "*batch N 2*S"]:
    """S complex values at every point as 2 S channels.

    Example:
        >>> to_channels(torch.tensor([[1 + 2j, 3 + 4j]])).tolist()
        [[1.0, 2.0, 3.0, 4.0]]
    """
    return torch.view_as_real(z).flatten(-2)


def to_complex(y: Float[Tensor, "*batch N channels"]) -> Complex[Tensor, "*batch N S"]:
    """2 S channels as S complex values at every point.

    Example:
        >>> to_complex(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist()
        [[(1+2j), (3+4j)]]
    """
    return torch.view_as_complex(y.unflatten(-1, (-1, 2)).contiguous())
