"""Where Kafka and the registry are. In: the environment. Out: the settings of both Kafka clients and of the registry's.

`KAFKA_X_Y` is librdkafka's `x.y`; kafka-python gets the same under its own names. Asks librdkafka which names it knows; connects to
nothing.
"""

import functools
import logging
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from flows.errors import ConfigError

LOG = logging.getLogger(__name__)

BOOTSTRAP = "127.0.0.1:9092"
REGISTRY = "http://127.0.0.1:8081"

REFUSED = {
    "group.id": "the consumer group is KPI_FLOW_ID",
    "isolation.level": "everything is read as read_committed",
    "transactional.id": "transactional ids begin with KPI_FLOW_ID",
}


def _boolean(value: str) -> bool:
    return value.lower() == "true"


def _check_hostname(algorithm: str) -> bool:
    return algorithm.lower() != "none"


# librdkafka's name -> kafka-python's, and how its value is read.
KAFKA_PYTHON: dict[str, tuple[str, Callable[[str], object]]] = {
    "bootstrap.servers": ("bootstrap_servers", lambda value: [server.strip() for server in value.split(",")]),
    "client.id": ("client_id", str),
    "client.rack": ("client_rack", str),
    "client.dns.lookup": ("client_dns_lookup", str),
    "security.protocol": ("security_protocol", str.upper),
    "sasl.mechanism": ("sasl_mechanism", str),
    "sasl.mechanisms": ("sasl_mechanism", str),
    "sasl.username": ("sasl_plain_username", str),
    "sasl.password": ("sasl_plain_password", str),
    "sasl.kerberos.service.name": ("sasl_kerberos_service_name", str),
    "ssl.ca.location": ("ssl_cafile", str),
    "ssl.certificate.location": ("ssl_certfile", str),
    "ssl.key.location": ("ssl_keyfile", str),
    "ssl.key.password": ("ssl_password", str),
    "ssl.crl.location": ("ssl_crlfile", str),
    "ssl.cipher.suites": ("ssl_ciphers", str),
    "ssl.endpoint.identification.algorithm": ("ssl_check_hostname", _check_hostname),
    "socket.send.buffer.bytes": ("send_buffer_bytes", int),
    "socket.receive.buffer.bytes": ("receive_buffer_bytes", int),
    "receive.message.max.bytes": ("receive_message_max_bytes", int),
    "fetch.min.bytes": ("fetch_min_bytes", int),
    "fetch.max.bytes": ("fetch_max_bytes", int),
    "fetch.wait.max.ms": ("fetch_max_wait_ms", int),
    "max.partition.fetch.bytes": ("max_partition_fetch_bytes", int),
    "metadata.max.age.ms": ("metadata_max_age_ms", int),
    "connections.max.idle.ms": ("connections_max_idle_ms", int),
    "reconnect.backoff.ms": ("reconnect_backoff_ms", int),
    "reconnect.backoff.max.ms": ("reconnect_backoff_max_ms", int),
    "retry.backoff.ms": ("retry_backoff_ms", int),
    "allow.auto.create.topics": ("allow_auto_create_topics", _boolean),
}


@dataclass(frozen=True, slots=True)
class Connection:
    """What both Kafka clients and the registry client need. Shows no secret: not in its repr, so not in a log."""

    settings: Mapping[str, str] = field(repr=False)
    registry_url: str
    registry_user_info: str | None = field(repr=False)

    def __repr__(self) -> str:
        names = ", ".join(sorted(set(self.settings) - {"bootstrap.servers"})) or "none"
        return f"Connection({self.settings['bootstrap.servers']}, other settings: {names}; registry {self.registry_url})"

    def librdkafka(self) -> dict[str, str]:
        """Settings for confluent-kafka's clients."""
        return dict(self.settings)

    def kafka_python(self) -> dict[str, object]:
        """The same for kafka-python's clients. Tuning it does not know is left out; security it does not know raises ConfigError."""
        settings: dict[str, object] = {}
        for name, value in self.settings.items():
            if name in KAFKA_PYTHON:
                its_name, read = KAFKA_PYTHON[name]
                settings[its_name] = read(value)
            elif name.startswith(("ssl.", "sasl.", "enable.ssl.", "enable.sasl.", "https.")):
                known = ", ".join(variable(each) for each in KAFKA_PYTHON if each.startswith(name.removeprefix("enable.").split(".")[0]))
                raise ConfigError(f"{variable(name)}: the client that reads events has no such setting, want one of {known}")
        return settings

    def registry(self) -> tuple[str, str | None]:
        """The registry's address without credentials, and `user:password` or None."""
        return self.registry_url, self.registry_user_info


