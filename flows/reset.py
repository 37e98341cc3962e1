"""`make reset`: forget what a flow has done, so that its next start begins anew. In: its directory and KPI_FLOW_ID. Out: an exit code.

The way on when recovery directory, markers and declaration do not belong together any more. Nothing is deleted: the directory is moved
aside, and each marker is followed by one that says "nothing was committed yet", which no directory from before can belong to.
"""

import signal
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from confluent_kafka import KafkaException

from flows import recovery, topics
from flows.connection import connection
from flows.edge import PROGRESS_SETTINGS, Edge, Marker
from flows.kpi import SINK_PARTS
from flows.question import agreed
from flows.records import PROGRESS
from flows.stop import AWAY, FENCED, Stop, leave
from flows.transactions import Transactions


def reset(directory: Path, environ: Mapping[str, str], *, sure: bool) -> int:
    """Say what will be done, ask unless `sure`, do it: 0; 1 when it is not wanted. Raises ConfigError; Stop when a flow runs here.

    Ctrl-C until then ends it at once with 130, later not before the end: done by half, the flow could not start.
    """
    settings, flow_id = connection(environ).librdkafka(), environ.get("KPI_FLOW_ID", "kpi")
    _stop_at_once()
    with ExitStack() as held:
        if directory.is_dir():
            held.enter_context(recovery.lock_all(directory))
        edges = [Edge(settings, flow_id, part) for part in range(SINK_PARTS)]
        _say(plan(directory, flow_id, _markers(settings, edges)))
        if not sure and not agreed("Go on?"):
            _say(["nothing was done; to go on without being asked: make reset YES=1"])
            return 1
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for edge in edges:
            Transactions(edge).commit([], Marker(uuid.uuid4().hex, 0, "", "reset"))
        if directory.is_dir():
            aside = aside_of(directory)
            try:
                directory.rename(aside)
            except OSError as error:
                raise Stop(
                    1, f"kpi: the markers are reset, but {directory} could not be moved to {aside} ({error}): move it yourself"
                ) from None
            _say([f"moved {directory} to {aside}"])
    _say(["done: the next `make flow` begins anew"])
    return 0


def plan(directory: Path, flow_id: str, markers: Mapping[str, Marker | None]) -> list[str]:
    """What will be done, for people."""
    moved = f"move {directory} to {aside_of(directory)}" if directory.is_dir() else f"(there is no {directory} to move aside)"
    return [
        f"this makes the flow {flow_id} begin anew. It will:",
        f"  - end a flow with this KPI_FLOW_ID that still runs anywhere: it leaves, as one that was replaced (exit code {FENCED})",
        *(f"  - reset the marker of {name}: {_told(marker)}" for name, marker in markers.items()),
        f"  - {moved}",
        "The next start reads every topic from `start` again, and publishes every final row of what the topics still hold once more, under",
        "the same keys; late records and dead letters too. Rows of events that have expired stay as they are.",
        "`make verify` then compares what was published since, and only counts what stands before; late messages are out of rows again,",
        "so `make repair` is to be done once more. kpi.progress may forget the reset after an hour: verify's --since then says it.",
    ]


def aside_of(directory: Path) -> Path:
    """The first free name of recovery.1, recovery.2, …"""
    number = 1
    while (aside := directory.with_name(f"{directory.name}.{number}")).exists():
        number += 1
    return aside


def _told(marker: Marker | None) -> str:
    return "there is none" if marker is None else f"it has written up to batch {marker.sequence}"


def _markers(settings: Mapping[str, str], edges: list[Edge]) -> dict[str, Marker | None]:
    """Read only: nobody is fenced before the answer."""
    try:
        topics.ensure(topics.administrator(settings), {PROGRESS: (SINK_PARTS, PROGRESS_SETTINGS)})
        return {edge.transactional_id: edge.marker() for edge in edges}
    except (topics.Unreachable, KafkaException) as error:
        line = f"kpi: Kafka does not answer at {settings['bootstrap.servers']} ({error}); nothing was done"
        raise Stop(AWAY, f"{line}; is KAFKA_BOOTSTRAP_SERVERS right?") from None


def _stop_at_once() -> None:
    """On Ctrl-C. Python's own handler waits for Enter here, as polars has put one before it after which reading is taken up again."""

    def stop(number: int, _frame: object) -> NoReturn:
        leave(Stop(128 + number, "\nreset: nothing was changed"))

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, stop)


def _say(lines: list[str]) -> None:
    sys.stderr.write("".join(f"reset: {line}\n" for line in lines))
    sys.stderr.flush()
