"""What to compute. In: the declaration (kpi.toml, environment) and a topic's Avro schemas. Out: frozen plans. Pure.

A plan travels with the data it is for, so every later step is a function of its input alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import polars as pl

from flows.declaration import READERS, Declaration, Topic
from flows.errors import ConfigError, did_you_mean
from flows.expressions import roots, type_of
from flows.fields import Leaf, Schema
from flows.said import AGGREGATES, MOMENTS, NUMBERS, KpiSaid, annotated, grouped
from flows.versions import former, leaves_of, names_of
from flows.windows import Window, slice_ms

MILLI_NS = 1_000_000
ORDERED = ("first", "last", "increase")
UNITLESS = ("count", "share", "counts", "distinct", "top", "histogram", "rate")  # whose numbers are not of the field's unit
SCALARS = ("count", "rate", "sum", "mean", "min", "max", "deviation", "first", "last", "share", "distinct", "increase")  # for a ratio
DERIVED = {
    "integer": ("mean", "min", "max"),
    "float": ("mean", "min", "max"),
    "decimal": ("sum", "mean", "min", "max"),
    "boolean": ("share",),
}
TIME_NAMES = ("event_time", "timestamp", "ts", "occurred_at", "created_at")


@dataclass(frozen=True, slots=True)
class Kpi:
    """One field of every window and group: `aggregate` over `of`, a column of kind `kind` (see fields.Leaf).

    `q`: of a quantile, of which there may be several in a `family`. `k`: of a top. `edges`: of a histogram. `parts`: of a ratio, the
    names of the KPI above and the KPI below.
    """

    name: str
    aggregate: str
    of: str = "*"  # of a ratio "*" too: it measures nothing itself
    kind: str = "integer"
    scale: int = 0
    unit: str | None = None
    q: float | None = None
    family: str = ""
    k: int = 0
    edges: tuple[float, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """Where the rows of one window size go: the KPI topic and the schema ids of its key and value."""

    topic: str
    key_id: int
    value_id: int


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """Everything that is computed from one topic. `columns`: the leaves to decode; `outputs`: one for each of `windows`.

    `readers`: how many share its partitions. `shards`: how many share the groups of each group set.
    `generation`: how many times what is declared had changed when it was made, since the state began; a later one goes before an earlier.
    `group_expressions`: name -> SQL of those groups that are no leaf.
    """

    topic: str
    time: str | None  # a leaf's path; None: the Kafka timestamp
    group_sets: tuple[tuple[str, ...], ...]
    where: str | None
    kpis: tuple[Kpi, ...]
    windows: tuple[Window, ...]  # smallest first
    lateness_ms: int
    idle_ms: int
    update_ms: int | None  # None: final rows only
    max_future_ms: int
    max_groups: int  # of a window and group set that have rows of their own
    start: str | int  # "earliest", "latest" or UTC ms
    columns: tuple[tuple[str, pl.DataType], ...] = ()
    version: tuple[int, ...] = ()  # the schema ids it was made from
    group_expressions: tuple[tuple[str, str], ...] = ()
    generation: int = 0
    readers: int = READERS
    shards: int = 1
    aliases: tuple[tuple[str, tuple[str, ...]], ...] = ()  # column -> the paths under which other versions have it
    outputs: tuple[Output, ...] = field(default=(), compare=False)
    faults: tuple[str, ...] = field(default=(), compare=False)  # annotations of fields that cannot be used, and why

    @property
    def slice_ms(self) -> int:
        """The smallest stretch that is folded (see windows.slice_ms)."""
        return slice_ms(self.windows)

    def shards_of(self, group_set: tuple[str, ...]) -> int:
        """How many shards a group set has: the total has one, whatever is declared."""
        return self.shards if group_set else 1

    @property
    def has_sessions(self) -> bool:
        """Whether partials carry the first and last event time of their events."""
        return any(window.kind == "session" for window in self.windows)

    @property
    def is_ordered(self) -> bool:
        """Whether some KPI depends on the order of events: then frames have a column `order`."""
        return any(kpi.aggregate in ORDERED for kpi in self.kpis)

    @property
    def groups(self) -> tuple[str, ...]:
        """Every path or name some group set groups by, in order of first mention."""
        return tuple(dict.fromkeys(path for group_set in self.group_sets for path in group_set))

    @property
    def measures(self) -> tuple[str, ...]:
        """Every distinct path or expression a KPI measures."""
        return tuple(dict.fromkeys(kpi.of for kpi in self.kpis if kpi.of != "*"))


def plan(declaration: Declaration, topic: str, schemas: Sequence[Schema]) -> TopicPlan:
    """The plan of a topic, from what is declared for it and the union of its schema versions (by id; the newest wins).

    Raises ConfigError where the declaration names a field that no version has, or an expression of an unusable type.
    """
    said = declaration.of(topic)
    if not schemas:  # nothing readable so far: time goes on, and every message has another fate than to be folded
        return _planned(said, topic)
    at = f"topics.{topic}"
    schemas = sorted(schemas, key=lambda schema: schema.id)
    names = names_of(schemas)
    leaves = leaves_of(schemas, names)
    frame = pl.DataFrame(schema={path: leaf.dtype for path, leaf in leaves.items()})
    _refuse(said, {path: what for schema in schemas for path, what in schema.barred.items()}, frame.columns, at)
    time = _time(said, leaves, at, lambda path: all(any(name in schema.leaves for name in names[path]) for schema in schemas))
    grouping = _grouping(said, frame, at)
    if said.where is not None and _type(said.where, frame, f"{at}.where") != pl.Boolean:
        raise ConfigError(f"{at}.where: got {said.where!r}, want a condition (true or false)")
    faults: list[str] = []
    if said.kpis:
        kpis = _declared(said, leaves, frame, at)
    else:
        kpis, faults = _derived({path: leaf for path, leaf in leaves.items() if not former(path, schemas, names)}, frame, time)
    needed = {time} - {None}
    for text in (*grouping.values(), said.where, *(kpi.of for kpi in kpis)):
        if text is not None and text != "*":
            needed |= set(roots(text, frame.columns))
    columns = tuple((path, leaf.dtype) for path, leaf in leaves.items() if path in needed)
    version = tuple(schema.id for schema in schemas)
    aliases = tuple((path, names[path][1:]) for path, _ in columns if len(names[path]) > 1)
    made = replace(_planned(said, topic), time=time, where=said.where, kpis=kpis, columns=columns, version=version, aliases=aliases)
    sql = tuple((name, of) for name, of in grouping.items() if name != of)
    return replace(made, group_expressions=sql, faults=tuple(faults))


def plain(made: TopicPlan) -> dict[str, Any]:
    """A plan as a snapshot holds it, without our classes and without what only reading needs."""
    return {**asdict(made), "columns": ()}


def of_plain(stored: Mapping[str, Any]) -> TopicPlan:
    """The plan of `plain`, good for folding and encoding."""
    parts = {"kpis": Kpi, "windows": Window, "outputs": Output}
    return TopicPlan(**{**stored, **{name: tuple(part(**each) for each in stored[name]) for name, part in parts.items()}})


def _planned(said: Topic, topic: str) -> TopicPlan:
    """As far as it does not depend on a schema."""
    return TopicPlan(
        topic=topic,
        time=None,
        group_sets=tuple(tuple(grouped(text)[0] for text in texts) for texts in said.by),
        where=None,
        kpis=(),
        windows=said.windows,
        lateness_ms=said.lateness,
        idle_ms=said.idle,
        update_ms=said.update,
        max_future_ms=said.max_future,
        max_groups=said.groups,
        readers=said.readers,
        shards=said.shards,
        start=said.start,
    )


def _refuse(said: Topic, barred: Mapping[str, str], columns: Sequence[str], at: str) -> None:
    """Say what a field is that no version has as one value of one type."""
    for place, text in _texts(said, at):
        for path in _roots(text, columns):
            parts = path.split(".")
            for whole in (".".join(parts[: n + 1]) for n in range(len(parts))):
                if path not in columns and whole in barred:
                    raise ConfigError(f"{place}: got {whole!r}, which is {barred[whole]}, want a field of one value and one type")


def helpful(declaration: Declaration, topic: str, met: Sequence[Schema], others: Sequence[Schema]) -> list[Schema]:
    """Those of the others that have a declared field which none of these has."""
    has = [path for schema in met for path in schema.leaves]
    lacking = {path for _, text in _texts(declaration.of(topic), topic) for path in _roots(text, has)} - {*has}
    return [schema for schema in others if lacking & schema.leaves.keys()]


def _texts(said: Topic, at: str) -> list[tuple[str, str]]:
    """Every field and expression that is declared, and where."""
    wanted = [(f"{at}.time", said.time), (f"{at}.where", said.where)]
    wanted += [(f"{at}.by[{n}]", grouped(text)[1]) for n, texts in enumerate(said.by) for text in texts]
    wanted += [(f"{at}.kpis.{name}.{kpi.aggregate}", kpi.of) for name, kpi in (said.kpis or {}).items() if kpi.of != "*"]
    return [(place, text) for place, text in wanted if text]


def _roots(text: str, columns: Sequence[str]) -> list[str]:
    """What an expression reads; nothing where it is no SQL, which is said elsewhere."""
    try:
        return roots(text, columns)
    except pl.exceptions.PolarsError:
        return []


def _time(said: Topic, leaves: Mapping[str, Leaf], at: str, everywhere: Callable[[str], bool]) -> str | None:
    """The declared field, else the first of the usual names, else the first timestamp, else None: the Kafka timestamp.

    One that every version has goes before one that only some have: a field that is added must not make older messages timeless.
    """
    usable = [path for path, leaf in leaves.items() if leaf.kind == "time" and leaf.unit_ns <= MILLI_NS]
    if said.time is not None:
        if said.time not in leaves:
            raise ConfigError(f"{at}.time: got {said.time!r}, want one of {_choices(said.time, leaves)}")
        if said.time not in usable and leaves[said.time].kind != "integer":
            raise ConfigError(f"{at}.time: got {said.time!r} of kind {leaves[said.time].kind}, want a timestamp or integer UTC ms")
        return said.time
    usual = [name for name in TIME_NAMES if name in usable or (name in leaves and leaves[name].kind == "integer")]
    found = [*usual, *usable]
    return next(iter([*filter(everywhere, found), *found]), None)


def _grouping(said: Topic, frame: pl.DataFrame, at: str) -> dict[str, str]:
    """Each group's name and what it is of, a field or SQL."""
    found: dict[str, str] = {}
    for n, texts in enumerate(said.by):
        for name, of in map(grouped, texts):
            if name == of:
                _known(of, frame, f"{at}.by[{n}]")
            if (kind := kind_of(_type(of, frame, f"{at}.by[{n}]"))) in ("bytes", "other"):
                raise ConfigError(f"{at}.by[{n}]: got {of!r} of kind {kind}, want text, a number or a condition")
            found[name] = of
    return found


