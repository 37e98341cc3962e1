"""A changed declaration: what is kept, and what is refused, with a line that names the change."""

import json

import pytest
from hypothesis import given, settings

from flows.declaration import Topic, parse
from flows.errors import ConfigError
from flows.evolution import Change, changes, refusal, torn
from flows.source import STATE_VERSION, going_on
from flows.spelling import canonical, restored
from flows.windows import parse_window, slice_ms
from tests.declarations import TEXTS

RUNNING: dict[str, str | None] = {"a.t": "at", "b": None, "c": "ts"}


SAID = """
[defaults]
windows = ["10s", "1m"]
[topics.t]
by = [[], ["a"]]
[topics.t.kpis]
x = { sum = "a", unit = "EUR" }
"""


@pytest.mark.parametrize(
    "same",
    [
        SAID + "# a comment\n\n",
        SAID.replace('"1m"', '"60s"'),
        SAID.replace('["10s", "1m"]', '["1m", "10s", "1m"]'),
        SAID.replace("[defaults]", '[defaults]\nlateness = "10s"'),  # the default, spelled out
        SAID.replace('{ sum = "a", unit = "EUR" }', '{ unit = "EUR", sum = "a" }'),
    ],
)
def test_the_canonical_text_stays_while_the_meaning_stays(same: str) -> None:
    assert canonical(parse(same)) == canonical(parse(SAID))


@pytest.mark.parametrize(
    "other",
    [
        "",
        SAID.replace('"1m"', '"2m"'),
        SAID.replace("[defaults]", '[defaults]\nlateness = "11s"'),
        SAID.replace("[topics.t]", '[topics.t]\nidle = "1s"'),
        SAID.replace("[topics.t]", "[topics.t]\ngroups = 9_999"),
        SAID.replace("[defaults]", "[defaults]\ngroups = 9_999"),
        SAID.replace("[topics.t]", '[topics.t]\nupdate = "off"'),
        SAID.replace("[defaults]", '[defaults]\nupdate = "off"'),
        SAID.replace("[topics.t]", '[topics.t]\nwhere = "a > 1"'),
        SAID.replace("[topics.t]", '[topics.t]\ntime = "b"'),
        SAID.replace('by = [[], ["a"]]', 'by = [["a"]]'),
        SAID.replace('sum = "a"', 'mean = "a"'),
        SAID.replace('sum = "a"', 'sum = "b"'),
        SAID.replace('"EUR"', '"USD"'),
        SAID.replace("x =", "y ="),
        SAID.replace("topics.t", "topics.u"),
    ],
)
def test_the_canonical_text_changes_with_the_meaning(other: str) -> None:
    assert canonical(parse(other)) != canonical(parse(SAID))


def test_the_environment_is_part_of_the_canonical_text_and_the_files_name_is_not() -> None:
    assert canonical(parse(SAID, windows="10s")) != canonical(parse(SAID))
    assert canonical(parse(SAID, "elsewhere.toml", windows="10s,1m")) == canonical(parse(SAID))


@settings(deadline=None)
@given(TEXTS)
def test_a_declaration_can_be_had_again_from_its_canonical_text(text: str) -> None:
    declared = parse(text)

    again = restored(canonical(declared))

    assert canonical(again) == canonical(declared)
    assert again.defaults == declared.defaults
    assert [again.of(topic) for topic in RUNNING] == [declared.of(topic) for topic in RUNNING]


def told(before: str, after: str, topics: dict[str, str | None] | None = None) -> list[tuple[str, str, str]]:
    """Kind, path and verdict of the changes from one file to another."""
    found = changes(canonical(parse(before)), canonical(parse(after)), topics or RUNNING)
    return [(change.kind, change.path, change.verdict) for change in found]


def meanings(said: Topic) -> dict[str, object]:
    return {own: (kpi.aggregate, kpi.of, kpi.k, kpi.edges) for name, kpi in said.kpis.items() for own in kpi.names(name)}


def must_refuse(old: Topic, new: Topic, time: str | None) -> bool:
    """The rules, written once more."""
    kpis = old.kpis and new.kpis and any(meanings(old)[name] != meanings(new)[name] for name in meanings(old).keys() & meanings(new).keys())
    names = [[text.rpartition(" AS ")[2] for texts in said.by for text in texts] for said in (old, new)]
    by = sorted(old.by) != sorted(new.by) or list(dict.fromkeys(names[0])) != list(dict.fromkeys(names[1]))
    return bool(
        slice_ms(old.windows) != slice_ms(new.windows)
        or torn(old.windows, new.windows) is not None
        or (old.where, old.lateness, old.groups, old.readers) != (new.where, new.lateness, new.groups, new.readers)
        or (old.shards != new.shards and new.by != ((),))
        or new.time not in (old.time, old.time or time)
        or by
        or kpis
    )


