"""Messages as a broker keeps them. In: keys, values, timestamps. Out: Kafka record batches (format v2), Confluent wire format. Pure.

Written from the protocol's own description, and not with what the flow reads them with.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro

from flows.wire import RawBatch

Headers = Sequence[tuple[str, bytes | None]]
Message = tuple[bytes | None, bytes | None, int, Headers]  # key, value, timestamp, headers


def batch(messages: Sequence[Message], partition: int = 0, base_offset: int = 0, *, offsets: Sequence[int] | None = None) -> RawBatch:
    """One uncompressed batch; `offsets` are those that compaction left."""
    first = messages[0][2] if messages else 0
    deltas = range(len(messages)) if offsets is None else [offset - base_offset for offset in offsets]
    body = b"".join(record(message, first, delta) for message, delta in zip(messages, deltas, strict=True))
    last = base_offset + max(deltas) if deltas else None
    return RawBatch(partition, base_offset, len(messages), first, None, body, last)


def record(message: Message, first_timestamp: int, delta: int) -> bytes:
    """length, attributes, timestamp delta, offset delta, key, value, headers. (Kafka protocol, record format v2.)"""
    key, value, timestamp, headers = message
    pairs = b"".join(_sized(name.encode()) + _sized(content) for name, content in headers)
    record = b"\0" + varint(timestamp - first_timestamp) + varint(delta) + _sized(key) + _sized(value) + varint(len(headers)) + pairs
    return varint(len(record)) + record


def confluent(schema_id: int, parsed: Any, record: Mapping[str, Any]) -> bytes:  # noqa: ANN401 - fastavro's schema
    """A message: magic 0, the schema id, the record in Avro."""
    message = io.BytesIO()
    fastavro.schemaless_writer(message, parsed, dict(record))
    return b"\0" + schema_id.to_bytes(4, "big") + message.getvalue()


def varint(number: int) -> bytes:
    """A number of 64 bits, zigzag, least significant seven bits first."""
    rest = (number << 1) ^ (number >> 63)
    octets = bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - the continuation bit
        octets.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*octets, rest))


def _sized(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content
