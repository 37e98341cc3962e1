"""Schemas as columns: kinds, names, what is refused."""

import json
from contextlib import suppress
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.fields import Leaf, Schema, SchemaError, read_schema
from tests.avro import shapes
from tests.effort import at_most


def record(*types: Any, **more: Any) -> Schema:
    """A schema with the fields a, b, c, …"""
    return read_schema(1, json.dumps(_record(*types, **more)))


def _record(*types: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Event", "fields": [{"name": "abcdefgh"[i], "type": t, **more} for i, t in enumerate(types)]}


@pytest.mark.parametrize(
    ("declared", "leaf"),
    [
        ("int", Leaf("a", "integer", pl.Int64())),
        ("long", Leaf("a", "integer", pl.Int64())),
        ("float", Leaf("a", "float", pl.Float64())),
        ("double", Leaf("a", "float", pl.Float64())),
        ("boolean", Leaf("a", "boolean", pl.Boolean())),
        ("string", Leaf("a", "string", pl.String())),
        ("bytes", Leaf("a", "bytes", pl.Binary())),
        (["null", "long"], Leaf("a", "integer", pl.Int64())),
        (["string", "null"], Leaf("a", "string", pl.String())),
        (["double"], Leaf("a", "float", pl.Float64())),
        ({"type": "string", "logicalType": "uuid"}, Leaf("a", "string", pl.String())),
        ({"type": "fixed", "name": "F", "size": 3}, Leaf("a", "bytes", pl.Binary())),
        ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, Leaf("a", "enum", pl.String(), symbols=("X", "Y"))),
        ({"type": "long", "logicalType": "timestamp-millis"}, Leaf("a", "time", pl.Int64(), unit_ns=1_000_000)),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, Leaf("a", "time", pl.Int64(), unit_ns=1_000)),
        ({"type": "long", "logicalType": "timestamp-nanos"}, Leaf("a", "time", pl.Int64(), unit_ns=1)),
        ({"type": "long", "logicalType": "timestamp-micros"}, Leaf("a", "time", pl.Int64(), unit_ns=1_000)),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, Leaf("a", "time", pl.Int64(), unit_ns=1_000_000)),
        ({"type": "long", "logicalType": "local-timestamp-nanos"}, Leaf("a", "time", pl.Int64(), unit_ns=1)),
        ({"type": "int", "logicalType": "date"}, Leaf("a", "date", pl.Date())),
        ({"type": "long", "logicalType": "date"}, Leaf("a", "integer", pl.Int64())),  # only an int can be one
        ({"type": "int", "logicalType": "time-millis"}, Leaf("a", "daytime", pl.Time(), unit_ns=1_000_000)),
        ({"type": "long", "logicalType": "time-micros"}, Leaf("a", "daytime", pl.Time(), unit_ns=1_000)),
        ({"type": "int", "logicalType": "time-micros"}, Leaf("a", "integer", pl.Int64())),
        ({"type": "fixed", "name": "F", "size": 16, "logicalType": "uuid"}, Leaf("a", "uuid", pl.String())),
        ({"type": "fixed", "name": "F", "size": 15, "logicalType": "uuid"}, Leaf("a", "bytes", pl.Binary())),
        ({"type": "fixed", "name": "F", "size": 12, "logicalType": "duration"}, Leaf("a", "bytes", pl.Binary())),
        ({"type": "bytes", "logicalType": "big-decimal"}, Leaf("a", "bytes", pl.Binary())),
        (["null", "int", "long"], Leaf("a", "integer", pl.Int64())),
        (["int", "null", "float"], Leaf("a", "float", pl.Float64())),
        (["long", {"type": "double", "logicalType": "of-our-own"}], Leaf("a", "float", pl.Float64())),
        ({"type": "int", "logicalType": "timestamp-millis"}, Leaf("a", "integer", pl.Int64())),  # only a long can be one
        ({"type": "long", "logicalType": "of-our-own"}, Leaf("a", "integer", pl.Int64())),
        ({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, Leaf("a", "decimal", pl.Decimal(38, 2), scale=2)),
        ({"type": "fixed", "name": "F", "size": 4, "logicalType": "decimal", "precision": 9}, Leaf("a", "decimal", pl.Decimal(38, 0))),
        ({"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 50}, Leaf("a", "bytes", pl.Binary())),
    ],
)
def test_each_avro_type_is_a_column_of_one_kind(declared: Any, leaf: Leaf) -> None:
    assert dict(record(declared).leaves) == {"a": leaf}


def test_what_holds_many_values_or_several_types_is_no_column() -> None:
    many = ({"type": "array", "items": "long"}, {"type": "map", "values": "long"}, ["null", "long", "string"], "null", ["null"])
    read = record(*many, "long")
    assert dict(read.leaves) == {"f": Leaf("f", "integer", pl.Int64())}
    assert list(read.barred.values()) == ["an array", "a map", "a union of long and string", "null", "null"]


def test_fields_of_nested_records_are_columns_with_dotted_names_in_the_order_of_the_schema() -> None:
    inner = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}, {"name": "zip", "type": ["null", "int"]}]}
    assert list(record("long", ["null", inner], "Address").leaves) == ["a", "b.city", "b.zip", "c.city", "c.zip"]


