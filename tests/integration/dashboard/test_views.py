"""What a person can do with the page: choose, search, pause, look into tables and messages, save, and change the theme."""

import csv
import os
import re
from typing import Any

import pytest

from infra.embedded import Cluster
from tests.integration.dashboard.pages import Tab, until
from tests.integration.dashboard.three_topics import NOW_MS, PAST, SIZE_MS, SOURCES, Topics
from tests.integration.kpi_rows import KpiTopic, set_aside

BY_CHANNEL: tuple[Any, Any] = ({"type": "map", "values": "long"}, {"aggregate": "count by symbol", "of": "channel"})


# Where some of a chart's finals are, in pixels of the figure.
PIXELS = """(() => { const view = Bokeh.index.find_one(plot), source = plot.renderers.find((it) => it.name == "finals").data_source
    const {x_scale, y_scale} = view.frame, [xs, ys] = ["at", "y2"].map((name) => source.get_column(name))
    return [1, 2].map((at) => [x_scale.compute(xs[at]), y_scale.compute(ys[at])]) })()"""


def latency(q: float) -> tuple[str, Any]:
    return ("double", {"aggregate": "quantile", "of": "latency_ms", "unit": "ms", "q": q, "family": "latency"})


@pytest.fixture(scope="module")
def kinds(topics: Topics, cluster: Cluster) -> list[KpiTopic]:
    """A topic with KPIs that are no plain numbers, in two window sizes."""
    kpis = {"low": latency(0.05), "mid": latency(0.5), "high": latency(0.95), "channels": BY_CHANNEL}
    made = [
        KpiTopic(cluster.bootstrap, topics.topics[0].registry, "kinds", label, ms, kpis) for label, ms in (("10s", 10_000), ("1m", 60_000))
    ]
    for topic in made:
        for at in range(5):
            values = {"low": 1.0 + at, "mid": 5.0 + at, "high": 9.0 + at, "channels": {"web": 9 + at, "app": 3, "<b>": 1}}
            topic.send(at * topic.size_ms, values)
        topic.flush()
    return made


MINUTE_MS = 60_000
MIDNIGHT_MS = 1_774_652_400_000  # in Berlin, of 28 March 2026; the next day has 23 hours
DAY = {"unit": "1d", "zone": "Europe/Berlin"}
EVERY_KIND: dict[str, tuple[str, float, dict[str, object], list[tuple[float, float]]]] = {
    # in topic names: what people call it, its size, its kind, its windows (minutes)
    "5m-1m": ("5m every 1m", 5, {"kind": "hopping", "step_ms": MINUTE_MS}, [(at, at + 5) for at in (0, 1, 2, 5, 6)]),
    "cumulate-1d-1m": ("1d so far, each 1m", 1440, {"kind": "cumulate", "step_ms": MINUTE_MS}, [(0, at) for at in range(1, 41)]),
    "session-30s": ("sessions, 30s gap", 0.5, {"kind": "session"}, [(0.25, 1.5), (3, 8.75), (30, 30.5)]),
    "1d-Europe-Berlin": ("1d Europe/Berlin", 1440, {"kind": "tumbling", **DAY}, [(0, 1440), (1440, 2820), (2820, 4260)]),
}


def pairs(name: str) -> Any:
    """The type of an array of values of that name, and how many events each has."""
    fields = [{"name": name, "type": "string"}, {"name": "events", "type": "long"}]
    return {"type": "array", "items": {"type": "record", "name": f"its_{name}", "fields": fields}}


OF_EVERY_KIND: dict[str, tuple[Any, Any]] = {
    "revenue": ("double", {"aggregate": "sum", "of": "total", "unit": "EUR"}),
    "p95": ("double", {"aggregate": "quantile", "of": "latency_ms", "unit": "ms", "q": 0.95, "family": "latency", "error": 0.01}),
    "buyers": ("long", {"aggregate": "distinct", "of": "customer_id", "error": 0.02, "exact_up_to": 1024}),
    "city": ("string", {"aggregate": "last", "of": "city"}),
    "top": (pairs("value"), {"aggregate": "top", "of": "sku", "k": 3, "error": 1 / 1025, "exact_up_to": 1024}),
    "delay": (pairs("bin"), {"aggregate": "histogram", "of": "delay_ms", "edges": [10, 50]}),
}


