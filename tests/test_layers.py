"""Imports point one way, libraries stay where they belong, and the repository names no machine."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "serve", "audit", "infra", "bench", "kpitest", "tests")

# A module imports from its own layer and from those above it in this list.
LAYERS = (
    {"errors", "stop"},  # why something ends
    {"outage", "exposition", "question"},  # whether Kafka answers
    {"durations", "windows"},
    {"loops"},  # what is compiled
    {"encoder"},  # Avro in columns
    {
        "said",
        "declaration",
        "spelling",
        "evolution",
        "fields",
        "connection",
        "registry",
        "topics",
        "recovery",
        "demo",
    },  # the outside world, one idea each
    {"expressions", "versions"},  # what may be computed from one event
    {"plan", "explain"},
    {
        "wire",
        "batches",
        "columns",
        "cursor",
        "message",
        "slices",
        "limit",
        "aggregates",
        "tallies",
        "sketches",
        "runs",
        "watermark",
    },
    {"assembly", "kinds", "hopping", "since", "tiers"},  # windows of other kinds, and what a change brings
    {"vault"},  # what is written of a state
    {"fold", "rest"},
    {"records"},
    {"strangers"},  # partitions that hold no Avro
    {"intake"},  # batches to events and records set aside
    {"raw", "metrics", "outputs", "services", "reader", "delivery", "edge", "transactions"},  # the parts of source and sink
    {"source", "sink", "topology"},
    {"kpi", "simulate"},
    {"reset", "link"},
    {"supervise"},  # the flow from outside
    {"inquiry"},  # what people ask about it
)

# Who may import what. Everything else in flows and serve must do without.
FLOWS_MAY_IMPORT = {
    "bytewax": {"source", "sink", "topology", "kpi", "simulate"},
    "polars": {
        "fields",
        "expressions",
        "versions",
        "plan",
        "wire",
        "batches",
        "columns",
        "intake",
        "strangers",
        "slices",
        "limit",
        "windows",
        "assembly",
        "kinds",
        "hopping",
        "tiers",
        "vault",
        "since",
        "aggregates",
        "tallies",
        "sketches",
        "runs",
        "fold",
        "rest",
        "records",
        "encoder",
    },
    "numba": {"loops"},
    "xxhash": {"sketches"},
    "kafka": {"raw", "reader"},
    "confluent_kafka": {"connection", "registry", "topics", "outputs", "services", "delivery", "edge", "transactions", "simulate", "reset"},
}
SERVE_MAY_IMPORT = {
    "confluent_kafka": {"feed", "history", "lag"},
    "bokeh": {"lines", "charts", "cards", "controls", "overview", "pace", "page", "site", "dashboard.main", "dashboard.app_hooks"},
    "tornado": {"site", "dashboard.app_hooks"},
}
LIBRARIES = {
    library: {
        f"{package}.{module}"
        for package, allowed in (("flows", FLOWS_MAY_IMPORT), ("serve", SERVE_MAY_IMPORT))
        for module in allowed.get(library, ())
    }
    for library in (*FLOWS_MAY_IMPORT, "bokeh", "tornado")
}

# What of flows a reader of KPI topics needs: how to reach Kafka and the registry, what went wrong there, how lengths of time are spelled.
SERVE_KNOWS = {"connection", "registry", "fields", "errors", "exposition", "durations"}

# The audit is an independent second program: it shares what is declared, and what things are called, but nothing that reads or computes.
AUDIT_KNOWS = {
    "windows",
    "connection",
    "registry",
    "topics",
    "declaration",
    "plan",
    "fields",
    "expressions",
    "records",
    "errors",
    "question",
}
AUDIT_MAY_IMPORT = {
    "duckdb": {"recompute", "survey", "limit", "rows", "stretches"},
    "fastavro": {"decode", "published", "repair"},
    "confluent_kafka": {"topic", "write", "published", "replay"},
    "polars": {"decode", "measure", "gather", "aside", "published", "replay", "spool"},
    "numpy": {"gather", "aside"},
}

# What acts on the world, or asks it something. A module that says "Pure." has none of it.
ACTS = {"bytewax", "confluent_kafka", "kafka", "bokeh", "os", "sys", "signal", "socket", "subprocess", "threading", "time", "random"}


def sources(*packages: str) -> dict[str, Path]:
    """Dotted module name -> file."""
    files = [file for package in packages for file in sorted((ROOT / package).rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


def imports(file: Path) -> Iterator[str]:
    """Every module or name that a file imports, dotted: `from flows import wire` gives flows.wire."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute here"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def imported_from(package: str, file: Path) -> set[str]:
    """The modules of a flat package that a file imports."""
    return {name.split(".")[1] for name in imports(file) if name.startswith(f"{package}.")}


FLOWS = {name.removeprefix("flows."): file for name, file in sources("flows").items() if name != "flows.__init__"}


def test_every_module_of_flows_has_a_layer_and_every_layer_its_modules() -> None:
    assert set(FLOWS) == set().union(*LAYERS)


