"""`make init` beside a real cluster: kpi.toml is written from the topics that are there."""

import json
import shutil
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from flows.declaration import parse
from flows.registry import Away, Registry
from infra.embedded import Cluster
from infra.init.__main__ import main

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SCHEMA = {
    "type": "record",
    "name": "Visit",
    "fields": [
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "seconds", "type": "double", "unit": "s"},
        {"name": "page", "type": {"type": "record", "name": "Page", "fields": [{"name": "bytes", "type": "int"}]}},
    ],
}


def registered(registry: Registry, subject: str) -> int:
    """A machine that is busy with other tests may answer late: then it is asked again."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return registry.register(subject, json.dumps(SCHEMA))
        except Away:
            assert time.monotonic() < end


def test_topics_of_the_cluster_are_declared_with_their_schemas_and_once(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    for future in admin.create_topics([NewTopic("init.visits", 1), NewTopic("init.text", 1)]).values():
        future.result(timeout=60)
    registered(Registry(cluster.registry_url), "init.visits-value")
    shutil.copy(ROOT / "kpi.toml", tmp_path)
    environ = {**cluster.environ, "YES": "1"}

    end = time.monotonic() + PATIENCE_S
    while (code := main(["my-kpis"], environ, tmp_path)) == 0 and "init.visits" not in (said := capsys.readouterr().out):
        assert time.monotonic() < end, said
    assert code == 0
    text = (tmp_path / "kpi.toml").read_text(encoding="utf-8")
    topics = parse(text).file.topics
    assert "init.text" not in topics
    assert (topics["init.visits"].time, sorted(topics["init.visits"].kpis)) == (
        "at",
        ["page.bytes_max", "page.bytes_mean", "page.bytes_min", "rate", "seconds_max", "seconds_mean", "seconds_min"],
    )
    assert json.loads((tmp_path / "schemas" / "init.visits.avsc").read_text(encoding="utf-8"))["name"] == "Visit"

    (tmp_path / "kpi.toml").write_text(text.replace("[[]]", "[[], ['page.bytes']]"), encoding="utf-8")
    assert main(["my-kpis"], environ, tmp_path) == 0
    assert capsys.readouterr().out == "nothing to do\n"
