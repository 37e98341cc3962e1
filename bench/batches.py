"""Kafka record batches, made whole. In: values, each with a hole for its time. Out: batches on one broker, a million events a second.

A producer takes events one by one, which in Python costs 4 µs each. Here a batch is laid out once; for the next one only times change.
"""

import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Self

import lz4.frame
import numpy as np
import numpy.typing as npt
from crc32c import crc32c

TIME_BYTES = 6  # of a zigzag varint: UTC ms from 1970 (July) to 2039
LZ4 = 3
AGAIN = {3, 5, 6}  # the topic is new: nobody leads it yet
PRODUCE = 0
VERSION = 3  # of the request: the oldest that Kafka 4 knows
PATIENCE_S = 30.0

Bytes = npt.NDArray[np.uint8]
Longs = npt.NDArray[np.int64]


class Template:
    """The records of a batch: each value is `head`, an event time, and one of the tails; each record `step_ms` after the last."""

    def __init__(self, head: bytes, tails: Sequence[bytes], step_ms: float) -> None:
        body, holes, self.edges = bytearray(), [], [0]
        for number, tail in enumerate(tails):
            value_bytes = len(head) + TIME_BYTES + len(tail)
            front = b"\0" + varint(int(number * step_ms)) + varint(number) + varint(-1) + varint(value_bytes) + head
            body += varint(len(front) + TIME_BYTES + len(tail) + 1) + front
            holes.append(len(body))
            body += bytes(TIME_BYTES) + tail + b"\0"
            self.edges.append(len(body))
        self.step_ms = step_ms
        self._body = np.frombuffer(bytes(body), np.uint8).copy()
        self._holes = np.array(holes, np.int64)[:, None] + np.arange(TIME_BYTES)

    def batch(self, times: Longs, first_ms: int) -> bytes:
        """A record batch of the first len(times) records, with these event times; the first record has the timestamp `first_ms`."""
        count = len(times)
        self._body[self._holes[:count]] = varints(times)
        packed: bytes = lz4.frame.compress(self._body[: self.edges[count]].tobytes(), block_linked=False)
        last_ms = first_ms + int((count - 1) * self.step_ms)
        checked = struct.pack(">hiqqqhii", LZ4, count - 1, first_ms, last_ms, -1, -1, -1, count) + packed
        return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, crc32c(checked)) + checked


def varint(number: int) -> bytes:
    """A zigzag varint."""
    number = number << 1 ^ number >> 63
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def varints(times: Longs) -> Bytes:
    """Zigzag varints of times, a row of TIME_BYTES each."""
    shifted = (times[:, None] << 1) >> (7 * np.arange(TIME_BYTES))
    if not (shifted[:, -1] > 0).all() or (shifted[:, -1] > 0x7F).any():  # noqa: PLR2004 - seven bits a byte
        raise ValueError(f"event times: got {times.min()} to {times.max()}, want those of {TIME_BYTES} bytes")
    more = np.full(TIME_BYTES, 0x80)
    more[-1] = 0
    made: Bytes = (shifted & 0x7F | more).astype(np.uint8)
    return made


class Broker:
    """A connection to the one broker of a cluster, that takes batches."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.split(",", maxsplit=1)[0].rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def write(self, topic: str, batches: Mapping[int, bytes]) -> None:
        """One batch a partition; returns when the broker has them. Raises RuntimeError where it does not take one."""
        deadline_s = time.monotonic() + PATIENCE_S
        while failed := {partition: code for partition, code in self._produce(topic, batches).items() if code}:
            if not set(failed.values()) <= AGAIN or time.monotonic() > deadline_s:
                raise RuntimeError(f"{topic}: the broker does not take batches: partition and error code {failed}")
            batches = {partition: batches[partition] for partition in failed}
            time.sleep(0.05)

    def _produce(self, topic: str, batches: Mapping[int, bytes]) -> dict[int, int]:
        """Partition -> error code (0: none)."""
        request = [struct.pack(">hhih", PRODUCE, VERSION, 0, -1), struct.pack(">hhi", -1, -1, 30_000), _named(topic, len(batches))]
        for partition, batch in batches.items():
            request += [struct.pack(">ii", partition, len(batch)), batch]
        sent = b"".join(request)
        self._socket.sendall(struct.pack(">i", len(sent)) + sent)
        answer = self._read(struct.unpack(">i", self._read(4))[0])
        entry = struct.Struct(">ihqq")  # partition, error, offset, append time
        begin = 4 + len(_named(topic, 0))
        return {partition: code for partition, code, *_ in entry.iter_unpack(answer[begin : begin + entry.size * len(batches)])}

    def _read(self, count: int) -> bytes:
        found = bytearray()
        while len(found) < count:
            more = self._socket.recv(count - len(found))
            if not more:
                raise ConnectionError("the broker has closed the connection")
            found += more
        return bytes(found)


def _named(topic: str, partitions: int) -> bytes:
    """An array of one topic, and the length of the array of its partitions."""
    name = topic.encode()
    return struct.pack(">ih", 1, len(name)) + name + struct.pack(">i", partitions)
