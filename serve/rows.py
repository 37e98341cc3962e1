"""A KPI topic's message as a row. In: values in Confluent's wire format, the registry. Out: shapes and rows. Asks once for each schema."""

import io
from typing import Any

import fastavro

from flows.fields import SchemaError
from flows.registry import Away, Refused, Registry
from serve.shape import Row, Shape, plain, read_row, read_shape

HEAD = 5  # bytes of the wire format before the row: magic, schema id


class Rows:
    """What reads values. Not for several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[int, tuple[Shape, Any] | None] = {}

    def read(self, value: bytes) -> tuple[Shape, Row]:
        """Shape and row of a value. Raises Away or Refused where the registry does not say its schema, anything else where it is no row."""
        if value[:1] != b"\0" or len(value) <= HEAD:
            raise SchemaError("not in Confluent's wire format")
        schema = self._schema(int.from_bytes(value[1:HEAD], "big"))
        if schema is None:
            raise SchemaError("not a KPI topic's schema")
        shape, parsed = schema
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[HEAD:]), parsed, None)
        return shape, read_row(shape, record)

    def _schema(self, schema_id: int) -> tuple[Shape, Any] | None:
        if schema_id not in self._schemas:
            self._schemas[schema_id] = _understood(self._registry, schema_id)
        return self._schemas[schema_id]


def _understood(registry: Registry, schema_id: int) -> tuple[Shape, Any] | None:
    try:
        text = registry.schema(schema_id).text
        shape = read_shape(text, schema_id)
        return (shape, fastavro.parse_schema(plain(text))) if shape else None
    except (Away, Refused):
        raise
    except Exception:  # noqa: BLE001 - whatever a schema is made of: it stays so, and is asked for once
        return None
