"""The dashboard as people meet it: a server of its own, a tab in Chromium, and what went wrong in that tab."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from infra.embedded.child import free_port

ROOT = Path(__file__).parents[3]
BOKEH = Path(sys.executable).with_name("bokeh")


@contextmanager
def served(environ: Mapping[str, str], folder: Path = ROOT) -> Iterator[str]:
    """The address of `bokeh serve dashboard`, run in that folder, and ended as a person ends it."""
    port = free_port()
    with server(environ, port, folder) as running:
        yield address_at(port)
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0


def address_at(port: int) -> str:
    """Where a server at a port has the dashboard."""
    return f"http://127.0.0.1:{port}/dashboard"


@contextmanager
def server(environ: Mapping[str, str], port: int, folder: Path = ROOT, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """`bokeh serve dashboard` at a port, from the moment that it answers; killed with the block if it still runs then."""
    command: list[str | Path] = [BOKEH, "serve", "dashboard", "--port", str(port), "--address", "127.0.0.1", *more]
    with subprocess.Popen(command, cwd=folder, env={**os.environ, **environ}) as running:
        try:
            until(60, lambda: running.poll() is not None or _answers(port))
            assert running.poll() is None, "the server ended"
            yield running
        finally:
            running.kill()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/static/js/bokeh.min.js", timeout=5):  # no session is made for it
            return True
    except OSError:
        return False


def until(seconds: float, question: Callable[[], Any]) -> Any:
    """The first true answer; a failure when there is none in time."""
    started = time.monotonic()
    while not (answer := question()):
        assert time.monotonic() - started < seconds, "it did not come"
        time.sleep(0.05)
    return answer


class Tab:
    """A tab with the dashboard, and what went wrong in it."""

    def __init__(self, browser: Browser, address: str, **context: Any) -> None:
        self.page: Page = browser.new_page(**{"viewport": {"width": 1440, "height": 740}, **context})
        self.address = address
        self.errors: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        own = address.removesuffix("/dashboard")  # nothing is asked of any other host
        self.page.on("request", lambda request: None if request.url.startswith(own) else self.errors.append(request.url))
        self.page.set_default_timeout(30_000)

    def open(self, query: str = "") -> "Tab":
        self.page.goto(self.address + query)
        self.page.wait_for_function("window.Bokeh?.documents?.[0]?.roots().length > 0")
        return self

    def column(self, lines: str, name: str = "y0") -> list[Any]:
        """A column of what is drawn now of a group: `lines` is "finals total" or "open DE". None is NaN; empty where there is none."""
        return self.columns(lines, name)[0]

    def columns(self, lines: str, *names: str) -> list[list[Any]]:
        """Several columns of the same moment."""
        kind, group = lines.split(" ", 1)
        code = """([kind, group, names]) => {
            const plots = Bokeh.documents[0].get_model_by_name("charts").children.flatMap((card) => card.children ?? [])
            const sources = plots.flatMap((plot) => plot.renderers ?? []).map((it) => it.data_source)
            const source = sources.find((it) => it.name?.startsWith(`${kind} `))
            if (!source) return names.map(() => [])
            const groups = Array.from(source.get_column("group"))
            const read = (name) => Array.from(source.get_column(name), (value) => Number.isNaN(value) ? null : value)
            return names.map((name) => read(name).filter((_, at) => groups[at] == group)) }"""
        return list(self.page.evaluate(code, [kind, group, list(names)]))

    def charts(self) -> list[str]:
        """The charts shown: "revenue 10s"."""
        code = """() => Bokeh.documents[0].get_model_by_name("charts").children
            .flatMap((card) => card.children ?? []).map((part) => part.name).filter((name) => name?.startsWith("chart "))"""
        return [name.removeprefix("chart ") for name in self.page.evaluate(code)]

    def drawn(self, chart: str, what: str) -> Any:
        """What JavaScript says of a chart's model, as `plot`: "plot.x_range.end"."""
        code = """(name) => { const cards = Bokeh.documents[0].get_model_by_name("charts").children
            const plot = cards.flatMap((card) => card.children ?? []).find((it) => it.name == name)
            return WHAT }"""
        return self.page.evaluate(code.replace("WHAT", what), f"chart {chart}")

    def marked(self, chart: str, mark: str) -> list[int]:
        """Which rows of the finals a mark is drawn at: "gaps", "unknown", "idle"."""
        return list(self.drawn(chart, f"Array.from(plot.renderers.find((it) => it.name == '{mark}').view.indices.ones())"))

    def tile(self, topic: str, kpi: str) -> str:
        """The words of an overview tile."""
        card = self.page.locator(".topic", has=self.page.get_by_role("link", name=topic, exact=True))
        return " ".join(card.get_by_role("listitem").filter(has=self.page.get_by_text(kpi, exact=True)).inner_text().split())

    def value(self, label: str) -> str:
        """What a list is set to."""
        return self.page.get_by_label(label, exact=True).input_value()

    def choose(self, label: str, value: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(value)
