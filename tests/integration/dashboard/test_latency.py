"""From the event to the pixel: a producer, the flow, its KPI topic, the dashboard and Chromium, all real, one clock."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path

from infra import embedded
from tests.integration.browser import chromium
from tests.integration.dashboard.pages import Tab, served, until
from tests.integration.running import Flow, Topic, click, records

LOG = logging.getLogger(__name__)

SIZE_MS = 10_000
EVERY_S = 0.2
EVENTS = 160
# At each change of what is shown: once it is painted, what each window's point says. Bokeh paints in the frame after the change.
WATCH = """() => { window.seen = []
    const sources = new Set(Bokeh.documents[0].get_model_by_name("chart n 10s").renderers.map((renderer) => renderer.data_source))
    const points = () => [...sources].flatMap((source) => {
        const counts = source.get_column("y0")
        return Array.from(source.get_column("start"), (start, at) => [start, counts[at]]) })
    const painted = (then) => requestAnimationFrame(() => requestAnimationFrame(then))
    Bokeh.documents[0].on_change(() => { const changed = points(); painted(() => seen.push([Date.now(), changed])) }) }"""


def test_an_event_is_a_pixel_within_3_5_s(tmp_path: Path) -> None:
    with embedded.cluster(home=tmp_path) as cluster:
        topic = Topic(cluster, "pixel.clicks", partitions=1)
        flow = Flow(cluster, tmp_path, "pixel.", '[topics."pixel.clicks".kpis]\nn = { count = "*" }\n', '["10s"]')
        with flow.running(), served(cluster.environ) as address, chromium() as browser, events(topic) as sent_ms:
            tab = Tab(browser, address).open("?topic=pixel.clicks")
            until(60, lambda: tab.column("open total"))
            tab.page.evaluate(WATCH)
            first = len(sent_ms)
            tab.page.wait_for_timeout(EVENTS * EVERY_S * 1000 + 4_000)
            took = delays_s(sent_ms, tab.page.evaluate("seen"))[first : first + EVENTS]
            tab.page.close()
            assert tab.errors == []
            kept = records(cluster, "kpi.pixel.clicks.10s")
            rows = [(row.stamp_ms, [(int(row.value["window_start"].timestamp()) * 1000, row.value["n"])]) for row in kept]
            produced = delays_s(sent_ms, rows)[first : first + EVENTS]
    half, most, worst = (sorted(took)[int(share * (len(took) - 1))] for share in (0.5, 0.99, 1))
    said = f"{len(took)} events: p50 {half:.2f} s, p99 {most:.2f} s, at most {worst:.2f} s, in Kafka within {max(produced):.2f} s"
    LOG.info("%s", said)
    assert half <= 2, said
    assert most <= 3.5, said  # 2.1 s on two cores with a load of 8, exactly-once; 1.3 s at-least-once


@contextmanager
def events(topic: Topic) -> Iterator[list[int]]:
    """An event each 200 ms, of now, until the block ends. The list: when each was sent, which is its event time as well."""
    sent_ms: list[int] = []
    over = threading.Event()

    def send() -> None:
        while not over.wait(EVERY_S):
            sent_ms.append(time.time_ns() // 1_000_000)
            topic.send([click(sent_ms[-1])])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent_ms
    finally:
        over.set()
        sender.join()


def delays_s(sent_ms: Sequence[int], seen: Sequence[tuple[int, Sequence[tuple[int, float | None]]]]) -> list[float]:
    """For each event the time until a point was painted that counts it: the n-th event of a window is in each count from n on."""
    counted: dict[int, int] = defaultdict(int)
    painted: dict[tuple[int, int], int] = {}
    for now_ms, points in seen:
        for start_ms, count in points:
            for number in range(counted[start_ms] + 1, int(count or 0) + 1):
                painted[start_ms, number] = now_ms
            counted[start_ms] = max(counted[start_ms], int(count or 0))
    numbers: dict[int, int] = defaultdict(int)
    delays = []
    for at_ms in sent_ms:
        start_ms = at_ms // SIZE_MS * SIZE_MS
        numbers[start_ms] += 1
        delays.append((painted.get((start_ms, numbers[start_ms]), inf) - at_ms) / 1000)
    return delays
