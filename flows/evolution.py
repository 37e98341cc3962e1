"""What a changed declaration changes of a flow that has run. In: two canonical texts (see spelling.py), topics. Out: changes. Pure.

State is kept where its meaning stays: KPIs, units and windows come and go. What would make other numbers of what is folded already is
refused: another slice length, time, group sets, condition, lateness, or another meaning under the name of a KPI.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from flows.declaration import OVER, Declaration, Topic
from flows.durations import label
from flows.errors import ConfigError
from flows.said import KpiSaid, avro_name, grouped
from flows.spelling import restored, setting, toml
from flows.stop import BEGIN_ANEW
from flows.windows import Window, fed, slice_ms

SINCE = "from windows on that begin after the change"
KEPT = {  # what may change at any time, and what it does
    "idle": "for promises from now on",
    "update": "for provisional rows from now on",
    "max_future": "for messages read from now on",
    "start": "for topics that were never read",
    "retention": "for topics that will be made; those that are there stay as they are",
    "topics": "one that is not read any more keeps its state, and goes on from it when it is read again",
}
REFUSED = {
    "time": "open windows hold events by the former time",
    "by": "open windows and their keys are of the former groups",
    "groups": "open windows have been cut by the former limit",
    "readers": "partitions would be shared out otherwise",
    "shards": "groups would be shared out otherwise",
    "where": "open windows hold what the former condition let in",
    "lateness": "what was late by the former would not be by this one, or the other way round",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `path`: where it stands in kpi.toml; `why`: former and new, and what follows."""

    kind: Literal["added", "removed", "changed"]
    path: str
    verdict: Literal["kept", "refused"]
    why: str


class Meaning(NamedTuple):
    """What a KPI is, whatever it is called and its unit is."""

    aggregate: str
    of: str
    parts: tuple[str, ...]
    q: float | None
    k: int
    edges: tuple[float, ...]


def changes(before: str, after: str, topics: Mapping[str, str | None]) -> list[Change]:
    """What is different for `topics`, those that have a state: topic -> the field that their event time is (None: Kafka's timestamp).

    What the defaults say is named once, for all topics that take it from there. Raises ConfigError where `before` is of a program that
    knew other settings.
    """
    if before == after:
        return []
    try:
        old, new = restored(before), restored(after)
    except (ValueError, KeyError, TypeError) as error:
        line = str(error).replace("\n", " ")
        raise ConfigError(f"it is of another version of this program ({line}): bring that back, or begin anew: {BEGIN_ANEW}") from None
    found = [
        Change("changed", f"defaults.{name}", "kept", _told(name, getattr(old.defaults, name), getattr(new.defaults, name), KEPT[name]))
        for name in ("retention", "topics")
        if getattr(old.defaults, name) != getattr(new.defaults, name)
    ]
    for topic, time in topics.items():
        found += _of_topic(_Both(topic, old, new), time)
    return list(dict.fromkeys(found))


def refusal(found: Sequence[Change]) -> ConfigError | None:
    """The one line that keeps a flow from its start, if a change does."""
    refused = [change for change in found if change.verdict == "refused"]
    if not refused:
        return None
    more = f" (and {len(refused) - 1} more: `make plan` names them)" if refused[1:] else ""
    return ConfigError(f"{refused[0].path}: {refused[0].why}{more}: bring that back, or begin anew: {BEGIN_ANEW}")


class _Both(NamedTuple):
    topic: str
    old: Declaration
    new: Declaration

    def path(self, name: str) -> str:
        """Where a setting of the topic stands: in its table now or before, else in the defaults."""
        for said in (self.new, self.old):
            table = said.table_of(self.topic)
            if table is not None and name in said.file.topics[table].model_fields_set:
                return f"topics.{table}.{name}"
        return f"defaults.{name}" if name in OVER else f"topics.{self.topic}.{name}"


def _of_topic(both: _Both, time: str | None) -> Iterator[Change]:
    old, new = both.old.of(both.topic), both.new.of(both.topic)
    same: set[str] = set()
    if (old.time or time) == new.time:  # what was found before is declared now
        same.add("time")
    if set(old.by) == set(new.by) and _names(old) == _names(new):
        same.add("by")
    if set(old.by) == set(new.by) == {()}:  # the total has one shard, whatever is said
        same.add("shards")
    for name, why in (KEPT | REFUSED).items():
        was, now = getattr(old, name, None), getattr(new, name, None)
        if was != now:
            kept = name in KEPT or name in same
            yield Change(
                "changed",
                both.path(name),
                "kept" if kept else "refused",
                _told(name, was, now, "it means the same" if name in same else why),
            )
    yield from _windows(both, old, new)
    yield from _kpis(both, old, new)


