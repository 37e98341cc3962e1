"""What a person declares. In: kpi.toml and environment variables. Out: one frozen declaration. Pure but for reading the file.

pydantic checks the shape; every refusal is one line: where, what was got, what is wanted.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from flows.durations import duration_ms
from flows.errors import ConfigError
from flows.windows import Window, parse_window

NUMBERS = ("integer", "float", "decimal")
PLAIN = (*NUMBERS, "boolean", "string", "enum", "time")
AGGREGATES = {  # name -> kinds of column it can measure
    "count": (*PLAIN, "bytes", "other"),
    "rate": (),
    "sum": NUMBERS,
    "mean": NUMBERS,
    "min": (*NUMBERS, "time", "string", "enum"),
    "max": (*NUMBERS, "time", "string", "enum"),
    "deviation": NUMBERS,
    "first": PLAIN,
    "last": PLAIN,
    "share": ("boolean",),
    "counts": ("enum", "boolean"),
    "ratio": (),
    "quantile": NUMBERS,
    "distinct": PLAIN,
    "top": ("string", "enum", "integer", "boolean"),
    "histogram": NUMBERS,
    "increase": NUMBERS,
}
OPTIONS = {"quantile": "q", "top": "k", "histogram": "edges"}  # what else an aggregate is told
DEFAULTS = {"q": [0.5, 0.95, 0.99], "k": 10}
MOST_TOP, MOST_EDGES = 100, 100
MOST_GROUPS = 10_000_000
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


def _sorted_windows(windows: tuple[Window, ...]) -> tuple[Window, ...]:
    if not windows:
        raise ValueError('want at least one window, a duration such as "10s"')
    return tuple(sorted(set(windows)))


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"want a regular expression ({error})") from None
    return text


Duration = Annotated[int, BeforeValidator(duration_ms)]
Windows = Annotated[tuple[Annotated[Window, BeforeValidator(parse_window)], ...], AfterValidator(_sorted_windows)]
Number = Annotated[int, BeforeValidator(_number)]
GroupSets = Annotated[tuple[tuple[str, ...], ...], BeforeValidator(_group_sets), AfterValidator(_distinct)]


class Strict(BaseModel):
    """Frozen; an unknown name is an error, as a typing mistake must not pass for a default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


class KpiSaid(Strict):
    """`{ sum = "total", unit = "EUR" }`: exactly one aggregate, what it measures, and what else the aggregate is told.

    `parts`: the two KPIs of a ratio. `q`: which quantiles. `k`: how many of a top. `edges`: of a histogram.
    """

    aggregate: str
    of: str = ""
    unit: str | None = None
    parts: tuple[str, ...] = ()
    q: tuple[float, ...] = ()
    k: int = 0
    edges: tuple[float, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_aggregate(cls, said: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        if not isinstance(said, dict):
            raise ValueError('want a table such as { sum = "total" }')  # noqa: TRY004 - pydantic takes ValueErrors
        names = [name for name in said if name in AGGREGATES]
        if len(names) != 1:
            raise ValueError(f"want exactly one of {', '.join(AGGREGATES)}")
        (aggregate,) = names
        option = OPTIONS.get(aggregate, "")
        if unknown := [name for name in said if name not in {aggregate, "unit", option}]:
            near = difflib.get_close_matches(unknown[0], ["unit", *AGGREGATES, *OPTIONS.values()], n=1)
            raise ValueError(f"want no {unknown[0]!r} beside {aggregate}" + (f" (did you mean {near[0]!r}?)" if near else ""))
        of = said[aggregate]
        if aggregate == "ratio":
            if not (isinstance(of, list) and len(of) == 2 and all(isinstance(name, str) for name in of)):  # noqa: PLR2004 - above and below
                raise ValueError('want the names of two KPIs such as { ratio = ["revenue", "orders"] }')
            return {"aggregate": aggregate, "parts": of, "unit": said.get("unit")}
        if aggregate == "rate" and of != "*":
            raise ValueError('want { rate = "*" }')
        if of == "*" and aggregate not in ("count", "rate"):
            raise ValueError(f"want a field or an expression to take the {aggregate} of")
        told = {option: _option(option, said.get(option, DEFAULTS.get(option)))} if option else {}
        return {"aggregate": aggregate, "of": of, "unit": said.get("unit"), **told}


def _option(name: str, said: object) -> object:
    """What an aggregate is told beside what it measures. Raises ValueError."""
    numbers = [it for it in said if isinstance(it, int | float) and not isinstance(it, bool)] if isinstance(said, list) else []
    whole = isinstance(said, list) and 0 < len(numbers) == len(said)
    match name:
        case "q" if not (whole and len(set(numbers)) == len(numbers) and all(0 <= q <= 1 for q in numbers)):
            raise ValueError(f"q: got {said!r}, want different numbers from 0 to 1 such as [0.5, 0.99]")
        case "k" if not (isinstance(said, int) and not isinstance(said, bool) and 1 <= said <= MOST_TOP):
            raise ValueError(f"k: got {said!r}, want a whole number from 1 to {MOST_TOP}")
        case "edges" if not (whole and len(numbers) <= MOST_EDGES and all(map(isfinite, numbers)) and sorted(set(numbers)) == numbers):
            raise ValueError(f"edges: got {said!r}, want at most {MOST_EDGES} rising numbers such as [10, 50, 100]")
    return said


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
    groups: Number = 10_000
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

    windows: tuple[Window, ...]
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
        _checked(lambda: [parse_window(part.strip()) for part in windows.split(",")], "KPI_WINDOWS", windows)
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
