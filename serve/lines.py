"""Points of groups as columns. In: the board, a KPI topic's shape, groups. Out: two Bokeh sources that follow the board. Knows no figure.

One source holds the finals of all groups, streamed; the other what is provisional, with the finals it hangs on, replaced as it changes.
A row of a source is a window of one group, and the piece of line that leads to it from the window before: so one glyph draws all lines,
whatever their colours. Where a window's point is, and when one is missing, its kind says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle, pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from bokeh.models import ColumnDataSource

from serve.kinds import Bounds, Kind
from serve.series import Board, Point
from serve.shape import OPEN, Group, Row, Shape, label, state

# Eight colours that people with any colour vision can tell apart, each with a contrast of 3 to 1 to white and to the dark theme's cards.
COLOURS = ("#3b76e8", "#d07708", "#0d9668", "#c843b0", "#1389a5", "#d64545", "#7f6ae0", "#7c756f")
GAP = "no window"  # what `how` says of one that is missing
NO_COLOURS: Mapping[Group, str] = MappingProxyType({})
NUMBERS = ("at", "start", "end", "left", "right", "from", "events", "revision")


class Gap(NamedTuple):
    """Where windows are missing: [start_ms, end_ms)."""

    start_ms: int
    end_ms: int

    @property
    def bounds(self) -> Bounds:
        """Its start and end."""
        return self.start_ms, self.end_ms


Shown = Row | Gap


def spaced(rows: Sequence[Row], kind: Kind) -> list[Shown]:
    """Rows, oldest first, with a gap wherever a window is missing."""
    shown: list[Shown] = []
    for row in rows:
        if shown and (missing := kind.missing(shown[-1].bounds, row.bounds)):
            shown.append(Gap(*missing))
        shown.append(row)
    return shown


def hanging(rows: Sequence[Row]) -> list[Row]:
    """The provisional rows, with the finals before and behind them that their line hangs on."""
    kept = {id(row) for row in rows if not row.final}
    for one, other in pairwise(rows):
        if one.final != other.final:
            kept |= {id(one), id(other)}
    return [row for row in rows if id(row) in kept]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """One group's points at a version of the board.

    The board hands all sessions the same tuple until it changes, so two are equal if theirs is one, and what follows from it is worked out
    once for all of them.
    """

    version: int
    points: tuple[Point, ...] = field(repr=False)
    kind: Kind

    def __eq__(self, other: object) -> bool:
        """Whether it is the same state of the same group."""
        return isinstance(other, Seen) and self.points is other.points

    def __hash__(self) -> int:
        """As `==` says."""
        return id(self.points)


def see(board: Board, shape: Shape, group: Group) -> Seen:
    """What the board knows of a group now."""
    return Seen(*board.points(shape.topic, shape.window, group), shape.kind)


@lru_cache(maxsize=512)  # what one session has worked out, the others that look at the same take over
def between(seen: Seen, since_ms: int, until_ms: int) -> Seen:
    """Of a group's windows those whose fresh part begins in [since_ms, until_ms); an `until_ms` of 0 is no end."""
    points, kind = seen.points, seen.kind
    if not points or (begins_ms(points[0].row, kind) >= since_ms and (not until_ms or begins_ms(points[-1].row, kind) < until_ms)):
        return seen
    kept = (it for it in points if since_ms <= (at_ms := begins_ms(it.row, kind)) and (not until_ms or at_ms < until_ms))
    return Seen(seen.version, tuple(kept), kind)


def begins_ms(row: Row, kind: Kind) -> int:
    """Where the part of a window begins that none before it had."""
    return kind.fresh(row.bounds)[0]


@lru_cache(maxsize=512)
def closed(seen: Seen) -> tuple[Shown, ...]:
    """A group's windows and gaps up to its newest final one; a provisional one between them has its place there."""
    rows = [point.row if point.row.final else _unsaid(point.row) for point in seen.points]
    newest = max((at for at, row in enumerate(rows) if row.final), default=-1)
    return tuple(spaced(rows[: newest + 1], seen.kind))


