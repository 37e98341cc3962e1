"""One flow on several machines, a supervisor on each: rescaled under load, and robbed of its members. Every row is there once."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from infra.embedded import Cluster
from tests.chaos.watch import Watch
from tests.integration.running import T0_MS, Topic, click, finals, now_ms, until
from tests.integration.supervised import Members, Supervised, end, processes

pytestmark = pytest.mark.timeout(300)

SCALES = (1, 2, 4, 1)
SHOPS = [f"shop {number}" for number in range(6)]
PARTITIONS = 6  # some for each reader
PAUSE_S = 0.2
KPIS = """
[defaults]
topics   = {{ include = ["{topic}"] }}
windows  = ["1s"]
lateness = "1s"
idle     = "1h"
shards   = 4

[topics."{topic}"]
by = [[], ["shop"]]

[topics."{topic}".kpis]
amount = {{ sum = "amount" }}
"""


class Load(Supervised):
    """A flow by shop, and who goes on sending whatever happens to it: in each second of event time one click a shop and partition."""

    def __post_init__(self) -> None:
        self.topic = Topic(self.cluster, f"{self.name}.clicks", PARTITIONS)
        self.recovery = self.home / "recovery"

    def settings(self, **more: str) -> dict[str, str]:
        environ = super().settings(**more)
        (self.home / "kpi.toml").write_text(KPIS.format(topic=self.topic.name))
        return environ

    def send(self, seconds: int) -> None:
        for second in range(self.sent, self.sent + seconds):
            for partition in range(PARTITIONS):
                self.topic.send([click(T0_MS + 1_000 * second, shop=shop) for shop in SHOPS], partition)
        self.sent += seconds

    def seen(self) -> Counter[tuple[int, str]]:
        """(second, shop) -> how often its final row is in Kafka. Each row must be right."""
        rows = finals(self.cluster, f"kpi.{self.topic.name}.1s")
        wrong = [row for row in rows if row["events"] != row["amount"] or row["events"] != PARTITIONS * (1 if row["shop"] else len(SHOPS))]
        assert wrong == []
        return Counter(((int(row["window_start"].timestamp() * 1000) - T0_MS) // 1_000, row["shop"] or "all") for row in rows)

    def complete(self, times: int = 1) -> bool:
        """Whether everything that was sent so far has its final rows; none twice."""
        until_second, seen = self.sent - 2, self.seen()
        assert max(seen.values(), default=0) <= times, [at for at, count in seen.items() if count > times]
        return {at for at in seen if at[0] < until_second} == {(second, shop) for second in range(until_second) for shop in ("all", *SHOPS)}

    @contextmanager
    def under_load(self) -> Iterator[Watch]:
        """For as long as the block lasts, some seconds of event time a second; and a watch on the rows."""
        ending = threading.Event()

        def go_on() -> None:
            while not ending.wait(PAUSE_S):
                self.send(1)

        thread, watch = threading.Thread(target=go_on), Watch(self.cluster, [f"kpi.{self.topic.name}.1s"])
        thread.start()
        try:
            yield watch
        finally:
            ending.set()
            thread.join()
            watch.end()


def rows_go_on(watch: Watch) -> float:
    """Seconds until a final row is seen that was made after now."""
    began_ms, began_s = now_ms(), time.monotonic()
    until(lambda: watch.first_after(began_ms) is not None, 60)
    return time.monotonic() - began_s


def test_a_flow_goes_on_with_1_2_4_and_1_processes_under_load(cluster: Cluster, tmp_path: Path) -> None:
    flow = Load(cluster, tmp_path, "rescaled")
    took = list[float]()
    with flow.under_load() as watch:
        for count in SCALES:
            with flow.scaled_out(count) as members:
                took.append(rows_go_on(watch))
                assert len(members.workers()) == count
                assert opened(members) == {f"part-{number}.sqlite3": 1 for number in range(4)}
                assert members.end() == [0] * count
    with flow.running() as child:  # as on one machine
        until(flow.complete, 60, child)
        assert end(child) == 0
    print("from start to rows, s:", [round(each, 1) for each in took])  # noqa: T201
    assert "Traceback" not in flow.log
    assert "panicked" not in flow.log


def opened(members: Members) -> Counter[str]:
    """File of the recovery directory -> how many processes have it open."""
    counted = Counter[str]()
    for process in members.workers():
        with suppress(psutil.Error):
            counted.update({Path(file.path).name for file in process.open_files() if file.path.endswith(".sqlite3")})
    return counted


@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_supervisor_or_a_process_is_killed_all_start_again_together_and_no_row_is_lost_or_doubled(
    cluster: Cluster, tmp_path: Path, victim: int
) -> None:
    flow = Load(cluster, tmp_path, f"member{victim}")
    with flow.under_load() as watch, flow.scaled_out(2) as members:
        rows_go_on(watch)
        first = members.workers()

        first[victim].kill()  # a process: its supervisor tells the other
        killed_s = time.monotonic()
        second = until(lambda: anew(members, first), 30)
        rows_go_on(watch)
        print(f"a process killed: all run after {second[1] - killed_s:.1f} s, rows after {time.monotonic() - killed_s:.1f} s")  # noqa: T201

        members.kill(victim)  # a machine: the other one kills its process, and waits
        assert psutil.wait_procs(second[0], 20)[1] == []
        until(lambda: f"process {victim} is lost" in flow.log, 20)
        assert members.workers() == []
        members.start(victim)
        begun_s = time.monotonic()
        third = until(lambda: anew(members, second[0]), 30)
        rows_go_on(watch)
        print(f"a supervisor is back: all run after {third[1] - begun_s:.1f} s, rows after {time.monotonic() - begun_s:.1f} s")  # noqa: T201
        assert members.end() == [0, 0]
    with flow.running() as child:
        until(flow.complete, 60, child)
        assert end(child) == 0


def said(flow: Supervised, line: str) -> bool:
    return line in flow.log


def anew(members: Members, before: list[psutil.Process]) -> tuple[list[psutil.Process], float] | None:
    """The processes of another life, and when they were seen."""
    now = members.workers()
    return (now, time.monotonic()) if now and not set(now) & set(before) else None


def test_who_is_asked_to_end_lets_all_take_a_last_snapshot_and_the_others_wait_for_it(cluster: Cluster, tmp_path: Path) -> None:
    flow = Load(cluster, tmp_path, "rolling")
    with flow.under_load() as watch, flow.scaled_out(2) as members:
        rows_go_on(watch)
        for number in (1, 0):
            assert end(members.children[number]) == 0
            until(partial(said, flow, f"process {number} was asked to end; start "), 20)
            assert processes(members.children[1 - number]) == []
            members.start(number)
            until(lambda: len(members.workers()) == 2, 30)
            rows_go_on(watch)
        assert members.end() == [0, 0]
    assert "no last snapshot" not in flow.log
    with flow.running() as child:
        until(flow.complete, 60, child)
        assert end(child) == 0
