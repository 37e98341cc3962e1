"""The environment as settings of both Kafka clients and of the registry's."""

import logging
from pathlib import Path

import pytest
from kafka import KafkaConsumer

from flows import connection as module
from flows.connection import KAFKA_PYTHON, connection
from flows.errors import ConfigError

SASL = {
    "KAFKA_BOOTSTRAP_SERVERS": "one:9092, two:9093",
    "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "reader",
    "KAFKA_SASL_PASSWORD": "hunter2",
    "KAFKA_CLIENT_ID": "bench",
}


def test_without_any_setting_everything_is_on_this_machine() -> None:
    found = connection({})
    assert found.librdkafka() == {"bootstrap.servers": "127.0.0.1:9092"}
    assert found.kafka_python() == {"bootstrap_servers": ["127.0.0.1:9092"]}
    assert found.registry() == ("http://127.0.0.1:8081", None)


def test_an_empty_variable_is_no_setting() -> None:
    assert connection({"KAFKA_BOOTSTRAP_SERVERS": "", "KAFKA_LINGER_MS": "", "SCHEMA_REGISTRY_URL": ""}) == connection({})


def test_a_variable_is_librdkafkas_name_in_capitals() -> None:
    assert connection({"KAFKA_FETCH_QUEUE_BACKOFF_MS": "5"}).librdkafka()["fetch.queue.backoff.ms"] == "5"


def test_kafka_python_gets_the_same_under_its_own_names() -> None:
    assert connection(SASL).kafka_python() == {
        "bootstrap_servers": ["one:9092", "two:9093"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "reader",
        "sasl_plain_password": "hunter2",
        "client_id": "bench",
    }


def test_kafka_python_knows_every_name_it_may_get() -> None:
    assert {name for name, _ in KAFKA_PYTHON.values()} <= set(KafkaConsumer.DEFAULT_CONFIG)


def test_librdkafka_knows_every_name_that_has_another_in_kafka_python() -> None:
    assert [name for name in KAFKA_PYTHON if not module._is_known(name)] == []


def test_numbers_and_switches_reach_kafka_python_as_such() -> None:
    environ = {"KAFKA_FETCH_MAX_BYTES": "1048576", "KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "none"}
    settings = connection(environ).kafka_python()
    assert settings["fetch_max_bytes"] == 1048576
    assert settings["ssl_check_hostname"] is False


def test_tuning_that_kafka_python_lacks_is_left_out() -> None:
    assert "linger_ms" not in connection({"KAFKA_LINGER_MS": "5"}).kafka_python()


def test_security_that_kafka_python_lacks_is_refused_rather_than_dropped() -> None:
    found = connection({"KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION": "false"})
    with pytest.raises(ConfigError, match=r"^KAFKA_ENABLE_SSL_CERTIFICATE_VERIFICATION: .* KAFKA_SSL_CA_LOCATION"):
        found.kafka_python()


def test_names_librdkafka_does_not_know_are_one_warning_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    module._warn.cache_clear()
    environ = {"KAFKA_PORT": "tcp://10.0.0.7:9092", "KAFKA_SERVICE_HOST": "10.0.0.7"}  # as Kubernetes injects them
    with caplog.at_level(logging.WARNING):
        assert connection(environ) == connection(environ) == connection({})
    assert [record.getMessage() for record in caplog.records] == [
        "ignored, as librdkafka has no such settings: KAFKA_PORT, KAFKA_SERVICE_HOST",
    ]


@pytest.mark.parametrize("key", ["KAFKA_GROUP_ID", "KAFKA_ISOLATION_LEVEL", "KAFKA_TRANSACTIONAL_ID"])
def test_what_exactly_once_depends_on_cannot_be_set(key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: cannot be set, "):
        connection({key: "mine"})


def test_a_wrong_value_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r'Invalid value "SSSL" for configuration property "security.protocol"'):
        connection({"KAFKA_SECURITY_PROTOCOL": "SSSL"})


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    environ = {"KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"), "SCHEMA_REGISTRY_USER_INFO_FILE": str(tmp_path / "login")}
    (tmp_path / "login").write_text("me:pass:word\n")
    found = connection(environ)
    assert found.librdkafka()["sasl.password"] == "hunter2"
    assert found.registry()[1] == "me:pass:word"


def test_a_name_of_librdkafka_that_ends_in_file_stays_what_it_is() -> None:
    environ = {"KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE": "/run/token"}
    assert connection(environ).librdkafka()["sasl.oauthbearer.assertion.file"] == "/run/token"


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^KAFKA_SASL_PASSWORD_FILE: got .*/absent, want a readable text file"):
        connection({"KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "absent")})


def test_a_secret_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2")
    with pytest.raises(ConfigError, match=r"^KAFKA_SASL_PASSWORD_FILE: KAFKA_SASL_PASSWORD is set too"):
        connection({"KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"), "KAFKA_SASL_PASSWORD": "other"})


def test_no_secret_is_ever_shown() -> None:
    found = connection(SASL | {"SCHEMA_REGISTRY_URL": "https://me:t0psecret@registry:8081"})
    assert repr(found) == str(found)
    assert "hunter2" not in repr(found)
    assert "t0psecret" not in repr(found)
    assert found.registry() == ("https://registry:8081", "me:t0psecret")


def test_no_secret_is_shown_by_an_error() -> None:
    with pytest.raises(ConfigError) as caught:
        connection({"KAFKA_SECURITY_PROTOCOL": "ssl", "KAFKA_SSL_KEY_PEM": "hunter2", "KAFKA_SSL_CERTIFICATE_PEM": "hunter3"})
    assert "hunter" not in str(caught.value)
    assert caught.value.__suppress_context__  # the cause may show it
    with pytest.raises(ConfigError) as caught:
        connection({"SCHEMA_REGISTRY_URL": "ftp://me:hunter2@registry"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        connection({"SCHEMA_REGISTRY_USER_INFO": "hunter2"})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["registry:8081", "http://", "http://registry:port", "http://[::1", "ftp://registry"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^SCHEMA_REGISTRY_URL: got .*, want http://host:port"):
        connection({"SCHEMA_REGISTRY_URL": url})


def test_a_registry_may_have_several_addresses() -> None:
    assert connection({"SCHEMA_REGISTRY_URL": "http://one:8081/,http://two:8081"}).registry()[0] == "http://one:8081,http://two:8081"
