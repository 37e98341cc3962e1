"""The flow that `python -m bytewax.run flows.kpi` runs. In: configuration. Out: the dataflow with its real ends.

Everything a person can get wrong is found here, before the engine starts, and told in one line.
"""

import argparse
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, TextIO

from bytewax.dataflow import Dataflow

from flows import recovery, topics, vault
from flows.connection import Connection, connection
from flows.declaration import Declaration, read_declaration
from flows.edge import Edge
from flows.errors import ConfigError
from flows.exposition import expose, port_of
from flows.outage import Hushed, Outage, watch
from flows.outputs import Planner
from flows.registry import Registry
from flows.services import Services
from flows.sink import KafkaSink
from flows.source import KafkaSource
from flows.spelling import canonical
from flows.stop import AWAY, UNBEGUN, Stop, leave
from flows.topology import FOLD, kpi_flow

LOG = logging.getLogger("kpi")
SINK_PARTS = 2
RETRY_S = 2.0
HELD: list[TextIO] = []  # locks live as long as the process


def flow() -> Dataflow:
    """The dataflow as the environment and the command line of bytewax.run describe it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for requests in ("httpx", "httpx2"):
        logging.getLogger(requests).setLevel(logging.WARNING)
    try:
        return _flow(os.environ, _recovery(os.environ))
    except ConfigError as error:
        raise SystemExit(f"kpi: {error}") from None
    except Stop as stop:
        leave(stop)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the environment and kpi.toml say."""

    declaration: Declaration
    chosen: Callable[[str], bool]
    where: Connection
    flow_id: str


def wanted(environ: Mapping[str, str]) -> Wanted:
    """Everything that can be judged without a server. Raises ConfigError."""
    declaration = read_declaration(environ)
    chosen = topics.choose(declaration.defaults.topics.include, declaration.defaults.topics.exclude)
    where = connection(environ)
    where.kafka_python()
    port_of(environ, "KPI_METRICS_PORT")
    return Wanted(declaration, chosen, where, environ.get("KPI_FLOW_ID", "kpi"))


def _flow(environ: Mapping[str, str], directory: Path | None) -> Dataflow:
    want = wanted(environ)
    declaration, where = want.declaration, want.where
    admin = topics.administrator(where.librdkafka())
    registry = Registry(*where.registry())
    planner = Planner(declaration, registry, admin, SINK_PARTS)
    stopping = _stop_on_signals(durable=directory is not None)
    _metrics(environ)
    outage = Outage(where.librdkafka()["bootstrap.servers"])
    watch(outage, stopping, partial(topics.trouble, admin), partial(_leave_without_kafka, durable=directory is not None))
    _hush(outage)
    if directory is None:
        LOG.warning("no recovery directory (-r; make flow has one): at-least-once, not exactly-once; each start reads from `start` again")
    else:
        LOG.info("exactly-once, recovery directory %s", directory)
    LOG.info("Kafka %s, registry %s", where.librdkafka()["bootstrap.servers"], where.registry()[0])
    _wait_for_cluster(planner, stopping, outage)
    source = KafkaSource(
        Services(where.kafka_python(), admin, registry, planner, want.chosen, outage=outage),
        SINK_PARTS,
        durable=directory is not None,
        declared=canonical(declaration),
        stopping=stopping,
        ticks=_given(environ).snapshot_interval == 0,
    )
    edge = partial(Edge, outage=outage)
    sink = KafkaSink(where.librdkafka(), want.flow_id, durable=directory is not None, parts=SINK_PARTS, edge=edge)
    return kpi_flow(source, sink, SINK_PARTS, directory=directory)


def _given(environ: Mapping[str, str], arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What bytewax.run was given that concerns us too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-r", "--recovery-directory", type=Path, default=environ.get("BYTEWAX_RECOVERY_DIRECTORY"))
    parser.add_argument("-i", "--process-id", type=int, default=environ.get("BYTEWAX_PROCESS_ID", "0"))
    parser.add_argument("-s", "--snapshot-interval", type=int, default=environ.get("BYTEWAX_SNAPSHOT_INTERVAL"))
    parser.add_argument("-a", "--addresses", default=environ.get("BYTEWAX_ADDRESSES", ""))
    given, _ = parser.parse_known_args(arguments)
    return given


def _recovery(environ: Mapping[str, str], arguments: Sequence[str] | None = None) -> Path | None:
    """The recovery directory that bytewax.run was given, locked for this process; None without one."""
    given = _given(environ, arguments)
    if given.recovery_directory is None:
        return None
    directory = Path(given.recovery_directory)
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"-r: got {directory}, want a directory")
    if not recovery.has_parts(directory):
        way_on = f"make flow, or: mkdir -p {directory} && python -m bytewax.recovery {directory} {recovery.PARTS}"
        raise ConfigError(f"-r: got {directory}, want a recovery directory; make one with {way_on}")
    HELD.append(recovery.lock(directory, given.process_id))
    recovery.check_others(directory, max(len(given.addresses.split(";")), given.process_id + 1))
    recovery.check(directory)
    if given.process_id == 0:
        recovery.forget_unfinished(directory)
        vault.tidy(directory, recovery.states(directory, FOLD))
    return directory


def _stop_on_signals(*, durable: bool) -> threading.Event:
    """SIGTERM and Ctrl-C let the readers end: the engine writes a last snapshot, where it has a place for it, and leaves with code 0."""
    stopping = threading.Event()

    def stop(signal_number: int, _: object) -> None:
        if stopping.is_set():  # the second time: at once
            leave(Stop(128 + signal_number, "kpi: left at once; with a recovery directory the next start goes on from the last snapshot"))
        LOG.info("asked to end: %s", "a last snapshot, and out" if durable else "out")
        stopping.set()

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
    return stopping


def _leave_without_kafka(why: str, *, durable: bool) -> NoReturn:
    rest = "what it has not got waits in the recovery directory" if durable else "the next start reads from `start` again"
    leave(Stop(AWAY, f"kpi: {why}; {rest}"))


def _hush(outage: Outage) -> None:
    kafka = logging.getLogger("kafka")
    kafka.setLevel(logging.ERROR)  # it warns of every task of 0.1 s
    kafka.propagate = False
    kafka.addHandler(Hushed(outage))


def _metrics(environ: Mapping[str, str]) -> None:
    """The metrics page; each process of several has its own, at the port and its process id."""
    expose(environ, "KPI_METRICS_PORT", "KPI_METRICS_HOST", _given(environ).process_id)


def _wait_for_cluster(planner: Planner, stopping: threading.Event, outage: Outage) -> None:
    """Until the flow's own topics exist. A cluster that is away is waited for, in a thread: the client's calls last for seconds."""
    outcome: list[Exception | None] = []

    def ask() -> None:
        while True:
            begin_s = time.monotonic()
            try:
                planner.ensure_own_topics()
            except topics.Unreachable as error:
                outage.failed("start", str(error), begin_s)
                time.sleep(RETRY_S)
            except Exception as error:  # noqa: BLE001 - raised again below
                return outcome.append(error)
            else:
                outage.worked("start")
                return outcome.append(None)

    threading.Thread(target=ask, name="wait-for-cluster", daemon=True).start()
    while not outcome:
        if stopping.is_set():
            leave(Stop(0, UNBEGUN))
        time.sleep(0.05)
    if outcome[0] is not None:
        raise outcome[0]
