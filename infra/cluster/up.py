"""From nothing to healthy. In: the machine and wishes. Out: running services, and a table of them."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence

from infra.cluster import images, machine, passwords
from infra.cluster.compose import Compose, Container, Service, docker, last_line
from infra.cluster.errors import ClusterError
from infra.cluster.images import Say

PATIENCE_S = 300


def up(compose: Compose, say: Say, profiles: Sequence[str]) -> None:
    """Start every service that can be had; returns when all of them are healthy. Raises ClusterError."""
    began = time.monotonic()
    machine.check_daemon()
    if "lenses" in profiles:
        check_terms({**passwords.read(), **os.environ})
    made = passwords.make()
    wanted = [service for service in compose.services() if not service.profiles or set(service.profiles) & set(profiles)]
    machine.check_ports(wanted, compose.containers())
    compose.environ["BASE_IMAGE"] = images.base(say)
    say("building images (3 minutes the first time) ...")
    images.build(compose, wanted, say)
    left_out = images.missing(wanted)
    for name, why in left_out.items():
        say(f"left out: {name}, as its image cannot be pulled ({why.rpartition(': ')[2]})")
    wanted = without(wanted, set(left_out))
    say(f"starting {len(wanted)} services ...")
    start(compose, wanted, say)
    say(f"all healthy after {time.monotonic() - began:.0f} s\n\n{table(wanted)}")
    if made:
        say(passwords.told(made))


def check_terms(environ: Mapping[str, str]) -> None:
    """Raise ClusterError unless somebody has agreed to Lenses' terms and has a key."""
    if environ.get("LENSES_ACCEPT_EULA") != "true" or not environ.get("LENSES_LICENSE"):
        raise ClusterError(
            "Lenses is its vendor's: read its terms (lenses.io/legals/eula), then set LENSES_ACCEPT_EULA=true and LENSES_LICENSE, "
            "its key, in infra/.env"
        )


def without(services: Sequence[Service], left_out: set[str]) -> list[Service]:
    """What is left, also without those that need one that is left out."""
    kept = [service for service in services if service.name not in left_out and not set(service.said.get("depends_on", ())) & left_out]
    gone = {service.name for service in services} - {service.name for service in kept}
    return kept if gone == left_out else without(kept, gone)


def start(compose: Compose, services: Sequence[Service], say: Say) -> None:
    """Start them, saying which is healthy when. Raises ClusterError for the first that cannot be."""
    began, told = time.monotonic(), set[str]()
    names = {service.name for service in services}
    with images.log("up").open("w") as output:
        process = compose.start("up", "--detach", "--no-build", "--remove-orphans", *sorted(names), output=output, errors=subprocess.STDOUT)
    while True:
        code, passed_s = process.poll(), time.monotonic() - began  # before the look, so that the look is at the containers it has made
        here = {container.service: container for container in compose.containers() if container.service in names}
        well = {name for name, container in here.items() if container.is_well}
        for name in sorted(well - told):
            told.add(name)
            say(f"  {passed_s:4.0f} s  {name} ({len(told)} of {len(names)})")
        if code == 0 and well == names:
            return
        if code or passed_s > PATIENCE_S:
            raise ClusterError(diagnosis([here[name] for name in sorted(here.keys() - well)]))
        time.sleep(0.5)


def diagnosis(sick: Sequence[Container]) -> str:
    """Which service is to blame, and its last words: one that has ended before one that is only slow."""
    if not sick:
        return f"docker compose up failed: {last_line(images.log('up').read_text())}"
    first = min(sick, key=lambda container: not container.is_over)
    said = docker("logs", "--tail", "20", first.name)
    return f"{first.service} is not healthy ({first.status}): {last_line(said.stdout + said.stderr)}; make logs SERVICE={first.service}"


def table(services: Sequence[Service]) -> str:
    """Services, addresses, and what they are for."""
    rows = [(service.name, service.label.get("address", ""), service.label.get("purpose", "")) for service in services]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"    {name:{widths[0]}}  {address:{widths[1]}}  {purpose}" for name, address, purpose in rows)
