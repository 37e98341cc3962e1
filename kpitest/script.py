"""Files of events and of expectations. In: JSON lines. Out: a driver that has them behind it; expectations; errors with line numbers.

    {"topic": "shop.orders", "value": {...}, "timestamp": "2026-11-26T10:00:00Z", "key": "c-1", "partition": 0}      a message
    {"topic": "shop.orders", "defaults": {...}}     what later values of the topic have, where they do not say otherwise
    {"topic": "shop.orders", "raw": "text"}         a message that is no Avro
    {"advance": "30s"}                              the clock goes on
    {"close": false}                                windows that are open at the end stay open

Lines that are empty or begin with # or // are nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from flows.errors import ConfigError
from kpitest.driver import Driver
from kpitest.errors import WrongEventError, choices

MOST_PARTITIONS = 1_000
NAMES = ("topic", "partition", "timestamp", "key", "value", "raw", "defaults", "advance", "close")


@dataclass(frozen=True, slots=True)
class Expectation:
    """Rows that must be there, and the topics of which there must be no others ("": of all)."""

    rows: tuple[Mapping[str, Any], ...]
    only: frozenset[str] = frozenset()

    def is_only(self, topic: str) -> bool:
        """Whether rows of a topic that nobody expects are wrong."""
        return bool(self.only & {"", topic})


def play(driver: Driver, text: str, name: str, topic: str | None = None) -> None:
    """Send everything in a file of events; `topic`: of the lines that name none. Raises WrongEventError with file and line."""
    defaults: dict[str, Mapping[str, Any]] = {}
    close = True
    for number, line in lines(text, name):
        try:
            _known(line)
            if "advance" in line:
                driver.advance(line["advance"])
            elif "close" in line:
                close = line["close"] is not False
            else:
                _message(driver, {"topic": topic, **line}, defaults)
        except (WrongEventError, ConfigError) as error:
            _refuse(name, number, str(error))
    if close:
        try:
            driver.close()
        except WrongEventError as error:
            raise WrongEventError(f"{name}: {error}") from None


def expected(driver: Driver, text: str, name: str) -> Expectation:
    """The expectation in a file; a line `{"only": true}`, with a topic or without, wants no other rows. Raises WrongEventError."""
    rows, only = [], set[str]()
    for number, line in lines(text, name):
        try:
            if "only" in line:
                if topic := line.get("topic"):
                    driver.check(topic)
                only |= {topic or ""} if line["only"] else set()
            else:
                driver.check(str(line.get("topic")), line)
                rows.append(line)
        except WrongEventError as error:
            _refuse(name, number, str(error))
    return Expectation(tuple(rows), frozenset(only))


def lines(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of JSON lines, each with the number of its line. Raises WrongEventError."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", "//")):
            continue
        try:
            said = json.loads(line)
        except json.JSONDecodeError as error:
            _refuse(name, number, f"no JSON: {error.msg} at column {error.colno}")
        if not isinstance(said, dict):
            _refuse(name, number, f"got {said!r}, want an object")
        yield number, said


def _known(line: Mapping[str, Any]) -> None:
    for name in line:
        if name not in NAMES:
            raise WrongEventError(f"{name}: no such name, want {choices(name, NAMES)}")


def _message(driver: Driver, line: Mapping[str, Any], defaults: dict[str, Mapping[str, Any]]) -> None:
    topic, partition, key = line["topic"], line.get("partition", 0), line.get("key")
    if topic is None:
        raise WrongEventError("topic: missing, want the name of a topic, or TOPIC= for all lines")
    if not isinstance(partition, int) or isinstance(partition, bool) or not 0 <= partition < MOST_PARTITIONS:
        raise WrongEventError(f"partition: got {partition!r}, want a whole number from 0 to {MOST_PARTITIONS - 1}")
    if key is not None and not isinstance(key, str):
        key = json.dumps(key)
    if "defaults" in line:
        driver.topic(topic)
        defaults[topic] = _object(line["defaults"], "defaults")
        return
    if "raw" in line:
        value: Mapping[str, Any] | bytes | None = str(line["raw"]).encode()
    elif "value" not in line:
        raise WrongEventError("value: missing, want an object, or null for a tombstone")
    else:
        value = None if line["value"] is None else over(defaults.get(topic, {}), _object(line["value"], "value"))
    driver.send(topic, value, at=line.get("timestamp"), key=key, partition=partition)


def over(below: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """A value over its defaults, also inside records.

    >>> over({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 4}})
    {'a': 1, 'b': {'c': 2, 'd': 4}}
    """
    merged = dict(below)
    for name, it in value.items():
        before = merged.get(name)
        merged[name] = over(before, it) if isinstance(before, dict) and isinstance(it, dict) else it
    return merged


def _object(said: object, where: str) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise WrongEventError(f"{where}: got {said!r}, want an object")
    return said


def _refuse(name: str, number: int, error: str) -> NoReturn:
    raise WrongEventError(f"{name}, line {number}: {error}") from None
