"""`bokeh serve dashboard` in a real Chromium, on KPI topics of a real broker. SCREENSHOT=docs/dashboard.png leaves the picture."""

import itertools
import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser

from infra.embedded import Cluster
from infra.embedded.child import free_port
from serve import words
from tests.integration.dashboard.pages import BOKEH, ROOT, Tab, served, until
from tests.integration.dashboard.three_topics import COUNTRIES, NOW_MS, PAST, SIZE_MS, SOURCES, Topics
from tests.integration.kpi_rows import KpiTopic, set_aside

EVIL = "<img src=x onerror=window.pwned=1>"


def test_a_tile_for_each_kpi_of_every_topic_shows_the_newest_window_and_its_change(tab: Tab, topics: Topics) -> None:
    tab.open()

    for _ in range(2):
        for topic in topics.topics:
            for kpi in topic.kpis:
                new, old = (float(topics.values(topic, topics.next - back, 1.0)[kpi]) for back in (1, 2))
                unit = f" {topic.kpis[kpi][1]['unit']}" if "unit" in topic.kpis[kpi][1] else ""
                until(30, lambda: tab.tile(topic.source, kpi) == f"{kpi} {words.number(new)}{unit} {words.change(new, old)}".strip())  # noqa: B023 - asked at once
        topics.write(1)


def test_a_click_on_a_tile_and_enter_on_its_link_open_the_topic_without_loading_the_page_again(tab: Tab) -> None:
    tab.open()
    until(30, lambda: tab.charts() == ["latency 10s"])
    tab.page.evaluate("window.stayed = true")
    tab.page.locator(".topic").filter(has_text="temperature").get_by_text("temperature", exact=True).click()
    tab.page.wait_for_url("**?topic=sensors.readings")
    until(15, lambda: tab.charts() == ["temperature 10s"])
    tab.page.get_by_role("link", name="shop.orders").press("Enter")
    until(15, lambda: tab.charts() == ["revenue 10s", "orders 10s", "basket 10s"])
    assert tab.page.get_by_role("link", name="shop.orders").get_attribute("aria-current") == "true"
    assert tab.page.evaluate("window.stayed")


def test_a_link_opens_its_topic_again_after_another_was_chosen_from_the_list(tab: Tab) -> None:
    tab.open("?topic=payments.authorizations")
    for _ in range(2):
        until(30, lambda: tab.charts() == ["latency 10s"])
        tab.page.get_by_role("link", name="sensors.readings").press("Enter")
        until(30, lambda: tab.charts() == ["temperature 10s"])
        tab.choose("Topic", "payments.authorizations")


def test_the_browsers_back_button_leads_to_the_topic_before(tab: Tab) -> None:
    tab.open("?topic=sensors.readings")
    until(30, lambda: tab.charts() == ["temperature 10s"])
    tab.page.get_by_role("link", name="shop.orders").click()
    until(15, lambda: tab.charts() == ["revenue 10s", "orders 10s", "basket 10s"])
    tab.choose("Grouped by", "country")
    until(15, lambda: tab.column("finals DE"))
    tab.page.go_back()
    until(15, lambda: tab.column("finals total") and "by=" not in tab.page.url)
    tab.page.go_back()
    until(15, lambda: tab.charts() == ["temperature 10s"])
    assert tab.page.url.endswith("?topic=sensors.readings")


