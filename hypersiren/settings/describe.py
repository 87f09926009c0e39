"""Settings described for help, and compared. Imports no torch."""

import json
import textwrap
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from hypersiren.settings.section import Section, _models

MISSING = "nothing"
"""Stands for the value of a key that is not there."""


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ between two nested mappings.

    Example:
        >>> differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        {'a.c': (2, 3)}
    """
    found: dict[str, tuple[Any, Any]] = {}
    for key in [*a, *(k for k in b if k not in a)]:
        x, y = a.get(key), b.get(key)
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found |= {f"{key}.{inner}": pair for inner, pair in differing_keys(x, y).items()}
        elif x != y:
            found[key] = (a.get(key, MISSING), b.get(key, MISSING))
    return found


def describe_settings(root: type[Section]) -> str:
    """One line for each key: flag, default, choices and meaning; the text of `hypersiren settings`."""
    lines: list[str] = []
    for name, field in root.model_fields.items():
        models = _models(field)
        if not models:
            lines.append(_describe(name, field, field.default))
        for model in models:
            doc = (model.__doc__ or "").strip()
            kind = model.model_fields.get("kind")
            tag = f" ({name}.kind: {kind.default})" if kind and len(models) > 1 else ""
            lines += ["", f"{name}{tag}: {' '.join(doc.split())}"]
            defaults = field.default if isinstance(field.default, model) else model()
            lines += [
                _describe(f"{name}.{key}", inner, getattr(defaults, key))
                for key, inner in model.model_fields.items()
                if key != "kind" or len(models) == 1
            ]
    return "\n".join(lines)


def _describe(key: str, field: FieldInfo, value: Any) -> str:
    default = value if isinstance(value, str) else json.dumps(value, default=str)
    kinds = [field.annotation, *get_args(field.annotation)]  # itself, or beside null
    words = next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
    choices = " | ".join(map(str, words)) + ". " if words else ""
    text = f"--{key} [{default}]  {choices}{' '.join((field.description or '').split())}"
    return textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