@pytest.mark.parametrize("module", sorted(FLOWS))
def test_imports_point_one_way(module: str) -> None:
    depth = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    assert {name for name in imported_from("flows", FLOWS[module]) if depth[name] > depth[module]} == set()


def test_no_module_imports_itself_around_a_corner() -> None:
    TopologicalSorter({module: imported_from("flows", file) for module, file in FLOWS.items()}).prepare()
    modules = {name.removeprefix("serve."): file for name, file in sources("serve").items()}
    TopologicalSorter({module: imported_from("serve", file) for module, file in modules.items()}).prepare()


@pytest.mark.parametrize("module", sorted(sources("flows", "serve")))
def test_a_library_is_imported_only_where_it_belongs(module: str) -> None:
    known = {name.split(".")[0] for name in imports(sources("flows", "serve")[module])}
    assert {library for library in known & set(LIBRARIES) if module not in LIBRARIES[library]} == set()


def test_every_permission_is_used() -> None:
    modules = sources("flows", "serve")
    used = {
        library: {name for name, file in modules.items() if any(f"{at}.".startswith(f"{library}.") for at in imports(file))}
        for library in LIBRARIES
    }
    assert {library: sorted(allowed - used[library]) for library, allowed in LIBRARIES.items() if allowed - used[library]} == {}


@pytest.mark.parametrize("module", sorted(sources("flows", "serve", "audit", "kpitest")))
def test_a_module_that_says_it_is_pure_imports_nothing_that_acts(module: str) -> None:
    file = sources("flows", "serve", "audit", "kpitest")[module]
    if re.search(r"\bPure\.", ast.get_docstring(ast.parse(file.read_text())) or ""):
        assert {name.split(".")[0] for name in imports(file)} & ACTS == set()


@pytest.mark.parametrize("module", sorted(sources("serve")))
def test_serve_knows_the_kpi_topics_and_not_the_insides_of_the_flow(module: str) -> None:
    assert imported_from("flows", sources("serve")[module]) <= SERVE_KNOWS


AUDIT = {name.removeprefix("audit."): file for name, file in sources("audit").items() if name != "audit.__init__"}


@pytest.mark.parametrize("module", sorted(AUDIT))
def test_the_audit_shares_declarations_and_names_with_the_flow_and_no_computation(module: str) -> None:
    assert imported_from("flows", AUDIT[module]) <= AUDIT_KNOWS
    assert {name for name in imports(AUDIT[module]) if name.startswith("flows.windows.")} <= {"flows.windows.Window"}


def test_each_library_of_the_audit_stays_where_it_belongs() -> None:
    used = {
        library: {module for module, file in AUDIT.items() if any(f"{name}.".startswith(f"{library}.") for name in imports(file))}
        for library in (*AUDIT_MAY_IMPORT, "bytewax", "kafka", "bokeh")
    }
    assert used == {**AUDIT_MAY_IMPORT, "bytewax": set(), "kafka": set(), "bokeh": set()}


def test_nothing_else_needs_the_audit_and_no_module_of_it_imports_itself_around_a_corner() -> None:
    TopologicalSorter({module: imported_from("audit", file) for module, file in AUDIT.items()}).prepare()
    assert {module for module, file in sources("flows", "serve", "infra", "bench").items() if imported_from("audit", file)} == set()


@pytest.mark.parametrize("package", ["flows", "serve", "audit"])
def test_the_product_needs_neither_tests_nor_infrastructure(package: str) -> None:
    found = {f"{module}: {name}" for module, file in sources(package).items() for name in imports(file)}
    assert {line for line in found if re.search(r": (tests|infra|bench|kpitest)\b", line)} == set()
    assert package != "flows" or {line for line in found if ": serve" in line} == set()


@pytest.mark.parametrize("module", sorted(sources(*PACKAGES)))
def test_every_module_opens_with_what_it_is(module: str) -> None:
    assert ast.get_docstring(ast.parse(sources(*PACKAGES)[module].read_text())), f"{module} has no docstring"


def texts() -> Iterator[tuple[Path, str]]:
    """Every text file that a clone holds or that is about to be committed."""
    made = {
        ".git",
        ".venv",
        ".bench",
        ".chaos",
        ".load",
        ".cluster",
        ".demo",
        ".kpi",
        ".hypothesis",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        "__pycache__",
    }
    for file in sorted(ROOT.rglob("*")):
        if file.is_file() and not made & set(file.relative_to(ROOT).parts):
            try:
                yield file, file.read_text()
            except UnicodeDecodeError:
                continue


def test_the_repository_names_no_directory_of_a_machine_and_no_package_index() -> None:
    directories = r"(?<![\w.~}])/(?:work|root|home|opt|tmp)/\w"
    indexes = r"(?:pypi|pythonhosted|maven)\.(?:org|apache)|--(?:extra-)?index-url\b(?! --)|--find-links\b"
    found = [
        f"{file.relative_to(ROOT)}:{number}: {match[0]}"
        for file, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        for match in re.finditer(f"{directories}|{indexes}", line)
        if file != Path(__file__)
    ]
    assert found == []
