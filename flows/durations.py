"""Stretches of time as people write them. In: text. Out: milliseconds, and back. Pure."""

import re

LONGEST_MS = 3650 * 86_400_000
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: object) -> int:
    """Milliseconds of a duration as people write it.

    >>> duration_ms("10s"), duration_ms("1500ms"), duration_ms("1d")
    (10000, 1500, 86400000)
    """
    match = re.fullmatch(r"(\d{1,12})(ms|s|m|h|d)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('want a duration such as "10s", "5m", "1h"')
    length_ms = int(match[1]) * UNITS_MS[match[2]]
    if length_ms > LONGEST_MS:
        raise ValueError("want a duration of at most 3650d")
    return length_ms


def label(length_ms: int) -> str:
    """A duration in the largest unit that divides it.

    >>> label(10_000), label(300_000), label(86_400_000), label(1_500)
    ('10s', '5m', '1d', '1500ms')
    """
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if length_ms % UNITS_MS[unit] == 0)
    return f"{length_ms // UNITS_MS[unit]}{unit}"
