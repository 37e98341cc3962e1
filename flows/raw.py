"""Whole record batches out of kafka-python's consumer. In: the settings of a consumer. Out: a consumer whose values are `Packed`.

The library does the protocol: metadata, leaders, SASL, TLS, fetch sessions, checksums, aborted transactions, control batches, positions.
Only its step through the records of a batch is replaced: the batch is handed out whole, as one record. That step is not public, so its
version is pinned, `tests/test_raw.py` holds it, and a consumer refuses to be made where it is gone.
"""

import base64
import gzip
import inspect
import io
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import kafka
import lz4.frame
import zstandard
from kafka import KafkaConsumer
from kafka.cluster import ClusterMetadata
from kafka.codec import snappy_decode
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch

from flows.batches import Fault, RawBatch, RecordError

MAX_BODY = 256 << 20  # bytes: what a megabyte of zstd can hold is more than a machine can
PIECE = 8 << 20
LIKELY = 4  # times as large as it was packed
FRAMES = 100  # of LZ4 in a batch; clients write one, and what is behind each is copied
FETCH = {"max_partition_fetch_bytes": 4 << 20, "fetch_max_bytes": 32 << 20}  # a megabyte a fetch is 20,000 small events
OWN = {
    "allow_auto_create_topics": False,  # else to ask for a topic that was deleted would bring it back, where brokers allow that
    "reconnect_backoff_max_ms": 1_000,  # of 30 s: an outage would end so much later
}
FORMAT = 2  # of records: since Kafka 0.11, and the only one from Kafka 4 on


class HookError(RuntimeError):
    """kafka-python no longer is what `flows.raw` was written for."""


def raw_consumer(settings: Mapping[str, object]) -> KafkaConsumer:
    """A consumer with these settings, read_committed and with checksums, whose records are whole batches.

    A record stands for a batch: `value` is a Packed, `offset` the batch's last. A consumer that starts in the middle of a batch gets
    all of it. Raises HookError.
    """
    check_hook()
    consumer = KafkaConsumer(
        **{
            **FETCH,
            **OWN,
            **settings,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # else an offset that expired would become the end, silently; so it is an error, and a counted gap
            "isolation_level": "read_committed",
            "check_crcs": True,
            "max_poll_records": 1 << 20,
        }
    )
    fetcher = getattr(consumer, "_fetcher", None)
    if not isinstance(fetcher, Fetcher) or not isinstance(getattr(consumer, "_cluster", None), ClusterMetadata):
        consumer.close()
        raise HookError(_gone("KafkaConsumer._fetcher or ._cluster"))
    fetcher.PartitionRecords = _PartitionRecords  # the fetcher of this consumer alone
    consumer._cluster.config["allow_auto_create_topics"] = consumer.config["allow_auto_create_topics"]  # noqa: SLF001 - the library forgets it
    return consumer


def heard_id(consumer: KafkaConsumer, topic: str) -> str:
    """The id under which a consumer has heard of a topic, spelled as librdkafka does; "" where it has not, or the cluster has none.

    Where a topic is created again, it hears of the other id before it reads from the new one, unless both happen during one fetch.
    """
    heard = consumer._cluster.topic_id(topic)  # noqa: SLF001 - checked below
    return base64.b64encode(heard.bytes).decode().rstrip("=") if heard is not None and heard.int else ""


def look_again(consumer: KafkaConsumer) -> None:
    """Let a consumer ask for topics anew, with its next requests."""
    consumer._cluster.request_update()  # noqa: SLF001 - as above


def check_hook() -> None:
    """Raise HookError unless the library has all that the hook leans on."""
    wanted = ["self", "tp", "records", "key_deserializer", "value_deserializer"]
    unpack = getattr(getattr(Fetcher, "PartitionRecords", None), "_unpack_records", None)
    if unpack is None or list(inspect.signature(unpack).parameters) != wanted:
        raise HookError(_gone("Fetcher.PartitionRecords._unpack_records"))
    methods = [method for method in vars(Fetcher).values() if inspect.isfunction(method)]
    if not any("PartitionRecords" in method.__code__.co_names for method in methods):
        raise HookError(_gone("Fetcher.PartitionRecords as the fetcher's own"))
    for name in ("topic_id", "request_update"):
        if not hasattr(ClusterMetadata, name):
            raise HookError(_gone(f"ClusterMetadata.{name}"))
    for name in ("_buffer", "_pos"):
        if not hasattr(DefaultRecordBatch, name):
            raise HookError(_gone(f"DefaultRecordBatch.{name}"))


def _gone(what: str) -> str:
    return f"kafka-python {kafka.__version__} has no {what}: install kafka-python==3.0.12"


