"""The real parts without Docker: they are ours, they keep what they were told, they leave nothing behind."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra import embedded
from infra.embedded import jars
from infra.embedded.child import Child, free_port, is_free
from infra.embedded.registry import Registry

ROOT = Path(__file__).parents[2]
RECORD = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}%s]}'


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.Cluster]:
    """A cluster that may be stopped and killed."""
    with embedded.cluster(home=tmp_path_factory.mktemp("cluster")) as started:
        yield started


def write(cluster: embedded.Cluster, topic: str, values: Sequence[bytes], timestamp: int = 1) -> None:
    """Produce and wait for every delivery."""
    failed = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "message.timeout.ms": 30_000})
    for value in values:
        producer.produce(topic, value, timestamp=timestamp, on_delivery=lambda error, _: failed.append(error) if error else None)
    assert producer.flush(30) == 0
    assert failed == []


def read(cluster: embedded.Cluster, topic: str, count: int) -> list[Message]:
    """The first `count` messages of partition 0."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "test", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    messages = [message for _ in range(count) if (message := consumer.poll(20)) is not None]
    consumer.close()
    assert [message.error() for message in messages] == [None] * count
    return messages


def create(cluster: embedded.Cluster, topic: str) -> None:
    """One partition, the cluster's own replication factor."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(topic, 1, -1)])[topic].result(20)


def ask(cluster: embedded.Cluster, method: str, path: str, body: object = None) -> tuple[int, object]:
    """The registry's status and answer."""
    where = urlsplit(cluster.registry_url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=20)
    connection.request(method, where.path + path, json.dumps(body), {"Content-Type": "application/vnd.schemaregistry.v1+json"})
    answer = connection.getresponse()
    content = json.loads(answer.read())
    connection.close()
    return answer.status, content


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m infra.embedded` to its end."""
    command = [sys.executable, "-m", "infra.embedded", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=100, check=False)


class Running:
    """`python -m infra.embedded` in the background, with its temporary directory in `scratch`."""

    def __init__(self, scratch: Path) -> None:
        command = [sys.executable, "-m", "infra.embedded"]
        environ = {**os.environ, "TMPDIR": str(scratch)}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline(), self.process.stdout.readline()]
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.children) == 2

    def end(self, number: signal.Signals) -> int:
        """Send the signal; the exit code, once parent and children are gone."""
        self.process.send_signal(number)
        code = self.process.wait(20)
        _, alive = psutil.wait_procs(self.children, timeout=5)
        for child in alive:
            child.kill()
        assert alive == []
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def test_events_of_any_time_are_taken(own: embedded.Cluster) -> None:
    far = 4_102_444_800_000  # the year 2100
    create(own, "times")
    write(own, "times", [b"old"], timestamp=1_000)
    write(own, "times", [b"future"], timestamp=far)
    assert [message.timestamp()[1] for message in read(own, "times", 2)] == [1_000, far]


def test_a_topic_nobody_created_is_an_error(own: embedded.Cluster) -> None:
    producer = Producer({"bootstrap.servers": own.bootstrap, "message.timeout.ms": 3_000})
    delivered: list[bool] = []
    producer.produce("typing.error", b"", on_delivery=lambda error, _: delivered.append(error is None))
    producer.flush(20)
    assert delivered == [False]
    assert "typing.error" not in AdminClient({"bootstrap.servers": own.bootstrap}).list_topics(timeout=10).topics


def test_a_broker_that_restarts_keeps_its_address_and_its_messages(own: embedded.Cluster) -> None:
    before = own.bootstrap
    create(own, "kept")
    write(own, "kept", [b"stopped"])
    own.stop_broker()
    own.start_broker()
    write(own, "kept", [b"killed"])
    own.kill_broker()
    own.start_broker()
    assert [message.value() for message in read(own, "kept", 2)] == [b"stopped", b"killed"]
    assert own.bootstrap == before


def test_a_broker_may_be_started_by_a_thread_that_ends(own: embedded.Cluster) -> None:
    own.stop_broker()
    thread = threading.Thread(target=own.start_broker)
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert own.children[0].exit_code is None


def test_a_registry_that_restarts_keeps_its_address_and_its_ids(own: embedded.Cluster) -> None:
    url = own.registry_url
    ids = [
        ask(own, "POST", f"/subjects/kept-{number}-value/versions", {"schema": RECORD % f', {{"name": "b{number}", "type": "int"}}'})
        for number in (1, 2)
    ]
    own.stop_registry()
    own.start_registry()
    ids.append(ask(own, "POST", "/subjects/kept-3-value/versions", {"schema": RECORD % ""}))
    own.kill_registry()
    own.start_registry()
    assert own.registry_url == url
    assert ids == [(200, {"id": 1}), (200, {"id": 2}), (200, {"id": 3})]
    for number, expected in ((1, "b1"), (2, "b2"), (3, '"a"')):
        status, answer = ask(own, "GET", f"/schemas/ids/{number}")
        assert status == 200
        assert expected in str(answer)


def test_a_new_version_of_a_schema_must_be_backward_compatible(cluster: embedded.Cluster) -> None:
    versions = "/subjects/evolving-value/versions"
    assert ask(cluster, "POST", versions, {"schema": RECORD % ""})[0] == 200
    assert ask(cluster, "POST", versions, {"schema": RECORD % ', {"name": "b", "type": "int"}'})[0] == 409
    assert ask(cluster, "POST", versions, {"schema": RECORD % ', {"name": "b", "type": "int", "default": 0}'})[0] == 200


def test_three_brokers_lose_one_and_go_on() -> None:
    with embedded.cluster(brokers=3, registry=False) as three:
        create(three, "replicated")
        write(three, "replicated", [b"1"])
        topic = AdminClient({"bootstrap.servers": three.bootstrap}).list_topics("replicated", timeout=10).topics["replicated"]
        assert sorted(topic.partitions[0].replicas) == [1, 2, 3]
        three.kill_broker(2)
        write(three, "replicated", [b"2"])
        assert [message.value() for message in read(three, "replicated", 2)] == [b"1", b"2"]


def test_who_listens_is_judged_by_process_and_not_by_port(tmp_path: Path) -> None:
    ours = Child("ours", [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port := str(free_port())], tmp_path / "ours.log")
    other = Child("other", ["sleep", "60"], tmp_path / "other.log")
    ours.wait_until(lambda: ours.listens(int(port)), 20)
    assert not other.listens(int(port))
    ours.stop()
    other.stop()


@pytest.mark.parametrize("part", ["broker", "registry"])
def test_somebody_else_on_the_port_is_an_error_and_never_spoken_to(part: str, own: embedded.Cluster) -> None:
    stop, start = (own.stop_registry, own.start_registry) if part == "registry" else (own.stop_broker, own.start_broker)
    address = urlsplit(own.registry_url if part == "registry" else f"http://{own.bootstrap}")
    stop()
    with socket.socket() as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        foreign.bind((address.hostname, address.port))
        foreign.listen()
        foreign.setblocking(False)
        in_use = "(?:Address already in use|Port .* in use by another process)"
        with pytest.raises(embedded.PartError, match=rf"the {part} at .* ended with exit code 1(?s:.)*{in_use}"):
            start()
        with pytest.raises(BlockingIOError):
            foreign.accept()
    start()


def test_sigterm_ends_both_and_leaves_nothing_behind(tmp_path: Path) -> None:
    running = Running(tmp_path)
    assert [line.split("=")[0] for line in running.said] == ["export KAFKA_BOOTSTRAP_SERVERS", "export SCHEMA_REGISTRY_URL"]
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", "".join(running.said))]
    assert [is_free(port) for port in ports] == [False, False]
    assert len(list(tmp_path.glob("kpi-flow-*"))) == 1
    assert running.end(signal.SIGTERM) == 0
    assert [is_free(port) for port in ports] == [True, True]
    assert list(tmp_path.glob("kpi-flow-*")) == []


def test_kill_9_ends_both_too(tmp_path: Path) -> None:
    assert Running(tmp_path).end(signal.SIGKILL) == -signal.SIGKILL


def test_a_command_gets_the_addresses_and_its_exit_code_is_passed_on() -> None:
    code = "import os, sys; print(os.environ['KAFKA_BOOTSTRAP_SERVERS'], os.environ['SCHEMA_REGISTRY_URL']); sys.exit(7)"
    finished = run(sys.executable, "-c", code)
    assert finished.returncode == 7
    assert re.fullmatch(r"127\.0\.0\.1:\d+ http://127\.0\.0\.1:\d+/apis/ccompat/v7\n", finished.stdout)


def test_ctrl_c_is_the_commands_own_business_and_it_may_take_its_time() -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "signal.signal(signal.SIGINT, lambda *_: (time.sleep(1), sys.exit(5)))\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-m", "infra.embedded", sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == "ready\n"
            os.killpg(running.pid, signal.SIGINT)
            assert running.wait(30) == 5
        finally:
            running.kill()


def test_a_command_that_is_not_there_is_one_clear_line() -> None:
    finished = run("no-such-command")
    assert finished.returncode == 127
    assert finished.stderr == "embedded: cannot run no-such-command: there is no such program\n"


def test_jars_that_cannot_be_had_are_one_clear_line(tmp_path: Path) -> None:
    finished = run("true", XDG_CACHE_HOME=str(tmp_path), HTTPS_PROXY="http://127.0.0.1:1", NO_PROXY="")
    assert finished.returncode == 1
    first, last = finished.stderr.splitlines()
    assert first == "downloading the broker's jars (44 MB) ..."
    assert re.fullmatch(
        r"embedded: cannot download \S+\.jar: the Maven repository cannot be reached; the first start needs the network", last
    )


def test_a_damaged_jar_is_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    jars.broker_classpath(said.append)  # fills the cache if this is the first test
    shutil.copytree(jars.cache_directory() / "jars", tmp_path / "kpi-flow" / "jars", copy_function=os.link)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    smallest = min((tmp_path / "kpi-flow" / "jars").iterdir(), key=lambda jar: jar.stat().st_size)
    smallest.unlink()
    smallest.write_bytes(b"half a fi")
    said.clear()
    assert str(smallest) in jars.broker_classpath(said.append)
    assert said == ["downloading the broker's jars (44 MB) ..."]
    assert [jars.is_whole(tmp_path / "kpi-flow" / "jars" / pin.filename, pin.sha256) for pin in jars.locked(jars.LOCK)].count(False) == 0


def test_a_download_with_another_sha256_is_refused(tmp_path: Path) -> None:
    wrong = replace(min(jars.locked(jars.LOCK), key=lambda pin: len(pin.artifact)), sha256="0" * 64)
    with pytest.raises(embedded.PartError, match=re.escape(f"{wrong.filename}: the download has another sha256")):
        jars.fetch([wrong], tmp_path, lambda: None, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_port_for_a_server_is_never_one_that_clients_are_given() -> None:
    with socket.socket() as client:
        client.bind(("127.0.0.1", 0))
        assert free_port() < 32_000 < client.getsockname()[1]


def test_a_registry_that_was_not_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(embedded.PartError, match="was not started"):
        Registry(tmp_path, tmp_path).running()