def _declared(said: Topic, leaves: Mapping[str, Leaf], frame: pl.DataFrame, at: str) -> tuple[Kpi, ...]:
    made = {name: _made(name, kpi, leaves, frame, f"{at}.kpis.{name}.{kpi.aggregate}") for name, kpi in said.kpis.items()}
    numbers = [kpi.name for kpis in made.values() for kpi in kpis if kpi.aggregate in SCALARS and _is_number(kpi)]
    for kpi in (kpi for kpis in made.values() for kpi in kpis):
        for part in kpi.parts:
            if part not in numbers:
                want = f"two of the KPIs that are one number: {_choices(part, numbers)}"
                raise ConfigError(f"{at}.kpis.{kpi.name}.ratio: got {part!r}, want {want}")
    return tuple(kpi for kpis in made.values() for kpi in kpis)


def _made(name: str, kpi: KpiSaid, leaves: Mapping[str, Leaf], frame: pl.DataFrame, at: str) -> list[Kpi]:
    """The KPIs of a declared one: of a quantile one for each q."""
    if kpi.parts or kpi.of == "*":
        return [Kpi(name, kpi.aggregate, unit=kpi.unit, parts=kpi.parts)]
    return _measuring(name, kpi, leaves, frame, at)


def _is_number(kpi: Kpi) -> bool:
    """Whether the KPI is a number, and no text or time of the field's own."""
    return kpi.aggregate not in ("min", "max", "first", "last") or kpi.kind in NUMBERS