def test_a_browser_that_is_busy_is_not_sent_more_than_it_paints(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=sensors.readings")
    until(30, lambda: tab.column("open total"))
    code = """() => { const source = Bokeh.documents[0].get_model_by_name("charts").children.flatMap((card) => card.children ?? [])
        .flatMap((plot) => plot.renderers ?? []).find((it) => it.name == "open").data_source
        source.properties.data.change.connect(() => window.seen = (window.seen ?? 0) + 1)
        setTimeout(() => { const end = Date.now() + 4000; while (Date.now() < end); window.woke = true }) }"""
    tab.page.evaluate(code)
    for _ in range(8):
        topics.write(1)
        time.sleep(0.5)
    tab.page.wait_for_function("window.woke")
    until(15, lambda: tab.column("finals total", "start")[-1:] == [NOW_MS + (topics.next - 1) * SIZE_MS])
    assert tab.page.evaluate("window.seen") <= 4  # of eight and more, without what it says


def test_the_points_of_a_topic_grow(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=sensors.readings")
    until(30, lambda: len(tab.column("finals total")) >= PAST)
    before = len(tab.column("finals total"))
    topics.write(2)
    until(15, lambda: len(tab.column("finals total")) == before + 2)


def test_the_page_shows_exactly_what_is_in_the_topic(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders&by=country")
    shop, numbers = topics.topics[0], range(-PAST, topics.next)
    for name, country in (("DE", "DE"), ("none", None)):
        until(30, lambda: len(tab.column(f"finals {name}")) == len(numbers))  # noqa: B023 - asked at once
        for at, kpi in enumerate(shop.kpis):
            written = [topics.values(shop, number, COUNTRIES[country])[kpi] for number in numbers]
            assert tab.column(f"finals {name}", f"y{at}") == written
        assert tab.column(f"finals {name}", "start") == [NOW_MS + number * SIZE_MS for number in numbers]


def test_finals_are_solid_and_provisional_points_are_dashed_from_the_last_final_on(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders&kpi=revenue")
    until(30, lambda: len(tab.column("open total")) == 2)
    assert tab.column("open total", "start") == [NOW_MS + number * SIZE_MS for number in (topics.next - 1, topics.next)]
    assert tab.column("open total", "y0")[0] == tab.column("finals total", "y0")[-1]
    assert tab.column("open total", "d0")[0] is None
    lines = "plot.renderers.filter((it) => it.glyph.type == 'Segment').map((it) => [it.data_source.name, it.glyph.line_dash.value])"
    assert tab.drawn("revenue 10s", lines) == [["finals 10s", []], ["open 10s", "dashed"]]


def test_the_picture_of_the_readme(tab: Tab, topics: Topics) -> None:
    tab.page.set_viewport_size({"width": 1440, "height": 880})
    tab.open("?topic=shop.orders&by=country")
    topics.write(1)
    until(30, lambda: len(tab.column("open FR")) == 2)
    tab.page.wait_for_timeout(1500)
    if path := os.environ.get("SCREENSHOT"):
        tab.page.screenshot(path=path)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 1440  # nothing sticks out


def test_a_missing_window_an_unknown_value_zero_and_a_window_closed_by_idle_look_different(
    tab: Tab, topics: Topics, cluster: Cluster
) -> None:
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, "gappy", "10s", SIZE_MS, SOURCES["sensors.readings"])
    for number, value in ((0, 0.0), (1, 1.0), (4, None), (5, 5.0)):
        rows.send(number * SIZE_MS, {"temperature": value}, closed_by="idle" if value == 5.0 else "data")
    rows.flush()
    tab.open("?topic=gappy")
    until(30, lambda: tab.column("finals total") == [0.0, 1.0, None, None, 5.0])
    assert {mark: tab.marked("temperature 10s", mark) for mark in ("gaps", "unknown", "idle")} == {"gaps": [2], "unknown": [3], "idle": [4]}


def test_what_is_chosen_is_in_the_address_and_comes_back_with_it(tab: Tab) -> None:
    tab.open()
    until(30, lambda: tab.value("Topic"))
    tab.choose("Topic", "shop.orders")
    tab.page.wait_for_url("**?topic=shop.orders")
    tab.choose("Grouped by", "country")
    tab.page.wait_for_url("**?topic=shop.orders&by=country")
    until(15, lambda: tab.column("finals FR"))
    tab.open("?topic=shop.orders&by=country&group=DE&group=%21&kpi=orders&kpi=basket")
    until(30, lambda: tab.charts() == ["orders 10s", "basket 10s"])
    assert [bool(tab.column(f"finals {name}")) for name in ("DE", "none", "FR")] == [True, True, False]
    assert (tab.value("Topic"), tab.value("Grouped by"), tab.value("Window")) == ("shop.orders", "country", "10s")


def test_freshness_and_lag_are_said_in_words(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders")
    topics.write(1)
    tab.page.get_by_text(re.compile(r"data \d.* old · watermark .* behind · lag unknown")).wait_for()  # no flow has read these topics


def test_a_topic_with_a_schema_nobody_has_seen_appears_by_itself(tab: Tab, topics: Topics, cluster: Cluster) -> None:
    tab.open("?topic=shop.orders")
    until(30, tab.charts)
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, "brand.new", "1m", 60_000, {"novelty": ("double", {"aggregate": "mean"})})
    rows.send(0, {"novelty": 1.0})
    rows.flush()
    started = time.monotonic()
    until(15, lambda: tab.page.get_by_role("link", name="brand.new").count())
    assert tab.charts() == ["revenue 10s", "orders 10s", "basket 10s"]  # what was looked at stays
    tab.choose("Topic", "brand.new")
    until(15, lambda: tab.charts() == ["novelty 1m"])
    assert time.monotonic() - started < 15


def test_nothing_from_a_topic_runs_in_the_page(tab: Tab, topics: Topics, cluster: Cluster) -> None:
    kpis = {"strange": ("double", {"aggregate": EVIL, "of": EVIL, "unit": EVIL}), "text": ("string", {"aggregate": "max", "of": EVIL})}
    kpis["bars"] = ({"type": "map", "values": "long"}, {"aggregate": EVIL})  # type: ignore[assignment] # a type in its long form
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, EVIL, "10s", SIZE_MS, kpis, ("country", "channel"), doc=EVIL)
    for number in range(3):
        for group in ({"country": EVIL}, {"country": EVIL, "channel": "$$\\href{javascript:window.pwned=1}{x}$$"}):
            rows.send(number * SIZE_MS, {"strange": 5.0 + number, "text": EVIL, "bars": {EVIL: 1}}, group, closed_by=EVIL, final=number < 2)
    rows.flush()
    set_aside(cluster.bootstrap, "kpi.dead-letters", EVIL, EVIL, 1, error=EVIL)
    for by in ("country", "country,channel"):
        tab.open(f"?topic={EVIL}&by={by}&group={EVIL}&asides=1")
        until(30, lambda: "strange 10s" in tab.charts())
        tab.page.get_by_role("button", name="Show table of strange").click()
        plot = tab.page.locator(".bk-Figure[aria-label^=strange]")
        plot.scroll_into_view_if_needed()  # there is no hovering outside of the window
        box = plot.bounding_box()
        assert box is not None
        tooltip = tab.page.get_by_text("revision 0")
        for pause_ms, x in itertools.product((20, 200), range(40, int(box["width"]), 3)):  # a busy browser needs longer to answer a hover
            tab.page.mouse.move(box["x"] + x, box["y"] + box["height"] / 2)
            tab.page.wait_for_timeout(pause_ms)
            if tooltip.count():
                break
        assert tooltip.count() > 0
        assert tab.page.evaluate("window.pwned") is None
        code = """() => { const inside = (el) => [el, ...(el.shadowRoot ? all(el.shadowRoot) : [])]
            const all = (root) => [...root.querySelectorAll("*")].flatMap(inside)
            return all(document).filter((el) => el.tagName == "IMG" || el.onerror).length }"""
        assert tab.page.evaluate(code) == 0
        assert tab.page.get_by_text(EVIL).count() > 0  # it is shown, as the text that it is


def test_open_pages_and_their_frames_are_on_the_metrics_page(cluster: Cluster, browser: Browser) -> None:
    port = free_port()

    def told(name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return float(re.search(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)[1])  # type: ignore[index] # it is there

    with served({**cluster.environ, "DASHBOARD_METRICS_PORT": str(port)}) as address:
        assert told("dashboard_sessions") == told("dashboard_frame_seconds_count") == 0
        tab = Tab(browser, address).open()
        until(30, lambda: told("dashboard_frame_seconds_count") > 8)
        assert told("dashboard_sessions") == 1
        tab.page.close()
        until(60, lambda: told("dashboard_sessions") == 0)


def test_without_kafka_the_page_says_where_it_looked_and_what_to_do(browser: Browser) -> None:
    nowhere = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
    with served(nowhere, ROOT / "serve") as address:  # from serve/ it runs as well
        tab = Tab(browser, address).open()
        tab.page.get_by_role("heading", name="Kafka does not answer at 127.0.0.1:1").wait_for()
        assert tab.page.get_by_text("KAFKA_BOOTSTRAP_SERVERS").is_visible()
        tab.page.close()
    assert tab.errors == []


def test_a_wrong_setting_ends_the_start_with_one_line() -> None:
    environ = {**os.environ, "KAFKA_GROUP_ID": "x"}
    command: list[str | Path] = [BOKEH, "serve", "dashboard", "--port", "0"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert "KAFKA_GROUP_ID" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
