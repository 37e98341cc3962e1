"""The demo taken out. In: the repository as texts. Out: the same without it, and what could not be found. Pure.

`make demo`, its program, test, KPIs and passages go. What makes its events stays as test equipment, outside of the flow: `make load` and
`make test-cluster` measure with them. It moves to infra/traffic, schemas included, so that `flows/` and `schemas/` are the project's own.
"""

import re
from typing import NamedTuple

from infra.init.tree import Tree

TRAFFIC = "infra/traffic"
GONE = ("infra/embedded/demo.py", "tests/integration/test_demo.py")
SCHEMAS = ("shop.orders", "sensors.readings", "payments.authorizations")
MOVED = {
    "flows/simulate.py": f"{TRAFFIC}/simulate.py",
    "flows/demo.py": f"{TRAFFIC}/demo.py",
    **{f"schemas/{topic}.avsc": f"{TRAFFIC}/schemas/{topic}.avsc" for topic in SCHEMAS},
}
HISTORY = ("CHANGELOG.md", "docs/decisions/", "infra/init/", "tests/test_init.py")  # these speak of what was
EVERYWHERE = (
    (r"\bflows([./])simulate\b", r"infra\1traffic\1simulate"),
    (r"\bflows([./])demo\b", r"infra\1traffic\1demo"),
    (r"from flows import demo, simulate\n", "from infra.traffic import demo, simulate\n"),
    (r"from flows import demo, topics\n", "from flows import topics\nfrom infra.traffic import demo\n"),
    (rf"(?<!traffic/)schemas/({'|'.join(map(re.escape, SCHEMAS))})\.avsc", rf"{TRAFFIC}/schemas/\1.avsc"),
)


class Edit(NamedTuple):
    """What a file says of the demo (a regular expression), and what it says without."""

    path: str
    old: str
    new: str = ""


EDITS = (
    Edit("Makefile", r" demo(?= up )"),
    Edit("Makefile", r"(?m)^demo: .*\n\t.*\n\n"),
    Edit(".ci/run", r"(?m)^DEMO_SECONDS=\d+ make demo\n"),
    Edit(".ci/run", r" a short demo,"),
    Edit(".dockerignore", r"(?m)^!infra/monitor\n", "!infra/monitor\n!infra/traffic\n"),
    Edit(f"{TRAFFIC}/simulate.py", r'(?m)^(SCHEMAS = .*)\.parent\.parent / "schemas"', r'\1.parent / "schemas"'),
    Edit("tests/test_simulate.py", r"(simulate\.__file__\)\.parents)\[1\]", r"\1[2]"),
    Edit("tests/test_layers.py", r'(?m), "demo"(?=[,}])|^ *"demo",\n'),
    Edit("tests/test_layers.py", r', "simulate"(?=[,}])'),
    Edit("tests/test_commands.py", r'(?m)^    "infra\.embedded\.demo": .*\n'),
    Edit("tests/test_docs.py", r'"\$ make demo"', '"$ make setup"'),
    Edit("tests/test_docs.py", r'"make demo", '),
    Edit("serve/words.py", r"<code>make demo</code> or "),
    Edit("README.md", r" The first start takes about two minutes .*"),
    Edit("README.md", r"(?s)```console\n\$ make setup\n.*?```\n\n(?=None at hand)"),
    Edit("README.md", r"(?s)\$ make demo\n.*?\n```\n\n.*?\n\n", "$ make setup\nmaking .venv with Python 3.11.7 ...\n```\n\n"),
    Edit("README.md", r"the demo's events(?=:)", "simulated events"),
    Edit("README.md", r"other demo events \| \[schemas/\]\(schemas\)", f"other simulated events | [schemas/]({TRAFFIC}/schemas)"),
    Edit("README.md", r"; simulate\.py makes the demo events"),
    Edit("README.md", r"the Avro schemas of the demo events", "the Avro schemas of your topics, for make test-kpi"),
    Edit("README.md", r"for demo and tests;", "for tests; traffic/: simulated events;"),
    Edit("docs/contracts.md", r" and of `make demo`"),
    Edit("docs/contracts.md", r"`make demo` reads these too", "The Kafka of the tests reads this too"),
    Edit("docs/contracts.md", r"(?m)^\| `(?:DEMO_SECONDS|SIM_\w+)` \|.*\n"),
    Edit("docs/contracts.md", r"(?m)^\[\^simulate[\w-]*\]: .*\n"),
)


def without_demo(tree: Tree) -> tuple[dict[str, str], list[str]]:
    """The repository without its demo, and a line for each passage that was not found: a person has changed it, and has a look.

    One that has none is returned as it is.
    """
    if not set(tree) & {*GONE, *MOVED}:
        return dict(tree), []
    made = {MOVED.get(path, path): text for path, text in tree.items() if path not in GONE}
    made[f"{TRAFFIC}/__init__.py"] = '"""Simulated events: what `make load` and `make test-cluster` measure with."""\n'
    if not any(path.startswith("schemas/") for path in made):
        made["schemas/.gitkeep"] = ""
    for path, text in made.items():
        if not path.startswith(HISTORY):
            for old, new in EVERYWHERE:
                text = re.sub(old, new, text)  # noqa: PLW2901 - step by step
            made[path] = text
    missed = []
    for edit in EDITS:
        text, count = re.subn(edit.old, edit.new, made.get(edit.path, ""))
        if count:
            made[edit.path] = text
        else:
            missed.append(f"{edit.path}: not as expected, look for yourself: {edit.old}")
    return made, missed
