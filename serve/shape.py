"""What a KPI topic's value schema says about its rows. In: schema texts, decoded values. Out: shapes and rows. Pure.

Everything the dashboard knows of a KPI is written here, by the flow that made it: name, aggregate, unit, window, groups.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from heapq import nsmallest
from itertools import islice
from math import isfinite
from typing import Any, NamedTuple

from serve.avro_types import bounded, is_bars, is_text
from serve.kinds import TUMBLING, Bounds, Kind, read_kind

Bars = tuple[tuple[str, float], ...]  # label -> value, in the order in which they are drawn
Value = float | str | Bars | None
LABEL = 80  # characters of a group value
MOST_BARS = 20  # of a map, which has no order: the largest
MOST_LISTED = 101  # of an array, which has: a histogram of 100 edges has as many bins
MOST_EXACT = 1_000_000_000
DOC = 300  # characters of a text that describes
CLOSED_BY = {it: it for it in ("data", "idle", "repair")}  # one text for all rows: each of its own takes 53 bytes
ACTING = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Group(NamedTuple):
    """The values a row is grouped by: `by` the paths of its group set, `values` one for each. Both empty: the total."""

    by: tuple[str, ...] = ()
    values: tuple[str | None, ...] = ()


TOTAL = Group()


class Row(NamedTuple):
    """One KPI row: a group in the window [start_ms, end_ms), as it was known at `revision`. `values`: one for each KPI of the shape."""

    group: Group
    start_ms: int
    end_ms: int
    events: int
    revision: int
    final: bool
    closed_by: str | None
    values: tuple[Value, ...]

    @property
    def bounds(self) -> Bounds:
        """Start and end of its window; no two rows of a group have the same."""
        return self.start_ms, self.end_ms


OPEN, IDLE = "provisional", "final, closed by idle"  # what `state` says of rows that look different on a chart


def state(row: Row) -> str:
    """Whether a row is final, and what closed its window, in the words of tooltips and tables."""
    return {"idle": IDLE, "repair": "final, repaired"}.get(row.closed_by or "", "final") if row.final else OPEN


@dataclass(frozen=True, slots=True)
class Kpi:
    """One KPI field: its name in the schema, and what it is. `quantile`: its q, of a `family` of several. `bars`: its values are many.

    `text`: its values are words or moments, for which a chart has no place. `error`: how far a value may be off, as a share; as long as
    there are no more than `exact_up_to` different ones it is exact.
    """

    name: str
    aggregate: str
    of: str
    unit: str
    quantile: float | None = None
    family: str = ""
    bars: bool = False
    doc: str = ""
    error: float = 0.0
    exact_up_to: int = 0
    text: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """One KPI topic: its source topic, its window and what its rows hold. `fields`: the field that holds each group path."""

    topic: str
    window: str
    size_ms: int
    kpis: tuple[Kpi, ...]
    fields: Mapping[str, str] = dataclasses.field(hash=False)
    schema_id: int = 0
    doc: str = ""
    kind: Kind = TUMBLING

    @property
    def spoken(self) -> str:
        """What people call its windows."""
        return self.kind.words(self.size_ms, self.window)

    @property
    def spacing_ms(self) -> int:
        """From one window to the next, about; of sessions at least."""
        return self.kind.spacing_ms(self.size_ms)


def read_shape(text: str, schema_id: int = 0) -> Shape | None:
    """The shape that a value schema describes; None for a schema that is not a KPI topic's.

    >>> read_shape('{"type": "record", "name": "x", "fields": []}') is None
    True
    """
    schema = json.loads(text)
    about = schema.get("kpi") if isinstance(schema, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("size_ms"), int):
        return None
    if not all(bounded(field["type"]) for field in schema["fields"]):
        return None
    kpis, fields = [], {}
    for field in schema["fields"]:
        if isinstance(said := field.get("kpi"), dict):
            kpis.append(_kpi(field, said))
        elif "group" in field:
            fields[str(field["group"])] = field["name"]
    topic, window = str(about.get("topic")), str(about.get("window"))
    return Shape(topic, window, about["size_ms"], tuple(kpis), fields, schema_id, _doc(schema), read_kind(about))


def _kpi(field: Mapping[str, Any], said: Mapping[str, Any]) -> Kpi:
    aggregate, of, unit, family = (str(said.get(name) or "") for name in ("aggregate", "of", "unit", "family"))
    q = said.get("q")
    quantile = float(q) if isinstance(q, int | float) and not isinstance(q, bool) and 0 <= q <= 1 else None
    error, exact = (
        it if isinstance(it, int | float) and not isinstance(it, bool) else 0 for it in (said.get("error"), said.get("exact_up_to"))
    )
    bound = (float(error) if 0 < error < 1 else 0.0, int(exact) if 0 < exact < MOST_EXACT else 0)
    return Kpi(field["name"], aggregate, of, unit, quantile, family, is_bars(field["type"]), _doc(field), *bound, is_text(field["type"]))


def _doc(said: Mapping[str, Any]) -> str:
    doc = said.get("doc")
    return visible(" ".join(doc[: 2 * DOC].split()))[:DOC] if isinstance(doc, str) else ""


def plain(text: str) -> dict[str, Any]:
    """The schema without the logical types of the window's bounds, so that they are read as the integers they are (ms)."""
    schema: dict[str, Any] = json.loads(text)
    fields = [{**field, "type": "long"} if field["name"] in {"window_start", "window_end"} else field for field in schema["fields"]]
    return {**schema, "fields": fields}