def _unsaid(row: Row) -> Row:
    return row._replace(values=(None,) * len(row.values))


@lru_cache(maxsize=512)
def pending(seen: Seen) -> tuple[Shown, ...]:
    """A group's provisional windows, the finals they hang on, and the gaps between."""
    return tuple(spaced(hanging([point.row for point in seen.points]), seen.kind))


@lru_cache(maxsize=512)
def changes(seen: Seen) -> "np.ndarray[Any, Any]":
    """At which version of the board each point came."""
    return np.array([point.change for point in seen.points], dtype=np.int64)


def columns(shape: Shape, lines: Sequence[tuple[Group, str, Sequence[Shown]]], *, first: int = 0) -> dict[str, Any]:
    """Rows of several groups, each with its colour, as a source's columns, oldest first.

    `at`: the point. `start`, `end`: the window, ms. `left`, `right`: the strip around its point. `from`: the point before, NaN where the
    line begins anew. `y0`, `y1`...: the KPIs' values, NaN where there is none; `p0`, `p1`...: those of the point before. `events`,
    `revision`; of a session its `length`, ms. `group`, `colour`, `how`: text. The first `first` rows of each group are left out: they are
    only what the next one's line comes from.
    """
    placed: list[tuple[str, str, Shown | None, Shown]] = [
        (label(group.values), colour, rows[at - 1] if at else None, rows[at])
        for group, colour, rows in lines
        for at in range(first, len(rows))
    ]
    if len(lines) > 1:
        placed.sort(key=lambda it: _place(it[3], shape.kind))  # so that the oldest go first where a source is full
    numbers: Any = np.array([[*_numbers(row, before, shape.kind)] for _, _, before, row in placed], dtype=np.float64).reshape(
        len(placed), len(NUMBERS)
    )
    table: dict[str, Any] = {name: numbers[:, at].copy() for at, name in enumerate(NUMBERS)}
    table |= {"group": [it[0] for it in placed], "colour": [it[1] for it in placed], "how": [how(it[3]) for it in placed]}
    if shape.kind.is_session:
        table["length"] = table["end"] - table["start"]
    for at in range(len(shape.kpis)):
        table[f"y{at}"] = np.array([_value(it[3], at) for it in placed], dtype=np.float64)
        table[f"p{at}"] = np.array([_value(it[2], at) for it in placed], dtype=np.float64)
    return table


def _place(shown: Shown, kind: Kind) -> float:
    return kind.place(shown.bounds) if isinstance(shown, Row) else sum(kind.strip(shown.bounds)) / 2


def _numbers(row: Shown, before: Shown | None, kind: Kind) -> Iterator[float]:
    yield from (_place(row, kind), *row.bounds, *kind.strip(kind.fresh(row.bounds) if isinstance(row, Row) else row.bounds))
    yield kind.place(before.bounds) if isinstance(before, Row) and kind.follows(before.bounds, row.bounds) else np.nan
    yield from (row.events, row.revision) if isinstance(row, Row) else (np.nan, np.nan)


def _value(row: Shown | None, at: int) -> float:
    value = row.values[at] if isinstance(row, Row) else None
    return value if isinstance(value, float) else np.nan


def _position(rows: Sequence[Shown], bounds: Bounds) -> int:
    """Where among rows and gaps, looked for from the newest on, a window is; behind all of them where it is none of them."""
    return next((at for at in range(len(rows) - 1, -1, -1) if rows[at].bounds <= bounds and isinstance(rows[at], Row)), len(rows))


def how(row: Shown) -> str:
    """How a window came to its row, in the words of a tooltip."""
    return GAP if isinstance(row, Gap) else state(row)


def coloured(groups: Sequence[Group], before: Mapping[Group, str]) -> tuple[str, ...]:
    """A colour for each group: the one it has already, else the first that none of them has."""
    free = cycle([colour for colour in COLOURS if colour not in {before.get(group) for group in groups}] or COLOURS)
    return tuple(before.get(group) or next(free) for group in groups)


