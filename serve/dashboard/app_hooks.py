"""The server starts: the feed starts. The server ends: the feed ends. Runs before main.py."""

import os
import sys
from pathlib import Path
from typing import Any

from bokeh.application.application import ServerContext, SessionContext
from tornado.httputil import HTTPServerRequest
from tornado.web import Finish

ROOT = str(Path(__file__).resolve().parents[2])


def on_server_loaded(context: ServerContext) -> None:
    """Start the process's feed; a wrong setting ends the server with one line."""
    if ROOT not in sys.path:
        sys.path.append(ROOT)  # so that serve/ is found from any folder, installed or not
    from flows.errors import ConfigError  # noqa: PLC0415 - after the path
    from serve import door, feed, metrics  # noqa: PLC0415 - as above

    try:
        door.start(os.environ, lambda: context.sessions)
        metrics.start(os.environ)
        feed.start(os.environ)
        metrics.follow(feed.running())
    except ConfigError as error:
        raise SystemExit(str(error)) from error


def process_request(_request: HTTPServerRequest) -> dict[str, Any]:
    """A page is asked for. While there is no room, the answer is the sign that says so, and no session is made."""
    from serve import door, metrics  # noqa: PLC0415 - after the path

    if not door.running().has_room():
        metrics.refused.inc()
        raise Finish(door.running().sign())
    return {}


def on_session_created(_context: SessionContext) -> None:
    """A page is opened."""
    from serve import metrics  # noqa: PLC0415 - after the path

    metrics.sessions.inc()


def on_session_destroyed(context: SessionContext) -> None:
    """It was closed, or its browser has not been heard of for a while."""
    from serve import door, metrics  # noqa: PLC0415 - after the path

    metrics.sessions.dec()
    door.running().left(context.id)


def on_server_unloaded(_context: ServerContext) -> None:
    """End it."""
    from serve import feed  # noqa: PLC0415 - as above

    feed.stop()
