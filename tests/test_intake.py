"""From record batches to events: every message has one fate, decided by the record alone, and is read once."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.batches import Fault
from flows.fields import Schema, SchemaError, read_schema
from flows.intake import Position, Reading, Taken, promise, quiet, take
from flows.plan import TopicPlan
from flows.records import DEAD, LATE, Record
from flows.watermark import NEVER, Mark
from flows.wire import RawBatch
from tests.batches import Message, batch, confluent
from tests.core import MILLIS, money, planned, schema

NOW_MS = 1_760_000_000_000
MAX_FUTURE_MS = 60_000
ID = 7
FIELDS = {"ts": MILLIS, "n": ["null", "long"], "x": "double", "d": money(2), "s": "string"}
SCHEMA = schema(FIELDS, ID)
SAID = "windows = ['10s']\nlateness = '5s'\nidle = '15s'\nmax_future = '60s'\n"
PLAN = planned(SAID + "where = 'n > 0'\nkpis.n = { sum = 'n' }\nkpis.x = { sum = 'x' }", SCHEMA)
OPEN = replace(PLAN, where=None)
AT_0 = {0: Position(0)}


def schema_of(schema_id: int) -> Schema:
    if schema_id != ID:
        raise SchemaError(f"no schema {schema_id}")
    return SCHEMA


def value(time_ms: int, n: int | None = 1, **others: Any) -> bytes:
    return confluent(ID, SCHEMA.parsed, {"ts": time_ms, "n": n, "x": 1.0, "d": Decimal(1), "s": "1"} | others)


def message(content: bytes | None, stamp_ms: int = NOW_MS, key: bytes | None = b"key") -> Message:
    return (key, content, stamp_ms, ())


def event(time_ms: int, n: int | None = 1, **others: Any) -> Message:
    """An event that was sent at once."""
    return message(value(time_ms, n, **others), max(0, time_ms))


def taken(messages: Sequence[Message], plan: TopicPlan = PLAN, positions: Mapping[int, Position] = AT_0, clock_ms: int = NOW_MS) -> Taken:
    return take(plan, positions, [batch(messages)] if messages else [], schema_of, clock_ms)


def fates(got: Taken) -> dict[str, int]:
    return dict(got.positions[0].fates)


def headers(record: Record) -> dict[str, str]:
    return {name: content.decode() for name, content in record.headers}


def reasons(got: Taken) -> dict[int, str]:
    return {int(h["kpi.offset"]): h["kpi.reason"] for h in map(headers, got.aside)}


GOOD = value(NOW_MS)


@pytest.mark.parametrize(
    ("content", "stamp_ms", "fate"),
    [
        (None, NOW_MS, "tombstone"),
        (b"", NOW_MS, "short"),
        (b"\0\0\0\0", NOW_MS, "short"),
        (b"\1\0\0\0\7rest", NOW_MS, "magic"),
        (b"\0\0\0\0\x63" + GOOD[5:], NOW_MS, "schema"),
        (GOOD[:-1], NOW_MS, "malformed"),
        (GOOD + b"\0", NOW_MS, "malformed"),
        (value(-1), NOW_MS, "time"),
        (value(2**62), NOW_MS, "time"),
        (value(-(2**62)), NOW_MS, "time"),
        (value(253_402_300_800_000), NOW_MS, "time"),  # the year 10000
        (value(253_402_300_799_999), NOW_MS, "future"),  # the last moment of 9999
        (value(NOW_MS + MAX_FUTURE_MS + 1), NOW_MS, "future"),
        (value(NOW_MS + MAX_FUTURE_MS), NOW_MS, "folded"),
        (value(NOW_MS + MAX_FUTURE_MS), NOW_MS - 1, "future"),  # the producer's own clock says so
        (value(NOW_MS + MAX_FUTURE_MS), NOW_MS + 10**9, "folded"),
        (value(NOW_MS + MAX_FUTURE_MS + 1), NOW_MS + 10**9, "future"),  # the producer's clock is wrong, the read clock decides
        (value(NOW_MS, 0), NOW_MS, "filtered"),
        (value(NOW_MS, None), NOW_MS, "filtered"),  # null is not true
        (GOOD, NOW_MS, "folded"),
        (value(0), 0, "folded"),
    ],
)
def test_a_message_has_one_fate(content: bytes | None, stamp_ms: int, fate: str) -> None:
    got = taken([message(content, stamp_ms)])

    assert fates(got) == {fate: 1}
    assert len(got.frame) == (fate == "folded")
    assert len(got.aside) == (fate not in ("tombstone", "filtered", "folded"))


#             W = NOW - 5 s
#  [ ... late ...)|[- NOW -)
@pytest.mark.parametrize(
    ("content", "stamp_ms", "fate"),
    [
        (value(NOW_MS - 60_000, 0), NOW_MS, "late"),  # before it is filtered
        (value(NOW_MS - 60_000), 0, "future"),  # before it is late: its own timestamp is far below
        (value(-1, 0), NOW_MS, "time"),
        (value(NOW_MS - 60_000)[:-1], NOW_MS, "malformed"),
    ],
)
def test_the_first_fate_that_applies_decides(content: bytes, stamp_ms: int, fate: str) -> None:
    assert fates(taken([event(NOW_MS), message(content, stamp_ms)])) == {"folded": 1, fate: 1}


@pytest.mark.parametrize(
    ("last", "moved"),
    [
        (event(NOW_MS, 0), True),  # filtered
        (event(NOW_MS), True),
        (message(value(NOW_MS), 0), False),  # future
        (message(value(2**62)), False),
        (message(value(NOW_MS)[:-1]), False),
        (message(None), False),
    ],
)
def test_what_passes_future_moves_the_watermark_and_nothing_else_does(last: Message, *, moved: bool) -> None:
    before_ms = NOW_MS - 40_000

    assert taken([event(before_ms), last]).positions[0].seen_ms == (NOW_MS if moved else before_ms) - 5_000


def test_lateness_is_judged_in_offset_order_inside_the_partition() -> None:
    #  10 s slices, 5 s lateness      offset 0: 12 s   W 7 s;   offset 1: 9 s, not late;   offset 2: 15 s   W 10 s;   offset 3: 9 s, late
    got = taken([event(12_000), event(9_000), event(15_000), event(9_000), event(10_000)])

    assert reasons(got) == {3: "late"}
    assert got.frame["time"].to_list() == [12_000, 9_000, 15_000, 10_000]


def test_another_partition_makes_nothing_late() -> None:
    ahead, behind = batch([event(500_000)], 0), batch([event(1_000)], 1)

    got = take(PLAN, {0: Position(0), 1: Position(0)}, [ahead, behind], schema_of, NOW_MS)

    assert [dict(got.positions[p].fates) for p in (0, 1)] == [{"folded": 1}, {"folded": 1}]
    assert [got.positions[p].seen_ms for p in (0, 1)] == [495_000, -4_000]


def test_only_those_that_are_read_count() -> None:
    got = taken([event(1_000), message(None), event(2_000), message(b"")], positions={0: Position(2, fates={"folded": 5})})

    assert got.frame["time"].to_list() == [2_000]
    assert fates(got) == {"folded": 6, "short": 1}
    assert got.offsets == {0: (2, 3)}
    assert got.positions[0].offset == 4


KINDS: dict[str, Callable[[int], Message]] = {
    "good": event,
    "old": lambda at: event(max(0, at - 40_000)),
    "filtered": lambda at: event(at, 0),
    "future": lambda at: message(value(at + 10**7), at),
    "impossible": lambda _: message(value(-5)),
    "tombstone": lambda _: message(None),
    "magic": lambda _: message(b"\1not avro"),
    "malformed": lambda at: message(value(at) + b"!"),
    "unknown": lambda at: message(b"\0\0\0\0\x63" + value(at)[5:]),
}
DRAWN = st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.integers(0, 9_000)), min_size=1, max_size=15)


def messages_of(drawn: Sequence[tuple[str, int]]) -> list[Message]:
    made, at = [], 100_000
    for kind, gap_ms in drawn:
        at += gap_ms
        made.append(KINDS[kind](at))
    return made


@settings(max_examples=60, deadline=None)
@given(drawn=DRAWN, cut=st.integers(0, 15), whole=st.booleans())
def test_a_resume_in_the_middle_of_a_batch_reads_nothing_twice_and_leaves_nothing_out(
    drawn: list[tuple[str, int]], cut: int, *, whole: bool
) -> None:
    """Kafka hands out whole batches: what a reader remembers decides where it goes on."""
    messages = messages_of(drawn)
    cut = min(cut, len(messages) - 1)
    want = taken(messages)

    first = taken(messages[:cut])
    again = batch(messages) if whole else batch(messages[cut:], base_offset=cut)
    second = take(PLAN, {**AT_0, **first.positions}, [again], schema_of, NOW_MS)

    assert pl.concat([first.frame, second.frame]).equals(want.frame)
    assert sorted(first.aside + second.aside) == sorted(want.aside)
    assert second.positions == want.positions


@settings(max_examples=40, deadline=None)
@given(DRAWN)
def test_the_books_balance(drawn: list[tuple[str, int]]) -> None:
    messages = messages_of(drawn)
    got = taken(messages)

    assert sum(fates(got).values()) == len(messages)
    assert fates(got).get("folded", 0) == len(got.frame)
    assert Counter(reasons(got).values()) == {f: n for f, n in fates(got).items() if f not in ("folded", "filtered", "tombstone")}


def test_offsets_that_compaction_left_out_are_no_matter() -> None:
    compacted = batch([event(1_000), event(2_000)], base_offset=10, offsets=[13, 19])

    got = take(PLAN, {0: Position(10)}, [compacted], schema_of, NOW_MS)

    assert (got.offsets, got.positions[0].offset) == ({0: (13, 19)}, 20)


@pytest.mark.parametrize("messages", [[], [message(None)], [message(b""), message(b"\1abcdef")]])
def test_without_any_event_there_is_an_empty_frame_to_fold(messages: list[Message]) -> None:
    got = taken(messages)

    assert got.frame.columns == ["time", "of:n", "of:x"]
    assert got.frame.is_empty()


def test_a_dead_letter_is_the_original_with_where_from_and_why() -> None:
    content = b"\0\0\0\0\x63?\xff"
    (letter,) = take(PLAN, {3: Position(0)}, [batch([message(content, NOW_MS, b"\xffkey")], 3, 41)], schema_of, NOW_MS).aside

    assert (letter.topic, letter.key, letter.value) == (DEAD, b"\xffkey", content)
    assert headers(letter) == {
        "kpi.topic": "t",
        "kpi.partition": "3",
        "kpi.offset": "41",
        "kpi.timestamp": str(NOW_MS),
        "kpi.reason": "schema",
        "kpi.error": "no schema 99",
        "kpi.schema-id": "99",
    }


def test_a_dead_letter_without_key_or_known_schema_says_nothing_of_them() -> None:
    (letter,) = taken([message(b"\1text", key=None)]).aside

    assert (letter.key, letter.value) == (None, b"\1text")
    assert set(headers(letter)) == {f"kpi.{name}" for name in ("topic", "partition", "offset", "timestamp", "reason", "error")}


def test_a_late_record_is_the_original_and_says_what_made_it_late() -> None:
    old = event(1_000)
    (record,) = taken([event(100_000), old]).aside

    assert (record.topic, record.key, record.value) == (LATE, old[0], old[1])
    assert headers(record) == {
        "kpi.topic": "t",
        "kpi.partition": "0",
        "kpi.offset": "1",
        "kpi.timestamp": "1000",
        "kpi.reason": "late",
        "kpi.error": "cause: data",
    }


@pytest.mark.parametrize(("time_ms", "reason"), [(-(2**40), "time"), (10**13, "future")])
def test_a_wrong_time_is_told_in_the_letter(time_ms: int, reason: str) -> None:
    (letter,) = taken([message(value(time_ms))]).aside

    assert letter.topic == DEAD
    assert (headers(letter)["kpi.reason"], headers(letter)["kpi.error"]) == (reason, f"event time {time_ms}")
    assert letter.value == value(time_ms)


@pytest.mark.parametrize(
    ("position", "cause"),
    [
        (Position(0, seen_ms=10_000, joined_ms=10_000, idle_ms=10_000), "data"),
        (Position(0, joined_ms=10_000, idle_ms=10_000), "joined"),
        (Position(0, seen_ms=9_999, idle_ms=10_000), "idle"),
    ],
)
def test_the_first_cause_that_makes_an_event_late_is_told(position: Position, cause: str) -> None:
    got = taken([event(9_999), event(10_000)], positions={0: position})

    assert [headers(record)["kpi.error"] for record in got.aside] == [f"cause: {cause}"]
    assert got.frame["time"].to_list() == [10_000]


def test_a_registry_that_is_away_passes_through() -> None:
    class AwayError(Exception):
        pass

    def away(_: int) -> Schema:
        raise AwayError

    reading = Reading("t")
    reading.meet(0, 0, NOW_MS)
    before = dict(reading.positions)

    with pytest.raises(AwayError):
        reading.read(PLAN, 1, [batch([event(1_000)])], away, NOW_MS)
    assert reading.positions == before


# -- batches that cannot be read


def poison(reason: str, base_offset: int, count: int) -> RawBatch:
    """A batch that is not made of records, or that was not unpacked."""
    made = batch([event(1_000)] * count, base_offset=base_offset)
    if reason == "size":
        return made._replace(body=b"", fault=Fault("size", "they unpack to more than 5 bytes"), last_offset=base_offset + count - 1)
    return made._replace(body=made.body[:-1])


@pytest.mark.parametrize("reason", ["size", "malformed"])
def test_a_batch_that_cannot_be_read_is_one_dead_letter_and_its_messages_are_counted(reason: str) -> None:
    batches = [batch([event(1_000)] * 2), poison(reason, 2, 7), batch([event(2_000), message(b"")], base_offset=9), poison(reason, 11, 3)]

    got = take(PLAN, AT_0, batches, schema_of, NOW_MS)

    assert fates(got) == {"folded": 3, "short": 1, reason: 10}
    assert got.frame["time"].to_list() == [1_000, 1_000, 2_000]
    assert (got.positions[0].offset, got.offsets) == (14, {0: (0, 13)})
    letters = [record for record in got.aside if headers(record)["kpi.reason"] == reason]
    assert [(record.topic, record.key, record.value, headers(record)["kpi.offset"]) for record in letters] == [
        (DEAD, None, None, "2"),
        (DEAD, None, None, "11"),
    ]
    assert headers(letters[0])["kpi.error"].startswith("partition 0, offsets 2 to 8, 7 records: ")
    assert len(got.notes.faults) == 2


def test_a_batch_that_cannot_be_read_is_counted_once_and_only_as_far_as_it_is_unread() -> None:
    again = take(PLAN, {0: Position(9)}, [poison("size", 2, 7)], schema_of, NOW_MS)
    half = take(PLAN, {0: Position(4)}, [poison("size", 2, 7)], schema_of, NOW_MS)

    assert (again.positions, again.aside) == ({}, [])
    assert (fates(half), half.positions[0].offset) == ({"size": 5}, 9)


@pytest.mark.parametrize("count", [0, -5, 1 << 30])
def test_a_batch_that_lies_about_its_records_is_counted_within_its_offsets(count: int) -> None:
    lying = batch([event(1_000)] * 3)._replace(count=count, last_offset=2)

    got = take(PLAN, AT_0, [lying], schema_of, NOW_MS)

    assert (list(fates(got)), got.positions[0].offset) == (["malformed"], 3)
    assert 1 <= fates(got)["malformed"] <= 3


def test_books_and_positions_survive_a_snapshot() -> None:
    """The source keeps positions as plain tuples."""
    position = taken([event(1_000), message(b""), *[message(b"\1text")] * 3]).positions[0]

    assert Position(*astuple(position)) == position
    assert dict(Position(*astuple(position)).fates) == {"folded": 1, "short": 1, "magic": 3}
    assert position.strangers == 3


# -- what is measured


def measured(sql: str, *contents: bytes, aggregate: str = "sum") -> list[object]:
    made = planned(SAID + f"kpis.it = {{ {aggregate} = '''{sql}''' }}", SCHEMA)
    return taken([message(content, 1_000) for content in contents], made).frame[f"of:{sql}"].to_list()


def test_what_is_not_finite_is_left_out_of_its_kpi_and_the_event_counts() -> None:
    got = taken([event(1_000, x=x) for x in (1.5, math.nan, math.inf, -math.inf)])

    assert got.frame["of:x"].to_list() == [1.5, None, None, None]
    assert got.frame["of:n"].to_list() == [1, 1, 1, 1]
    assert got.notes.unmeasured == {("x", "not-finite"): 3}


def test_a_field_that_changed_to_a_type_of_no_use_is_left_out_and_counted() -> None:
    """Of what is folded only; a field that is not there any more is no matter."""
    old, new, none = (schema({"ts": MILLIS, name: kind}, n) for n, name, kind in ((1, "n", "int"), (2, "n", "string"), (3, "m", "long")))
    made = planned(SAID + "kpis.n = { sum = 'n' }", old, new, none)
    rows: list[tuple[int, dict[str, Any]]] = [(1, {"n": 4}), (2, {"n": "x"}), (3, {"m": 1}), (2, {"n": "y"})]
    versions = {1: old, 2: new, 3: none}
    sent = [message(confluent(n, versions[n].parsed, {"ts": 1_000} | row), 1_000) for n, row in rows]
    future = message(confluent(2, new.parsed, {"ts": NOW_MS * 2, "n": "x"}), 1_000)

    got = take(made, AT_0, [batch([*sent, future])], versions.__getitem__, NOW_MS)

    assert got.frame["of:n"].to_list() == [4, None, None, None]
    assert got.notes.unmeasured == {("n", "type"): 2}


def test_late_records_and_dead_letters_keep_keys_in_avro() -> None:
    """Byte for byte, the schema id of the key too; whether it is sound or not."""
    event_ = schema({"ts": MILLIS, "n": "long"})
    keys = [b"\0" + (900 + n).to_bytes(4, "big") + bytes([2 * n]) for n in range(3)]
    rows = [(None, NOW_MS), (keys[0], 1_000), (keys[1], NOW_MS * 2), (keys[2], None)]
    bodies = [confluent(1, event_.parsed, {"ts": at, "n": 1}) if at else b"\0\0\0\0\1\x80" for _, at in rows]

    sent = batch([(key, it, NOW_MS, ()) for (key, _), it in zip(rows, bodies, strict=True)])
    aside = take(planned(SAID + "kpis.n = { sum = 'n' }", event_), AT_0, [sent], lambda _: event_, NOW_MS).aside

    found = {dict(record.headers)["kpi.reason"]: (record.key, record.value) for record in aside}
    assert found == {reason: (key, it) for reason, key, it in zip((b"late", b"future", b"malformed"), keys, bodies[1:], strict=True)}


def test_a_renamed_field_is_one_column_under_both_names() -> None:
    old = schema({"ts": MILLIS, "cost": "int", "shop": "string"}, 1)
    fields = [
        {"name": "ts", "type": MILLIS},
        {"name": "price", "type": "double", "aliases": ["cost"]},
        {"name": "store", "type": "string", "aliases": ["shop"]},
    ]
    new = read_schema(2, json.dumps({"type": "record", "name": "Event", "fields": fields}))
    rows: list[tuple[Schema, dict[str, Any]]] = [
        (old, {"cost": 4, "shop": "a"}),
        (new, {"price": 0.5, "store": "b"}),
        (old, {"cost": 1, "shop": "c"}),
    ]
    sent = [message(confluent(read.id, read.parsed, {"ts": 1_000} | row), 1_000) for read, row in rows]
    for by, of in (("shop", "cost"), ("store", "price"), ("shop", "price"), ("store", "cost")):
        made = planned(SAID + f"by = ['{by}']\nkpis.it = {{ sum = '{of}' }}", old, new)
        got = take(made, AT_0, [batch(sent)], {1: old, 2: new}.__getitem__, NOW_MS)
        assert got.frame.rows() == [(1_000, "a", 4.0), (1_000, "b", 0.5), (1_000, "c", 1.0)], (by, of)
    assert {kpi.of for kpi in planned(SAID, old, new).kpis} == {"*", "price"}, "derived KPIs have the new name"


def test_an_expression_is_measured_for_each_event_and_divisions_by_zero_are_left_out() -> None:
    assert measured("x / n", value(1_000, 2), value(1_000, 0), value(1_000, None)) == [0.5, None, None]


def test_an_expression_beyond_a_long_is_null_and_not_another_number() -> None:
    assert measured("n * 4", value(1_000, 1), value(1_000, 2**62)) == [4, None]


@pytest.mark.parametrize(
    ("sql", "poison"),
    [
        ("n / d", {"d": Decimal(0)}),
        ("d * d * d", {"d": Decimal("9" * 30)}),
        ("CAST(s AS BIGINT)", {"s": "one"}),
    ],
)
def test_a_value_that_an_expression_cannot_take_is_left_out_and_stops_nothing(sql: str, poison: dict[str, Any]) -> None:
    first, second, third = measured(sql, value(1_000), value(1_000, **poison), value(1_000))

    assert (first, second, third) == (1, None, 1)


@pytest.mark.parametrize("where", ["CAST(s AS BIGINT) = 1", "n / d = 1"])
def test_a_value_that_a_condition_cannot_take_is_filtered_and_stops_nothing(where: str) -> None:
    made = planned(SAID + f'where = "{where}"\nkpis.n.count = "*"', SCHEMA)

    got = taken([event(1_000), event(1_000, s="one", d=Decimal(0)), event(1_000)], made)

    assert fates(got) == {"folded": 2, "filtered": 1}


@pytest.mark.parametrize(("where", "fate"), [("TRUE", "folded"), ("1 = 1", "folded"), ("1 = 2", "filtered"), ("NULL = 1", "filtered")])
def test_a_condition_may_be_the_same_for_every_event(where: str, fate: str) -> None:
    made = planned(SAID + f'where = "{where}"\nkpis.n.count = "*"', SCHEMA)

    assert fates(taken([event(1_000), event(2_000), event(3_000)], made)) == {fate: 3}


def test_a_constant_can_be_summed() -> None:
    assert measured("3", value(1_000), value(2_000)) == [3, 3]


def test_two_versions_in_one_batch_are_measured_alike() -> None:
    old = schema({"ts": MILLIS, "n": "int"}, 1)
    new = schema({"ts": MILLIS, "n": "double", "extra": "string"}, 2)
    made = planned(SAID + "by = ['extra']\nkpis.n = { sum = 'n' }", old, new)
    mixed = [
        message(confluent(2, new.parsed, {"ts": 3_000, "n": 2.5, "extra": "e"}), 3_000),
        message(confluent(1, old.parsed, {"ts": 1_000, "n": 4}), 1_000),
        message(confluent(2, new.parsed, {"ts": 2_000, "n": 0.5, "extra": "f"}), 2_000),
    ]

    got = take(made, AT_0, [batch(mixed)], {1: old, 2: new}.__getitem__, NOW_MS)

    assert got.frame.rows() == [(3_000, "e", 2.5), (1_000, None, 4.0), (2_000, "f", 0.5)]


def test_without_a_time_field_the_kafka_timestamp_is_the_event_time() -> None:
    plain = schema({"n": "long"}, ID)
    made = planned(SAID, plain)
    content = confluent(ID, plain.parsed, {"n": 1})

    got = take(made, AT_0, [batch([message(content, 1_234)])], lambda _: plain, NOW_MS)
    written = take(
        made, AT_0, [RawBatch(*batch([message(content, 1_234)])[:4], 5_678, batch([message(content, 1_234)]).body)], lambda _: plain, NOW_MS
    )

    assert got.frame["time"].to_list() == [1_234]
    assert written.frame["time"].to_list() == [5_678], "LogAppendTime"


# -- promises


def test_data_moves_a_partition_only_beyond_what_it_had_reached() -> None:
    position = Position(0, seen_ms=95_000, moved_ms=1)
    moved = {time_ms: taken([event(time_ms)], OPEN, {0: position}).positions[0].moved_ms for time_ms in (99_999, 100_000, 100_001)}
    promised = taken([event(100_001)], OPEN, {0: replace(position, idle_ms=95_001)}).positions[0]

    assert moved == {99_999: 1, 100_000: 1, 100_001: NOW_MS}
    assert (promised.moved_ms, promised.seen_ms, promised.reached_ms) == (1, 95_001, 95_001)


@pytest.mark.parametrize(("clock_ms", "verdict"), [(15_999, False), (16_000, True)])
def test_a_partition_is_quiet_when_idle_has_passed_since_it_moved(clock_ms: int, *, verdict: bool) -> None:
    #  moved 1 s        + idle 15 s
    assert quiet(PLAN, Position(0, moved_ms=1_000), clock_ms) is verdict


def test_a_quiet_partition_whose_end_was_seen_promises_the_clock_less_the_lateness() -> None:
    positions = {p: Position(0, seen_ms=100, moved_ms=0) for p in (0, 1)}

    promised = promise(PLAN, positions, {1: 15_000})

    assert set(promised) == {1}, "an end that was not seen promises nothing"
    assert (promised[1].idle_ms, promised[1].reached_ms, promised[1].seen_ms, promised[1].moved_ms) == (10_000, 10_000, 100, 0)
    assert promise(PLAN, positions, {0: 14_999, 1: 14_999}) == {}


def test_a_promise_is_never_taken_back() -> None:
    (kept,) = promise(PLAN, {0: Position(0, idle_ms=99_000, moved_ms=0)}, {0: 20_000}).values()

    assert kept.idle_ms == 99_000


def reading(lateness_ms: int | None = None) -> Reading:
    made = Reading("t")
    made.meet(0, 0, 0, joined_behind_ms=lateness_ms)
    return made


def test_a_topic_without_a_schema_whose_groups_are_declared_has_its_fates_and_no_events() -> None:
    one = reading()
    events, aside = one.read(planned("by = ['g']"), 1, [batch([message(b"no Avro"), message(b"")])], schema_of, 0)

    assert events.frame is not None
    assert events.frame.is_empty()
    assert one.positions[0].fates == {"magic": 1, "short": 1}
    assert len(aside) == 2


def test_an_end_seen_before_data_moved_the_partition_is_no_end() -> None:
    #  end seen ── data moves it ── 15 s ── no promise ── end seen ── promise
    one = reading()
    one.tick(PLAN, 1, {0: 1_000}, 1_000)
    one.read(PLAN, 1, [batch([event(1_000)])], schema_of, 2_000)

    assert one.tick(PLAN, 1, {0: 16_999}, 60_000).marks[0] == Mark(-4_000, -4_000, fresh=False)
    assert one.tick(PLAN, 1, {0: 61_000}, 61_000).marks[0] == Mark(-4_000, 56_000, fresh=False)


def test_a_promise_is_of_the_moment_when_the_end_was_asked_for_and_stays_until_the_next() -> None:
    one = reading()
    for seen, promised_ms in (({0: 15_000}, 10_000), ({}, 10_000), ({0: 60_000}, 55_000)):
        assert one.tick(PLAN, 1, seen, 70_000).marks[0].promised_ms == promised_ms


def test_a_partition_of_messages_that_move_nothing_promises_all_the_same() -> None:
    """A partition of poison alone cannot hold its topic."""
    one = reading()
    one.read(PLAN, 1, [batch([message(b"poison"), message(None)])], schema_of, 2_000)

    assert one.tick(PLAN, 1, {0: 15_000}, 15_000).marks[0] == Mark(NEVER, 10_000, fresh=False)


def test_what_arrives_below_a_promise_is_late_because_of_it_and_the_promise_stays() -> None:
    one = reading()
    one.tick(PLAN, 1, {0: 100_000}, 100_000)

    events, aside = one.read(PLAN, 1, [batch([event(1_000), event(94_000)])], schema_of, 101_000)

    assert [headers(record)["kpi.error"] for record in aside] == ["cause: idle"]
    assert events.frame is not None
    assert events.frame["time"].to_list() == [94_000]
    assert events.marks[0] == Mark(89_000, 95_000, fresh=False)


def test_a_partition_that_joins_promises_at_once_and_one_that_was_there_does_not() -> None:
    assert reading(5_000).tick(PLAN, 1, {}, 1_000).marks[0] == Mark(NEVER, -5_000, fresh=False)
    assert reading().tick(PLAN, 1, {}, 1_000).marks[0] == Mark(NEVER, NEVER, fresh=False)


def test_events_tell_which_partitions_are_fresh_where_they_came_from_and_the_clock() -> None:
    one = reading()
    one.meet(1, 5, 0)
    one.fresh = {1}

    events, _ = one.read(PLAN, 4, [batch([event(1_000), message(b"")], 1, 5)], schema_of, 77)

    assert {p: mark.fresh for p, mark in events.marks.items()} == {0: False, 1: True}
    assert (events.partitions, events.clock_ms, events.offsets) == (4, 77, {1: (5, 6)})


def test_a_position_is_the_same_after_it_was_remembered_as_plain_values() -> None:
    (at,) = taken([event(NOW_MS), event(NOW_MS), message(b"no Avro")]).positions.values()
    assert at.fates == {"folded": 2, "magic": 1}
    assert Position(*astuple(at)) == at
