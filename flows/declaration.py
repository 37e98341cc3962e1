"""What a person declares. In: kpi.toml and environment variables. Out: one frozen declaration. Pure but for reading the file.

pydantic checks the shape; every refusal is one line: where, what was got, what is wanted.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_core import ErrorDetails

from flows.durations import duration_ms
from flows.errors import ConfigError, did_you_mean
from flows.said import AGGREGATES as AGGREGATES
from flows.said import KpiSaid, Strict, grouped, taken_twice
from flows.windows import Window, parse_window

MOST_GROUPS = 10_000_000
READERS = 4  # of a flow: each is a part of the source, and its state
MOST_SHARDS = 4
MOST_GOT = 200  # characters of what was got, in an error
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def _number(most: int, said: object) -> object:
    if not isinstance(said, int) or isinstance(said, bool) or not 1 <= said <= most:
        raise ValueError(f"want a whole number from 1 to {most}")
    return said


def _group_sets(sets: object) -> object:
    """`["a", "b"]` is short for `[["a", "b"]]`."""
    if not isinstance(sets, list):
        raise ValueError('want a list of group sets such as [[], ["country"]]')  # noqa: TRY004 - pydantic takes ValueErrors
    return [sets] if isinstance(sets, list) and sets and all(isinstance(path, str) for path in sets) else sets


def _group(text: str) -> str:
    name, of = grouped(text)
    return name if name == of else f"{of} AS {name}"


def _distinct(sets: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    named = [[grouped(text)[0] for text in texts] for texts in sets]
    if not sets or len(set(sets)) < len(sets) or any(len(set(names)) < len(names) for names in named):
        raise ValueError("want one group set or more ([] is the total), each once, each name once in it")
    of: dict[str, str] = {}
    for text in (text for texts in sets for text in texts):
        if of.setdefault(grouped(text)[0], text) != text:
            raise ValueError(f"want one meaning of each name: {of[grouped(text)[0]]!r} and {text!r} are two")
    return sets


def _listed(windows: object) -> object:
    if not isinstance(windows, list) or not windows:
        raise ValueError('want at least one window, in a list such as ["10s", "1m"]')
    return windows


def _sorted_windows(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    """Smallest first, each once: "60s" is "1m"."""
    labels: dict[str, Window] = {}
    for window in windows:
        if labels.setdefault(window.label, window) != window:
            raise ValueError(f"want windows whose topics have different names: {window.label} is the name of two")
    return tuple(sorted(set(windows)))


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"want a regular expression ({error})") from None
    return text


Duration = Annotated[int, BeforeValidator(duration_ms)]
Windows = Annotated[tuple[Annotated[Window, BeforeValidator(parse_window)], ...], BeforeValidator(_listed), AfterValidator(_sorted_windows)]
Groups = Annotated[int, BeforeValidator(partial(_number, MOST_GROUPS))]
Readers = Annotated[int, BeforeValidator(partial(_number, READERS))]
Shards = Annotated[int, BeforeValidator(partial(_number, MOST_SHARDS))]
GroupSets = Annotated[
    tuple[tuple[Annotated[str, AfterValidator(_group)], ...], ...], BeforeValidator(_group_sets), AfterValidator(_distinct)
]


class Choice(Strict):
    """Which topics are read: regular expressions that match whole names."""

    include: tuple[Annotated[str, BeforeValidator(_pattern)], ...] = (".*",)
    exclude: tuple[Annotated[str, BeforeValidator(_pattern)], ...] = ()


class Defaults(Strict):
    """What holds for every topic that does not say otherwise. Durations become milliseconds."""

    windows: Windows = tuple(parse_window(text) for text in ("10s", "1m", "5m"))
    lateness: Duration = 10_000
    idle: Duration = 15_000
    update: Annotated[int | None, BeforeValidator(_update_ms)] = 1_000
    max_future: Duration = 300_000
    groups: Groups = 10_000
    readers: Readers = READERS
    shards: Shards = 1
    start: Annotated[str | int, BeforeValidator(_start)] = "earliest"
    retention: Duration = 7 * 86_400_000
    topics: Choice = Choice()


class TopicSaid(Strict):
    """One `[topics."…"]` table: None means the default."""

    windows: Windows | None = None
    lateness: Duration | None = None
    idle: Duration | None = None
    update: Annotated[int | None, BeforeValidator(_update_ms)] = None
    max_future: Duration | None = None
    groups: Groups | None = None
    readers: Readers | None = None
    shards: Shards | None = None
    start: Annotated[str | int, BeforeValidator(_start)] | None = None
    time: str | None = None
    by: GroupSets = ((),)
    where: str | None = None
    kpis: dict[str, KpiSaid] = Field(default_factory=dict)


OVER = ("windows", "lateness", "idle", "update", "max_future", "groups", "readers", "shards", "start")  # what a topic's table may say, too


class File(Strict):
    """The whole of kpi.toml."""

    defaults: Defaults = Defaults()
    topics: dict[str, TopicSaid] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topic:
    """What is declared for one topic, defaults filled in; durations in milliseconds, windows smallest first."""

    windows: tuple[Window, ...]
    lateness: int
    idle: int
    update: int | None
    max_future: int
    groups: int
    readers: int
    shards: int
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

    def table_of(self, topic: str) -> str | None:
        """The name of the table that speaks for a topic: its own, else the first /pattern/ that matches it."""
        tables = self.file.topics
        patterns = (name for name in tables if len(name) > 1 and name[0] == name[-1] == "/")
        return topic if topic in tables else next((name for name in patterns if re.fullmatch(name[1:-1], topic)), None)

    def of(self, topic: str) -> Topic:
        """What holds for `topic`: what its table says, over the defaults."""
        table = self.table_of(topic)
        said = TopicSaid() if table is None else self.file.topics[table]
        given = {name: getattr(said if name in said.model_fields_set else self.defaults, name) for name in OVER}
        return Topic(time=said.time, by=said.by, where=said.where, kpis=said.kpis, **given)


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
        parts = [part.strip() for part in windows.split(",")]
        for part in parts:
            _checked(lambda part=part: parse_window(part), "KPI_WINDOWS", part)
        if isinstance(defaults := tables.setdefault("defaults", {}), dict):
            defaults["windows"] = parts
    try:
        file = File.model_validate(tables)
    except ValidationError as refused:
        raise ConfigError(_line(name, refused.errors()[0])) from None
    for table, said in file.topics.items():
        if twice := taken_twice(said.kpis):
            raise ConfigError(
                f"{name}: topics.{table}.kpis: got {twice[0]!r} twice, want another name: {twice[1]!r} gives one KPI that name"
            )
    return Declaration(file)


def _line(name: str, refused: ErrorDetails) -> str:
    """Of what pydantic refuses: file, place, what was got, what is wanted, and the nearest name; one line, whatever is in it."""
    where, got = refused["loc"], _short(refused["input"])
    want = refused["msg"].removeprefix("Value error, ").replace("Input should be", "want", 1)
    if refused["type"] == "extra_forbidden":
        known = _known_beside(where)
        got = repr(where[-1])
        want = f"no such name: want one of {', '.join(known)}{did_you_mean(where[-1], known)}"
    line = f"{name}: {'.'.join(str(part) for part in where)}: got {got}, {want}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def _short(got: object) -> str:
    return text if len(text := repr(got)) <= MOST_GOT else f"{text[:MOST_GOT]}…"


def _known_beside(where: Sequence[object]) -> list[str]:
    """The names that may stand where an unknown one does."""
    match where:
        case ["defaults", "topics", _]:
            return list(Choice.model_fields)
        case ["defaults", _]:
            return list(Defaults.model_fields)
        case ["topics", _, _]:
            return list(TopicSaid.model_fields)
    return list(File.model_fields)


def _checked(check: Any, at: str, got: object) -> None:  # noqa: ANN401 - a thunk
    try:
        check()
    except ValueError as error:
        raise ConfigError(f"{at}: got {_short(got)}, {error}") from None
