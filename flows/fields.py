"""An Avro schema as columns. In: the text of a writer's schema. Out: its leaves (columns of a frame) and its wire type. Pure."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import fastavro
import polars as pl
from fastavro.schema import SchemaParseException, UnknownType

MAX_TEXT = 1 << 20  # characters
MAX_DEPTH = 64  # levels of nested types: 1,500 of them overflow a worker thread's stack
MAX_SCALE = 38  # of a decimal in a frame
MAX_NESTING = 4 * MAX_DEPTH  # of the text's brackets: parsing must not overflow that stack either
MAX_TYPES = 10_000  # once every name is inlined: 40 records that hold the next one twice are 10^12 types
MAX_FIXED = 1 << 30  # bytes

Kind = Literal["integer", "float", "decimal", "boolean", "string", "enum", "time", "date", "daytime", "uuid", "bytes"]
Type = Literal["null", "boolean", "integer", "float", "double", "string", "bytes", "fixed", "decimal", "union", "array", "record", "name"]


class SchemaError(ValueError):
    """A schema that no message can be read with; the text says why."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One column. `dtype` is what it has in a frame: times are Int64 UTC ms (floored), decimals Decimal(38, scale), enums String.

    A date outside of the years 1 to 9999 and a time of day beyond the day are null; a `uuid` is sixteen bytes that are spelled as text.
    """

    path: str  # dotted: "address.country"
    kind: Kind
    dtype: pl.DataType
    unit_ns: int = 0  # of a time or a time of day as it is written
    scale: int = 0  # of a decimal
    symbols: tuple[str, ...] = ()  # of an enum
    doc: str = ""
    unit: str = ""  # the field's own property "unit"
    kpi: str = ""  # the field's own property "kpi", as JSON (see said.annotated)
    aliases: tuple[str, ...] = ()  # paths under which an older schema may have written it


@dataclass(frozen=True, slots=True)
class Wire:
    """What a type's bytes look like; logical types but decimal are gone, an enum is a bounded integer, a map an array of pairs.

    `fields`: of a record; the branches of a union; the item of an array; empty names where there are none.
    """

    type: Type
    width: int  # the fewest bytes a value can have
    low: int = 0  # of an integer, inclusive
    high: int = 0  # of an integer, inclusive
    size: int = 0  # of a fixed; of a decimal on a fixed (-1: on bytes)
    precision: int = 0  # of a decimal
    name: str = ""  # of a record; of what a recursive schema refers to
    fields: tuple[tuple[str, "Wire"], ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """A writer's schema. `wire` is its record; `names` holds its records where it is recursive, and is empty where it is not.

    `barred`: what the fields are that are no leaf, by path: "an array", "a union of string and long".
    """

    id: int
    text: str
    parsed: Any
    leaves: Mapping[str, Leaf]
    wire: Wire
    names: Mapping[str, Wire]
    barred: Mapping[str, str]


_TIME_NS = {
    f"{zone}timestamp-{unit}": unit_ns
    for zone in ("", "local-")
    for unit, unit_ns in (("millis", 1_000_000), ("micros", 1_000), ("nanos", 1))
}
_DAYTIME_NS = {("int", "time-millis"): 1_000_000, ("long", "time-micros"): 1_000}
UUID_BYTES = 16
_PRIMITIVES = {
    "null": Wire("null", 0),
    "boolean": Wire("boolean", 1),
    "int": Wire("integer", 1, low=-(1 << 31), high=(1 << 31) - 1),
    "long": Wire("integer", 1, low=-(1 << 63), high=(1 << 63) - 1),
    "float": Wire("float", 4),
    "double": Wire("double", 8),
    "string": Wire("string", 1),
    "bytes": Wire("bytes", 1),
}
_KINDS: dict[str, Kind] = {
    "boolean": "boolean",
    "int": "integer",
    "long": "integer",
    "float": "float",
    "double": "float",
    "string": "string",
}
_DTYPES = {
    "integer": pl.Int64(),
    "time": pl.Int64(),
    "date": pl.Date(),
    "daytime": pl.Time(),
    "uuid": pl.String(),
    "float": pl.Float64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "enum": pl.String(),
    "bytes": pl.Binary(),
}


def read_schema(id: int, text: str, references: Sequence[str] = ()) -> Schema:  # noqa: A002 - the registry's word
    """The schema of a record, every name resolved; `references` are the texts it refers to, each after those it refers to itself.

    Raises SchemaError: does not parse, no record, longer than 1 MB, nested deeper than 64, more than 10,000 types once inlined, or an
    array or a map whose items take no bytes (five bytes could claim a thousand million of them).
    """
    definitions: dict[str, Any] = {}
    try:
        for reference in references:
            fastavro.parse_schema(_loaded(reference), named_schemas=definitions)
        parsed = fastavro.parse_schema(_loaded(text), named_schemas=definitions)
        reader = _Reader(definitions)
        wire = reader.event(parsed)
        leaves = {leaf.path: leaf for leaf in reader.leaves(reader.defined(parsed), (), ((),))}
    except SchemaError as error:
        raise SchemaError(f"schema {id}: {error}") from None
    except (SchemaParseException, UnknownType, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SchemaError(f"schema {id}: does not parse: {error!r}") from None
    return Schema(id, text, parsed, leaves, wire, reader.names, reader.barred)


def promotes(written: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether every value of one dtype can be had as the other. (Avro 1.12, schema resolution; integers and decimals also widen.)"""
    if isinstance(written, pl.Decimal) and isinstance(wanted, pl.Decimal):
        return written.scale <= wanted.scale
    if isinstance(written, pl.Int64 | pl.Decimal) and wanted.is_float():
        return True
    if isinstance(written, pl.Int64) and wanted == pl.Date():  # an int that is said to be a date from some version on
        return True
    return written == wanted or (isinstance(written, pl.Int64) and wanted.is_decimal()) or {written, wanted} == {pl.String(), pl.Binary()}


