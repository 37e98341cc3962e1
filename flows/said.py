"""One KPI, and one group, as people say them. In: { sum = "total" }, "UPPER(country) AS region". Out: what that says, checked. Pure."""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from flows.errors import did_you_mean

NUMBERS = ("integer", "float", "decimal")
MOMENTS = ("time", "date", "daytime")
PLAIN = (*NUMBERS, "boolean", "string", "enum", *MOMENTS)
AGGREGATES = {  # name -> kinds of column it can measure
    "count": (*PLAIN, "bytes", "other"),
    "rate": (),
    "sum": NUMBERS,
    "mean": NUMBERS,
    "min": (*NUMBERS, *MOMENTS, "string", "enum"),
    "max": (*NUMBERS, *MOMENTS, "string", "enum"),
    "deviation": NUMBERS,
    "first": PLAIN,
    "last": PLAIN,
    "share": ("boolean",),
    "counts": ("enum", "boolean"),
    "ratio": (),
    "quantile": NUMBERS,
    "distinct": PLAIN,
    "top": ("string", "enum", "integer", "boolean"),
    "histogram": NUMBERS,
    "increase": NUMBERS,
}
OPTIONS = {"quantile": "q", "top": "k", "histogram": "edges"}  # what else an aggregate is told
DEFAULTS = {"q": [0.5, 0.95, 0.99], "k": 10}
EDGES = [10, 50, 100]  # an example
MOST_Q, MOST_TOP, MOST_EDGES = 20, 100, 100
PATH = re.compile(r"\w+(\.\w+)*", re.ASCII)  # a field, nested ones with dots
NAMED = re.compile(r"\s*(\S.*?)\s+AS\s+([A-Za-z_]\w*)\s*", re.ASCII | re.IGNORECASE | re.DOTALL)


