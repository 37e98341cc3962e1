"""What a person may declare, and the one line that refuses the rest."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.declaration import duration_ms, parse, read_declaration
from flows.durations import label
from flows.errors import ConfigError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
        ("[defaults]\nwindows = []", "defaults.windows", "", "a duration"),
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

    assert (said.windows, said.lateness, said.idle, said.update, said.start) == (
        (10_000, 60_000, 300_000),
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

    assert declared.of("other").windows == (10_000, 60_000)
    assert declared.of("other").lateness == 3_000
    assert declared.of("own").windows == (7_000,)


@pytest.mark.parametrize("windows", ["", "10", "10s,,1m", "10s;1m", "0s", "999999999999d"])
def test_an_environment_that_is_wrong_is_named(windows: str) -> None:
    with pytest.raises(ConfigError, match=r"^KPI_WINDOWS: got .*want a"):
        parse("", windows=windows)


def test_the_environment_over_a_broken_file_still_gives_one_line() -> None:
    with pytest.raises(ConfigError, match=r"kpi\.toml: defaults: got 5"):
        parse("defaults = 5", windows="10s")


def test_windows_are_told_once_and_smallest_first() -> None:
    assert parse("[defaults]\nwindows = ['5m', '60s', '1m', '10s']").of("t").windows == (10_000, 60_000, 300_000)


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
        (10_000, 60_000, 300_000),
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
