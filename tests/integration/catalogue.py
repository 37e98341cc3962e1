"""The catalogue of bad inputs, a row a case. In: schema ids and the clock. Out: messages, the fate of each, and what it adds to KPIs.

`EVENT` has a field of each type that can be written wrongly; `event(name=bytes)` writes one with other bytes in that place.
"""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.batches import varint
from tests.integration.running import T0_MS

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
EVENT: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "event_time", "type": MILLIS},
        {"name": "city", "type": ["null", "string"]},
        {"name": "amount", "type": "long"},
        {"name": "level", "type": "double"},
        {"name": "size", "type": "int"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]}},
        {"name": "tags", "type": {"type": "array", "items": "long"}},
        {"name": "marks", "type": {"type": "map", "values": "null"}},
        {"name": "node", "type": ["null", NODE]},
        {"name": "note", "type": "string"},
    ],
}
GOOD = {
    "event_time": varint(T0_MS),
    "city": b"\x02\x0aParis",
    "amount": varint(1),
    "level": struct.pack("<d", 0.5),
    "size": varint(1),
    "price": b"\x04\x04\xd2",  # 12.34
    "channel": varint(1),
    "tags": b"\x04\x02\x04\x00",
    "marks": b"\x02\x02k\x00",
    "node": b"\x00",
    "note": b"\x04ok",
}
NOT_AVRO = 'syntax = "proto3"; message Event { int64 amount = 1; }'
BAD_SCHEMAS = {  # what a registry may hold: name -> (text, type)
    "protobuf": (NOT_AVRO, "PROTOBUF"),
    "enum": ('{"type": "enum", "name": "Word", "symbols": ["A"]}', "AVRO"),
    "huge": (json.dumps({**EVENT, "name": "Huge", "doc": "x" * (1 << 20)}), "AVRO"),
    "nulls": (
        json.dumps({"type": "record", "name": "Nulls", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}),
        "AVRO",
    ),
}
HOSTILE = ("line\nbreak", "nul\0", "say \"x\" 'y'", "<script>alert(1)</script>", "\u202eright to left", "comma,and\ttab", "漢字 😀")


def event(**other: bytes) -> bytes:
    """The Avro bytes of an event, with other bytes in place of some fields'."""
    return b"".join({**GOOD, **other}.values())


def framed(schema_id: int, body: bytes) -> bytes:
    """Confluent's wire format."""
    return b"\0" + schema_id.to_bytes(4, "big") + body


@dataclass(frozen=True, slots=True)
class World:
    """What a case needs to know: schema ids by name ("event" and those of BAD_SCHEMAS), and the clock."""

    ids: Mapping[str, int]
    now_ms: int

    def event(self, **other: bytes) -> bytes:
        """A whole message."""
        return framed(self.ids["event"], event(**other))


Messages = Callable[[World], Sequence[bytes | None]]


@dataclass(frozen=True, slots=True)
class Case:
    """A row: `messages` in the topic of EVENTs, all of one `fate`; or `held_by`, the test that has a topic or a fault of its own for it.

    A message is a dead letter unless its fate is `tombstone` or `folded`; what is folded counts as an event of `amount` 1.
    """

    row: str
    fate: str = ""
    messages: Messages | None = None
    held_by: str = ""


def _broken(**fields: bytes) -> Messages:
    return lambda world: [world.event(**{name: octets}) for name, octets in fields.items()]


def _each(name: str, *values: bytes) -> Messages:
    return lambda world: [world.event(**{name: octets}) for octets in values]


