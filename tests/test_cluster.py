"""`make up` where something is missing, and what it says then. What it does with Docker is tested in tests/cluster."""

import io
import re
import socket
import stat
from pathlib import Path

import pytest

from infra.cluster import machine, passwords
from infra.cluster.__main__ import main
from infra.cluster.compose import FILE, INFRA, SCALE, Container, Service, docker, which_compose
from infra.cluster.doctor import doctor
from infra.cluster.errors import ClusterError
from infra.cluster.up import check_terms, table, without
from infra.monitor.__main__ import DEFAULTS


def service(name: str, *, needs: tuple[str, ...] = (), port: int | None = None) -> Service:
    said = {
        "image": f"{name}:1",
        "depends_on": {need: {} for need in needs},
        "labels": {"kpi-flow.address": "x:1", "kpi-flow.purpose": "y"},
    }
    return Service(name, {**said, "ports": [f"127.0.0.1:{port}:80"] if port else []})


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH with nothing in it; a test puts its programs there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, name: str, script: str) -> None:
    (path / name).write_text(f"#!/bin/sh\n{script}\n")
    (path / name).chmod(0o755)


@pytest.mark.usefixtures("path")
def test_without_docker_one_line_says_how_to_get_it() -> None:
    with pytest.raises(ClusterError, match=r"docker is not here: install it \(Debian: apt install"):
        docker("info")


def test_without_compose_one_line_says_how_to_get_it(path: Path) -> None:
    program(path, "docker", "exit 1")
    with pytest.raises(ClusterError, match="neither v2 nor v1: install it"):
        which_compose()


def test_both_composes_will_do_and_v2_is_taken_first(path: Path) -> None:
    program(path, "docker", "exit 1")
    program(path, "docker-compose", "")
    assert which_compose() == ["docker-compose"]
    program(path, "docker", "exit 0")
    assert which_compose() == ["docker", "compose"]


def test_without_a_daemon_one_line_says_how_to_start_it(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program(path, "docker", 'case $1 in compose) exit 0;; esac; echo "Cannot connect to the Docker daemon at unix:///x." >&2; exit 1')
    monkeypatch.setattr("sys.argv", ["cluster", "up"])
    assert main() == 1
    said = capsys.readouterr().out
    assert re.fullmatch(r"make up: the Docker daemon does not answer: start it \(sudo systemctl start docker.*\)\n", said)


def test_who_may_not_use_docker_is_told_how_to_be_allowed(path: Path) -> None:
    program(path, "docker", 'echo "dial unix /var/run/docker.sock: connect: permission denied" >&2; exit 1')
    with pytest.raises(ClusterError, match="usermod -aG docker"):
        machine.check_daemon()


def test_too_little_memory_is_said_with_how_much_there_should_be(path: Path) -> None:
    program(path, "docker", f"echo {2 * 2**30}")
    with pytest.raises(ClusterError, match=r"2\.0 GiB of memory, the cluster needs 3"):
        machine.check_daemon()
    program(path, "docker", f"echo {4 * 2**30}")
    machine.check_daemon()


def test_data_is_removed_only_when_somebody_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(path, "docker", f'case $1 in compose) echo "$*" >> {path}/asked;; *) echo {4 * 2**30};; esac')
    monkeypatch.setattr("sys.argv", ["cluster", "clean-data"])
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))  # no terminal: nobody has read the question
    assert main() == 1
    assert "make clean-data YES=1" in capsys.readouterr().out
    assert "--volumes" not in (path / "asked").read_text()
    monkeypatch.setenv("YES", "1")
    assert main() == 0
    assert (path / "asked").read_text().rstrip().endswith("down --volumes")


def test_what_is_scaled_out_is_known_to_every_command_and_ended_by_an_up_without_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path, "docker", f'case "$*" in "compose version") ;; compose*) echo "$*" >> {path}/asked; exit 1;; *) echo {4 * 2**30};; esac')
    for command in (["up"], ["up", "--scale"], ["down"]):
        monkeypatch.setattr("sys.argv", ["cluster", *command])
        assert main() == 1
        assert (str(SCALE) in (path / "asked").read_text().splitlines()[-1]) == (command != ["up"])


