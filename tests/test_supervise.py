"""The supervisor on small programs in the flow's place: what is started again, when, and what it says."""

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows import stop
from flows.errors import ConfigError
from flows.recovery import lock_supervisor
from flows.stop import LOCKED, Stop
from flows.supervise import FINAL, Asked, Settings, free_ports, main, settings_of, supervise
from infra.embedded.child import is_free

COUNT = "import pathlib, sys, os, time, signal; runs = pathlib.Path('runs'); runs.open('a').write('.'); run = len(runs.read_text())\n"
NUMBER = "number = sys.argv[sys.argv.index('-i') + 1]\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part-0.sqlite3").touch()
    return Settings(tmp_path, first_pause_s=0.05, longest_pause_s=0.2)


def running(settings: Settings, code: str, asked: Asked | None = None) -> int:
    """The exit code of the supervisor with this program; each start adds a dot to the file `runs`."""
    return supervise(replace(settings, program=("-c", COUNT + code)), dict(os.environ), asked or Asked())


def starts() -> int:
    return len(Path("runs").read_text())


def when(happens: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Act as soon as something is so, while the supervisor runs."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not happens() and time.monotonic() < deadline:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("code", sorted(FINAL))
def test_what_only_a_person_can_mend_is_not_started_again_and_its_code_is_passed_on(settings: Settings, code: int) -> None:
    assert running(settings, f"sys.exit({code})") == code
    assert starts() == 1


def test_every_exit_code_is_either_final_or_mends_itself() -> None:
    codes = {value for value in vars(stop).values() if isinstance(value, int)}
    assert codes - set(FINAL) == {stop.AWAY, stop.FULL}


def test_a_configuration_error_is_not_started_again(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    assert running(settings, "sys.exit('kpi: KPI_WINDOWS: got x, want y')") == 1
    assert starts() == 1
    assert "kpi: KPI_WINDOWS: got x, want y\nflow: the flow is over: its configuration cannot be used\n" in capfd.readouterr().err


@pytest.mark.parametrize("end", ["sys.exit(75)", "sys.exit(74)", "raise ValueError('broken')", "os.kill(os.getpid(), 9)", "os.abort()"])
def test_a_crash_and_what_mends_itself_are_started_again(settings: Settings, end: str) -> None:
    assert running(settings, f"if run < 3:\n    {end}") == 0
    assert starts() == 3


def test_a_restart_says_which_why_and_in_how_many_seconds_and_the_pause_grows_to_its_cap(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    assert running(settings, "if run < 5: raise ValueError('broken')") == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "; start " in line]
    said = [re.sub(r"process \d+ ", "process 4711 ", line) for line in said]
    why = "flow: process 4711 ended with exit code 1 (ValueError: broken); start"
    assert said == [f"{why} {number} in {pause} s" for number, pause in ((2, "0.05"), (3, "0.1"), (4, "0.2"), (5, "0.2"))]


def test_after_a_healthy_time_the_pause_is_the_shortest_again(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    settings = replace(settings, healthy_s=8.0)  # a start alone may take seconds on a loaded machine
    assert running(settings, "if run == 3: time.sleep(8.2)\nif run < 4: raise ValueError") == 0
    said = [line.rpartition(" in ")[2] for line in capfd.readouterr().err.splitlines() if "; start " in line]
    assert said == ["0.05 s", "0.1 s", "0.05 s"]


def test_when_one_process_ends_badly_the_others_are_killed_and_waited_for(settings: Settings) -> None:
    settings = replace(settings, processes=3)
    code = (
        NUMBER
        + "pathlib.Path(f'pid-{number}').write_text(str(os.getpid()))\nif number == '1': time.sleep(0.5); sys.exit(77)\ntime.sleep(60)"
    )
    assert running(settings, code) == 77
    for number in (0, 2):
        assert not Path(f"/proc/{Path(f'pid-{number}').read_text()}").exists()


def test_of_several_ends_the_one_that_is_final_decides(settings: Settings) -> None:
    settings = replace(settings, processes=2)
    assert running(settings, NUMBER + "sys.exit(1 if number == '0' else 78)") == 78


def test_a_process_that_is_asked_to_end_is_asked_once_and_may_take_its_time(settings: Settings) -> None:
    asked = Asked()
    code = "signal.signal(15, lambda *_: (pathlib.Path('asked').open('a').write('.'), time.sleep(0.5), sys.exit(0)))\n"
    code += "pathlib.Path('ready').touch()\nwhile True: time.sleep(0.1)"
    thread = when(Path("ready").exists, lambda: asked(signal.SIGTERM, None))
    assert running(settings, code, asked) == 0
    thread.join()
    assert Path("asked").read_text() == "."
    assert starts() == 1


def test_who_is_asked_to_end_and_leaves_because_kafka_is_away_has_ended_well_and_takes_the_others_along(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = Asked()
    code = f"signal.signal(15, lambda *_: sys.exit({stop.AWAY}) if number == '1' else None)\n"
    code += "pathlib.Path('ready' + number).touch()\nwhile True: time.sleep(0.1)"
    thread = when(lambda: all(Path(f"ready{number}").exists() for number in range(2)), lambda: asked(signal.SIGTERM, None))
    assert running(replace(settings, processes=2), NUMBER + code, asked) == 0
    thread.join()
    assert "the flow is over: it has ended; what Kafka has not got waits in the recovery directory\n" in capfd.readouterr().err


def test_who_ends_before_it_took_part_takes_those_along_who_wait_for_it(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    code = "def leave(*_):\n    if number == '1': sys.stderr.write('" + stop.UNBEGUN + "\\n'); sys.exit(0)\n"
    code += "signal.signal(15, leave)\npathlib.Path('ready' + number).touch()\nwhile True: time.sleep(0.1)"
    thread = when(lambda: all(Path(f"ready{number}").exists() for number in range(2)), lambda: asked(signal.SIGTERM, None))
    assert running(replace(settings, processes=2, grace_s=5.0), NUMBER + code, asked) == 0
    thread.join()
    assert "the flow is over: it has ended before it began\n" in capfd.readouterr().err


def test_a_flow_that_is_ended_before_it_has_begun_has_ended_well(settings: Settings) -> None:
    asked = Asked()
    thread = when(Path("runs").exists, lambda: asked(signal.SIGTERM, None))
    assert running(settings, "time.sleep(60)", asked) == 0
    thread.join()
    assert starts() == 1


def test_who_is_asked_before_it_has_started_anything_ends_it_all_the_same(settings: Settings) -> None:
    assert running(settings, "time.sleep(60)", Asked(1, signal.SIGTERM)) == 0


def test_who_does_not_end_in_time_is_killed_and_that_is_said(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    code = "signal.signal(15, signal.SIG_IGN); pathlib.Path('ready').touch()\nwhile True: time.sleep(0.1)"
    thread = when(Path("ready").exists, lambda: asked(signal.SIGTERM, None))
    assert running(replace(settings, grace_s=1.0), code, asked) == 1
    thread.join()
    assert "no last snapshot within 1 s: killed" in capfd.readouterr().err


def test_a_pause_ends_at_once_when_somebody_asks(settings: Settings) -> None:
    asked = Asked()
    settings = replace(settings, first_pause_s=60.0)
    thread = when(Path("crashed").exists, lambda: asked(signal.SIGTERM, None))
    began = time.monotonic()
    running(settings, "pathlib.Path('crashed').touch(); sys.exit(3)", asked)
    thread.join()
    assert time.monotonic() - began < 30
    assert starts() == 1


def test_whole_lines_of_several_processes_say_which_one(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    settings = replace(settings, processes=2)
    code = NUMBER + "for n in range(500): sys.stderr.write('half a '); sys.stderr.flush(); sys.stderr.write(f'line of {number}\\n')\n"
    assert running(settings, code + "sys.stderr.write('no end')") == 0
    said = capfd.readouterr().err.splitlines()
    assert {line: said.count(line) for line in said if "half a" in line} == {f"[{n}] half a line of {n}": 500 for n in range(2)}
    assert {"[0] no end", "[1] no end"} <= set(said)


def test_one_supervisor_a_directory_also_while_its_flow_is_down(settings: Settings) -> None:
    with lock_supervisor(settings.directory), pytest.raises(Stop) as caught:
        running(settings, "")
    assert caught.value.code == LOCKED


def test_parts_that_were_half_made_are_made_anew(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / ".making").touch()
    assert running(settings, "") == 0
    assert sorted(path.name for path in tmp_path.glob("part-*")) == [f"part-{number}.sqlite3" for number in range(4)]
    assert (tmp_path / "part-0.sqlite3").stat().st_size > 0
    assert not (tmp_path / ".making").exists()


@pytest.mark.parametrize("name", ["KPI_WORKERS", "KPI_PROCESSES"])
@pytest.mark.parametrize("got", ["0", "two", "-1", "1.5", "65", "²"])
def test_a_wrong_number_of_workers_is_one_clear_line(
    name: str, got: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, got)
    assert main([]) == 1
    assert capfd.readouterr().err == f"kpi: {name}: got {got}, want a whole number from 1 to 64\n"


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("KPI_CONFIG=nowhere.toml", "KPI_CONFIG: got nowhere.toml, want"),
        ("KPI_WINDOWS=1 parsec", "KPI_WINDOWS: got"),
        ("KAFKA_SECURITY_PROTOCOL=parcel", "KAFKA_*: "),
        ("SCHEMA_REGISTRY_URL=nowhere", "SCHEMA_REGISTRY_URL: got nowhere, want"),
        ("KPI_METRICS_PORT=many", "KPI_METRICS_PORT: got many, want"),
    ],
)
def test_a_configuration_error_is_one_line_before_anything_is_made_or_started(
    given: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(*given.split("=", 1))
    assert main([]) == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"kpi: {line}")
    assert list(tmp_path.iterdir()) == []


def test_what_is_said_of_an_end_is_said_in_words() -> None:
    names = {name for name, value in vars(stop).items() if isinstance(value, int)}
    assert [words for words in FINAL.values() if names & set(re.findall(r"[A-Z]+", words))] == []


def test_settings_come_from_the_command_line_then_the_environment_then_the_defaults() -> None:
    class Given:
        recovery_directory: str | None = None

    given = Given()
    assert settings_of(given, {}) == Settings(Path(".kpi/recovery"), 1, 1)  # type: ignore[arg-type]
    environ = {"BYTEWAX_RECOVERY_DIRECTORY": "there", "KPI_WORKERS": "2", "KPI_PROCESSES": "3"}
    assert settings_of(given, environ) == Settings(Path("there"), 2, 3)  # type: ignore[arg-type]
    given.recovery_directory = "here"
    assert settings_of(given, environ) == Settings(Path("here"), 2, 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        settings_of(given, {"KPI_WORKERS": "many"})  # type: ignore[arg-type]


def test_the_ports_of_several_processes_are_free_and_different() -> None:
    ports = free_ports(8)
    assert len(set(ports)) == 8
    assert all(is_free(port) for port in ports)


def test_several_workers_take_each_epoch_as_a_tick_and_one_worker_a_second(settings: Settings) -> None:
    code = "pathlib.Path('arguments').write_text(' '.join(sys.argv))"
    for workers, epoch in ((1, "-s 1 -b 0 -w 1"), (2, "-s 0 -b 0 -w 2")):
        assert running(replace(settings, workers=workers), code) == 0
        assert epoch in Path("arguments").read_text()
