"""A program's Prometheus page. In: the environment and the program's prefix. Out: a server thread, where the settings ask for one."""

from collections.abc import Mapping

import prometheus_client

from flows.errors import ConfigError

HERE = "127.0.0.1"


def port_of(environ: Mapping[str, str], name: str) -> int | None:
    """The port that the variable says; None: no page. Raises ConfigError."""
    port = environ.get(name) or ""
    if port and not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise ConfigError(f"{name}: got {port}, want a port from 0 to 65535")
    return int(port) if port else None


def expose(name: str, port: int, host: str) -> None:
    """Serve this process's metrics at http://host:port/metrics. Raises ConfigError, which blames the variable `name`."""
    try:
        prometheus_client.start_http_server(port, host)
    except (OverflowError, OSError) as error:
        raise ConfigError(f"{name}: got {port}, want a free port ({error})") from None
