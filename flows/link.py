"""What binds the supervisors of one flow on several machines. In: where process 0 is. Out: when to start, and why it is over.

    supervisor 1 ──hello──► supervisor 0 ◄──hello── supervisor 2      a connection for each life of the flow
                 ◄─start──               ──start──►                   once all are there
                 ◄─beat───►              ◄──beat──►                   who is silent is lost
                 ──ended──►              ──ended──►                   what one has come to decides for all

It is there for liveness alone. That two lives of a flow never both write is a matter of fencing and locks (docs/guarantees.md).
"""

import json
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from flows.errors import ConfigError
from flows.stop import ENDED, End

BEAT_S = 1.0
SILENT_S = 5.0  # a member that hears nothing for so long kills its process
LOST_S = 8.0  # process 0 gives a member up later than that: by then the member's process is dead
DECIDE_S = 1.0  # for ends that belong together: whose worker has lost another's may end before that one has said why
RETRY_S = 0.5
CONNECT_S = 2.0
TURN_S = 0.1
LONGEST = 65_536  # bytes of a line
CLOSED = "it closed the connection"
STRANGERS = 32  # connections that have not said yet who they are

Same = Mapping[str, str]  # name -> what all supervisors of a flow must have in common
Say = Callable[[str], None]
Wanted = Callable[[], bool]  # whether nobody has asked us to end


class Said(NamedTuple):
    """One line of a conversation."""

    word: str
    more: Mapping[str, Any]


class Link(Protocol):
    """What a supervisor knows of the others. `leaving`: which of them was asked to end; all take a last snapshot then."""

    leaving: str

    def gather(self, begin_s: float, wanted: Wanted) -> End | None:
        """Wait until all are there, and that moment has come: None. An End when one of them says that there is no use."""

    def news(self) -> End | None:
        """What has become of the others while the flow runs: None while all is well. Call it often: it says that we are there, too."""

    def leave(self) -> None:
        """We are asked to end: so are the others."""

    def verdict(self, end: End) -> End:
        """What our own end means when those of the others are known. Our process is dead by now."""

    def close(self) -> None:
        """No more of it."""


class Alone:
    """The link of a supervisor that has no other."""

    leaving = ""

    def gather(self, begin_s: float, wanted: Wanted) -> None:
        """See Link."""
        while time.monotonic() < begin_s and wanted():
            time.sleep(TURN_S)

    def news(self) -> None:
        """See Link."""

    def leave(self) -> None:
        """See Link."""

    def verdict(self, end: End) -> End:
        """See Link."""
        return end

    def close(self) -> None:
        """See Link."""


