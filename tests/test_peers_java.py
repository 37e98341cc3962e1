"""The Java peers of `make bench` are what they say they are; that they compute what they should is checked before their time counts."""

import re
import tomllib
from pathlib import Path

import pytest

from bench.peers.java import FLINK_SQL, HERE, KAFKA_STREAMS, Program
from infra.embedded.jars import LOCK, locked

PROGRAMS = {program.directory: program for program in (KAFKA_STREAMS, FLINK_SQL)}


def versions(lock: Path) -> dict[str, str]:
    return {pin.artifact: pin.version for pin in locked(lock)}


def lock_of(program: Program) -> Path:
    return HERE / program.directory / "jgo.lock.toml"


def source(program: Program, name: str) -> str:
    return next(file for file in program.sources if file.stem == name).read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_lock_holds_what_is_asked_for(name: str) -> None:
    asked = tomllib.loads((HERE / name / "jgo.toml").read_text())["dependencies"]["coordinates"]
    got = {f"{pin.group}:{pin.artifact}:{pin.version}" for pin in locked(HERE / name / "jgo.lock.toml")}
    assert set(asked) - got == set()


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_that_is_started_is_among_the_sources(name: str) -> None:
    package, main = PROGRAMS[name].main.split(".")
    text = source(PROGRAMS[name], main)
    assert f"package {package};" in text
    assert "public static void main" in text


def test_kafka_streams_is_of_the_brokers_version() -> None:
    peer, broker = versions(lock_of(KAFKA_STREAMS)), versions(LOCK)
    assert {peer["kafka-streams"], peer["kafka-clients"]} == {broker["kafka-clients"]}


def test_all_of_flink_is_of_one_version() -> None:
    other = re.compile("flink-(shaded|connector-kafka)")  # these count by themselves
    flink = {version for name, version in versions(lock_of(FLINK_SQL)).items() if name.startswith("flink-") and not other.match(name)}
    assert len(flink) == 1


def test_each_peer_says_its_version() -> None:
    streams, flink = versions(lock_of(KAFKA_STREAMS)), versions(lock_of(FLINK_SQL))
    assert f"Kafka Streams {streams['kafka-streams']}," in source(KAFKA_STREAMS, "KafkaStreamsPeer")
    said = f"Flink SQL {flink['flink-runtime']} with its Kafka connector {flink['flink-connector-kafka']},"
    assert said in source(FLINK_SQL, "FlinkSqlPeer")


def test_the_format_that_flink_looks_up_is_there() -> None:
    named = (HERE / "flink_sql/META-INF/services/org.apache.flink.table.factories.Factory").read_text().split()
    assert named == ["peers.ClickFormat"]
    assert "public final class ClickFormat implements DeserializationFormatFactory" in source(FLINK_SQL, "ClickFormat")


def test_a_line_of_java_fits_a_screen() -> None:
    files = {file for program in PROGRAMS.values() for file in program.sources}
    assert [f"{file.name}: {line}" for file in files for line in file.read_text().splitlines() if len(line) > 140 or "\t" in line] == []
