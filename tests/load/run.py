"""One run: a real broker, rows each second, a real server, visitors in a process of their own. In: how many, how long. Out: figures."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infra import embedded
from tests.load.flow import Flow
from tests.load.measure import between, buckets, percentile, quantile, slope, value
from tests.load.parts import LOGS, Plan, Server, Visitors, visitors
from tests.load.rows import Rows
from tests.load.visitors import OPENING

SAMPLE_S = 1.0
SETTLE_S = 15.0  # until Bokeh has forgotten sessions that were left: UNUSED_MS and CHECK_MS of serve/site.py, and a moment
FRAMES = "dashboard_frame_seconds"


@dataclass
class Report:
    """What was measured. Frames: a page brought up to date, at the server. Gaps: between what arrives at a visitor."""

    mib_a_session: float = 0.0
    mib_an_hour: float = 0.0
    frame_p50_ms: float = 0.0
    frame_p95_ms: float = 0.0
    frame_p99_ms: float = 0.0
    frames_a_second: float = 0.0  # of one page; 4 is all
    cores: float = 0.0
    cpu_ms_a_frame: float = 0.0  # the whole server's, sending included
    cores_at_4_hz: float = 0.0  # what all pages would take with every frame; more than 1 and the frames come later
    kib_a_second: float = 0.0  # to one page
    gap_p50_ms: float = 0.0
    gap_p95_ms: float = 0.0
    load_p50_ms: float = 0.0
    load_p95_ms: float = 0.0
    beyond: int = 0  # HTTP status of a page beyond the cap
    beyond_text: str = ""
    lag_s: float = 0.0  # of the flow, the longest
    failed: list[str] = field(default_factory=list)

    def misses(self) -> list[str]:
        """What was promised and does not hold."""
        wanted = {
            "MiB a session": (self.mib_a_session, 5.0),
            "p95 of a frame, ms": (self.frame_p95_ms, 250.0),
            "cores for 4 frames a second of all pages": (self.cores_at_4_hz, 1.0),
            "lag of the flow, s": (self.lag_s, 2.0),
        }
        missed = [f"{name}: got {got:.2f}, want at most {most:g}" for name, (got, most) in wanted.items() if got > most]
        if self.beyond != 503 or "All places are taken" not in self.beyond_text:
            missed.append(f"a page beyond the cap: got HTTP {self.beyond}, want 503 and the sign")
        return missed + [f"a visitor: {words}" for words in self.failed]


def run(plan: Plan, say: Callable[[str], None], home: Path | None = None) -> Report:
    """The whole run."""
    with embedded.cluster(home=home) as cluster, Rows(cluster.bootstrap, cluster.registry_url) as rows:
        say(f"{len(rows.topics)} KPI topics are written to each second")
        server = Server(cluster, plan)
        flow = Flow(cluster, plan.flow_rate, LOGS) if plan.flow_rate else None
        play = Play(plan, server, flow, say)
        try:
            play.warm_up()
            with visitors(f"{server.root}/dashboard", plan) as crowd:
                play.open(crowd)
                play.hold(crowd)
                if plan.churning_s:
                    play.churn(crowd)
        finally:
            if flow:
                lags_s = flow.stop()
                half, most, play.report.lag_s = (percentile(lags_s, share) for share in (0.5, 0.95, 1))
                say(f"lag of the flow, looked at {len(lags_s)} times: p50 {half:.2f}, p95 {most:.2f}, at most {play.report.lag_s:.2f} s")
            server.child.stop(20)
    return play.report


class Play:
    """The acts of a run, and the report that they fill."""

    def __init__(self, plan: Plan, server: Server, flow: Flow | None, say: Callable[[str], None]) -> None:
        self.report = Report()
        self._plan, self._server, self._flow, self._say = plan, server, flow, say
        self._empty = 0.0

    def warm_up(self) -> None:
        """One page, made and forgotten: imports and caches are not the memory of a session."""
        with visitors(f"{self._server.root}/dashboard", Plan(1, 0, 0, 1)) as one:
            one("open")
            time.sleep(3)
        time.sleep(SETTLE_S)
        self._empty = self._server.mib()
        self._say(f"the server reads them; {self._empty:.0f} MiB without a page")

    def open(self, crowd: Visitors) -> None:
        """All pages, one more, and the memory that they take."""
        report, started, cpu_s = self.report, time.monotonic(), self._server.cpu_s()
        told = self._told(crowd, "open")
        took, cpu_s = time.monotonic() - started, self._server.cpu_s() - cpu_s
        report.load_p50_ms, report.load_p95_ms = number(told, "load_p50_ms"), number(told, "load_p95_ms")
        self._say(
            f"{told['pages']} pages open after {took:.1f} s, {OPENING} at a time; load p50 {report.load_p50_ms:.0f}, "
            f"p95 {report.load_p95_ms:.0f} ms; {1000 * cpu_s / max(number(told, 'pages'), 1):.0f} ms of CPU a page"
        )
        report.beyond, report.beyond_text = self._server.get("/dashboard")
        time.sleep(3)
        report.mib_a_session = (self._server.mib() - self._empty) / max(number(told, "pages"), 1)
        self._say(f"one more: HTTP {report.beyond}; {self._server.mib():.0f} MiB, {report.mib_a_session:.2f} MiB a session")
        crowd("figures")

    def hold(self, crowd: Visitors) -> None:
        """Nobody comes or goes: the frames."""
        report, server = self.report, self._server
        before, cpu_s, started = server.metrics(), server.cpu_s(), time.monotonic()
        while time.monotonic() - started < self._plan.hold_s:
            time.sleep(SAMPLE_S)
            if self._flow:
                self._flow.look()
        took, after = time.monotonic() - started, server.metrics()
        sessions = value(after, "dashboard_sessions") or 1
        cpu_s = server.cpu_s() - cpu_s
        seen = between(buckets(before, FRAMES), buckets(after, FRAMES))
        report.frame_p50_ms, report.frame_p95_ms, report.frame_p99_ms = (1000 * quantile(seen, share) for share in (0.5, 0.95, 0.99))
        frames = value(after, f"{FRAMES}_count") - value(before, f"{FRAMES}_count")
        report.cores, report.frames_a_second, report.cpu_ms_a_frame = cpu_s / took, frames / took / sessions, 1000 * cpu_s / max(frames, 1)
        report.cores_at_4_hz = 4 * sessions * report.cpu_ms_a_frame / 1000
        told = self._told(crowd, "figures")
        report.gap_p50_ms, report.gap_p95_ms = number(told, "gap_p50_ms"), number(told, "gap_p95_ms")
        report.kib_a_second = number(told, "bytes") / took / sessions / 1024
        self._say(
            f"held for {took:.0f} s: frame p50 {report.frame_p50_ms:.1f}, p95 {report.frame_p95_ms:.1f}, p99 {report.frame_p99_ms:.1f} ms, "
            f"{report.frames_a_second:.2f} a second and page; {report.cores:.2f} cores, {report.cpu_ms_a_frame:.1f} ms of CPU a frame; "
            f"{report.kib_a_second:.1f} KiB/s a page; gaps p50 {report.gap_p50_ms:.0f}, p95 {report.gap_p95_ms:.0f} ms"
        )

    def churn(self, crowd: Visitors) -> None:
        """Pages leave and come: the memory stays."""
        crowd("churn")
        samples, started, length_s = [], time.monotonic(), self._plan.churning_s
        while (at := time.monotonic() - started) < length_s:
            time.sleep(SAMPLE_S)
            if at > min(SETTLE_S, length_s / 3):  # until then, sessions that Bokeh still remembers are added
                samples.append((at / 3600, self._server.mib()))
        told = self._told(crowd, "hold")
        self.report.mib_an_hour = slope(samples)
        self._say(
            f"churned for {length_s:.0f} s, one every {self._plan.churn_s:g} s: {samples[0][1]:.0f} to {samples[-1][1]:.0f} MiB, "
            f"{self.report.mib_an_hour:+.0f} MiB/h; {told['refused']} refused, load p95 {told['load_p95_ms']} ms, {told['pages']} pages"
        )

    def _told(self, crowd: Visitors, order: str) -> dict[str, object]:
        told = crowd(order)
        failed = told["failed"]
        assert isinstance(failed, list)
        self.report.failed += failed
        return told


def number(told: dict[str, object], name: str) -> float:
    """A figure of the visitors."""
    found = told[name]
    assert isinstance(found, int | float)
    return float(found)