HERE = "tests/integration/test_bad_inputs.py::"
DIRECTORY = "tests/integration/test_recovery_directory.py::"
CASES = (
    Case("null value (tombstone)", "tombstone", lambda _: [None]),
    Case("empty value, 1 to 4 bytes", "short", lambda _: [bytes(size) for size in range(5)]),
    Case("exactly 5 bytes for a record without fields", held_by=HERE + "test_every_other_shape_of_a_topic_is_read_and_its_books_balance"),
    Case(
        "a first byte that is not 0; JSON, Protobuf, text",
        "magic",
        lambda world: [b"\x01" + world.event()[1:], b'{"json": true}', b"\x0a\x05hello\x10\x01", b"plain text", b"\xff" * 40],
    ),
    Case("a topic of JSON or text only", held_by=HERE + "test_every_other_shape_of_a_topic_is_read_and_its_books_balance"),
    Case("unknown schema id", "schema", lambda _: [framed(id_, event()) for id_ in (0, (1 << 31) - 1, (1 << 32) - 1)]),
    Case(
        "schema that does not parse, is no record, is huge, or of items without bytes",
        "schema",
        lambda world: [framed(world.ids[name], event()) for name in BAD_SCHEMAS],
    ),
    Case("schema with references", held_by=HERE + "test_every_other_shape_of_a_topic_is_read_and_its_books_balance"),
    Case(
        "registry refused, hanging, 500, 502, 503, 504, 429",
        held_by="tests/integration/test_chaos_registry.py::test_ten_outages_of_the_registry_lose_nothing_and_end_with_the_registry",
    ),
    Case(
        "registry 401, 403",
        held_by="tests/integration/test_chaos_registry.py::test_a_registry_that_refuses_the_flow_stops_it_with_the_hint",
    ),
    Case(
        "truncated, bytes left over",
        "malformed",
        lambda world: [world.event()[:cut] for cut in (5, 6, 12, -1)] + [world.event() + b"\0", world.event() * 2],
    ),
    Case("over-long varint", "malformed", _each("amount", b"\x80" * 10 + b"\0", b"\x80" * 9 + b"\x02")),
    Case("int out of 32 bits", "malformed", _each("size", varint(1 << 31), varint(-(1 << 31) - 1), varint(1 << 60))),
    Case("string length beyond the message, negative", "malformed", _each("note", varint(1 << 40), varint(-1), varint(-(1 << 63)))),
    Case("bytes length beyond the message, negative", "malformed", _each("price", varint(1 << 40), varint(-5))),
    Case(
        "array or map count of 30 million",
        "malformed",
        _broken(tags=varint(30_000_000) + b"\0", marks=varint(-30_000_000) + b"\0"),
    ),
    Case("recursive, 1,500 levels deep", "malformed", _each("node", b"\x02" * 1_500 + b"\0")),
    Case("union index out of range, negative", "malformed", _each("node", b"\x04\x00", b"\x01\x00")),
    Case("enum index out of range, negative", "malformed", _each("channel", varint(2), varint(-1))),
    Case("invalid UTF-8", "malformed", _each("note", b"\x02\xff", b"\x06\xed\xa0\x80", b"\x04\xc3\x28")),
    Case("decimal beyond its precision", "range", _each("price", b"\x04\x27\x10", b"\x04\xd8\xf0")),
    Case("decimal of 65 bytes, of a megabyte", "range", _each("price", varint(65) + bytes(65), varint(1 << 20) + bytes(1 << 20))),
    Case("NaN, infinities", "folded", _each("level", *(struct.pack("<d", float(x)) for x in ("nan", "inf", "-inf")))),
    Case(
        "timestamp negative or beyond year 9999", "time", _each("event_time", *map(varint, (-1, 1 << 62, -(1 << 62), 253_402_300_800_000)))
    ),
    Case("year 2500, year 9999", "future", _each("event_time", varint(16_725_225_600_000), varint(253_402_300_799_999))),
    Case("event time beyond max_future", "future", lambda world: [world.event(event_time=varint(world.now_ms + 600_000))]),
    Case("local-timestamp", held_by=HERE + "test_every_other_shape_of_a_topic_is_read_and_its_books_balance"),
    Case("field added, removed, renamed, promoted", held_by=HERE + "test_versions_of_a_schema_meet_in_one_window"),
    Case("field type changed to one of no use", held_by=HERE + "test_versions_of_a_schema_meet_in_one_window"),
    Case("null group value", "folded", _each("city", b"\0")),
    Case(
        "group value that would break a log, a label or a page",
        "folded",
        lambda world: [world.event(city=b"\x02" + varint(len(text.encode())) + text.encode()) for text in HOSTILE],
    ),
    Case("group value in a page", held_by="tests/integration/dashboard/test_page.py::test_nothing_from_a_topic_runs_in_the_page"),
    Case("group value of a megabyte", held_by=HERE + "test_a_group_value_of_a_megabyte_is_cut_and_stays_a_group_of_its_own"),
    Case("millions of distinct groups", held_by=HERE + "test_groups_over_the_limit_share_a_row_and_all_events_are_in_some_row"),
    Case("millions of distinct groups: memory", held_by="tests/test_limit.py::test_a_stream_of_1_200_000_groups_stays_small"),
    Case("message of several MB, every codec", held_by=HERE + "test_every_other_shape_of_a_topic_is_read_and_its_books_balance"),
    Case("compression bomb", held_by=HERE + "test_a_bomb_is_one_dead_letter_and_memory_is_bounded"),
    Case(
        "batch that is not made of records",
        held_by="tests/test_intake.py::test_a_batch_that_cannot_be_read_is_one_dead_letter_and_its_messages_are_counted",
    ),
    Case("control batches, aborted transactions, gaps", held_by=HERE + "test_every_other_shape_of_a_topic_is_read_and_its_books_balance"),
    Case("own output topics in `every topic`", held_by="tests/test_topics.py::test_no_setting_chooses_a_topic_of_kafka_or_our_own"),
    Case(
        "topic deleted, created again, with more partitions, truncated",
        held_by="tests/integration/test_chaos_topics.py::test_topics_come_go_grow_and_lose_their_past_and_nothing_else_is_wrong",
    ),
    Case(
        "a KPI row larger than the broker takes",
        held_by="tests/integration/test_sink_broker.py::test_a_record_larger_than_the_topic_takes_does_not_take_its_batch_with_it",
    ),
    Case("recovery directory lost", held_by=DIRECTORY + "test_a_lost_directory_stops_the_flow_and_its_return_lets_it_go_on"),
    Case(
        "recovery directory older than the marker", held_by=DIRECTORY + "test_an_older_copy_stops_the_flow_and_the_right_one_lets_it_go_on"
    ),
    Case(
        "recovery directory used by two flows", held_by=DIRECTORY + "test_a_second_flow_on_the_same_directory_is_refused_and_harms_nothing"
    ),
    Case(
        "recovery directory of another plan",
        held_by=DIRECTORY + "test_a_directory_of_another_plan_stops_the_flow_and_the_old_plan_lets_it_go_on",
    ),
)
