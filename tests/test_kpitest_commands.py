"""`make test-kpi`: files in, lines and an exit code out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kpitest.__main__ import main
from tests.test_kpitest_driver import DECLARED, SCHEMA

EVENTS = """
# three sales
{"defaults": {"amount": "1.00", "shop": {"city": "Rom"}}}
{"timestamp": "2026-11-26T10:00:01Z", "value": {}}
{"timestamp": "2026-11-26T10:00:02Z", "value": {"amount": 2.5}}
{"topic": "sales", "timestamp": 1795687203000, "value": {"shop": {"city": "Bari"}}, "key": {"id": 1}}
{"advance": "5s"}
"""


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "sales.avsc").write_text(json.dumps(SCHEMA))
    (tmp_path / "kpi.toml").write_text(DECLARED)
    return tmp_path


def run(at: Path, events: str = EVENTS, expect: str | None = None, *more: str) -> int:
    (at / "e.jsonl").write_text(events)
    if expect is not None:
        (at / "x.jsonl").write_text(expect)
    return main(["e.jsonl", "--topic", "sales", *(["--expect", "x.jsonl"] if expect is not None else []), *more], {})


def test_without_an_expectation_it_prints_rows_that_are_one(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(at) == 0
    rows = capsys.readouterr().out
    assert [json.loads(line)["sales"] for line in rows.splitlines()] == [3, 1, 2, 3, 1, 2]
    assert run(at, EVENTS, rows) == 0
    assert capsys.readouterr().out == "test-kpi: as expected (6 expected, 6 there)\n"


def test_update_writes_the_expectation_which_then_wants_no_other_rows(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(at, EVENTS, "", "--update") == 0
    assert run(at, EVENTS, (at / "x.jsonl").read_text()) == 0
    capsys.readouterr()
    more = '{"timestamp": "2026-11-26T10:05:00Z", "value": {}}\n'
    assert run(at, EVENTS + more, (at / "x.jsonl").read_text()) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == [
        "differs",
        "differs",
        "differs",
        "differs",
        "differs",
        "differs",
        *["unexpected"] * 4,
        "test-kpi:",
    ]


def test_what_differs_is_said_in_a_line_each_and_one_at_the_end(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expect = """{"only": true, "topic": "kpi.sales.1m"}
{"topic": "kpi.sales.10s", "group_by": [], "sales": 4, "amount": "4.50"}
{"topic": "kpi.sales.10s", "shop_city": "Pisa", "sales": 1}
"""
    assert run(at, EVENTS, expect) == 1
    first, second, *unexpected, last = capsys.readouterr().out.splitlines()
    assert first.startswith('differs    {"topic": "kpi.sales.10s", "window_start": "2026-11-26T10:00:00Z"')
    assert first.endswith(": sales: got 3, want 4")
    assert second == 'missing    {"topic": "kpi.sales.10s", "shop_city": "Pisa", "sales": 1}'
    assert [line.startswith('unexpected {"topic": "kpi.sales.1m"') for line in unexpected] == [True] * 3
    assert last == "test-kpi: 5 rows are not as expected (2 expected, 6 there)"


def test_windows_may_stay_open_at_the_end(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(at, EVENTS + '{"close": false}\n') == 0
    assert {json.loads(line)["final"] for line in capsys.readouterr().out.splitlines()} == {False}


def test_every_kind_of_line_means_what_the_page_says(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = """
// a comment, and an empty line

{"defaults": {"shop": {"city": "Pisa"}}}
{"topic": "sales", "value": {"amount": "9"}, "timestamp": "2026-11-26T10:00:04Z", "key": "k", "partition": 0}
{"raw": "plain text", "key": "raw"}
{"value": null}
"""
    assert run(at, EVENTS + more) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["key"], row["reason"]) for row in rows if row["topic"] == "kpi.dead-letters"] == [("raw", "magic")]
    assert [row["amount"] for row in rows if row.get("shop_city") == "Pisa"] == ["9.00", "9.00"]


def test_the_fixture_runs_the_flow_in_a_project_of_its_own(at: Path) -> None:
    (at / "conftest.py").write_text('pytest_plugins = ["kpitest.plugin"]\n')
    (at / "test_sales.py").write_text("""
