"""`make repair` and `make replay-dead` on a real broker, after the literal flow."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from audit.topic import CannotVerifyError
from audit.write import Entry, write
from flows.registry import Registry
from infra.embedded import Cluster
from tests.integration.audits import SALE, Audit, again, ran, sale
from tests.integration.running import ROOT, T0_MS, now_ms, until


@pytest.mark.timeout(400)  # ten runs of a command
def test_a_repair_holds_the_late_messages_verify_agrees_and_a_second_one_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    audit = ran(cluster, tmp_path, "mend.")
    before = {kind: audit.kept(f"kpi.mend.sales.{kind}") for kind in ("1s", "5s")}

    asked = audit.run("audit.repair", "mend.sales")
    assert asked.returncode == 1
    assert " -> " in asked.stdout
    assert "nothing was changed; to do it: YES=1" in asked.stdout
    starts = re.findall(r"^(\d+s) \[(\S+Z), ", asked.stdout, re.MULTILINE)
    assert len(starts) == 10
    assert starts == sorted(starts)
    code, told = audit.ask("audit.repair", signal.SIGINT)
    assert code == 130, told
    assert told.splitlines()[-1].endswith("stopped; nothing was changed")
    assert len(audit.kept("kpi.mend.sales.1s")) == len(before["1s"])

    mended = audit.run("audit.repair", "mend.sales", "--yes")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "rows published" in mended.stdout
    for kind, messages in before.items():
        rows = {message.key(): (message.partition(), audit.row(message)) for message in messages}
        new = audit.kept(f"kpi.mend.sales.{kind}")
        repaired = [message for message in new if audit.row(message)["closed_by"] == "repair"]
        assert repaired
        known = [message for message in repaired if message.key() in rows]
        assert known, "no row has the key of an earlier one"
        for message in known:
            partition, old = rows[message.key()]
            row = audit.row(message)
            assert message.partition() == partition
            assert row["final"]
            assert row["revision"] == old["revision"] + 1
            assert row["events"] > old["events"]
            assert set(json.loads(dict(message.headers())["kpi.repair"])) == {"0", "1", "2"}

    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert " repaired) of " in said.stdout
    second = audit.run("audit.repair", "mend.sales", "--yes")
    assert second.returncode == 0
    assert second.stdout.startswith("nothing to do: ")

    with audit.flow.running() as child:  # one more late message, after the repair
        audit.topic.send([sale(T0_MS + 5_000, "b", 7)], 0, T0_MS + 21_000)
        late = len(audit.kept("kpi.late"))
        until(lambda: len(audit.kept("kpi.late")) > late or _late(audit, "mend.sales", sale(T0_MS + 5_000, "b", 7)), 60, child)
        assert audit.flow.end(child) == 0
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr  # repaired rows hold the late messages of then, not this one
    third = audit.run("audit.repair", "mend.sales", "--yes")
    assert "rows published" in third.stdout
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.timeout(240)
def test_after_a_reset_a_repair_is_done_once_more(cluster: Cluster, tmp_path: Path) -> None:
    audit = ran(cluster, tmp_path, "redo.")
    first = audit.run("audit.repair", "redo.sales", "--yes")
    assert "rows published" in first.stdout
    assert audit.run("flows.supervise", "--reset", "--yes").returncode == 0
    again(audit)
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert " repaired) of " not in said.stdout
    assert audit.run("audit.repair", "redo.sales", "--yes").stdout == first.stdout
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert " repaired) of " in said.stdout


def _late(audit: Audit, topic: str, event: dict[str, Any]) -> bool:
    wanted = audit.topic.encoded(event)
    return any(m.value() == wanted and dict(m.headers())["kpi.topic"] == topic.encode() for m in audit.kept("kpi.late"))


def _unknown(audit: Audit) -> tuple[int, dict[str, Any]]:
    """An id that the registry will give to the next schema, and that schema."""
    one = now_ms()  # the registry gives what it has met already its former id
    schema = {**SALE, "fields": [*SALE["fields"], {"name": f"note_{one}", "type": ["null", "string"], "default": None}]}
    registry = Registry(audit.cluster.registry_url)
    probe = registry.register(f"probe-{one}-value", json.dumps({"type": "record", "name": f"P{one}", "fields": []}))
    return probe + 1, schema


def _unreadable(audit: Audit, child: "subprocess.Popen[bytes]") -> tuple[int, dict[str, Any], bytes]:
    """After one event that the flow has read: such an id, its schema, and a message that nobody can read before it is registered."""
    topic = audit.topic
    topic.send([sale(T0_MS)], 0, T0_MS)
    until(lambda: f"kpi.{topic.name}.1s" in topic.admin.list_topics(timeout=10).topics, 60, child)  # its schemas are registered
    time.sleep(1)
    next_id, schema = _unknown(audit)
    return next_id, schema, b"\0" + next_id.to_bytes(4, "big") + topic.encoded(sale(T0_MS + 8_000, "b"))[5:] + b"\0"


@pytest.mark.timeout(240)
def test_dead_letters_are_replayed_once_after_the_fix_and_then_counted(cluster: Cluster, tmp_path: Path) -> None:
    audit = Audit.of(cluster, tmp_path, "dead.", 1)
    topic = audit.topic
    with audit.flow.running() as child:
        next_id, schema, unreadable = _unreadable(audit, child)
        topic.send([unreadable, unreadable, b"{}{}{}"], 0, T0_MS + 8_000)
        topic.send([sale(T0_MS + 8_000)], 0, T0_MS + 8_000)

        def letters() -> list[Any]:
            return [m for m in audit.kept("kpi.dead-letters") if dict(m.headers())["kpi.topic"] == b"dead.sales"]

        until(lambda: len(letters()) == 3, 60, child)
        assert audit.flow.end(child) == 0
    said = audit.run("audit.replay", "dead.sales", "--yes")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "dead letters: 1 magic, 2 schema" in said.stdout
    assert "still not usable: 1 magic, 2 schema" in said.stdout
    assert "nothing to do" in said.stdout

    wrong = audit.run("audit.replay", "dead.sales", "schema,shema")
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert "REASON: got 'shema', want some of size,short,magic,schema,malformed,range,time,future\n" in wrong.stderr

    assert Registry(cluster.registry_url).register("dead.sales-value", json.dumps(schema)) == next_id  # the fix
    fastavro.parse_schema(schema)
    asked = audit.run("audit.replay", "dead.sales", "schema")
    assert asked.returncode == 1
    assert "usable now: 2, of which 0 would be late" in asked.stdout
    size = len(audit.kept("dead.sales"))
    done = audit.run("audit.replay", "dead.sales", "schema", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 messages written to dead.sales" in done.stdout
    new = audit.kept("dead.sales")[size:]
    assert [(m.key(), m.value(), m.timestamp()[1], dict(m.headers())["kpi.replayed"]) for m in new] == [
        (b"key", unreadable, T0_MS + 8_000, str(offset).encode()) for offset in (1, 2)
    ]
    second = audit.run("audit.replay", "dead.sales", "--yes")
    assert "replayed before: 2" in second.stdout
    assert "nothing to do" in second.stdout
    assert len(audit.kept("dead.sales")) == size + 2

    with audit.flow.running() as child:
        topic.send([sale(T0_MS + 20_000)], 0, T0_MS + 20_000)
        until(lambda: any(audit.row(m)["events"] == 3 for m in audit.kept("kpi.dead.sales.1s") if audit.row(m)["final"]), 60, child)
        assert audit.flow.end(child) == 0
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr
    assert "taken as given: 2 schema" in said.stdout


@pytest.mark.timeout(240)
def test_dead_letters_from_before_a_reset_are_not_replayed_as_the_flow_has_met_their_messages_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    audit = Audit.of(cluster, tmp_path, "former.", 1)
    topic = audit.topic
    with audit.flow.running() as child:
        next_id, schema, unreadable = _unreadable(audit, child)
        topic.send([unreadable, sale(T0_MS + 20_000)], 0, T0_MS)
        until(lambda: any(dict(m.headers())["kpi.topic"] == b"former.sales" for m in audit.kept("kpi.dead-letters")), 60, child)
        assert audit.flow.end(child) == 0
    assert Registry(cluster.registry_url).register("former.sales-value", json.dumps(schema)) == next_id  # the fix
    assert audit.run("flows.supervise", "--reset", "--yes").returncode == 0
    with audit.flow.running() as child:
        until(lambda: sum(audit.row(m)["final"] for m in audit.kept("kpi.former.sales.1s")) == 9, 60, child)  # 3, and again with 3
        assert audit.flow.end(child) == 0
    said = audit.run("audit.replay", "former.sales", "--yes")
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout == "dead letters: none\nnothing to do\n"
    said = audit.verify()
    assert said.returncode == 0, said.stdout + said.stderr


def test_a_replay_that_is_stopped_has_written_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """Stopped while it waits for the answer of a terminal, and before its transaction ends."""
    audit = Audit.of(cluster, tmp_path, "stop.", 1)
    script = (
        "import itertools, os, sys, time\n"
        "from audit.write import Entry, write\n"
        "def entries():\n"
        "    for number in itertools.count():\n"
        "        if number == 1000: print('half', flush=True)\n"
        "        if number > 1000: time.sleep(0.01)\n"
        "        yield Entry('stop.sales', b'k', b'v' * 100, [], 0)\n"
        "try:\n"
        "    write({'bootstrap.servers': sys.argv[1]}, 'stop.-replay', entries())\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script, cluster.bootstrap], env=environ, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 130
    assert audit.kept("stop.sales") == []


def test_an_entry_that_the_broker_refuses_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    audit = Audit.of(cluster, tmp_path, "refused.", 1)
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    resource = ConfigResource(ConfigResource.Type.TOPIC, "refused.sales")
    resource.incremental_configs = [ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET)]
    admin.incremental_alter_configs([resource])[resource].result(10)
    large = random.Random(1).randbytes(2_000)
    entries = [Entry("refused.sales", b"k", value, [], 0) for value in (b"small", large, b"small")]
    with pytest.raises(CannotVerifyError, match=r"nothing was written: Broker: Message size too large"):
        write({"bootstrap.servers": cluster.bootstrap}, "refused.-replay", entries)
    assert audit.kept("refused.sales") == []
