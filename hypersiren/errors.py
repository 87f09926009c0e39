"""The one kind of error that is for a user, and what its messages share. Imports no torch."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something a user can mend: a missing file, a wrong setting, a full disk. The message is one clear line."""


def nearest(word: str, words: Iterable[str], least: float = 0.6) -> str | None:
    """The one of these words that is nearest, or None if none is as near as `least` (1: the word itself)."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=least)), None)


def did_you_mean(word: str, words: Iterable[str], otherwise: str = "", least: float = 0.6) -> str:
    """The end of a message about an unknown word: the one of these that is nearest, if any is near.

    Args:
        word: What was given.
        words: What is known.
        otherwise: The end if none is near.
        least: How near is near, see `nearest`.

    Example:
        >>> did_you_mean("step", ["steps", "lr"]), did_you_mean("x", ["steps", "lr"])
        ('; did you mean "steps"?', '')
        >>> did_you_mean("x", ["steps", "lr"], "; expected steps or lr")
        '; expected steps or lr'
    """
    found = nearest(word, words, least)
    return f'; did you mean "{found}"?' if found else otherwise


def clear_line(text: str, most: int = 600) -> str:
    """A message as one line that can be shown: what cannot be printed escaped, the middle left out if it is long.

    Example:
        >>> clear_line("a\\nb"), clear_line("a" * 10 + "b" * 10, 12)
        ('a\\\\nb', 'aaa ... bbbb')
    """
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if len(text) <= most else f"{text[: most // 2 - 3]} ... {text[2 - most // 2 :]}"
