"""Topics: which are there, which are read, and those that must be. In: an AdminClient. Out: names with topic ids and partition counts."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from flows.errors import ConfigError

TIMEOUT_S = 5.0
OWN = ("_", "kpi.")  # Kafka's, the registry's and our own output: reading those would feed the flow with itself
NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"  # sixteen zero bytes in base64: a broker older than topic ids (KIP-516)

FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's own errors are named so
}
WRONG = {KafkaError.INVALID_CONFIG, KafkaError.INVALID_PARTITIONS, KafkaError.TOPIC_EXCEPTION, KafkaError.POLICY_VIOLATION}


class Unreachable(Exception):  # noqa: N818 - said of the cluster
    """No broker answers, or the cluster cannot do it yet. To be tried again."""


def administrator(settings: Mapping[str, str]) -> AdminClient:
    """An AdminClient whose refused logins `discover` and `ensure` can tell from a broker that is away. Logs nothing itself."""

    def refused(error: KafkaError) -> None:
        if error.code() in FORBIDDEN:
            raise KafkaException(error)  # out of poll()

    own: dict[str, Any] = {"log_level": 0, "error_cb": refused}
    return AdminClient({"reconnect.backoff.max.ms": 1_000, **settings, **own})  # of 10 s: an outage would end so much later


def trouble(admin: AdminClient, timeout_s: float = 2.0) -> str:
    """Why no broker answers now; "" when one does."""
    try:
        admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        return str(error.args[0].str())
    return ""


def choose(include: Sequence[str], exclude: Sequence[str]) -> Callable[[str], bool]:
    """Whether a topic is read: the whole name matches one of `include`, none of `exclude`, and the topic is nobody's own.

    >>> [name for name in ("shop.orders", "shop.test", "kpi.shop.orders.10s", "_schemas") if choose(["shop.*", ".*"], [".*test"])(name)]
    ['shop.orders']
    """
    wanted, unwanted = _patterns(include, "include"), _patterns(exclude, "exclude")

    def chosen(name: str) -> bool:
        return (
            not name.startswith(OWN)
            and any(pattern.fullmatch(name) for pattern in wanted)
            and not any(pattern.fullmatch(name) for pattern in unwanted)
        )

    return chosen


def discover(admin: AdminClient, chosen: Callable[[str], bool]) -> dict[str, tuple[str, int]]:
    """Chosen topic -> (topic id, partitions), sorted by name. The id is "" where the cluster has none. Raises Unreachable, ConfigError.

    A topic that was deleted and created again has another id (KIP-516).
    """
    listed = _listed(admin)
    names = sorted(name for name in listed if chosen(name))
    ids = _ids(admin, names) if names else {}
    return {name: (ids[name], listed[name]) for name in names if name in ids and listed[name]}


def names(admin: AdminClient) -> set[str]:
    """Every topic of the cluster. Raises Unreachable, ConfigError."""
    return set(_listed(admin))


def ensure(admin: AdminClient, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
    """Create those of the topics {name: (partitions, settings)} that are missing, replicated as the cluster's default says.

    One that is there stays as it is; at the return all of them are listed. Raises Unreachable; ConfigError when the cluster forbids it.
    """
    there = _listed(admin)
    missing = [
        NewTopic(name, num_partitions=partitions, replication_factor=-1, config=dict(settings))
        for name, (partitions, settings) in wanted.items()
        if name not in there
    ]
    if not missing:
        return
    futures = admin.create_topics(missing, operation_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S)
    for name, future in futures.items():
        if (error := _error(future)) is not None and error.code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise _judged(error, f"topic {name}: cannot create it")
    deadline = time.monotonic() + TIMEOUT_S
    while absent := futures.keys() - {name for name, partitions in _listed(admin).items() if partitions}:
        if time.monotonic() > deadline:
            raise Unreachable(f"created, but not there yet: {', '.join(sorted(absent))}")
        time.sleep(0.02)  # brokers hear of a new topic a few ms after its creation


def _patterns(expressions: Sequence[str], where: str) -> list[re.Pattern[str]]:
    patterns = []
    for expression in expressions:
        try:
            patterns.append(re.compile(expression))
        except re.error as error:
            raise ConfigError(f"topics.{where}: got {expression!r}, want a regular expression ({error})") from None
    return patterns


def _listed(admin: AdminClient) -> dict[str, int]:
    """Every topic of the cluster -> partitions."""
    try:
        listed = {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=TIMEOUT_S).topics.items()}
    except KafkaException as error:
        raise _judged(_refusal(admin) or error.args[0], "cannot list the topics") from error
    _refusal(admin)  # of a login that worked in the end
    return listed


def _refusal(admin: AdminClient) -> KafkaError | None:
    """The newest refused login since the last call; librdkafka itself goes on trying and says no more than that nobody answers."""
    refusal = None
    while True:
        try:
            if not admin.poll(0):
                return refusal
        except KafkaException as error:
            refusal = error.args[0]


def _ids(admin: AdminClient, names: Sequence[str]) -> dict[str, str]:
    """Topic -> id; a topic that is gone meanwhile is left out."""
    ids = {}
    for name, future in admin.describe_topics(TopicCollection(list(names)), request_timeout=TIMEOUT_S).items():
        error = _error(future)
        if error is None:
            id_ = str(future.result().topic_id)
            ids[name] = "" if id_ == NO_ID else id_
        elif error.code() == KafkaError._UNSUPPORTED_FEATURE:  # noqa: SLF001 - as above
            ids[name] = ""
        elif error.code() not in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED}:
            raise _judged(error, f"topic {name}: cannot describe it")
    return ids


def _error(future: Future[Any]) -> KafkaError | None:
    error = future.exception()
    if error is None:
        return None
    if not isinstance(error, KafkaException):
        raise error
    return error.args[0]  # type: ignore[no-any-return]


def _judged(error: KafkaError, what: str) -> Exception:
    if error.code() in FORBIDDEN:
        return ConfigError(f"{what}: not authorised ({error.str()}), want credentials or access rules that allow it")
    if error.code() in WRONG:
        return ConfigError(f"{what}: {error.str()}")
    return Unreachable(f"{what}: {error.str()}")
