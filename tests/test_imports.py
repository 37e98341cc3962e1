"""The first readers do not meet in an import."""

import subprocess
import sys
from pathlib import Path


def test_numpy_is_there_before_polars_so_that_no_thread_imports_it() -> None:
    """A proxy of polars for numpy is not safe in several threads; it is there only when polars is imported first."""
    asked = "import flows.kpi, numpy; from polars._utils.construction import dataframe; assert dataframe.np is numpy"
    subprocess.run([sys.executable, "-c", asked], check=True, cwd=Path(__file__).parents[1])
