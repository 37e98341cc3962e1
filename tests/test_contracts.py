"""What docs/contracts.md and docs/time.md say of records, fates and settings, held by the flow itself: record batches in, records out."""

import io
import json
import struct
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
import pytest
from bytewax.recovery import init_db_dir
from bytewax.testing import run_main
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from flows import kpi
from flows.batches import Fault
from flows.declaration import AGGREGATES, parse
from flows.edge import Edge
from flows.errors import ConfigError
from flows.expressions import evaluate
from flows.fields import Schema, SchemaError, read_schema
from flows.intake import FATES
from flows.outputs import Planner
from flows.plan import Output, plan
from flows.records import DEAD, LATE, PROGRESS, Record, field_names, output_topic, schemas
from flows.registry import Registry
from flows.topology import kpi_flow
from flows.wire import RawBatch
from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.batches import batch, confluent
from tests.core import MILLIS, TOPIC, money, planned, schema
from tests.ends import Kept, MemoryTopic, Poll
from tests.integration.running import T0_MS, Flow, Topic, click, finals, until
from tests.test_docs import FENCE, ROOT, page, rows

CLICK = schema({"t": "long", "g": ["null", "string"], "price": money(2, 6)}, 7)
SAID = """
windows = ["10ms", "20ms"]
lateness = "5ms"
idle = "100ms"
update = "1ms"
max_future = "50ms"
time = "t"
by = ["g"]
where = "g IS NULL OR g <> 'x'"
kpis.paid = { sum = "price", unit = "EUR" }
"""
PLAN = planned(SAID, CLICK)
READY = replace(PLAN, outputs=tuple(Output(output_topic(TOPIC, window), 2 * n + 1, 2 * n + 2) for n, window in enumerate(PLAN.windows)))
(EXAMPLE,) = (body for kind, body in FENCE.findall(page("docs/contracts.md")) if kind == "toml")
ORDERS = plan(parse(EXAMPLE), "shop.orders", [read_schema(1, (ROOT / "schemas/shop.orders.avsc").read_text(encoding="utf-8"))])

Message = bytes | tuple[int, str | None] | None  # a value, or a click's time and group


def value(t: int, g: str | None) -> bytes:
    return confluent(CLICK.id, CLICK.parsed, {"t": t, "g": g, "price": Decimal("1.50")})


def sent(partition: int, first: int, *messages: Message) -> RawBatch:
    """Messages from offset `first` on, each with the key b"k" and Kafka's timestamp 2000."""
    values = [value(*it) if isinstance(it, tuple) else it for it in messages]
    return batch([(b"k", it, 2000, ()) for it in values], partition, first)


def known(schema_id: int) -> Schema:
    if schema_id != CLICK.id:
        raise SchemaError(f"schema {schema_id} is unknown")
    return CLICK


def flow(*polls: Poll) -> tuple[list[Record], MemoryTopic]:
    """Every record that comes of these polls, in order; and the topic, with its books."""
    source, sink = MemoryTopic(READY, polls, known), Kept()
    run_main(kpi_flow(source, sink))  # type: ignore[no-untyped-call]
    return sink.records, source


def headers(record: Record) -> dict[str, str]:
    return {name: said.decode() for name, said in record.headers}


def read(record: Record) -> dict[str, Any]:
    """A KPI record's value, knowing the contract alone."""
    assert record.value is not None
    magic, schema_id = struct.unpack(">bI", record.value[:5])
    output = next(output for output in READY.outputs if output.topic == record.topic)
    assert (magic, schema_id) == (0, output.value_id)
    _, text = schemas(READY, READY.windows[READY.outputs.index(output)])
    row = fastavro.schemaless_reader(io.BytesIO(record.value[5:]), json.loads(text), None)
    assert isinstance(row, dict)
    return row


def smallest(records: Sequence[Record], group: str) -> list[tuple[int, int, bool, str | None]]:
    """(start, revision, final, closed_by) of a group's rows of the smallest window."""
    found = [read(record) for record in records if record.topic == READY.outputs[0].topic]
    return [(int(r["window_start"].timestamp() * 1000), r["revision"], r["final"], r["closed_by"]) for r in found if r["g"] == group]


# Time


def test_a_window_is_provisional_until_its_final_row() -> None:
    #  lateness 5    1 a    2 b    3 a    15 a
    #  watermark     -4     -3     -2     10        [0, 10) is over
    #  rows of a     0             1      2
    #  rows of b            0             1
    messages = [(1, "a"), (2, "b"), (3, "a"), (15, "a")]
    records, _ = flow(*(Poll(1000 + 10 * n, [sent(0, n, message)], 1) for n, message in enumerate(messages)))
    assert [row for row in smallest(records, "a") if row[0] == 0] == [(0, 0, False, None), (0, 1, False, None), (0, 2, True, "data")]
    assert smallest(records, "b") == [(0, 0, False, None), (0, 1, True, "data")]


