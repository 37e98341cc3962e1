"""What was expected against what there is. In: rows, some of them with few fields. Out: the differences, in lines. Pure."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from itertools import takewhile
from typing import Any

from kpitest.rows import Row, plain
from kpitest.values import EPOCH, moment_ms

CLOSE = 1e-9  # relative: what two ways to sum doubles may differ by


def differences(wanted: Sequence[Mapping[str, Any]], rows: Sequence[Row], *, only: Callable[[str], bool] | None = None) -> list[str]:
    """A line for each wanted row that is not there, or is there with other values; and for each other row of the topics that `only` names.

    Of a wanted row the fields that are given count, and no others; each row answers to one wanted row at most.
    """
    left = list(rows)
    missing = set[int]()
    for at in sorted(range(len(wanted)), key=lambda at: -len(wanted[at])):  # who says most chooses first
        match = next((number for number, it in enumerate(left) if not _differing(wanted[at], it)), None)
        if match is None:
            missing.add(at)
        else:
            del left[match]
    lines = []
    for row in (wanted[at] for at in sorted(missing)):
        nearest = next((number for number, it in enumerate(left) if not _differing(_place(row, it), it)), None)
        if nearest is None:
            lines.append(f"missing    {json.dumps(plain(row), ensure_ascii=False)}")
        else:
            it = left.pop(nearest)
            said = ", ".join(f"{name}: got {_shown(it.get(name))}, want {_shown(row[name])}" for name in _differing(row, it))
            lines.append(f"differs    {json.dumps(plain(_place(it, it)), ensure_ascii=False)}: {said}")
    return lines + [f"unexpected {json.dumps(plain(it), ensure_ascii=False)}" for it in left if only is not None and only(it["topic"])]


def equal(want: object, got: object) -> bool:  # noqa: PLR0911 - a type a return
    """Whether a value is the wanted one: decimals and times by value, doubles to nine digits, the rest exactly.

    >>> equal("12.5", Decimal("12.50")), equal(0.3, 0.1 + 0.2), equal(1, True), equal({"WEB": 2}, {"WEB": 2})
    (True, True, False, True)
    """
    if isinstance(want, bool) or isinstance(got, bool):
        return want is got
    match got:
        case datetime():
            return _moment(want) == (got - EPOCH) // timedelta(milliseconds=1)
        case date() | time():
            return want in (got, got.isoformat())
        case Decimal():
            return _decimal(want) == got
        case float() if isinstance(want, int | float):
            return math.isclose(want, got, rel_tol=CLOSE)
        case Mapping() if isinstance(want, Mapping):
            return want.keys() == got.keys() and all(equal(want[name], got[name]) for name in want)
        case list() if isinstance(want, list | tuple):
            return len(want) == len(got) and all(map(equal, want, got))
    return want == got


def _moment(said: object) -> int | None:
    try:
        return moment_ms(said)
    except (ValueError, TypeError):
        return None


def _decimal(said: object) -> Decimal | None:
    try:
        return Decimal(str(said))
    except InvalidOperation:
        return None


def _differing(want: Mapping[str, Any], row: Row) -> list[str]:
    return [name for name, it in want.items() if name not in row or not equal(it, row[name])]


def _place(want: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Those of the wanted fields that say which row it is: window and group, or where a message lay; they stand first in a row."""
    places = set(takewhile(lambda name: name not in ("events", "timestamp"), row))
    return {name: it for name, it in want.items() if name in places}


def _shown(value: object) -> str:
    return json.dumps(plain(value), ensure_ascii=False)