def read_row(shape: Shape, value: Mapping[str, object]) -> Row:
    """A decoded value as a row. Raises KeyError or ValueError for one that is not what its schema promised."""
    by = tuple(path for path in str(value["group_by"]).split(",") if path)
    own = (value.get(shape.fields.get(path, path)) for path in by)
    group = Group(by, tuple(None if it is None else str(it) for it in own))  # whole: two long ones may differ only at their end
    start_ms, end_ms, events, revision = (_integer(value[name]) for name in ("window_start", "window_end", "events", "revision"))
    values = tuple(bars(value.get(kpi.name)) if kpi.bars else shown(value.get(kpi.name)) for kpi in shape.kpis)
    closed_by = _text(value.get("closed_by"))
    return Row(group, start_ms, end_ms, events, revision, bool(value["final"]), CLOSED_BY.get(closed_by or "", closed_by), values)


def shown(value: object) -> Value:
    """A KPI's value as it is shown: what can be drawn is a float, anything else visible text; None where there is none.

    >>> shown(Decimal("1.50")), shown(True), shown(float("nan")), shown("Berlin")
    (1.5, 1.0, None, 'Berlin')
    """
    if isinstance(value, int | float | Decimal):
        number = float(value)
        return number if isfinite(number) else None
    if isinstance(value, Mapping | list):
        return None
    return visible(text) if (text := _text(value)) else text


def bars(value: object) -> Bars | None:
    """Many values as labels and numbers: an array's first ones in their order, a map's largest, equal ones by name.

    What is no finite number is left out, no label is there twice.

    >>> bars({"DE": 3, "FR": 12, "": 3, "IT": float("nan")}), bars([{"bin": "< 10", "events": 1}, {"bin": "≥ 10", "events": 12}])
    ((('FR', 12.0), ('(empty)', 3.0), ('DE', 3.0)), (('< 10', 1.0), ('≥ 10', 12.0)))
    """
    if not isinstance(value, Mapping | list):
        return None
    pairs = value.items() if isinstance(value, Mapping) else map(_pair, value)
    known = ((str(name), number) for name, it in pairs if isinstance(number := shown(it), float))
    ordered = islice(known, MOST_LISTED) if isinstance(value, list) else nsmallest(MOST_BARS, known, key=lambda pair: (-pair[1], pair[0]))
    labels: dict[str, float] = {}
    for name, number in ordered:
        text = label([name])
        labels[text if text not in labels else f"{text} ({len(labels) + 1})"] = number
    return tuple(labels.items())


def _pair(record: Mapping[str, object]) -> tuple[object, object]:
    one, other = record.values()
    return (one, other) if isinstance(one, str) else (other, one)


def visible(text: str) -> str:
    r"""Text in which nothing acts on what stands around it: control characters, line ends and marks of direction are spelled out.

    >>> print(visible("a\nb\0"), visible("\u202e"))
    a\nb\x00 \u202e
    """
    return ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def label(values: Sequence[str | None]) -> str:
    """A group's values for people; of a long one its beginning and its end, where its hash is.

    >>> label(["DE", None]), label([]), len(label(["x" * 1_000]))
    ('DE · none', 'total', 81)
    """
    return " · ".join("none" if value is None else _short(visible(value)) or "(empty)" for value in values) or "total"


def _short(text: str) -> str:
    return text if len(text) <= LABEL else f"{text[: LABEL - 10]}…{text[-10:]}"


def _text(value: object) -> str | None:
    return None if value is None else str(value)[:200]


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError(f"got {value!r:.50}, want an integer")  # noqa: TRY004 - bad data is one kind of error
    return value
