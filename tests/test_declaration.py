"""What a person may declare, and the one line that refuses the rest."""

import json
import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flows.declaration import _sorted_windows, parse, read_declaration
from flows.durations import duration_ms, label
from flows.errors import ConfigError
from flows.windows import Window, parse_window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def labels(windows: Sequence[Window]) -> tuple[str, ...]:
    return tuple(window.label for window in windows)


@settings(deadline=None)
@given(st.integers(1, 315_360_000_000))
def test_a_size_is_what_its_label_says(size_ms: int) -> None:
    assert duration_ms(label(size_ms)) == size_ms


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1.5s", "10 s", " 10s", "10s\n", "1w", "10S", "1m30s", "1e3s", 10, None, ["10s"]])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="want a duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "where", "got", "want"),
    [
        ("[defaults]\nlateness = 5", "defaults.lateness", "5", "a duration"),
        ("[defaults]\nlateness = '-1s'", "defaults.lateness", "'-1s'", "a duration"),
        ("[defaults]\nidle = 'soon'", "defaults.idle", "'soon'", "a duration"),
        ("[defaults]\nupdate = 'never'", "defaults.update", "'never'", "a duration"),
        ("[defaults]\nwindows = ['10s', '0s']", "defaults.windows.1", "'0s'", "longer than nothing"),
        ("[defaults]\nwindows = []", "defaults.windows", "[]", "at least one window"),
        ("[defaults]\nwindows = '10s'", "defaults.windows", "'10s'", 'in a list such as ["10s", "1m"]'),
        ("[defaults]\nwindows = [10]", "defaults.windows.0", "10", "a window such as"),
        ("[topics.t]\nwindows = ['1m', '5 m']", "topics.t.windows.1", "'5 m'", "a window such as"),
        ("[topics.t]\nwindows = ['5m/']", "topics.t.windows.0", "'5m/'", "a window such as"),
        ("[topics.t]\nwindows = ['1m/5m']", "topics.t.windows.0", "'1m/5m'", "a hop that is no longer than the window"),
        ("[topics.t]\nwindows = ['5m/0s']", "topics.t.windows.0", "'5m/0s'", "longer than nothing"),
        ("[topics.t]\nwindows = ['1h/7ms']", "topics.t.windows.0", "'1h/7ms'", "at most 10000 hops"),
        ("[topics.t]\nwindows = ['1w/1d']", "topics.t.windows.0", "'1w/1d'", 'fixed length, such as "7d/1d"'),
        ("[topics.t]\nwindows = ['1d/1h@Europe/Berlin']", "topics.t.windows.0", "'1d/1h@Europe/Berlin'", "fixed length"),
        ("[topics.t]\nwindows = ['1d^7m']", "topics.t.windows.0", "'1d^7m'", "a step that divides the window"),
        ("[topics.t]\nwindows = ['1mo^7m']", "topics.t.windows.0", "'1mo^7m'", "a step that divides a day"),
        ("[topics.t]\nwindows = ['1m^1m']", "topics.t.windows.0", "'1m^1m'", "shorter than the window"),
        ("[topics.t]\nwindows = ['gap 30s/10s']", "topics.t.windows.0", "'gap 30s/10s'", 'a session as "gap 30s", and no more'),
        ("[topics.t]\nwindows = ['gap 1d@Europe/Berlin']", "topics.t.windows.0", "'gap 1d@Europe/Berlin'", "a session as"),
        ("[topics.t]\nwindows = ['gap 1w']", "topics.t.windows.0", "'gap 1w'", "a window such as"),
        ("[topics.t]\nwindows = ['gap']", "topics.t.windows.0", "'gap'", '"gap 30s"'),
        ("[topics.t]\nwindows = ['gap 0s']", "topics.t.windows.0", "'gap 0s'", "longer than nothing"),
        (
            "[topics.t]\nwindows = ['10s@Europe/Berlin']",
            "topics.t.windows.0",
            "'10s@Europe/Berlin'",
            "one of 1d, 1w, 1mo, 1y in a time zone",
        ),
        ("[topics.t]\nwindows = ['1d@Berlin']", "topics.t.windows.0", "'1d@Berlin'", "did you mean 'Europe/Berlin'?"),
        ("[topics.t]\nwindows = ['1d@Europe/Berln']", "topics.t.windows.0", "'1d@Europe/Berln'", "did you mean 'Europe/Berlin'?"),
        ("[topics.t]\nwindows = ['2w']", "topics.t.windows.0", "'2w'", "a window such as"),
        ("[defaults]\nwindows = ['999999999999d']", "defaults.windows", "'999999999999d'", "want"),
        ("[defaults]\nlateness = '999999999999d'", "defaults.lateness", "'999999999999d'", "want"),
        ("[defaults]\nstart = 'noon'", "defaults.start", "'noon'", "an ISO time"),
        ("[defaults]\ntopics = { include = ['['] }", "defaults.topics.include.0", "'['", "a regular expression"),
        ("[topics.'/[/']\n", "topics./[/", "", "a regular expression"),
        ("[topics.t]\nlateness = '1 s'", "topics.t.lateness", "'1 s'", "a duration"),
        ("[topics.t.kpis]\nx = 'sum'", "topics.t.kpis.x", "'sum'", "a table such as"),
        ("[topics.t.kpis]\nx = {}", "topics.t.kpis.x", "{}", "exactly one of"),
        ("[topics.t.kpis]\nx = { sum = 'a', mean = 'a' }", "topics.t.kpis.x", "'mean'", "exactly one of"),
        ("[topics.t.kpis]\nx = { summ = 'a' }", "topics.t.kpis.x", "'summ'", "exactly one of"),
        ("[topics.t.kpis]\nx = { summ = 'a' }", "topics.t.kpis.x", "'summ'", "did you mean 'sum'?"),
        ("[topics.t.kpis]\nx = { unit = 's', quantil = 'a' }", "topics.t.kpis.x", "'quantil'", "did you mean 'quantile'?"),
        ("[topics.t.kpis]\nx = { sum = 'a', unti = 's' }", "topics.t.kpis.x", "'unti'", "no 'unti' beside sum (did you mean 'unit'?)"),
        ("[topics.t.kpis]\nx = { histogram = 'a', edge = [1] }", "topics.t.kpis.x", "'edge'", "did you mean 'edges'?"),
        ("[topics.t.kpis]\nx = { top = 'a', q = [0.5] }", "topics.t.kpis.x", "'q'", "no 'q' beside top"),
        ("[topics.t.kpis]\nx = { sum = 'a', unit = 3 }", "topics.t.kpis.x.unit", "3", "want a valid string"),
        (
            "[topics.t.kpis]\nx = { quantile = 'a', q = 0.5 }",
            "topics.t.kpis.x.q",
            "0.5",
            "different numbers from 0 to 1 such as [0.5, 0.99]",
        ),
        ("[topics.t.kpis]\nx = { quantile = 'a', q = [] }", "topics.t.kpis.x.q", "[]", "different numbers from 0 to 1"),
        ("[topics.t.kpis]\nx = { quantile = 'a', q = [50] }", "topics.t.kpis.x.q", "[50]", "different numbers from 0 to 1"),
        (
            f"[topics.t.kpis]\nx = {{ quantile = 'a', q = {[n / 100 for n in range(21)]} }}",
            "topics.t.kpis.x.q",
            "[0.0, ",
            "at most 20 different",
        ),
        ("[topics.t.kpis]\nx = { quantile = 'a', q = [nan] }", "topics.t.kpis.x.q", "[nan]", "different numbers from 0 to 1"),
        ("[topics.t.kpis]\nx = { quantile = 'a', q = [true] }", "topics.t.kpis.x.q", "[True]", "different numbers from 0 to 1"),
        ("[topics.t.kpis]\nx = { quantile = 'a', q = [0.5, 0.50] }", "topics.t.kpis.x.q", "[0.5, 0.5]", "different numbers from 0 to 1"),
        ("[topics.t.kpis]\nx = { quantile = 'a', q = [1, 0.9999999999999] }", "topics.t.kpis.x.q", "[1, ", "different numbers from 0 to 1"),
        ("[topics.t.kpis]\nx = { top = 'a', k = 0 }", "topics.t.kpis.x.k", "0", "a whole number from 1 to 100"),
        ("[topics.t.kpis]\nx = { top = 'a', k = 101 }", "topics.t.kpis.x.k", "101", "a whole number from 1 to 100"),
        ("[topics.t.kpis]\nx = { top = 'a', k = true }", "topics.t.kpis.x.k", "True", "a whole number from 1 to 100"),
        (
            "[topics.t.kpis]\nx = { histogram = 'a' }",
            "topics.t.kpis.x",
            "'histogram'",
            "edges beside histogram, such as edges = [10, 50, 100]",
        ),
        ("[topics.t.kpis]\nx = { histogram = 'a', edges = [2, 1] }", "topics.t.kpis.x.edges", "[2, 1]", "rising numbers"),
        ("[topics.t.kpis]\nx = { histogram = 'a', edges = [1, 1] }", "topics.t.kpis.x.edges", "[1, 1]", "rising numbers"),
        ("[topics.t.kpis]\nx = { histogram = 'a', edges = [inf] }", "topics.t.kpis.x.edges", "[inf]", "rising numbers"),
        ("[topics.t.kpis]\nx = { histogram = 'a', edges = [1, 1.00000000001] }", "topics.t.kpis.x.edges", "[1, ", "first ten digits"),
        (f"[topics.t.kpis]\nx = {{ histogram = 'a', edges = [1{'0' * 400}] }}", "topics.t.kpis.x.edges", "[1000", "rising numbers"),
        ("[topics.t.kpis]\nx = { ratio = 'a' }", "topics.t.kpis.x", "'a'", "the names of two KPIs"),
        ("[topics.t.kpis]\nx = { ratio = ['a'] }", "topics.t.kpis.x", "['a']", "the names of two KPIs"),
        ("[topics.t.kpis]\nx = { distinct = '*' }", "topics.t.kpis.x", "'*'", "to take the distinct of"),
        ("[topics.t]\nby = 'a'", "topics.t.by", "'a'", 'a list of group sets such as [[], ["country"]]'),
        ("[topics.t.kpis]\nx = { sum = '*' }", "topics.t.kpis.x", "'*'", "to take the sum of"),
        ("[topics.t.kpis]\nx = { rate = 'a' }", "topics.t.kpis.x", "'a'", '{ rate = "*" }'),
        ("[topics.t]\nby = [['a'], ['a']]", "topics.t.by", "['a']", "want"),
        ("[topics.t]\nby = []", "topics.t.by", "[]", "want"),  # not even the total
        ("[topics.t]\nby = [[], []]", "topics.t.by", "[]", "want"),
        ("[topics.t]\nby = [['a', 'a']]", "topics.t.by", "'a'", "want"),
        ("[topics.t.kpis]\nx = { sum = 3 }", "topics.t.kpis.x", "3", "want"),
        ("[topics.t]\ngroups = 0", "topics.t.groups", "0", "a whole number from 1 to 10000000"),
        ("[defaults]\ngroups = 10_000_001", "defaults.groups", "10000001", "a whole number from 1"),
        ("[defaults]\ngroups = true", "defaults.groups", "True", "a whole number"),
        ("[defaults]\ngroups = 1.5", "defaults.groups", "1.5", "a whole number"),
        ("[topics.t]\ntime = 5", "topics.t.time", "5", "want"),
        ("[topics]\nt = 5", "topics.t", "5", "want"),
        ("defaults = 5", "defaults", "5", "want"),
    ],
)
def test_a_refusal_is_one_line_with_file_place_got_and_want(text: str, where: str, got: str, want: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, "here/kpi.toml")

    line = str(refused.value)
    assert "\n" not in line
    assert line.startswith(f"here/kpi.toml: {where}")
    assert f"got {got}" in line or got in line.partition("got ")[2]
    assert want in line


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("defalts = {}", "defaults"),
        ("[defaults]\nlatenes = '1s'", "lateness"),
        ("[topics.t]\nwindow = ['1s']", "windows"),
        ("[defaults.topics]\nincluded = ['a']", "include"),
    ],
)
def test_a_name_that_does_not_exist_is_told_the_nearest(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"want one of .*{meant}.* \(did you mean '{meant}'\?\)$"):
        parse(text)


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x85b"])
def test_a_refusal_is_one_line_whatever_names_are_in_it(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f"[topics.{json.dumps(name)}]\nlateness = 5")

    assert str(refused.value).isprintable()


