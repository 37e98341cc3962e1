"""Examples in docstrings say what is so."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    file
    for package in ("flows", "serve", "kpitest", "tests/chaos")
    for file in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in file.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_examples_of_a_module_are_so(file: Path) -> None:
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))

    assert doctest.testmod(module) == doctest.TestResults(failed=0, attempted=file.read_text(encoding="utf-8").count(">>> "))


def test_the_spellings_that_people_write_have_examples() -> None:
    assert {"durations", "said", "windows"} <= {file.stem for file in FILES}