def test_a_port_in_use_is_named_unless_the_cluster_itself_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ClusterError, match=f"port {port} of web is in use"):
            machine.check_ports([service("web", port=port)], [])
        machine.check_ports([service("web", port=port)], [Container("web", "kpi-flow_web_1", "Up 3 seconds")])
    machine.check_ports([service("web", port=port)], [])


def test_what_needs_something_that_is_left_out_is_left_out_too() -> None:
    services = [service("a"), service("b"), service("c", needs=("b",)), service("d", needs=("c",))]
    assert [kept.name for kept in without(services, {"b"})] == ["a"]
    assert without(services, set()) == services


@pytest.mark.parametrize("said", [{}, {"LENSES_ACCEPT_EULA": "true"}, {"LENSES_ACCEPT_EULA": "yes", "LENSES_LICENSE": "x"}])
def test_lenses_is_not_started_before_somebody_has_agreed_to_its_terms(said: dict[str, str]) -> None:
    with pytest.raises(ClusterError, match="read its terms"):
        check_terms(said)
    check_terms({"LENSES_ACCEPT_EULA": "true", "LENSES_LICENSE": "x"})


def test_the_table_has_a_line_for_each_service() -> None:
    assert table([service("kafka1"), service("zookeeper")]).splitlines() == ["    kafka1     x:1  y", "    zookeeper  x:1  y"]


@pytest.mark.parametrize(
    ("status", "well", "over"),
    [
        ("Up 3 seconds (healthy)", True, False),
        ("Up 3 seconds (health: starting)", False, False),
        ("Exited (0) 1 second ago", True, False),
        ("Exited (137) 1 second ago", False, True),
        ("Restarting (1) 1 second ago", False, True),
    ],
)
def test_a_container_is_well_when_healthy_or_a_job_that_is_done(status: str, *, well: bool, over: bool) -> None:
    container = Container("x", "x", status)
    assert (container.is_well, container.is_over) == (well, over)


def test_passwords_are_made_once_kept_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    env, example = tmp_path / ".env", tmp_path / ".env.example"
    example.write_text("# words\nA_PASSWORD=\nB_SECRET=\n")
    first = passwords.make(env, example)
    assert set(first) == {"A_PASSWORD", "B_SECRET"}
    assert min(map(len, first.values())) >= 20
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert passwords.make(env, example) == {}
    example.write_text("# words\nA_PASSWORD=\nB_SECRET=\nC_PASSWORD=\n")
    assert set(passwords.make(env, example)) == {"C_PASSWORD"}
    assert set(env.read_text().splitlines()) >= {f"{name}={value}" for name, value in first.items()}


def test_the_doctor_names_the_first_hop_that_is_broken_and_its_fix_and_a_kafka_of_ones_own_needs_no_docker(path: Path) -> None:
    program(path, "docker", "exit 1")
    said = list[str]()
    assert not doctor({}, said.append)
    assert re.match(r"broken  host       the Docker daemon does not answer: .*\n        fix: install Docker", said[0])
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert not doctor({"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{port}"}, said.append)
    assert re.match(rf"broken  listener   127.0.0.1:{port} accepts no connection .*\n        fix: make up", said[1])
    assert len(said) == 2


# infra/README.md


def documented() -> dict[str, str]:
    """Setting -> default, of every table of the page."""
    page = (INFRA / "README.md").read_text()
    return {name: value.strip() for name, value in re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| `?([^|`]*)`? ?\|", page, re.MULTILINE)}


def test_every_setting_of_the_compose_file_is_documented_with_its_default() -> None:
    found = re.findall(r"\$\{([A-Z_]+):([-?])([^}]*)\}", FILE.read_text() + SCALE.read_text())
    defaults = {name: default if kind == "-" else "made" for name, kind, default in found if name not in DEFAULTS}
    assert {name: value for name, value in documented().items() if name not in DEFAULTS} == defaults


def test_every_setting_of_the_monitor_is_documented_with_its_default() -> None:
    assert {name: value for name, value in documented().items() if name in DEFAULTS} == DEFAULTS


def test_every_service_is_documented() -> None:
    texts = [file.read_text().partition("\nservices:")[2] for file in (FILE, SCALE)]
    services = re.findall(r"^  ([a-z0-9-]+):$", "".join(texts), re.MULTILINE)
    page = (INFRA / "README.md").read_text()
    assert [name for name in services if f"`{name}`" not in page] == []
