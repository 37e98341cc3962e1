"""What docker compose makes of infra/docker-compose.yml: what every service must have, whoever wrote it. Starts nothing."""

import re
from collections.abc import Iterator

import pytest

from infra.cluster import passwords
from infra.cluster.compose import Compose, Service


def rendered() -> list[Service]:
    passwords.make()
    return Compose(environ={"BASE_IMAGE": "base"}).services()


SERVICES = rendered()


each = pytest.mark.parametrize("service", SERVICES, ids=[service.name for service in SERVICES])


def test_every_service_of_the_table_is_there() -> None:
    names = {service.name for service in SERVICES}
    assert names >= {"zookeeper", "kafka1", "kafka2", "kafka3", "registry", "monitor", "burrow", "prometheus"}
    assert names >= {"grafana", "zoonavigator", "cmak", "cmak-init", "lenses", "lenses-agent", "simulator", "flow", "dashboard"}


def published(service: Service) -> Iterator[str]:
    for port in service.said.get("ports", []):
        yield port["host_ip"] if isinstance(port, dict) else port.rpartition(":")[0].rpartition(":")[0]


@each
def test_it_is_published_on_this_machine_alone(service: Service) -> None:
    assert set(published(service)) <= {"127.0.0.1"}


@each
def test_it_is_no_root_and_has_no_capabilities(service: Service) -> None:
    assert str(service.said["user"]) not in {"", "0", "root"}
    assert service.said["cap_drop"] == ["ALL"]
    assert service.said["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "network_mode", "devices"} & set(service.said)


@each
def test_its_image_is_pinned_its_memory_limited_and_its_health_checked(service: Service) -> None:
    assert re.search(r":\d+(\.\d+)+$", service.image), service.image
    assert service.said["mem_limit"]
    assert service.said["healthcheck"]["test"]


@each
def test_its_table_row_says_what_it_is_for(service: Service) -> None:
    assert service.label["purpose"]


def test_no_secret_has_a_default() -> None:
    own = set(passwords.ENV.read_text().splitlines())
    secret = re.compile("PASSWORD|SECRET|TOKEN|KEY$")
    found = [
        (name, str(value)) for service in SERVICES for name, value in service.said.get("environment", {}).items() if secret.search(name)
    ]
    assert found
    made = {line.partition("=")[2] for line in own}
    assert [name for name, value in found if value not in made or len(value) < 16] == []


def test_the_ports_are_all_different() -> None:
    ports = [port for service in SERVICES for port in service.ports]
    assert len(ports) == len(set(ports))
