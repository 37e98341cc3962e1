"""Record batches for tests: those of kpitest, under the name that tests know."""

from kpitest.batches import Headers, Message, batch, confluent, record, varint

__all__ = ["Headers", "Message", "batch", "confluent", "record", "varint"]
