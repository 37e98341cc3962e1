"""`python -m serve` on KPI topics of a real broker: its addresses, its cap, how it starts and how it ends; and the cap of `bokeh serve`."""

import csv
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id
from playwright.sync_api import Browser

from flows.registry import Registry
from infra import embedded
from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.integration.browser import chromium
from tests.integration.dashboard.pages import until
from tests.integration.kpi_rows import KpiTopic

ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-m", "serve"]
NOWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "SCHEMA_REGISTRY_URL": "http://127.0.0.1:1"}
KPIS = {"revenue": ("double", {"aggregate": "sum", "of": "total", "unit": "EUR"}), "top": ("string", {"aggregate": "max", "of": "name"})}


class Server:
    """A running dashboard, and what it answers."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, str], str]:
        """Status, headers, body; redirects are not followed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, dict(answer.headers.items()), answer.read().decode()
        finally:
            connection.close()

    def health(self) -> tuple[int, dict[str, Any]]:
        """Status and JSON of /healthz."""
        status, _, body = self.get("/healthz")
        return status, json.loads(body)

    def metric(self, name: str) -> float:
        """A metric without labels."""
        found = re.search(rf"^{name} (\S+)$", self.get("/metrics")[2], re.MULTILINE)
        assert found, name
        return float(found[1])


OPEN = "window.Bokeh?.documents?.[0]?.roots().length == 5"