@settings(deadline=None, max_examples=300)
@given(TEXTS, TEXTS)
def test_a_change_is_refused_where_a_rule_says_so_and_nowhere_else(before: str, after: str) -> None:
    old, new = parse(before), parse(after)

    for topic, time in RUNNING.items():
        verdicts = {verdict for _, _, verdict in told(before, after, {topic: time})}
        assert ("refused" in verdicts) == must_refuse(old.of(topic), new.of(topic), time)


@settings(deadline=None, max_examples=300)
@given(TEXTS, TEXTS)
def test_no_difference_is_left_unsaid_and_nothing_is_said_without_one(before: str, after: str) -> None:
    old, new = parse(before), parse(after)
    differ = any(old.of(topic) != new.of(topic) for topic in RUNNING)
    differ |= (old.defaults.retention, old.defaults.topics) != (new.defaults.retention, new.defaults.topics)

    assert bool(told(before, after)) == differ
    assert told(before, before) == []


@settings(deadline=None)
@given(TEXTS, TEXTS)
def test_what_is_added_one_way_is_removed_the_other(before: str, after: str) -> None:
    there, back = told(before, after), told(after, before)
    mirror = {"added": "removed", "removed": "added", "changed": "changed"}

    assert {(mirror[kind], verdict) for kind, _, verdict in there if kind != "changed"} == {(k, v) for k, _, v in back if k != "changed"}


OLD = """
[defaults]
windows = ["10s", "1m"]
[topics.t]
time = "at"
by = [[], ["a"]]
[topics.t.kpis]
x = { sum = "a", unit = "EUR" }
q = { quantile = "b", q = [0.5, 0.9] }
"""
T: dict[str, str | None] = {"t": "at"}


@pytest.mark.parametrize(
    ("new", "change"),
    [
        (OLD.replace('"1m"]', '"1m", "gap 30s"]'), ("added", "defaults.windows.gap 30s", "kept")),
        (OLD.replace('"1m"]', '"20s"]'), ("removed", "defaults.windows.1m", "kept")),
        (OLD.replace('"1m"]', '"15s"]'), ("changed", "defaults.windows", "refused")),
        (OLD.replace("[topics.t]", '[topics.t]\nwindows = ["10s"]'), ("removed", "topics.t.windows.1m", "kept")),
        (OLD.replace('time = "at"\n', ""), ("changed", "topics.t.time", "refused")),
        (OLD.replace('"at"', '"ts"'), ("changed", "topics.t.time", "refused")),
        (OLD.replace('[[], ["a"]]', '[[], ["a"], ["b"]]'), ("changed", "topics.t.by", "refused")),
        (OLD.replace('[[], ["a"]]', '[["a"], []]'), ("changed", "topics.t.by", "kept")),
        (OLD.replace("[defaults]", "[defaults]\nreaders = 2"), ("changed", "defaults.readers", "refused")),
        (OLD.replace("[topics.t]", '[topics.t]\nwhere = "a > 1"'), ("changed", "topics.t.where", "refused")),
        (OLD.replace("[defaults]", '[defaults]\nlateness = "9s"'), ("changed", "defaults.lateness", "refused")),
        (OLD.replace("[defaults]", '[defaults]\nupdate = "off"'), ("changed", "defaults.update", "kept")),
        (OLD.replace("[defaults]", '[defaults]\nretention = "1d"'), ("changed", "defaults.retention", "kept")),
        (OLD.replace("[topics.t]", "[topics.t]\ngroups = 5"), ("changed", "topics.t.groups", "refused")),
        (OLD.replace("[topics.t]", "[topics.t]\nreaders = 1"), ("changed", "topics.t.readers", "refused")),
        (OLD.replace("[topics.t]", "[topics.t]\nshards = 2"), ("changed", "topics.t.shards", "refused")),
        (OLD.replace('"EUR"', '"USD"'), ("changed", "topics.t.kpis.x", "kept")),
        (OLD.replace(', unit = "EUR"', ""), ("changed", "topics.t.kpis.x", "kept")),
        (OLD.replace("x = { sum", "x = { mean"), ("changed", "topics.t.kpis.x", "refused")),
        (OLD + 'n = { count = "*" }', ("added", "topics.t.kpis.n", "kept")),
        (OLD.replace('x = { sum = "a", unit = "EUR" }\n', ""), ("removed", "topics.t.kpis.x", "kept")),
        (OLD.replace("0.5, 0.9", "0.5, 0.99"), ("added", "topics.t.kpis.q_p99", "kept")),
        (OLD.partition("[topics.t.kpis]")[0], ("changed", "topics.t.kpis", "kept")),
    ],
)
def test_each_change_has_its_place_and_its_verdict(new: str, change: tuple[str, str, str]) -> None:
    assert change in told(OLD, new, T)
    assert len(told(OLD, new, T)) == (2 if "p99" in change[1] or "20s" in new else 1)


