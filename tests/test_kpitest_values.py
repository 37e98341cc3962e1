"""What people write becomes what Avro has, or one line that says what is wrong."""

import io
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpitest.errors import WrongEventError
from kpitest.values import avro_value, moment_ms

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
PRICE = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
FIELDS = {
    "at": MICROS,
    "day": {"type": "int", "logicalType": "date"},
    "price": PRICE,
    "note": ["null", "string"],
    "kind": {"type": "enum", "name": "Kind", "symbols": ["NEW", "OLD"]},
    "number": "int",
    "weight": "double",
    "paid": "boolean",
    "tags": {"type": "map", "values": "string"},
    "parts": {"type": "array", "items": {"type": "record", "name": "Part", "fields": [{"name": "name", "type": "string"}]}},
    "next": ["null", "Part"],
    "either": ["null", "long", "string"],
}
TEXT = st.text(st.characters(codec="utf-8"), max_size=9)
VALUES = st.fixed_dictionaries(
    {
        "at": st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds of aware ones
        "day": st.dates(date(1900, 1, 1), date(2100, 1, 1)),
        "price": st.decimals(-9999, 9999, places=2),
        "note": st.none() | TEXT,
        "kind": st.sampled_from(["NEW", "OLD"]),
        "number": st.integers(-(2**31), 2**31 - 1),
        "weight": st.floats(allow_nan=False),
        "paid": st.booleans(),
        "tags": st.dictionaries(TEXT, TEXT, max_size=3),
        "parts": st.lists(st.fixed_dictionaries({"name": TEXT}), max_size=3),
        "next": st.none() | st.fixed_dictionaries({"name": TEXT}),
        "either": st.none() | st.integers(0, 2**40) | TEXT,
    }
)


def parsed(fields: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    named: dict[str, Any] = {}
    text = json.dumps({"type": "record", "name": "Event", "fields": [{"name": name, "type": it} for name, it in fields.items()]})
    return fastavro.parse_schema(json.loads(text), named_schemas=named), named


def as_people_write(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


@settings(deadline=None)
@given(VALUES)
def test_what_is_written_is_what_avro_reads_again(value: dict[str, Any]) -> None:
    schema, named = parsed(FIELDS)
    made = avro_value(schema, json.loads(json.dumps({name: as_people_write(it) for name, it in value.items()})), named)
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, schema, made)
    buffer.seek(0)
    assert fastavro.schemaless_reader(buffer, schema, None) == value


@pytest.mark.parametrize(
    ("avro", "value", "said"),
    [
        ("int", "3", "f: got '3', want a whole number"),
        ("int", True, "f: got True, want a whole number"),
        ("int", 2**31, "f: got 2147483648, want a whole number of 32 bits"),
        ("long", 1.5, "f: got 1.5, want a whole number"),
        ("boolean", 1, "f: got 1, want true or false"),
        ("string", 1, "f: got 1, want text"),
        ("double", "1", "f: got '1', want a number"),
        (PRICE, "12.505", "f: got '12.505', want at most 2 digits behind the point"),
        (PRICE, "12345.00", "f: got '12345.00', want at most 6 digits"),
        (PRICE, "much", "f: got 'much', want a decimal such as \"12.50\""),
        (MICROS, "noon", "f: got 'noon', want a time such as \"2026-11-26T10:00:00Z\""),
        ({"type": "enum", "name": "K", "symbols": ["WEB", "APP"]}, "WEP", "f: got 'WEP', want one of WEB, APP (did you mean 'WEB'?)"),
        (["null", "int"], "3", "f: got '3', want a whole number"),
        ({"type": "array", "items": "int"}, [1, "2"], "f[1]: got '2', want a whole number"),
        ({"type": "fixed", "name": "F", "size": 2}, "abc", "f: got 'abc', want text of 2 bytes"),
    ],
)
def test_a_value_that_does_not_fit_says_where_and_what_is_wanted(avro: object, value: object, said: str) -> None:
    schema, named = parsed({"f": avro})
    with pytest.raises(WrongEventError) as refused:
        avro_value(schema, {"f": value}, named)
    assert str(refused.value) == said


def test_a_field_that_is_not_there_says_the_nearest_and_one_that_is_missing_its_name() -> None:
    schema, named = parsed({"total": "int", "inner": {"type": "record", "name": "I", "fields": [{"name": "city", "type": "string"}]}})
    with pytest.raises(WrongEventError, match=r"^totl: no such field, want one of total, inner \(did you mean 'total'\?\)$"):
        avro_value(schema, {"totl": 1}, named)
    with pytest.raises(WrongEventError, match=r"^inner\.city: missing, and the schema has no default for it$"):
        avro_value(schema, {"total": 1, "inner": {}}, named)


@settings(deadline=None)
@given(st.integers(0, 4_102_444_800_000), st.integers(-720, 720))
def test_a_moment_is_the_same_in_every_zone(time_ms: int, offset_min: int) -> None:
    moment = EPOCH + timedelta(milliseconds=time_ms)
    assert moment_ms(time_ms) == moment_ms(moment) == moment_ms(moment.isoformat()) == time_ms
    local = moment.replace(tzinfo=None) + timedelta(minutes=offset_min)
    sign, minutes = "-" if offset_min < 0 else "+", abs(offset_min)
    assert moment_ms(f"{local.isoformat()}{sign}{minutes // 60:02}:{minutes % 60:02}") == time_ms