def test_a_refusal_is_short_however_much_was_got() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(f"[topics.t]\nlateness = {list(range(100_000))}")

    assert len(str(refused.value)) < 400


def test_no_two_kpis_have_one_name_quantiles_included() -> None:
    text = "[topics.t.kpis]\nlatency = { quantile = 'a', q = [0.95] }\nlatency_p95 = { mean = 'a' }"

    with pytest.raises(ConfigError, match=r"^kpi\.toml: topics\.t\.kpis: got 'latency_p95' twice, want another name: 'latency' gives"):
        parse(text)
    assert set(parse(text.replace("0.95", "0.94")).of("t").kpis) == {"latency", "latency_p95"}


@pytest.mark.parametrize(
    "text", ["defalts = {}", "[defaults]\nlatenes = '1s'", "[topics.t]\nwindow = ['1s']", "[defaults.topics]\nonly = ['a']"]
)
def test_a_name_that_does_not_exist_is_refused_and_named(text: str) -> None:
    name = next(word for word in ("defalts", "latenes", "window", "only") if word in text)

    with pytest.raises(ConfigError, match=rf"kpi\.toml: .*{name}: got .*no such name"):
        parse(text)


def test_what_is_not_toml_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"kpi\.toml: not TOML: .*line 2"):
        parse("[defaults]\nlateness = 10s")


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    said = read_declaration({}).of("any.topic")

    assert (labels(said.windows), said.lateness, said.idle, said.update, said.start) == (
        ("10s", "1m", "5m"),
        10_000,
        15_000,
        1_000,
        "earliest",
    )
    assert (said.time, said.by, said.where, said.kpis) == (None, ((),), None, {})