@pytest.mark.parametrize(("found", "declared", "verdict"), [("at", "at", "kept"), ("at", "ts", "refused"), (None, "at", "refused")])
def test_a_time_that_was_found_may_be_declared(found: str | None, declared: str, verdict: str) -> None:
    assert told("", f"[topics.t]\ntime = '{declared}'", {"t": found}) == [("changed", "topics.t.time", verdict)]


def test_a_change_of_the_defaults_is_named_once_for_all_topics() -> None:
    assert told("", '[defaults]\nlateness = "1s"', {f"t{n}": None for n in range(9)}) == [("changed", "defaults.lateness", "refused")]


def test_what_no_topic_that_ran_is_about_changes_nothing() -> None:
    assert told("", '[topics.other]\nlateness = "1s"', T) == []


@pytest.mark.parametrize(("new", "refused"), [("a.b", True), ("a_b_", True), ("a_c", False)])
def test_a_kpi_that_would_take_the_name_of_anothers_field_is_refused(new: str, refused: bool) -> None:
    """Else the field that was `a_b` would be `a_b_`, and `a_b` another KPI."""
    before = "[topics.t.kpis]\na_b = { sum = 'x' }\n"
    after = before + f"{json.dumps(new)} = {{ sum = 'y' }}"

    verdicts = {verdict for _, _, verdict in told(before, after, T)}
    assert (verdicts == {"refused"}, {verdict for _, _, verdict in told(after, before, T)} == {"refused"}) == (refused, refused)


def test_a_refusal_is_one_line_that_a_person_can_act_on() -> None:
    new = OLD.replace("{ sum", "{ mean").replace('"at"', '"ts"')

    line = str(refusal(changes(canonical(parse(OLD)), canonical(parse(new)), T)))

    assert line == (
        'topics.t.time: "at" -> "ts": open windows hold events by the former time (and 1 more: `make plan` names them): '
        "bring that back, or begin anew: `make reset` says first what that means"
    )
    assert refusal([Change("added", "x", "kept", "y")]) is None


def state(text: str) -> dict[str, object]:
    return {"version": STATE_VERSION, "declared": canonical(parse(text)), "generation": 3, "topics": {"t": {"time": "at"}}}


def test_a_reader_goes_on_where_its_state_can_follow_and_counts_the_change() -> None:
    said: list[Change] = []
    now = canonical(parse(OLD.replace('"EUR"', '"USD"')))

    assert going_on(None, now, said.append) == {"version": STATE_VERSION, "declared": now, "generation": 0, "topics": {}}
    assert going_on(state(OLD), canonical(parse(OLD)), said.append) == state(OLD)
    assert said == []
    assert going_on(state(OLD), now, said.append) == state(OLD) | {"declared": now, "generation": 4}
    assert [change.path for change in said] == ["topics.t.kpis.x"]


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (
            state(OLD.replace("{ sum", "{ mean")),
            r'^topics\.t\.kpis\.x: { mean = "a", unit = "EUR" } -> { sum = "a", unit = "EUR" }: give what',
        ),
        (state(OLD) | {"version": 2}, "^it is of another version of this program"),
        (state(OLD) | {"declared": '{"defaults": {"panes": 3}, "topics": []}'}, "^it is of another version.*panes"),
        (state(OLD) | {"declared": "what is this"}, "^it is of another version"),
    ],
)
def test_a_reader_does_not_go_on_where_its_state_cannot_follow(before: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        going_on(before, canonical(parse(OLD)), lambda _: None)
    assert isinstance(refused.value, ConfigError)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("before", "after", "length_ms"),
    [
        (["4s", "12s", "12s^3s"], ["1s", "12s", "12s^3s"], 12_000),  # 3s stood beside 4s and holds the same: it would count twice
        (["1s", "2s", "4s", "12s"], ["1s", "2s", "3s", "12s"], 12_000),  # what is open of 2s went by way of 4s, and 3s is not made of it
        (["1s", "2s", "4s", "12s"], ["1s", "2s", "12s"], None),  # 4s was made of 2s: what is open of 4s goes into 12s
        (["1s", "2s", "4s", "12s"], ["1s", "12s"], None),
        (["1s", "2s", "12s"], ["1s", "2s", "4s", "12s"], None),
        (["10s", "1m", "5m"], ["10s", "5m"], None),
        (["10s", "1m", "5m"], ["10s", "30s", "1m", "5m", "1h"], None),
    ],
)
def test_a_window_is_not_put_together_of_what_stood_beside_what_it_was_put_together_of(
    before: list[str], after: list[str], length_ms: int | None
) -> None:
    assert torn(*([parse_window(text) for text in windows] for windows in (before, after))) == length_ms


def test_the_shards_of_a_total_are_one_whatever_is_declared() -> None:
    total = OLD.replace('[[], ["a"]]', "[[]]")
    assert told(total, total.replace("[defaults]", "[defaults]\nshards = 4"), T) == [("changed", "defaults.shards", "kept")]