class Strict(BaseModel):
    """Frozen; an unknown name is an error, as a typing mistake must not pass for a default."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True)


def _numbers(said: object) -> list[float] | None:
    """A list of finite numbers, or None."""
    if not isinstance(said, list) or not said:
        return None
    try:
        numbers = [float(it) for it in said if isinstance(it, int | float) and not isinstance(it, bool)]
    except OverflowError:
        return None
    return numbers if len(numbers) == len(said) and all(map(isfinite, numbers)) else None


def _q(said: object) -> object:
    numbers = _numbers(said)
    if (
        numbers is None
        or len(numbers) > MOST_Q
        or not all(0 <= q <= 1 for q in numbers)
        or len(set(map(percentile, numbers))) < len(numbers)
    ):
        raise ValueError(f"want at most {MOST_Q} different numbers from 0 to 1 such as [0.5, 0.99]")
    return numbers


def _k(said: object) -> object:
    if not isinstance(said, int) or isinstance(said, bool) or not 1 <= said <= MOST_TOP:
        raise ValueError(f"want a whole number from 1 to {MOST_TOP}")
    return said


def _edges(said: object) -> object:
    numbers = _numbers(said)
    if numbers is None or len(numbers) > MOST_EDGES or sorted(set(numbers)) != numbers or len(set(map(edge, numbers))) < len(numbers):
        raise ValueError(f"want at most {MOST_EDGES} rising numbers such as {EDGES}, different in their first ten digits")
    return numbers


def percentile(q: float) -> str:
    """A quantile as a name.

    >>> percentile(0.5), percentile(0.999), percentile(1)
    ('p50', 'p99_9', 'p100')
    """
    return "p" + f"{float(str(q)) * 100:.10g}".replace(".", "_")


def edge(at: float) -> str:
    """An edge of a histogram as the names of its bins have it.

    >>> edge(10.0), edge(0.25)
    ('10', '0.25')
    """
    return f"{at:.10g}"


class KpiSaid(Strict):
    """`{ sum = "total", unit = "EUR" }`: exactly one aggregate, what it measures, and what else the aggregate is told.

    `parts`: the two KPIs of a ratio. `q`: which quantiles. `k`: how many of a top. `edges`: of a histogram.
    """

    aggregate: str
    of: str = ""
    unit: str | None = None
    parts: tuple[str, ...] = ()
    q: Annotated[tuple[float, ...], BeforeValidator(_q)] = ()
    k: Annotated[int, BeforeValidator(_k)] = 0
    edges: Annotated[tuple[float, ...], BeforeValidator(_edges)] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_aggregate(cls, said: Any) -> Any:  # noqa: ANN401 - whatever stands in the file
        if not isinstance(said, dict):
            raise ValueError('want a table such as { sum = "total" }')  # noqa: TRY004 - pydantic takes ValueErrors
        names = [name for name in said if name in AGGREGATES]
        if len(names) != 1:
            meant = next((near for name in said if not names and name != "unit" and (near := did_you_mean(name, AGGREGATES))), "")
            raise ValueError(f"want exactly one of {', '.join(AGGREGATES)}{meant}")
        (aggregate,) = names
        option = OPTIONS.get(aggregate, "")
        if unknown := [name for name in said if name not in {aggregate, "unit", option}]:
            near = did_you_mean(unknown[0], [*(["unit"] if "unit" not in said else []), *([option] if option else [])])
            raise ValueError(f"want no {unknown[0]!r} beside {aggregate}{near}")
        told = {name: said[name] for name in ("unit", option) if name in said}
        if option and option not in told:
            if option not in DEFAULTS:
                raise ValueError(f"want {option} beside {aggregate}, such as {option} = {EDGES}")
            told[option] = DEFAULTS[option]
        return {"aggregate": aggregate, **_measured(aggregate, said[aggregate]), **told}

    def names(self, name: str) -> tuple[str, ...]:
        """What the KPIs are called that come of one of this name: of a quantile one for each `q`."""
        return tuple(f"{name}_{percentile(q)}" for q in self.q) or (name,)

    def spelled(self) -> dict[str, Any]:
        """As people write it: `KpiSaid.model_validate` of it is the same again."""
        option = OPTIONS.get(self.aggregate)
        said: dict[str, Any] = {self.aggregate: list(self.parts) or self.of}
        if option:
            told = getattr(self, option)
            said[option] = list(told) if isinstance(told, tuple) else told
        return said if self.unit is None else {**said, "unit": self.unit}


def _measured(aggregate: str, of: object) -> dict[str, object]:
    """What stands behind an aggregate. Raises ValueError."""
    if aggregate == "ratio":
        if not (isinstance(of, list) and len(of) == 2 and all(isinstance(name, str) for name in of)):  # noqa: PLR2004 - above and below
            raise ValueError('want the names of two KPIs such as { ratio = ["revenue", "orders"] }')
        return {"parts": of}
    if aggregate == "rate" and of != "*":
        raise ValueError('want { rate = "*" }')
    if not isinstance(of, str) or (of == "*" and aggregate not in ("count", "rate")):
        raise ValueError(f"want a field or an expression to take the {aggregate} of")
    return {"of": of}


def annotated(path: str, text: str) -> dict[str, KpiSaid]:
    """KPI name -> what the property "kpi" of a field says, as JSON: a list of aggregates, or a table of aggregate -> option.

    Raises ValueError.

    >>> [*annotated("latency", '{"quantile": [0.5], "max": true}')], [*annotated("total", '["sum", "mean"]')]
    (['latency', 'latency_max'], ['total_sum', 'total_mean'])
    """
    said = json.loads(text)
    if isinstance(said, list) and all(isinstance(name, str) for name in said) and len(set(said)) == len(said):
        said = dict.fromkeys(said, True)
    if not isinstance(said, dict):
        raise ValueError(f'got {text}, want a list such as ["sum", "mean"], or a table such as {{"quantile": [0.5, 0.99]}}')  # noqa: TRY004 - one error
    names = {aggregate: path if aggregate == "quantile" else f"{path}_{aggregate}" for aggregate in said}
    return {names[aggregate]: _of_annotation(path, aggregate, told) for aggregate, told in said.items()}


def _of_annotation(path: str, aggregate: str, told: object) -> KpiSaid:
    usable = [name for name in AGGREGATES if name not in ("rate", "ratio")]
    if aggregate not in usable:
        raise ValueError(f"got {aggregate!r}, want one of {', '.join(usable)}{did_you_mean(aggregate, usable)}")
    option = OPTIONS.get(aggregate)
    if told is not True and not option:
        raise ValueError(f"{aggregate}: got {told!r}, want true")
    try:
        return KpiSaid.model_validate({aggregate: path} | ({option: told} if option and told is not True else {}))
    except ValidationError as refused:
        first = refused.errors()[0]
        raise ValueError(f"{aggregate}: got {told!r}, {first['msg'].removeprefix('Value error, ')}") from None


def avro_name(path: str) -> str:
    """A path or KPI name as Avro allows names.

    >>> avro_name("address.country"), avro_name("2nd try")
    ('address_country', '_2nd_try')
    """
    return re.sub(r"^(?=\d)|[^A-Za-z0-9_]", "_", path) or "_"


def grouped(text: str) -> tuple[str, str]:
    """Name and field or SQL of what is grouped by: a field has its own name, all else says it. Raises ValueError.

    >>> grouped("address.country"), grouped("UPPER(country) AS region"), grouped("CAST(n AS VARCHAR) as m")
    (('address.country', 'address.country'), ('region', 'UPPER(country)'), ('m', 'CAST(n AS VARCHAR)'))
    """
    if PATH.fullmatch(text):
        return text, text
    if (named := NAMED.fullmatch(text)) is None:
        raise ValueError(f'want a field, or SQL with a name behind it such as "UPPER(country) AS region"{_with_name(text)}')
    return named[2], named[1]


def _with_name(text: str) -> str:
    words = re.findall(r"[A-Za-z_]\w*", re.sub(r"'[^']*'", "", text))
    return f' (did you mean "{text.strip()} AS {words[-1].lower()}_"?)' if words else ""


def taken_twice(kpis: Mapping[str, KpiSaid]) -> tuple[str, str] | None:
    """The first name that two KPIs have, and which other one has it: of `latency = { quantile = … }` one is `latency_p95`."""
    owners: dict[str, str] = {}
    for name, said in kpis.items():
        for own in said.names(name):
            if own in owners:
                return own, owners[own]
            owners[own] = name
    return None