# KPI records


def test_a_record_has_the_documented_fields_in_key_and_value() -> None:
    shown = [(row[0], row[2]) for row in rows("docs/contracts.md", "## KPI record")]
    names = field_names(ORDERS)
    groups = [names[f"by:{path}"] for path in ORDERS.groups]
    kpis = [names[f"kpi:{kpi.name}"] for kpi in ORDERS.kpis]
    each = {"one for each group field": groups, "one for each KPI": kpis}
    for text, part in zip(schemas(ORDERS, ORDERS.windows[0]), ("key", "value"), strict=True):
        documented = [name for shown_name, places in shown if part in places for name in each.get(shown_name, [shown_name])]
        assert [field["name"] for field in json.loads(text)["fields"]] == documented
    assert groups == ["address_country", "channel", "large"]


def test_a_value_schema_says_what_it_is_about_and_what_each_field_is() -> None:
    about = json.loads(schemas(ORDERS, ORDERS.windows[0])[1])
    fields = {field["name"]: field for field in about["fields"]}
    text = page("docs/contracts.md")
    for said in (about["kpi"], fields["revenue"]["kpi"]):
        assert f'`"kpi": {json.dumps(said)}`' in text
    assert f'`"group": {json.dumps(fields["address_country"]["group"])}`' in text
    assert fields["vouchers"]["kpi"] == {"aggregate": "share", "of": "coupon IS NOT NULL"}


def test_a_kpi_has_the_type_that_its_aggregate_is_documented_with() -> None:
    shown = {row[0]: row[2] for row in rows("docs/contracts.md", "### Aggregates")}
    symbols = {"type": "enum", "name": "Symbol", "symbols": ["A"]}
    fields = {
        "integer": "long",
        "float": "double",
        "decimal": money(2, 6),
        "boolean": "boolean",
        "string": "string",
        "time": MILLIS,
        "enum": symbols,
    }
    own = {**fields, "decimal": money(2, 38), "enum": "string"}
    more = {"histogram": ", edges = [1]", "quantile": ", q = [0.5]"}
    for aggregate, kinds in AGGREGATES.items():
        for kind in [kind for kind in kinds if kind in fields] or ["*"]:
            of = ["n", "n"] if aggregate == "ratio" else kind
            said = f"kpis.n = {{ count = '*' }}\nkpis.it = {{ {aggregate} = {json.dumps(of)}{more.get(aggregate, '')} }}"
            made = planned(said, schema({"ts": "long", **({kind: fields[kind]} if kind in fields else {})}))
            (field,) = (field for field in json.loads(schemas(made, made.windows[0])[1])["fields"] if field["name"] in {"it", "it_p50"})
            assert (field["type"], field["default"]) == (["null", documented_type(shown[aggregate], own.get(kind, ""))], None)


def documented_type(shown: str, own: object) -> object:
    """The Avro type that the table's words are for."""
    if shown == "map of long":
        return {"type": "map", "values": "long"}
    if shown.startswith("array of "):
        label, end = {"array of `value`, `events": ("value", "top"), "array of `bin`, `events": ("bin", "bin")}[shown]
        fields = [{"name": label, "type": "string"}, {"name": "events", "type": "long"}]
        return {"type": "array", "items": {"type": "record", "name": f"it_{end}", "fields": fields}}
    return shown if shown in {"long", "double"} else own


# Late records, dead letters, fates


def test_every_message_meets_one_fate_and_the_books_balance() -> None:
    bare = fastavro.parse_schema(
        {
            "type": "record",
            "name": "E",
            "fields": [{"name": "t", "type": "long"}, {"name": "g", "type": "int"}, {"name": "price", "type": "bytes"}],
        }
    )
    of_fate: Mapping[str, Message] = {
        "tombstone": None,
        "short": b"\0\0\0\0",
        "magic": b'{"t": 1}',
        "schema": b"\0\0\0\0\x09" + value(1, "a")[5:],
        "malformed": value(1, "a")[:-1],
        "range": confluent(CLICK.id, bare, {"t": 1, "g": 0, "price": (10**6).to_bytes(3, "big")}),
        "time": (-1, "a"),
        "future": (1051, "a"),
        "folded": (30, "a"),
        "late": (9, "x"),  # which `where` would drop
        "filtered": (30, "x"),
    }
    bomb = RawBatch(0, len(of_fate), 1, 1000, None, b"", fault=Fault("size", "larger than can be unpacked"))
    records, source = flow(Poll(1000, [sent(0, 0, *of_fate.values()), bomb], 1))
    assert source.positions[0].fates == dict.fromkeys(FATES, 1)
    aside = {headers(record)["kpi.reason"]: record.topic for record in records if record.topic in {DEAD, LATE}}
    shown = {row[0]: row[2] for row in rows("docs/contracts.md", "## Fates and books") if row[0] in FATES}
    outlets = {"dead letter": DEAD, "late record": LATE}
    assert aside == {fate: outlets[where] for fate, where in shown.items() if where in outlets}
    assert {fate for fate, where in shown.items() if where == "counted only"} == {"tombstone", "filtered"}
    assert {read(record)["events"] for record in records if record.topic == READY.outputs[0].topic} == {1}


