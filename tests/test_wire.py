"""Record batches to frames: the same verdict and the same values for a message wherever it lies, however many there are."""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Context, Decimal
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import columns as leaves
from flows.cursor import Columns, Cursor
from flows.cursor import read as read_all
from flows.expressions import evaluate
from flows.fields import Leaf, Schema, SchemaError, read_schema
from flows.message import Malformed, examine
from flows.wire import Decoded, RawBatch, RecordError, Rejected, decode, first_schema_ids, original
from tests.avro import MALFORMED, NODE, OUT_OF_RANGE, WELL_FORMED, Shape, broken, look_up, read, shapes, write
from tests.batches import Message, batch, record, varint
from tests.effort import at_most

META = ["__partition", "__offset", "__timestamp", "__batch", "__at"]
_EXACT = Context(prec=100)
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "country", "type": ["null", "string"]},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]}},
        {"name": "tags", "type": {"type": "map", "values": "long"}},
        {"name": "buyer", "type": ["null", {"type": "record", "name": "Buyer", "fields": [{"name": "age", "type": ["int", "null"]}]}]},
        {"name": "paid", "type": "boolean"},
    ],
}
ROW = {
    "placed_at": -1,
    "country": "DE",
    "total": b"\x04\xd2",
    "channel": "APP",
    "tags": {"a": 1, "b": 2},
    "buyer": {"age": 7},
    "paid": True,
}


def schema(*types: Any, names: Sequence[str] = "abc", id: int = 7) -> Schema:  # noqa: A002
    """A schema with the fields a, b, c."""
    fields = [{"name": name, "type": declared} for name, declared in zip(names, types, strict=False)]
    return read_schema(id, json.dumps({"type": "record", "name": "Event", "fields": fields}))


def framed(message: bytes, schema_id: int = 7) -> bytes:
    return b"\x00" + schema_id.to_bytes(4, "big") + message


def all_of(read: Schema) -> dict[str, pl.DataType]:
    return {path: leaf.dtype for path, leaf in read.leaves.items()}


def decoded(read: Schema, *messages: bytes, columns: dict[str, pl.DataType] | None = None) -> Decoded:
    """One batch of messages of one schema; all columns unless some are given."""
    values: list[Message] = [(None, framed(message, read.id), 1_000 + index, ()) for index, message in enumerate(messages)]
    return decode([batch(values)], all_of(read) if columns is None else columns, lambda _: read)


def test_an_event_is_a_row_and_its_batch_says_where_it_stands() -> None:
    order = read_schema(7, json.dumps(ORDER))
    value = framed(write(ORDER, ROW))
    empty = framed(write(ORDER, {**ROW, "country": None, "channel": "WEB", "buyer": None, "paid": False, "placed_at": 1_999}))
    batches = [
        batch([(b"k1", value, 50, [("h", b"v")]), (None, empty, 49, ())], partition=3, base_offset=100),
        batch([(b"k2", empty, 60, [("h", None)] * 70)], partition=1, base_offset=7),
        batch([], partition=1, base_offset=6),
    ]
    frame = decode(batches, all_of(order), lambda _: order).frame
    assert frame.rows() == [
        (1, 7, 60, 1, 0, 1, None, Decimal("12.34"), "WEB", None, False),
        (3, 100, 50, 0, 0, -1, "DE", Decimal("12.34"), "APP", 7, True),
        (3, 101, 49, 0, frame["__at"][2], 1, None, Decimal("12.34"), "WEB", None, False),
    ]
    assert frame.schema == {
        "__partition": pl.Int32,
        "__offset": pl.Int64,
        "__timestamp": pl.Int64,
        "__batch": pl.Int32,
        "__at": pl.Int64,
        "placed_at": pl.Int64,
        "country": pl.String,
        "total": pl.Decimal(38, 2),
        "channel": pl.String,
        "buyer.age": pl.Int64,
        "paid": pl.Boolean,
    }
    assert [original(batches, *place) for place in frame.select("__batch", "__at").rows()] == [
        (b"k2", empty),
        (b"k1", value),
        (None, empty),
    ]


def test_without_batches_the_frame_has_its_columns_all_the_same() -> None:
    found = decode([], {"a": pl.Decimal(38, 2)}, lambda _: pytest.fail("there is no schema to ask for"))
    assert (found.frame.columns, found.frame.height, found.rejected) == ([*META, "a"], 0, [])


