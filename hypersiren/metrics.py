"""Measures of a reconstruction. Images hold values in [0, 1]."""

from jaxtyping import Float
from torch import Tensor


def image_mse(prediction: Float[Tensor, "B *shape"], truth: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """Mean squared error of each image on [0, 1], the prediction clipped to that range first (paper, section 4.4).

    Example:
        >>> import torch
        >>> image_mse(torch.tensor([[1.5, 0.5]]), torch.tensor([[1.0, 0.0]])).tolist()
        [0.125]
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"expected a prediction of shape {tuple(truth.shape)}, got {tuple(prediction.shape)}")
    return (prediction.clamp(0, 1) - truth).square().flatten(1).mean(dim=1)
