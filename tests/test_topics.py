"""Which topics are there, which are read, which are created: against a real broker."""

import socket
import time
import uuid
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from flows import topics
from flows.errors import ConfigError
from flows.topics import Unreachable, administrator, choose, discover, ensure
from infra.embedded import Cluster


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> AdminClient:
    return administrator({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def test_a_topic_is_chosen_by_its_whole_name() -> None:
    chosen = choose(["shop", "pay.*"], [])
    assert [name for name in ("shop", "shop.orders", "payments", "repay") if chosen(name)] == ["shop", "payments"]


def test_what_is_excluded_is_not_chosen() -> None:
    chosen = choose([".*"], [".*\\.test", "tmp"])
    assert [name for name in ("shop", "shop.test", "tmp", "tmp2") if chosen(name)] == ["shop", "tmp2"]


@pytest.mark.parametrize("name", ["_schemas", "__consumer_offsets", "kpi.shop.orders.10s", "kpi.late", "kpi.progress"])
def test_no_setting_chooses_a_topic_of_kafka_or_our_own(name: str) -> None:
    assert not choose([".*", name], [])(name)


def test_an_expression_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^topics.exclude: got '\(', want a regular expression"):
        choose([".*"], ["("])


def test_missing_topics_are_created_with_their_settings_and_partitions(admin: AdminClient, prefix: str) -> None:
    ensure(admin, {f"{prefix}.a": (3, {}), f"{prefix}.b": (1, {"cleanup.policy": "compact,delete"})})
    found = discover(admin, choose([f"{prefix}.*"], []))
    assert {name: partitions for name, (_, partitions) in found.items()} == {f"{prefix}.a": 3, f"{prefix}.b": 1}
    assert list(found) == sorted(found)


def test_a_topic_that_is_there_stays_as_it_is(admin: AdminClient, prefix: str) -> None:
    ensure(admin, {prefix: (2, {})})
    before = discover(admin, choose([prefix], []))
    ensure(admin, {prefix: (5, {"retention.ms": "1000"})})
    assert discover(admin, choose([prefix], [])) == before


def test_a_topic_that_another_process_creates_meanwhile_is_fine(admin: AdminClient, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(admin, {prefix: (2, {})})
    lists = iter([{}, {prefix: 2}])  # as the list was just before, and after
    monkeypatch.setattr(topics, "_listed", lambda _: next(lists))
    ensure(admin, {prefix: (2, {})})
    assert list(lists) == []


def test_a_topic_created_again_has_another_id(admin: AdminClient, prefix: str) -> None:
    ensure(admin, {prefix: (1, {})})
    ((first, _),) = discover(admin, choose([prefix], [])).values()
    admin.delete_topics([prefix])[prefix].result()
    while discover(admin, choose([prefix], [])):
        time.sleep(0.02)
    ensure(admin, {prefix: (1, {})})
    ((second, _),) = discover(admin, choose([prefix], [])).values()
    assert first
    assert second
    assert first != second


def test_no_topic_chosen_is_no_topic_found(admin: AdminClient) -> None:
    assert discover(admin, choose([], [])) == {}


def test_a_topic_that_is_deleted_after_it_was_listed_is_left_out(admin: AdminClient, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(admin, {prefix: (1, {})})
    monkeypatch.setattr(topics, "_listed", lambda _: {prefix: 1, f"{prefix}.gone": 1})
    assert list(discover(admin, choose([f"{prefix}.*"], []))) == [prefix]


class OldAdmin:
    """A cluster from before topic ids: it cannot be run here."""

    def describe_topics(self, *_: object, **__: object) -> dict[str, Future[object]]:
        future: Future[object] = Future()
        future.set_exception(KafkaException(KafkaError(KafkaError._UNSUPPORTED_FEATURE)))
        return {"shop": future}


def test_without_topic_ids_the_id_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "_listed", lambda _: {"shop": 4})
    assert discover(OldAdmin(), choose([".*"], [])) == {"shop": ("", 4)}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "partitions", "config"),
    [("no spaces", 1, {}), ("{}.policy", 1, {"cleanup.policy": "keep"}), ("{}.none", 0, {})],
)
def test_what_the_cluster_will_never_do_is_a_wrong_setting(
    admin: AdminClient, prefix: str, name: str, partitions: int, config: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"^topic .*: cannot create it: "):
        ensure(admin, {name.format(prefix): (partitions, config)})


def test_a_broker_that_is_away_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "TIMEOUT_S", 0.3)
    with socket.socket() as taken:  # bound, not listening: refused
        taken.bind(("127.0.0.1", 0))
        away = administrator({"bootstrap.servers": f"127.0.0.1:{taken.getsockname()[1]}"})
        with pytest.raises(Unreachable, match=r"^cannot list the topics: "):
            discover(away, choose([".*"], []))
        with pytest.raises(Unreachable):
            ensure(away, {"shop": (1, {})})


class RefusedAdmin:
    """A cluster that refuses the login, as confluent-kafka tells it: it needs another listener than the tests' broker has."""

    told = 3

    def list_topics(self, **_: object) -> object:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def poll(self, _: float) -> int:
        self.told -= 1
        if self.told >= 0:
            raise KafkaException(KafkaError(KafkaError._AUTHENTICATION, "Invalid username or password"))
        return 0


def test_a_refused_login_is_told_from_a_broker_that_is_away() -> None:
    admin = RefusedAdmin()
    with pytest.raises(ConfigError, match=r"^cannot list the topics: not authorised \(Invalid username or password\)"):
        discover(admin, choose([".*"], []))  # type: ignore[arg-type]
    with pytest.raises(Unreachable):
        discover(admin, choose([".*"], []))  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED])
def test_what_the_cluster_forbids_is_said_so(code: int) -> None:
    with pytest.raises(ConfigError, match=r"^topic kpi.late: cannot create it: not authorised"):
        raise topics._judged(KafkaError(code), "topic kpi.late: cannot create it")


def test_a_cluster_with_too_few_brokers_so_far_is_waited_for() -> None:
    assert isinstance(topics._judged(KafkaError(KafkaError.INVALID_REPLICATION_FACTOR), "topic a: cannot create it"), Unreachable)
