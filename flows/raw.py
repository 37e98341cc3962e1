"""Whole record batches out of kafka-python's consumer. In: the settings of a consumer. Out: a consumer whose values are `wire.RawBatch`.

The library does the protocol: metadata, leaders, SASL, TLS, fetch sessions, checksums, aborted transactions, control batches, positions.
Only its step through the records of a batch is replaced: the batch is handed out whole, as one record. That step is not public, so its
version is pinned, `tests/test_raw.py` holds it, and a consumer refuses to be made where it is gone.
"""

import gzip
import inspect
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import kafka
import lz4.frame
import zstandard
from kafka import KafkaConsumer
from kafka.codec import snappy_decode
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch

from flows.batches import RawBatch, RecordError

LOG = logging.getLogger(__name__)

MAX_BODY = 256 << 20  # bytes: what a megabyte of zstd can hold is more than a machine can
PIECE = 8 << 20
FETCH = {"max_partition_fetch_bytes": 4 << 20, "fetch_max_bytes": 32 << 20}  # a megabyte a fetch is 20,000 small events
FORMAT = 2  # of records: since Kafka 0.11, and the only one from Kafka 4 on


class HookError(RuntimeError):
    """kafka-python no longer is what `flows.raw` was written for."""


def raw_consumer(settings: Mapping[str, object]) -> KafkaConsumer:
    """A consumer with these settings, read_committed and with checksums, whose records are whole batches.

    A record stands for a batch: `value` is a RawBatch, `offset` the batch's last. A consumer that starts in the middle of a batch gets
    all of it. Raises HookError.
    """
    check_hook()
    consumer = KafkaConsumer(
        **{
            **FETCH,
            **settings,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",  # else an offset that expired would become the end, silently; so it is an error, and a counted gap
            "isolation_level": "read_committed",
            "check_crcs": True,
            "max_poll_records": 1 << 20,
        }
    )
    fetcher = getattr(consumer, "_fetcher", None)
    if not isinstance(fetcher, Fetcher):
        consumer.close()
        raise HookError(_gone("KafkaConsumer._fetcher"))
    fetcher.PartitionRecords = _PartitionRecords  # the fetcher of this consumer alone
    return consumer


def check_hook() -> None:
    """Raise HookError unless the library has all that the hook leans on."""
    wanted = ["self", "tp", "records", "key_deserializer", "value_deserializer"]
    unpack = getattr(getattr(Fetcher, "PartitionRecords", None), "_unpack_records", None)
    if unpack is None or list(inspect.signature(unpack).parameters) != wanted:
        raise HookError(_gone("Fetcher.PartitionRecords._unpack_records"))
    methods = [method for method in vars(Fetcher).values() if inspect.isfunction(method)]
    if not any("PartitionRecords" in method.__code__.co_names for method in methods):
        raise HookError(_gone("Fetcher.PartitionRecords as the fetcher's own"))
    for name in ("_buffer", "_pos"):
        if not hasattr(DefaultRecordBatch, name):
            raise HookError(_gone(f"DefaultRecordBatch.{name}"))


def _gone(what: str) -> str:
    return f"kafka-python {kafka.__version__} has no {what}: install kafka-python==3.0.12"


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
        body = _decompressed(batch)
        if body is None:
            LOG.error("%s: skipped %d records of more than %d bytes", at, batch.records_count, MAX_BODY)
        append_time = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
        count = 0 if body is None else batch.records_count
        self.value = RawBatch(self._partition, batch.base_offset, count, batch.first_timestamp, append_time, body or b"")
        self.offset, self.timestamp = batch.last_offset, batch.max_timestamp
        yield self

    def __next__(self) -> Any:  # noqa: ANN401 - the library looks into control batches, to see which of them abort
        return next(self._batch)

    def validate_crc(self) -> bool:
        """Of the batch, once: the library asks again for the record."""
        self._sound = self._sound or bool(self._batch.validate_crc())
        return self._sound


def _decompressed(batch: Any) -> bytes | None:  # noqa: ANN401 - the library has no types
    """The records of a batch; None where they take more than MAX_BODY."""
    packed = bytes(memoryview(batch._buffer)[batch._pos :])  # noqa: SLF001 - the hook
    match batch.compression_type:
        case batch.CODEC_NONE:
            return packed
        case batch.CODEC_SNAPPY:  # at most 64 bytes out of three
            return bytes(snappy_decode(packed))
        case batch.CODEC_GZIP:
            stream: Any = gzip.GzipFile(fileobj=io.BytesIO(packed))
        case batch.CODEC_LZ4:
            stream = lz4.frame.LZ4FrameFile(io.BytesIO(packed))
        case batch.CODEC_ZSTD:
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        case unknown:
            raise RecordError(f"compression {unknown} is unknown")
    with stream:
        pieces, left = [], MAX_BODY
        while piece := stream.read(min(left + 1, PIECE)):
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                return None
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
