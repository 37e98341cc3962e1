"""The schema registry client, against a real Apicurio."""

import json
import uuid

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient

from flows.declaration import parse
from flows.errors import ConfigError
from flows.fields import SchemaError
from flows.outputs import draft, latest
from flows.registry import CONFLUENT_PATH, Registry
from infra.embedded import Cluster


def record(name: str, *fields: tuple[str, object]) -> str:
    return json.dumps({"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields]})


@pytest.fixture
def subject() -> str:
    return f"{uuid.uuid4().hex[:8]}-value"


@pytest.fixture(params=["", CONFLUENT_PATH])
def registry(request: pytest.FixtureRequest, cluster: Cluster) -> Registry:
    """With and without the path of the Confluent-compatible API in the address: both must do."""
    return Registry(cluster.registry_url.removesuffix(CONFLUENT_PATH) + request.param)


def test_what_was_registered_is_found_by_id_and_by_subject(registry: Registry, subject: str) -> None:
    id_ = registry.register(subject, record("Order", ("quantity", "int")))
    assert list(registry.schema(id_).leaves) == ["quantity"]
    latest = registry.latest(subject)
    assert latest is not None
    assert latest[0] == id_
    assert json.loads(latest[1])["name"] == "Order"


def test_the_same_schema_keeps_its_id(cluster: Cluster, subject: str) -> None:
    text = record("Order", ("quantity", "int"))
    assert Registry(cluster.registry_url).register(subject, text) == Registry(cluster.registry_url).register(subject, text)


def test_a_new_version_is_the_latest(registry: Registry, subject: str) -> None:
    first = registry.register(subject, record("Order", ("quantity", "int")))
    second = registry.register(subject, record("Order", ("quantity", "long")))
    assert first != second
    assert (registry.latest(subject) or (0, ""))[0] == second


def test_an_unknown_subject_has_no_latest_schema(registry: Registry, subject: str) -> None:
    assert registry.latest(subject) is None


def test_an_unknown_id_is_a_bad_schema(registry: Registry) -> None:
    with pytest.raises(SchemaError, match="unknown to the registry"):
        registry.schema(2_000_000_000)


def test_a_schema_that_does_not_parse_is_not_taken(registry: Registry, subject: str) -> None:
    with pytest.raises(SchemaError):
        registry.register(subject, '{"type": "rec"}')


def test_a_schema_with_references_is_read(cluster: Cluster, subject: str) -> None:
    with SchemaRegistryClient({"url": cluster.registry_url}) as client:
        client.register_schema(f"address-{subject}", Schema(record("Address", ("city", "string")), "AVRO"))
        references = [SchemaReference("Address", f"address-{subject}", 1)]
        id_ = client.register_schema(subject, Schema(record("Order", ("address", "Address")), "AVRO", references))
    assert list(Registry(cluster.registry_url).schema(id_).leaves) == ["address.city"]


def test_references_that_are_nested_and_used_twice_are_read(cluster: Cluster, subject: str) -> None:
    """Order -> Address, twice, and Country; Address -> Country. Each has its own subject, and Address its second version."""
    with SchemaRegistryClient({"url": cluster.registry_url}) as client:
        client.register_schema(f"country-{subject}", Schema(record("Country", ("code", "string")), "AVRO"))
        country = SchemaReference("Country", f"country-{subject}", 1)
        client.register_schema(f"address-{subject}", Schema(record("Address", ("city", "string")), "AVRO"))
        home = json.loads(record("Address", ("city", "string"), ("country", "Country")))
        home["fields"][1] |= {"type": ["null", "Country"], "default": None}
        client.register_schema(f"address-{subject}", Schema(json.dumps(home), "AVRO", [country]))
        address = SchemaReference("Address", f"address-{subject}", 2)
        fields = (("to", "Address"), ("from", ["null", "Address"]), ("origin", "Country"))
        id_ = client.register_schema(subject, Schema(record("Order", *fields), "AVRO", [country, address]))
    leaves = Registry(cluster.registry_url).schema(id_).leaves
    assert list(leaves) == ["to.city", "to.country.code", "from.city", "from.country.code", "origin.code"]


@pytest.mark.parametrize("subject_of", ["{topic}-{record}", "{record}"], ids=["TopicRecordNameStrategy", "RecordNameStrategy"])
def test_record_types_of_one_topic_are_found_by_the_subjects_that_are_named_after_them(cluster: Cluster, subject_of: str) -> None:
    """The topic has no subject of its own: its plan begins with what is met, and a declared field of another type is found."""
    topic, space = (f"{letter}{uuid.uuid4().hex[:8]}" for letter in "tn")
    registry, ids = Registry(cluster.registry_url), {}
    for name, field in (("Order", "total"), ("Refund", "back"), ("Unmet", "event_time")):
        text = json.dumps(json.loads(record(name, ("at", "long"), (field, "long"))) | {"namespace": space})
        ids[name] = registry.register(subject_of.format(topic=topic, record=f"{space}.{name}"), text)
    registry.register(f"{topic}-key", record("Key", ("back", "string")))
    assert latest(registry, topic) == set()
    assert draft(parse(""), registry, topic, set())[0].version == ()
    said = parse(f'[topics.{topic}]\ntime = "at"\n[topics.{topic}.kpis]\nsold = {{ sum = "total" }}\nback = {{ sum = "back" }}')
    made, _ = draft(said, registry, topic, {ids["Order"]})
    assert made.version == (ids["Order"], ids["Refund"])  # and no type that nobody has asked for
    assert [kpi.kind for kpi in made.kpis] == ["integer", "integer"]
    with pytest.raises(ConfigError, match="got 'nowhere', want one of"):
        draft(parse(f'[topics.{topic}.kpis]\nx = {{ sum = "nowhere" }}'), registry, topic, {ids["Order"]})
