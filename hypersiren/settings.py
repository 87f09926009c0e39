"""Settings: what a section is, and how settings are read from YAML and flags, checked, compared and written.

A key that does not exist or a value that does not fit is a `ConfigError` of one line that says what was expected, what
came and what may have been meant. A path is taken as it is typed. The sections themselves stand beside the code that
takes them. Imports no torch.
"""

import difflib
import json
import os
import re
import textwrap
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from pydantic.fields import FieldInfo

from hypersiren.errors import UserError, clear_line

S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """Settings that belong together: frozen, every key known and checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    def replace(self: S, **changes: Any) -> S:
        """The same with some settings changed.

        Raises:
            ConfigError: If a setting does not exist or a value does not fit.

        Example:
            >>> class Training(Section):
            ...     steps: int = 100
            >>> Training().replace(steps=5).steps
            5
            >>> Training().replace(step=5)
            Traceback (most recent call last):
            ...
            hypersiren.settings.ConfigError: unknown setting "step"; did you mean "steps"?
        """
        fields = type(self).model_fields
        for name in changes:
            if name not in fields:
                known = "" if (near := _near(name, list(fields))) else f"; expected one of {', '.join(fields)}"
                raise ConfigError(f'unknown setting "{name}"{known}{_did_you_mean(near)}')
        changes = {name: _as_meant(type(self), name, value) for name, value in changes.items()}
        try:
            return type(self).model_validate({**{name: getattr(self, name) for name in fields}, **changes})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{where}: {_message(first)}, got {_shown(first['input'])}") from None


Share = Annotated[float, Field(ge=0, lt=1)]

Known = Annotated[float, Field(gt=0, le=1)]

NotNegative = Annotated[float, Field(ge=0)]


OPTIONS = ["config", "out", "preset", "restart", "quiet", "verbose"]
"""Options of the commands that also take settings."""


class ConfigError(UserError):
    """A configuration that cannot be used; the message is one line for a person."""

    def __init__(self, message: str):
        super().__init__(clear_line(message))


def to_path(text: str | Path) -> Path:
    """The file or folder that a person typed: as it is, with ~ as the home folder.

    Raises:
        ValueError: If it is empty, or a URL.

    Example:
        >>> to_path("photo #1.png").name
        'photo #1.png'
        >>> to_path("https://example.org/a.png")
        Traceback (most recent call last):
        ...
        ValueError: expected a file on this computer, not a URL (download it first)
    """
    if not str(text):
        raise ValueError("expected the name of a file or folder")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(text)):
        raise ValueError("expected a file on this computer, not a URL (download it first)")
    return Path(os.path.expanduser(text))


def load_settings(root: type[S], path: str | Path | None = None, flags: Sequence[str] = ()) -> S:
    """Settings from a YAML file, if any, overridden by flags.

    Args:
        root: What is configured; the settings of each task stand in `hypersiren.tasks.registry`.
        path: YAML file; None for the defaults.
        flags: Command-line words such as `--training.lr 1e-3`, `--training.lr=1e-3` or `--data.gray` (true). Paths and
            names are taken as typed, other values are read as YAML. A new `kind` drops the file's other keys of that
            section.

    Raises:
        ConfigError: On a file that cannot be read, an unknown key, or a value that does not fit.

    Example:
        >>> class Training(Section):
        ...     lr: float = 1e-3
        >>> class Settings(Section):
        ...     training: Training = Training()
        >>> load_settings(Settings, flags=["--training.lr", "2e-3"]).training.lr
        0.002
        >>> load_settings(Settings, flags=["--trainig.lr", "2e-3"])
        Traceback (most recent call last):
        ...
        hypersiren.settings.ConfigError: --trainig.lr: unknown key "trainig"; did you mean "training"?
    """
    data = _read_yaml(Path(path)) if path is not None else {}
    if path is not None:
        _check_keys(root, data, str(path))
    # What a task's settings say otherwise than its sections' own defaults holds for the keys that are not overridden.
    for name, field in root.model_fields.items():
        if isinstance(field.default, Section) and len(_models(field)) == 1:
            data[name] = {**field.default.model_dump(exclude_unset=True), **data.get(name, {})}
    # The kind of a section with several, made explicit once, decides which other keys there are.
    kinds = {name: field.default.kind for name, field in root.model_fields.items() if len(_models(field)) > 1}
    data |= {name: {"kind": kind, **data.get(name, {})} for name, kind in kinds.items()}
    # The kind first, whatever the order of the flags.
    for key, text in sorted(_split_flags(flags), key=lambda flag: flag[0].removesuffix(".kind") not in kinds):
        key = _full_key(root, key, data)
        nested: Any = _flag_value(root, key, text)
        for name in reversed(key.split(".")):
            nested = {name: nested}
        _check_keys(root, nested, f"--{key}", data)
        _override(data, nested, kinds)
    for name, value in data.items():
        model = _kind(root, name, value if isinstance(value, Mapping) else {}, {})
        if model is None:
            data[name] = _as_meant(root, name, value)
        elif isinstance(value, Mapping):
            data[name] = {key: _as_meant(model, key, inner, f"{name}.{key}") for key, inner in value.items()}
    try:
        return root.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        # Pydantic puts the alternatives of a union into the location; a reader knows no such keys.
        known = {*root.model_fields, *(key for _, key in _all_keys(root))}
        where = ".".join(str(part) for part in first["loc"] if part in known or isinstance(part, int))
        got = "" if isinstance(first["input"], Mapping) else f", got {_shown(first['input'])}"
        raise ConfigError(f"{where}: {_message(first)}{got}") from None


def _as_meant(model: type[Section], key: str, value: Any, where: str = "") -> Any:
    """A path from what is typed; and true is refused as a number, though Python takes it for 1."""
    types = _leaves(model.model_fields[key].annotation) if key in model.model_fields else set()
    try:
        if value is True and types & {int, float} and bool not in types:
            raise ValueError("expected a value")
        if tuple in types and isinstance(value, str):
            return _numbers(value)
        return to_path(value) if Path in types and isinstance(value, str | Path) else value
    except ValueError as error:
        raise ConfigError(f"{where or key}: {error}, got {_shown(value)}") from None


def _numbers(text: str) -> Any:
    """Several numbers as people write them: 64x48 and 64,48 for [64, 48]; other text as it is.

    Example:
        >>> _numbers("64x48"), _numbers("0,0.5"), _numbers("x")
        ([64, 48], [0, 0.5], 'x')
    """
    parts = re.split(r"[x,]", text.replace(" ", ""))
    values = [_plain(part) for part in parts]
    return values if len(values) > 1 and all(isinstance(v, int | float) for v in values) else text


def _shown(value: Any) -> str:
    """A value in a message: its beginning, if it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _message(error: Any) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def chosen_kind(section: str, path: str | Path | None = None, flags: Sequence[str] = ()) -> Any:
    """The `kind` that a section has in a YAML file or in flags, which win; None if neither says.

    Example:
        >>> chosen_kind("data", flags=["--data.kind", "solids"])
        'solids'
    """
    data = _read_yaml(Path(path)) if path is not None else {}
    given = [text for key, text in _split_flags(flags) if key == f"{section}.kind"]
    inner = data.get(section)
    return given[-1] if given else inner.get("kind") if isinstance(inner, dict) else None


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their order; `from_yaml` reads the same values."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """Quotes also what only YAML 1.2 reads as a number."""

    def represent_text(self, text: str) -> Any:
        number = any(re.fullmatch(pattern, text) for pattern in NUMBERS)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'" if number else None)


_Dumper.add_representer(str, _Dumper.represent_text)


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
    choices = " | ".join(map(str, get_args(field.annotation))) + ". " if get_origin(field.annotation) is Literal else ""
    text = f"--{key} [{default}]  {choices}{' '.join((field.description or '').split())}"
    return textwrap.fill(text, 110, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)


def _models(annotation: Any) -> list[type[Section]]:
    """The settings models that a field may hold: none for a plain value, several for a union."""
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    options = get_args(annotation) or (annotation,)
    return [option for option in options if isinstance(option, type) and issubclass(option, Section)]


def _read_yaml(path: Path) -> dict[Any, Any]:
    if path.exists() and not path.is_file() and not path.is_dir():  # it is read twice
        raise ConfigError(f"{path}: a pipe or a device, not a file")
    try:
        with open(path, encoding="utf-8") as file:
            data = from_yaml(file.read(MOST_TEXT + 1))
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1, cutoff=0.4)
        raise ConfigError(f"{path}: no such file" + _did_you_mean(near)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected keys and values, got {type(data).__name__}")
    return data


def _split_flags(flags: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """The key and the text of each flag; None where there is no text."""
    words = list(flags)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise ConfigError(f"unexpected argument {_shown(word)}; settings are given as --key value")
        key, equals, text = word[2:].partition("=")
        if not equals:
            yield key, words.pop(0) if words and not words[0].startswith("--") else None
        else:
            yield key, text


def _full_key(root: type[Section], key: str, data: Mapping[str, Any]) -> str:
    """A setting by its last word alone, where only one section has it: steps for training.steps."""
    if "." in key or key in root.model_fields:
        return key
    full = [f"{section}.{name}" for section, name in _keys_now(root, data) if name == key]
    if len(full) > 1:
        raise ConfigError(f"--{key}: expected one of {' and '.join(f'--{each}' for each in full)}")
    return full[0] if full else key


def _flag_value(root: type[Section], key: str, text: str | None) -> Any:
    models = [root]
    *sections, name = key.split(".")
    for section in sections:
        fields = [model.model_fields[section] for model in models if section in model.model_fields]
        models = [inner for field in fields for inner in _models(field)]
    kinds = [_leaves(model.model_fields[name].annotation) for model in models if name in model.model_fields]
    if text is None:
        if kinds and not any(bool in types for types in kinds):
            raise ConfigError(f"--{key}: expected a value after it")
        return True
    if any(Path in types or types == {str} for types in kinds):
        if len(text) > 4096:  # as long as a path can be
            raise ConfigError(f"--{key}: expected at most 4,096 characters, got {len(text):,}")
        return text
    try:
        return from_yaml(text)
    except ValueError as error:
        raise ConfigError(f"--{key}: cannot read the value {_shown(text)} ({error})") from None


def _leaves(annotation: Any) -> set[Any]:
    """The plain types that a type is made of, and tuple itself; the values of a Literal stand for themselves.

    Example:
        >>> _leaves(tuple[int, int] | None) == {tuple, int, type(None)}
        True
    """
    arguments = get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
    own = {tuple} if get_origin(annotation) is tuple else set()
    return own.union(*map(_leaves, arguments)) if arguments else {annotation}


def _kind(root: type[Section], name: str, section: Mapping[str, Any], known: Mapping[str, Any]) -> type[Section] | None:
    """Which settings model a section of the configuration is."""
    field = root.model_fields[name]
    models = {model.model_fields["kind"].default: model for model in _models(field) if "kind" in model.model_fields}
    if len(models) < 2:
        return next(iter(_models(field)), None)
    kind = str(section.get("kind", known.get("kind", field.default.kind)))
    if kind not in models:
        near = _near(kind, list(models))
        raise ConfigError(f'{name}.kind: expected one of {", ".join(models)}, got "{kind}"{_did_you_mean(near)}')
    return models[kind]


def _check_keys(
    root: type[Section], data: Mapping[Any, Any], where: str, base: Mapping[str, Any] | None = None
) -> None:
    for name, section in data.items():
        if name not in root.model_fields:
            # On the command line a mistyped option looks like a setting too.
            options = OPTIONS if where.startswith("--") else []
            near = _near(str(name), [*root.model_fields, *options])
            last = _near(str(name), [k for _, k in _keys_now(root, base or {})]) if "." not in where else [name]
            near = near or [f"{n}.{k}" for n, k in [*_keys_now(root, base or {}), *_all_keys(root)] if k in last][:1]
            raise ConfigError(f'{where}: unknown key "{name}"' + _did_you_mean(near))
        known, given = (each if isinstance(each, Mapping) else {} for each in ((base or {}).get(name), section))
        model = _kind(root, name, given, known)
        if model is None:
            if isinstance(section, Mapping):
                raise ConfigError(f"{where}: {name} expects a value, got keys ({', '.join(map(str, section))})")
            continue
        if not isinstance(section, Mapping):
            raise ConfigError(f"{where}: {name} expects keys ({', '.join(model.model_fields)}), got {section!r}")
        for key in section:
            if key not in model.model_fields:
                near = [f"{name}.{k}" for k in _near(str(key), list(model.model_fields))]
                near = near or [f"{n}.{k}" for n, k in _all_keys(root) if k == key and n != name][:1]
                several = len(_models(root.model_fields[name])) > 1
                has = f" for {name}.kind {model.model_fields['kind'].default}" if several else ""
                raise ConfigError(f'{where}: unknown key "{name}.{key}"{has}{_did_you_mean(near)}')


def _all_keys(root: type[Section]) -> Iterator[tuple[str, str]]:
    for name, field in root.model_fields.items():
        for model in _models(field):
            yield from ((name, key) for key in model.model_fields)


def _keys_now(root: type[Section], data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Sections and their keys, of the kinds that are chosen."""
    for name in root.model_fields:
        known = data.get(name)
        model = _kind(root, name, {}, known if isinstance(known, Mapping) else {})
        yield from ((name, key) for key in (model.model_fields if model else ()))


def _near(word: str, words: list[str]) -> list[str]:
    return difflib.get_close_matches(word, words, n=1)


def _did_you_mean(near: Sequence[str]) -> str:
    return f'; did you mean "{near[0]}"?' if near else ""


def _override(data: dict[str, Any], new: Mapping[str, Any], kinds: Container[str]) -> None:
    for key, value in new.items():
        if not isinstance(value, Mapping):
            data[key] = value
            continue
        section = data.setdefault(key, {})
        if value.get("kind", section.get("kind")) != section.get("kind") and key in kinds:
            section.clear()
        section.update(value)


Size = PositiveInt | tuple[PositiveInt, PositiveInt]