def test_a_file_that_was_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"KPI_CONFIG: got .*gone\.toml, want a file"):
        read_declaration({"KPI_CONFIG": str(tmp_path / "gone.toml")})


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path) -> None:
    latin = tmp_path / "kpi.toml"
    latin.write_bytes('[topics.t.kpis]\nx = { count = "*", unit = "\xa3" }'.encode("latin-1"))

    for path in (latin, tmp_path):
        with pytest.raises(ConfigError, match=path.name):
            read_declaration({"KPI_CONFIG": str(path)})


def test_the_environment_replaces_the_default_windows_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "kpi.toml"
    file.write_text("[defaults]\nwindows = ['1h']\nlateness = '3s'\n[topics.own]\nwindows = ['7s']")

    declared = read_declaration({"KPI_CONFIG": str(file), "KPI_WINDOWS": "1m, 10s"})

    assert labels(declared.of("other").windows) == ("10s", "1m")
    assert declared.of("other").lateness == 3_000
    assert labels(declared.of("own").windows) == ("7s",)


def test_the_environment_may_name_windows_of_every_kind() -> None:
    windows = parse("", windows=" 10s,5m/1m, gap 30s,1d@Europe/Berlin ,1w, 1d^1h").of("t").windows

    assert sorted(labels(windows)) == ["10s", "1d-Europe-Berlin", "1w", "5m-1m", "cumulate-1d-1h", "session-30s"]


