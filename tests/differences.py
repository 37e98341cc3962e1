"""Where a flow's rows differ from the oracle's. In: the oracle's rows, the flow's rows. Out: readable lines, none when they agree. Pure.

A flow's row is a mapping: window (its label), window_start, window_end, group_by (the group set's paths joined by commas), group (dotted
path -> str | None, of all group sets), events, one entry a KPI, revision, final, closed_by.
"""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from tests.oracle import Place, Row
from tests.oracle_aggregates import Anything, Heaviest, Nearly, pairs_of

RELATIVE = 1e-9
FIRST = 10


def compare(want: Iterable[Row], got: Iterable[Mapping[str, object]], perhaps: Iterable[Row] = (), first: int = FIRST) -> list[str]:
    """The first differences: every wanted row is there with these numbers, no other is, and each final came once and last.

    The last row of a window counts. Integers and decimals agree exactly, floats to 1e-9 of the wanted or to the row's own slack.
    Rows that are there `perhaps` need not be. Want finals only? Then give finals only.
    """
    lines: list[str] = []
    have: dict[Place, Mapping[str, object]] = {}
    for row in got:
        place = place_of(row)
        before = have.get(place)
        if before is not None and before["final"]:
            lines.append(f"{_spell(place)}: got a row after its final one")
        if before is not None and not _integer(row["revision"]) > _integer(before["revision"]):
            lines.append(f"{_spell(place)}: got revision {row['revision']} after {before['revision']}")
        lines.extend(f"{_spell(place)}: {line}" for line in _misfits(row))
        have[place] = row
    for expected, found in [(row, have.pop(row.place, None)) for row in want]:
        if found is None:
            lines.append(f"{_spell(expected.place)}: got no row, want {expected.events} events {dict(expected.kpis)}")
        else:
            lines.extend(f"{_spell(expected.place)}: {line}" for line in _differences(expected, found))
    for expected, found in [(row, have.pop(row.place, None)) for row in perhaps]:
        lines.extend(f"{_spell(expected.place)}: {line}" for line in (_differences(expected, found) if found else ()))
    lines.extend(f"{_spell(place)}: got {row['events']} events, want no row" for place, row in have.items())
    return lines[:first]


def place_of(row: Mapping[str, object]) -> Place:
    """The window and group that a flow's row is of."""
    group_set, group = tuple(path for path in str(row["group_by"]).split(",") if path), row["group"]
    assert isinstance(group, Mapping)
    stretch = _integer(row["window_start"]), _integer(row["window_end"])
    return (str(row["window"]), *stretch, group_set, tuple(group[path] for path in group_set))


def _spell(place: Place) -> str:
    label, start_ms, end_ms, group_set, group = place
    return f"{label} [{start_ms}, {end_ms}) by ({','.join(group_set)}) = {group!r}"


def _misfits(row: Mapping[str, object]) -> Iterable[str]:
    """What is wrong with a row by itself."""
    group, paths = row["group"], str(row["group_by"]).split(",")
    assert isinstance(group, Mapping)
    for path, value in group.items():
        if value is not None and path not in paths:
            yield f"{path}: got {value!r}, want null outside of its group set"
    if (row["closed_by"] is not None) != row["final"]:
        yield f"closed_by: got {row['closed_by']!r} with final {row['final']}"


def _differences(want: Row, got: Mapping[str, object]) -> Iterable[str]:
    for name, expected in (("events", want.events), ("final", want.final), ("closed_by", want.closed_by)):
        if got[name] != expected:
            yield f"{name}: got {got[name]!r}, want {expected!r}"
    for name, value in want.kpis.items():
        if not agree(value, got[name], want.slack[name]):
            yield f"{name}: got {got[name]!r}, want {value!r} (slack {want.slack[name]:.1e})"


def agree(want: object, got: object, slack: float = 0.0) -> bool:
    """Whether two results are the same: exactly, and for a float within 1e-9 of the wanted or within the slack, whichever is more.

    Types count as well: no double for a long. But the sum of nothing is 0 in the type of its field, which the oracle does not know.
    """
    if want == 0 and got == 0:
        return True
    if isinstance(want, Nearly | Anything | Heaviest):
        return want.holds(got)
    if isinstance(want, list):
        return pairs_of(got) == want
    if isinstance(want, float):
        return isinstance(got, int | float) and math.isfinite(got) and abs(want - got) <= max(RELATIVE * abs(want), slack)
    if isinstance(want, Decimal) and isinstance(got, Decimal):
        return want == got
    return type(want) is type(got) and want == got


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value
