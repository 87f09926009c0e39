"""Derivatives of a field by its coordinates, for any field x -> y that treats every point by itself.

A field that has a `jet` (a Siren, or one bound to predicted weights) gives them in closed form; any other field is
differentiated by autograd, one pass per channel. Either way the results can be trained on, and are also right inside
`torch.no_grad()`. The gradient of a field with C channels is its Jacobian, so there is no operator for that.

Symbols: N points, D coordinate dimensions, C channels.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.jets import Jet

Field = Callable[[Tensor], Tensor]


def gradient(field: Field, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*out N C D"]:
    """dy_c / dx_d.

    Example:
        >>> gradient(lambda x: x.square(), torch.tensor([[1.0, 3.0]])).tolist()
        [[[2.0, 0.0], [0.0, 6.0]]]
    """
    return value_and_gradient(field, x)[1]


def value_and_gradient(
    field: Field, x: Float[Tensor, "*batch N D"]
) -> tuple[Float[Tensor, "*out N C"], Float[Tensor, "*out N C D"]]:
    """y_c and dy_c / dx_d, for little more than the gradient alone.

    Example:
        >>> [found.tolist() for found in value_and_gradient(lambda x: x.square(), torch.tensor([[3.0]]))]
        [[[9.0]], [[[6.0]]]]
    """
    if (jet := getattr(field, "jet", None)) is not None:
        found = jet(x)
        return found.value, found.gradient
    trained = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        y = field(x)
        if y.shape[:-1] != x.shape[:-1]:  # one set of points for several signals: each signal needs its own gradient
            x = x.expand(*y.shape[:-1], -1)
            y = field(x)
        # Each point is treated by itself, so that the sum over points gives the gradient at each.
        channels = y.unbind(-1) if y.requires_grad else ()
        rows = [
            torch.autograd.grad(c.sum(), x, create_graph=trained, retain_graph=True, materialize_grads=True)[0]
            for c in channels
        ]
        found = torch.stack(rows, dim=-2) if rows else x.new_zeros(*y.shape, x.shape[-1])
    return (y, found) if trained else (y.detach(), found)


def divergence(vector_field: Field, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*out N 1"]:
    """The sum over d of dy_d / dx_d, as a field with one channel.

    Raises:
        ValueError: If the field has not as many channels as there are coordinates.

    Example:
        >>> divergence(lambda x: x.square(), torch.tensor([[1.0, 3.0]])).tolist()
        [[8.0]]
    """
    jacobian = gradient(vector_field, x)
    if jacobian.shape[-2] != x.shape[-1]:
        raise ValueError(f"expected a vector field of {x.shape[-1]} channels, got {jacobian.shape[-2]}")
    return jacobian.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True)


def laplacian(field: Field, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*out N C"]:
    """The sum over d of d²y_c / dx_d².

    Example:
        >>> laplacian(lambda x: x.square().sum(-1, keepdim=True), torch.tensor([[1.0, 3.0]])).tolist()
        [[4.0]]
    """
    if (jet := getattr(field, "jet", None)) is not None:
        return jet(x, first=False, second="laplacian").laplacian
    return hessian(field, x).diagonal(dim1=-2, dim2=-1).sum(-1)


def gradient_and_laplacian(
    field: Field, x: Float[Tensor, "*batch N D"]
) -> tuple[Float[Tensor, "*out N C D"], Float[Tensor, "*out N C"]]:
    """dy_c / dx_d, and the sum over d of d²y_c / dx_d²: of a field with a jet in one pass.

    Example:
        >>> [found.tolist() for found in gradient_and_laplacian(lambda x: x.square(), torch.tensor([[3.0]]))]
        [[[[6.0]]], [[2.0]]]
    """
    if (jet := getattr(field, "jet", None)) is not None:
        found = jet(x, second="laplacian")
        return found.gradient, found.laplacian
    return gradient(field, x), laplacian(field, x)


def diagonal_jet(field: Field, x: Float[Tensor, "*batch N D"]) -> Jet:
    """Values with gradient and Hessian's diagonal, all that wave equations ask for.

    Example:
        >>> diagonal_jet(lambda x: x.prod(-1, keepdim=True) ** 2, torch.tensor([[1.0, 3.0]])).hessian_diagonal.tolist()
        [[[18.0, 2.0]]]
    """
    if (jet := getattr(field, "jet", None)) is not None:
        return jet(x, second="diagonal")

    def along(direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The value and its first two derivatives in one direction, forward over forward: all channels at once."""

        def first(x: Tensor) -> Any:
            return torch.func.jvp(field, (x,), (direction.expand_as(x),))

        found: Any = torch.func.jvp(first, (x,), (direction.expand_as(x),))
        (value, derivative), (_, curvature) = found
        return value, derivative, curvature

    axes = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    values, first, second = zip(*[along(axis) for axis in axes], strict=True)
    return Jet(values[0], torch.stack(first, dim=-1), hessian_diagonal=torch.stack(second, dim=-1))


def hessian(field: Field, x: Float[Tensor, "*batch N D"]) -> Float[Tensor, "*out N C D D"]:
    """d²y_c / dx_d dx_e.

    Example:
        >>> hessian(lambda x: x.prod(-1, keepdim=True), torch.tensor([[1.0, 3.0]])).tolist()
        [[[[0.0, 1.0], [1.0, 0.0]]]]
    """
    if (jet := getattr(field, "jet", None)) is not None:
        return jet(x, first=False, second="full").hessian
    # The gradient as a field of C D channels, differentiated once more.
    second = gradient(lambda x: gradient(field, x).flatten(-2), x)
    return second.unflatten(-2, (-1, x.shape[-1]))


Prior = Literal["none", "tv", "hessian"]


def prior_energy(field: Any, x: Float[Tensor, "*batch N D"], prior: Literal["tv", "hessian"]) -> Float[Tensor, "*out"]:
    """The mean over points and channels of the gradient's norm, or of the Hessian's; one number for each signal."""
    if prior == "tv":
        return gradient(field, x).norm(dim=-1).mean((-1, -2))
    return hessian(field, x).flatten(-2).norm(dim=-1).mean((-1, -2))
