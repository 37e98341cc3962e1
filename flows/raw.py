"""Whole record batches out of kafka-python's consumer. In: the settings of a consumer. Out: a consumer whose values are `wire.RawBatch`.

The library does the protocol: metadata, leaders, SASL, TLS, fetch sessions, checksums, aborted transactions, control batches, positions.
Only its step through the records of a batch is replaced: the batch is handed out whole, as one record. That step is not public, so its
version is pinned, `tests/test_raw.py` holds it, and a consumer refuses to be made where it is gone.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import kafka
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch

from flows.batches import RawBatch, RecordError

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
        **{**settings, "enable_auto_commit": False, "isolation_level": "read_committed", "check_crcs": True, "max_poll_records": 1 << 20}
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
    if "self.PartitionRecords(" not in inspect.getsource(Fetcher):
        raise HookError(_gone("Fetcher.PartitionRecords as the fetcher's own"))
    for name in ("_maybe_uncompress", "_buffer", "_pos", "_decompressed"):
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

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the library has no types
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator["_Batch"]:
        batch = self._batch
        if batch.magic != FORMAT:
            raise RecordError(f"partition {self._partition} from offset {batch.base_offset}: format {batch.magic}, want {FORMAT}")
        batch._maybe_uncompress()  # noqa: SLF001 - the hook
        body = bytes(memoryview(batch._buffer)[batch._pos :])  # noqa: SLF001 - the hook
        append_time = batch.max_timestamp if batch.timestamp_type == batch.LOG_APPEND_TIME else None
        self.value = RawBatch(self._partition, batch.base_offset, batch.records_count, batch.first_timestamp, append_time, body)
        self.offset, self.timestamp = batch.last_offset, batch.max_timestamp
        yield self

    def __next__(self) -> Any:  # noqa: ANN401 - the library looks into control batches, to see which of them abort
        return next(self._batch)

    def validate_crc(self) -> bool:
        """Of the batch; when the library asks again for the record, that is done."""
        return self._batch._decompressed or bool(self._batch.validate_crc())  # noqa: SLF001 - the hook


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
