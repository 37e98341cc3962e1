"""`python -m serve`: the dashboard's server. In: the environment. Out: live charts at /dashboard, until Ctrl-C or SIGTERM.

Beside them: /healthz, /metrics, and /export.csv with the query of a page.

- `DASHBOARD_PORT` (5006), `DASHBOARD_ADDRESS` (127.0.0.1): where it listens
- `DASHBOARD_ORIGINS` (localhost and 127.0.0.1 with that port): hosts whose pages may connect, joined by commas
- `DASHBOARD_SESSIONS` (100): pages that may be open at once
- everything of Kafka and the registry that the flow reads
"""

import argparse
import errno
import logging
import os
import sys

from flows.errors import ConfigError
from serve.settings import Settings, read_settings
from serve.site import site


def main() -> int:
    """0 when it was asked to end, 1 (2 for unknown arguments) with a line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _, unknown = parser.parse_known_args()
    if unknown:
        _say(f"serve: unknown: {' '.join(unknown)}; --help says what there is")
        return 2
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)  # else each 503 of /healthz is an error in the log
    try:
        settings = read_settings(os.environ)
        server = site(settings)
    except ConfigError as error:
        _say(f"serve: {error}")
        return 1
    except OSError as error:
        _say(f"serve: {_unheard(settings, error)}")
        return 1
    server.start()  # app_hooks.py reads the other settings, and leaves with a line as well
    host = "localhost" if settings.address in {"127.0.0.1", "0.0.0.0", "::"} else settings.address  # noqa: S104 - where it listens is said, not chosen
    server.io_loop.add_callback(_say, f"The dashboard:  http://{host}:{server.port}/dashboard")
    server.run_until_shutdown()
    return 0


def _unheard(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"DASHBOARD_PORT: got {settings.port}, want a free port at {settings.address}"
    return f"DASHBOARD_ADDRESS: got {settings.address}, port {settings.port}: {error.strerror or error}"


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
