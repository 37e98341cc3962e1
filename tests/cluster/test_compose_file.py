"""What docker compose makes of infra/docker-compose.yml and docker-compose.scale.yml: what every service must have. Starts nothing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.cluster import passwords
from infra.cluster.compose import FILE, SCALE, Compose, Service


def rendered(*files: Path) -> list[Service]:
    passwords.make()
    return Compose(environ={"BASE_IMAGE": "base"}, files=files).services()


SERVICES = rendered(FILE)
SCALED = rendered(FILE, SCALE)
FLOWS = [service for service in SCALED if service.name.startswith("flow")]
OWN = {"KPI_PROCESS_ID", "KPI_METRICS_PORT", "KPI_ADDRESSES"}  # what the processes of a flow in several containers have beside the lone one

each = pytest.mark.parametrize("service", [*SERVICES, *FLOWS], ids=[service.name for service in [*SERVICES, *FLOWS]])


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
    ports = [port for service in SCALED for port in service.ports]
    assert len(ports) == len(set(ports))


def test_scaled_out_only_the_flow_is_another() -> None:
    others = {service.name: ordered(service) for service in SCALED if service not in FLOWS}
    assert others == {service.name: ordered(service) for service in SERVICES if service.name != "flow"}


def ordered(service: Service) -> dict[str, Any]:
    """As it was said; v1 renders volumes in any order."""
    return {name: sorted(said, key=str) if name == "volumes" else said for name, said in service.said.items()}


def test_every_process_of_the_flow_is_run_as_the_lone_one_is() -> None:
    (lone,) = (ordered(service) for service in SERVICES if service.name == "flow")
    for service in map(ordered, FLOWS):
        differing = {name for name in {*lone, *service} if lone.get(name) != service.get(name)}
        assert differing <= {"environment", "networks", "labels", "ports"}
        theirs, ours = service["environment"], lone["environment"]
        assert {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)} <= OWN


def test_the_processes_of_the_flow_find_one_another_and_prometheus_finds_them() -> None:
    addresses = {service.said["environment"]["KPI_ADDRESSES"] for service in FLOWS}
    (hosts,) = ([address.partition(":")[0] for address in given.split(";")] for given in addresses)
    names = [{service.name, *service.said["networks"]["default"]["aliases"]} for service in FLOWS]
    for number, service in enumerate(FLOWS):
        assert service.said["environment"]["KPI_PROCESS_ID"] == str(number)
        assert int(service.said["environment"]["KPI_METRICS_PORT"]) + number == 8000
        assert [host for host in hosts if host in names[number]] == [hosts[number]]
        assert "flow" in names[number]
    assert len(hosts) == len(FLOWS)
