"""The hook in kafka-python's fetcher: what the library must still be, and what comes out of it. (With a broker: integration/.)"""

import random
import tracemalloc
from typing import Any, NamedTuple

import kafka
import lz4.frame
import pytest
from kafka import TopicPartition
from kafka.cluster import ClusterMetadata
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from flows import raw
from flows.batches import RawBatch, RecordError, original
from flows.raw import HookError, Packed, check_hook, raw_consumer
from flows.reader import FRAME_BYTES, FRAME_EVENTS, is_frame

TP = TopicPartition("t.events", 3)
MESSAGES = [(b"k1", b"v1", 1_000), (None, b"v2", 1_001), (b"k3", None, 999)]


def batch(base_offset: int = 40, compression: int = 0, *, attributes: int = 0, producer_id: int = -1, messages: Any = MESSAGES) -> bytes:
    """A batch as a broker keeps it."""
    builder = DefaultRecordBatchBuilder(2, compression, producer_id >= 0, producer_id, 0, 0, 64 << 20)
    for index, (key, value, timestamp) in enumerate(messages):
        builder.append(index, timestamp, key, value, [("h", b"v")])
    built = builder.build()
    built[:8] = base_offset.to_bytes(8, "big")
    built[22] |= attributes
    built[17:21] = calc_crc32c(built[21:]).to_bytes(4, "big")
    return bytes(built)


def marker(base_offset: int, producer_id: int, *, commits: bool) -> bytes:
    """What ends a transaction: a control batch."""
    return batch(base_offset, attributes=0x20, producer_id=producer_id, messages=[(bytes([0, 0, 0, commits]), bytes(6), 0)])


def fetched(*batches: bytes, offset: int = 0, aborted: Any = ()) -> Any:
    """What the fetcher makes of a response with these batches."""
    records = MemoryRecords(b"".join(batches))
    return raw._PartitionRecords(offset, TP, records, isolation_level=1, aborted_transactions=[Aborted(*one) for one in aborted])


class Aborted(NamedTuple):
    producer_id: int
    first_offset: int


@pytest.mark.parametrize("compression", range(5), ids=["none", "gzip", "snappy", "lz4", "zstd"])
def test_a_batch_comes_out_whole_whatever_its_compression(compression: int) -> None:
    taken = fetched(batch(compression=compression), batch(50, compression)).take()
    assert [(record.offset, record.timestamp) for record in taken] == [(42, 1_001), (52, 1_001)]
    found = taken[0].value
    assert found[:6] == (3, 40, 42, 3, 1_000, None)
    assert found.unpacked()[:5] == (3, 40, 3, 1_000, None)
    bodies = [each.value.unpacked().body for each in (*taken, *fetched(batch()).take())]
    assert bodies[0] == bodies[1] == bodies[2]
    assert original([found.unpacked()], 0, 0) == (b"k1", b"v1")


def test_the_broker_s_own_time_is_handed_on() -> None:
    assert fetched(batch(attributes=0x08)).take()[0].value.append_time == 1_001


def test_a_batch_that_was_damaged_is_refused() -> None:
    damaged = bytearray(batch())
    damaged[-1] ^= 1
    with pytest.raises(CorruptRecordError):
        fetched(bytes(damaged)).take()


def test_what_a_transaction_aborted_is_left_out_and_so_are_its_markers() -> None:
    #      40..42      43..45     46      47..49      50       51..53
    log = (
        batch(40, producer_id=1),
        batch(43, producer_id=2),
        marker(46, 1, commits=False),
        batch(47, producer_id=1),
        marker(50, 1, commits=True),
        batch(51),
    )
    records = fetched(*log, aborted=[(1, 40)])
    assert [record.offset for record in records.take()] == [45, 49, 53]
    assert records.next_fetch_offset == 54


def test_the_position_goes_on_behind_each_batch_and_a_batch_half_read_comes_whole() -> None:
    records = fetched(batch(40), batch(43), batch(46), offset=44)
    assert [record.value.base_offset for record in records.take(1)] == [43]
    assert records.next_fetch_offset == 46
    assert [record.value.base_offset for record in records.take()] == [46]
    assert records.next_fetch_offset == 49