@contextmanager
def served(environ: Mapping[str, str], command: list[str] | None = None, path: str = "/healthz") -> Iterator[Server]:
    """The server, listening; ended with SIGTERM, upon which it must say nothing more than that, and 0."""
    port = free_port()
    with subprocess.Popen(
        [*(command or SERVE), *(["--port", str(port), "--address", "127.0.0.1"] if command else [])],
        cwd=ROOT,
        env={**os.environ, "DASHBOARD_PORT": str(port), **environ},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        server = Server(process, port)
        try:
            until(60, lambda: process.poll() is not None or answers(server, path))
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            yield server
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0
            assert "Traceback" not in said
        finally:
            process.kill()


def answers(server: Server, path: str) -> bool:
    try:
        return server.get(path)[0] > 0
    except OSError:
        return False


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One of its own: the dashboard reads every KPI topic there is."""
    with embedded.cluster(home=tmp_path_factory.mktemp("serve")) as started:
        yield started


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    topic = KpiTopic(cluster.bootstrap, Registry(cluster.registry_url), "shop.orders", "10s", 10_000, KPIS, ("country",))
    for number in range(20):
        topic.send(number * 10_000, {"revenue": number / 3, "top": "=1+1"}, revision=number)
        for country in ("DE", None):
            topic.send(number * 10_000, {"revenue": number / 7, "top": "x"}, {"country": country})
    topic.flush()
    with served(cluster.environ) as started:
        until(60, lambda: started.health()[1]["rows"] == 60)
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


# Addresses


def test_while_it_reads_it_is_healthy_and_says_what_it_has_read(server: Server) -> None:
    status, said = server.health()
    assert status == 200
    assert said == {"reads": True, "trouble": "", "topics": 1, "rows": 60, "unreadable": 0, "pages": 0}


def test_while_it_waits_for_kafka_it_is_not_healthy_and_says_for_what() -> None:
    with served(NOWHERE) as server:
        status, said = until(30, lambda: found if (found := server.health())[1]["trouble"].startswith("Kafka") else None)
        assert (status, said["reads"]) == (503, False)
        assert said["trouble"] == "Kafka does not answer at 127.0.0.1:1"
        assert server.metric("dashboard_feed_trouble") == 1


def test_its_metrics_are_on_its_own_port(server: Server) -> None:
    assert server.metric("dashboard_feed_rows") == 60
    assert server.metric("dashboard_feed_trouble") == 0
    assert server.metric("dashboard_sessions_refused_total") == 0
    assert server.get("/metrics")[1]["Content-Type"].startswith("text/plain")


def test_the_root_leads_to_the_dashboard(server: Server) -> None:
    status, headers, _ = server.get("/")
    assert (status, headers["Location"]) == (302, "/dashboard")


def test_the_csv_is_what_a_page_with_the_same_query_shows(server: Server) -> None:
    status, headers, body = server.get("/export.csv?topic=shop.orders&by=country&group=%21&kpi=revenue")
    assert status == 200
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert headers["Content-Disposition"] == 'attachment; filename="shop.orders.10s.csv"'
    rows = list(csv.DictReader(io.StringIO(body)))
    assert [float(row["revenue"]) for row in rows] == [number / 7 for number in range(20)]
    assert {row["country"] for row in rows} == {""}
    assert "top" not in rows[0]


def test_the_csv_without_a_query_is_the_total_of_the_first_topic(server: Server) -> None:
    rows = list(csv.DictReader(io.StringIO(server.get("/export.csv")[2])))
    assert [(float(row["revenue"]), row["top"], row["revision"]) for row in rows] == [(n / 3, "'=1+1", str(n)) for n in range(20)]
    assert rows[-1]["window_end"] == "1970-01-01T00:03:20.000Z"


def test_the_csv_of_a_topic_that_is_not_there_is_one_line(server: Server) -> None:
    status, headers, body = server.get("/export.csv?topic=%3Cimg%20src=x%3E")
    assert (status, body) == (404, "no KPI row of <img src=x> has come\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_csv_of_a_window_that_is_not_there_is_one_line(server: Server) -> None:
    status, headers, body = server.get("/export.csv?topic=shop.orders&window=%0A7s")
    assert (status, body) == (404, "shop.orders has no window 7s, only 10s\n")
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert [server.get(f"/export.csv?topic=shop.orders&window={window}")[0] for window in ("10s", "all")] == [200, 200]


@pytest.mark.parametrize("path", ["/", "/dashboard", "/healthz", "/metrics", "/export.csv", "/static/js/bokeh.min.js", "/nowhere"])
def test_each_response_says_what_a_browser_must_not_do_with_it(server: Server, path: str) -> None:
    _, headers, _ = server.get(path)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"


def test_a_page_of_another_host_gets_no_websocket(cluster: Cluster) -> None:
    with served({**cluster.environ, "BOKEH_ALLOW_WS_ORIGIN": "*"}) as server:
        handshake = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Protocol": "bokeh, x",
        }
        assert server.get("/dashboard/ws", {**handshake, "Origin": "http://evil.example"})[0] == 403


# The cap


def test_beyond_the_cap_a_visitor_meets_the_sign_and_gets_in_when_somebody_leaves(
    cluster: Cluster, server: Server, browser: Browser
) -> None:
    assert server.health()[0] == 200
    with served({**cluster.environ, "DASHBOARD_SESSIONS": "2"}) as small:
        address = f"http://127.0.0.1:{small.port}/dashboard"
        first, second, third = (browser.new_page() for _ in range(3))
        for page in (first, second):
            page.goto(address)
            page.wait_for_function(OPEN)
        answer = third.goto(address)
        assert answer
        assert answer.status == 503
        third.get_by_role("heading", name="All places are taken").wait_for()
        assert third.get_by_text("2 pages are open").is_visible()
        assert third.get_by_text("DASHBOARD_SESSIONS=4").is_visible()
        assert third.evaluate("window.Bokeh") is None
        assert small.health()[1]["pages"] == 2
        assert small.metric("dashboard_sessions_refused_total") == 1
        second.close()
        third.wait_for_function(OPEN, timeout=30_000)  # by itself, after 15 s
        assert small.health()[1]["pages"] == 2
        first.close()
        third.close()
        until(30, lambda: small.metric("dashboard_sessions") == 0)


def test_who_loads_a_page_again_gets_its_place_back_within_seconds_though_all_are_taken(browser: Browser) -> None:
    with served({**NOWHERE, "DASHBOARD_SESSIONS": "1"}) as small:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{small.port}/dashboard")
        for _ in range(3):
            page.wait_for_function(OPEN, timeout=12_000)
            page.reload()
        page.wait_for_function(OPEN, timeout=12_000)
        page.close()


def test_the_sign_is_dark_where_the_reader_wants_it_dark(browser: Browser) -> None:
    with served({**NOWHERE, "DASHBOARD_SESSIONS": "1"}) as small:
        small.get("/dashboard")
        page = browser.new_page(color_scheme="dark")
        page.goto(f"http://127.0.0.1:{small.port}/dashboard")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(11, 18, 32)"
        page.close()


def test_a_stranger_with_a_token_of_his_own_gets_no_websocket_beyond_the_cap() -> None:
    with served({**NOWHERE, "DASHBOARD_SESSIONS": "1"}) as small:
        small.get("/dashboard")
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        for token in (generate_jwt_token(generate_session_id()), "x"):
            assert small.get("/dashboard/ws", {**headers, "Sec-WebSocket-Protocol": f"bokeh, {token}"})[0] == 503
        assert small.health()[1]["pages"] == 1


def test_bokeh_serve_knows_the_cap_too() -> None:
    command = [str(Path(sys.executable).with_name("bokeh")), "serve", "dashboard"]
    metrics = free_port()
    environ = {**NOWHERE, "DASHBOARD_SESSIONS": "1", "DASHBOARD_METRICS_PORT": str(metrics)}
    with served(environ, command, "/static/js/bokeh.min.js") as small:
        assert "All places are taken" not in small.get("/dashboard")[2]
        body = small.get("/dashboard")[2]
        assert "All places are taken" in body
        assert "bokeh" not in body.lower()
        assert Server(small.process, metrics).metric("dashboard_sessions") == 1  # none was made for it
        token = generate_jwt_token(generate_session_id())
        assert "All places are taken" in small.get(f"/dashboard?bokeh-token={token}")[2]  # nor for who brings a name
        until(60, lambda: "All places are taken" not in small.get("/dashboard")[2])  # who never connected has left


# Starting and ending


def test_ctrl_c_ends_it_with_nothing_to_complain_of() -> None:
    with served(NOWHERE) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DASHBOARD_PORT", "x"),
        ("DASHBOARD_ORIGINS", "*"),
        ("DASHBOARD_SESSIONS", "0"),
        ("KAFKA_GROUP_ID", "x"),
        ("DASHBOARD_METRICS_PORT", "x"),
        ("DASHBOARD_ADDRESS", "203.0.113.1"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_line_that_names_it(name: str, value: str) -> None:
    ended = start({"DASHBOARD_PORT": str(free_port()), name: value})
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert name in line


def test_a_port_that_is_in_use_is_one_line_that_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = start({"DASHBOARD_PORT": str(port)})
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert line.startswith(f"serve: DASHBOARD_PORT: got {port}, want a free port at 127.0.0.1")


def start(environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """A start that fails."""
    return subprocess.run(
        SERVE, cwd=ROOT, env={**os.environ, **NOWHERE, **environ}, capture_output=True, text=True, timeout=60, check=False
    )
