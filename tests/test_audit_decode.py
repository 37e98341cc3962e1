"""Two programs read the same fields of two versions of a schema: renamed, promoted, changed to types of no use."""

import json
from typing import Any

import fastavro
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.decode import Said, decode, reading
from audit.gather import Source
from flows import wire
from flows.declaration import parse
from flows.errors import ConfigError
from flows.fields import Schema, SchemaError, read_schema
from tests.batches import batch, confluent

LONGS = st.integers(-(1 << 63), (1 << 63) - 1)
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": ("int", st.integers(-(1 << 31), (1 << 31) - 1)),
    "long": ("long", LONGS),
    "float": ("float", st.floats(width=32)),
    "double": ("double", st.floats()),
    "boolean": ("boolean", st.booleans()),
    "string": ("string", st.text()),
    "bytes": ("bytes", st.binary(max_size=4) | st.text().map(str.encode)),
    "fixed": ({"type": "fixed", "name": "F", "size": 3}, st.binary(min_size=3, max_size=3)),
    "enum": ({"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")),
    "cents": ({"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}, st.decimals(-99, 99, places=2)),
    "mills": ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 3}, st.decimals(-99, 99, places=3)),
    "millis": ({"type": "long", "logicalType": "timestamp-millis"}, LONGS),
    "micros": ({"type": "long", "logicalType": "timestamp-micros"}, LONGS),
    "date": ({"type": "int", "logicalType": "date"}, st.integers(-(1 << 31), (1 << 31) - 1)),
    "time-millis": ({"type": "int", "logicalType": "time-millis"}, st.integers(-1, 86_400_000)),
    "time-micros": ({"type": "long", "logicalType": "time-micros"}, st.integers(-1, 86_400_000_000) | LONGS),
    "uuid": ({"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}, st.binary(min_size=16, max_size=16)),
    "whole": (["int", "long"], LONGS),
    "numbers": (["long", "double"], LONGS | st.floats()),
    "record": ({"type": "record", "name": "R", "fields": [{"name": "x", "type": "long"}]}, st.fixed_dictionaries({"x": LONGS})),
    "array": ({"type": "array", "items": "long"}, st.lists(LONGS, max_size=2)),
}
UNCOUNTED = {"record", "array"}
OLD = '[topics.t]\n[topics.t.kpis]\nold = { count = "old" }\n'
BOTH = OLD + 'new = { count = "new" }\n'


def version(number: int, name: str, kind: str, alias: str | None) -> Schema:
    declared = KINDS[kind][0]
    union = ["null", *declared] if isinstance(declared, list) else ["null", declared]
    field = {"name": name, "type": union, **({"aliases": [alias]} if alias else {})}
    return read_schema(number, json.dumps({"type": "record", "name": "V", "fields": [field]}))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(KINDS)), st.booleans(), st.data())
def test_a_field_that_was_renamed_or_changed_is_read_as_the_flow_reads_it(before: str, after: str, renamed: bool, data: Any) -> None:
    schemas = {1: version(1, "old", before, None), 2: version(2, "new" if renamed else "old", after, "old" if renamed else None)}
    values = []
    for number, kind in ((1, before), (2, after)):
        (field,) = schemas[number].parsed["fields"]
        plain = fastavro.parse_schema(_undated(json.loads(schemas[number].text)))
        drawn = data.draw(st.lists(st.none() | KINDS[kind][1], max_size=4))
        values += [confluent(number, plain, {field["name"]: it}) for it in drawn]
    values = data.draw(st.permutations(values))

    def schema_of(schema_id: int) -> Schema:
        return schemas[schema_id]

    try:
        plan = Source(parse(BOTH if renamed else OLD), "t", schema_of).plan([1, 2])
    except ConfigError:  # no version has a field of that name that can be counted
        assert {before, after} & UNCOUNTED
        return
    assert dict(plan.aliases) == ({"new": ("old",), "old": ("new",)} if renamed else {})
    columns = dict(plan.columns)
    flow = wire.decode([batch([(None, value, 0, ()) for value in values])], columns, schema_of, dict(plan.aliases))
    again = decode(values, Said(), columns, lambda schema_id: reading(schema_of(schema_id), plan))
    assert {it.offset: it.reason for it in flow.rejected} == {row: fate for row, fate in again.select("row", "fate").iter_rows() if fate}
    assert flow.frame.select("__offset", *columns).equals(
        again.filter(pl.col("fate").is_null()).select(pl.col("row").alias("__offset"), *columns)
    )


def _undated(declared: Any) -> Any:
    """Times as the numbers that they are written as; decimals stay."""
    if isinstance(declared, dict):
        return {name: _undated(it) for name, it in declared.items() if name != "logicalType" or it == "decimal"}
    return [_undated(it) for it in declared] if isinstance(declared, list) else declared


def test_where_those_met_lack_a_declared_field_the_other_versions_of_the_subject_help() -> None:
    schemas = {1: version(1, "old", "long", None), 2: version(2, "new", "long", None)}

    def schema_of(schema_id: int) -> Schema:
        if schema_id not in schemas:
            raise SchemaError("none")
        return schemas[schema_id]

    with pytest.raises(ConfigError, match="got 'old'"):
        Source(parse(OLD), "t", schema_of).plan([2])
    assert Source(parse(OLD), "t", schema_of, lambda: {1, 2, 3}).plan([2]).version == (1, 2)
