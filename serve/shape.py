"""What a KPI topic's value schema says about its rows. In: schema texts, decoded values. Out: shapes and rows. Pure.

Everything the dashboard knows of a KPI is written here, by the flow that made it: name, aggregate, unit, window, groups.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Any, NamedTuple

Value = float | str | None
LABEL = 80  # characters of a group value
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


@dataclass(frozen=True, slots=True)
class Kpi:
    """One KPI field: its name in the schema, and what it is."""

    name: str
    aggregate: str
    of: str
    unit: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One KPI topic: its source topic, its window and what its rows hold. `fields`: the field that holds each group path."""

    topic: str
    window: str
    size_ms: int
    kpis: tuple[Kpi, ...]
    fields: Mapping[str, str]
    schema_id: int = 0


def read_shape(text: str, schema_id: int = 0) -> Shape | None:
    """The shape that a value schema describes; None for a schema that is not a KPI topic's.

    >>> read_shape('{"type": "record", "name": "x", "fields": []}') is None
    True
    """
    schema = json.loads(text)
    about = schema.get("kpi") if isinstance(schema, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("size_ms"), int):
        return None
    kpis, fields = [], {}
    for field in schema["fields"]:
        if isinstance(said := field.get("kpi"), dict):
            kpis.append(Kpi(field["name"], *(str(said.get(name) or "") for name in ("aggregate", "of", "unit"))))
        elif "group" in field:
            fields[str(field["group"])] = field["name"]
    return Shape(str(about.get("topic")), str(about.get("window")), about["size_ms"], tuple(kpis), fields, schema_id)


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
    values = tuple(shown(value.get(kpi.name)) for kpi in shape.kpis)
    return Row(group, start_ms, end_ms, events, revision, bool(value["final"]), _text(value.get("closed_by")), values)


def shown(value: object) -> Value:
    """A KPI's value as it is shown: what can be drawn is a float, anything else visible text; None where there is none.

    >>> shown(Decimal("1.50")), shown(True), shown(float("nan")), shown("Berlin")
    (1.5, 1.0, None, 'Berlin')
    """
    if isinstance(value, int | float | Decimal):
        number = float(value)
        return number if isfinite(number) else None
    return visible(text) if (text := _text(value)) else text


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
