"""Published against recomputed. In: a survey, the rows of a KPI topic. Out: differences, and what could not be compared. Only reads."""

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audit import recompute
from audit import rows as recomputed
from audit.measure import grouped
from audit.moment import YEAR_9999_MS, iso
from audit.published import NONE_YET, Published, kpis_of
from audit.results import Wanted, agree, results
from audit.survey import Survey
from flows.windows import Window

BEFORE = "rows of windows from before their size was declared"
ALLOWED = 0.001  # of all estimates may miss by more than they promise


class Difference(NamedTuple):
    """One field of one row, or one message's fate. `place`: which; "" stands for nothing there.

    `again_ms`: when what was published before was published once more, with equal values; None of any other difference.
    `is_estimate`: an estimate that misses by more than it should, though not by more than twice that: some may.
    """

    place: str
    field: str
    published: object
    recomputed: object
    again_ms: int | None = None
    is_estimate: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.field}: published {_shown(self.published)}, recomputed {_shown(self.recomputed)}"


def _shown(value: object) -> str:
    return "nothing" if value == "" else repr(value) if isinstance(value, str) else str(value)


@dataclass(slots=True)
class Tally:
    """What a comparison came to; `left_out`: why -> rows or messages; `estimates`: how many, and those `beyond` what they promise."""

    rows: int = 0
    repaired: int = 0
    windows: set[tuple[str, int, int]] = field(default_factory=set)
    left_out: dict[str, int] = field(default_factory=dict)
    estimates: int = 0
    beyond: list[Difference] = field(default_factory=list)

    def leave(self, why: str, count: int = 1) -> None:
        """Count what is not compared."""
        if count:
            self.left_out[why] = self.left_out.get(why, 0) + count

    def too_many(self) -> list[Difference]:
        """The estimates beyond what they promise, where they are more than may be."""
        return self.beyond if len(self.beyond) > ALLOWED * self.estimates else []


def valid(published: Published, group_set: tuple[str, ...]) -> str:
    """SQL: of each key the row that counts: the final one with the highest revision, and how many there are of each sort."""
    return f"""
    SELECT key, start, "end", count(*) FILTER (own) AS finals,
        list(DISTINCT struct_pack(events := events, kpis := kpis)) FILTER (own) AS copies, max(stamp) FILTER (own) AS newest,
        coalesce(max(kpi_offset) FILTER (NOT final) > min(kpi_offset) FILTER (final), false) AS after,
        bool_and(sound) AS sound,
        any_value("group") AS "group", max(revision) AS highest,
        arg_max(struct_pack(events := events, kpis := kpis, closed_by := closed_by, repair := repair, revision := revision,
            kpi_partition := kpi_partition, unknown := unknown), revision) FILTER (final) AS row
    FROM (SELECT *, final AND closed_by IS DISTINCT FROM 'repair' AS own FROM {recompute.parquet([published.file])})
    WHERE group_by = {recompute.quoted(",".join(group_set))} GROUP BY key, start, "end"
    """


@dataclass(frozen=True, slots=True)
class Side:
    """What a row is compared beside: the rows of one window size and group set. `unsettled`: see `_unsettled`."""

    survey: Survey
    window: Window
    published: Published
    group_set: tuple[str, ...]
    unsettled: Sequence[int]


def rows(survey: Survey, window: Window, published: Published, tally: Tally) -> Iterator[Difference]:
    """Every final row of a window size: equal, there once, none missing, none too many."""
    tally.leave(survey.begun.former, published.before)
    unsettled = _unsettled(survey)
    events = recompute.counted(survey.judged.parts)
    for group_set in survey.plan.group_sets:
        side = Side(survey, window, published, group_set, unsettled)
        survey.database.execute(f"CREATE OR REPLACE TABLE have AS {valid(published, group_set)}")
        recomputed.rows(survey.database, survey.plan, (window, group_set), events, "want")
        for row in recompute.fetched(survey.database, JOINED.format(want="want")):
            if not (row["have_row"] or {}).get("repair"):
                yield from _compared(side, row, tally)
        yield from _repaired(side, tally)
    known = {",".join(group_set) for group_set in survey.plan.group_sets}
    others = f"SELECT DISTINCT group_by FROM {recompute.parquet([published.file])}"
    yield from (
        Difference(f"{published.topic} by ({row['group_by']})", "group set", "rows", "")
        for row in recompute.fetched(survey.database, others)
        if row["group_by"] not in known
    )


