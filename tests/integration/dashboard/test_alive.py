"""The page that is left open: server killed, connection cut or silent, tab frozen, network or broker away. The same view comes back."""

import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError, URLError

import pytest
from playwright.sync_api import Browser

from infra import embedded
from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.integration.dashboard.pages import ROOT, Tab, address_at, server, until
from tests.integration.dashboard.three_topics import PAST, SOURCES, Topics
from tests.integration.running import Gate, records

AWAY_S = float(os.environ.get("AWAY_S", "10"))  # how long the broker is away
SHORT = ("--unused-session-lifetime", "1000", "--check-unused-sessions", "500")  # milliseconds, instead of 15 and 17 seconds
VIEW = "?topic=shop.orders&by=country&group=DE&group=FR&group=%21"
GROUPS = ("DE", "FR", "none")
PHONE = {"width": 390, "height": 844}
LOST = "The connection is lost; trying again."
EXPECTED = r"Failed to load resource: net::ERR_\w+"  # what the browser says of an attempt

Window = tuple[float, bool, tuple[float | None, ...]]


@contextmanager
def opened(browser: Browser, address: str) -> Iterator[Tab]:
    """A phone's tab with three groups, scrolled down. It logs what is expected of a lost connection, and nothing else."""
    tab = Tab(browser, address, viewport=PHONE)
    tab.open(VIEW)
    until(30, lambda: len(tab.column("finals DE")) >= PAST)
    tab.page.evaluate("window.first = true; scrollTo(0, 700)")
    yield tab
    tab.page.close()
    assert [error for error in tab.errors if not re.fullmatch(EXPECTED, error)] == []


def says_that_it_is_lost(tab: Tab, within_s: float = 10) -> None:
    tab.page.get_by_role("status").filter(has_text=LOST).wait_for(timeout=within_s * 1000)


def says_nothing(tab: Tab) -> None:
    tab.page.get_by_text(LOST).wait_for(state="detached")


def is_loaded_again(tab: Tab) -> None:
    """Another page in the same tab, without a click, with everything chosen, at the same place."""
    tab.page.wait_for_function("!window.first && window.Bokeh?.documents?.[0]?.roots().length > 0")
    until(30, lambda: tab.column("finals DE"))
    assert tab.page.url.endswith(VIEW)
    until(10, lambda: tab.page.evaluate("scrollY") == 700)
    assert tab.page.get_by_text(LOST).count() == 0


def shows_what_is_in_the_topic(tab: Tab, cluster: Cluster) -> None:
    """Every window of every group once, with every KPI's value, as the topic has them."""
    wanted = in_topic(cluster)
    until(20, lambda: {group: on_chart(tab, group) for group in GROUPS} == wanted)


def in_topic(cluster: Cluster) -> dict[str, list[Window]]:
    """Group -> start, final, values; the last row of each key."""
    rows = {record.key: record.value for record in records(cluster, "kpi.shop.orders.10s")}.values()
    found: dict[str, list[Window]] = {group: [] for group in GROUPS}
    for row in rows:
        if row["group_by"] == "country" and (group := row["country"] or "none") in found:
            values = tuple(row[kpi] for kpi in SOURCES["shop.orders"])
            found[group].append((row["window_start"].timestamp() * 1000, row["final"], values))
    return {group: sorted(windows) for group, windows in found.items()}


def on_chart(tab: Tab, group: str) -> list[Window]:
    """The same from the sources behind the charts: finals, and what of the dashed line is provisional; a gap has no values."""
    shown: list[Window] = []
    for source, column, final in (("finals", "y", True), ("open", "d", False)):
        starts, *kpis = tab.columns(f"{source} {group}", "start", *(f"{column}{at}" for at in range(len(SOURCES["shop.orders"]))))
        points = [(start or 0.0, final, values) for start, values in zip(starts, zip(*kpis, strict=True), strict=True)]
        shown += [point for point in points if final or any(value is not None for value in point[2])]
    return shown


def test_a_server_that_was_killed_and_started_again_has_the_same_view(cluster: Cluster, topics: Topics, browser: Browser) -> None:
    port = free_port()
    with server(cluster.environ, port) as first, opened(browser, address_at(port)) as tab:
        first.kill()
        first.wait()
        says_that_it_is_lost(tab)
        with proxy(port, behind=free_port()):
            topics.write(2)
            tab.page.wait_for_timeout(4000)
        assert tab.page.evaluate("window.first")
        with server(cluster.environ, port):
            is_loaded_again(tab)
            shows_what_is_in_the_topic(tab, cluster)
            tab.page.goto("about:blank")