@pytest.mark.parametrize("windows", ["", "10", "10s,,1m", "10s;1m", "0s", "999999999999d"])
def test_an_environment_that_is_wrong_is_named(windows: str) -> None:
    with pytest.raises(ConfigError, match=r"^KPI_WINDOWS: got .*want a"):
        parse("", windows=windows)


def test_of_several_windows_in_the_environment_the_wrong_one_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^KPI_WINDOWS: got '5m/7m', want a hop"):
        parse("", windows="10s, 5m/7m, gap 30s")


def test_the_environment_over_a_broken_file_still_gives_one_line() -> None:
    with pytest.raises(ConfigError, match=r"kpi\.toml: defaults: got 5"):
        parse("defaults = 5", windows="10s")


def test_windows_are_told_once_and_smallest_first() -> None:
    assert labels(parse("[defaults]\nwindows = ['5m', '60s', '1m', '10s', '5m/5m']").of("t").windows) == ("10s", "1m", "5m")


def test_windows_of_one_size_are_different_windows() -> None:
    windows = parse("[defaults]\nwindows = ['1d', '1d@UTC', '1d@Europe/Berlin', '24h', '1d/1h', '1d^1h', 'gap 1d']").of("t").windows

    assert sorted(labels(windows)) == ["1d", "1d-1h", "1d-Europe-Berlin", "1d-UTC", "cumulate-1d-1h", "session-1d"]


