"""Who is measured, and how each is written and configured. In: windows. Out: contenders by name. Starts nothing."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bench.clicks import TOPIC
from bench.measure import Bench
from bench.peers.run import THREADS, FailedError
from flows.windows import parse_window

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / ".bench" / "bin" / "python"  # what bench/requirements.lock makes: `make bench-setup`
THREE = "10s,1m,5m"
TWELVE = "10s,20s,30s,1m,2m,5m,10m,15m,20m,30m,45m,1h"
EIGHTH, FORTIETH = "bench.eighth.clicks", "bench.fortieth.clicks"
PARTS = {TOPIC: 1, EIGHTH: 8, FORTIETH: 40}

FLOW, BARE = "flow", "bare"


@dataclass(frozen=True, slots=True)
class Contender:
    """Measured over one topic by `measure(bench, number of the run, windows)`."""

    key: str
    name: str
    how: str
    topic: str
    measure: Callable[[Bench, int, str], float]


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender with the windows it keeps."""

    of: Contender
    windows: str
    key: str

    def measure(self, bench: Bench, number: int) -> float:
        """Messages a second."""
        return self.of.measure(bench, number, self.windows)


def stock_bytewax() -> list[str]:
    """In our own environment: it is the same library."""
    return [sys.executable, "-m", "bytewax.run", "bench.peers.stock:made()", "-w", str(THREADS)]


def quix_streams() -> list[str]:
    """In its own environment, as it wants another confluent-kafka than the flow."""
    if not PYTHON.exists():
        raise FailedError("has no environment: make bench-setup")
    return [str(PYTHON), "-m", "bench.peers.quix"]


def java(name: str) -> Callable[[], list[str]]:
    """A peer of bench/peers/java.py."""

    def command() -> list[str]:
        made: list[str] = getattr(import_module("bench.peers.java"), name)()
        return made

    return command


def _peer(key: str, command: Callable[[], list[str]]) -> Callable[[Bench, int, str], float]:
    return lambda bench, number, windows: bench.peer(f"{key}-{number}-{windows.count(',') + 1}", command(), windows, BY_KEY[key].topic)


COMMANDS = {
    "stock-bytewax": stock_bytewax,
    "quix-streams": quix_streams,
    "kafka-streams": java("kafka_streams"),
    "flink-sql": java("flink_sql"),
}
CONTENDERS = (
    Contender(
        FLOW,
        "the flow, exactly once",
        "One process of one worker, as `make flow` starts it: a snapshot every second, rows through transactions; provisional rows too.",
        TOPIC,
        lambda bench, number, windows: bench.flow(number, windows, durable=True),
    ),
    Contender(
        "flow-at-least-once",
        "the flow, at least once",
        "The same without a recovery directory: rows go out at once.",
        TOPIC,
        lambda bench, number, windows: bench.flow(number, windows, durable=False),
    ),
    Contender(
        "flink-sql",
        "Flink SQL",
        "Windowing table functions in two phases, larger windows of smaller ones, at least once, 2 slots in a JVM (bench/peers/flink_sql).",
        TOPIC,
        _peer("flink-sql", COMMANDS["flink-sql"]),
    ),
    Contender(
        "kafka-streams",
        "Kafka Streams",
        "Caching on, one repartition by country for all sizes, at least once, two threads of one JVM (bench/peers/kafka_streams).",
        EIGHTH,
        _peer("kafka-streams", COMMANDS["kafka-streams"]),
    ),
    Contender(
        "stock-bytewax",
        "stock Bytewax",
        "`KafkaSource` in batches of 10,000, fastavro, a `fold_window` a size, not ordered, no recovery, 2 workers (bench/peers/stock.py).",
        FORTIETH,
        _peer("stock-bytewax", COMMANDS["stock-bytewax"]),
    ),
    Contender(
        "quix-streams",
        "Quix Streams",
        "By country through one partition, amounts alone; a tumbling window a size, final rows, at least once (bench/peers/quix.py).",
        FORTIETH,
        _peer("quix-streams", COMMANDS["quix-streams"]),
    ),
    Contender(
        BARE,
        "bare consumer",
        "confluent-kafka's `consume` of 1,000 messages with large queues, that does nothing with them but make an object of each, which "
        "the flow does not (bench/peers/bare.py).",
        TOPIC,
        lambda bench, number, _: bench.bare(number),
    ),
)
BY_KEY = {contender.key: contender for contender in CONTENDERS}


def entries(lists: list[str]) -> list[Entry]:
    """Without lists of windows: all with three sizes, two with twelve. With one: all with it. With several: the flow with each of them."""
    if len(lists) > 1:
        several = [Entry(BY_KEY[FLOW], windows, f"{FLOW}-{windows}") for windows in lists]
        return [*several, Entry(BY_KEY[BARE], lists[0], BARE)]
    shared = lists[0] if lists else THREE
    tumbling = all("-" not in parse_window(spelled).label for spelled in shared.split(","))
    same = [Entry(one, shared, one.key) for one in CONTENDERS if tumbling or one.key not in COMMANDS]  # peers keep tumbling windows
    return same if lists else [*same, *(Entry(BY_KEY[key], TWELVE, f"{key}-12") for key in (FLOW, "kafka-streams"))]