class Packed(NamedTuple):
    """A batch as it came. A fetch holds megabytes of them, which may unpack to gigabytes: so whoever reads them unpacks them one by one."""

    partition: int
    base_offset: int
    last_offset: int
    count: int  # type: ignore[assignment] # hides tuple.count, which is of no use here
    first_timestamp: int
    append_time: int | None
    compression: int
    packed: bytes

    def unpacked(self, limit: int | None = None) -> RawBatch | None:
        """The batch to be read; a fault is in one of more than MAX_BODY bytes, or that cannot be unpacked. None: beyond a smaller limit."""
        most = MAX_BODY if limit is None else min(limit, MAX_BODY)
        body, fault = b"", None
        try:
            found = _decompressed(self.compression, self.packed, most)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - five libraries, and each has its own
            fault = Fault("malformed", f"cannot be unpacked: {error or type(error).__name__}")
        else:
            if found is None and most < MAX_BODY:
                return None
            body, fault = (found, None) if found is not None else (b"", Fault("size", f"they unpack to more than {MAX_BODY} bytes"))
        return RawBatch(self.partition, self.base_offset, self.count, self.first_timestamp, self.append_time, body, self.last_offset, fault)


class _Batch:
    """A batch that iterates over itself once; everything else is the library's batch."""

    key = checksum = None
    headers = ()

    def __init__(self, batch: Any, partition: int) -> None:  # noqa: ANN401 - the library has no types
        self._batch, self._partition = batch, partition
        self._sound = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the library has no types
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator["_Batch"]:
        batch, at = self._batch, f"partition {self._partition} from offset {self._batch.base_offset}"
        if batch.magic != FORMAT:
            raise RecordError(f"{at}: records of format {batch.magic}, want {FORMAT}")
        append_time = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
        packed = bytes(memoryview(batch._buffer)[batch._pos :])  # noqa: SLF001 - the hook
        self.value = Packed(
            self._partition,
            batch.base_offset,
            batch.last_offset,
            batch.records_count,
            batch.first_timestamp,
            append_time,
            batch.compression_type,
            packed,
        )
        self.offset, self.timestamp = batch.last_offset, batch.max_timestamp
        yield self

    def __next__(self) -> Any:  # noqa: ANN401 - the library looks into control batches, to see which of them abort
        return next(self._batch)

    def validate_crc(self) -> bool:
        """Of the batch, once: the library asks again for the record."""
        self._sound = self._sound or bool(self._batch.validate_crc())
        return self._sound


def _decompressed(compression: int, packed: bytes, most: int) -> bytes | None:
    """The records of a batch; None where they take more bytes than that."""
    match compression:
        case DefaultRecordBatch.CODEC_NONE:
            return packed
        case DefaultRecordBatch.CODEC_SNAPPY:  # at most 64 bytes out of three
            body = bytes(snappy_decode(packed))
            return body if len(body) <= most else None
        case DefaultRecordBatch.CODEC_GZIP:
            stream: Any = gzip.GzipFile(fileobj=io.BytesIO(packed))
        case DefaultRecordBatch.CODEC_LZ4:
            return _lz4(packed, most)
        case DefaultRecordBatch.CODEC_ZSTD:
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        case unknown:
            raise RecordError(f"compression {unknown} is unknown")
    with stream:
        pieces, left = [], most
        while piece := stream.read(min(left + 1, PIECE)):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                return None
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _lz4(packed: bytes, most: int) -> bytes | None:
    """The same of LZ4, with as much room as a batch will need: 8 kB at a time, as its file has it, take four times as long."""
    pieces: list[bytes] = []
    for _ in range(FRAMES):
        if not packed:
            break
        frame = lz4.frame.LZ4FrameDecompressor()
        while not frame.eof:
            piece = frame.decompress(packed, min(most + 1, PIECE, LIKELY * len(packed) + PIECE // LIKELY))
            if not piece and not frame.eof:
                raise EOFError("it ends too early")
            pieces.append(piece)
            packed, most = b"", most - len(piece)
            if most < 0:
                return None
        packed = frame.unused_data or b""
    if packed:
        raise ValueError(f"more than {FRAMES} frames")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Batches:
    """The batches of a fetch, each as a `_Batch`."""

    def __init__(self, records: Any, partition: int) -> None:  # noqa: ANN401 - the library has no types
        self._records, self._partition = records, partition

    def next_batch(self) -> _Batch | None:
        batch = self._records.next_batch()
        return None if batch is None else _Batch(batch, self._partition)


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc] # the library has no types
    """The library's, but for the records of a batch."""

    def _unpack_records(self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any) -> Any:  # noqa: ANN401, ARG002
        return super()._unpack_records(tp, _Batches(records, tp.partition), None, None)
