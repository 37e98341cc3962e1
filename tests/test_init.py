"""`make init`, on copies of this repository: what is left is a whole project. Holds in a project that it has made, too."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings

from flows.declaration import parse
from flows.fields import SchemaError, read_schema
from flows.plan import plan
from infra.init.__main__ import main
from infra.init.declared import declared, is_templates
from infra.init.demo import GONE, MOVED, without_demo
from infra.init.name import checked, renamed
from infra.init.tree import read
from tests.avro import Shape, shapes

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.timeout(600)  # whole copies are looked at, by ruff and by tests of their own
NOBODY = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "YES": "1"}
WHOLE = """
import importlib, pathlib, tomllib
from flows.declaration import read_declaration
for file in sorted(pathlib.Path().glob("[a-z]*/**/*.py")):
    if file.parts[0] in ("flows", "serve", "audit", "infra", "kpitest", "bench") and not {"dashboard", "images"} & set(file.parts):
        if file.stem not in ("__main__", "__init__", "quix", "picture"):  # the last two run in the environment of bench/requirements.lock
            importlib.import_module(".".join(file.with_suffix("").parts))
print(len(read_declaration({}).file.topics), tomllib.loads(pathlib.Path("pyproject.toml").read_text())["project"]["name"])
"""


def copy(to: Path) -> Path:
    made = shutil.ignore_patterns(
        "__pycache__", ".git", ".venv", ".bench", ".*_cache", ".hypothesis", ".kpi", ".demo", ".chaos", ".load", ".cluster"
    )
    shutil.copytree(ROOT, to, symlinks=True, ignore=made)
    return to


def run(at: Path, *words: str) -> str:
    """What a Python program says in a copy; it must end with 0."""
    environ = {**os.environ, "PYTHONPATH": str(at), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=at, env=environ, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = copy(tmp_path_factory.mktemp("init") / "kept")
    assert main(["my-kpis"], NOBODY, at) == 0
    return at


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = copy(tmp_path_factory.mktemp("init") / "bare")
    assert main(["my-kpis", "--demo", "remove"], NOBODY, at) == 0
    return at


@pytest.mark.parametrize("project", ["kept", "bare"])
def test_what_is_left_imports_is_clean_and_points_one_way(project: str, request: pytest.FixtureRequest) -> None:
    at = request.getfixturevalue(project)
    assert run(at, "-c", WHOLE).split()[-1] == "my-kpis"
    run(at, "-c", "import flows.kpi")
    run(at, "-m", "ruff", "check", "--no-cache", ".")
    run(at, "-m", "ruff", "format", "--no-cache", "--check", ".")
    run(at, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_layers.py")


def test_what_is_left_is_documented_and_its_programs_say_what_they_are(bare: Path) -> None:
    run(bare, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_docs.py", "tests/test_commands.py", "tests/kpi")


def test_the_name_is_that_of_package_readme_and_compose(kept: Path) -> None:
    assert (kept / "README.md").read_text(encoding="utf-8").startswith("# my-kpis\n")
    assert 'name = "my-kpis"\n' in (kept / "pyproject.toml").read_text(encoding="utf-8")
    assert 'PROJECT = "my-kpis"\n' in (kept / "infra/cluster/compose.py").read_text(encoding="utf-8")
    before, after = read(ROOT), read(kept)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed <= {"README.md", "pyproject.toml", "infra/cluster/compose.py"}


def test_without_the_demo_nobody_speaks_of_it(bare: Path) -> None:
    for path in (*GONE, *MOVED):
        assert not (bare / path).exists()
    spoken = {
        path
        for path, text in read(bare).items()
        if ("make demo" in text or "DEMO_SECONDS" in text or "flows.simulate" in text)
        and not path.startswith(("CHANGELOG", "docs/decisions", "infra/init", "tests/test_init"))
    }
    assert spoken == set()
    assert parse((bare / "kpi.toml").read_text(encoding="utf-8")).file.topics == {}


def test_every_passage_of_the_demo_is_where_it_is_looked_for() -> None:
    after, missed = without_demo(read(ROOT))
    assert missed == []
    assert without_demo(after) == (after, [])


@pytest.mark.parametrize("more", [[], ["--demo", "remove"]])
def test_a_second_run_changes_nothing(more: list[str], request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    at = request.getfixturevalue("bare" if more else "kept")
    before = read(at)
    assert main(["my-kpis", *more], NOBODY, at) == 0
    assert read(at) == before
    assert capsys.readouterr().out == "nothing to do\n"


def test_it_shows_what_it_will_do_and_without_a_yes_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = copy(tmp_path / "copy")
    before = read(at)
    assert main(["my-kpis"], NOBODY | {"YES": ""}, at) == 1
    assert read(at) == before
    said = capsys.readouterr().out
    assert "  change  pyproject.toml\n" in said
    assert "kpi.toml was left as it is (" in said or "kpi.toml is yours: left as it is\n" in said


def test_changes_that_are_not_committed_are_not_mixed_with_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = copy(tmp_path / "copy")
    subprocess.run(["git", "init", "--quiet"], cwd=at, check=True)
    assert main(["my-kpis"], NOBODY | {"YES": ""}, at) == 2
    assert "are changed and not committed: commit them first, or YES=1" in capsys.readouterr().err
    assert main(["my-kpis"], NOBODY, at) == 0


@pytest.mark.parametrize("name", ["", "My", "1st", "a--b", "a-", "a b", "ä", "a" * 41, "a\n"])
def test_a_name_that_not_every_place_can_have_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="want a name of small letters"):
        checked(name)
    assert main([name], NOBODY, ROOT) == 2
    assert capsys.readouterr().err.startswith("make init: NAME: got ")


def test_a_name_replaces_another() -> None:
    tree = read(ROOT)
    assert renamed(renamed(tree, "one"), "two") == renamed(tree, "two")


@settings(deadline=None, max_examples=50)
@given(shapes())
def test_what_is_declared_at_first_is_what_would_be_derived(shape: Shape) -> None:
    try:
        schema = read_schema(1, json.dumps(shape.schema))
    except SchemaError:
        return
    text = declared({"my.topic": schema})
    derived, said = plan(parse(""), "my.topic", [schema]), plan(parse(text), "my.topic", [schema])
    assert (said.kpis, said.time, said.group_sets) == (derived.kpis, derived.time, derived.group_sets)
    assert not is_templates(text)
    assert set(tomllib.loads(text)["topics"]) == {"my.topic"}
