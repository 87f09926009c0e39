"""Modules that know how they were made: the description from which `save` and `load` build them again.

`@savable` keeps the arguments of a module's constructor as plain values, also for classes from outside the package. A
description names a class, and only classes that are already imported are built: a file cannot run code.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from hypersiren.errors import UserError, did_you_mean

C = TypeVar("C", bound=type)

_CLASSES: dict[str, type] = {}


def savable(cls: C) -> C:
    """Class decorator: its instances get a `description`, and `save` and `load` can handle them.

    Arguments of the constructor may be numbers, strings, sequences, mappings and other savable objects. One named
    `generator` is left out: it fixes initial weights, and the weights are saved. An argument that the constructor does
    not have is a TypeError that names the nearest one.

    Example:
        >>> from torch import nn
        >>> @savable
        ... class Mean(nn.Module):
        ...     def __init__(self, features: int = 8, scale: float = 1.0):
        ...         super().__init__()
        ...         self.linear = nn.Linear(features, features)
        >>> Mean(4).description["arguments"]
        {'features': 4}
        >>> rebuild(Mean(4).description).linear
        Linear(in_features=4, out_features=4, bias=True)
        >>> Mean(feature=4)
        Traceback (most recent call last):
        ...
        TypeError: Mean: unknown argument "feature"; did you mean "features"?
    """
    original: Any = cls.__init__  # type: ignore[misc]
    signature = inspect.signature(original)
    known = list(signature.parameters)[1:]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if not takes_any and (unknown := [name for name in kwargs if name not in known]):
            hint = did_you_mean(unknown[0], known, f"; expected {', '.join(known)}")
            raise TypeError(f'{cls.__name__}: unknown argument "{unknown[0]}"{hint}')
        original(self, *args, **kwargs)
        if type(self) is cls:
            given = dict(list(signature.bind(self, *args, **kwargs).arguments.items())[1:])
            given.pop("generator", None)
            description = {"class": _name(cls), "arguments": {name: _plain(v) for name, v in given.items()}}
            object.__setattr__(self, "description", description)  # also where a dataclass is frozen

    cls.__init__ = __init__  # type: ignore[misc]
    _CLASSES[_name(cls)] = cls
    return cls


def describe(module: Any) -> dict[str, Any]:
    """The description of a savable module, checked.

    Raises:
        UserError: If it, or an argument of its constructor, is not savable.

    Example:
        >>> import torch
        >>> describe(torch.nn.Linear(2, 3))
        Traceback (most recent call last):
        ...
        hypersiren.errors.UserError: Linear cannot be saved: decorate its class with @hypersiren.savable
    """
    description = getattr(module, "description", None)
    if description is None:
        raise UserError(f"{type(module).__name__} cannot be saved: decorate its class with @hypersiren.savable")
    if unknown := list(_unknown(description)):
        raise UserError(
            f"{type(module).__name__} cannot be saved: its constructor was given a {unknown[0]}; "
            "decorate that class with @hypersiren.savable"
        )
    return description


def rebuild(description: Mapping[str, Any]) -> Any:
    """The object that a description describes, with initial weights.

    Raises:
        UserError: If its class is not known here.
    """
    name = description["class"]
    if name not in _CLASSES:
        raise UserError(f'no class "{name}" is known here; import the module that defines it before loading')
    return _CLASSES[name](**{key: _value(v) for key, v in description["arguments"].items()})


def _name(cls: type) -> str:
    """The class's own name if it is ours, with its module if it is not."""
    ours = cls.__module__.partition(".")[0] == "hypersiren"
    return cls.__qualname__ if ours else f"{cls.__module__}:{cls.__qualname__}"


def _plain(value: Any) -> Any:
    if hasattr(value, "description"):
        return value.description
    if isinstance(value, np.bool_ | np.number):
        value = value.item()  # a checkpoint may hold no objects of NumPy
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, Sequence):
        return [_plain(v) for v in value]
    return {"unsavable": type(value).__name__}


def _unknown(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        if "unsavable" in plain:
            yield plain["unsavable"]
        plain = list(plain.values())
    if isinstance(plain, list):
        for value in plain:
            yield from _unknown(value)


def _value(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        if plain.keys() == {"class", "arguments"}:
            return rebuild(plain)
        return {key: _value(v) for key, v in plain.items()}
    return tuple(_value(v) for v in plain) if isinstance(plain, list) else plain
