"""What the dashboard's server is told: right settings are read, a wrong one is one line that names it."""

import pytest

from flows.errors import ConfigError
from serve.settings import Settings, read_sessions, read_settings


def test_without_any_setting_it_listens_on_this_machine_alone_for_pages_of_its_own() -> None:
    settings = read_settings({})
    assert settings == Settings(5006, "127.0.0.1", ())
    assert settings.allowed(5006) == ["localhost:5006", "127.0.0.1:5006"]
    assert read_sessions({}) == 100


def test_the_environment_says_where_it_listens_and_who_may_connect() -> None:
    said = {"DASHBOARD_PORT": "80", "DASHBOARD_ADDRESS": "0.0.0.0", "DASHBOARD_ORIGINS": "kpi.example.com, Other:8443"}
    settings = read_settings(said)
    assert (settings.port, settings.address) == (80, "0.0.0.0")
    assert settings.allowed(80) == ["kpi.example.com:80", "other:8443"]
    assert read_sessions({"DASHBOARD_SESSIONS": "7"}) == 7


@pytest.mark.parametrize("port", ["-1", "65536", "x", "٣", "5006 "])
def test_a_port_that_is_none_is_one_line(port: str) -> None:
    with pytest.raises(ConfigError, match=r"^DASHBOARD_PORT: got .*, want a port from 0 to 65535$"):
        read_settings({"DASHBOARD_PORT": port})


@pytest.mark.parametrize("origin", ["*", "*:5006", "a.com,*.example.com"])
def test_an_origin_that_lets_anybody_in_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"DASHBOARD_ORIGINS: got .*, want each host by name"):
        read_settings({"DASHBOARD_ORIGINS": origin})


@pytest.mark.parametrize("origin", ["https://a.com", "a.com/x", "a b", ":80", "a:b"])
def test_an_origin_that_is_no_host_is_one_line(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"DASHBOARD_ORIGINS: got .*, want host or host:port"):
        read_settings({"DASHBOARD_ORIGINS": origin})


@pytest.mark.parametrize("number", ["0", "many", "-3"])
def test_a_cap_that_lets_nobody_in_is_one_line(number: str) -> None:
    with pytest.raises(ConfigError, match=r"DASHBOARD_SESSIONS: got .*, want a number of pages from 1 on"):
        read_sessions({"DASHBOARD_SESSIONS": number})
