"""What a person must mend before the flow can start. Imports nothing of ours, so that every module may raise it. Pure."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
    """A setting is wrong: one line that names it, what it got and what it wants."""


def did_you_mean(got: object, known: Iterable[str]) -> str:
    """The nearest name in words, with a space in front; nothing where none is near.

    >>> did_you_mean("latenes", ["windows", "lateness"]), did_you_mean("x", ["windows"])
    (" (did you mean 'lateness'?)", '')
    """
    near = difflib.get_close_matches(str(got), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