def test_each_message_that_is_no_event_has_one_reason_and_its_neighbours_are_unharmed() -> None:
    decimal = schema({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0})
    values = [None, b"", b"\0\0\0\0", b"{json}", framed(b"\x02\x05", 8), framed(b"\x02"), framed(b"\x02\x64"), framed(b"\x02\x05")]

    def schema_of(schema_id: int) -> Schema:
        if schema_id == 8:
            raise SchemaError("unheard of")
        return decimal

    raw = batch([(b"k%d" % index, value, index, ()) for index, value in enumerate(values)], partition=2, base_offset=10)
    found = decode([raw], all_of(decimal), schema_of)
    assert found.frame.select("__offset", "a").rows() == [(17, Decimal(5))]
    assert found.rejected == [
        Rejected(2, 10, 0, b"k0", None, "tombstone", "no value", None),
        Rejected(2, 11, 1, b"k1", b"", "short", "a value of less than five bytes", None),
        Rejected(2, 12, 2, b"k2", b"\0\0\0\0", "short", "a value of less than five bytes", None),
        Rejected(2, 13, 3, b"k3", b"{json}", "magic", "the first byte is not 0", None),
        Rejected(2, 14, 4, b"k4", values[4], "schema", "unheard of", 8),
        Rejected(2, 15, 5, b"k5", values[5], "malformed", "a: truncated: want 1 bytes, 0 are left", 7),
        Rejected(2, 16, 6, b"k6", values[6], "range", "a: a decimal of more than 2 digits", 7),
    ]


def test_five_bytes_are_an_event_of_a_record_without_fields() -> None:
    assert len(decoded(schema(), b"").frame) == 1


def test_a_schema_is_asked_for_once_and_its_own_failures_pass_through_before_anything_is_decoded() -> None:
    asked: list[int] = []

    def schema_of(schema_id: int) -> Schema:
        asked.append(schema_id)
        if schema_id == 9:
            raise ConnectionError("away")
        return schema("long")

    raw = batch([(None, framed(b"\x02", schema_id), 0, ()) for schema_id in (7, 8, 7, 7, 8)])
    assert len(decode([raw, raw._replace(partition=1)], {}, schema_of).frame) == 10
    assert sorted(asked) == [7, 8]
    with pytest.raises(ConnectionError, match="away"):
        decode([batch([(None, framed(b"\x02", schema_id), 0, ()) for schema_id in (7, 9)])], {}, schema_of)


def test_keys_in_avro_are_never_read_and_stay_as_they_are() -> None:
    """Magic byte, another schema's id, a record; also a key that is cut off, or whose id nobody knows."""
    keys = [framed(b"\x02", 9), framed(b"", 9), b"\0\0", framed(b"\x02\x04", 1 << 31), None]
    raw = batch([(key, value, 0, ()) for value in (framed(b"\x02"), framed(b"\x80")) for key in keys])

    def schema_of(schema_id: int) -> Schema:
        assert schema_id == 7, "a key was read"
        return schema("long")

    found = decode([raw], {"a": pl.Int64()}, schema_of)
    assert [original([raw], *place) for place in found.frame.select("__batch", "__at").rows()] == [(key, framed(b"\x02")) for key in keys]
    assert [(r.key, r.value) for r in found.rejected] == [(key, framed(b"\x80")) for key in keys]


def test_offsets_may_have_gaps() -> None:
    raw = batch([(None, framed(b"\x02"), 0, ())] * 3, base_offset=5, offsets=[6, 9, 200])
    assert decode([raw], {}, lambda _: schema("long")).frame["__offset"].to_list() == [6, 9, 200]


def test_the_brokers_own_time_is_the_timestamp_of_all_records_of_its_batch() -> None:
    raw = batch([(None, framed(b"\x02"), at, ()) for at in (5, 6)])._replace(append_time=99)
    assert decode([raw], {}, lambda _: schema("long")).frame["__timestamp"].to_list() == [99, 99]