def written(at: int) -> dict[str, Any]:
    """The values of a row by its number."""
    bins = [{"bin": name, "events": (at + 3 * place) % 7} for place, name in enumerate(("< 10", "10 \u2013 50", "≥ 50"))]
    top = [{"value": name, "events": events} for name, events in (("kiwi", 9 + at), ("apple", 4), ("plum", 4))]
    numbers = {"revenue": 100.0 + 7 * at, "p95": 12.5 + at % 3, "buyers": 1_023 + at}
    return {**numbers, "city": f"city {at}", "top": top, "delay": bins}


@pytest.fixture(scope="module")
def of_every_kind(topics: Topics, cluster: Cluster) -> str:
    """A source with a KPI topic for each kind of window; the rows come in no order."""
    for label, (_, size, kind, windows) in EVERY_KIND.items():
        registry = topics.topics[0].registry
        topic = KpiTopic(cluster.bootstrap, registry, "every.kind", label, int(size * MINUTE_MS), OF_EVERY_KIND, ("country",), kind=kind)
        for at in sorted(range(len(windows)), key=lambda at: (at * 7) % len(windows)):
            start_ms, end_ms = (MIDNIGHT_MS + int(edge * MINUTE_MS) for edge in windows[at])
            for group in ({}, {"country": "DE"}):
                topic.send(start_ms, written(at + len(group)), group, window_end=end_ms)
        topic.flush()
    return "every.kind"


def test_of_every_kind_of_window_a_chart_shows_exactly_what_is_in_its_topic(tab: Tab, of_every_kind: str) -> None:
    tab.open(f"?topic={of_every_kind}")
    until(30, lambda: tab.page.get_by_label("Window", exact=True).locator("option").count() == len(EVERY_KIND) + 1)
    for label, (words, _, _, windows) in EVERY_KIND.items():
        tab.choose("Window", words)
        for group in ("total", "DE"):
            tab.choose("Grouped by", "nothing: the total" if group == "total" else "country")
            until(15, lambda: tab.charts()[:1] == [f"revenue {label}"] and tab.column(f"finals {group}"))  # noqa: B023 - asked at once
            how, *bounds = tab.columns(f"finals {group}", "how", "start", "end")
            kept = [at for at, its in enumerate(how) if its == "final"]
            assert len(how) - len(kept) == (label == "5m-1m")  # the one hop that is missing
            assert [[it[at] for at in kept] for it in bounds] == [
                [MIDNIGHT_MS + edge[end] * MINUTE_MS for edge in windows] for end in (0, 1)
            ]
            values = [written(at + (group == "DE")) for at in range(len(windows))]
            for place, kpi in enumerate(("revenue", "p95", "buyers")):
                column = tab.column(f"finals {group}", f"y{place}")
                assert [column[at] for at in kept] == [it[kpi] for it in values]
        last = written(len(windows))  # the newest of DE
        for kpi, name in (("top", "value"), ("delay", "bin")):
            drawn = tab.drawn(f"{kpi} {label}", "plot.renderers[0].data_source.data")
            bars = [*zip(drawn["value"], drawn["number"], strict=True)]
            assert bars == [(it[name], it["events"]) for it in reversed(last[kpi])]  # drawn from below
        assert tab.page.get_by_role("heading", name="city").is_visible()
        assert tab.page.locator(".newest", has_text=last["city"]).is_visible()
        assert tab.page.get_by_text(f"quantile of latency_ms · ± 1 % · {words}").is_visible()
        for scheme in ("light", "dark") if (folder := os.environ.get("SCREENSHOTS")) else ():
            tab.choose("Theme", scheme)
            tab.page.wait_for_timeout(700)
            tab.page.screenshot(path=f"{folder}/{label}-{scheme}.png", full_page=True)


def test_below_the_mouse_a_session_says_how_long_it_was_and_a_number_how_far_it_may_be_off(tab: Tab, of_every_kind: str) -> None:
    tab.open(f"?topic={of_every_kind}&window=session-30s&kpi=buyers")
    until(30, lambda: tab.charts() == ["buyers session-30s"] and len(tab.column("finals total")) == 3)
    plot = tab.page.locator(".bk-Figure[aria-label^=buyers]")
    plot.scroll_into_view_if_needed()
    tab.page.wait_for_function("Bokeh.documents[0].is_idle")
    points = tab.drawn("buyers session-30s", PIXELS)
    box = plot.bounding_box()
    assert box is not None
    for (x, y), said in zip(
        points, (r"total\s+1,024\s+2026.* · 5 min 45 s long", r"total\s+1,025 ± 2 %\s+2026.* · 30 s long"), strict=True
    ):
        tip = tab.page.get_by_text("revision 0")
        for away in (60, 0):  # a mouse that does not move is over nothing
            tab.page.mouse.move(box["x"] + x - away, box["y"] + y)
        until(15, lambda: tip.count() and re.search(said, tip.first.inner_text()))  # noqa: B023 - asked at once