def test_a_name_may_stand_for_what_another_schema_declares() -> None:
    address = json.dumps({"type": "record", "name": "Address", "namespace": "shop", "fields": [{"name": "city", "type": "string"}]})
    order = json.dumps({"type": "record", "name": "Order", "namespace": "shop", "fields": [{"name": "to", "type": "shop.Address"}]})
    assert list(read_schema(1, order, [address]).leaves) == ["to.city"]
    with pytest.raises(SchemaError, match=r"schema 1: does not parse.*shop\.Address"):
        read_schema(1, order)


def test_aliases_of_every_part_of_a_path_are_former_paths() -> None:
    inner = {"type": "record", "name": "I", "fields": [{"name": "c", "type": "int", "aliases": ["d"]}]}
    assert record(inner, aliases=["b"]).leaves["a.c"].aliases == ("a.d", "b.c", "b.d")


def test_the_text_of_a_field_is_kept() -> None:
    assert record("long", doc="what is paid").leaves["a"].doc == "what is paid"


def test_a_recursive_record_has_the_columns_outside_of_its_recursion() -> None:
    inner = {"type": "record", "name": "Node", "fields": [{"name": "value", "type": "long"}, {"name": "next", "type": ["null", "Node"]}]}
    read = record("long", inner)
    assert list(read.leaves) == ["a", "b.value"]
    assert set(read.names) == {"Node"}
    assert dict(read.barred) == {"b.next": "a record inside of itself, Node"}


def test_what_has_no_column_is_said_by_the_names_of_its_branches() -> None:
    card = {"type": "record", "name": "Card", "namespace": "shop", "fields": [{"name": "last4", "type": "string"}]}
    cash = {"type": "record", "name": "Cash", "namespace": "shop", "fields": [{"name": "due", "type": "long"}]}
    day = {"type": "int", "logicalType": "date"}
    barred = record(["null", card, cash], ["shop.Card", "string", "null"], ["null", "double", day]).barred
    assert list(barred.values()) == ["a union of shop.Card and shop.Cash", "a union of shop.Card and string", "a union of double and int"]


@pytest.mark.parametrize("item", ["null", {"type": "record", "name": "Empty", "fields": []}, {"type": "fixed", "name": "Z", "size": 0}])
def test_items_that_take_no_bytes_are_refused(item: Any) -> None:
    with pytest.raises(SchemaError, match="take no bytes"):
        record({"type": "array", "items": item})


def test_a_map_of_nulls_is_none_of_them_as_its_keys_take_bytes() -> None:
    assert record({"type": "map", "values": "null"}).wire.width == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "does not parse"),
        ("{", "does not parse"),
        ('"long"', "want a record"),
        ('["null", "long"]', "want a record"),
        ("[]", "want a record|without branches"),
        ('{"type": "record"}', "does not parse"),
        ('{"type": "record", "name": "A", "fields": [{"name": "a", "type": "unheard"}]}', "does not parse"),
        (
            '{"type": "record", "name": "A", "fields": [{"name": "a", "type": {"type": "fixed", "name": "F", "size": -1}}]}',
            "a fixed of -1 bytes",
        ),
        (
            '{"type": "record", "name": "A", "fields": [{"name": "a", "type": {"type": "fixed", "name": "F", "size": "x"}}]}',
            "does not parse",
        ),
        (" " * (1 << 20) + "{}", "want at most"),
    ],
)
def test_what_is_no_record_schema_is_refused_with_its_id(text: str, error: str) -> None:
    with pytest.raises(SchemaError, match=f"^schema 12: .*({error})"):
        read_schema(12, text)


def test_types_nested_deeper_than_64_are_refused_before_they_are_parsed() -> None:
    def nested(depth: int) -> str:
        return json.dumps(_record("HERE")).replace('"HERE"', '{"type": "array", "items": ' * depth + '"long"' + "}" * depth)

    assert read_schema(1, nested(63)).wire.fields[0][1].type == "array"
    for depth in (64, 1_500, 20_000):
        with pytest.raises(SchemaError, match="nested deeper than 64"):
            read_schema(1, nested(depth))


def test_brackets_in_a_text_are_no_nesting() -> None:
    assert record("long", doc='[{"\\' * 500).leaves["a"].doc.startswith('[{"')


def test_names_that_double_at_each_use_are_refused_at_once() -> None:
    doubled = "long"
    for level in range(60):
        twice = [{"name": "a", "type": doubled}, {"name": "b", "type": f"R{level - 1}" if level else "long"}]
        doubled = {"type": "record", "name": f"R{level}", "fields": twice}  # type: ignore[assignment]
    with at_most(1), pytest.raises(SchemaError, match="more than 10000 types"):
        read_schema(1, json.dumps(doubled))


@settings(deadline=None)
@given(shapes().map(lambda shape: json.dumps(shape.schema)), st.data())
def test_a_broken_schema_is_refused_and_nothing_else(text: str, data: st.DataObject) -> None:
    tokens = [
        "null",
        "record",
        "fixed",
        "enum",
        "size",
        "-1",
        "{}",
        "[]",
        '"items"',
        "1e9",
        "decimal",
        '"scale": 99, "size"',
        '"R0"',
        "\u0000",
        "true",
    ]
    at = data.draw(st.integers(0, len(text)))
    broken = text[:at] + data.draw(st.sampled_from(tokens)) + text[at + data.draw(st.integers(0, 12)) :]
    with suppress(SchemaError):
        read_schema(1, broken)