def test_no_two_windows_have_one_topic() -> None:
    """No two spellings that are known do: should a new kind or zone, it is refused."""
    with pytest.raises(ValueError, match=r"^want windows whose topics have different names: 1d is the name of two$"):
        _sorted_windows((Window(86_400_000, "1d"), Window(86_400_000, "1d", unit="1d", zone="UTC")))


def test_no_two_time_zones_are_spelled_alike_in_topics() -> None:
    spelled = [parse_window(f"1d@{zone}").label for zone in sorted(available_timezones())]

    assert len(set(spelled)) == len(spelled)
    assert all(re.fullmatch(r"[\w.-]+", label, re.ASCII) for label in spelled)


SPELLED = st.one_of(
    st.integers(1, 10**9).map("{}ms".format),
    st.builds(lambda size, hops: f"{size * hops}s/{size}s", st.integers(1, 1000), st.integers(1, 100)),
    st.builds(lambda step, steps: f"{step * steps}s^{step}s", st.integers(1, 1000), st.integers(2, 100)),
    st.integers(1, 10**9).map("gap {}ms".format),
    st.builds(lambda unit, zone: f"{unit}@{zone}", st.sampled_from(["1d", "1w", "1mo", "1y"]), st.sampled_from(["UTC", "Asia/Tokyo"])),
)


@settings(deadline=None)
@given(st.lists(SPELLED, min_size=1, max_size=5))
def test_windows_of_every_kind_are_what_the_environment_or_the_file_says(spelled: list[str]) -> None:
    windows = parse(f"[defaults]\nwindows = {json.dumps(spelled)}").of("t").windows

    assert windows == parse("", windows=",".join(spelled)).of("t").windows
    assert set(windows) == {parse_window(text) for text in spelled}
    assert list(windows) == sorted(windows)


@settings(deadline=None)
@given(st.integers(0, 253_402_300_799_999))
@example(538_710_436_698)  # as a float of seconds, times 1000, it is 538710436697.99994
def test_a_start_is_exact_to_the_millisecond(start_ms: int) -> None:
    moment = EPOCH + timedelta(milliseconds=start_ms)

    assert parse(f"[defaults]\nstart = '{moment.isoformat()}'").of("t").start == start_ms
    assert parse(f"[defaults]\nstart = {moment.isoformat()}").of("t").start == start_ms, "TOML's own date-time"


