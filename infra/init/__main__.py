"""`make init`: a clone becomes one's own project. In: a name, a cluster's topics. Out: changed files, once a person agrees.

The package, the README and the compose project get the name; a kpi.toml that is the template's is written from the topics at
KAFKA_BOOTSTRAP_SERVERS, with their schemas in schemas/ for `make test-kpi`. DEMO=remove takes the demo out. A second run changes nothing.

Exit code 0: done, or nothing to do; 1: not wanted; 2: it cannot be done, and the line says why.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.fields import Schema, SchemaError, read_schema
from flows.question import agreed
from infra.init.declared import HEAD, declared, is_templates
from infra.init.demo import without_demo
from infra.init.found import found
from infra.init.name import checked, renamed
from infra.init.tree import Tree, changes_of_its_own, read, told, write

ROOT = Path(__file__).parents[2]
DONE, DECLINED, IMPOSSIBLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser("python -m infra.init", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="", help="the project's name, as my-kpis")
    parser.add_argument("--demo", choices=["keep", "remove"], default="keep", help="whether the demo stays")
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        return _refuse(f"unknown: {' '.join(unknown)}; --help says what there is", "init")
    yes = environ.get("YES") == "1"
    try:
        name = checked(given.name)
    except ValueError as error:
        return _refuse(str(error))
    if not yes and (count := changes_of_its_own(root)):
        return _refuse(f"{count} files are changed and not committed: commit them first, or YES=1")
    before = read(root)
    after, notes = _made(before, name, remove=given.demo == "remove", environ=environ)
    lines = told(before, after)
    sys.stdout.write("".join(f"{line}\n" for line in [f"{name}:", *lines, *notes]) if lines else "nothing to do\n")
    if not lines:
        return DONE
    if not (yes or agreed(f"change {len(lines)} files?")):
        return DECLINED
    write(root, before, after)
    _sort_imports(root, [path for path in after if path.endswith(".py") and before.get(path) != after[path]])
    sys.stdout.write("done; git diff shows it. Then: make check, make test\n")
    return DONE


def _made(before: Tree, name: str, *, remove: bool, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The repository as it will be, and what a person should know of it."""
    after, notes = renamed(before, name), list[str]()
    if remove:
        after, notes = without_demo(after)
    config = after.get("kpi.toml", "")
    if not is_templates(config):
        return after, [*notes, "kpi.toml is yours: left as it is"]
    there = found(environ)
    if there.schemas:
        after["kpi.toml"] = declared(there.schemas)
        after.pop("schemas/.gitkeep", None)
        after |= {f"schemas/{topic}.avsc": _pretty(schema) for topic, schema in there.schemas.items() if _is_whole(schema)}
        return after, [*notes, f"kpi.toml is written from {len(there.schemas)} topics: {', '.join(sorted(there.schemas))}"]
    if remove:
        after["kpi.toml"] = HEAD
    said = "declares no topic now, so all KPIs are derived" if remove else "was left as it is"
    return after, [*notes, f"kpi.toml {said} ({there.why})"]


def _is_whole(schema: Schema) -> bool:
    """Whether its text needs no other."""
    try:
        read_schema(schema.id, schema.text)
    except SchemaError:
        return False
    return True


def _pretty(schema: Schema) -> str:
    return json.dumps(json.loads(schema.text), indent=2, ensure_ascii=False) + "\n"


def _sort_imports(root: Path, paths: Sequence[str]) -> None:
    """A module that has moved stands elsewhere in the order of imports."""
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["check", "--quiet", "--select", "I", "--fix"], ["format", "--quiet"]):
        if paths:
            subprocess.run([*ruff, *words, *paths], cwd=root, check=False)


def _refuse(line: str, program: str = "make init") -> int:
    sys.stderr.write(f"{program}: {line}\n")
    return IMPOSSIBLE


if __name__ == "__main__":
    sys.exit(main())
