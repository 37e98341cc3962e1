"""What the dashboard's server is told. In: the environment. Out: settings, or the one line that says what is wrong. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flows.errors import ConfigError

HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
SESSIONS = 100  # pages at once that one core draws four times a second


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the server listens, and which pages may open a websocket to it. `port` 0: any free one, and `origins` are then of that port."""

    port: int
    address: str
    origins: tuple[str, ...]

    def allowed(self, port: int) -> list[str]:
        """The origins, each with its port, for a server that listens at `port`."""
        own = self.origins or (f"localhost:{port}", f"127.0.0.1:{port}")
        return [origin if ":" in origin else f"{origin}:80" for origin in own]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of the server. Raises ConfigError."""
    port = _number(environ.get("DASHBOARD_PORT") or "5006", "DASHBOARD_PORT", "a port from 0 to 65535", 0, 2**16 - 1)
    return Settings(port, environ.get("DASHBOARD_ADDRESS") or "127.0.0.1", _origins(environ.get("DASHBOARD_ORIGINS") or ""))


def read_sessions(environ: Mapping[str, str]) -> int:
    """How many pages may be open at once. Raises ConfigError."""
    return _number(environ.get("DASHBOARD_SESSIONS") or str(SESSIONS), "DASHBOARD_SESSIONS", "a number of pages from 1 on", 1)


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(origin.strip().lower() for origin in text.split(",") if origin.strip())
    for origin in origins:
        if "*" in origin:
            raise ConfigError(f"DASHBOARD_ORIGINS: got {origin}, want each host by name: with * any page in a browser could read the KPIs")
        if not HOST.fullmatch(origin):
            raise ConfigError(f"DASHBOARD_ORIGINS: got {origin}, want host or host:port, several joined by commas")
    return origins


def _number(text: str, name: str, wanted: str, least: int, most: int = 2**31) -> int:
    if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
        raise ConfigError(f"{name}: got {text}, want {wanted}")
    return int(text)
