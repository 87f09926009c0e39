"""What the package promises: its public names and their signatures, as tests/api_surface.json has them.

A change of them is a decision. Whoever has made it says so in CHANGELOG.md and writes the file anew:

    python -m tests.test_api_surface
"""

import inspect
import json
import types
from pathlib import Path
from typing import Any

import hypersiren

FILE = Path(__file__).with_name("api_surface.json")

PLAIN = bool | int | float | str | None


def default_of(value: Any) -> str:
    plain = isinstance(value, PLAIN) or (isinstance(value, tuple) and all(isinstance(one, PLAIN) for one in value))
    return repr(value) if plain else "..."


def signature_of(function: Any) -> str:
    """Names, kinds and defaults of the parameters; not their types, which Python's versions write differently."""
    words: list[str] = []
    before: Any = None
    for one in inspect.signature(function).parameters.values():
        if one.kind is one.KEYWORD_ONLY and before not in (one.KEYWORD_ONLY, one.VAR_POSITIONAL):
            words.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(stars + one.name + ("" if one.default is one.empty else f"={default_of(one.default)}"))
        if before is one.POSITIONAL_ONLY and one.kind is not one.POSITIONAL_ONLY:
            words.insert(-1, "/")
        before = one.kind
    return f"({', '.join(words)})"


def members(cls: type) -> dict[str, str]:
    """Public methods and properties that our classes define, the inherited ones too."""
    found: dict[str, str] = {}
    for home in reversed(cls.__mro__):
        if home.__module__.partition(".")[0] != "hypersiren":
            continue
        for name, value in vars(home).items():
            if name.startswith("_"):
                continue
            if isinstance(value, property) or type(value).__name__ == "cached_property":
                found[name] = "property"
            elif isinstance(value, types.FunctionType | classmethod | staticmethod):
                found[name] = signature_of(getattr(cls, name))
    return found


def surface() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in sorted(hypersiren.__all__):
        value = getattr(hypersiren, name)
        if isinstance(value, types.ModuleType):
            functions = {key: one for key, one in vars(value).items() if inspect.isfunction(one) and key[0] != "_"}
            found[name] = {k: signature_of(f) for k, f in sorted(functions.items()) if f.__module__ == value.__name__}
        elif isinstance(value, type):
            other = getattr(value, "_is_protocol", False) or issubclass(value, Exception)
            made = {} if other else {"": signature_of(value)}
            found[name] = {**made, **dict(sorted(members(value).items()))}
        else:
            found[name] = signature_of(value) if inspect.isfunction(value) else "value"
    return found


def test_public_names_and_signatures_are_those_of_the_file():
    expected, here = json.loads(FILE.read_text()), surface()
    changed = {name for name in {*expected, *here} if expected.get(name) != here.get(name)}
    assert not changed, f"changed: {sorted(changed)}; see this file's first lines"


if __name__ == "__main__":
    FILE.write_text(json.dumps(surface(), indent=1) + "\n")
