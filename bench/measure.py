"""Filled topics on one broker, read whole by one contender after another. In: which, and how. Out: messages a second, results checked.

The time of each begins when it has handled a quarter of its topic, so that whatever compiles or warms up has done so, and ends with its
last result in Kafka. It counts when the results are those of bench/expected.py.
"""

import io
import json
import re
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
import polars as pl

from bench import expected
from bench.clicks import CONFIG, PARTITIONS, TOPIC
from bench.peers.run import THREADS, FailedError, Program, crossing
from bench.topic import Ends, Looker
from flows import topics as kafka
from flows.registry import Registry
from flows.windows import parse_window
from infra.embedded.child import check_interrupt, free_port

PATIENCE_S = 300.0  # without a message handled
WAIT_S = 60.0  # for rows that are missing, all messages read
STILL_S = 3.0
LOOK_S = 0.02
TELL_S = 10.0
SAMPLE_S = 0.5
WARM = 4  # the time counts from this part of the topic on


class WrongError(FailedError):
    """Results that are not those expected."""


class Bench:
    """One filled topic, and perhaps smaller ones, on one broker; every measurement reads all of one."""

    def __init__(self, environ: Mapping[str, str], events: int, home: Path) -> None:
        self.environ, self.events, self.home = dict(environ), events, home
        self.peak_mb = 0  # of the last contender that ran
        self._looker = Looker(self.environ["KAFKA_BOOTSTRAP_SERVERS"])
        self._clicks: dict[str, pl.DataFrame] = {}
        self._expected: dict[tuple[str, tuple[int, ...]], pl.DataFrame] = {}
        only = f'[defaults]\ntopics = {{ include = ["{TOPIC.replace(".", "[.]")}"] }}'  # not the peers' own
        (home / "kpi.toml").write_text(CONFIG.replace("[defaults]", only))

    def bare(self, number: int) -> float:
        """A consumer that does nothing: the limit. It has no results."""
        total, name = self._total(TOPIC), f"bare{number}"
        environ = self._told(TOPIC, "none", (), name)
        with Program([sys.executable, "-m", "bench.peers.bare"], environ, self.home / f"{name}.log") as program:
            self._all_read(program, total)
            return self._rate(program, total, program.reads[-1][0])

    def flow(self, number: int, windows: str, *, durable: bool) -> float:
        """`python -m bytewax.run flows.kpi`; durable: with a recovery directory, exactly once. Checks tumbling windows only."""
        parsed = [parse_window(spelled) for spelled in windows.split(",")]
        topics = {f"kpi.{TOPIC}.{window.label}": window for window in parsed}
        tumbling = {topic: window.size_ms for topic, window in topics.items() if "-" not in window.label}
        want = self._wanted(TOPIC, tuple(tumbling.values()))
        name = f"bench{number}{'durable' if durable else ''}-{parsed[0].label}-{len(parsed)}"
        recovery, port = self.home / name, free_port()
        command = [sys.executable, "-m", "bytewax.run", "flows.kpi"]
        if durable:
            recovery.mkdir()
            made = Program([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], {}, self.home / f"{name}.log")
            _ended(made)
            command += ["-r", str(recovery), "-s", "1", "-b", "0"]
        environ = {
            **self.environ,
            "KPI_FLOW_ID": name,
            "KPI_CONFIG": str(self.home / "kpi.toml"),
            "KPI_METRICS_PORT": str(port),
            "KPI_WINDOWS": windows,
        }
        total, before = self._total(TOPIC), self._looker.ends(topics)
        with Program(command, environ, self.home / f"{name}.log") as program:
            self._all_read(program, total, lambda: program.reads.append((time.perf_counter(), _counted(port))))
            ended = self._settled(program, topics, before, lambda: self._wrong_rows(tumbling, before, want))
            return self._rate(program, total, ended)

    def peer(self, name: str, command: Sequence[str], windows: str, topic: str) -> float:
        """A program that keeps the contract of bench/peers."""
        windows_ms = tuple(parse_window(spelled).size_ms for spelled in windows.split(","))
        want, total, there = self._wanted(topic, windows_ms), self._total(topic), self._looker.topics()
        out = f"bench.out.{name}"
        kafka.ensure(kafka.administrator({"bootstrap.servers": self.environ["KAFKA_BOOTSTRAP_SERVERS"]}), {out: (PARTITIONS, {})})
        try:
            with Program(command, self._told(topic, out, windows_ms, name), self.home / f"{name}.log") as program:
                self._all_read(program, total)
                ended = self._settled(program, [out], {}, lambda: self._wrong_results(out, want))
                return self._rate(program, total, ended)
        finally:
            self._looker.delete(made for made in self._looker.topics() - there if not made.startswith("_"))
            shutil.rmtree(self.home / name)

    def _told(self, topic: str, out: str, windows_ms: Sequence[int], name: str) -> dict[str, str]:
        home = self.home / name
        home.mkdir()
        return {
            **self.environ,
            "PEER_TOPIC": topic,
            "PEER_WINDOWS": ",".join(map(str, windows_ms)),
            "PEER_OUT": out,
            "PEER_TOTAL": str(self._total(topic)),
            "PEER_HOME": str(home),
            "PEER_THREADS": str(THREADS),
        }

    def _total(self, topic: str) -> int:
        return sum(self._looker.ends([topic]).values())

    def _wanted(self, topic: str, windows_ms: tuple[int, ...]) -> pl.DataFrame:
        if topic not in self._clicks:
            values = (message.value() or b"" for message in self._looker.messages(topic, {}))
            self._clicks[topic] = expected.without_closing(expected.clicks(values))
        if (topic, windows_ms) not in self._expected:
            self._expected[topic, windows_ms] = expected.results(self._clicks[topic], windows_ms)
        return self._expected[topic, windows_ms]

    def _all_read(self, program: Program, total: int, look: Callable[[], None] = lambda: None) -> None:
        """Returns when the contender has handled all messages."""
        told = moved = time.monotonic()
        sampled = 0.0
        last = 0
        while (count := program.reads[-1][1]) < total:
            check_interrupt()
            program.check()
            now = time.monotonic()
            moved, last = (now, count) if count != last else (moved, last)
            if now - moved > PATIENCE_S or program.exit_code == 0:
                raise FailedError(f"stopped reading after {count:,} of {total:,} messages")
            if now - sampled > SAMPLE_S:
                sampled = now
                program.peak_mb()
            if now - told > TELL_S:
                told = now
                print(f"    {count:,} of {total:,} read, memory so far {program.peak_mb():,} MB", flush=True)
            look()
            time.sleep(LOOK_S)

    def _settled(self, program: Program, topics: Mapping[str, object] | Sequence[str], before: Ends, wrong: Callable[[], str]) -> float:
        """When the last row went out: the ends of the topics have not moved for three seconds since, and the rows are those expected."""
        ends, moved, looked, said = self._looker.ends(topics), time.perf_counter(), before, "no results"
        while said:
            check_interrupt()
            program.check()
            if (now := self._looker.ends(topics)) != ends:
                ends, moved = now, time.perf_counter()
            still_s = time.perf_counter() - moved
            if still_s > STILL_S and ends != looked:
                program.peak_mb()
                looked, said = ends, wrong()
            elif said and (still_s > WAIT_S or (program.exit_code == 0 and still_s > STILL_S)):
                raise WrongError(f"wrong results: {said}")
            time.sleep(LOOK_S)
        return moved

    def _rate(self, program: Program, total: int, ended: float) -> float:
        warm = total // WARM
        self.peak_mb = program.peak_mb()
        return (total - warm) / (ended - crossing(program.reads, warm))

    def _wrong_results(self, out: str, want: pl.DataFrame) -> str:
        rows = ((message.key() or b"", message.value() or b"") for message in self._looker.messages(out, {}))
        return expected.differences(expected.written(_bytes(row) for row in rows), want)

    def _wrong_rows(self, topics: Mapping[str, int], before: Ends, want: pl.DataFrame) -> str:
        """Every final row of the flow, with all of its KPIs."""
        if not topics:
            return ""
        rows = pl.concat([self._final_rows(topic, size_ms, before) for topic, size_ms in topics.items()])
        mean = pl.col("sum") / pl.col("events")
        odd = rows.filter((pl.col("clicks") != pl.col("events")) | ~((pl.col("basket") - mean).abs() <= expected.NEAR * mean.abs()))
        said = f"{len(odd):,} rows with other means or counts" if len(odd) else ""
        return expected.differences(rows.select(*expected.COLUMNS), want) or said

    def _final_rows(self, topic: str, size_ms: int, before: Ends) -> pl.DataFrame:
        latest = Registry(self.environ["SCHEMA_REGISTRY_URL"]).latest(f"{topic}-value")
        schema: Any = fastavro.parse_schema(json.loads(latest[1] if latest else "null"))
        found = []
        for message in self._looker.messages(topic, before):
            row: Any = fastavro.schemaless_reader(io.BytesIO(_bytes(((message.value() or b""), b""))[0][5:]), schema, None)
            if row["final"]:
                start_ms = round(row["window_start"].timestamp() * 1000)
                kpis = [row["revenue"], row["smallest"], row["largest"], row["clicks"], row["basket"]]
                found.append((size_ms, start_ms, row["country"], row["events"], *kpis))
        return pl.DataFrame(found, {**expected.COLUMNS, "clicks": pl.Int64, "basket": pl.Float64}, orient="row")


def _bytes(row: tuple[str | bytes, str | bytes]) -> tuple[bytes, bytes]:
    """Kafka's types say that a key or value may be text; it never is."""
    key, value = (part.encode() if isinstance(part, str) else part for part in row)
    return key, value


def _ended(program: Program) -> None:
    while program.exit_code is None:
        time.sleep(LOOK_S)
    program.check()


def _counted(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode()
    except OSError:
        return 0
    return int(
        sum(float(value) for value in re.findall(rf'^kpi_messages_total{{[^}}]*topic="{re.escape(TOPIC)}"}} (\S+)$', text, re.MULTILINE))
    )