@contextmanager
def proxy(port: int, behind: int) -> Iterator[None]:
    """A proxy that has never heard of websockets; where nothing is behind it, it has a page of its own."""

    class Through(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{behind}{self.path}", timeout=10) as answer:
                    self._say(answer.status, answer.headers["Content-Type"], answer.read())
            except HTTPError as error:
                self.send_error(error.code)
            except URLError:
                self._say(200, "text/html", b"<p>Sign in first.")

        def _say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Through) as found:
        threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
        yield
        found.shutdown()


@pytest.mark.parametrize("frozen", [False, True])
def test_a_connection_cut_for_longer_than_the_session_lives_comes_back(
    cluster: Cluster, topics: Topics, browser: Browser, frozen: bool
) -> None:
    port = free_port()
    gate = Gate(address_at(port))
    with server(cluster.environ, port, ROOT, *SHORT):
        gate.open()
        with opened(browser, gate.url) as tab:
            lifecycle = tab.page.context.new_cdp_session(tab.page)
            if frozen:  # as a browser does with a tab in the background, and with all of them when the lid is closed
                lifecycle.send("Page.setWebLifecycleState", {"state": "frozen"})
            gate.close()
            topics.write(1)
            time.sleep(3)  # the session is dropped after 1.5
            if frozen:
                lifecycle.send("Page.setWebLifecycleState", {"state": "active"})
            says_that_it_is_lost(tab)
            gate.open()
            is_loaded_again(tab)
            shows_what_is_in_the_topic(tab, cluster)
        gate.close()


def test_a_network_that_is_away_is_noticed_and_when_it_is_back_the_page_goes_on(cluster: Cluster, topics: Topics, browser: Browser) -> None:
    port = free_port()
    with server(cluster.environ, port), opened(browser, address_at(port)) as tab:
        tab.page.context.set_offline(True)
        says_that_it_is_lost(tab, within_s=20)
        topics.write(1)
        tab.page.context.set_offline(False)
        says_nothing(tab)
        until(30, lambda: tab.column("finals DE"))
        shows_what_is_in_the_topic(tab, cluster)


def test_a_connection_that_is_only_silent_is_asked_and_goes_on_where_it_was(cluster: Cluster, topics: Topics, browser: Browser) -> None:
    port = free_port()
    with server(cluster.environ, port) as running, opened(browser, address_at(port)) as tab:
        running.send_signal(signal.SIGSTOP)
        says_that_it_is_lost(tab, within_s=40)
        topics.write(1)
        running.send_signal(signal.SIGCONT)
        says_nothing(tab)
        until(30, lambda: tab.column("finals DE"))
        shows_what_is_in_the_topic(tab, cluster)


def test_a_page_that_has_nothing_to_say_is_not_taken_for_lost(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    with embedded.cluster(home=tmp_path_factory.mktemp("empty")) as empty:
        port = free_port()
        with server(empty.environ, port):
            tab = Tab(browser, address_at(port)).open()
            tab.page.get_by_role("heading", name="No KPI row yet").wait_for()
            connections: list[str] = []
            tab.page.evaluate("window.first = true")
            tab.page.on("websocket", lambda it: connections.append(it.url))
            tab.page.wait_for_timeout(25_000)  # longer than the 20 s after which an unanswered page is lost
            assert tab.page.evaluate("window.first")
            assert tab.page.get_by_text(LOST).count() == 0
            tab.page.close()
            assert tab.errors == connections == []


def test_a_page_whose_connection_is_refused_tries_again_ever_more_slowly(cluster: Cluster, browser: Browser) -> None:
    port, front = free_port(), free_port()
    with server(cluster.environ, port), proxy(front, port):
        tab = Tab(browser, address_at(front))
        loads: list[float] = []
        tab.page.on("load", lambda _: loads.append(time.monotonic()))
        tab.page.goto(tab.address + VIEW)
        says_that_it_is_lost(tab)
        tab.page.wait_for_timeout(20_000)
        assert 3 <= len(loads) <= 6
        tab.page.close()


def test_a_broker_that_was_away_leaves_no_gap_and_no_doubled_point(cluster: Cluster, topics: Topics, browser: Browser) -> None:
    port = free_port()
    with server(cluster.environ, port), opened(browser, address_at(port)) as tab:
        shows_what_is_in_the_topic(tab, cluster)
        cluster.stop_broker()
        tab.page.get_by_text("Kafka does not answer").first.wait_for()
        tab.page.wait_for_timeout(AWAY_S * 1000)
        cluster.start_broker()
        topics.write(round(AWAY_S / 10) + 1)
        tab.page.get_by_text("Kafka does not answer").first.wait_for(state="detached")
        shows_what_is_in_the_topic(tab, cluster)
        assert tab.page.evaluate("window.first")  # all in the page that was open before
        assert not any(value is None for group in GROUPS for _, _, values in on_chart(tab, group) for value in values)
        tab.page.close()
        assert tab.errors == []
