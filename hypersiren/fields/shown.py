"""How fields and what is computed with them are shown: sizes and shapes, never the numbers of a tensor."""

import dataclasses
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from torch import Tensor


def by_shape(thing: Any) -> str:
    """The `__repr__` of a dataclass that holds tensors: each by its shape; what is None is left out.

    Example:
        >>> import torch
        >>> @dataclasses.dataclass
        ... class Pair:
        ...     x: Tensor
        ...     y: Tensor | None = None
        ...     size: tuple[int, int] | None = None
        ...     __repr__ = by_shape
        >>> Pair(torch.zeros(4, 10, 2), size=(5, 2))
        Pair(x (4, 10, 2), size=(5, 2))
    """
    values = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing) if field.repr}
    parts = [_part(name, value) for name, value in values.items() if value is not None]
    return f"{type(thing).__name__}({', '.join(parts)})"


def _part(name: str, value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{name} {tuple(value.shape)}"
    if isinstance(value, Mapping) and any(isinstance(inner, Tensor) for inner in value.values()):
        return f"{name} of {len(value)} tensors"
    return f"{name}={value!r}"


def widths(sizes: Iterable[int]) -> str:
    """Widths of the layers of a network, equal ones that follow each other once.

    Example:
        >>> widths([256, 256, 256, 256]), widths([32, 128])
        ('256 x 4', '32 -> 128')
    """
    runs = [(size, len(list(group))) for size, group in groupby(sizes)]
    return " -> ".join(f"{size} x {count}" if count > 1 else str(size) for size, count in runs)
