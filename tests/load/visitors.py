"""Many browsers in one process: `python -m tests.load.visitors ADDRESS COUNT CHURN_S`. In: orders on stdin. Out: JSON lines.

Each loads a page, takes the token out of it, opens the websocket, pulls the document, and then only counts the bytes and bursts that come:
so light that the figures are those of the server. An order is one line, its answer one line: `open` brings the number of pages up to COUNT,
`churn` lets one leave and another come every CHURN_S, `hold` ends that, `figures` tells what came since the last time, and the end of stdin
ends it all.
"""

import asyncio
import base64
import itertools
import json
import os
import re
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.load.measure import percentile
from tests.load.rows import SOURCES, WINDOWS

TOKEN = re.compile(rb'"token":"([^"]+)"')
BEAT = re.compile(rb'"id":"(\w+)","attributes":{[^{}]*"name":"painted"')  # through it a browser says that it has painted
PULL = ('{"msgid":"1","msgtype":"PULL-DOC-REQ"}', "{}", "{}")
BURST_S = 0.05  # what comes closer together than this is one frame
OPENING = 4  # pages that are opened at once
PATIENCE_S = 60.0


class RefusedError(Exception):
    """There is no room."""


@dataclass
class Figures:
    """What came to all visitors: times between bursts (s), bytes, times from the request to the whole document (s), refusals, failures."""

    gaps: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    received: int = 0
    refused: int = 0
    failed: list[str] = field(default_factory=list)

    def forget(self) -> None:
        """Begin anew."""
        self.gaps.clear()
        self.loads.clear()
        self.failed.clear()
        self.received = self.refused = 0

    def line(self) -> dict[str, object]:
        """As a line, in milliseconds."""
        spread = {
            f"{name}_p{share}_ms": round(1000 * percentile(values, share / 100), 1)
            for name, values in (("gap", self.gaps), ("load", self.loads))
            for share in (50, 95, 99)
        }
        return {**spread, "bursts": len(self.gaps), "bytes": self.received, "refused": self.refused, "failed": self.failed[:5]}


class Visitor:
    """One browser with one page."""

    def __init__(self, address: str, number: int, figures: Figures) -> None:
        parts = urlsplit(address)
        self.host, self.port, self.path = parts.hostname or "", parts.port or 80, parts.path
        by = "&by=country" if number % 2 else ""
        self.query = f"topic={SOURCES[number % 3]}&window={list(WINDOWS)[number // 3 % 3]}{by}"
        self.figures = figures
        self.task: asyncio.Task[None] | None = None

    async def come(self) -> None:
        """Load the page and its document; from then on, count. Raises RefusedError."""
        started = time.monotonic()
        token = await self._token()
        reader, writer = await asyncio.open_connection(self.host, self.port)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET {self.path}/ws HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nOrigin: http://{self.host}:{self.port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: bokeh, {token}\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        if b" 101 " not in answer.split(b"\r\n")[0]:
            writer.close()
            raise RefusedError
        seen, asked = b"", False
        while b"PULL-DOC-REPLY" not in seen:
            chunk = await asyncio.wait_for(reader.read(1 << 16), PATIENCE_S)
            if not chunk:
                raise ConnectionError("the websocket ended before the document came")
            seen = seen[-100:] + chunk
            if not asked and b"ACK" in seen:
                asked = True
                writer.write(b"".join(masked(text) for text in PULL))
        self.figures.loads.append(time.monotonic() - started)
        self.task = asyncio.create_task(self._count(reader, writer, seen))

    async def leave(self) -> None:
        """Close the page."""
        if self.task:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    async def _token(self) -> str:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(f"GET {self.path}?{self.query} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n\r\n".encode())
        page = await asyncio.wait_for(reader.read(-1), PATIENCE_S)
        writer.close()
        if page.startswith(b"HTTP/1.1 503"):
            raise RefusedError
        found = TOKEN.search(page)
        if not found:
            raise ConnectionError(f"no token in {page[:200]!r}")
        return found[1].decode()

    async def _count(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytes) -> None:
        last, beat, painted = time.monotonic(), None, 0
        try:
            while chunk := await reader.read(1 << 18):
                if beat is None:
                    seen += chunk
                    beat = BEAT.search(seen)
                elif b"ColumnDataChanged" in chunk:
                    painted += 1
                    writer.write(b"".join(masked(text) for text in _painted(beat[1].decode(), painted)))
                now = time.monotonic()
                self.figures.received += len(chunk)
                if now - last > BURST_S:
                    self.figures.gaps.append(now - last)
                last = now
            self.figures.failed.append("the server closed a websocket")
        finally:
            writer.close()


def _painted(beat: str, number: int) -> tuple[str, str, str]:
    event = {"kind": "ModelChanged", "model": {"id": beat}, "attr": "value", "new": str(number)}
    return f'{{"msgid":"painted {number}","msgtype":"PATCH-DOC"}}', "{}", json.dumps({"events": [event]})


def masked(text: str) -> bytes:
    """A text of up to 64 KiB as a client's websocket frame (RFC 6455, 5.2), masked with zeros."""
    short = len(text) < 126
    head = struct.pack(">BB4x", 0x81, 0x80 | len(text)) if short else struct.pack(">BBH4x", 0x81, 0xFE, len(text))
    return head + text.encode()


class Crowd:
    """All visitors of a run."""

    def __init__(self, address: str, count: int, churn_s: float) -> None:
        self.address, self.count, self.churn_s = address, count, churn_s
        self.figures = Figures()
        self.visitors: list[Visitor] = []
        self._numbers = itertools.count()
        self._holding = asyncio.Event()
        self._churn: asyncio.Task[None] | None = None

    async def obey(self, order: str) -> dict[str, object]:
        """Do what the order says; what there is to tell."""
        if order == "open":
            gate = asyncio.Semaphore(OPENING)
            await asyncio.gather(*(self._one_more(gate) for _ in range(self.count - len(self.visitors))))
        elif order == "churn":
            self._holding.clear()
            self._churn = asyncio.create_task(self._leave_and_come())
        elif order == "hold" and self._churn:
            self._holding.set()
            await self._churn
        told = {"pages": len(self.visitors), **self.figures.line()}
        if order == "figures":
            self.figures.forget()
        return told

    async def _one_more(self, gate: asyncio.Semaphore | None = None) -> None:
        async with gate or asyncio.Semaphore():
            visitor = Visitor(self.address, next(self._numbers), self.figures)
            try:
                await visitor.come()
                self.visitors.append(visitor)
            except RefusedError:
                self.figures.refused += 1
            except (OSError, EOFError, TimeoutError) as error:
                self.figures.failed.append(repr(error)[:200])

    async def _leave_and_come(self) -> None:
        while not self._holding.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._holding.wait(), self.churn_s)
            if self.visitors:
                await self.visitors.pop(0).leave()
            await asyncio.sleep(0.05)  # until the server has heard of it
            await self._one_more()


async def orders() -> AsyncIterator[str]:
    """The lines of stdin."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


async def main(address: str, count: int, churn_s: float) -> None:
    """Obey until stdin ends."""
    crowd = Crowd(address, count, churn_s)
    async for order in orders():
        answer = await crowd.obey(order)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
