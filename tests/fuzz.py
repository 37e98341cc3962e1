"""The decoder under fire, in a process and a thread of its own with little memory and a small stack. In: SEED, COUNT. Out: JSON lines.

- `python -m tests.fuzz messages SEED COUNT`: mutated messages; whatever decode accepts, fastavro reads to the same values
- `python -m tests.fuzz bodies SEED COUNT`: mutated bodies of record batches; cut out exactly, or RecordError
- `python -m tests.fuzz bomb NUMBER`: one message of BOMBS, decoded alone; its time and memory
"""

import io
import json
import math
import resource
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Context
from pathlib import Path
from random import Random
from typing import Any

import fastavro
import polars as pl

from flows.batches import RecordError, cut
from flows.fields import Leaf, Schema, read_schema
from flows.message import Malformed, examine
from flows.wire import decode
from tests.avro import DECIMAL, MALFORMED, NODE, OUT_OF_RANGE, bare, look_up
from tests.batches import batch, varint

STACK_BYTES = 256 << 10  # of the thread: a worker's own is 2 MiB
BATCH = 10_000
BATCH_MEMORY = 512 << 20  # above what the process has before the first message
BOMB_MEMORY = 50 << 20
EXAMINED = 50  # one message in so many is judged alone as well
_EXACT = Context(prec=100)

MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}
FIXED_MONEY = {"type": "fixed", "name": "Money", "size": 9, "logicalType": "decimal", "precision": 20, "scale": 4}
TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "value", "type": "int"}, {"name": "children", "type": {"type": "array", "items": "Tree"}}],
}
INNER = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "double"}, {"name": "y", "type": ["null", "string"]}]}
TYPES: dict[str, list[Any]] = {
    "flat": ["long", "int", "double", "float", "boolean", "string", "bytes"],
    "times": [{"type": "long", "logicalType": "timestamp-micros"}, {"type": "int", "logicalType": "date"}, "string"],
    "nullable": [["null", "long"], ["string", "null"], ["null", "double"], ["boolean", "null"]],
    "nested": [INNER, ["null", {"type": "record", "name": "Deep", "fields": [{"name": "inner", "type": ["null", "Inner"]}]}], "long"],
    "several": [["null", "string", "long", "double"], "long", ["int", "string", "null", INNER]],
    "arrays": [{"type": "array", "items": "long"}, {"type": "array", "items": ["null", "string"]}, {"type": "array", "items": INNER}],
    "maps": [{"type": "map", "values": "long"}, {"type": "map", "values": {"type": "array", "items": "double"}}, "int"],
    "enums": [{"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}, {"type": "fixed", "name": "F", "size": 4}, "boolean"],
    "decimals": [MONEY, FIXED_MONEY, ["null", {**MONEY, "precision": 38, "scale": 10}]],
    "recursive": ["long", NODE, TREE],
}
LONG = {"type": "array", "items": "long"}
BOMBS: list[tuple[Any, bytes]] = [
    *((declared, message) for declared, message, _ in MALFORMED),
    *OUT_OF_RANGE,
    ({"type": "array", "items": LONG}, varint(30_000_000) + b"\0" * 100),
    ({"type": "map", "values": {"type": "array", "items": {"type": "map", "values": "null"}}}, (b"\x02\x02k" + b"\x02") * 200 + b"\0"),
    (["null", TREE], b"\x02" + b"\x02\x02" * 5_000),
    ({"type": "array", "items": NODE}, varint(40) + (b"\x02" * 70 + b"\0") * 40 + b"\0"),
    ("string", varint((1 << 63) - 1) + b"x"),
    ("bytes", varint(-(1 << 63))),
    ({"type": "fixed", "name": "Huge", "size": 1 << 30}, b"x"),
    (DECIMAL, varint((1 << 62) - 1) + b"\x01"),
]


def event(*types: Any) -> dict[str, Any]:
    """A record of these types; names of fields are f0, f1, …"""
    return {"type": "record", "name": "Event", "fields": [{"name": f"f{n}", "type": declared} for n, declared in enumerate(types)]}


def value(declared: Any, rnd: Random, names: dict[str, Any], depth: int = 0) -> Any:  # noqa: C901, PLR0911, PLR0912 - a case a type
    """Some value of a bare type."""
    if isinstance(declared, str) and declared in names:
        declared = names[declared]
    if isinstance(declared, list):
        return value("null" if depth > 3 and "null" in declared else rnd.choice(declared), rnd, names, depth + 1)
    match declared if isinstance(declared, str) else declared["type"]:
        case "null":
            return None
        case "boolean":
            return rnd.random() < 0.5
        case "int":
            return rnd.choice([0, 1, -1, rnd.randrange(-70, 70), -(1 << 31), (1 << 31) - 1])
        case "long":
            return rnd.choice([0, 1, -1, rnd.randrange(-70, 70), rnd.randrange(1 << 50), -(1 << 63), (1 << 63) - 1])
        case "float" | "double":
            return rnd.choice([0.0, 1.5, -2.25, math.inf, math.nan])
        case "string":
            return rnd.choice(["", "a", "plain", "Ünï漢😀", "x" * 70])
        case "bytes":
            return rnd.randbytes(rnd.choice([0, 1, 3, 5]))
        case "fixed":
            return rnd.choice([b"\0", b"\xff"]) * (declared["size"] - 2) + rnd.randbytes(2)
        case "enum":
            return rnd.choice(declared["symbols"])
        case "array":
            return [value(declared["items"], rnd, names, depth + 1) for _ in range(rnd.randrange(4 - min(depth, 3)))]
        case "map":
            return {f"k{n}": value(declared["values"], rnd, names, depth + 1) for n in range(rnd.randrange(4 - min(depth, 3)))}
    names[declared["name"]] = declared
    return {field["name"]: value(field["type"], rnd, names, depth + 1) for field in declared["fields"]}


def mutated(messages: Sequence[bytes], rnd: Random) -> bytes:
    """A message with up to three of its bytes changed, removed or added, cut off, or joined to the rest of another."""
    draw = rnd.random
    message = messages[int(draw() * len(messages))]
    for _ in range(1 + int(draw() * draw() * 3)):
        at, way = int(draw() * (len(message) + 1)), draw()
        octet = (b"\0", b"\x01", b"\x02", b"\x7f", b"\x80", b"\xff", bytes((int(draw() * 256),)))[int(draw() * 7)]
        if way < 0.6:
            message = message[:at] + octet + message[at + 1 :]
        elif way < 0.7:
            message = message[:at] + octet + message[at:]
        elif way < 0.8:
            message = message[:at] + message[at + 1 :]
        elif way < 0.9:
            message = message[:at]
        else:
            message = message[:at] + messages[int(draw() * len(messages))][at:]
    return message


def messages(seed: int, count: int) -> dict[str, Any]:
    """Judge so many messages; raises where decode is milder than fastavro, reads another value, or is of two minds."""
    rnd = Random(seed)
    seen: Counter[str] = Counter()
    made = {}
    for name, types in TYPES.items():
        plain = fastavro.parse_schema(bare(event(*types)))
        made[name] = (read_schema(7, json.dumps(event(*types))), plain, [_written(plain, rnd) for _ in range(300)])
    while seen["messages"] < count:
        for name, (schema, plain, good) in made.items():
            some = [mutated(good, rnd) for _ in range(min(BATCH, count))]
            _judge(name, schema, plain, some, seen)
    return dict(seen)


def _written(plain: Any, rnd: Random) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, plain, value(plain, rnd, {}))
    return out.getvalue()


def _judge(name: str, schema: Schema, plain: Any, some: Sequence[bytes], seen: Counter[str]) -> None:
    raw = batch([(None, b"\0\0\0\0\x07" + message, 0, ()) for message in some])
    columns = {path: leaf.dtype for path, leaf in schema.leaves.items()}
    found = decode([raw], columns, lambda _: schema)
    accepted = found.frame["__offset"].to_list()
    values = []
    for offset in accepted:
        stream = io.BytesIO(some[offset])
        try:
            values.append(fastavro.schemaless_reader(stream, plain, None))
        except Exception as error:
            raise AssertionError(f"{name}: {some[offset].hex()} is accepted; fastavro: {error!r}") from error
        assert not stream.read(1), f"{name}: {some[offset].hex()} has bytes left over"
    for path, leaf in schema.leaves.items():
        wanted = [look_up(it, leaf) for it in values]
        if (got := plainly(found.frame[path], leaf)) != wanted:
            first = next(n for n, pair in enumerate(zip(got, wanted, strict=True)) if pair[0] != pair[1])
            raise AssertionError(f"{name}.{path}: {some[accepted[first]].hex()} is {got[first]!r}, for fastavro {wanted[first]!r}")
    verdicts = {rejected.offset: (rejected.reason, rejected.error) for rejected in found.rejected}
    assert len(verdicts) + len(accepted) == len(some)
    for offset in range(0, len(some), EXAMINED):
        try:
            examine(schema, some[offset])
            alone = None
        except Malformed as malformed:
            alone = (malformed.reason, str(malformed))
        assert verdicts.get(offset) == alone, f"{name}: {some[offset].hex()} is {verdicts.get(offset)} among others, {alone} alone"
        seen["examined"] += 1
    seen += Counter(messages=len(some), accepted=len(accepted), values=len(accepted) * len(columns))
    seen += Counter(reason for reason, _ in verdicts.values())


def plainly(column: pl.Series, leaf: Leaf) -> list[Any]:
    """A column in the terms of `look_up`: decimals unscaled, NaN as a word."""
    if leaf.kind == "decimal":
        return [None if it is None else int(it.scaleb(leaf.scale, _EXACT)) for it in column]
    if leaf.kind == "float":
        return ["NaN" if it is not None and math.isnan(it) else it for it in column]
    return column.to_list()


def bodies(seed: int, count: int) -> dict[str, Any]:
    """Cut so many mutated bodies; raises where something else than RecordError comes of it."""
    rnd, seen = Random(seed), Counter[str]()
    good = [batch([(b"k" * (n % 3) or None, b"v" * n, n, [("h", None)] * (n % 2))] * (1 + n % 4)) for n in range(20)]
    for _ in range(count):
        one = rnd.choice(good)
        raw = one._replace(body=mutated([it.body for it in good] if rnd.random() < 0.1 else [one.body], rnd))
        try:
            records = cut([raw])
        except RecordError:
            seen["refused"] += 1
        else:
            assert len(records.meta) == raw.count
            assert (records.value + records.value_length.clip(0) <= len(records.buffer)).all()
            seen["cut"] += 1
    return dict(seen)


def bomb(number: int) -> dict[str, Any]:
    """Decode one of BOMBS, after a harmless message of the same schema; the least of three times."""
    declared, message = BOMBS[number]
    schema = read_schema(7, json.dumps(event(declared)))
    columns = {path: leaf.dtype for path, leaf in schema.leaves.items()}
    raw = batch([(None, b"\0\0\0\0\x07" + message, 0, ())])
    decode([batch([(None, b"\0\0\0\0\x07\x80", 0, ())])], columns, lambda _: schema)
    _limit(BOMB_MEMORY)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, spent = _status("VmRSS"), []
    for _ in range(3):
        started = time.process_time()
        found = decode([raw], columns, lambda _: schema)
        spent.append(time.process_time() - started)
    return {"ms": min(spent) * 1000, "kib": _status("VmHWM") - before, "rejected": [reason.reason for reason in found.rejected]}


def _status(name: str) -> int:
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))


def _limit(more: int) -> None:
    """No more address space than now and so many bytes."""
    most = _status("VmSize") * 1024 + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _inside(work: Callable[[], dict[str, Any]], told: list[Any]) -> None:
    try:
        told.append(work())
    except BaseException as error:  # noqa: BLE001 - told to whoever started this
        told.append({"error": f"{type(error).__name__}: {error}"})


def main(arguments: Sequence[str]) -> int:
    """Work in a thread with a small stack, and say what came of it."""
    what, *numbers = arguments
    works: dict[str, Callable[..., dict[str, Any]]] = {"messages": messages, "bodies": bodies, "bomb": bomb}
    work = works[what]
    decode([batch([(None, struct.pack(">bI", 0, 7) + b"\x02", 0, ())])], {}, lambda _: read_schema(7, json.dumps(event("long"))))
    threading.stack_size(STACK_BYTES)
    if what != "bomb":
        _limit(BATCH_MEMORY)
    told: list[Any] = []
    thread = threading.Thread(target=_inside, args=(lambda: work(*map(int, numbers)), told))
    thread.start()
    thread.join()
    sys.stdout.write(json.dumps(told[0]) + "\n")
    return "error" in told[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