def _open_values(table: dict[str, Any], kpis: int) -> dict[str, Any]:
    """With `d0`, `d1`...: the values of the provisional rows alone."""
    provisional = np.array([it == OPEN for it in table["how"]], dtype=bool)
    return table | {f"d{at}": np.where(provisional, table[f"y{at}"], np.nan) for at in range(kpis)}


class Lines:
    """Some groups of one KPI topic, over the last `last_ms`, or all there is of them.

    `before`: colours that some of them have. `finals` and `open` are the sources; `newest` the row that each group's number is taken from.
    """

    def __init__(self, shape: Shape, groups: Sequence[Group], last_ms: int = 0, before: Mapping[Group, str] = NO_COLOURS) -> None:
        self._last_ms = last_ms
        self.shape, self.groups = shape, tuple(groups)
        self.colours = coloured(groups, before)
        self.newest: list[Row | None] = [None] * len(groups)  # the newest final, the newest of all while none is final
        self.finals = ColumnDataSource(self._table([]), name=f"finals {shape.window}")
        self.open = ColumnDataSource(_open_values(self._table([]), len(shape.kpis)), name=f"open {shape.window}")
        self.seen: list[Seen] = [Seen(0, (), shape.kind)] * len(groups)

    def show(self, board: Board, until_ms: int = 0) -> bool:
        """Bring the sources up to the board, with as little to send as can be; windows whose fresh part begins at `until_ms` or later are
        left out.

        False where there is nothing new.
        """
        known = [between(see(board, self.shape, group), 0, until_ms) for group in self.groups]
        newest_ms = max((begins_ms(it.points[-1].row, it.kind) for it in known if it.points), default=0)
        seen = [between(it, newest_ms - self._last_ms if self._last_ms else 0, 0) for it in known]
        if seen == self.seen:
            return False
        self._bring(seen)
        self.open.data = _open_values(self._table([pending(it) for it in seen]), len(self.shape.kpis))
        self.newest = [next((row for row in reversed(closed(it) or pending(it)) if isinstance(row, Row)), None) for it in seen]
        self.seen = seen
        return True

    def rows(self) -> list[Row]:
        """Every row that is shown, by group, oldest first."""
        return [point.row for seen in self.seen for point in seen.points]

    def _bring(self, seen: Sequence[Seen]) -> None:
        """The finals: all of them where an older window has changed, else those that are new."""
        new: list[Sequence[Shown]] = []
        for before, now in zip(self.seen, seen, strict=True):
            old, rows = closed(before), closed(now)
            if not old and not rows:
                new.append(())
                continue
            last = (old[-1] if old else now.points[-1].row).bounds
            from_last = rows[_position(rows, last) :]
            changed = np.flatnonzero(changes(now) > before.version)
            if not from_last or from_last[0].bounds != last or any(now.points[int(at)].row.bounds <= last for at in changed):
                self.finals.data = self._table([closed(it) for it in seen])
                return
            new.append(from_last)
        table = self._table(new, first=1)
        if len(table["at"]):
            self._stream(table, [closed(it) for it in seen])

    def _stream(self, table: dict[str, Any], shown: Sequence[Sequence[Shown]]) -> None:
        """Send new rows, and let go of the oldest: those that none of the groups shows any more."""
        places = self.finals.data["at"]
        kept = sum(map(len, shown))
        gone = len(places) + len(table["at"]) - kept
        if gone > 0 and max(places[:gone], default=0) >= min(_place(rows[0], self.shape.kind) for rows in shown if rows):
            self.finals.data = self._table(shown)  # groups of different age: what each of them loses are not the oldest of all
        else:
            self.finals.stream(table, rollover=kept)

    def _table(self, rows: Sequence[Sequence[Shown]], *, first: int = 0) -> dict[str, Any]:
        placed = zip(self.groups, self.colours, rows, strict=False)  # no rows at all: an empty table
        return columns(self.shape, [*placed], first=first)
