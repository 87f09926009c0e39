"""Random numbers of a training, without touching the caller's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Initial weights drawn inside come from this seed; the caller's random state is as before afterwards.

    Example:
        >>> before = torch.get_rng_state()
        >>> with seeded(3):
        ...     first = torch.rand(2)
        >>> with seeded(3):
        ...     second = torch.rand(2)
        >>> torch.equal(first, second), torch.equal(before, torch.get_rng_state())
        (True, True)
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """The seed of all that is random in one part (accumulated batch) of one step."""
    return (seed * 1_000_003 + step) * 1_009 + part