def test_window_sizes_stand_side_by_side_or_one_is_chosen(tab: Tab, kinds: list[KpiTopic]) -> None:
    tab.open(f"?topic={kinds[0].source}&window=all&kpi=channels")
    until(30, lambda: tab.charts() == ["channels 10s", "channels 1m"])
    tab.choose("Window", "1m")
    until(15, lambda: tab.charts() == ["channels 1m"])
    assert "window=1m" in tab.page.url


def test_quantiles_are_one_chart_with_the_median_as_its_line_and_a_band_around_it(tab: Tab, kinds: list[KpiTopic]) -> None:
    tab.open(f"?topic={kinds[0].source}&window=10s")
    until(30, lambda: tab.charts() == ["mid 10s", "channels 10s"])
    band = "plot.renderers.find((it) => it.name == 'band').glyph"
    assert [tab.drawn("mid 10s", f"{band}.{edge}.field") for edge in ("bottom", "top")] == ["y0", "y2"]
    assert (tab.column("finals total", "y0"), tab.column("finals total", "y2")) == (
        [1.0, 2.0, 3.0, 4.0, 5.0],
        [9.0, 10.0, 11.0, 12.0, 13.0],
    )
    assert tab.page.get_by_role("heading", name="latency").is_visible()


def test_counts_by_value_are_bars_with_the_largest_on_top(tab: Tab, kinds: list[KpiTopic]) -> None:
    tab.open(f"?topic={kinds[0].source}&window=10s&kpi=channels")
    until(30, lambda: tab.charts() == ["channels 10s"])
    bars = {"value": ["<b>", "app", "web"], "number": [1, 3, 13]}  # drawn from below
    until(15, lambda: tab.drawn("channels 10s", "plot.renderers[0].data_source.data") == bars)


def test_the_groups_with_the_largest_values_come_first_and_others_are_found_and_ticked(tab: Tab) -> None:
    tab.open("?topic=shop.orders&by=country&kpi=revenue")
    groups = tab.page.get_by_role("group", name="Groups")
    until(30, lambda: groups.get_by_role("checkbox", checked=True).count() == 4)
    assert [text.strip() for text in groups.locator("label").all_inner_texts()] == ["DE", "FR", "IT", "none"]
    groups.get_by_label("DE").uncheck()
    until(15, lambda: tab.column("finals FR") and not tab.column("finals DE"))
    assert tab.page.url.endswith("by=country&group=FR&group=IT&group=%21")
    tab.page.get_by_placeholder("search").fill("d")
    until(15, lambda: "DE" in [text.strip() for text in groups.locator("label").all_inner_texts()])
    groups.get_by_label("DE").check()
    until(15, lambda: tab.column("finals DE"))


def test_a_group_among_ten_thousand_is_found_by_a_part_of_its_name(tab: Tab, topics: Topics, cluster: Cluster) -> None:
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, "crowd", "10s", SIZE_MS, SOURCES["sensors.readings"], ("sensor",))
    for number in range(10_000):
        rows.send(NOW_MS, {"temperature": float(number)}, {"sensor": f"sensor-{number:05d}"}, events=1)
    rows.flush()
    tab.open("?topic=crowd&by=sensor")
    until(60, lambda: tab.page.get_by_label(re.compile("Groups: 10,000")).count())  # the feed has them all
    tab.open("?topic=crowd&by=sensor")
    until(30, lambda: tab.column("finals sensor-09999"))
    tab.page.get_by_placeholder("search").press_sequentially("-0471")
    labels = tab.page.get_by_role("group", name="Groups")
    labels.get_by_label("sensor-04711").check()
    until(15, lambda: tab.column("finals sensor-04711") == [4711.0])


