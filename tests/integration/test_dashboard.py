"""`bokeh serve dashboard` in a real Chromium, on KPI topics of a real broker. SCREENSHOT=docs/dashboard.png leaves the picture."""

import itertools
import math
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from infra import embedded
from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.integration.browser import chromium
from tests.integration.kpi_rows import KpiTopic, set_aside
from tests.integration.pages import BOKEH, ROOT, Tab, served, until
from tests.integration.three_topics import NOW_MS, PAST, SIZE_MS, SOURCES, Topics

EVIL = "<img src=x onerror=window.pwned=1>"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One of its own: the dashboard reads every KPI topic there is, and other tests leave hundreds."""
    with embedded.cluster(home=tmp_path_factory.mktemp("dashboard")) as started:
        yield started


@pytest.fixture(scope="module")
def topics(cluster: Cluster) -> Topics:
    made = Topics(cluster)
    made.write(PAST)
    set_aside(cluster.bootstrap, "kpi.late", "shop.orders", "late", 12)
    set_aside(cluster.bootstrap, "kpi.dead-letters", "shop.orders", "magic", 3)
    return made


@pytest.fixture(scope="module")
def address(cluster: Cluster, topics: Topics) -> Iterator[str]:  # noqa: ARG001 - the topics are there before the server
    with served(cluster.environ) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    opened = Tab(browser, address)
    yield opened
    opened.page.close()
    assert opened.errors == []


def test_the_points_of_every_topic_grow(tab: Tab, topics: Topics) -> None:
    tab.open()

    def lengths() -> list[int]:
        return [len(tab.column(f"finals {source}")) for source in SOURCES]

    until(30, lambda: min(lengths()) >= PAST)
    before = lengths()
    topics.write(2)
    until(15, lambda: lengths() == [length + 2 for length in before])


def test_the_page_shows_exactly_what_is_in_the_topic(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders")
    until(30, lambda: len(tab.column("finals total")) == PAST + topics.next)
    wave = [1 + 0.3 * math.sin(number / 14 + 11) + 0.05 * math.sin(number + 9) for number in range(-PAST, topics.next)]
    assert tab.column("finals total", "y0") == pytest.approx([3500 * it for it in wave])
    assert tab.column("finals total", "y1") == [int(40 * it) for it in wave]
    assert tab.column("finals total", "start") == [NOW_MS + number * SIZE_MS for number in range(-PAST, topics.next)]


def test_finals_are_solid_and_provisional_points_are_dashed_from_the_last_final_on(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders&kpi=revenue")
    until(30, lambda: len(tab.column("open total")) == 2)
    assert tab.column("open total", "start") == [NOW_MS + number * SIZE_MS for number in (topics.next - 1, topics.next)]
    assert tab.column("open total", "y0")[0] == tab.column("finals total", "y0")[-1]
    assert tab.column("open total", "d0")[0] is None
    code = """() => Bokeh.documents[0].get_model_by_name("chart revenue").renderers.filter((r) => r.glyph.type == "Line" && !r.name)
        .map((r) => [r.data_source.name, Array.from(r.glyph.line_dash.value ?? r.glyph.line_dash)])"""
    assert tab.page.evaluate(code) == [["finals total", []], ["open total", [5, 4]]]


def test_the_picture_of_the_readme(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders&by=country")
    topics.write(1)
    until(30, lambda: len(tab.column("open FR")) == 2)
    tab.page.wait_for_timeout(1500)
    if path := os.environ.get("SCREENSHOT"):
        tab.page.screenshot(path=path)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 1440  # nothing sticks out


def test_a_missing_window_stays_a_gap(tab: Tab, topics: Topics, cluster: Cluster) -> None:
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, "gappy", "10s", SIZE_MS, SOURCES["sensors.readings"])
    for number in (0, 1, 4):
        rows.send(number * SIZE_MS, {"temperature": float(number)})
    rows.flush()
    tab.open("?topic=gappy")
    until(30, lambda: tab.column("finals total") == [0.0, 1.0, None, 4.0])


def test_what_is_chosen_is_in_the_address_and_comes_back_with_it(tab: Tab) -> None:
    tab.open()
    until(30, lambda: tab.value("Topic"))
    tab.choose("Topic", "shop.orders")
    tab.page.wait_for_url("**?topic=shop.orders")
    tab.choose("Grouped by", "country")
    tab.page.wait_for_url("**?topic=shop.orders&by=country")
    until(15, lambda: tab.column("finals FR"))
    tab.open("?topic=shop.orders&by=country&group=DE&group=%21&kpi=orders&kpi=basket")
    until(30, lambda: tab.charts() == ["chart orders", "chart basket"])
    assert [bool(tab.column(f"finals {name}")) for name in ("DE", "none", "FR")] == [True, True, False]
    assert (tab.value("Topic"), tab.value("Grouped by"), tab.value("Window")) == ("shop.orders", "country", "10s")


def test_freshness_and_counts_are_said_in_words(tab: Tab, topics: Topics) -> None:
    tab.open("?topic=shop.orders")
    topics.write(1)
    tab.page.get_by_text("late 12").wait_for()
    assert tab.page.get_by_text("dead 3").get_attribute("title") == "magic 3"
    assert tab.page.get_by_text("data ").first.text_content()


def test_a_topic_with_a_schema_nobody_has_seen_appears_by_itself(tab: Tab, topics: Topics, cluster: Cluster) -> None:
    tab.open("?topic=shop.orders")
    until(30, tab.charts)
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, "brand.new", "1m", 60_000, {"novelty": ("double", {"aggregate": "mean"})})
    rows.send(0, {"novelty": 1.0})
    rows.flush()
    started = time.monotonic()
    until(15, lambda: tab.column("finals brand.new"))
    assert tab.charts() == ["chart revenue", "chart orders", "chart basket"]  # what was looked at stays
    tab.choose("Topic", "brand.new")
    until(15, lambda: tab.charts() == ["chart novelty"])
    assert time.monotonic() - started < 15


def test_nothing_from_a_topic_runs_in_the_page(tab: Tab, topics: Topics, cluster: Cluster) -> None:
    kpis = {"strange": ("double", {"aggregate": EVIL, "of": EVIL, "unit": EVIL}), "text": ("string", {"aggregate": "max", "of": EVIL})}
    rows = KpiTopic(cluster.bootstrap, topics.topics[0].registry, EVIL, "10s", SIZE_MS, kpis, ("country", "channel"))
    for number in range(3):
        for group in ({"country": EVIL}, {"country": EVIL, "channel": "$$\\href{javascript:window.pwned=1}{x}$$"}):
            rows.send(number * SIZE_MS, {"strange": 5.0 + number, "text": EVIL}, group, closed_by=EVIL, final=number < 2)
    rows.flush()
    set_aside(cluster.bootstrap, "kpi.dead-letters", EVIL, EVIL, 1)
    for by in ("country", "country,channel"):
        tab.open(f"?topic={EVIL}&by={by}&group={EVIL}")
        until(30, lambda: "chart strange" in tab.charts())
        for field in tab.page.locator(".choices").all():
            field.click()
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
