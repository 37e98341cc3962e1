"""The documentation against the code: every statement names its test, every setting and command is real, every link leads somewhere.

On the pages HELD each sentence, and each row of a table, ends in a footnote, which links the tests that hold it.
"""

import ast
import importlib.util
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import prometheus_client
import pytest

from flows import declaration, kpi, metrics, recovery, stop
from flows.connection import variable
from flows.declaration import AGGREGATES, Choice, Defaults, TopicSaid, parse
from flows.intake import CAUSES, FATES
from flows.records import DEAD, Origin, set_aside
from serve import metrics as dashboard_metrics
from tests.test_layers import sources

ROOT = Path(__file__).parents[1]
HELD = ("docs/time.md", "docs/contracts.md", "docs/guarantees.md", "docs/testing.md")
NOTED = (*HELD, "docs/scaling.md")  # advice stands between what is held
PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOOTNOTE = re.compile(r"^\[\^([\w-]+)\]: (.*)$", re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def functions_of(file: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def statements(text: str) -> Iterator[str]:
    """Paragraphs, list items and rows of tables; no headings, drawings or heads of tables."""
    for block in re.split(r"\n{2,}", FOOTNOTE.sub("", FENCE.sub("", text))):
        parts = re.split(r"\n(?=- |\|)", block.strip())
        if len(parts) > 1 and set(parts[1]) <= set("|- "):
            parts = parts[2:]
        yield from (part.removeprefix("- ").strip("| ") for part in parts if part and not part.startswith("#"))


def rows(name: str, heading: str) -> list[list[str]]:
    """The cells of every table under a heading, without the heads of the tables; what is code stands bare."""
    section = re.split(r"^#+ ", page(name).split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"^\|.*\n\|[-| ]+\n((?:\|.*\n)+)", section, re.MULTILINE)
    return [[cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for table in tables for line in table.splitlines()]


def documented(heading: str) -> list[str]:
    return [row[0].strip("` ") for row in rows("docs/contracts.md", heading)]


@pytest.mark.parametrize("name", HELD)
def test_every_statement_names_the_test_that_holds_it(name: str) -> None:
    bare = [statement for statement in statements(page(name)) if not re.search(r"\[\^[\w-]+\]$", statement)]
    assert bare == []
    unmarked = [statement for statement in statements(page(name)) if re.search(r"[.!?](?=\s|$)", re.sub(r"`[^`]*`", "", statement))]
    assert unmarked == []


@pytest.mark.parametrize("name", NOTED)
def test_every_footnote_is_used_and_links_tests_that_exist(name: str) -> None:
    text = page(name)
    notes = FOOTNOTE.findall(text)
    assert sorted(key for key, _ in notes) == sorted(set(re.findall(r"\[\^([\w-]+)\](?!:)", text)))
    for key, note in notes:
        links = LINK.findall(note)
        assert links, f"{key}: names no test"
        assert LINK.sub("", note).strip(", ") == "", f"{key}: more than links"
        for test, target in links:
            assert test in functions_of((ROOT / name).parent / target), f"{key}: no {test} in {target}"


def test_every_test_that_is_named_anywhere_exists() -> None:
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    known = {test for file in files for test in functions_of(file)} | {file.stem for file in files}
    assert {f"{name}: {test}" for name in PAGES for test in re.findall(r"\btest_\w+", page(name)) if test not in known} == set()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    broken = []
    for _, target in LINK.findall(FENCE.sub("", page(name))):
        path, _, anchor = target.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        if "://" in target:
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


# Settings


@pytest.mark.parametrize(("heading", "model"), [("### `[defaults]`", Defaults), ('### `[topics."…"]`', TopicSaid)])
def test_every_setting_is_documented_and_every_documented_one_exists(heading: str, model: type[Defaults | TopicSaid]) -> None:
    assert documented(heading) == list(model.model_fields)


def test_the_documented_defaults_are_those_of_the_code() -> None:
    shown = [f"{row[0]} = {row[1]}" for row in rows("docs/contracts.md", "### `[defaults]`")]
    assert parse("\n".join(["[defaults]", *shown])).defaults == Defaults()
    assert set(tomllib.loads(shown[-1])["topics"]) == set(Choice.model_fields)


def test_the_example_has_every_setting_and_every_aggregate_and_parses() -> None:
    (text,) = (body for kind, body in FENCE.findall(page("docs/contracts.md")) if kind == "toml")
    file = parse(text).file
    assert file.defaults.model_fields_set == set(Defaults.model_fields)
    assert set[str]().union(*(said.model_fields_set for said in file.topics.values())) == set(TopicSaid.model_fields)
    assert {kpi.aggregate for said in file.topics.values() for kpi in said.kpis.values()} == set(AGGREGATES)


def test_every_aggregate_is_documented_with_what_it_can_measure() -> None:
    shown = {row[0]: row[1] for row in rows("docs/contracts.md", "### Aggregates")}
    others = {"count": '"*"`, or any field', "rate": '"*"', "ratio": "two KPIs"}
    assert shown == {name: others.get(name, ", ".join(kinds)) for name, kinds in AGGREGATES.items()}


def test_every_environment_variable_that_is_read_is_documented_and_no_other() -> None:
    of_clients = {variable("bootstrap.servers"), variable("x.y"), f"{variable('x.y')}_FILE"}  # connection.py reads them by their beginning
    assert set(documented("## Environment")) == read_variables() | of_clients


def read_variables() -> set[str]:
    """Names that the code looks up in an environment: `environ.get("X")`, `environ["X"]`, `f(environ, "X")`.

    Those of the cluster and its monitor stand in infra/README.md.
    """
    found = set()
    for file in sources("flows", "serve", "infra/embedded").values():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and any(_is_environ(part) for part in [getattr(node.func, "value", None), *node.args]):
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
            elif isinstance(node, ast.Subscript) and _is_environ(node.value) and isinstance(node.slice, ast.Constant):
                found.add(str(node.slice.value))
    return {name for name in found if re.fullmatch(r"[A-Z][A-Z0-9_]+", name)}


def _is_environ(node: object) -> bool:
    return (isinstance(node, ast.Name) and node.id == "environ") or (isinstance(node, ast.Attribute) and node.attr == "environ")


# What comes out


def test_every_fate_is_documented_in_the_order_in_which_they_apply() -> None:
    fates = [row[0] for row in rows("docs/contracts.md", "## Fates and books")]
    assert [fate for fate in fates if not fate.startswith("kpi_")] == list(FATES)


def test_every_cause_of_a_late_record_is_documented() -> None:
    (sentence,) = (statement for statement in statements(page("docs/time.md")) if "`kpi.error`" in statement)
    assert re.findall(r"`(\w+)`", sentence) == ["data", "joined", "idle"] == list(CAUSES)


def test_every_header_is_documented() -> None:
    made = set_aside(DEAD, None, None, Origin("t", 0, 0, 0, "magic", "", 1))
    assert documented("## Late records and dead letters") == [*(name for name, _ in made.headers), "kpi.truncated"]


def test_every_metric_is_documented_with_its_labels() -> None:
    shown = {row[0]: row[1] for row in rows("docs/contracts.md", "## Fates and books") if row[0].startswith("kpi_")}
    assert shown == {
        f"{metric._name}{'_total' if metric._type == 'counter' else ''}": ", ".join(f"`{label}`" for label in metric._labelnames).strip("`")
        for metric in vars(metrics).values()
        if isinstance(metric, prometheus_client.Counter | prometheus_client.Gauge | prometheus_client.Histogram)
    }


def test_every_metric_of_the_dashboard_is_documented() -> None:
    shown = [row[0] for row in rows("docs/contracts.md", "## Dashboard") if row[0].startswith("dashboard_")]
    assert shown == [
        f"{metric._name}{'_total' if metric._type == 'counter' else ''}"
        for metric in vars(dashboard_metrics).values()
        if isinstance(metric, prometheus_client.Counter | prometheus_client.Gauge | prometheus_client.Histogram)
    ]


def test_the_numbers_of_what_shares_the_work_are_those_of_the_code() -> None:
    shown = [int(row[2]) for row in rows("docs/scaling.md", "## What shares the work")]
    assert shown == [declaration.READERS, declaration.MOST_SHARDS, kpi.SINK_PARTS, recovery.PARTS]


def test_every_exit_code_is_documented() -> None:
    shown = {row[1]: int(row[0]) for row in rows("docs/contracts.md", "## What is promised")}
    assert shown == {name: code for name, code in vars(stop).items() if isinstance(code, int)}


# The README


def commands() -> list[tuple[str, str]]:
    """Each command of the README, and the output that is shown below it."""
    found = []
    for kind, body in FENCE.findall(page("README.md")):
        if kind == "console":
            parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
            found += [(command, output.strip()) for command, _, output in (part.partition("\n") for part in parts)]
            assert found[-1][1], f"{found[-1][0]}: shows no output"
    return found


def test_the_readme_says_how_large_the_project_is() -> None:
    said = re.search(r"(\d+) modules, ([\d,]+) lines", page("README.md"))
    assert said
    files = sources("flows", "serve").values()
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert int(said[1]) == pytest.approx(len(files), rel=0.1)
    assert int(said[2].replace(",", "")) == pytest.approx(lines, rel=0.1)


def test_the_readme_begins_with_the_first_command() -> None:
    assert "$ make demo" in page("README.md").splitlines()[:10]


def test_every_command_of_the_readme_is_there_and_its_output_shown() -> None:
    told = [command for command, _ in commands()]
    assert {"make demo", "make setup", "make test", ".venv/bin/bokeh serve dashboard"} <= set(told)
    assert [command for command in told if not is_known([word for word in command.split() if not re.match(r"[A-Z_]+=", word)])] == []


def is_known(words: Sequence[str]) -> bool:
    match [word.removeprefix(".venv/bin/") for word in words]:
        case ["make", target]:
            return re.search(rf"^{target}:", page("Makefile"), re.MULTILINE) is not None
        case ["python", "-m", "bytewax.run", flow, *_]:
            return importlib.util.find_spec(flow) is not None
        case ["python", "-m", module, *_]:
            return importlib.util.find_spec(module) is not None
        case ["bokeh", "serve", directory]:
            return (ROOT / directory / "main.py").exists()
        case ["mkdir", _]:
            return True
    return False


def test_the_tree_in_the_readme_has_every_folder() -> None:
    (tree,) = (body for kind, body in FENCE.findall(page("README.md")) if kind == "" and "flows/" in body and "tests/" in body)
    shown = re.findall(r"^(\w+)/ ", tree, re.MULTILINE)
    assert sorted(shown) == sorted(
        each.name for each in ROOT.iterdir() if each.is_dir() and not each.is_symlink() and each.name[0] not in "._"
    )
