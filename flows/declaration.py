"""What a person declares. In: kpi.toml and environment variables. Out: one frozen declaration. Pure but for reading the file.

pydantic checks the shape; every refusal is one line: where, what was got, what is wanted.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from flows.errors import ConfigError

NUMBERS = ("integer", "float", "decimal")
AGGREGATES = {  # name -> kinds of column it can measure
    "count": ("integer", "float", "decimal", "boolean", "string", "time", "other"),
    "rate": (),
    "sum": NUMBERS,
    "mean": NUMBERS,
    "min": (*NUMBERS, "time", "string"),
    "max": (*NUMBERS, "time", "string"),
    "deviation": NUMBERS,
    "share": ("boolean",),
}
LONGEST_MS = 3650 * 86_400_000
MOST_GROUPS = 10_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: object) -> int:
    """Milliseconds of a duration as people write it.

    >>> duration_ms("10s"), duration_ms("1500ms"), duration_ms("1d")
    (10000, 1500, 86400000)
    """
    match = re.fullmatch(r"(\d{1,12})(ms|s|m|h|d)", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError('want a duration such as "10s", "5m", "1h"')
    length_ms = int(match[1]) * UNITS_MS[match[2]]
    if length_ms > LONGEST_MS:
        raise ValueError("want a duration of at most 3650d")
    return length_ms


def _size_ms(text: object) -> int:
    size_ms = duration_ms(text)
    if size_ms == 0:
        raise ValueError("want a window longer than nothing")
    return size_ms


def _update_ms(text: object) -> int | None:
    return None if text == "off" else duration_ms(text)


def _start(text: object) -> str | int:
    if text in ("earliest", "latest"):
        return str(text)
    moment = text if isinstance(text, datetime) else None
    if isinstance(text, str):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
    if moment is None:
        raise ValueError('want "earliest", "latest" or an ISO time')
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // timedelta(milliseconds=1)


def _number(said: object) -> object:
    if not isinstance(said, int) or isinstance(said, bool) or not 1 <= said <= MOST_GROUPS:
        raise ValueError(f"want a whole number from 1 to {MOST_GROUPS}")
    return said


def _group_sets(sets: object) -> object:
    """`["a", "b"]` is short for `[["a", "b"]]`."""
    return [sets] if isinstance(sets, list) and sets and all(isinstance(path, str) for path in sets) else sets


def _distinct(sets: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    if not sets or len(set(sets)) < len(sets) or any(len(set(paths)) < len(paths) for paths in sets):
        raise ValueError("want one group set or more ([] is the total), each once, each path once in it")
    return sets


def _sorted_sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if not sizes:
        raise ValueError('want at least one window, a duration such as "10s"')
    return tuple(sorted(set(sizes)))


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"want a regular expression ({error})") from None
    return text


Duration = Annotated[int, BeforeValidator(duration_ms)]
Sizes = Annotated[tuple[Annotated[int, BeforeValidator(_size_ms)], ...], AfterValidator(_sorted_sizes)]
Number = Annotated[int, BeforeValidator(_number)]
GroupSets = Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_group_sets), AfterValidator(_distinct)]


class Strict(BaseModel):
    """Frozen; an unknown name is an error, as a typing mistake must not pass for a default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class KpiSaid(Strict):
    """`{ sum = "total", unit = "EUR" }`: exactly one aggregate, and what it measures."""

    aggregate: str
    of: str
    unit: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_aggregate(cls, said: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        if not isinstance(said, dict):
            raise ValueError('want a table such as { sum = "total" }')  # noqa: TRY004 - pydantic takes ValueErrors
        names = [name for name in said if name != "unit"]
        if len(names) != 1 or names[0] not in AGGREGATES:
            raise ValueError(f"want exactly one of {', '.join(AGGREGATES)}")
        (aggregate,) = names
        of = said[aggregate]
        if aggregate == "rate" and of != "*":
            raise ValueError('want { rate = "*" }')
        if of == "*" and aggregate not in ("count", "rate"):
            raise ValueError(f"want a field or an expression to take the {aggregate} of")
        return {"aggregate": aggregate, "of": of, "unit": said.get("unit")}


class Choice(Strict):
    """Which topics are read: regular expressions that match whole names."""

    include: tuple[Annotated[str, BeforeValidator(_pattern)], ...] = (".*",)
    exclude: tuple[Annotated[str, BeforeValidator(_pattern)], ...] = ()


class Defaults(Strict):
    """What holds for every topic that does not say otherwise. Durations become milliseconds."""

    windows: Sizes = (10_000, 60_000, 300_000)
    lateness: Duration = 10_000
    idle: Duration = 15_000
    update: Annotated[int | None, BeforeValidator(_update_ms)] = 1_000
    max_future: Duration = 300_000
    groups: Number = 10_000
    start: Annotated[str | int, BeforeValidator(_start)] = "earliest"
    retention: Duration = 7 * 86_400_000
    topics: Choice = Choice()


class TopicSaid(Strict):
    """One `[topics."…"]` table: None means the default."""

    windows: Sizes | None = None
    lateness: Duration | None = None
    idle: Duration | None = None
    update: Annotated[int | None, BeforeValidator(_update_ms)] = None
    max_future: Duration | None = None
    groups: Number | None = None
    start: Annotated[str | int, BeforeValidator(_start)] | None = None
    time: str | None = None
    by: GroupSets = ((),)
    where: str | None = None
    kpis: dict[str, KpiSaid] = {}


class File(Strict):
    """The whole of kpi.toml."""

    defaults: Defaults = Defaults()
    topics: dict[str, TopicSaid] = {}


@dataclass(frozen=True, slots=True)
class Topic:
    """What is declared for one topic, defaults filled in; durations in milliseconds, windows smallest first."""

    windows: tuple[int, ...]
    lateness: int
    idle: int
    update: int | None
    max_future: int
    groups: int
    start: str | int
    time: str | None
    by: tuple[tuple[str, ...], ...]
    where: str | None
    kpis: Mapping[str, KpiSaid]


@dataclass(frozen=True, slots=True)
class Declaration:
    """kpi.toml and environment, read and checked."""

    file: File

    @property
    def defaults(self) -> Defaults:
        """The `[defaults]` table."""
        return self.file.defaults

    def canonical(self) -> str:
        """The same text for the same meaning. The order of topics counts, as the first pattern that matches is taken."""
        topics = [(name, said.model_dump(exclude_unset=True)) for name, said in self.file.topics.items()]
        return json.dumps([self.defaults.model_dump(), topics], sort_keys=True)

    def of(self, topic: str) -> Topic:
        """What holds for `topic`: the table of its name, else the first table whose /pattern/ matches it, over the defaults."""
        tables = self.file.topics
        patterns = ((name[1:-1], said) for name, said in tables.items() if len(name) > 1 and name[0] == name[-1] == "/")
        said = tables.get(topic) or next((said for pattern, said in patterns if re.fullmatch(pattern, topic)), TopicSaid())
        names = ("lateness", "idle", "update", "max_future", "groups", "start")
        given = {name: getattr(said if name in said.model_fields_set else self.defaults, name) for name in names}
        windows = said.windows or self.defaults.windows
        return Topic(windows=windows, time=said.time, by=said.by, where=said.where, kpis=said.kpis, **given)


def read_declaration(environ: Mapping[str, str]) -> Declaration:
    """The declaration of `KPI_CONFIG` (default kpi.toml; only the default may be missing) with `KPI_WINDOWS` over its default windows.

    Raises ConfigError: one line that names the place, what was got and what is wanted.
    """
    path = Path(environ.get("KPI_CONFIG", "kpi.toml"))
    if not path.exists() and "KPI_CONFIG" in environ:
        raise ConfigError(f"KPI_CONFIG: got {path}, want a file that exists")
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: got what cannot be read ({error}), want a TOML file in UTF-8") from None
    return parse(text, str(path), environ.get("KPI_WINDOWS"))


def parse(text: str, name: str = "kpi.toml", windows: str | None = None) -> Declaration:
    """The declaration in a file's text; `windows` ("10s,1m") replaces the default windows."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from None
    for table, said in tables.get("topics", {}).items() if isinstance(tables.get("topics"), dict) else ():
        if table.startswith("/") and table.endswith("/"):
            _checked(lambda table=table: _pattern(table[1:-1]), f"{name}: topics.{table}", said)
    if windows is not None:
        _checked(lambda: [_size_ms(part.strip()) for part in windows.split(",")], "KPI_WINDOWS", windows)
        if isinstance(defaults := tables.setdefault("defaults", {}), dict):
            defaults["windows"] = [part.strip() for part in windows.split(",")]
    try:
        return Declaration(File.model_validate(tables))
    except ValidationError as refused:
        first = refused.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        want = first["msg"].removeprefix("Value error, ").replace("Input should be", "want", 1)
        want = "no such name; see docs/contracts.md for those there are" if first["type"] == "extra_forbidden" else want
        raise ConfigError(f"{name}: {where}: got {first['input']!r}, {want}") from None


def _checked(check: Any, at: str, got: object) -> None:  # noqa: ANN401 - a thunk
    try:
        check()
    except ValueError as error:
        raise ConfigError(f"{at}: got {got!r}, {error}") from None