@pytest.fixture
def _far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_far_from_utc")
def test_a_start_without_zone_is_utc_and_one_with_a_zone_is_not() -> None:
    assert parse("[defaults]\nstart = '1970-01-01T01:00:00'").of("t").start == 3_600_000
    assert parse("[defaults]\nstart = '1970-01-01T01:00:00+01:00'").of("t").start == 0
    assert parse("[defaults]\nstart = '1970-01-02'").of("t").start == 86_400_000


PATTERNS = """
[defaults]
lateness = "1s"
[topics."/shop.*/"]
lateness = "2s"
[topics."/shop[.]orders/"]
lateness = "3s"
[topics."shop.orders"]
lateness = "4s"
[topics."/bank/"]
lateness = "5s"
[topics."/card/"]
idle = "9s"
"""


@pytest.mark.parametrize(
    ("topic", "lateness_ms"),
    [
        ("shop.orders", 4_000),  # its own name, wherever that stands in the file
        ("shop.refunds", 2_000),  # the first pattern
        ("bank", 5_000),
        ("bank.two", 1_000),  # a pattern matches whole names
        ("webshop", 1_000),
        ("my.bank", 1_000),
        ("card", 1_000),  # what its table does not say is the default
    ],
)
def test_a_topic_is_declared_by_its_name_else_by_the_first_pattern_else_by_the_defaults(topic: str, lateness_ms: int) -> None:
    assert parse(PATTERNS).of(topic).lateness == lateness_ms


def test_a_table_says_only_what_it_says() -> None:
    declared = parse("[defaults]\nlateness = '1s'\nidle = '2s'\nmax_future = '3s'\ngroups = 5\nstart = 'latest'\n[topics.t]\nidle = '7s'")

    said = declared.of("t")

    assert (said.lateness, said.idle, said.max_future, said.groups, said.start, said.windows) == (
        1_000,
        7_000,
        3_000,
        5,
        "latest",
        parse("").of("t").windows,
    )


def test_off_is_a_word_of_its_own_for_a_topic_and_for_all() -> None:
    assert parse("[topics.t]\nupdate = 'off'").of("t").update is None
    assert parse("[topics.t]\nupdate = 'off'").of("other").update == 1_000
    assert parse("[defaults]\nupdate = 'off'").of("t").update is None
    assert parse("[defaults]\nupdate = 'off'\n[topics.t]\nupdate = '2s'").of("t").update == 2_000


def test_a_list_of_names_is_one_group_set() -> None:
    assert parse("[topics.t]\nby = ['a', 'b']").of("t").by == (("a", "b"),)
    assert parse("[topics.t]\nby = [[], ['a'], ['a', 'b']]").of("t").by == ((), ("a",), ("a", "b"))


def test_a_kpi_keeps_its_unit() -> None:
    kpi = parse("[topics.t.kpis]\nrevenue = { sum = 'total', unit = 'EUR' }").of("t").kpis["revenue"]

    assert (kpi.aggregate, kpi.of, kpi.unit) == ("sum", "total", "EUR")


def test_a_kpi_keeps_what_its_aggregate_is_told() -> None:
    kpis = parse(
        "[topics.t.kpis]\na = { quantile = 'x', q = [0, 0.5] }\nb = { top = 'x', k = 3 }\nc = { histogram = 'x', edges = [1, 2.5] }"
    )
    a, b, c = kpis.of("t").kpis.values()

    assert (a.q, b.k, c.edges) == ((0.0, 0.5), 3, (1.0, 2.5))
    assert (a.names("a"), b.names("b")) == (("a_p0", "a_p50"), ("b",))


@pytest.mark.parametrize(("said", "told"), [("{ quantile = 'x' }", (0.5, 0.95, 0.99)), ("{ top = 'x' }", 10)])
def test_a_quantile_and_a_top_need_not_be_told_more(said: str, told: object) -> None:
    kpi = parse(f"[topics.t.kpis]\nx = {said}").of("t").kpis["x"]

    assert told in (kpi.q, kpi.k)
