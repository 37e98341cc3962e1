"""Every Prometheus metric of the dashboard. In: sessions, times, the feed. Out: the page at DASHBOARD_METRICS_PORT."""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from flows.exposition import expose
from serve.feed import Feed

sessions = Gauge("dashboard_sessions", "Sessions held: open pages, and those left within the last seconds")
refused = Counter("dashboard_sessions_refused", "Times that a page or a websocket was refused as all places were taken")
feed_rows = Gauge("dashboard_feed_rows", "Messages of KPI topics, late records and dead letters read since the start")
feed_trouble = Gauge("dashboard_feed_trouble", "1 while the feed waits for Kafka or the registry, else 0")
frame = Histogram(
    "dashboard_frame_seconds",
    "Time to bring one page up to what is known; each page has four frames a second",
    buckets=(*(at / 1000 for at in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250, 300, 500)), 1),
)


def start(environ: Mapping[str, str]) -> None:
    """Serve the page, if the settings ask for one. Raises ConfigError."""
    expose(environ, "DASHBOARD_METRICS_PORT", "DASHBOARD_METRICS_HOST")


def follow(feed: Feed) -> None:
    """Show how this feed is, whenever somebody asks."""
    feed_rows.set_function(lambda: feed.state.rows)
    feed_trouble.set_function(lambda: bool(feed.state.trouble))
