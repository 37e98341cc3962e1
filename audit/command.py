"""What the three commands have in common. In: a parser's description, the work to do. Out: exit codes; one line where it cannot be done."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence

from audit.moment import moment_ms
from audit.recompute import DuckError
from audit.survey import Ground, ground
from audit.topic import CannotVerifyError, progress
from flows.errors import ConfigError
from flows.fields import SchemaError
from flows.registry import Away, Refused

DONE, DECLINED, IMPOSSIBLE, STOPPED = 0, 1, 2, 130


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """The command's arguments, of which the topic is the first."""
    made = argparse.ArgumentParser(f"audit.{name}", description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("topic", help="a source topic, as shop.orders")
    made.add_argument("--since", type=moment_ms, metavar="TIME", help="what was published before counts no more (ISO, UTC)")
    made.add_argument("--from", dest="begin", type=moment_ms, metavar="TIME", help="leave out windows that begin before (ISO, UTC)")
    return made


def command(
    made: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    environ: Mapping[str, str],
    work: Callable[[Ground, argparse.Namespace], int],
) -> int:
    """Do the work; its exit code, or IMPOSSIBLE with the reason, or STOPPED after Ctrl-C."""
    given = made.parse_args(arguments)
    try:
        with ground(environ, progress) as where:
            return work(where, given)
    except (CannotVerifyError, ConfigError, SchemaError, Refused, Away, DuckError) as error:
        print(f"{made.prog}: cannot be done: {error}", file=sys.stderr)
        return IMPOSSIBLE
    except KeyboardInterrupt:
        print("stopped; nothing was changed", file=sys.stderr)
        return STOPPED
