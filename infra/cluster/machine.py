"""Whether this machine can run the cluster. In: docker, ports, memory. Out: nothing, or ClusterError with the way on."""

from collections.abc import Iterable

from infra.cluster.compose import Container, Service, docker, last_line
from infra.cluster.errors import ClusterError
from infra.embedded.child import is_free

NEEDED_GIB = 3.0  # measured: 1.8 GiB with the profile apps, and what is pulled comes on top


def check_daemon() -> None:
    """Docker answers, and has memory enough."""
    answer = docker("info", "--format", "{{.MemTotal}}", timeout_s=20)
    if answer.returncode or not answer.stdout.strip().isdecimal():
        said = last_line(answer.stderr or answer.stdout)
        if "permission denied" in said:
            raise ClusterError("you may not use docker: sudo usermod -aG docker $USER, then log in again")
        raise ClusterError("the Docker daemon does not answer: start it (sudo systemctl start docker, or Docker Desktop)")
    check_memory(int(answer.stdout) / 2**30)


def check_memory(gib: float) -> None:
    """There is enough of it."""
    if gib < NEEDED_GIB:
        raise ClusterError(
            f"Docker has {gib:.1f} GiB of memory, the cluster needs {NEEDED_GIB:g}: give it more (Docker Desktop: Settings, Resources)"
        )


def check_ports(services: Iterable[Service], containers: Iterable[Container]) -> None:
    """Nobody else listens where a service that is not running yet is to be published."""
    running = {container.service for container in containers if container.status.startswith("Up")}
    for service in services:
        for port in service.ports:
            if service.name not in running and not is_free(port):
                raise ClusterError(f"port {port} of {service.name} is in use: end what listens there (ss -ltnp 'sport = :{port}' names it)")
