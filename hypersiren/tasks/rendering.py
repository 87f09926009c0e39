"""What a task computes of a field for a person, kept as long as the field's weights stay."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hypersiren.errors import UserError
from hypersiren.fields.savable import describe

T = TypeVar("T")


class Renderings:
    """Results of functions of one field, until a field of another make or with other weights comes.

    A field is known by its description (see `hypersiren.savable`), so that the average of a training and the model that
    is loaded from its checkpoint are one; a field without description is known by itself. Functions that are no modules
    have no weights to compare: of them nothing is kept.

    Example:
        >>> kept, field = Renderings(), nn.Linear(2, 3)
        >>> first = kept.once(field, nn.Module.state_dict)
        >>> kept.once(field, nn.Module.state_dict) is first
        True
        >>> _ = nn.init.zeros_(field.bias)
        >>> kept.once(field, nn.Module.state_dict) is first
        False
    """

    def __init__(self) -> None:
        self._make: Any = None
        self._weights: dict[str, Tensor] = {}
        self._results: dict[str, Any] = {}

    def once(self, field: Any, compute: Callable[[Any], T]) -> T:
        """`compute(field)`, or what it gave of the same field before. Functions are told apart by their names."""
        if not isinstance(field, nn.Module):
            return compute(field)
        if not self._is(field):
            self._make, self._results = _make(field), {}
            self._weights = {name: value.detach().clone() for name, value in field.state_dict().items()}
        if compute.__name__ not in self._results:
            self._results[compute.__name__] = compute(field)
        return self._results[compute.__name__]

    def _is(self, field: nn.Module) -> bool:
        made, weights = _make(field), field.state_dict()
        same = made == self._make if isinstance(made, dict) else made is self._make
        return same and all(
            name in self._weights and _equal(value, self._weights[name]) for name, value in weights.items()
        )


def _make(field: nn.Module) -> Any:
    try:
        return describe(field)
    except UserError:
        return field


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