# Settings


def test_transactional_ids_begin_with_the_flows_id() -> None:
    assert Edge({}, "shop", 1).transactional_id == "shop-1"


def test_bytewaxs_own_variables_say_what_its_options_say(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)  # type: ignore[no-untyped-call]
    assert kpi._recovery({}, []) is None
    assert kpi._recovery({"BYTEWAX_RECOVERY_DIRECTORY": str(tmp_path)}, []) == tmp_path
    assert kpi._recovery({"BYTEWAX_PROCESS_ID": "1"}, ["-r", str(tmp_path)]) == tmp_path
    assert kpi._recovery({}, ["--recovery-directory", str(tmp_path), "-i", "2"]) == tmp_path
    assert sorted(file.name for file in tmp_path.glob("*.lock")) == ["process-0.lock", "process-1.lock", "process-2.lock"]
    while kpi.HELD:
        kpi.HELD.pop().close()


def test_the_metrics_page_is_where_the_settings_say() -> None:
    port = free_port()
    kpi._metrics({})
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)
    kpi._metrics({"KPI_METRICS_PORT": str(port)})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert all(f"\n# TYPE {name} " in text for name, *_ in rows("docs/contracts.md", "## Fates and books") if name.startswith("kpi_"))
    with pytest.raises(ConfigError, match=f"KPI_METRICS_PORT: got {port}, want a free port"):
        kpi._metrics({"KPI_METRICS_PORT": str(port)})


def test_a_nested_field_stands_in_double_quotes_inside_sql() -> None:
    home = {"type": "record", "name": "Home", "fields": [{"name": "country", "type": "string"}]}
    made = planned("""where = "\\"home.country\\" = 'DE'" """, schema({"ts": "long", "home": home}))
    frame = pl.DataFrame({"home.country": ["DE", "FR"]})
    assert made.where is not None
    assert evaluate(frame, made.where, pl.Boolean()).to_list() == [True, False]


# Topics


def test_kpi_topics_are_made_as_documented_and_their_schemas_registered(cluster: Cluster) -> None:
    name = "contracts.clicks"
    admin, registry = AdminClient({"bootstrap.servers": cluster.bootstrap}), Registry(cluster.registry_url)
    registry.register(f"{name}-value", CLICK.text)
    planner = Planner(parse('defaults = { retention = "3d" }'), registry, admin, sink_parts=2)
    planner.ensure_own_topics()
    made = planner.plan(name)

    shown = {row[0]: row[2].strip("`") for row in rows("docs/contracts.md", "## Topics")}
    topics = {"kpi.<topic>.<window>": f"kpi.{name}.10s", "kpi.late": LATE, "kpi.dead-letters": DEAD, "kpi.progress": PROGRESS}
    policies = {documented: settings(admin, topic)["cleanup.policy"] for documented, topic in topics.items()}
    assert policies == shown
    assert settings(admin, f"kpi.{name}.10s")["retention.ms"] == str(3 * 86_400_000)
    assert len(admin.list_topics(PROGRESS, timeout=10).topics[PROGRESS].partitions) == 2
    for output in made.outputs:
        ids = [(registry.latest(f"{output.topic}-{part}") or (0, ""))[0] for part in ("key", "value")]
        assert ids == [output.key_id, output.value_id]


def test_a_topic_that_is_created_again_is_read_from_its_beginning(cluster: Cluster, tmp_path: Path) -> None:
    def counted() -> int:
        return sum(row["events"] for row in finals(cluster, "kpi.again.clicks.1s"))

    with Flow(cluster, tmp_path, "again.").running() as child:
        topic = Topic(cluster, "again.clicks", partitions=1)
        topic.send([*[click(T0_MS)] * 5, click(T0_MS + 10_000)])
        until(lambda: counted() == 5, 40, child)
        topic.admin.delete_topics(["again.clicks"])["again.clicks"].result(10)
        until(lambda: "again.clicks is gone" in (tmp_path / "flow.log").read_text(), 20, child)
        Topic(cluster, "again.clicks", partitions=1).send([*[click(T0_MS + 20_000)] * 3, click(T0_MS + 30_000)])
        until(lambda: counted() == 5 + 1 + 3, 40, child)


def settings(admin: AdminClient, topic: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return {name: str(entry.value) for name, entry in admin.describe_configs([resource])[resource].result(20).items()}