JOINED = """
SELECT want.*, coalesce(want.start, have.start) AS at_ms, coalesce(want."end", have."end") AS until_ms, have.row AS have_row,
    have.finals AS have_finals, have.copies AS have_copies, have.newest AS have_newest,
    have.after AS have_after, have.sound AS have_sound,
    have."group" AS have_group, have.highest AS have_highest
FROM {want} AS want FULL JOIN have ON want.key = have.key AND want.start = have.start AND want."end" = have."end"
"""


def _repaired(side: Side, tally: Tally) -> Iterator[Difference]:
    """Rows that a repair wrote hold the late messages below the offsets in their header, and no others."""
    survey = side.survey
    headers = recompute.fetched(survey.database, "SELECT DISTINCT row.repair AS repair FROM have WHERE row.repair IS NOT NULL")
    for repair in [row["repair"] for row in headers]:
        stops = {int(partition): int(stop) for partition, stop in json.loads(repair).items()}
        events = recompute.counted(survey.judged.parts, stops)
        mended = f'SELECT DISTINCT start, "end" FROM have WHERE row.repair = {recompute.quoted(repair)}'
        survey.database.execute(f"CREATE OR REPLACE TABLE mended_windows AS {mended}")
        cell = side.window, side.group_set
        recomputed.rows(survey.database, survey.plan, cell, events, "mended", have="have", only="mended_windows")
        for row in recompute.fetched(survey.database, JOINED.format(want="mended")):
            if (row["have_row"] or {}).get("repair") == repair:
                tally.repaired += 1
                yield from _compared(side, row, tally)


def _unsettled(survey: Survey) -> list[int]:
    """Slices with messages that the flow had not come to when its offsets were asked for: it may have, meanwhile."""
    if not survey.judged.parts:
        return []
    query = (
        f"SELECT DISTINCT time // {survey.plan.slice_ms} * {survey.plan.slice_ms} AS start FROM {recompute.parquet(survey.judged.parts)} "
        f"WHERE verdict = 'beyond' AND time BETWEEN 0 AND {YEAR_9999_MS} ORDER BY start"
    )
    return [row["start"] for row in recompute.fetched(survey.database, query)]


