"""How exactly a device computes: whether a GPU rounds what it convolves, and where bfloat16 is worth its rounding.

PyTorch lets cuDNN round the factors of convolutions to 10 bits, which is 1e-3 off a CPU's result.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

CUDNN = torch.backends.cudnn


def has_bfloat16(device: str) -> bool:
    """Whether a device of this type multiplies matrices in bfloat16 by its own instructions.

    Of processors those with AVX-512 do, and ARM's with BF16. Others emulate it, some 20 times as slowly as float32.
    """
    asked = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return device != "cpu" or asked is None or bool(asked())


def bfloat16(device: str, wanted: bool) -> torch.autocast:
    """Within it matrices are multiplied in bfloat16, if that is wanted and the device has it: see `has_bfloat16`.

    Example:
        >>> with bfloat16("cpu", wanted=False):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    return torch.autocast(device, torch.bfloat16, enabled=wanted and has_bfloat16(device))


class _Flags(NamedTuple):
    """PyTorch's flags of cuDNN: an older one for all, None where the others contradict it, and two that are finer.

    What asks for the older one, such as `torch.export`, fails while they differ.
    """

    all: bool | None
    convolutions: str
    recurrent: str


_LOCK = threading.Lock()
_ASKED: dict[object, _Flags] = {}
"""What somebody is within, the newest last; the first are the flags of the process before them."""


@contextmanager
def convolutions(tf32: bool) -> Iterator[None]:
    """Within it, and not beyond, convolutions on a GPU are in TF32 (10 bits, fast) or in float32.

    It is a flag of the process: other threads that convolve meanwhile have it too, and it is back when the last of them
    leaves. The backward pass obeys the flag of its own time, not that of the forward pass.

    Example:
        >>> with convolutions(tf32=False):
        ...     torch.backends.cudnn.conv.fp32_precision
        'ieee'
    """
    own = object()
    with _LOCK:
        if not _ASKED:
            _ASKED[None] = _read()
        _ASKED[own] = _Flags(tf32, *("tf32" if tf32 else "ieee",) * 2)
        _set(_ASKED[own])
    try:
        yield
    finally:
        with _LOCK:
            del _ASKED[own]
            _set(next(reversed(_ASKED.values())))
            if len(_ASKED) == 1:
                _ASKED.clear()


def _read() -> _Flags:
    try:
        older = CUDNN.allow_tf32
    except RuntimeError:
        older = None
    return _Flags(older, CUDNN.conv.fp32_precision, CUDNN.rnn.fp32_precision)  # type: ignore[attr-defined]


def _set(flags: _Flags) -> None:
    if flags.all is not None:
        CUDNN.allow_tf32 = flags.all  # sets the finer ones, too
    CUDNN.conv.fp32_precision = flags.convolutions  # type: ignore[attr-defined]
    CUDNN.rnn.fp32_precision = flags.recurrent  # type: ignore[attr-defined]
