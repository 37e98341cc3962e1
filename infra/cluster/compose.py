"""docker and docker compose, v2 or v1, as child processes. In: arguments. Out: their output, services, containers."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from infra.cluster.errors import ClusterError

INFRA = Path(__file__).parents[1]
FILE = INFRA / "docker-compose.yml"
SCALE = INFRA / "docker-compose.scale.yml"  # the flow in several containers
PROJECT = "kpi-flow"
PROFILES = ("apps", "lenses")
INSTALL = "install it (Debian: apt install docker.io docker-compose)"


def docker(*arguments: str, timeout_s: float | None = None) -> "subprocess.CompletedProcess[str]":
    """The finished command; output and errors are in it."""
    try:
        return subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=timeout_s)
    except FileNotFoundError:
        raise ClusterError(f"docker is not here: {INSTALL}") from None
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 1, "", f"no answer within {timeout_s:.0f} s")


def which_compose() -> list[str]:
    """The command that reads compose files: the plugin, or the older program."""
    if docker("compose", "version").returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise ClusterError(f"docker compose is not here, neither v2 nor v1: {INSTALL}")


@dataclass(frozen=True, slots=True)
class Service:
    """One service as the compose file has it, every variable filled in."""

    name: str
    said: Mapping[str, Any]

    @property
    def image(self) -> str:
        """The image's name."""
        return str(self.said["image"])

    @property
    def dockerfile(self) -> str | None:
        """What the image is built from; None: it is its vendor's, and pulled."""
        return str(self.said["build"]["dockerfile"]) if "build" in self.said else None

    @property
    def profiles(self) -> list[str]:
        """It is started only when one of these is wanted; without any, always."""
        return list(self.said.get("profiles", []))

    @property
    def ports(self) -> list[int]:
        """Its ports on this machine. (v1 renders them as text, v2 as a table.)"""
        return [int(port["published"] if isinstance(port, dict) else port.split(":")[-2]) for port in self.said.get("ports", [])]

    @property
    def label(self) -> Mapping[str, str]:
        """What the table says of it: `address` and `purpose`."""
        return {key.removeprefix("kpi-flow."): value for key, value in self.said.get("labels", {}).items()}


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the project, as docker sees it now."""

    service: str
    name: str
    status: str  # "Up 3 seconds (healthy)", "Exited (0) 2 minutes ago"

    @property
    def is_well(self) -> bool:
        """Healthy; or a job that is done."""
        return "(healthy)" in self.status or self.status.startswith("Exited (0)")

    @property
    def is_over(self) -> bool:
        """It has ended, and not well, or does again and again."""
        return self.status.startswith(("Exited", "Dead", "Restarting")) and not self.is_well


@dataclass
class Compose:
    """The project. `environ` fills in the variables of the files, after what .env says."""

    command: list[str] = field(default_factory=which_compose)
    environ: dict[str, str] = field(default_factory=dict)
    files: Sequence[Path] = (FILE,)

    def start(self, *arguments: str, output: int | IO[str] | None = None, errors: int | None = None) -> "subprocess.Popen[str]":
        """The running command; what it says goes to our output unless told otherwise."""
        files = [word for file in self.files for word in ("--file", str(file))]
        whole = [*self.command, "--project-name", PROJECT, *files, *arguments]
        environ = {**os.environ, "COMPOSE_PROFILES": ",".join(PROFILES), **self.environ}
        return subprocess.Popen(whole, env=environ, text=True, stdout=output, stderr=errors)

    def run(self, *arguments: str) -> int:
        """Its exit code; it says to our output what it says."""
        return self.start(*arguments).wait()

    def services(self) -> list[Service]:
        """Every service of the files, in their order."""
        process = self.start("config", output=subprocess.PIPE, errors=subprocess.PIPE)
        output, errors = process.communicate()
        if process.returncode:
            raise ClusterError(f"{self.files[-1].name}: {last_line(errors)}")
        return [Service(name, said) for name, said in yaml.safe_load(output)["services"].items()]

    def containers(self) -> Iterator[Container]:
        """Every container of the project."""
        form = '{{.Label "com.docker.compose.service"}}\t{{.Names}}\t{{.Status}}'
        listed = docker("ps", "--all", "--filter", f"label=com.docker.compose.project={PROJECT}", "--format", form)
        for line in listed.stdout.splitlines():
            yield Container(*line.split("\t"))


def last_line(text: str) -> str:
    """What a program said at the end."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "said nothing")
