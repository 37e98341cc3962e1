"""One flow on two machines whose link is cut. In: a ground. Out: a row of the scoreboard. Needs root and `ip`: Linux' network namespaces.

    here                                            namespace
    supervisor 0, process 0 ◄─── a veth pair ───► supervisor 1, process 1
    Kafka, registry         ◄─────── relay ──────── 127.0.0.1, as here: not cut

Kafka stays within reach of both, so a process that goes on though it is given up would do harm.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from random import Random
from urllib.parse import urlsplit

from flows.link import LOST_S
from infra.embedded import Cluster
from infra.embedded.child import Child, free_port
from tests.chaos.base import Ground, Result, Scene, pause, until, verified
from tests.chaos.feeder import now_ms

HERE, THERE = "198.18.77.1", "198.18.77.2"  # for tests of networks (RFC 2544): nobody's
CLONE_NEWNET = 0x40000000
NOTICED_S = 2 * LOST_S  # that the other is lost; on a loaded machine
BACK_S = 60.0
RESUME_LIMIT_S = 30.0
DOWN_S = (1.0, 4.0)  # after both have noticed


def ip(*arguments: str) -> None:
    """A command of iproute2. Raises RuntimeError with what it says."""
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeError("`ip` is not here: install it (Debian: apt install iproute2)") from None
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()} (network namespaces need root)")


@contextmanager
def namespace() -> Iterator[tuple[str, str]]:
    """A network namespace and our end of the only link to it."""
    name, ours, theirs = f"kpi-{os.getpid()}", f"kpi{os.getpid()}a", f"kpi{os.getpid()}b"
    ip("netns", "add", name)
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("address", "add", f"{HERE}/30", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "address", "add", f"{THERE}/30", "dev", theirs)
        for device in (theirs, "lo"):
            ip("-n", name, "link", "set", device, "up")
        yield name, ours
    finally:
        ip("netns", "delete", name)


def inside(name: str, ports: list[int]) -> list[socket.socket]:
    """Sockets that listen at these ports of 127.0.0.1 in a namespace: where a socket is made it stays, and a thread may go there."""
    made: list[socket.socket] = []

    def make() -> None:
        with open(f"/run/netns/{name}", "rb") as there:  # noqa: PTH123 - a descriptor is wanted
            if ctypes.CDLL(None, use_errno=True).setns(there.fileno(), CLONE_NEWNET) == 0:
                made.extend(socket.create_server(("127.0.0.1", port)) for port in ports)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if len(made) < len(ports):
        raise RuntimeError(f"cannot listen in the namespace {name}")
    return made


@contextmanager
def relay(name: str, cluster: Cluster) -> Iterator[None]:
    """Who connects to Kafka or the registry in the namespace is connected to those here."""
    addresses = [*cluster.bootstrap.split(","), urlsplit(cluster.registry_url).netloc]
    listening = inside(name, ports := [int(address.rpartition(":")[2]) for address in addresses])

    def serve(server: socket.socket, port: int) -> None:
        with suppress(OSError):
            while True:
                one, _ = server.accept()
                threading.Thread(target=both_ways, args=(one, port), daemon=True).start()

    for server, port in zip(listening, ports, strict=True):
        threading.Thread(target=serve, args=(server, port), daemon=True).start()
    try:
        yield
    finally:
        for server in listening:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


def both_ways(one: socket.socket, port: int) -> None:
    """Until one of them has closed."""
    with suppress(OSError), one, socket.create_connection(("127.0.0.1", port)) as other:
        back = threading.Thread(target=pump, args=(other, one), daemon=True)
        back.start()
        pump(one, other)
        back.join()


def pump(one: socket.socket, other: socket.socket) -> None:
    """One way."""
    with suppress(OSError):
        while chunk := one.recv(65_536):
            other.sendall(chunk)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


class Pair:
    """The two supervisors, and what they say."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.flow = scene.flow
        port = free_port()
        environ = {
            **self.flow.settings,
            "BYTEWAX_RECOVERY_DIRECTORY": str(self.flow.recovery),
            "KPI_ADDRESSES": f"{HERE}:{port};{THERE}:{port}",
        }
        self.children = []
        for number, before in enumerate(([], ["ip", "netns", "exec", name])):
            command = [*before, sys.executable, "-m", "flows.supervise"]
            log = self.flow.home / f"flow-{number}.log"
            self.children.append(Child(f"supervisor {number}", command, log, {**environ, "KPI_PROCESS_ID": str(number)}))

    def said(self, number: int, line: str, times: int) -> Callable[[], bool]:
        """Whether a supervisor has said a line so often. Raises RuntimeError when it has ended."""

        def seen() -> bool:
            child = self.children[number]
            if child.exit_code is not None:
                raise RuntimeError(child.obituary())
            return child.log.read_text(errors="replace").count(line) >= times

        return seen

    def stop(self) -> list[int | None]:
        """SIGTERM to both, and their exit codes."""
        for child in self.children:
            os.kill(child.pid, signal.SIGTERM)
        until(lambda: all(child.exit_code is not None for child in self.children), BACK_S, "both supervisors end")
        return [child.exit_code for child in self.children]

    def kill(self) -> None:
        """Whatever still runs."""
        for child in self.children:
            child.kill()


def links(ground: Ground, count: int, seed: int) -> Result:
    """The link cut `count` times, until both sides have noticed and a little longer."""
    dice, seconds, noticed, failed = Random(seed), list[float](), list[float](), list[str]()
    with ground.scene("links", seed) as scene, ExitStack() as held:
        name, device = held.enter_context(namespace())
        held.enter_context(relay(name, ground.cluster))
        pair = Pair(scene, name)
        held.callback(pair.kill)
        resumed(scene, pair)
        for number in range(1, count + 1):
            ip("link", "set", device, "down")
            cut_s = time.monotonic()
            for one, other in ((1, 0), (0, 1)):
                until(pair.said(one, f"process {other} is lost", number), NOTICED_S, f"supervisor {one} notices that {other} is lost")
                noticed.append(time.monotonic() - cut_s)
            pause(dice.uniform(*DOWN_S))
            ip("link", "set", device, "up")
            seconds.append(resumed(scene, pair))
            shown = f"noticed after {noticed[-2]:.1f} and {noticed[-1]:.1f} s, rows {seconds[-1]:.1f} s after it was back"
            ground.say(f"links: {number} of {count}, {shown}")
        if any(codes := pair.stop()):
            failed.append(f"SIGTERM ended the supervisors with {codes}")
        verdict = scene.settle()
        failed += verified(scene)
    notes = f"a cut is noticed after at most {max(noticed, default=0):.1f} s; seconds from a link that is back to the next row"
    return Result("links", count, verdict, seconds, RESUME_LIMIT_S, notes, failed)


def resumed(scene: Scene, pair: Pair) -> float:
    """Seconds to a final row that is made after now."""
    began_ms, began_s = now_ms(), time.monotonic()
    until(lambda: pair.said(0, "", 0)() and scene.watch.first_after(began_ms) is not None, BACK_S, f"a row:\n{pair.flow.log[-2000:]}")
    return time.monotonic() - began_s
