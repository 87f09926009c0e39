"""Random numbers of a training, without touching the caller's, nor those of another thread."""

from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

OF_TENSORS = (torch.rand, torch.randn, torch.randint, torch.randperm, Tensor.uniform_, Tensor.normal_, Tensor.random_)
OF_LAYERS = (init.uniform_, init.normal_, init.kaiming_uniform_)  # a mode does not see what these call
DRAWS = frozenset([*OF_TENSORS, *OF_LAYERS])
"""What draws from PyTorch's global generator, unless it is given one."""


class seeded(TorchFunctionMode):
    """Initial weights drawn inside, on the CPU, come from this seed, by a generator of their own.

    PyTorch's layers draw from its global generator, which all threads share. A mode, as `torch.device` is one, holds in
    the thread that has entered it.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(3):
        ...     first = torch.rand(2)
        >>> with seeded(3):
        ...     second = torch.rand(2)
        >>> torch.equal(first, second), torch.equal(before, torch.get_rng_state())
        (True, True)
    """

    def __init__(self, seed: int):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in DRAWS and kwargs.get("generator") is None and self._draws(args, kwargs):
            kwargs = {**kwargs, "generator": self.generator}
        return func(*args, **kwargs)

    @staticmethod
    def _draws(args: Any, kwargs: Any) -> bool:
        """Whether numbers are drawn: not on the device "meta", whose tensors have none."""
        tensor = next((each for each in [*args, *kwargs.values()] if isinstance(each, Tensor)), None)
        place = kwargs.get("device") or torch.get_default_device()
        return (tensor.device if tensor is not None else torch.device(place)).type != "meta"


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """The seed of all that is random in one part (accumulated batch) of one step."""
    return (seed * 1_000_003 + step) * 1_009 + part


def host_generator(generator: torch.Generator) -> torch.Generator:
    """A generator of the processor for numbers that the host must know: of a device's, one from the state it is in.

    What a device draws would have to be waited for.

    Example:
        >>> host_generator(torch.Generator()).device
        device(type='cpu')
    """
    if generator.device.type == "cpu":
        return generator
    return torch.Generator().manual_seed(crc32(generator.get_state().numpy().tobytes()))