def _is_unsettled(side: Side, start_ms: int, end_ms: int) -> bool:
    """Whether a slice of a window is."""
    at = bisect_left(side.unsettled, start_ms // side.survey.plan.slice_ms * side.survey.plan.slice_ms)
    return at < len(side.unsettled) and side.unsettled[at] < end_ms


def _compared(side: Side, row: Mapping[str, Any], tally: Tally) -> Iterator[Difference]:
    """The differences of one key, unless its window is open or left out."""
    survey, published = side.survey, side.published
    start_ms, end_ms = row["at_ms"], row["until_ms"]
    final = row["have_row"] is not None
    required = survey.closed_ms is not None and end_ms <= survey.closed_ms
    if not final and not required:
        return  # open still
    if not final and row["events"] is None:
        return  # provisional rows of a group that went over the limit
    if survey.from_ms is not None and start_ms < survey.from_ms + side.window.size_ms * (side.window.kind == "session"):
        tally.leave(f"rows of windows that {survey.why}")
        return
    if published.begun_ms is not None and start_ms < published.begun_ms + side.window.size_ms * (side.window.kind == "session"):
        tally.leave("rows of a size that has told none yet" if published.begun_ms == NONE_YET else BEFORE)
        return
    if not final and published.kept_from_ms is not None and end_ms <= published.kept_from_ms:
        tally.leave("rows that have expired from the KPI topic")
        return
    found = list(_differing(side, row))
    if found and not required and _is_unsettled(side, start_ms, end_ms):
        tally.leave("rows of windows that the flow is closing now")
        return
    tally.rows += 1
    tally.leave("values of KPIs that were declared while their window was open", row["have_row"]["unknown"] if final else 0)
    tally.windows.add((side.window.label, start_ms, end_ms))
    if final and row["events"] is not None:
        tally.estimates += sum(it.is_estimate for it in results(survey.plan, row).values())
    tally.beyond += [it for it in found if it.is_estimate]
    yield from (it for it in found if not it.is_estimate)


def _differing(side: Side, row: Mapping[str, Any]) -> Iterator[Difference]:
    place = f"{side.published.topic} {place_of(side.survey, side.group_set, row)}"
    have = row["have_row"]
    if have is None:
        yield Difference(place, "final row", "", f"{row['events']} events")
        return
    again_ms = row["have_newest"] if row["have_finals"] > 1 else None
    if again_ms is not None:
        others = [name for copy in row["have_copies"] for name in _unlike(side, row, copy)]
        said = f"{row['have_finals']}, which differ" if others else row["have_finals"]
        yield Difference(place, "final rows", said, 1, None if others else again_ms)
    if row["have_after"]:
        yield Difference(place, "order", "a provisional row after the final one", "none", again_ms)
    if not row["have_sound"]:
        yield Difference(place, "key", "other fields than the value's", "the same")
    if have["closed_by"] not in {"data", "idle", "repair"}:
        yield Difference(place, "closed_by", have["closed_by"], "data, idle or repair")
    if row["events"] is None:
        yield Difference(place, "final row", f"{have['events']} events", "")
    else:
        yield from changed(side.survey, row, place)


def _unlike(side: Side, row: Mapping[str, Any], copy: Mapping[str, Any]) -> list[str]:
    """The fields in which a copy of a final row is not the first one; floats as closely as they can be recomputed."""
    first, got = (kpis_of(it["kpis"]) for it in (row["have_copies"][0], copy))
    want = {} if row["events"] is None else results(side.survey.plan, row)
    differ = [name for name in first.keys() & got.keys() if not _alike(want.get(name, Wanted(None)), first[name], got[name])]
    return [*(["events"] if copy["events"] != row["have_copies"][0]["events"] else []), *differ]


def _alike(want: Wanted, first: Any, other: Any) -> bool:  # noqa: ANN401 - KPIs
    """Two values of one KPI: as near as what is wanted lets them be, which of lists is no more than that it holds for both."""
    if want.among:
        return first == other or (agree(want, first) and agree(want, other))
    return agree(Wanted(first, want.slack), other)


def changed(survey: Survey, row: Mapping[str, Any], place: str) -> Iterator[Difference]:
    """The fields of a published row that are not what was recomputed. A KPI that its schema did not have yet is none."""
    have = row["have_row"]
    if have["events"] != row["events"]:
        yield Difference(place, "events", have["events"], row["events"])
    got = kpis_of(have["kpis"])
    for name, want in results(survey.plan, row).items():
        if name in got and not agree(want, got[name]):
            some = want.is_estimate and agree(want._replace(slack=2 * want.slack), got[name])
            yield Difference(place, name, got[name], want.value, is_estimate=some)


def place_of(survey: Survey, group_set: tuple[str, ...], row: Mapping[str, Any]) -> str:
    """A window and group for people."""
    names = grouped(survey.plan)
    group = json.loads(row["have_group"]) if row["events"] is None else {path: row[names[path]] for path in group_set}
    said = ", ".join(f"{path} = {_shown(value) if value != '' else repr('')}" for path, value in group.items())
    return f"[{iso(row['at_ms'])}, {iso(row['until_ms'])})" + (f" {said}" if said else "")
