"""Every image that a service needs. In: services. Out: images in Docker, and the services whose image cannot be had."""

import os
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from infra.cluster.compose import INFRA, Compose, Service, docker, last_line
from infra.cluster.errors import ClusterError

Say = Callable[[str], None]

BASE = "debian:bookworm-20250520-slim"
STAND_IN = "kpi-flow/base:bookworm"
LOGS = INFRA.parent / ".cluster"
PULL_S = 600


def is_here(image: str) -> bool:
    """Whether Docker has it."""
    return docker("image", "inspect", image).returncode == 0


def pull(image: str) -> str:
    """Empty when Docker has it now, or why not."""
    if is_here(image):
        return ""
    pulled = docker("pull", "--quiet", image, timeout_s=PULL_S)
    return last_line(pulled.stderr) if pulled.returncode else ""


def base(say: Say) -> str:
    """The image that all of ours are built from: Debian's, or a stand-in where it cannot be pulled."""
    if given := os.environ.get("BASE_IMAGE"):
        return given
    if is_here(STAND_IN):
        return STAND_IN
    if not (why := pull(BASE)):
        return BASE
    say(f"{BASE} cannot be pulled ({why.rpartition(': ')[2]}): making a stand-in with debootstrap (1 minute) ...")
    with log("base").open("w") as output:
        made = subprocess.run([INFRA / "images/base/standin", STAND_IN], check=False, stdout=output, stderr=subprocess.STDOUT)
    if made.returncode:
        raise ClusterError(f"the stand-in cannot be made: {last_line(log('base').read_text())}")
    return STAND_IN


def build(compose: Compose, services: Sequence[Service], say: Say) -> None:
    """Build what is built, Dockerfile beside Dockerfile. Raises ClusterError with the end of the log."""
    dockerfile = lambda service: service.dockerfile or ""  # noqa: E731 - a key
    once = {service.image: service for service in services if service.dockerfile}.values()
    groups = [[service.name for service in group] for _, group in groupby(sorted(once, key=dockerfile), dockerfile)]

    def one(names: list[str]) -> None:
        with log(names[0]).open("w") as output:
            code = compose.start("build", *names, output=output, errors=subprocess.STDOUT).wait()
        if code:
            raise ClusterError(f"{' and '.join(names)}: building failed ({log(names[0])}): {last_line(log(names[0]).read_text())}")
        say(f"  built: {', '.join(names)}")

    with ThreadPoolExecutor(len(groups)) as pool:
        list(pool.map(one, groups))


def missing(services: Sequence[Service]) -> dict[str, str]:
    """Services whose image is the vendor's and cannot be pulled, and why."""
    theirs = [service for service in services if not service.dockerfile]
    with ThreadPoolExecutor(max(1, len(theirs))) as pool:
        answers = zip(theirs, pool.map(lambda service: pull(service.image), theirs), strict=True)
        return {service.name: why for service, why in answers if why}


def log(name: str) -> Path:
    """Where the build of an image is told."""
    LOGS.mkdir(exist_ok=True)
    return LOGS / f"{name}.log"
