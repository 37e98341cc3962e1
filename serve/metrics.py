"""Every Prometheus metric of the dashboard. In: sessions and times. Out: the page at DASHBOARD_METRICS_PORT."""

from collections.abc import Mapping

from prometheus_client import Gauge, Histogram

from flows.exposition import expose

sessions = Gauge("dashboard_sessions", "Pages that are open")
frame = Histogram(
    "dashboard_frame_seconds",
    "Time to bring one page up to what is known; each page has four frames a second",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
)


def start(environ: Mapping[str, str]) -> None:
    """Serve the page, if the settings ask for one. Raises ConfigError."""
    expose(environ, "DASHBOARD_METRICS_PORT", "DASHBOARD_METRICS_HOST")
