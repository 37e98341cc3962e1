"""The dashboard's own server. In: settings, the directory app. Out: Bokeh's server with /healthz, /metrics, /export.csv beside the pages.

It refuses a page before Bokeh makes a session for it, and says with each response what a browser must not do with it.
"""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import prometheus_client
from bokeh.command.util import build_single_handler_application
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import bind_sockets
from bokeh.server.views.session_handler import SessionHandler
from bokeh.server.views.ws import WSHandler
from bokeh.settings import settings as bokeh_settings
from bokeh.util.token import get_session_id
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import OutputTransform, RequestHandler

from serve import door, feed, metrics
from serve.export import chosen, csv_parts, file_name, known
from serve.health import health
from serve.selection import ALL, read_wish, resolve
from serve.settings import Settings

APP = Path(__file__).with_name("dashboard")
CHECK_MS = 2_000  # sessions that nobody uses are looked for this often
UNUSED_MS = 10_000  # a session waits so long for its browser: a short break of the network costs no new page
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # what is chosen stands in the address
    "Content-Security-Policy": "frame-ancestors 'self'",
}


class SafeHeaders(OutputTransform):
    """Adds what each response says to a browser."""

    def __init__(self, request: HTTPServerRequest) -> None:
        """Tornado makes one for each response."""

    def transform_first_chunk(self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool) -> Any:  # noqa: ANN401, D102, FBT001, ARG002 - Tornado's
        for name, value in SAFE.items():
            headers[name] = value
        return status_code, headers, chunk


class Full(RequestHandler):
    """The answer while there is no room."""

    def get(self) -> None:
        """The sign at the door, also for a websocket: its browser tries again."""
        metrics.refused.inc()
        self.set_status(503)
        self.set_header("Retry-After", str(door.AGAIN_S))
        self.set_header("Cache-Control", "no-store")
        self.finish(door.running().sign())


class Health(RequestHandler):
    """Whether the feed reads: 200, or 503 and what it waits for."""

    def get(self) -> None:
        """JSON: `reads`, `trouble`, and what was read."""
        alive = any(thread.name == "feed" for thread in threading.enumerate())
        status, said = health(feed.running().state, door.running().open(), alive=alive)
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(said) + "\n")


class Metrics(RequestHandler):
    """The Prometheus page."""

    def get(self) -> None:
        """Every metric of the process."""
        self.set_header("Content-Type", prometheus_client.CONTENT_TYPE_LATEST)
        self.finish(prometheus_client.generate_latest())


class Export(RequestHandler):
    """What a page with the same query shows, as CSV."""

    async def get(self) -> None:
        """CSV, part by part: other pages have their turn in between."""
        board, wish = feed.running().board, read_wish(self.request.arguments)
        view = resolve(wish, board.catalog)
        if view is None:
            self._none(f"no KPI row of {wish.topic} has come" if wish.topic else "no KPI row has come")
            return
        if wish.window not in {"", ALL, *view.windows}:
            self._none(f"{view.shape.topic} has no window {wish.window}, only {', '.join(view.windows)}")
            return
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{file_name(view)}"')
        self.set_header("Cache-Control", "no-store")
        for part in csv_parts(chosen(known(view, board), view, wish)):
            self.write(part)
            await self.flush()
            await asyncio.sleep(0)

    def _none(self, why: str) -> None:
        self.set_status(404)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{' '.join(why.split())}\n")


class Site(BokehTornado):
    """Bokeh's application with a door before it."""

    def get_handler_delegate(self, request: HTTPServerRequest, target_class: type[RequestHandler], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Tornado's
        """What answers a request: whoever would make a session without room meets `Full` instead."""
        if issubclass(target_class, SessionHandler | WSHandler) and not _known(request) and not door.running().has_room():
            return super().get_handler_delegate(request, Full)
        return super().get_handler_delegate(request, target_class, *args, **kwargs)


def _known(request: HTTPServerRequest) -> bool:
    """Whether a request belongs to a session that has its page: a websocket says its token as a second protocol."""
    token = request.headers.get("Sec-WebSocket-Protocol", "").rpartition(",")[2].strip()
    try:
        return bool(token) and door.running().knows(get_session_id(token))
    except Exception:  # noqa: BLE001 - whatever a stranger sends
        return False


def site(settings: Settings) -> BaseServer:
    """A server that listens. Raises OSError where it cannot."""
    sockets, port = bind_sockets(settings.address, settings.port)
    origins = settings.allowed(port)
    bokeh_settings.allowed_ws_origin = origins  # else BOKEH_ALLOW_WS_ORIGIN=* would overrule them
    application = Site(
        {"/dashboard": build_single_handler_application(str(APP))},
        extra_websocket_origins=origins,
        extra_patterns=[("/healthz", Health), ("/metrics", Metrics), ("/export.csv", Export)],
        check_unused_sessions_milliseconds=CHECK_MS,
        unused_session_lifetime_milliseconds=UNUSED_MS,
        transforms=[SafeHeaders],
    )
    http = HTTPServer(application)
    http.add_sockets(sockets)
    return BaseServer(IOLoop.current(), application, http)
