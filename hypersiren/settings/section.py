"""What a section of settings is: frozen, every key known and checked. Imports no torch."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError
from pydantic.fields import FieldInfo

from hypersiren.errors import UserError, clear_line, did_you_mean
from hypersiren.settings.yaml import _plain

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
            hypersiren.settings.section.ConfigError: unknown setting "step"; did you mean "steps"?
        """
        fields = type(self).model_fields
        for name in changes:
            if name not in fields:
                hint = did_you_mean(name, fields, f"; expected one of {', '.join(fields)}")
                raise ConfigError(f'unknown setting "{name}"{hint}')
        changes = {name: _as_meant(type(self), name, value) for name, value in changes.items()}
        try:
            return type(self).model_validate({**{name: getattr(self, name) for name in fields}, **changes})
        except ValidationError as error:
            first = _meant_error(error)
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"{where}: {_message(first)}, got {_shown(first['input'])}") from None


Share = Annotated[float, Field(ge=0, lt=1)]

Known = Annotated[float, Field(gt=0, le=1)]

NotNegative = Annotated[float, Field(ge=0)]


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


def _as_meant(model: type[Section], key: str, value: Any, where: str = "") -> Any:
    """A path from what is typed; and true is refused as a number, though Python takes it for 1."""
    types = _leaves(model.model_fields[key].annotation) if key in model.model_fields else set()
    try:
        if value is True and types & {int, float} and bool not in types:
            raise ValueError("expected a value")
        if tuple in types and isinstance(value, str):
            found = _numbers(value)
            if found == value and not any(kind is str or isinstance(kind, str) for kind in types):
                options = [_leaves(option) for option in get_args(model.model_fields[key].annotation)]
                one = any(tuple not in option and option & {int, float} for option in options)
                raise ValueError(
                    f"expected {'a number, or ' if one else ''}numbers with commas between them, such as 1,2"
                )
            return found
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


def _meant_error(error: ValidationError) -> Any:
    """The first; where one number or several may stand and several do, what is wrong with those."""
    first, *more = error.errors()
    several = isinstance(first["input"], list | tuple) and first["type"] in ("int_type", "float_type")
    return more[0] if several and more else first


def _message(error: Any) -> str:
    if error["type"] == "tuple_type":
        return "expected numbers with commas between them, such as 1,2"
    if error["type"] == "too_long":
        return f"expected at most {error['ctx']['max_length']} numbers"
    if error["type"] == "missing" and isinstance(error["loc"][-1], int):
        return "expected more numbers"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _models(annotation: Any) -> list[type[Section]]:
    """The settings models that a field may hold: none for a plain value, several for a union."""
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    options = get_args(annotation) or (annotation,)
    return [option for option in options if isinstance(option, type) and issubclass(option, Section)]


def _leaves(annotation: Any) -> set[Any]:
    """The plain types that a type is made of, and tuple itself; the values of a Literal stand for themselves.

    Example:
        >>> _leaves(tuple[int, int] | None) == {tuple, int, type(None)}
        True
    """
    arguments = get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
    own = {tuple} if get_origin(annotation) is tuple else set()
    return own.union(*map(_leaves, arguments)) if arguments else {annotation}


Size = PositiveInt | tuple[PositiveInt, PositiveInt]
