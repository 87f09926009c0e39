"""How exactly a GPU convolves. PyTorch lets cuDNN round the factors to 10 bits, which is 1e-3 off a CPU's result."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def convolutions(tf32: bool) -> Iterator[None]:
    """Within it, and not beyond, convolutions on a GPU are in TF32 (10 bits, fast) or in float32.

    It is a flag of the process: other threads that convolve meanwhile have it too. The backward pass obeys the flag of
    its own time, not that of the forward pass.

    Example:
        >>> with convolutions(tf32=False):
        ...     torch.backends.cudnn.conv.fp32_precision
        'ieee'
    """
    flags: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = flags.fp32_precision
    flags.fp32_precision = "tf32" if tf32 else "ieee"
    try:
        yield
    finally:
        flags.fp32_precision = before
