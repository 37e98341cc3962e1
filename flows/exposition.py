"""A program's Prometheus page. In: the environment and the names of its settings. Out: a server thread, where the settings ask for one."""

from collections.abc import Mapping

import prometheus_client

from flows.errors import ConfigError


def port_of(environ: Mapping[str, str], name: str) -> int | None:
    """The port that the variable says; None: no page. Raises ConfigError."""
    port = environ.get(name) or ""
    if port and not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise ConfigError(f"{name}: got {port}, want a port from 0 to 65535")
    return int(port) if port else None


def expose(environ: Mapping[str, str], port_name: str, host_name: str, process: int = 0) -> None:
    """Serve this process's metrics at http://host:port/metrics, if a port is set; of several processes each takes the port and its number.

    Raises ConfigError.
    """
    port = port_of(environ, port_name)
    if port is None:
        return
    try:
        prometheus_client.start_http_server(port + process, environ.get(host_name, "127.0.0.1"))
    except (OverflowError, OSError) as error:
        raise ConfigError(f"{port_name}: got {port}, want a free port ({error})") from None
