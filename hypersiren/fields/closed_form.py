"""The linear last layer of a SIREN solved for the gradient that it shall have (variable projection).

The gradient of a SIREN is linear in its last weights, dy/dx = W dphi/dx with the features phi(x). The best W is that of
a least-squares problem, whatever the hidden layers are (Golub and Pereyra 1973).

Symbols: N points, D coordinate dimensions, C channels, F features.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hypersiren.fields.jets import jet
from hypersiren.fields.siren import Siren

RIDGE = 1e-8
"""Of the least squares, relative to the mean square of a feature's derivative."""


@torch.no_grad()
def solve_last_layer(siren: Siren, x: Float[Tensor, "N D"], gradient: Float[Tensor, "N C D"]) -> None:
    """Set the last weights so that the gradient at x is nearest to the one given; the bias stays as it is.

    Args:
        siren: Its last weights are set.
        x: Points.
        gradient: What the gradient shall be there.

    Example:
        >>> siren = Siren(1, 1, 64, 1, first_omega=10.0)
        >>> x = torch.linspace(-1, 1, 200)[:, None]
        >>> solve_last_layer(siren, x, 3 * torch.cos(3 * x)[:, :, None])
        >>> bool((siren.jet(x).gradient[:, 0] - 3 * torch.cos(3 * x)).abs().max() < 0.01)
        True
    """
    *hidden, (weight, _) = siren.scaled_weights()
    identity = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
    features = jet(x, [*hidden, (identity, torch.zeros_like(identity[0]))]).gradient
    assert features is not None
    work = torch.float32 if x.device.type == "mps" else torch.float64
    rows, target = (values.movedim(-1, 0).flatten(0, 1).to(work) for values in (features, gradient))
    gram = rows.mT @ rows
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    last, _ = siren.last().values()
    last.copy_(torch.linalg.solve_ex(gram, rows.mT @ target).result.mT)  # does not wait for the device