def _measuring(name: str, kpi: KpiSaid, leaves: Mapping[str, Leaf], frame: pl.DataFrame, at: str) -> list[Kpi]:
    dtype = _type(kpi.of, frame, at)
    leaf = leaves.get(kpi.of)
    kind = leaf.kind if leaf is not None and leaf.kind in {"time", "enum"} else kind_of(dtype)
    wanted = AGGREGATES[kpi.aggregate]
    if kind not in wanted:
        raise ConfigError(f"{at}: got {kpi.of!r} of kind {kind}, want {' or '.join(wanted)}")
    scale = dtype.scale if isinstance(dtype, pl.Decimal) else 0
    made = Kpi(name, kpi.aggregate, kpi.of, kind, scale, kpi.unit or _unit(leaf, kpi.aggregate), k=kpi.k, edges=kpi.edges)
    return [replace(made, name=own, q=q, family=name) for own, q in zip(kpi.names(name), kpi.q, strict=False)] or [made]


def _derived(leaves: Mapping[str, Leaf], frame: pl.DataFrame, time: str | None) -> tuple[tuple[Kpi, ...], list[str]]:
    """Always the rate; of a field what its annotation says, else what its type does. And what is wrong with annotations."""
    kpis, faults = [Kpi("rate", "rate")], []
    for path, leaf in leaves.items():
        try:
            said = annotated(path, leaf.kpi) if leaf.kpi else None
            if said is not None:
                kpis += [kpi for name, it in said.items() for kpi in _measuring(name, it, leaves, frame, it.aggregate)]
                continue
        except ValueError as error:
            faults.append(f"{path}: {error}")
        if path != time:
            kpis += [_of(path, leaf, aggregate) for aggregate in DERIVED.get(leaf.kind, ())]
    return tuple(kpis), faults


