"""`python -m infra.cluster COMMAND`: up, down, ps, logs, clean-data, doctor. Out: an exit code, and lines for people."""

import argparse
import os
import sys

from flows.question import agreed
from infra.cluster import passwords
from infra.cluster.compose import FILE, PROFILES, PROJECT, SCALE, Compose
from infra.cluster.doctor import doctor
from infra.cluster.errors import ClusterError
from infra.cluster.machine import check_daemon
from infra.cluster.up import up


def say(line: str) -> None:
    """Progress for a person at a terminal."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def clean_data(compose: Compose) -> int:
    """Remove the cluster and all it remembers, after asking."""
    if os.environ.get("YES") != "1":
        say(f"This removes the containers of {PROJECT} and their volumes: every topic, schema, metric and recovery snapshot.")
        if not agreed("Go on?"):
            say("nothing was removed; to do it without being asked: make clean-data YES=1")
            return 1
    return compose.run("down", "--volumes")


def run(command: str, compose: Compose, said: argparse.Namespace) -> int:
    """The exit code of one command. Raises ClusterError."""
    if command == "up":
        up(compose, say, said.profile)
        return 0
    if command == "doctor":
        return 0 if doctor(os.environ, say) else 1
    check_daemon()
    if made := passwords.make():  # the compose file wants every one of them, to end what runs as well
        say(passwords.told(made))
    match command:
        case "logs":
            return compose.run("logs", "--tail=100", "--follow", *said.service)
        case "clean-data":
            return clean_data(compose)
        case _:
            return compose.run(command)


def main() -> int:
    """0 when done, 1 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m infra.cluster", description="The cluster of infra/docker-compose.yml.")
    commands = parser.add_subparsers(dest="command", required=True)
    starts = commands.add_parser("up", help="build, start, wait until healthy, and show a table")
    starts.add_argument("--scale", action="store_true", help="the flow in several containers")
    starts.add_argument("--profile", action="append", default=[], choices=PROFILES, help="services that are wanted too")
    commands.add_parser("down", help="stop and remove the containers; data stays")
    commands.add_parser("ps", help="which services run")
    commands.add_parser("logs", help="what a service says").add_argument("service", nargs="*")
    commands.add_parser("doctor", help="name the first hop from here to the charts that is broken")
    commands.add_parser("clean-data", help="remove containers and data, after asking")
    said = parser.parse_args()
    try:
        one = said.command == "up" and not said.scale  # every other command knows of all that may run
        return run(said.command, Compose(files=(FILE,) if one else (FILE, SCALE)), said)
    except ClusterError as error:
        say(f"make {said.command}: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
