"""Declarations at random, as people write them. In: Hypothesis. Out: texts of kpi.toml."""

from typing import Any

from hypothesis import strategies as st

from flows.spelling import key, toml

WINDOWS = ["10s", "1m", "5m/1m", "15s", "gap 30s", "1d@Europe/Berlin", "1d^1h", "1w"]
BYS = [[[]], [[], ["a"]], [["a"], []], [["a", "b"]], [["b", "a"]], [["UPPER(a) AS c"]], [["LOWER(a) AS c"]]]
UNITS = st.sampled_from([{}, {"unit": "EUR"}, {"unit": "ms"}])
KPIS = st.one_of(
    st.sampled_from([{"count": "*"}, {"sum": "a"}, {"sum": "b"}, {"mean": "a * b"}, {"last": "a"}, {"top": "a"}, {"top": "a", "k": 3}]),
    st.sampled_from(
        [{"quantile": "a"}, {"quantile": "a", "q": [0.5]}, {"quantile": "b", "q": [0.5, 0.9]}, {"histogram": "a", "edges": [1, 2.5]}]
    ),
)
SETTINGS: dict[str, st.SearchStrategy[Any]] = {
    "windows": st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=4),
    "lateness": st.sampled_from(["10s", "10000ms", "11s"]),
    "idle": st.sampled_from(["15s", "1m"]),
    "update": st.sampled_from(["1s", "off", "2s"]),
    "max_future": st.sampled_from(["5m", "1h"]),
    "groups": st.sampled_from([10_000, 7]),
    "readers": st.sampled_from([4, 1]),
    "shards": st.sampled_from([1, 3]),
    "start": st.sampled_from(["earliest", "latest", "2026-01-01T00:00:00.001Z"]),
}
DEFAULTS = st.fixed_dictionaries(
    {}, optional=SETTINGS | {"retention": st.sampled_from(["7d", "8d"]), "topics": st.just({"exclude": ["x.*"]})}
)
TOPICS = st.fixed_dictionaries(
    {},
    optional=SETTINGS
    | {
        "time": st.sampled_from(["at", "ts"]),
        "by": st.sampled_from(BYS),
        "where": st.sampled_from(["a > 1", "a > 2", "s = 'it''s'"]),
        "kpis": st.dictionaries(st.sampled_from(["x", "y", "z.1"]), st.builds(lambda kpi, unit: {**kpi, **unit}, KPIS, UNITS), max_size=3),
    },
)
NAMES = ["a.t", "b", "/a.*/", "/.*/"]
TABLES = st.fixed_dictionaries({}, optional={"defaults": DEFAULTS, "topics": st.dictionaries(st.sampled_from(NAMES), TOPICS, max_size=3)})


def written(tables: dict[str, Any]) -> str:
    """The text of a kpi.toml."""
    lines = [f"[defaults]\n{_lines(tables.get('defaults', {}))}"]
    lines += [f"[topics.{key(name)}]\n{_lines(said)}" for name, said in tables.get("topics", {}).items()]
    return "\n".join(lines)


def _lines(said: dict[str, Any]) -> str:
    return "\n".join(f"{name} = {toml(value)}" for name, value in said.items())


TEXTS = TABLES.map(written)
