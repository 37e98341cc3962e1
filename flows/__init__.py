"""Kafka in, KPIs out: a columnar Bytewax dataflow, one idea a module."""
