"""`python -m infra.embedded [COMMAND ...]`: a real Kafka and registry for as long as COMMAND runs, or until Ctrl-C."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time

from infra.embedded.child import leashed
from infra.embedded.cluster import Cluster, cluster, say_to_stderr
from infra.embedded.errors import PartError
from infra.embedded.jars import broker_classpath, registry_directory


def main() -> int:
    """Start both, run the command, stop both. Result: the command's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.embedded",
        description="Starts a real Kafka and a real schema registry on free ports, runs COMMAND with KAFKA_BOOTSTRAP_SERVERS and "
        "SCHEMA_REGISTRY_URL set, and ends everything. Without COMMAND it runs until Ctrl-C. Data is removed at the end.",
    )
    parser.add_argument("--download", action="store_true", help="only download what a start needs (200 MB, once)")
    parser.add_argument("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and arguments")
    arguments, unknown = parser.parse_known_args()
    if unknown:
        say_to_stderr(f"embedded: unknown: {' '.join(unknown)}; --help says what there is")
        return 2
    command: list[str] = arguments.command
    if command and not shutil.which(command[0]):
        say_to_stderr(f"embedded: cannot run {command[0]}: there is no such program")
        return 127  # as a shell has it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        if arguments.download:
            broker_classpath(say_to_stderr)
            registry_directory(say_to_stderr)
            return 0
        with cluster() as started:
            return run(command, started) if command else wait_for_ever(started)
    except KeyboardInterrupt:
        return 0 if not command else 130
    except PartError as error:
        say_to_stderr(f"embedded: {error}")
        return 1


def run(command: list[str], started: Cluster) -> int:
    """The command's exit code, 128 and more when a signal ended it.

    Ctrl-C reaches the command by itself, as it is in our process group, and is its own business; any other signal is passed on.
    """
    process = subprocess.Popen(leashed(command), env={**os.environ, **started.environ})
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.terminate())
    code = process.wait()
    return code if code >= 0 else 128 - code


def wait_for_ever(started: Cluster) -> int:
    """Print what clients need, then watch the children until Ctrl-C."""
    for name, setting in started.environ.items():
        sys.stdout.write(f"export {name}={setting}\n")
    sys.stdout.flush()
    say_to_stderr("running; Ctrl-C ends both and removes their data")
    while True:
        for child in started.children:
            if child.exit_code is not None:
                raise PartError(child.obituary())
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