def _of(path: str, leaf: Leaf, aggregate: str) -> Kpi:
    return Kpi(f"{path}_{aggregate}", aggregate, path, leaf.kind, leaf.scale, _unit(leaf, aggregate))


def _unit(leaf: Leaf | None, aggregate: str) -> str | None:
    """The unit that the field's schema says, unless the aggregate has another: a share or a count has none."""
    return leaf.unit if leaf is not None and leaf.unit and aggregate not in UNITLESS else None


def kind_of(dtype: pl.DataType) -> str:
    """The kind (see fields.Leaf) of a column's type."""
    if isinstance(dtype, pl.Decimal):
        return "decimal"
    if dtype.is_integer():
        return "integer"
    if dtype.is_float():
        return "float"
    return {pl.Boolean: "boolean", pl.String: "string", pl.Binary: "bytes", pl.Date: "date", pl.Time: "daytime"}.get(type(dtype), "other")


def dtype_of(kind: str, scale: int = 0) -> pl.DataType:
    """The type of a measure column of a kind."""
    plain = {"float": pl.Float64(), "boolean": pl.Boolean(), "decimal": pl.Decimal(38, scale), "bytes": pl.Binary()}
    return pl.Int64() if kind in ("integer", *MOMENTS) else plain.get(kind, pl.String())


def _type(text: str, frame: pl.DataFrame, at: str) -> pl.DataType:
    try:
        return type_of(text, frame.schema)
    except ValueError as error:
        raise ConfigError(f"{at}: got {text!r}, want {error}") from None
    except pl.exceptions.ColumnNotFoundError:
        unknown = [name for name in roots(text, frame.columns) if name not in frame.columns]
        raise ConfigError(f"{at}: got {unknown[0]!r}, want one of {_choices(unknown[0], frame.columns)}") from None
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{at}: got {text!r}, want a field or a SQL expression ({str(error).splitlines()[0]})") from None


def _known(path: str, frame: pl.DataFrame, at: str) -> None:
    if path not in frame.columns:
        raise ConfigError(f"{at}: got {path!r}, want one of {_choices(path, frame.columns)}")


def _choices(got: str, known: Mapping[str, object] | Sequence[str]) -> str:
    return f"{', '.join(known)}{did_you_mean(got, known)}"
