"""One message at a time: what is read, and every reason for which nothing is."""

import json
import time
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.fields import Schema, SchemaError, read_schema
from flows.message import Malformed, examine
from tests.avro import Shape, broken, examined, read, shapes, write
from tests.batches import varint

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


def schema(*types: Any) -> Schema:
    """A schema with the fields a, b, c, …"""
    fields = [{"name": "abc"[index], "type": declared} for index, declared in enumerate(types)]
    return read_schema(1, json.dumps({"type": "record", "name": "Event", "fields": fields}))


@pytest.mark.parametrize(
    ("declared", "message", "value"),
    [
        ("long", b"\x88" + b"\x80" * 8 + b"\x00", 4),  # longer than need be
        ("long", b"\xff" * 9 + b"\x01", -(1 << 63)),
        ("int", b"\xff\xff\xff\xff\x0f", -(1 << 31)),
        (["null", "long"], b"\x00", None),
        (["null", "long"], b"\x02\x08", 4),
        ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, b"\x02", 1),
        ({"type": "array", "items": "long"}, b"\x04\x02\x04\x02\x06\x00", [1, 2, 3]),  # two blocks
        ({"type": "array", "items": "long"}, b"\x03\x04\x02\x04\x00", [1, 2]),  # a block that says its size
        ({"type": "map", "values": "null"}, b"\x02\x02k\x00", [{"key": "k", "value": None}]),
        (DECIMAL, b"\x00", 0),
        (DECIMAL, b"\x04\x27\x0f", 9999),
        (DECIMAL, varint(64) + b"\xff" * 64, -1),
        ({"type": "record", "name": "Empty", "fields": []}, b"", {}),
    ],
)
def test_what_the_specification_allows_is_read(declared: Any, message: bytes, value: Any) -> None:
    assert examine(schema(declared), message) == {"a": value}


@pytest.mark.parametrize(
    ("declared", "message", "error"),
    [
        ("long", b"", "truncated"),
        ("long", b"\x80", "truncated"),
        ("long", b"\x02\x00", "1 bytes left over"),
        ("long", b"\x80" * 10 + b"\x00", "more than ten bytes"),
        ("long", b"\x80" * 9 + b"\x02", "more than 64 bits"),
        ("int", varint(1 << 31), "2147483648 is not in"),
        ("int", varint(1 << 40), "1099511627776 is not in"),
        (["null", "long"], b"\x04\x08", "2 is not in 0 to 1"),
        (["null", "long"], b"\x01\x08", "-1 is not in 0 to 1"),
        ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, b"\x04", "2 is not in 0 to 1"),
        ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, b"\x01", "-1 is not in 0 to 1"),
        ("boolean", b"\x02", "a boolean of 2"),
        ("string", b"\x02\xff", "invalid UTF-8"),
        ("string", b"\x06\xed\xa0\x80", "invalid UTF-8"),  # half of a surrogate pair
        ("string", b"\x01", "a length of -1"),
        ("bytes", varint(1 << 40), "truncated"),
        ("double", b"\x00" * 7, "truncated"),
        ({"type": "fixed", "name": "F", "size": 3}, b"ab", "truncated"),
        ({"type": "array", "items": "long"}, varint(30_000_000), "30000000 items in 0 bytes"),
        ({"type": "array", "items": "long"}, varint(-30_000_000) + b"\x00", "30000000 items in 0 bytes"),
        ({"type": "array", "items": "long"}, varint(-(1 << 63)) + b"\x00", "items in 0 bytes"),
        ({"type": "map", "values": "null"}, varint(1 << 62), "items in 0 bytes"),
        ({"type": "array", "items": "long"}, b"\x02\x02", "truncated"),  # without an end
        (NODE, b"\x02" * 1_500 + b"\x00", "nested deeper than 64"),
    ],
)
def test_what_is_none_is_malformed_and_the_error_names_the_field(declared: Any, message: bytes, error: str) -> None:
    with pytest.raises(Malformed, match=error) as raised:
        examine(schema(declared), message)
    assert raised.value.reason == "malformed"
    assert str(raised.value).startswith("a") or "left over" in str(raised.value)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (DECIMAL, b"\x04\x27\x10"),  # 10000
        (DECIMAL, b"\x04\xd8\xf0"),  # -10000
        (DECIMAL, varint(65) + bytes(65)),
        (DECIMAL, varint(1 << 20) + bytes(1 << 20)),
        ({**DECIMAL, "precision": 60}, varint(17) + b"\x7f" + bytes(16)),  # more than a frame can hold
    ],
)
def test_a_decimal_of_too_many_digits_or_bytes_is_out_of_range(declared: Any, message: bytes) -> None:
    started = time.perf_counter()
    with pytest.raises(Malformed) as raised:
        examine(schema(declared), message)
    assert raised.value.reason == "range"
    assert time.perf_counter() - started < 0.1


def test_the_error_names_the_field_with_the_records_around_it() -> None:
    with pytest.raises(Malformed, match=r"^a\.next\.next: 5 is not in 0 to 1$"):
        examine(schema(NODE), b"\x02\x0a")


@pytest.mark.parametrize(("kind", "of", "levels", "opening"), [("array", "items", 63, b"\x02"), ("map", "values", 31, b"\x02\x02k")])
def test_the_deepest_schema_has_messages(kind: str, of: str, levels: int, opening: bytes) -> None:
    declared: Any = "long"
    for _ in range(levels):
        declared = {"type": kind, of: declared}
    examine(schema(declared), opening * levels + b"\x02" + b"\x00" * levels)
    with pytest.raises(SchemaError, match="nested deeper than 64"):
        schema({"type": kind, of: declared})


@settings(deadline=None)
@given(shapes(), st.data())
def test_what_fastavro_writes_is_read_as_fastavro_reads_it(shape: Shape, data: st.DataObject) -> None:
    value = data.draw(shape.values)
    message = write(shape.schema, value)
    found = examine(read_schema(1, json.dumps(shape.schema)), message)
    assert repr(found) == repr(examined(shape.schema, read(shape.schema, message)))  # (as NaN is not NaN)


@settings(deadline=None)
@given(shapes(), st.data(), st.randoms(use_true_random=False))
def test_what_fastavro_refuses_is_malformed(shape: Shape, data: st.DataObject, rnd: Random) -> None:
    message = broken(write(shape.schema, data.draw(shape.values)), rnd)
    try:
        read(shape.schema, message)
    except Exception:  # noqa: BLE001 - whatever it is that fastavro raises
        with pytest.raises(Malformed):
            examine(read_schema(1, json.dumps(shape.schema)), message)
