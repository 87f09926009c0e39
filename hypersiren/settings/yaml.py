"""Settings as YAML: written as plain values, read strictly. Imports no torch."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order; `from_yaml` reads the same values."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """Quotes also what only YAML 1.2 reads as a number."""

    def represent_text(self, text: str) -> Any:
        number = any(re.fullmatch(pattern, text) for pattern in NUMBERS)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'" if number else None)


MOST_TEXT, MOST_VALUES, MOST_DEPTH, MOST_DIGITS = 100_000, 10_000, 20, 100
"""Limits of a YAML text: characters, values (aliases counted as what they stand for), nesting, length of a number."""

WORDS = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE"], True),
    **dict.fromkeys(["false", "False", "FALSE"], False),
}
"""YAML 1.2's words that are no strings. Not among them: yes, no, on, off."""

NUMBERS: dict[str, Callable[[str], int | float]] = {
    r"[-+]?[0-9]+": int,
    r"0o[0-7]+": lambda text: int(text[2:], 8),
    r"0x[0-9a-fA-F]+": lambda text: int(text[2:], 16),
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?": float,
    r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)": lambda text: float(text.replace(".", "")),
}
"""YAML 1.2's numbers: 010 is ten and 1e-3 a number; 1_000 and 12:30 are strings."""


def from_yaml(text: str) -> Any:
    """Plain values of YAML 1.2 (its core schema), keys as strings. Nothing twice, no tags, nothing endless.

    Raises:
        ValueError: With one line that says what is wrong and where.

    Example:
        >>> from_yaml("{a: 1e-3, b: 010, c: off, d: [12:30:45, 0x1F, ~]}")
        {'a': 0.001, 'b': 10, 'c': 'off', 'd': ['12:30:45', 31, None]}
        >>> from_yaml("{a: 1, a: 2}")
        Traceback (most recent call last):
        ...
        ValueError: the key "a" is given twice, line 1
    """
    if len(text) > MOST_TEXT:
        raise ValueError(f"expected at most {MOST_TEXT:,} characters, got more")
    try:
        node = _Loader(text).get_single_node()
        return None if node is None else _values(node, [MOST_VALUES])
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ValueError(" ".join(str(error.problem).split()) + where) from None
    except (yaml.YAMLError, ArithmeticError, LookupError) as error:  # its reader; chr() of what is no character
        raise ValueError(" ".join(str(error).split())) from None


class _Loader(yaml.BaseLoader):
    """Composes the nodes of a text. PyYAML does this the same for YAML 1.1 and 1.2; what they mean is said below."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if tag := getattr(event, "tag", None):
            raise _error(event, f"expected no tags, got {tag}")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _error(event, f"nested more than {MOST_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _values(node: Any, left: list[int], depth: int = 0) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > MOST_DEPTH:  # by aliases, which may hold themselves
        raise _error(node, f"expected at most {MOST_VALUES:,} values, {MOST_DEPTH} deep")
    if isinstance(node, yaml.ScalarNode):
        try:
            return _plain(node.value) if node.style is None else node.value
        except ValueError as error:
            raise _error(node, str(error)) from None
    if isinstance(node, yaml.SequenceNode):
        return [_values(inner, left, depth + 1) for inner in node.value]
    found: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error(key, "expected a word as a key")
        if key.value in found:
            raise _error(key, f'the key "{key.value}" is given twice')
        found[key.value] = _values(value, left, depth + 1)
    return found


def _plain(text: str) -> Any:
    """What a plain scalar stands for."""
    if text in WORDS:
        return WORDS[text]
    for pattern, make in NUMBERS.items():
        if re.fullmatch(pattern, text):
            if len(text) > MOST_DIGITS:
                raise ValueError(f"expected at most {MOST_DIGITS} digits, got {len(text):,}")
            number = make(text)
            if isinstance(number, int) and number.bit_length() > 63:
                raise ValueError(f"expected an integer of at most 64 bits, got {text}")
            return number
    return text


def _error(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
