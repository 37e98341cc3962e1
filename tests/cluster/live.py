"""A running cluster as a test meets it: commands, Prometheus, clients."""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka.admin import AdminClient

from infra.cluster.compose import Compose, docker

BOOTSTRAP = "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
REGISTRY = "http://127.0.0.1:8081/apis/ccompat/v7"
PROMETHEUS = "http://127.0.0.1:9090/api/v1"

Answer = TypeVar("Answer")


@dataclass
class Live:
    """What `make up` said, and how long it took."""

    compose: Compose
    said: list[str]
    seconds: float

    def docker(self, command: str, *services: str) -> None:
        """Stop, kill or start services."""
        names = {container.service: container.name for container in self.compose.containers()}
        done = docker(command, *(names[service] for service in services))
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, str]:
        """Service -> how it is."""
        return {container.service: container.status for container in self.compose.containers()}

    def environment(self, service: str) -> list[str]:
        """The variables of a service's container."""
        (name,) = (container.name for container in self.compose.containers() if container.service == service)
        found = docker("inspect", name, "--format", "{{json .Config.Env}}")
        return list(json.loads(found.stdout))


def admin() -> AdminClient:
    return AdminClient({"bootstrap.servers": BOOTSTRAP})


def ask(query: str) -> list[dict[str, Any]]:
    """The samples of a PromQL query now."""
    answer = get(f"{PROMETHEUS}/query?{urllib.parse.urlencode({'query': query})}")
    assert answer["status"] == "success", answer
    return list(answer["data"]["result"])


def number(query: str) -> float | None:
    """The one number that a query gives."""
    found = ask(query)
    return float(found[0]["value"][1]) if found else None


def firing() -> set[str]:
    """The alerts that fire."""
    return {alert["labels"]["alertname"] for alert in get(f"{PROMETHEUS}/alerts")["data"]["alerts"] if alert["state"] == "firing"}


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def post(url: str, body: object) -> tuple[int, Any]:
    """Status and body."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/vnd.schemaregistry.v1+json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def within(limit_s: float, what: Callable[[], Answer]) -> Answer:
    """The first true answer. Fails with the last one."""
    end = time.monotonic() + limit_s
    while True:
        try:
            answer: Answer | Exception = what()
        except (OSError, ValueError) as error:
            answer = error
        if answer and not isinstance(answer, Exception):
            return answer
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {answer!r}"
        time.sleep(1)
