"""Values as people write them to values as Avro has them. In: JSON and an Avro schema. Out: what fastavro can write. Pure.

Times are ISO texts (UTC unless they say otherwise), or numbers in the field's own unit; decimals are texts or numbers; bytes are texts.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from kpitest.errors import WrongEventError, choices

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PER_SECOND = {"millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}
Named = Mapping[str, Any]  # every named type of a schema


def moment_ms(said: object) -> int:
    """A moment as UTC ms: an ISO text, a datetime, or the milliseconds themselves. Raises ValueError.

    >>> moment_ms("2026-11-26T10:00:00Z"), moment_ms("2026-11-26T11:00:00+01:00"), moment_ms(1000)
    (1795687200000, 1795687200000, 1000)
    """
    if isinstance(said, int) and not isinstance(said, bool):
        return said
    return _since_epoch(said) // timedelta(milliseconds=1)


def avro_value(schema: Any, value: object, named: Named, path: str = "") -> Any:  # noqa: ANN401, PLR0911 - parsed JSON in, an Avro value out
    """The value for a (parsed) schema. Raises WrongEventError, which names the field, what was got and what is wanted."""
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        return _of_union(schema, value, named, path)
    base = schema["type"] if isinstance(schema, dict) else schema
    match base:
        case "record" | "error":
            return _record(schema, value, named, path)
        case "array" if isinstance(value, list | tuple):
            return [avro_value(schema["items"], item, named, f"{path}[{number}]") for number, item in enumerate(value)]
        case "map" if isinstance(value, Mapping):
            return {str(key): avro_value(schema["values"], item, named, f"{path}.{key}") for key, item in value.items()}
        case "enum" if value not in schema["symbols"]:
            raise WrongEventError(f"{path}: got {value!r}, want {choices(str(value), schema['symbols'])}")
        case "enum":
            return value
        case dict():
            return avro_value(base, value, named, path)
    try:
        return _simple(base, schema if isinstance(schema, dict) else {}, value)
    except (ValueError, TypeError, InvalidOperation) as error:
        wanted = str(error) if isinstance(error, _Want) else _described(base, schema)
        raise WrongEventError(f"{path}: got {value!r}, want {wanted}") from None


class _Want(ValueError):  # noqa: N818 - it says what is wanted
    """What a simple value should have been."""


def _record(schema: Mapping[str, Any], value: object, named: Named, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise WrongEventError(
            f"{path or 'value'}: got {value!r}, want an object with {', '.join(field['name'] for field in schema['fields'])}"
        )
    names = [field["name"] for field in schema["fields"]]
    before = f"{path}." if path else ""
    for name in value:
        if name not in names:
            raise WrongEventError(f"{before}{name}: no such field, want {choices(str(name), names)}")
    made = {}
    for field in schema["fields"]:
        name = field["name"]
        if name in value:
            made[name] = avro_value(field["type"], value[name], named, before + name)
        elif "default" not in field:
            raise WrongEventError(f"{before}{name}: missing, and the schema has no default for it")
    return made


def _of_union(branches: list[Any], value: object, named: Named, path: str) -> Any:  # noqa: ANN401 - as above
    """The value for the first branch that it fits."""
    others = [branch for branch in branches if branch != "null"]
    if value is None and len(others) < len(branches):
        return None
    refusals = []
    for branch in others:
        try:
            return avro_value(branch, value, named, path)
        except WrongEventError as refusal:
            refusals.append(refusal)
    if len(refusals) == 1:
        raise refusals[0]
    raise WrongEventError(f"{path}: got {value!r}, want a value of one of the types of its union")


def _simple(base: str, schema: Mapping[str, Any], value: object) -> Any:  # noqa: ANN401, PLR0911 - as above
    """Raises ValueError, TypeError or InvalidOperation when the value is no such thing."""
    logical = schema.get("logicalType", "")
    if logical == "decimal":
        return _decimal(value, schema["precision"], schema.get("scale", 0))
    match base:
        case "null" if value is None:
            return None
        case "boolean" if isinstance(value, bool):
            return value
        case "int" | "long":
            return _integer(_counted(logical, value), 31 if base == "int" else 63)
        case "float" | "double" if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return float(value)
        case "string" if isinstance(value, str):
            return value
        case "bytes" | "fixed":
            raw = value if isinstance(value, bytes) else _text(value).encode("latin-1")
            if base == "fixed" and len(raw) != schema["size"]:
                raise ValueError
            return raw
    raise ValueError


def _counted(logical: str, value: object) -> object:
    """A time in the field's own unit since 1970; anything else as it is."""
    if isinstance(value, str | date):  # a datetime is a date
        if logical == "date":
            day = value if isinstance(value, date) else date.fromisoformat(value)
            return (date(day.year, day.month, day.day) - EPOCH.date()).days
        kind, _, unit = logical.rpartition("-")
        if kind in ("timestamp", "local-timestamp"):
            since = _since_epoch(value)
            return since // timedelta(microseconds=1) * PER_SECOND[unit] // 1_000_000
    return value


def _since_epoch(said: object) -> timedelta:
    moment = said if isinstance(said, datetime) else datetime.fromisoformat(_text(said))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: object, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    if not -(1 << bits) <= value < 1 << bits:
        raise _Want(f"a whole number of {bits + 1} bits")
    return value


def _decimal(value: object, precision: int, scale: int) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise TypeError
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError
    shifted = number.scaleb(scale)
    if shifted != shifted.to_integral_value():
        raise _Want(f"at most {scale} digits behind the point")
    if abs(shifted) >= 10**precision:
        raise _Want(f"at most {precision} digits")
    return number


WANTED: Mapping[str, Callable[[Any], str]] = {
    "decimal": lambda schema: f'a decimal such as "12.{"5".ljust(schema.get("scale", 0), "0")}"',
    "date": lambda _: 'a date such as "2026-11-26"',
    "timestamp": lambda _: 'a time such as "2026-11-26T10:00:00Z"',
    "fixed": lambda schema: f"text of {schema['size']} bytes",
}


def _described(base: str, schema: Any) -> str:  # noqa: ANN401 - parsed JSON
    logical = schema.get("logicalType", "") if isinstance(schema, dict) else ""
    kind = "timestamp" if "timestamp" in logical else logical
    plain = {
        "int": "a whole number",
        "long": "a whole number",
        "float": "a number",
        "double": "a number",
        "string": "text",
        "bytes": "text",
    }
    described = WANTED.get(kind) or WANTED.get(base)
    return described(schema) if described else plain.get(base, {"boolean": "true or false"}.get(base, f"a value of type {base}"))
