"""Supervisors of one flow on several machines, small programs in the flow's place: who is let in, who is lost, what decides for all."""

import os
import resource
import socket
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from flows import link, stop
from flows.errors import ConfigError
from flows.link import First, Member
from flows.stop import ENDED, End, Stop
from flows.supervise import Asked, Settings, settings_of, supervise
from infra.embedded.child import free_port

SAME = {"KPI_ADDRESSES": "a:1;b:2;c:3", "KPI_WORKERS": "1"}
LIFE = (
    "import pathlib, sys, os, time, signal\n"
    "number = sys.argv[sys.argv.index('-i') + 1]\n"
    "runs = pathlib.Path('runs-' + number); runs.open('a').write('.'); run = len(runs.read_text())\n"
    "signal.signal(15, lambda *_: sys.exit(0))\n"
)
FOR_EVER = "while True: time.sleep(0.05)"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A retry each 0.05 s, and a beat each 0.1 s."""
    monkeypatch.setattr(link, "RETRY_S", 0.05)
    monkeypatch.setattr(link, "BEAT_S", 0.1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part-0.sqlite3").touch()


@dataclass
class Machines:
    """One supervisor a thread; `codes` are their exit codes."""

    count: int
    code: str
    asked: dict[int, Asked] = field(default_factory=dict)
    codes: dict[int, int | str] = field(default_factory=dict)
    threads: dict[int, threading.Thread] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.at = tuple(f"127.0.0.1:{free_port()}" for _ in range(self.count))

    def start(self, number: int, **more: Any) -> None:
        settings = Settings(Path.cwd(), processes=self.count, process=number, addresses=self.at, first_pause_s=0.05, longest_pause_s=0.2)
        settings = replace(settings, program=("-c", LIFE + self.code), **more)
        asked = self.asked[number] = Asked()

        def run() -> None:
            try:
                self.codes[number] = supervise(settings, dict(os.environ), asked)
            except (ConfigError, Stop) as error:
                self.codes[number] = str(error)

        self.threads[number] = threading.Thread(target=run)
        self.threads[number].start()

    def end(self, *numbers: int) -> None:
        for number in numbers or self.asked:
            self.asked[number](15, None)
        for number in numbers or self.threads:
            self.threads[number].join(30)
            assert not self.threads[number].is_alive()


@pytest.fixture
def machines() -> Iterator[Callable[[int, str], Machines]]:
    made: list[Machines] = []

    def make(count: int, code: str) -> Machines:
        made.append(Machines(count, code))
        return made[-1]

    yield make
    for each in made:
        each.end()


def runs(*numbers: int) -> list[int]:
    return [len(Path(f"runs-{number}").read_text()) if Path(f"runs-{number}").exists() else 0 for number in numbers]


def until(what: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline_s, "not within 30 s"
        time.sleep(0.02)


Make = Callable[[int, str], Machines]


def test_nobody_starts_before_all_are_there_and_all_end_when_all_are_asked(machines: Make, capfd: pytest.CaptureFixture[str]) -> None:
    flow = machines(3, FOR_EVER)
    flow.start(2)
    flow.start(0)
    until(lambda: "waiting for process 1 of 3" in capfd.readouterr().err)
    assert runs(0, 1, 2) == [0, 0, 0]
    flow.start(1)
    until(lambda: runs(0, 1, 2) == [1, 1, 1])
    flow.end()
    assert flow.codes == {0: 0, 1: 0, 2: 0}


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_process_that_crashes_anywhere_lets_all_start_again_together_and_all_say_whose_it_was(
    machines: Make, capfd: pytest.CaptureFixture[str], victim: int
) -> None:
    flow = machines(3, f"if number == '{victim}' and run == 1: sys.exit(3)\n" + FOR_EVER)
    for number in range(3):
        flow.start(number)
    until(lambda: runs(0, 1, 2) == [2, 2, 2])
    flow.end()
    said = capfd.readouterr().err
    assert said.count(f"process {victim}: process ") == 2
    assert said.count("start 2 when process 0 says so") == 2
    assert said.count("start 2 in 0.05 s") == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_what_only_a_person_can_mend_ends_all_with_its_code_though_the_others_crash_of_it(machines: Make, victim: int) -> None:
    code = f"if number == '{victim}': pathlib.Path('gone').touch(); sys.exit({stop.FENCED})\n"
    flow = machines(2, code + "while not pathlib.Path('gone').exists(): time.sleep(0.05)\ntime.sleep(0.3); sys.exit(101)")
    for number in range(2):
        flow.start(number)
    until(lambda: len(flow.codes) == 2)
    assert flow.codes == {0: stop.FENCED, 1: stop.FENCED}
    assert runs(0, 1) == [1, 1]


@pytest.mark.parametrize("who", [0, 1])
def test_who_is_asked_to_end_has_all_end_well_and_the_others_start_again_when_it_is_back(machines: Make, who: int) -> None:
    flow = machines(2, "signal.signal(15, lambda *_: (pathlib.Path('well-' + number).touch(), sys.exit(0)))\n" + FOR_EVER)
    flow.start(0)
    flow.start(1)
    until(lambda: runs(0, 1) == [1, 1])
    until(lambda: not flow.asked[who].times)
    flow.end(who)
    assert flow.codes == {who: 0}
    until(lambda: Path("well-0").exists() and Path("well-1").exists())
    flow.start(who)
    until(lambda: runs(0, 1) == [2, 2])


def test_settings_that_differ_are_refused_and_both_sides_say_which(machines: Make, capfd: pytest.CaptureFixture[str]) -> None:
    flow = machines(2, FOR_EVER)
    flow.start(0)
    flow.start(1, workers=3)
    until(lambda: 1 in flow.codes)
    assert flow.codes[1] == "process 0 refuses us: KPI_WORKERS: got 3, want 1, as process 0 has"
    until(lambda: "refused one who connects from 127.0.0.1: KPI_WORKERS: got 3, want 1" in capfd.readouterr().err)
    flow.threads[1].join()
    flow.start(1)
    until(lambda: runs(0, 1) == [1, 1])


def test_another_recovery_directory_is_refused(machines: Make, tmp_path: Path) -> None:
    flow = machines(2, FOR_EVER)
    flow.start(0)
    (tmp_path / "elsewhere").mkdir()
    flow.start(1, directory=tmp_path / "elsewhere")
    until(lambda: 1 in flow.codes)
    assert "recovery directory (identity): got , want" in str(flow.codes[1])


def test_a_process_id_that_is_taken_and_a_lone_flow_are_refused_by_their_locks(machines: Make) -> None:
    flow = machines(2, FOR_EVER)
    flow.start(0)
    flow.start(1)
    until(lambda: runs(0, 1) == [1, 1])
    settings = Settings(Path.cwd(), processes=2, process=1, addresses=flow.at)
    for other in (settings, Settings(Path.cwd())):
        with pytest.raises(Stop, match="another flow") as caught:
            supervise(other, dict(os.environ), Asked())
        assert caught.value.code == stop.LOCKED


# The link alone


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def first(said: list[str]) -> Iterator[First]:
    made = First(("127.0.0.1", free_port()), 3, lambda: SAME, said.append)
    yield made
    made.close()


def member(first: First, number: int, same: Mapping[str, str] = SAME) -> Member:
    return Member(number, first._server.getsockname(), lambda: same, lambda _: None)


def gathered(first: First, *members: Member) -> None:
    waiting = [threading.Thread(target=each.gather, args=(0.0, lambda: True)) for each in members]
    for thread in waiting:
        thread.start()
    assert first.gather(0.0, lambda: True) is None
    for thread in waiting:
        thread.join()


def test_a_member_that_is_silent_is_lost_and_the_others_are_not(first: First, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "LOST_S", 1.0)
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    for _ in range(8):  # member 2 beats, member 1 stands still
        assert (first.news(), members[1].news()) == (None, None)
        time.sleep(0.05)
    while (lost := first.news()) is None:
        assert members[1].news() is None
        time.sleep(0.05)
    assert (lost.why[:30], lost.again) == ("process 1 is lost (silent for ", True)
    for each in members:
        each.close()


def test_a_member_that_hears_nothing_gives_process_0_up_sooner_than_that_the_member(first: First, monkeypatch: pytest.MonkeyPatch) -> None:
    assert link.BEAT_S < link.SILENT_S < link.LOST_S
    monkeypatch.setattr(link, "SILENT_S", 0.5)
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    while (lost := members[0].news()) is None:
        time.sleep(0.05)
    assert (lost.why[:30], lost.again) == ("process 0 is lost (silent for ", True)
    for each in members:
        each.close()


@pytest.mark.parametrize(
    ("talk", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "it does not talk as a supervisor does"),
        (b"x" * 70_000, "it says more than a supervisor does"),
        (b'["beat", {}]\n', "it says no hello"),
        (b'["hello", {"process": 1}]\n', "it says no hello"),
        (b'["hello", {"process": 7, "same": {}}]\n', "KPI_PROCESS_ID: got 7, want a number from 1 to 2"),
        (
            b'["hello", {"process": 1, "same": {"KPI_ADDRESSES": "a:1;b:2"}}]\n',
            "KPI_ADDRESSES: got a:1;b:2, want a:1;b:2;c:3, as process 0 has",
        ),
        (b"[" * 60_000 + b"\n", "it does not talk as a supervisor does"),
    ],
)
def test_a_stranger_is_refused_with_a_line_and_harms_nothing(first: First, said: list[str], talk: bytes, why: str) -> None:
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    with socket.create_connection(first._server.getsockname()) as stranger:
        with suppress(OSError):
            stranger.sendall(talk)
        deadline_s = time.monotonic() + 10
        while said[-1:] != [f"refused one who connects from 127.0.0.1: {why}"]:
            assert time.monotonic() < deadline_s, said
            assert (first.news(), members[0].news(), members[1].news()) == (None, None, None)
            time.sleep(0.02)
    for each in members:
        each.close()


def test_a_connection_that_the_system_cannot_take_now_is_taken_later(first: First) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    late = member(first, 1)
    assert late._connect() == ""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert first._hear() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    deadline_s = time.monotonic() + 10
    while not first._lines and time.monotonic() < deadline_s:
        first._hear()
    assert list(first._lines) == [1]
    late.close()


def test_a_member_that_begins_anew_is_a_loss(first: First) -> None:
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    again = member(first, 1)
    assert again._connect() == ""
    deadline_s = time.monotonic() + 10
    while (news := first.news()) is None and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert news == End(1, "process 1 has begun anew", again=True)
    for each in (*members, again):
        each.close()


def test_a_member_that_begins_anew_before_the_start_is_no_loss(first: First) -> None:
    before, again, other = member(first, 1), member(first, 1), member(first, 2)
    gathering = threading.Thread(target=first.gather, args=(0.0, lambda: True))
    gathering.start()
    for each in (before, again, other):  # process 2 is the last that the start waits for
        known = dict(first._lines)
        assert each._connect() == ""
        until(lambda known=known: first._lines != known)  # type: ignore[misc] # mypy knows no such lambda
    gathering.join(10)
    assert not gathering.is_alive()
    assert first.news() is None
    for each in (before, again, other):
        each.close()


def test_who_has_ended_well_is_not_lost(first: First) -> None:
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    assert members[0].verdict(ENDED) == ENDED
    for _ in range(10):
        assert (first.news(), members[1].news()) == (None, None)
        time.sleep(0.02)
    assert first.verdict(ENDED) == ENDED
    for _ in range(10):
        assert members[1].news() is None
        time.sleep(0.02)


def test_who_has_ended_well_and_is_back_before_anybody_looks_is_not_lost(first: First) -> None:
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    assert members[0].verdict(ENDED) == ENDED
    again = member(first, 1)
    assert again._connect() == ""
    time.sleep(0.1)
    for _ in range(10):
        assert first.news() is None
        time.sleep(0.02)
    assert sorted(first._lines) == [1, 2]
    assert first._done == {1}
    for each in (*members, again):
        each.close()


def test_who_has_ended_well_may_be_replaced_while_it_waits_for_the_next_start(first: First) -> None:
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    assert members[0].verdict(ENDED) == ENDED
    again, other = member(first, 1), member(first, 1)
    for each in (again, other):
        assert each._connect() == ""
        for _ in range(10):
            assert first.news() is None
            time.sleep(0.02)
    for each in (*members, again, other):
        each.close()


def test_of_ends_that_belong_together_the_one_that_only_a_person_can_mend_decides_for_all(first: First) -> None:
    members = member(first, 1), member(first, 2)
    gathered(first, *members)
    crash, final = End(101, "crashed", again=True), End(stop.FENCED, "fenced", again=False)
    ends: dict[int, End] = {}
    threads = [
        threading.Thread(target=lambda number=number, own=own: ends.update({number: members[number].verdict(own)}))
        for number, own in enumerate((final, crash))
    ]
    for thread in threads:
        thread.start()
    ends[2] = first.verdict(crash)
    for thread in threads:
        thread.join()
    assert ends == {0: final, 1: final._replace(why="process 1: fenced"), 2: final._replace(why="process 1: fenced")}


# Settings


def settings(**environ: str) -> Settings:
    return settings_of(Namespace(recovery_directory="here"), environ)


def test_the_place_of_a_process_is_its_number_among_the_addresses() -> None:
    got = settings(KPI_ADDRESSES="flow-0:2101;flow-1:2101", KPI_PROCESS_ID="1")
    assert got == Settings(Path("here"), processes=2, process=1, addresses=("flow-0:2101", "flow-1:2101"))
    assert settings(KPI_ADDRESSES="flow-0:2101", KPI_PROCESS_ID="0") == Settings(Path("here"))


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"KPI_PROCESS_ID": "1"}, "KPI_ADDRESSES: got nothing, want host:port"),
        ({"KPI_ADDRESSES": "a:1;b"}, "KPI_ADDRESSES: got a:1;b, want host:port"),
        ({"KPI_ADDRESSES": "a:1;a:1"}, "KPI_ADDRESSES: got a:1;a:1, want host:port"),
        ({"KPI_ADDRESSES": "a:1;b:65535"}, "KPI_ADDRESSES: got a:1;b:65535, want host:port"),
        ({"KPI_ADDRESSES": "a:1;b:2"}, "KPI_PROCESS_ID: got nothing, want the place of this process in KPI_ADDRESSES, from 0 to 1"),
        ({"KPI_ADDRESSES": "a:1;b:2", "KPI_PROCESS_ID": "2"}, "KPI_PROCESS_ID: got 2, want the place"),
        ({"KPI_ADDRESSES": "a:1;b:2", "KPI_PROCESS_ID": "0", "KPI_PROCESSES": "3"}, "KPI_ADDRESSES: got 2 addresses, want 3"),
        ({"KPI_ADDRESSES": ";".join(f"a:{port}" for port in range(1, 66))}, "KPI_ADDRESSES: got 65 addresses, want at most 64"),
    ],
)
def test_a_place_that_cannot_be_is_one_line(environ: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        settings(**environ)


def test_an_address_that_is_not_of_this_machine_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"KPI_ADDRESSES: got 203\.0\.113\.1 for process 0, want a name or address of this machine"):
        First(("203.0.113.1", 20_001), 2, lambda: SAME, print)