def test_a_paused_page_stands_still_counts_what_waits_and_goes_on(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=sensors.readings")
    until(30, lambda: len(tab.column("finals total")) == PAST + topics.next)
    tab.page.get_by_role("button", name="Pause").click()
    tab.page.wait_for_url("**&until=*")
    before = tab.column("finals total")
    topics.write(3)
    tab.page.get_by_role("button", name="Resume (4 rows waiting)").wait_for()  # three finals and one provisional row
    assert tab.column("finals total") == before
    tab.page.get_by_role("button", name="Resume").click()
    until(15, lambda: len(tab.column("finals total")) == len(before) + 3)
    assert "until" not in tab.page.url


def test_a_page_that_was_paused_opens_at_the_same_moment(tab: Tab, topics: Topics) -> None:
    tab.open(f"?topic=sensors.readings&until={NOW_MS - 3 * SIZE_MS}")
    until(30, lambda: tab.column("finals total", "start")[-1:] == [NOW_MS - 4 * SIZE_MS])
    tab.page.get_by_role("button", name="Resume").click()
    until(15, lambda: len(tab.column("finals total")) == PAST + topics.next)


def test_the_range_of_time_is_chosen_and_stays_in_the_address(tab: Tab) -> None:
    tab.open("?topic=sensors.readings&last=5m")
    until(30, lambda: len(tab.column("finals total")) == 30)
    tab.choose("Time range", "last 15m")
    until(15, lambda: len(tab.column("finals total")) == 90)
    until(15, lambda: tab.drawn("temperature 10s", "plot.x_range.end - plot.x_range.start") > 900_000)
    assert "last=15m" in tab.page.url
    assert tab.drawn("temperature 10s", "plot.below[0].axis_line_color") is None  # a chart that is drawn anew has the theme, too


def test_the_table_behind_a_chart_has_its_rows_and_stays_open_in_the_address(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders&kpi=orders")
    tab.page.get_by_role("button", name="Show table of orders").click()
    newest = tab.page.get_by_role("table").get_by_role("row").nth(2)  # behind the head and the provisional one
    until(15, newest.count)
    value = topics.values(topics.topics[0], topics.next - 1, 1.0)["orders"]
    until(15, lambda: re.search(rf"total\s+{value}\s+900\s+9\s+final$", newest.inner_text()))
    tab.page.wait_for_url("**&table=orders")
    tab.open("?topic=shop.orders&kpi=orders&table=orders")
    tab.page.get_by_role("table", name="orders, 10s").wait_for()


def test_what_is_seen_is_saved_as_csv(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders&by=country&group=DE&last=5m")
    until(30, lambda: tab.column("finals DE"))
    with tab.page.expect_download() as saved:
        tab.page.get_by_role("button", name="CSV").click()
    assert saved.value.suggested_filename == "shop.orders.10s.csv"
    rows = [*csv.DictReader(saved.value.path().read_text().splitlines())]
    assert {row["country"] for row in rows} == {"DE"}
    finals = [row for row in rows if row["final"] == "true"]
    assert [float(row["revenue"]) for row in finals] == [
        topics.values(topics.topics[0], topics.next - back, 0.4)["revenue"] for back in range(len(finals), 0, -1)
    ]
    assert len(finals) == 30  # and the provisional one


def test_the_newest_messages_set_aside_are_shown_with_their_bytes_and_newer_ones_on_request(
    tab: Tab, topics: Topics, cluster: Cluster
) -> None:
    tab.open("?topic=shop.orders")
    tab.page.get_by_role("button", name="Late 12 · dead letters 3").click()
    region = tab.page.get_by_role("region", name="Messages of shop.orders that were set aside")
    region.get_by_text("6f 72 69 67 69 6e 61 6c").first.wait_for()  # "original"
    assert region.get_by_role("listitem").count() == 15
    set_aside(cluster.bootstrap, "kpi.dead-letters", "shop.orders", "schema", 1)
    tab.page.get_by_role("button", name="Show the newest (1 more)").click()
    until(15, lambda: region.get_by_role("listitem").count() == 16)
    assert "asides=1" in tab.page.url
    assert topics.next > 0


def test_the_theme_is_light_or_dark_as_chosen_or_as_the_system_says(tab: Tab) -> None:
    def paper() -> object:
        return tab.page.evaluate("getComputedStyle(document.body).backgroundColor")

    tab.open("?topic=shop.orders")
    light = paper()
    tab.page.emulate_media(color_scheme="dark")
    dark = paper()
    assert light != dark
    until(30, lambda: tab.value("Theme") == "automatic")
    tab.choose("Theme", "light")
    until(15, lambda: paper() == light)
    tab.page.wait_for_url("**&theme=light")
    tab.open("?topic=shop.orders&theme=dark")
    tab.page.emulate_media(color_scheme="light")
    assert paper() == dark
