"""How many pages may be open. In: the sessions of the server. Out: whether there is room for one more, and what a visitor sees if not.

A page counts as long as its browser is connected, and from the moment it was asked for until its browser has had time to connect. One that
was closed gives its place back at once, though Bokeh remembers its session for some seconds more. A browser that loads a page again closes
the old one only when the answer is there: with all places taken that is the sign, which then tries again after a second.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, Template

from serve.settings import read_sessions

COMING_S = 10.0  # a browser connects within this time after it was sent the page, or it was none
LEFT_S = 0.05  # between a session's making and its last connection: more, and it was connected
AGAIN_S = 15  # how often a visitor's browser tries again


class Session(Protocol):
    """What of Bokeh's sessions is asked here."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def connection_count(self) -> int:
        """Browsers that are connected."""

    @property
    def milliseconds_since_last_unsubscribe(self) -> float:
        """Since its last browser left; since it was made, if none has been there."""


class Door:
    """Counts the pages of one server. `sessions`: those that Bokeh holds now."""

    def __init__(self, most: int, sessions: Callable[[], Iterable[Session]], clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self._sessions, self._clock = sessions, clock
        self._made: dict[str, float] = {}

    def entered(self, session_id: str) -> None:
        """A page was made for this session."""
        self._made[session_id] = self._clock()

    def left(self, session_id: str) -> None:
        """Bokeh has forgotten the session."""
        self._made.pop(session_id, None)

    def open(self) -> int:
        """Pages that are open or about to be."""
        return sum(1 for session in self._sessions() if session.connection_count or self._comes(session))

    def has_room(self) -> bool:
        """Whether one more may come in."""
        return self.open() < self.most

    def knows(self, session_id: str) -> bool:
        """Whether this session has its page already."""
        return session_id in self._made

    def words(self) -> dict[str, int]:
        """What the sign says."""
        return {"open": self.open(), "most": self.most, "again_s": AGAIN_S}

    def sign(self) -> str:
        """The HTML that is shown while there is no room."""
        return template().render(self.words())

    def _comes(self, session: Session) -> bool:
        made_s = self._clock() - self._made.get(session.id, float("-inf"))
        was_connected = made_s - session.milliseconds_since_last_unsubscribe / 1000 > LEFT_S
        return made_s < COMING_S and not was_connected


@cache
def template() -> Template:
    """The sign, to be filled with its words."""
    text = Path(__file__).with_name("dashboard").joinpath("templates", "full.html").read_text("utf-8")
    return Environment(autoescape=True).from_string(text)


_running: Door | None = None  # the process's one door, as there is one feed


def start(environ: Mapping[str, str], sessions: Callable[[], Iterable[Session]]) -> Door:
    """Put up the process's door. Raises ConfigError."""
    global _running  # noqa: PLW0603 - one server a process
    _running = Door(read_sessions(environ), sessions)
    return _running


def running() -> Door:
    """The process's door."""
    if _running is None:
        raise RuntimeError("the server is not started")
    return _running