from pathlib import Path
import pytest

def test_a_sale_counts(kpi):
    kpi.send("sales", {"amount": "1.50", "shop": {}}, at="2026-11-26T10:00:00Z")
    kpi.advance("1m")
    assert kpi.rows("kpi.sales.10s")[0]["sales"] == 1
    kpi.send("sales", b"no Avro")
    assert len(kpi.dead_letters()) == 1
    assert kpi.late() == []

class TestOther:
    @pytest.fixture
    def kpi_config(self, tmp_path):
        (tmp_path / "other.toml").write_text("[topics.sales.kpis]\\nlargest = { max = 'amount' }")
        return tmp_path / "other.toml"

    def test_another_declaration(self, kpi):
        kpi.send("sales", {"amount": "1.50", "shop": {}}, at="2026-11-26T10:00:00Z")
        assert kpi.rows("kpi.sales.10s")[0]["largest"] == "1.50"
""")
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(at), str(at)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, cwd=at, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"value": }', "no JSON: Expecting value at column 11"),
        ("[1]", "got [1], want an object"),
        ('{"vaule": {}}', "vaule: no such name, want one of topic, "),
        ('{"topic": "sale", "value": {}}', "topic: got 'sale', which has no schema, want one of sales (did you mean 'sales'?)"),
        ('{"value": {"amuont": 1}}', "amuont: no such field, want one of sold_at, amount, shop (did you mean 'amount'?)"),
        ('{"value": {"amount": "x"}, "timestamp": 1}', "amount: got 'x', want a decimal such as \"12.50\""),
        ('{"value": {"amount": 1, "shop": {}}, "timestamp": "soon"}', "at: got 'soon', want a time such as"),
        ('{"value": {}, "partition": -1}', "partition: got -1, want a whole number from 0 to 999"),
        ('{"advance": "soon"}', "advance: got 'soon', want a duration such as"),
        ('{"timestamp": 1}', "value: missing, want an object, or null for a tombstone"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(at: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    assert run(at, f"\n{line}\n") == 2
    assert capsys.readouterr().err.startswith(f"test-kpi: e.jsonl, line 2: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"topic": "kpi.sales.10s", "slaes": 1}', "slaes: no such field in kpi.sales.10s, want one of topic, "),
        ('{"topic": "kpi.sales.10m"}', "topic: got 'kpi.sales.10m', want one of kpi.sales.10s, kpi.sales.1m, kpi.late, kpi.dead-letters"),
    ],
)
def test_an_expectation_that_nothing_could_meet_is_named(at: Path, capsys: pytest.CaptureFixture[str], line: str, said: str) -> None:
    assert run(at, EVENTS, line) == 2
    assert capsys.readouterr().err.startswith(f"test-kpi: x.jsonl, line 1: {said}")


def test_a_schema_may_be_one_file_of_any_name_and_a_declaration_that_does_not_fit_is_one_line(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (at / "schemas" / "sales.avsc").rename(at / "v2.json")
    assert run(at, EVENTS, None, "--schema", "v2.json") == 0
    (at / "kpi.toml").write_text(DECLARED.replace('sum = "amount"', 'sum = "amuont"'))
    capsys.readouterr()
    assert run(at, EVENTS, None, "--schema", "v2.json") == 2
    assert "did you mean 'amount'?" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_directory_without_schemas_is_named(at: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    assert run(at, EVENTS, None, "--schema", where) == 2
    assert capsys.readouterr().err == f"test-kpi: schemas: got {where}, want a directory of <topic>.avsc, or one such file\n"
