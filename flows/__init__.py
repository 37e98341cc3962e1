"""Kafka in, KPIs out: a columnar Bytewax dataflow, one idea a module."""

# Before polars: else polars imports it where it is first needed, and two readers that need it at the same moment may crash (TypeError in
# polars._dependencies: seen in 1 of some 100 starts on a loaded machine).
import numpy as np  # noqa: F401
