"""What is computed of a topic, and why, as TOML that may stand in kpi.toml. In: a plan, what it was made from. Out: text. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.declaration import OVER, Declaration
from flows.fields import Leaf, Schema
from flows.plan import TIME_NAMES, Kpi, TopicPlan
from flows.said import KpiSaid, annotated
from flows.spelling import key, setting, toml
from flows.versions import leaves_of, names_of


def explained(made: TopicPlan, declaration: Declaration, schemas: Sequence[Schema]) -> str:
    """A table of kpi.toml in which nothing is left to be derived, and behind each line why it is so; read again, it gives the same plan."""
    said = declaration.of(made.topic)
    why = _Why(declaration, made.topic)
    leaves = leaves_of(ordered, names_of(ordered)) if (ordered := sorted(schemas, key=lambda schema: schema.id)) else {}
    lines = [_line(name, getattr(said, name), why.over(name)) for name in OVER]
    if made.time is not None:
        lines.append(_line("time", made.time, why.said("time") or _of_time(made.time)))
    elif made.version:
        lines.append("# time: Kafka's timestamp, as no field is one")
    lines.append(_line("by", said.by, why.said("by") or "default: the total"))
    if said.where is not None:
        lines.append(_line("where", said.where, why.said("where")))
    lines += [f"# left out, an annotation of no use: {_printable(fault)}" for fault in made.faults]
    if not made.version:
        lines.append("# no KPIs: no Avro schema of it can be read")
    head = f"# Avro schemas: {', '.join(map(str, made.version)) or 'none'}\n[topics.{key(made.topic)}]\n"
    kpis = [_line(name, it, why.said("kpis") or _of_kpi(it, leaves), table=False) for name, it in told(made.kpis).items()]
    body = f"\n[topics.{key(made.topic)}.kpis]\n" + "".join(f"{line}\n" for line in kpis) if kpis else ""
    return head + "".join(f"{line}\n" for line in lines) + body


def told(kpis: Sequence[Kpi]) -> dict[str, KpiSaid]:
    """KPIs as people say them: those of a family are one with several quantiles."""
    found: dict[str, KpiSaid] = {}
    for kpi in kpis:
        name = kpi.family or kpi.name
        q = (*(found[name].q if name in found else ()), kpi.q) if kpi.q is not None else ()
        found[name] = KpiSaid.model_construct(
            aggregate=kpi.aggregate, of=kpi.of, unit=kpi.unit, parts=kpi.parts, q=q, k=kpi.k, edges=kpi.edges
        )
    return found


class _Why:
    """Where a setting of a topic comes from."""

    def __init__(self, declaration: Declaration, topic: str) -> None:
        self.declaration, self.table = declaration, declaration.table_of(topic)

    def said(self, name: str) -> str:
        """Empty where no table of the topic says it."""
        given = self.table is not None and name in self.declaration.file.topics[self.table].model_fields_set
        return f"kpi.toml, [topics.{key(self.table or '')}]" if given else ""

    def over(self, name: str) -> str:
        """Of a setting that the defaults have, too."""
        given = name in self.declaration.defaults.model_fields_set
        return self.said(name) or (f"kpi.toml, [defaults]{', or KPI_WINDOWS' if name == 'windows' else ''}" if given else "default")


def _of_time(path: str) -> str:
    return "found: a usual name" if path in TIME_NAMES else "found: the first timestamp of the schema"


def _of_kpi(said: KpiSaid, leaves: Mapping[str, Leaf]) -> str:
    """Why there is a KPI that nobody declared."""
    if said.aggregate == "rate":
        return "derived: every topic has it"
    leaf = leaves[said.of]
    unit = "; the unit, too" if said.unit is not None else ""
    if leaf.kpi and any(said.aggregate == it.aggregate for it in _annotations(leaf)):
        return f'the schema says so: "kpi": {leaf.kpi}{unit}'
    return f"derived: {said.of} is of type {leaf.kind}{'; the unit from the schema' if unit else ''}"


def _annotations(leaf: Leaf) -> Iterator[KpiSaid]:
    try:
        yield from annotated(leaf.path, leaf.kpi).values()
    except ValueError:
        return


def _line(name: str, value: Any, why: str, *, table: bool = True) -> str:  # noqa: ANN401 - any setting
    shown = setting(name, value) if table else value.spelled()
    return f"{key(name)} = {toml(shown)}  # {_printable(why)}"


def _printable(text: str) -> str:
    """One line, whatever a schema has in it."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
