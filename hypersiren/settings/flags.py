"""Settings: what a section is, and how settings are read from YAML and flags, checked, compared and written.

A key that does not exist or a value that does not fit is a `ConfigError` of one line that says what was expected, what
came and what may have been meant. A path is taken as it is typed. The sections themselves stand beside the code that
takes them. Imports no torch.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from hypersiren.errors import did_you_mean, nearest
from hypersiren.settings.section import (
    ConfigError,
    S,
    Section,
    _as_meant,
    _leaves,
    _meant_error,
    _message,
    _models,
    _shown,
)
from hypersiren.settings.yaml import MOST_TEXT, _Dumper, from_yaml

SYNONYMS = {
    "epochs": ("training.steps",), "num_epochs": ("training.steps",), "epoch": ("training.steps",),
    "iterations": ("training.steps",), "iters": ("training.steps",), "num_steps": ("training.steps",),
    "learning_rate": ("training.lr",),
    "batch_size": ("training.batch_size", "training.points"), "batch": ("training.batch_size", "training.points"),
    "gpu": ("device cuda",), "cuda": ("device cuda",), "gpus": ("device cuda",),
    "w0": ("network.first_omega", "siren.first_omega"), "omega": ("network.first_omega", "siren.first_omega"),
    "omega_0": ("network.first_omega", "siren.first_omega"),
    "width": ("network.hidden_features", "siren.hidden_features"),
    "hidden_dim": ("network.hidden_features", "siren.hidden_features"),
    "depth": ("network.hidden_layers", "siren.hidden_layers"),
    "layers": ("network.hidden_layers", "siren.hidden_layers"),
    "resolution": ("signal.size", "data.size"), "output": ("out",), "output_dir": ("out",), "name": ("out",),
    "data_dir": ("data.root",), "dataset": ("data.kind",), "checkpoint": ("start",), "init": ("start",),
    "resume": ("out",),
}  # fmt: skip
"""What others call our settings and options: the first that there is is meant."""

OPTIONS = ["config", "out", "preset", "restart", "quiet", "verbose"]
"""Options of the commands that also take settings."""


def load_settings(
    root: type[S] | Callable[[Any], type[S]], path: str | Path | None = None, flags: Sequence[str] = ()
) -> S:
    """Settings from a YAML file, if any, overridden by flags.

    Args:
        root: What is configured; the settings of each task stand in `hypersiren.tasks.registry`. Or a function that
            chooses it by `data.kind`, which is None if neither file nor flags say it.
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
        hypersiren.settings.section.ConfigError: --trainig.lr: unknown key "trainig"; did you mean "training"?
    """
    data = _read_yaml(Path(path)) if path is not None else {}
    chosen = root if isinstance(root, type) else root(_chosen_kind(data.get("data"), flags))
    return _checked(cast(type[S], chosen), data, path, flags)


def _checked(root: type[S], data: dict[Any, Any], path: str | Path | None, flags: Sequence[str]) -> S:
    """What a YAML file holds, overridden by flags, as settings."""
    if path is not None:
        _check_keys(root, data, str(path))
    # What a task's settings say otherwise than its sections' own defaults holds for the keys that are not overridden.
    for name, field in root.model_fields.items():
        if isinstance(field.default, Section) and len(_models(field)) == 1:
            data[name] = {**field.default.model_dump(exclude_unset=True), **data.get(name, {})}
    # The kind of a section with several, made explicit once, decides which other keys there are.
    kinds = {name: field.default.kind for name, field in root.model_fields.items() if len(_models(field)) > 1}
    for name, kind in kinds.items():
        given = data.get(name, {})
        own = root.model_fields[name].default if given.get("kind", kind) == kind else None
        data[name] = {"kind": kind, **(own.model_dump(exclude_unset=True) if own else {}), **given}
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
        first = _meant_error(error)
        # Pydantic puts the alternatives of a union into the location; a reader knows no such keys.
        known = {*root.model_fields, *(key for _, key in _all_keys(root))}
        where = ".".join(str(part) for part in first["loc"] if part in known or isinstance(part, int))
        got = "" if isinstance(first["input"], Mapping) else f", got {_shown(first['input'])}"
        raise ConfigError(f"{where}: {_message(first)}{got}" if where else f"{_message(first)}{got}") from None


def _chosen_kind(section: Any, flags: Sequence[str]) -> Any:
    """The `kind` of the section `data`: that of flags, or of a YAML file; None if neither says it."""
    given = [text for key, text in _split_flags(flags) if key == "data.kind"]
    return given[-1] if given else section.get("kind") if isinstance(section, dict) else None


_Dumper.add_representer(str, _Dumper.represent_text)


def _read_yaml(path: Path) -> dict[Any, Any]:
    if path.exists() and not path.is_file() and not path.is_dir():  # it may never end
        raise ConfigError(f"{path}: a pipe or a device, not a file")
    try:
        with open(path, encoding="utf-8") as file:
            data = from_yaml(file.read(MOST_TEXT + 1))
    except FileNotFoundError:
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*.y*ml")], least=0.4)
        raise ConfigError(f"{path}: no such file{near}") from None
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
        key = key.replace("-", "_")
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


def _kind(root: type[Section], name: str, section: Mapping[str, Any], known: Mapping[str, Any]) -> type[Section] | None:
    """Which settings model a section of the configuration is."""
    field = root.model_fields[name]
    models = {model.model_fields["kind"].default: model for model in _models(field) if "kind" in model.model_fields}
    if len(models) < 2:
        return next(iter(_models(field)), None)
    kind = str(section.get("kind", known.get("kind", field.default.kind)))
    if kind not in models:
        hint = did_you_mean(kind, models)
        raise ConfigError(f'{name}.kind: expected one of {", ".join(models)}, got "{kind}"{hint}')
    return models[kind]


def _check_keys(
    root: type[Section], data: Mapping[Any, Any], where: str, base: Mapping[str, Any] | None = None
) -> None:
    for name, section in data.items():
        if name not in root.model_fields:
            # On the command line a mistyped option looks like a setting too.
            options = OPTIONS if where.startswith("--") else []
            last = nearest(str(name), [k for _, k in _keys_now(root, base or {})]) if "." not in where else name
            keys = [f"{n}.{k}" for n, k in [*_keys_now(root, base or {}), *_all_keys(root)] if k == last]
            other = "".join(f'; did you mean "{key}"?' for key in keys[:1])
            hint = did_you_mean(str(name), [*root.model_fields, *options], other)
            if meant := _synonyms(root, str(name)):
                hint = f'; did you mean "{meant[0]}"?'
            raise ConfigError(f'{where}: unknown key "{name}"{hint}')
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
                near = nearest(str(key), model.model_fields)
                keys = [f"{name}.{near}"] if near else [f"{n}.{k}" for n, k in _all_keys(root) if k == key]
                hint = "".join(f'; did you mean "{each}"?' for each in (_synonyms(root, str(key)) or keys)[:1])
                several = len(_models(root.model_fields[name])) > 1
                has = f" for {name}.kind {model.model_fields['kind'].default}" if several else ""
                raise ConfigError(f'{where}: unknown key "{name}.{key}"{has}{hint}')


def _synonyms(root: type[Section], name: str) -> list[str]:
    """What is meant by another's word for a setting or an option, if anything is."""
    known = {*OPTIONS, *root.model_fields, *(f"{section}.{key}" for section, key in _all_keys(root))}
    return [key for key in SYNONYMS.get(name, ()) if key.split(" ")[0] in known]


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


def _override(data: dict[str, Any], new: Mapping[str, Any], kinds: Container[str]) -> None:
    for key, value in new.items():
        if not isinstance(value, Mapping):
            data[key] = value
            continue
        section = data.setdefault(key, {})
        if value.get("kind", section.get("kind")) != section.get("kind") and key in kinds:
            section.clear()
        section.update(value)