def connection(environ: Mapping[str, str]) -> Connection:
    """The connection that the environment describes. Raises ConfigError; logs once which `KAFKA_*` names are unknown."""
    settings = {"bootstrap.servers": BOOTSTRAP}
    unknown = []
    for key in sorted(key for key in environ if key.startswith("KAFKA_") and environ[key]):
        name = key.removeprefix("KAFKA_").lower().replace("_", ".")
        value = environ[key]
        if name.endswith(".file") and not _is_known(name):
            name = name.removesuffix(".file")
            if _is_known(name):
                value = _secret(environ, key)
        if name in REFUSED:
            raise ConfigError(f"{key}: cannot be set, {REFUSED[name]}")
        if _is_known(name):
            settings[name] = value
        else:
            unknown.append(key)
    _warn(tuple(unknown))
    _check(settings)
    url, user_info = _without_credentials(environ.get("SCHEMA_REGISTRY_URL") or REGISTRY)
    given = environ.get("SCHEMA_REGISTRY_USER_INFO") or None
    if environ.get("SCHEMA_REGISTRY_USER_INFO_FILE"):
        given = _secret(environ, "SCHEMA_REGISTRY_USER_INFO_FILE")
    if given is not None and ":" not in given:
        raise ConfigError("SCHEMA_REGISTRY_USER_INFO: got a value without a colon, want user:password")
    return Connection(settings, url, given or user_info)


def variable(name: str) -> str:
    """The environment variable of a librdkafka name: `sasl.password` is set by `KAFKA_SASL_PASSWORD`."""
    return "KAFKA_" + name.upper().replace(".", "_")


@functools.cache
def _is_known(name: str) -> bool:
    try:
        AdminClient({"log_level": 0, name: ""})
    except KafkaException as error:
        return "No such configuration property" not in str(error)  # the code, _INVALID_ARG, is that of a wrong value too
    return True


@functools.cache
def _warn(unknown: tuple[str, ...]) -> None:
    if unknown:
        LOG.warning("ignored, as librdkafka has no such settings: %s", ", ".join(unknown))


def _check(settings: Mapping[str, str]) -> None:
    """Let librdkafka judge the values, without a server to connect to."""
    try:
        AdminClient({"log_level": 0, **{name: value for name, value in settings.items() if name != "bootstrap.servers"}})
    except KafkaException as error:
        text = error.args[0].str().removeprefix("Failed to create admin client: ")
        raise ConfigError(f"KAFKA_*: {_hide(text, settings)}") from None  # the cause would show the values


def _hide(text: str, settings: Mapping[str, str]) -> str:
    for name, value in settings.items():
        if name.endswith(("password", "secret", "pem", "key")):
            text = text.replace(value, "***")
    return text


def _secret(environ: Mapping[str, str], key: str) -> str:
    """The content of the file that `key` names, without the newline at its end."""
    if environ.get(key.removesuffix("_FILE")):
        raise ConfigError(f"{key}: {key.removesuffix('_FILE')} is set too, want one of them")
    try:
        return Path(environ[key]).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{key}: got {environ[key]}, want a readable text file ({type(error).__name__})") from None


def _without_credentials(urls: str) -> tuple[str, str | None]:
    """Addresses (several are joined by commas) without the `user:password@` that the first may carry, and that part.

    >>> _without_credentials("http://me:p%40ss@one:8081/,http://two:8081")
    ('http://one:8081,http://two:8081', 'me:p@ss')
    """
    clean, user_info = [], None
    for url in urls.split(","):
        try:
            parts = urllib.parse.urlsplit(url.strip())
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:  # of brackets or port
            usable = False
        if not usable:
            raise ConfigError(f"SCHEMA_REGISTRY_URL: got {url.rpartition('@')[2]}, want http://host:port or https://host:port")
        login, _, address = parts.netloc.rpartition("@")
        if login and user_info is None:
            user_info = urllib.parse.unquote(login)
        clean.append(f"{parts.scheme}://{address}{parts.path.rstrip('/')}")
    return ",".join(clean), user_info