def test_versions_of_a_schema_meet_in_one_frame_in_the_order_of_offsets() -> None:
    versions = {
        7: schema("int", "string", id=7),
        8: schema("double", "long", id=8),  # a promoted; b changed to what it cannot be; no c
        9: schema("long", "string", {"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1}, id=9),
        10: schema("long", "string", "long", id=10),
    }
    messages = [(10, b"\x02\x02x\x04"), (8, struct.pack("<d", 1.5) + b"\x02"), (7, b"\x04\x02y"), (9, b"\x06\x02z\x02\x0f")]
    raw = batch([(None, framed(message, schema_id), 0, ()) for schema_id, message in messages])
    wanted = {"a": pl.Float64(), "b": pl.String(), "c": pl.Decimal(38, 2)}
    frame = decode([raw], wanted, versions.__getitem__).frame
    assert frame.columns == [*META, "a", "b", "c", "__type:b"]
    assert frame.drop(META).rows() == [
        (1.0, "x", Decimal(2), None),
        (1.5, None, None, True),
        (2.0, "y", None, None),
        (3.0, "z", Decimal("1.5"), None),
    ]


@pytest.mark.parametrize(
    ("declared", "message", "wanted"),
    [
        ("double", struct.pack("<d", 1.5), pl.Int64()),
        ("string", b"\x022", pl.Int64()),
        ("long", b"\x02", pl.String()),
        ("boolean", b"\x01", pl.Float64()),
        ({"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 2}, b"\x02\x7b", pl.Decimal(38, 1)),
        ("long", varint(1 << 62), pl.Decimal(38, 30)),
    ],
)
def test_what_cannot_be_promoted_is_null(declared: Any, message: bytes, wanted: pl.DataType) -> None:
    assert decoded(schema(declared), message, columns={"a": wanted}).frame["a"].to_list() == [None]


def test_recursive_events_are_read_as_deep_as_they_may_be() -> None:
    read_ = schema("long", NODE)
    messages = [b"\x02" + b"\x02" * depth + b"\x00" for depth in (0, 1, 30, 31, 1_500)]
    found = decoded(read_, *messages)
    assert found.frame.select("__offset", "a").rows() == [(0, 1), (1, 1), (2, 1)]
    assert [(r.offset, r.error.endswith(": nested deeper than 64")) for r in found.rejected] == [(3, True), (4, True)]


def test_a_renamed_field_is_found_under_its_former_name() -> None:
    found = decode([batch([(None, framed(b"\x02"), 0, ())])], {"new": pl.Int64()}, lambda _: schema("long"), {"new": ("old", "a")})
    assert found.frame["new"].to_list() == [1]


@pytest.mark.parametrize(
    ("declared", "number", "ms"),
    [
        ({"type": "long", "logicalType": "timestamp-millis"}, (1 << 63) - 1, (1 << 63) - 1),
        ({"type": "long", "logicalType": "timestamp-micros"}, -1, -1),
        ({"type": "long", "logicalType": "timestamp-micros"}, 1_999, 1),
        ({"type": "long", "logicalType": "local-timestamp-nanos"}, -1_000_001, -2),
    ],
)
def test_times_are_floored_to_milliseconds(declared: Any, number: int, ms: int) -> None:
    assert decoded(schema(declared), varint(number)).frame["a"].to_list() == [ms]


@pytest.mark.parametrize(
    ("declared", "numbers", "texts"),
    [
        (
            {"type": "int", "logicalType": "date"},
            [0, 20_000, -719_162, 2_932_896],
            ["1970-01-01", "2024-10-04", "0001-01-01", "9999-12-31"],
        ),
        ({"type": "int", "logicalType": "date"}, [-719_163, 2_932_897, -(1 << 31), (1 << 31) - 1], [None] * 4),
        ({"type": "int", "logicalType": "time-millis"}, [0, 30_600_500, 86_399_999], ["00:00:00", "08:30:00.500", "23:59:59.999"]),
        ({"type": "long", "logicalType": "time-micros"}, [1, 86_399_999_999], ["00:00:00.000001", "23:59:59.999999"]),
        ({"type": "long", "logicalType": "time-micros"}, [-1, 86_400_000_000, -(1 << 63), (1 << 63) - 1], [None] * 4),
    ],
)
def test_dates_and_times_of_day_are_text_as_in_iso_8601_and_null_where_there_is_no_such_day(
    declared: Any, numbers: list[int], texts: list[str | None]
) -> None:
    for more in (1, 200):
        frame = decoded(schema(declared), *map(varint, numbers * more)).frame
        assert evaluate(frame, "a", pl.String()).to_list() == texts * more


def test_sixteen_bytes_of_a_uuid_are_its_text() -> None:
    uuid = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
    octets = bytes.fromhex("0123456789abcdef0011223344556677")
    found = decoded(schema(["null", uuid]), b"\x02" + octets, b"\x00", b"\x02" + octets[::-1])
    texts = ["01234567-89ab-cdef-0011-223344556677", None, "77665544-3322-1100-efcd-ab8967452301"]
    assert found.frame["a"].to_list() == texts


def test_a_union_of_numbers_is_one_number() -> None:
    whole = decoded(schema(["int", "null", "long"]), b"\x00\x02", b"\x02", b"\x04" + varint(1 << 62))
    assert whole.frame["a"].to_list() == [1, None, 1 << 62]
    single, double = struct.pack("<f", 0.5), struct.pack("<d", 0.1)
    mixed = decoded(schema(["long", "float", "null", "double"]), b"\x00\x02", b"\x02" + single, b"\x04", b"\x06" + double)
    assert mixed.frame["a"].to_list() == [1.0, 0.5, None, 0.1]


def test_a_number_of_the_wrong_branch_is_malformed() -> None:
    found = decoded(schema(["int", "double"]), b"\x00\x02", b"\x04\x02", b"\x00" + varint(1 << 31), b"\x02\x00", b"\x00\x04")
    assert (found.frame["a"].to_list(), [r.offset for r in found.rejected]) == ([1.0, 2.0], [1, 2, 3])


def test_an_int_that_is_said_to_be_a_date_later_is_one_in_older_messages_too() -> None:
    found = decoded(schema("int"), varint(20_000), varint(-(1 << 31)), columns={"a": pl.Date()})
    assert found.frame["a"].to_list() == [date(2024, 10, 4), None]


def test_nan_and_infinity_pass_through() -> None:
    messages = [struct.pack("<fd", x, x) for x in (math.nan, math.inf, -math.inf)] + [
        b"\x01\x00\xa0\x7f" + struct.pack("<Q", 0x7FF0000000000001)
    ]
    rows = decoded(schema("float", "double"), *messages).frame.select("a", "b").rows()
    assert repr(rows) == repr([(math.nan, math.nan), (math.inf, math.inf), (-math.inf, -math.inf), (math.nan, math.nan)])


def test_a_decimal_of_every_scale_is_exact_to_its_last_digit() -> None:
    for scale in range(39):
        read = schema({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scale})
        numbers = [10**38 - 1, -(10**38) + 1, 1, -1, 0, 10**scale if scale < 38 else 0]
        messages = [varint(17) + n.to_bytes(17, "big", signed=True) for n in numbers] + [
            varint(16) + n.to_bytes(16, "big", signed=True) for n in numbers
        ]
        assert decoded(read, *messages).frame["a"].to_list() == [Decimal(n).scaleb(-scale, _EXACT) for n in numbers * 2]


def test_a_decimal_without_bytes_is_zero_whatever_follows() -> None:
    read_ = schema({"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1}, "long")
    assert decoded(read_, b"\x00" + varint(-65)).frame.select("a", "b").rows() == [(Decimal(0), -65)]


@pytest.mark.parametrize(("declared", "message"), [case[:2] for case in [*WELL_FORMED, *MALFORMED, *OUT_OF_RANGE]])
def test_many_at_once_are_judged_as_each_alone(declared: Any, message: bytes) -> None:
    read_ = schema(declared, "boolean")
    count = 200 if len(message) < 100 else 2
    for whole in (message + b"\x01", message + b"\x02", message):
        rejected = decoded(read_, *[whole] * count, columns={}).rejected
        assert [(r.reason, r.error) for r in rejected] == [v for v in [verdict(read_, whole)] * count if v is not None]


@pytest.mark.parametrize("bad", [b"\x02\xff", b"\x12aaaaaaaa\xff", b"\x04\xc3\x28"])
def test_bad_text_is_malformed_in_a_column_that_nobody_wants(bad: bytes) -> None:
    read = schema("string", "long", {"type": "map", "values": "string"})
    good = b"\x02a\x02\x00"
    for message in (bad + b"\x02\x00", b"\x02a\x02\x02" + bad + b"\x02x\x00", b"\x02a\x02\x02\x02x" + bad + b"\x00"):
        found = decoded(read, good, message, good, columns={"b": pl.Int64()})
        assert (found.frame["__offset"].to_list(), [r.reason for r in found.rejected]) == ([0, 2], ["malformed"])


@settings(max_examples=60, deadline=None)
@given(shapes(), st.data(), st.integers(0, 1 << 32))
def test_a_frame_holds_what_fastavro_reads(shape: Shape, data: st.DataObject, seed: int) -> None:
    values = data.draw(st.lists(shape.values, max_size=20))
    rnd = Random(seed)
    values += values * rnd.choice([0, 0, 0, 20])  # so many that arrays are read side by side
    read_ = read_schema(7, json.dumps(shape.schema))
    found = decode(list(_batches(rnd, [framed(write(shape.schema, value)) for value in values])), all_of(read_), lambda _: read_)
    assert found.rejected == []
    assert found.frame["__offset"].to_list() == list(range(len(values)))
    assert_holds(found.frame, read_.leaves.values(), shape, [write(shape.schema, value) for value in values])


@settings(max_examples=60, deadline=None)
@given(shapes(), st.data(), st.integers(0, 1 << 32))
def test_the_verdict_on_a_message_is_its_own(shape: Shape, data: st.DataObject, seed: int) -> None:
    """Any bytes: the same verdict and values alone, among others, with other columns wanted; and never milder than fastavro's."""
    read_ = read_schema(7, json.dumps(shape.schema))
    good = [write(shape.schema, value) for value in data.draw(st.lists(shape.values, min_size=1, max_size=5))]
    rnd = Random(seed)
    messages = [broken(message, rnd) if rnd.random() < 0.5 else message for message in good * rnd.choice([1, 3, 40])]
    found = decode(list(_batches(rnd, list(map(framed, messages)))), all_of(read_), lambda _: read_)
    verdicts = [verdict(read_, message) for message in messages]
    assert [(r.offset, r.reason, r.error) for r in found.rejected] == [(i, *v) for i, v in enumerate(verdicts) if v is not None]
    kept = [message for message, v in zip(messages, verdicts, strict=True) if v is None]
    assert_holds(found.frame, read_.leaves.values(), shape, kept)
    some = {path: dtype for path, dtype in all_of(read_).items() if rnd.random() < 0.5}
    assert decoded(read_, *messages, columns=some).frame.select("__offset", *some).equals(found.frame.select("__offset", *some))
    for path, leaf in read_.leaves.items():
        assert leaves.plain_column(leaf, [examine(read_, message) for message in kept]).equals(found.frame[path])


def verdict(read_: Schema, message: bytes) -> tuple[str, str] | None:
    try:
        examine(read_, message)
    except Malformed as malformed:
        return malformed.reason, str(malformed)
    return None


def assert_holds(frame: pl.DataFrame, leaves_: Any, shape: Shape, messages: Sequence[bytes]) -> None:
    """Column by column what fastavro reads from the messages."""
    values = [read(shape.schema, message) for message in messages]
    for leaf in leaves_:
        assert _bare(frame[leaf.path], leaf) == [look_up(value, leaf) for value in values]


def _bare(column: pl.Series, leaf: Leaf) -> list[Any]:
    if leaf.kind == "decimal":
        return [None if value is None else int(value.scaleb(leaf.scale, _EXACT)) for value in column]
    return ["NaN" if isinstance(value, float) and math.isnan(value) else value for value in column]


def _batches(rnd: Random, messages: Sequence[bytes]) -> Iterator[RawBatch]:
    """The messages in batches of any size, with keys and headers now and then."""
    at = 0
    while at < len(messages):
        size = rnd.randint(1, len(messages) - at)
        key, headers = rnd.choice([None, b"", b"key", b"k" * 70]), rnd.choice([[], [("h", b"v")]])
        yield batch([(key, message, 5, headers) for message in messages[at : at + size]], base_offset=at)
        at += size


def test_ordinary_messages_are_read_side_by_side_without_a_doubt() -> None:
    order = read_schema(7, json.dumps(ORDER))
    rows = [
        {**ROW, "tags": {str(n): n for n in range(i % 5)}, "country": [None, "Côte"][i % 2], "placed_at": 1 << i % 63} for i in range(1_000)
    ]
    messages = [write(ORDER, row) for row in rows]
    ends = np.cumsum([len(message) for message in messages])
    cursor = Cursor(b"".join(messages) + bytes(16), np.concatenate([[0], ends[:-1]]), ends)
    read_all(order.wire, cursor, Columns(()))
    assert not cursor.doubt.any()
    assert (cursor.at == cursor.end).all()


@pytest.mark.parametrize("count", [30_000_000, -30_000_000, 1 << 61, (1 << 63) - 1, -(1 << 63)])
@pytest.mark.parametrize("items", ["long", "double", ["null", "long"], {"type": "map", "values": "null"}])
def test_five_bytes_that_claim_millions_of_items_are_refused_at_once(count: int, items: Any) -> None:
    read_, bomb = schema({"type": "array", "items": items}), varint(count) + b"\x00"
    with at_most(0.5):
        found = decoded(read_, *[b"\x00", bomb] * 200)
    assert (len(found.frame), len(found.rejected)) == (200, 200)


@pytest.mark.parametrize("messages", [1, 200])
def test_an_array_of_a_million_numbers_takes_no_million_steps(messages: int) -> None:
    long = varint(1_000_000) + b"\x02" * 1_000_000 + b"\x00"
    with at_most(5):
        assert len(decoded(schema({"type": "array", "items": "long"}), *[b"\x00"] * messages, long).frame) == messages + 1


@settings(deadline=None)
@given(st.data())
def test_a_body_that_is_not_made_of_records_is_an_error_of_its_own(data: st.DataObject) -> None:
    read_ = schema("long")
    raws = [batch([(b"k", framed(b"\x02"), 5, ())] * 3, partition=p, base_offset=10) for p in (0, 1)]
    at = data.draw(st.integers(0, len(raws[1].body) - 1))
    cut_ = raws[1].body[:at] + data.draw(st.sampled_from([b"", b"\xff", b"\x80\x80", b"\x00"])) + raws[1].body[at + 1 :]
    try:
        decode([raws[0], raws[1]._replace(body=cut_)], all_of(read_), lambda _: read_)
    except RecordError as error:
        assert str(error).startswith("partition 1 from offset 10: ")  # noqa: PT017 - it may as well be read


def test_a_batch_with_fewer_or_more_records_than_it_says_is_an_error() -> None:
    raw = batch([(None, framed(b"\x02"), 0, ())] * 3)
    for count in (0, 2, 4, 1 << 30):
        with pytest.raises(RecordError, match="partition 0 from offset 0"):
            decode([raw._replace(count=count)], {}, lambda _: schema("long"))


@pytest.mark.parametrize("lengths", [b"\x03\x01", b"\x01\x03", b"\x7e\x01", b"\x01\x7e"])
def test_a_key_or_a_value_of_another_negative_length_or_beyond_the_record_is_an_error(lengths: bytes) -> None:
    record = b"\x00\x00\x00" + lengths + b"\x00"
    with pytest.raises(RecordError, match="partition 2 from offset 9"):
        decode([RawBatch(2, 9, 1, 0, None, varint(len(record)) + record)], {}, lambda _: schema("long"))


def test_offsets_that_do_not_rise_are_an_error() -> None:
    for offsets in ([0, 0], [1, 0], [-1, 0]):
        with pytest.raises(RecordError, match="partition 0 from offset 0"):
            decode([batch([(None, framed(b"\x02"), 0, ())] * 2, offsets=offsets)], {}, lambda _: schema("long"))


@pytest.mark.parametrize("delta", [2, 1 << 31, (1 << 63) - 1])
def test_an_offset_beyond_its_batch_is_an_error(delta: int) -> None:
    body = record((None, framed(b"\x02"), 0, ()), 0, 0) + record((None, framed(b"\x02"), 0, ()), 0, delta)
    with pytest.raises(RecordError, match="partition 2 from offset 7: a record's offset lies beyond its batch"):
        decode([RawBatch(2, 7, 2, 0, None, body, 8)], {}, lambda _: schema("long"))


def test_the_schema_ids_to_plan_with_are_those_of_each_batchs_first_message() -> None:
    ids = [(None, b"{json}"), (None, framed(b"\x02", 3), framed(b"\x02", 4)), (framed(b"\x02", 5),), (), (b"\0\0",)]
    batches = [batch([(None, value, 0, ()) for value in values]) for values in ids]
    assert first_schema_ids(batches) == {3, 5}
    assert first_schema_ids([RawBatch(0, 0, 1, 0, None, b"\xff")]) == set()