class Line:
    """A TCP connection of lines, each a word and more in JSON. It never blocks, and beats by itself. `lost` says why it is over."""

    def __init__(self, channel: socket.socket, peer: str, silent_s: float) -> None:
        channel.setblocking(False)
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.channel, self.peer, self.lost = channel, peer, ""
        self._silent_s = silent_s
        self._heard_s = self._said_s = time.monotonic()
        self._coming, self._going = b"", b""
        self._heard: deque[Said] = deque()

    def say(self, word: str, **more: object) -> None:
        """Send it as soon as the connection takes it."""
        self._going += json.dumps([word, more]).encode() + b"\n"
        self._said_s = time.monotonic()
        self._send()

    def hear(self) -> Iterator[Said]:
        """What has come since, one by one; what is not taken waits.

        Sets `lost` at the end of the connection, after silence, or when it was no supervisor's talk.
        """
        if time.monotonic() - self._said_s >= BEAT_S:
            self.say("beat")
        self._send()
        while not self.lost:
            try:
                chunk = self.channel.recv(65_536)
            except BlockingIOError:
                break
            except OSError as error:
                self._lose(error.strerror or "the connection broke")
                break
            if not chunk:
                self._lose(CLOSED)
            self._heard_s, self._coming = time.monotonic(), self._coming + chunk
            if len(self._coming) > LONGEST:
                self._lose("it says more than a supervisor does")
        *lines, self._coming = self._coming.split(b"\n")
        if (silence_s := time.monotonic() - self._heard_s) > self._silent_s:
            self._lose(f"silent for {silence_s:.0f} s")
        self._read(lines)
        while self._heard:
            yield self._heard.popleft()

    def close(self) -> None:
        """End the connection, behind what was said."""
        self._lose("we have closed the connection")
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)
        self.channel.close()

    def _read(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                word, more = json.loads(line)
                self._heard.append(Said(str(word), dict(more)))
            except (ValueError, TypeError, RecursionError):
                self._lose("it does not talk as a supervisor does")
                return

    def _send(self) -> None:
        try:
            while self._going and not self.lost:
                self._going = self._going[self.channel.send(self._going) :]
        except BlockingIOError:
            pass
        except OSError:
            self._going = b""  # what has come before it broke is still to be read: `hear` meets the end

    def _lose(self, why: str) -> None:
        self.lost = self.lost or why


class First:
    """The link of process 0: it knows who is there, says when to start, and decides."""

    def __init__(self, where: tuple[str, int], count: int, same: Callable[[], Same], say: Say) -> None:
        self.leaving = ""
        self._count, self._same, self._say = count, same, say
        self._lines: dict[int, Line] = {}
        self._strangers: list[Line] = []
        self._last_words: list[tuple[int, Said]] = []  # on lines that others have taken the place of
        self._done: set[int] = set()  # whose process has ended well
        self._lost: dict[int, str] = {}
        self._theirs: End | None = None  # what is not our own end
        self._anew = ""
        try:
            self._server = socket.create_server(where, backlog=STRANGERS)
        except OSError as error:
            want = f"a name or address of this machine, with port {where[1]} free for its supervisor"
            raise ConfigError(f"KPI_ADDRESSES: got {where[0]} for process 0, want {want} ({error.strerror})") from None
        self._server.setblocking(False)

    def gather(self, begin_s: float, wanted: Wanted) -> End | None:
        """See Link."""
        self.leaving, self._anew, self._theirs, told = "", "", None, ""
        self._done.clear()
        self._last_words.clear()
        while wanted():
            for number, said in self._hear():
                if (end := _end_of(said)) and _is_final(end):
                    return self._of(number, end)
            missing = sorted(set(range(1, self._count)) - self._lines.keys())
            if not missing and time.monotonic() >= begin_s:
                self._anew = ""  # who began anew until now has lost nothing
                self._tell("start")
                return None
            if missing and (line := f"waiting for process {_joined(missing)} of {self._count}") != told:
                self._say(told := line)
            self._wait()
        return None

    def news(self) -> End | None:
        """See Link."""
        for number, said in self._hear():
            if said.word == "stop":
                self.leaving = self.leaving or f"process {number}"
                self._tell("stop", who=self.leaving)
            elif end := _end_of(said):
                if end != ENDED:
                    return self._of(number, end)
                self._done.add(number)
        gone = set(range(1, self._count)) - self._lines.keys() - self._done
        if not (gone or self._anew):
            return None
        self._theirs = End(1, self._anew or self._why(min(gone)), again=True)
        return self._theirs

    def leave(self) -> None:
        """See Link."""
        if not self.leaving:
            self._tell("stop", who="process 0")

    def verdict(self, end: End) -> End:
        """See Link."""
        decided_s = time.monotonic() + DECIDE_S
        while end.again and set(self._lines) - self._done and time.monotonic() < decided_s:
            for number, said in self._hear():
                if (other := _end_of(said)) is None:
                    continue
                self._done.add(number)
                if _is_final(other):
                    end = self._of(number, other)
            self._wait()
        told = end if end in {ENDED, self._theirs} else end._replace(why=f"process 0: {end.why}")
        self._tell("ended", **told._asdict())
        self._hang_up()
        return end

    def close(self) -> None:
        """See Link."""
        self._hang_up()
        self._server.close()

    def _hear(self) -> list[tuple[int, Said]]:
        """What members have said; who is lost is no member any more. Lets in who says a right hello."""
        self._accept()
        heard = self._last_words + [(number, said) for number, line in self._lines.items() for said in line.hear()]
        self._last_words = []
        self._lost = {number: line.lost for number, line in self._lines.items() if line.lost}
        for number in self._lost:
            self._lines.pop(number).close()
        return heard

    def _accept(self) -> None:
        with suppress(OSError):  # there is none; or the system cannot take it now, or what was there is gone
            while len(self._strangers) < STRANGERS:
                channel, (peer, *_) = self._server.accept()
                self._strangers.append(Line(channel, peer, LOST_S))
        strangers, self._strangers = self._strangers, []
        for line in strangers:
            hello = next(line.hear(), None)
            if hello and (why := self._admit(line, hello)):
                line.say("refused", why=why)
                line.close()
                self._say(f"refused one who connects from {line.peer}: {why}")
            elif line.lost:
                line.close()
                if line.lost != CLOSED:
                    self._say(f"refused one who connects from {line.peer}: {line.lost}")
            elif not hello:
                self._strangers.append(line)

    def _admit(self, line: Line, hello: Said) -> str:
        """Empty: it is a member from now on; or why not."""
        number, theirs, ours = hello.more.get("process"), hello.more.get("same"), self._same()
        if hello.word != "hello" or not isinstance(theirs, dict) or not isinstance(number, int):
            return "it says no hello"
        if not 0 < number < self._count:
            return f"KPI_PROCESS_ID: got {number}, want a number from 1 to {self._count - 1}"
        for name, want in ours.items():
            if (got := theirs.get(name)) != want:
                return f"{name}: got {str(got)[:1_000]}, want {want}, as process 0 has"
        if before := self._lines.pop(number, None):
            last = list(before.hear())  # it may have ended well, and wait for the next start already
            self._last_words += [(number, said) for said in last]
            if number not in self._done and ENDED not in map(_end_of, last):
                self._anew = f"process {number} has begun anew"
            before.close()
        self._lines[number] = line
        line.say("welcome")
        return ""

    def _of(self, number: int, end: End) -> End:
        """The end of a member, as we tell of it."""
        self._theirs = end._replace(why=f"process {number}: {end.why}")
        return self._theirs

    def _why(self, number: int) -> str:
        return f"process {number} is lost ({self._lost.get(number, 'it has gone')})"

    def _tell(self, word: str, **more: object) -> None:
        for line in self._lines.values():
            line.say(word, **more)

    def _wait(self) -> None:
        select.select([self._server, *(line.channel for line in (*self._lines.values(), *self._strangers))], [], [], TURN_S)

    def _hang_up(self) -> None:
        for line in (*self._lines.values(), *self._strangers):
            line.close()
        self._lines.clear()
        self._strangers.clear()


class Member:
    """The link of every other process: to that of process 0."""

    def __init__(self, number: int, where: tuple[str, int], same: Callable[[], Same], say: Say) -> None:
        self.leaving = ""
        self._number, self._where, self._same, self._say = number, where, same, say
        self._line: Line | None = None
        self._done = False  # process 0 has ended well

    def gather(self, begin_s: float, wanted: Wanted) -> End | None:  # noqa: ARG002 - process 0 knows when
        """See Link. Raises ConfigError when process 0 refuses us."""
        self.leaving, self._done, told = "", False, ""
        while wanted():
            why = self._connect()
            while wanted() and self._line:
                for said in self._line.hear():
                    if said.word == "start":
                        return None
                    if said.word == "refused":
                        raise ConfigError(f"process 0 refuses us: {said.more.get('why')}")
                    if (end := _end_of(said)) and _is_final(end):
                        return end
                why = self._line.lost
                if why:
                    self._hang_up()
                else:
                    select.select([self._line.channel], [], [], TURN_S)
            if wanted() and (line := f"waiting for process 0 at {self._where[0]}:{self._where[1]} ({why})") != told:
                self._say(told := line)
            time.sleep(RETRY_S)
        self._hang_up()
        return None

    def news(self) -> End | None:
        """See Link."""
        if self._line is None:
            return None
        for said in self._line.hear():
            if said.word == "stop":
                self.leaving = str(said.more.get("who"))
            elif end := _end_of(said):
                if end != ENDED:
                    self._hang_up()  # it is decided
                    return end
                self._done = True
        if not self._line.lost:
            return None
        why = self._line.lost
        self._hang_up()
        return None if self._done else End(1, f"process 0 is lost ({why})", again=True)

    def leave(self) -> None:
        """See Link."""
        if self._line and not self.leaving:
            self._line.say("stop")

    def verdict(self, end: End) -> End:
        """See Link. Process 0 decides, if it is still there."""
        if self._line is None:
            return end
        self._line.say("ended", **end._asdict())
        while end != ENDED and not self._line.lost:
            for said in self._line.hear():
                if other := _end_of(said):
                    self._hang_up()
                    return other if end.again and _is_final(other) else end
            select.select([self._line.channel], [], [], TURN_S)
        self._hang_up()
        return end

    def close(self) -> None:
        """See Link."""
        self._hang_up()

    def _connect(self) -> str:
        """Why there is no connection; empty when there is one."""
        try:
            self._line = Line(socket.create_connection(self._where, CONNECT_S), self._where[0], SILENT_S)
        except OSError as error:
            return error.strerror or str(error)
        self._line.say("hello", process=self._number, same=dict(self._same()))
        return ""

    def _hang_up(self) -> None:
        if self._line:
            self._line.close()
            self._line = None


def _end_of(said: Said) -> End | None:
    """The end that it tells of, if it does."""
    if said.word != "ended":
        return None
    return End(int(said.more.get("code", 1)), str(said.more.get("why", "")), bool(said.more.get("again")))


def _is_final(end: End) -> bool:
    """Whether there is no use in going on: it has not ended well, and is not to be started again."""
    return not end.again and end != ENDED


def _joined(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))