@pytest.mark.parametrize("compression", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
def test_a_compression_bomb_has_a_fault_and_no_body(compression: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "MAX_BODY", 1 << 20)
    bomb, fits = batch(40, compression, messages=[(None, bytes(2 << 20), 0)]), batch(41, compression, messages=[(None, bytes(1 << 19), 0)])
    assert len(bomb) < 1 << 17
    tracemalloc.start()
    packed = [record.value for record in fetched(bomb, fits).take()]
    assert tracemalloc.get_traced_memory()[1] < 1 << 20, "nothing is unpacked before somebody reads it"
    small, large = packed[0].unpacked(1 << 18), packed[0].unpacked()
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()
    assert small is None
    assert large[:8] == (3, 40, 1, 0, None, b"", 40, ("size", "they unpack to more than 1048576 bytes"))
    assert (packed[1].unpacked().fault, len(packed[1].unpacked().body) > 1 << 19) == (None, True)


@pytest.mark.parametrize("compression", [1, 2, 3, 4, 6], ids=["gzip", "snappy", "lz4", "zstd", "unknown"])
def test_a_batch_that_cannot_be_unpacked_has_a_fault_and_the_next_is_read(compression: int) -> None:
    broken = bytearray(batch(40))
    broken[22] |= compression
    broken[17:21] = calc_crc32c(broken[21:]).to_bytes(4, "big")
    first, second = (record.value.unpacked() for record in fetched(bytes(broken), batch(43)).take())
    assert first.fault.reason == "malformed"
    assert first.fault.error.startswith("cannot be unpacked: ")
    assert (first.count, first.last, second.fault) == (3, 42, None)


def test_a_body_in_several_lz4_frames_is_whole_and_one_that_ends_too_early_has_a_fault() -> None:
    body = random.Random(4).randbytes(1_000) + bytes(9 << 20) + b"end"
    packed = b"".join(lz4.frame.compress(part) for part in (body[:10], body[10:5_000], b"", body[5_000:]))
    one = Packed(3, 40, 42, 3, 1_000, None, 3, packed)
    assert [getattr(one.unpacked(limit), "body", None) == body for limit in (None, len(body), len(body) - 1)] == [True, True, False]
    assert one.unpacked(len(body) - 1) is None
    for end in (1, 7, len(packed) // 2, len(packed) - 1):
        cut = one._replace(packed=packed[:-end]).unpacked()
        assert cut is not None
        assert cut.fault == ("malformed", "cannot be unpacked: it ends too early")
    many = one._replace(packed=lz4.frame.compress(b"") * 100_000).unpacked()
    assert many is not None
    assert many.fault == ("malformed", "cannot be unpacked: more than 100 frames")


def test_a_message_of_many_megabytes_is_whole() -> None:
    for compression in range(5):
        body = fetched(batch(40, compression, messages=[(None, bytes(20 << 20), 0)])).take()[0].value.unpacked().body
        assert original([RawBatch(3, 40, 1, 0, None, body)], 0, 0) == (None, bytes(20 << 20))


def test_records_from_before_kafka_0_11_are_an_error_that_says_so() -> None:
    builder = MemoryRecordsBuilder(1, 0, 1 << 20)
    builder.append(1_000, b"k", b"v")
    builder.close()
    with pytest.raises(RecordError, match="partition 3 from offset 0: records of format 1, want 2"):
        fetched(builder.buffer()).take()


def test_the_library_is_the_one_that_the_hook_was_written_for() -> None:
    assert kafka.__version__ == "3.0.12"
    check_hook()


@pytest.mark.parametrize(
    "gone",
    [
        (Fetcher, "PartitionRecords"),
        (Fetcher.PartitionRecords, "_unpack_records"),
        (DefaultRecordBatch, "_buffer"),
        (ClusterMetadata, "topic_id"),
    ],
)
def test_where_the_hook_is_gone_a_consumer_is_refused_in_one_clear_line(gone: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(*gone)
    with pytest.raises(HookError, match=r"^kafka-python 3\.0\.12 has no .*: install kafka-python==3\.0\.12$"):
        raw_consumer({"bootstrap_servers": "127.0.0.1:1"})


def test_a_changed_signature_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fetcher.PartitionRecords, "_unpack_records", lambda self, records: None)  # noqa: ARG005
    with pytest.raises(HookError, match="_unpack_records"):
        check_hook()


def test_many_events_are_a_frame_and_so_are_many_bytes_of_few() -> None:
    """Else a reader that is far behind would fetch for half a second, however large the messages."""

    def waits(count: int, size: int) -> Packed:
        return Packed(0, 0, count - 1, count, 0, None, 0, bytes(size))

    assert not is_frame([])
    assert not is_frame([waits(FRAME_EVENTS - 1, FRAME_BYTES - 1)])
    assert is_frame([waits(FRAME_EVENTS - 1, 9), waits(1, 9)])
    assert is_frame([waits(1, FRAME_BYTES // 2)] * 2)
