"""Rows as CSV. In: what a page shows, the board, rows. Out: CSV text, and a name for its file. Pure.

The columns: topic, window, the group fields, window_start and window_end (UTC), events, the KPIs, revision, final, closed_by. Null is an
empty cell. A text that a spreadsheet would take for a formula has a ' in front.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from serve.selection import RANGES, View, Wish, groups_shown
from serve.series import Board
from serve.shape import Kpi, Row, Shape

PART = 250  # rows of a part: under 10 ms to write
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Line = tuple[Shape, Row]


def known(view: View, board: Board) -> list[Line]:
    """The rows that the board has of this view, by window size and group, oldest first."""
    groups = groups_shown(view, board)
    return [(shape, point.row) for shape in view.shapes for group in groups for point in board.points(shape.topic, shape.window, group)[1]]


def chosen(lines: Sequence[Line], view: View, wish: Wish) -> list[Line]:
    """Of these rows what a page shows: those in the chosen range of time, with the chosen KPIs alone."""
    lines = [(shape, row) for shape, row in lines if not wish.until_ms or _begins_ms(shape, row) < wish.until_ms]
    newest_ms: dict[int, int] = {}
    for shape, row in lines:
        newest_ms[id(shape)] = max(_begins_ms(shape, row), newest_ms.get(id(shape), 0))
    cuts = {id(shape): _cut(shape, view.kpis) for shape, _ in lines}
    return [
        (cut, row._replace(values=tuple(row.values[at] for at in places)))
        for shape, row in lines
        if not wish.last or _begins_ms(shape, row) >= newest_ms[id(shape)] - RANGES[wish.last]
        for cut, places in (cuts[id(shape)],)
    ]


def _begins_ms(shape: Shape, row: Row) -> int:
    return shape.kind.fresh(row.bounds)[0]


def _cut(shape: Shape, kpis: Sequence[Kpi]) -> tuple[Shape, list[int]]:
    own = {kpi.name: kpi for kpi in shape.kpis}  # a window whose topic is older may say another unit or text of the same KPI
    kept = [own[kpi.name] for kpi in kpis if kpi.name in own]
    return replace(shape, kpis=tuple(kept)), [shape.kpis.index(kpi) for kpi in kept]


def csv_text(lines: Iterable[Line]) -> str:
    """The rows as one text. Rows of several shapes share their columns; what a row's shape does not have is empty."""
    return "".join(csv_parts(list(lines)))


def csv_parts(lines: Sequence[Line]) -> Iterator[str]:
    """The same text in parts of `PART` rows, the names of the columns first."""
    shapes = list(dict.fromkeys(id(shape) for shape, _ in lines))
    known = {id(shape): shape for shape, _ in lines}
    paths = {path: field for at in shapes for path, field in known[at].fields.items()}
    kpis = list(dict.fromkeys(kpi.name for at in shapes for kpi in known[at].kpis))
    names = ["topic", "window", *paths.values(), "window_start", "window_end", "events", *kpis, "revision", "final", "closed_by"]
    yield _written([names])
    for start in range(0, len(lines), PART):
        yield _written(_cells(shape, row, list(paths), kpis) for shape, row in lines[start : start + PART])


def file_name(view: View) -> str:
    """A name for the file in which nothing but letters, digits, dots, dashes and underscores is left of the topic's name.

    >>> safe("shop.orders"), safe('../a"; x=<b>')
    ('shop.orders', 'a_x_b')
    """
    return f"{safe(view.shape.topic)}.{safe(view.window)}.csv"


def safe(text: str) -> str:
    """The text as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text)[:100].strip("._-") or "kpi"


def _cells(shape: Shape, row: Row, paths: Sequence[str], kpis: Sequence[str]) -> list[object]:
    groups = dict(zip(row.group.by, row.group.values, strict=True))
    values = dict(zip((kpi.name for kpi in shape.kpis), row.values, strict=True))
    return [
        shape.topic,
        shape.window,
        *(groups.get(path) for path in paths),
        moment(row.start_ms),
        moment(row.end_ms),
        row.events,
        *(values.get(kpi) for kpi in kpis),
        row.revision,
        "true" if row.final else "false",
        row.closed_by,
    ]


def moment(at_ms: int) -> str:
    """A moment as people and spreadsheets read it; its number where no calendar has it.

    >>> moment(1_700_000_000_500), moment(10**17)
    ('2023-11-14T22:13:20.500Z', '100000000000000000')
    """
    try:
        at = datetime.fromtimestamp(at_ms // 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return str(at_ms)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def _written(rows: Iterable[Iterable[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([[_cell(value) for value in row] for row in rows])
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text