def _loaded(text: str) -> Any:  # noqa: ANN401 - any JSON
    if len(text) > MAX_TEXT:
        raise SchemaError(f"{len(text)} characters, want at most {MAX_TEXT}")
    nesting = 0
    for bracket in re.findall(r"[][{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        nesting += 1 if bracket in "[{" else -1
        if nesting > MAX_NESTING:
            raise SchemaError(f"nested deeper than {MAX_DEPTH} types")
    return json.loads(text)


class _Reader:
    """Reads one parsed schema, with the definitions of its names."""

    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self.definitions = definitions
        self.names: dict[str, Wire] = {}
        self.barred: dict[str, str] = {}
        self.open: list[str] = []  # records that we are inside of
        self.recursive: set[str] = set()
        self.types = 0

    def event(self, declared: Any) -> Wire:  # noqa: ANN401 - parsed JSON
        """The wire type of a whole schema: a record."""
        wire = self.wire(declared, 0)
        if wire.type != "record":
            raise SchemaError(f"got {wire.type}, want a record")
        return wire

    def wire(self, declared: Any, depth: int) -> Wire:  # noqa: ANN401 - parsed JSON
        """The wire type of a declared one."""
        self.types += 1
        if depth > MAX_DEPTH or self.types > MAX_TYPES:
            raise SchemaError(f"nested deeper than {MAX_DEPTH}, or more than {MAX_TYPES} types")
        declared = self.defined(declared)
        if isinstance(declared, list):
            branches = tuple(("", self.wire(branch, depth + 1)) for branch in declared)
            if not branches:
                raise SchemaError("a union without branches")
            return Wire("union", 1 + min(branch.width for _, branch in branches), high=len(branches) - 1, fields=branches)
        match _base(declared):
            case "record" | "error":
                return self._record(declared, depth)
            case "array":
                return self._array(self.wire(declared["items"], depth + 1))
            case "map":
                key, value = self.wire("string", depth + 2), self.wire(declared["values"], depth + 2)
                return self._array(Wire("record", 1 + value.width, fields=(("key", key), ("value", value))))
            case base:
                return _simple(base, declared)

    def defined(self, declared: Any) -> Any:  # noqa: ANN401 - parsed JSON
        """The definition of a name; a type without its wrapping."""
        while not isinstance(base := _base(declared), str) or base in self.definitions:
            if isinstance(declared, list):
                break
            declared = self.definitions[base] if isinstance(base, str) else base
        return declared

    def _array(self, item: Wire) -> Wire:
        if item.width == 0:
            raise SchemaError("an array whose items take no bytes")
        return Wire("array", 1, fields=(("", item),))

    def _record(self, declared: Any, depth: int) -> Wire:  # noqa: ANN401 - parsed JSON
        name = declared["name"]
        if name in self.open:
            # Any path back to a record without end passes a union, an array or a map, and each of them takes a byte.
            self.recursive.add(name)
            return Wire("name", 1, name=name)
        self.open.append(name)
        fields = tuple((field["name"], self.wire(field["type"], depth + 1)) for field in declared["fields"])
        self.open.pop()
        record = Wire("record", sum(field.width for _, field in fields), name=name, fields=fields)
        if name in self.recursive:
            self.names[name] = record
        return record

    def leaves(self, declared: Any, path: tuple[str, ...], aliases: tuple[tuple[str, ...], ...]) -> Iterator[Leaf]:  # noqa: ANN401
        """The leaves of a record, in its order; a union of several types is none (but of numbers), nor is an array or a map."""
        self.open.append(declared["name"])
        for field in declared["fields"]:
            here = (*path, field["name"])
            names = (field["name"], *field.get("aliases", ()))
            paths = tuple((*before, name) for before, name in product(aliases, names))[:MAX_DEPTH]
            plain = self.defined(_nullable(field["type"]))
            if isinstance(plain, list):
                plain = self._number(plain)
            match None if isinstance(plain, list) else _base(plain):
                case "record" | "error" if plain["name"] not in self.open:
                    yield from self.leaves(plain, here, paths)
                case None | "record" | "error" | "array" | "map" | "null":
                    self.barred[".".join(here)] = self._said(plain)
                case base:
                    other = tuple(".".join(alias) for alias in paths if alias != here)
                    leaf = _leaf(".".join(here), base, plain)
                    kpi = json.dumps(field["kpi"]) if "kpi" in field else ""
                    yield replace(leaf, doc=str(field.get("doc", "")), unit=str(field.get("unit", "")), kpi=kpi, aliases=other)
        self.open.pop()

    def _number(self, branches: list[Any]) -> Any:  # noqa: ANN401 - parsed JSON
        """The number that all branches can be promoted to; without one the branches as they are."""
        several = [self.defined(branch) for branch in branches if _base(branch) != "null"]
        plain = [_base(branch) for branch in several if _leaf("", _base(branch), branch).kind in {"integer", "float"}]
        if not several or len(plain) < len(several):
            return branches
        return "double" if {"float", "double"} & set(plain) else "long"

    def _said(self, declared: Any) -> str:  # noqa: ANN401 - parsed JSON
        """What a type is, in words."""
        if isinstance(declared, list):
            names = [said["name"] if "name" in (said := self.defined(it)) else _base(said) for it in declared if _base(it) != "null"]
            return f"a union of {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "null"
        base = _base(declared)
        return (
            f"a record inside of itself, {declared['name']}"
            if base in {"record", "error"}
            else {"array": "an array", "map": "a map"}.get(base, base)
        )


def _base(declared: Any) -> Any:  # noqa: ANN401 - parsed JSON
    return declared["type"] if isinstance(declared, dict) else declared


def _nullable(declared: Any) -> Any:  # noqa: ANN401 - parsed JSON
    """T of [null, T], [T, null] and [T]; anything else as it is."""
    if isinstance(declared, list):
        others = [branch for branch in declared if _base(branch) != "null"]
        return others[0] if len(others) == 1 else declared
    return declared


def _decimal(base: str, declared: Any) -> bool:  # noqa: ANN401 - parsed JSON
    """Whether it is a decimal that a frame can hold; another one is what it is made of, bytes or a fixed."""
    logical = isinstance(declared, dict) and declared.get("logicalType") == "decimal"
    return logical and base in {"bytes", "fixed"} and declared.get("scale", 0) <= MAX_SCALE


def _simple(base: str, declared: Any) -> Wire:  # noqa: ANN401 - parsed JSON
    if base == "fixed" and not 0 <= declared["size"] <= MAX_FIXED:
        raise SchemaError(f"a fixed of {declared['size']} bytes")
    if _decimal(base, declared):
        size = declared["size"] if base == "fixed" else -1
        return Wire("decimal", size if base == "fixed" else 1, size=size, precision=declared["precision"])
    if base == "enum":
        return Wire("integer", 1, high=len(declared["symbols"]) - 1)
    if base == "fixed":
        return Wire("fixed", declared["size"], size=declared["size"])
    if base not in _PRIMITIVES:
        raise SchemaError(f"unknown type {base!r}")
    return _PRIMITIVES[base]


def _leaf(path: str, base: str, declared: Any) -> Leaf:  # noqa: ANN401, PLR0911 - parsed JSON, a case a kind
    logical = declared.get("logicalType", "") if isinstance(declared, dict) else ""
    if _decimal(base, declared):
        scale = declared.get("scale", 0)
        return Leaf(path, "decimal", pl.Decimal(38, scale), scale=scale)
    if base == "long" and logical in _TIME_NS:
        return Leaf(path, "time", _DTYPES["time"], unit_ns=_TIME_NS[logical])
    if base == "int" and logical == "date":
        return Leaf(path, "date", _DTYPES["date"])
    if (base, logical) in _DAYTIME_NS:
        return Leaf(path, "daytime", _DTYPES["daytime"], unit_ns=_DAYTIME_NS[base, logical])
    if base == "fixed" and logical == "uuid" and declared["size"] == UUID_BYTES:
        return Leaf(path, "uuid", _DTYPES["uuid"])
    if base == "enum":
        return Leaf(path, "enum", _DTYPES["enum"], symbols=tuple(declared["symbols"]))
    kind = _KINDS.get(base, "bytes")
    return Leaf(path, kind, _DTYPES[kind])
