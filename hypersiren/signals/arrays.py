"""Arrays that a user hands over, as tensors, and the checks of their values: for pictures, sounds and videos alike."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypersiren import values as values_module
from hypersiren.signals.files import SignalError


def to_tensor(array: Any, expected: str) -> Tensor:
    """A tensor as it is, or a NumPy array of bools, integers or floats copied to one, whatever its strides and bytes.

    Args:
        array: What came.
        expected: What may come, for the error.

    Raises:
        SignalError: If it is anything else, also an array of complex numbers or objects, or a masked one.

    Example:
        >>> to_tensor(np.array([[1, 2]], ">u2")[:, ::-1], "an array").tolist()
        [[2, 1]]
        >>> to_tensor([1, 2], "an array")
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected an array, got a list
    """
    if isinstance(array, Tensor):
        if array.layout == torch.strided and not array.is_complex() and not array.is_quantized:
            return array.detach() if array.requires_grad else array
        raise SignalError(f"expected {expected}, got a tensor of {dtype_name(array)}, {array.layout}")
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise SignalError(f"expected {expected}, got a {type(array).__name__}")
    if array.dtype.kind not in "biuf":
        raise SignalError(f"expected {expected}, got an array of {array.dtype}")
    native = np.dtype(np.float64) if array.dtype == np.longdouble else array.dtype.newbyteorder("=")
    return torch.from_numpy(array.astype(native, order="C"))


def check_values(values: Tensor, low: float, high: float, mend: str) -> tuple[float, float]:
    """The least and the largest of values that shall lie in [low, high]; see `hypersiren.values.check_values`.

    Raises:
        SignalError: If a value is NaN or infinite, with their count, or lies outside.

    Example:
        >>> check_values(torch.tensor([0.0, 2.0]), 0, 1, "divide by 2")
        Traceback (most recent call last):
        hypersiren.signals.files.SignalError: expected values in [0, 1], got 0 to 2: divide by 2
    """
    return values_module.check_values(values, low, high, mend, SignalError)


def dtype_name(values: Tensor) -> str:
    """A tensor's type as NumPy calls it too: uint8, float32 ..."""
    return str(values.dtype).removeprefix("torch.")


def find_range(values: Tensor, given: tuple[float, float] | None) -> tuple[float, float]:
    """As `hypersiren.values.find_range`.

    Raises:
        SignalError: As it says.

    Example:
        >>> find_range(torch.zeros(1), None), find_range(torch.zeros(1), (0, 5))
        ((-1, 1), (0, 5))
    """
    return values_module.find_range(values, given, SignalError)
