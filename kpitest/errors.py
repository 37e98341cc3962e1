"""What is wrong with an event, a line or an expectation. In: words. Out: errors whose text is the whole message. Pure."""

import difflib
from collections.abc import Iterable


class WrongEventError(ValueError):
    """An event that cannot be sent: where, what was got, what is wanted."""


def choices(got: str, known: Iterable[str]) -> str:
    """What there is, with what was perhaps meant.

    >>> choices("totl", ["total", "coupon"])
    "one of total, coupon (did you mean 'total'?)"
    """
    names = list(known)
    near = difflib.get_close_matches(got, names, n=1)
    return f"one of {', '.join(names)}" + (f" (did you mean {near[0]!r}?)" if near else "")