def _names(said: Topic) -> list[str]:
    """Of all groups, in the order that keys have them in."""
    return list(dict.fromkeys(grouped(text)[0] for texts in said.by for text in texts))


def _told(name: str, was: object, now: object, why: str) -> str:
    return f"{_text(name, was)} -> {_text(name, now)}: {why}"


def _text(name: str, value: Any) -> str:  # noqa: ANN401 - any setting
    return "nothing" if value is None and name != "update" else toml(setting(name, value))


def _windows(both: _Both, old: Topic, new: Topic) -> Iterator[Change]:
    was, now = ({window.label: window for window in said.windows} for said in (old, new))
    path = both.path("windows")
    if slice_ms(old.windows) != slice_ms(new.windows):
        lengths = f"slices would be {label(slice_ms(new.windows))} long, and those that are open are {label(slice_ms(old.windows))}"
        yield Change("changed", path, "refused", _told("windows", old.windows, new.windows, lengths))
        return
    if (length := torn(old.windows, new.windows)) is not None:
        why = f"what is open of {label(length)} is put together of other lengths than it would be"
        yield Change("changed", path, "refused", _told("windows", old.windows, new.windows, why))
        return
    for name in now.keys() - was.keys():
        yield Change("added", f"{path}.{now[name].spelled}", "kept", f"rows {SINCE}")
    for name in was.keys() - now.keys():
        yield Change("removed", f"{path}.{was[name].spelled}", "kept", f"no more rows; what is in kpi.{both.topic}.{name} stays")


def torn(old: Sequence[Window], new: Sequence[Window]) -> int | None:
    """A length that would be fed by one which has been open beside it: what is in both would count twice, or not at all.

    4s and 3s stand side by side, 12s is fed by 4s: without 4s it would be fed by 3s, which holds what came from 4s already.
    """
    before, after = fed(old), fed(new)
    for length in before.keys() & after.keys():
        kept = next((it for it in _chain(length, before) if it in after), None)
        at_first = next((it for it in _chain(length, after) if it in before), None)
        if kept != at_first:
            return length
    return None


def _chain(length: int, feeds: Mapping[int, int | None]) -> Iterator[int]:
    while (feed := feeds[length]) is not None:
        yield feed
        length = feed


def _kpis(both: _Both, old: Topic, new: Topic) -> Iterator[Change]:
    path = both.path("kpis")
    if bool(old.kpis) != bool(new.kpis):
        one, other = ("those of types and annotations", "those declared")[:: 1 if new.kpis else -1]
        yield Change("changed", path, "kept", f"{one} end, {other} begin, {SINCE}")
        return
    was, now = _meanings(old.kpis), _meanings(new.kpis)
    for name in sorted(was.keys() | now.keys()):
        here = f"{path}.{name}"
        if (name in was) != (name in now) and (namesake := _namesake(name, was.keys() & now.keys())):
            yield Change("changed", here, "refused", f"the record's field of {namesake!r} would be called otherwise: give one another name")
        elif name not in was:
            yield Change("added", here, "kept", f"{_said(now[name])}, {SINCE}; null before")
        elif name not in now:
            yield Change("removed", here, "kept", "no more values")
        elif was[name][0] != now[name][0]:
            yield Change("changed", here, "refused", f"{_said(was[name])} -> {_said(now[name])}: give what is new another name")
        elif was[name][1] != now[name][1]:
            yield Change("changed", here, "kept", f"unit {was[name][1]!r} -> {now[name][1]!r}")


def _namesake(name: str, others: Iterable[str]) -> str | None:
    """Another KPI whose field in the record has the same name but for underscores behind it: which has them depends on the other."""
    return next((other for other in others if avro_name(other).rstrip("_") == avro_name(name).rstrip("_")), None)


def _meanings(kpis: Mapping[str, KpiSaid]) -> dict[str, tuple[Meaning, str | None]]:
    """KPI name -> what it is, and its unit; a quantile is a KPI for each q."""
    return {
        own: (Meaning(said.aggregate, said.of, said.parts, q, said.k, said.edges), said.unit)
        for name, said in kpis.items()
        for own, q in zip(said.names(name), said.q or (None,), strict=True)
    }


def _said(kpi: tuple[Meaning, str | None]) -> str:
    meaning = kpi[0]
    q = () if meaning.q is None else (meaning.q,)
    return toml(KpiSaid.model_construct(**meaning._asdict() | {"q": q, "unit": kpi[1]}).spelled())
