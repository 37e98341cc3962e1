"""A whole cluster on this machine for as long as a `with` block lasts. In: nothing. Out: addresses, and switches for fault tests."""

import sys
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.embedded.broker import Broker, settings
from infra.embedded.child import Child
from infra.embedded.jars import Say, broker_classpath, registry_directory
from infra.embedded.registry import Registry


def say_to_stderr(line: str) -> None:
    """Progress for a person at a terminal."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


class Cluster:
    """Brokers (numbered from 1) and perhaps a registry, all ours. Restarted parts keep port and contents."""

    def __init__(self, brokers: list[Broker], registry: Registry | None) -> None:
        self._brokers = brokers
        self._registry = registry

    @property
    def bootstrap(self) -> str:
        """KAFKA_BOOTSTRAP_SERVERS."""
        return ",".join(broker.address for broker in self._brokers)

    @property
    def registry_url(self) -> str:
        """SCHEMA_REGISTRY_URL; empty without a registry."""
        return self._registry.url if self._registry else ""

    @property
    def environ(self) -> dict[str, str]:
        """What a program needs in its environment to find this cluster."""
        registry = {"SCHEMA_REGISTRY_URL": self.registry_url} if self._registry else {}
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap, **registry}

    @property
    def children(self) -> list[Child]:
        """Every process of the cluster that was started."""
        parts: list[Broker | Registry] = [*self._brokers, *([self._registry] if self._registry else [])]
        return [part.child for part in parts if part.child is not None]

    def stop_broker(self, node: int = 1) -> None:
        """SIGTERM: the broker hands over and ends."""
        self._broker(node).running().stop(grace_s=30)

    def kill_broker(self, node: int = 1) -> None:
        """SIGKILL: a power cut."""
        self._broker(node).running().kill()

    def start_broker(self, node: int = 1) -> None:
        """Start it again at the same port; returns when it answers."""
        self._broker(node).start()
        self._broker(node).wait(brokers=1)

    def stop_registry(self) -> None:
        """SIGTERM: the registry ends."""
        self._the_registry().running().stop()

    def kill_registry(self) -> None:
        """SIGKILL: a power cut."""
        self._the_registry().running().kill()

    def start_registry(self) -> None:
        """Start it again at the same port; returns when it answers."""
        self._the_registry().start()
        self._the_registry().wait()

    def _broker(self, node: int) -> Broker:
        return self._brokers[node - 1]

    def _the_registry(self) -> Registry:
        if self._registry is None:
            raise ValueError("this cluster was started without a registry")
        return self._registry


@contextmanager
def cluster(
    *,
    say: Say = say_to_stderr,
    home: Path | None = None,
    registry: bool = True,
    brokers: int = 1,
    more: Mapping[str, object] | None = None,
) -> Iterator[Cluster]:
    """Real Kafka and a real registry on free ports of 127.0.0.1, ended with the block.

    Data and logs live in `home`, which must be empty and is left as it is; without it in a directory that is removed at the end.
    `more` are settings of all brokers. Raises PartError, with a line that says what to do.
    """
    if home is None:
        with TemporaryDirectory(prefix="kpi-flow-", ignore_cleanup_errors=True) as directory:
            yield from _running(Path(directory), say, registry=registry, brokers=brokers, more=more or {})
    else:
        yield from _running(home, say, registry=registry, brokers=brokers, more=more or {})


def _running(home: Path, say: Say, *, registry: bool, brokers: int, more: Mapping[str, object]) -> Iterator[Cluster]:
    classpath = broker_classpath(say)
    unpacked = registry_directory(say) if registry else None
    members = [Broker(node, home, classpath) for node in range(1, brokers + 1)]
    whole = Cluster(members, Registry(home, unpacked) if unpacked else None)
    try:
        _boot(whole, members, say, more)
        yield whole
    finally:
        for child in whole.children:
            child.kill()  # nobody will read these files again; a graceful end would only take seconds


def _boot(whole: Cluster, members: list[Broker], say: Say, more: Mapping[str, object]) -> None:
    """Start all processes side by side, then wait for each of them."""
    started = time.monotonic()
    registry = whole._registry  # noqa: SLF001 - the same module
    say(f"starting Kafka at {whole.bootstrap}" + (f" and the registry at {registry.url} ..." if registry else " ..."))
    if registry:
        registry.start()
    cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    with ThreadPoolExecutor(len(members)) as pool:
        list(pool.map(lambda broker: broker.format(cluster_id, {**settings(members), **more}), members))
    for broker in members:
        broker.start()
    for broker in members:
        broker.wait(brokers=len(members))
    say(f"Kafka answers after {time.monotonic() - started:.1f} s")
    if registry:
        registry.wait()
        say(f"the registry answers after {time.monotonic() - started:.1f} s")
