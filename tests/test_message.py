"""One message at a time: what is read, and every reason for which nothing is."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.fields import Schema, SchemaError, read_schema
from flows.message import Malformed, examine
from tests.avro import MALFORMED, NODE, OUT_OF_RANGE, WELL_FORMED, Shape, broken, examined, read, shapes, write
from tests.effort import at_most


def schema(*types: Any) -> Schema:
    """A schema with the fields a, b, c, …"""
    fields = [{"name": "abc"[index], "type": declared} for index, declared in enumerate(types)]
    return read_schema(1, json.dumps({"type": "record", "name": "Event", "fields": fields}))


@pytest.mark.parametrize(
    ("declared", "message", "value"),
    WELL_FORMED,
)
def test_what_the_specification_allows_is_read(declared: Any, message: bytes, value: Any) -> None:
    assert examine(schema(declared), message) == {"a": value}


@pytest.mark.parametrize(
    ("declared", "message", "error"),
    MALFORMED,
)
def test_what_is_none_is_malformed_and_the_error_names_the_field(declared: Any, message: bytes, error: str) -> None:
    with pytest.raises(Malformed, match=error) as raised:
        examine(schema(declared), message)
    assert raised.value.reason == "malformed"
    assert str(raised.value).startswith("a") or "left over" in str(raised.value)


@pytest.mark.parametrize(
    ("declared", "message"),
    OUT_OF_RANGE,
)
def test_a_decimal_of_too_many_digits_or_bytes_is_out_of_range(declared: Any, message: bytes) -> None:
    with at_most(0.1), pytest.raises(Malformed) as raised:
        examine(schema(declared), message)
    assert raised.value.reason == "range"


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
