"""Hand-worked examples that hold the oracle itself. Times are small whole milliseconds; `|` closes a slice, `w` is the watermark."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest

from tests.differences import agree, compare
from tests.oracle import YEAR_10000_MS, Event, Fate, Kpi, Message, Outcome, Row, Spec, Step, expect
from tests.oracle_aggregates import Anything, Expected, Measured, Told, ratio, result
from tests.oracle_windows import tumbling

FOLDED, FILTERED, TIME, FUTURE = Fate("folded"), Fate("filtered"), Fate("time"), Fate("future")
LATE, LATE_IDLE, LATE_JOINED, LATE_CLOSED = (Fate("late", cause) for cause in ("data", "idle", "joined", "closed"))
KPIS = (Kpi("n", "count", "*"), Kpi("total", "sum", "v"))


def spec(
    sizes_ms: tuple[int, ...] = (10,), lateness_ms: int = 0, idle_ms: int = 100, where: Callable[[Event], bool | None] | None = None
) -> Spec:
    return Spec(tumbling(*sizes_ms), KPIS, lateness_ms=lateness_ms, idle_ms=idle_ms, max_future_ms=50, where=where)


class Topic:
    """Polls drawn as lists of event times, or of whole messages; offsets count up by themselves."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions, self.steps, self.heard = partitions, list[Step](), dict[int, int]()

    def poll(self, clock_ms: int, *partitions: Sequence[int | Message], ends: Sequence[int] = (), asked_ms: int | None = None) -> "Topic":
        """`ends`: partitions that are read to an end that was asked for just now, or at `asked_ms`."""
        polled = {p: [self._message(p, m) for m in messages] for p, messages in enumerate(partitions)}
        self.steps.append(Step(clock_ms, polled, self.partitions, dict.fromkeys(ends, clock_ms if asked_ms is None else asked_ms)))
        return self

    def _message(self, partition: int, message: int | Message) -> Message:
        offset = self.heard[partition] = self.heard.get(partition, -1) + 1
        whole = at(message) if isinstance(message, int) else message
        return whole._replace(partition=partition, offset=offset)


def at(time_ms: object, timestamp_ms: int = 2000, broken: str | None = None, **fields: object) -> Message:
    return Message(0, 0, timestamp_ms, None, {"t": time_ms, "v": 1, **fields}, broken)


def fates(outcome: Outcome, partition: int = 0) -> list[Fate]:
    return [fate for (p, _), fate in sorted(outcome.fates.items()) if p == partition]


def windows(rows: Sequence[Row]) -> list[tuple[int, int, int, str | None, int | None]]:
    return sorted(((r.window.size_ms, r.start_ms, r.events, r.closed_by, r.closed_step) for r in rows), key=lambda row: row[:2])


def test_an_event_on_the_edge_belongs_to_the_later_window() -> None:
    #  [0 ....... 9)[10 ...... 19)[20
    #             9  10        19
    outcome = expect(spec(), Topic().poll(1000, [9, 10, 19]).steps)
    assert windows(outcome.open) == [(10, 10, 2, None, None)]
    assert windows(outcome.finals) == [(10, 0, 1, "data", 0)]


def test_a_message_is_late_if_and_only_if_its_slice_ends_at_or_before_the_watermark_before_it() -> None:
    #  [0 ....... 9)[10 ...... 19)[20        lateness 5
    #    t = 14: w = 9    0..9 may still come: 10 > 9
    #    t =  3: folded
    #    t = 15: w = 10   the slice [0, 10) is over: 10 <= 10
    #    t =  9: late
    #    t = 10: folded, below the newest but in an open slice
    outcome = expect(spec(lateness_ms=5), Topic().poll(1000, [14, 3, 15, 9, 10]).steps)
    assert fates(outcome) == [FOLDED, FOLDED, FOLDED, LATE, FOLDED]


def test_a_message_that_moves_the_watermark_past_its_own_slice_is_not_late_itself() -> None:
    #  w = none before it: lateness 0, t = 25 gives w = 25, and a second 25 is still in [20, 30)
    assert fates(expect(spec(), Topic().poll(1000, [25, 25, 19]).steps)) == [FOLDED, FOLDED, LATE]


def test_lateness_is_judged_in_the_messages_own_partition() -> None:
    #  p0  95 -> w0 = 95
    #  p1   5 -> w1 =  5    folded: nobody in p1 has seen 95
    outcome = expect(spec(), Topic(2).poll(1000, [95], [5]).steps)
    assert fates(outcome, 1) == [FOLDED]
    assert outcome.watermarks == [5]


def test_late_and_filtered_messages_move_the_watermark_but_future_impossible_and_broken_ones_do_not() -> None:
    #  clock 1000, max_future 50
    #  [0 ... 9)[10 ... 19)[20 ...)[30 ...)
    #      filtered 25 -> w = 25;  9 late;   future 1051, time -1, malformed 90: w = 25;  22 folded
    where = spec(where=lambda event: event["v"] != 0)
    outcome = expect(where, Topic().poll(1000, [at(25, v=0), 9, 1051, -1, at(90, broken="malformed"), 22]).steps)
    assert fates(outcome) == [FILTERED, LATE, FUTURE, TIME, Fate("malformed"), FOLDED]
    assert outcome.watermarks == [25]


def test_a_late_message_that_the_condition_would_drop_is_late() -> None:
    outcome = expect(spec(where=lambda event: event["v"] != 0), Topic().poll(1000, [25, at(9, v=0), at(25, v=None), at(25, v=0)]).steps)
    assert fates(outcome) == [FOLDED, LATE, FOLDED, FILTERED]


def test_a_condition_that_is_null_drops_the_message() -> None:
    assert fates(expect(spec(where=lambda _: None), Topic().poll(1000, [25]).steps)) == [FILTERED]


def test_the_future_begins_after_the_smaller_of_both_clocks_and_max_future() -> None:
    #  Kafka 1000, read 1000, max_future 50:   1050 is now, 1051 is the future
    #  Kafka 2000, read 1000 (the producer's clock is wrong): the same
    #  Kafka  900, read 1000:                   951 is the future
    messages = [at(1050, 1000), at(1051, 1000), at(1050, 2000), at(1051, 2000), at(950, 900), at(951, 900)]
    outcome = expect(spec((2000,)), Topic().poll(1000, messages).steps)
    assert fates(outcome) == [FOLDED, FUTURE] * 3


def test_times_that_cannot_be_are_judged_before_the_future() -> None:
    messages = [at(-1), at(YEAR_10000_MS), at(YEAR_10000_MS - 1), at(2**62), at(None), at(0)]
    assert fates(expect(spec(), Topic().poll(1000, messages).steps)) == [TIME, TIME, FUTURE, TIME, TIME, FOLDED]


@pytest.mark.parametrize(("unit_ns", "raw", "start_ms"), [(1000, 9_999, 0), (1000, 10_000, 10), (1, 9_999_999, 0), (1_000_000, 9, 0)])
def test_finer_units_are_floored(unit_ns: int, raw: int, start_ms: int) -> None:
    outcome = expect(Spec(tumbling(10), KPIS, time_unit_ns=unit_ns, lateness_ms=0), Topic().poll(1000, [at(raw)]).steps)
    assert [row.start_ms for row in outcome.open] == [start_ms]


def test_a_microsecond_before_1970_is_impossible() -> None:
    assert fates(expect(Spec(tumbling(10), KPIS, time_unit_ns=1000), Topic().poll(1000, [at(-1)]).steps)) == [TIME]


def test_without_a_time_field_the_kafka_timestamp_is_the_event_time() -> None:
    outcome = expect(Spec(tumbling(10), KPIS, time=None), Topic().poll(1000, [at(3, timestamp_ms=47)]).steps)
    assert [row.start_ms for row in outcome.open] == [40]


def test_a_tombstone_and_each_broken_message_have_their_own_fate() -> None:
    reasons = ("short", "magic", "schema", "malformed", "range")
    tombstone = Message(0, 0, 1000, b"k", None)
    outcome = expect(spec(), Topic().poll(1000, [tombstone, *(at(5, broken=reason) for reason in reasons)]).steps)
    assert fates(outcome) == [Fate(kind) for kind in ("tombstone", *reasons)]
    assert outcome.watermarks == [None]


def test_the_slice_is_the_greatest_common_divisor_so_a_late_message_is_late_for_all_sizes() -> None:
    #  sizes 4 and 6: slices of 2
    #  [0 . 2 . 4 . 6)   t = 5 -> w = 5;   3 is late (4 <= 5) although [0, 6) is open;   4 is folded into [4, 8) and [0, 6)
    outcome = expect(spec((4, 6)), Topic().poll(1000, [5, 3, 4]).steps)
    assert fates(outcome) == [FOLDED, LATE, FOLDED]
    assert windows(outcome.open) == [(4, 4, 2, None, None), (6, 0, 2, None, None)]


def test_windows_close_by_whole_slices() -> None:
    #  sizes 4 and 6, slices of 2: w = 5 -> C = 4: [0, 4) closes, [0, 6) waits for w = 6
    outcome = expect(spec((4, 6)), Topic().poll(1000, [1]).poll(1000, [5]).poll(1000, [6]).steps)
    assert windows(outcome.finals) == [(4, 0, 1, "data", 1), (6, 0, 2, "data", 2)]


def test_the_topic_watermark_is_the_least_over_all_partitions_heard_of_or_not() -> None:
    #  p0  15 ........ 35 .........
    #  p1      .......     25 .....
    #  w   -oo        -oo  25
    outcome = expect(spec(), Topic(2).poll(1000, [15]).poll(1000, [35]).poll(1000, [], [25]).steps)
    assert outcome.watermarks == [None, None, 25]
    assert windows(outcome.finals) == [(10, 10, 1, "data", 2)]


def test_an_idle_partition_promises_the_clock_minus_lateness_when_its_end_is_seen() -> None:
    #  idle 100, lateness 5, clock:  1000   1099   1100   1101   1102
    #  end seen                        -      x      x      -      x
    #  w                             985    985   1095   1095   1097
    topic = Topic().poll(1000, [990]).poll(1099, ends=[0]).poll(1100, ends=[0]).poll(1101).poll(1102, ends=[0])
    outcome = expect(spec(lateness_ms=5), topic.steps)
    assert outcome.watermarks == [985, 985, 1095, 1095, 1097]
    assert windows(outcome.finals) == [(10, 990, 1, "idle", 2)]


def test_what_waits_unread_behind_an_end_that_was_seen_is_not_late() -> None:
    #  1100: end seen, w = 1100 ········ no Kafka, or a pause ········ 2000: what was written at 1500 is read, and folded
    outcome = expect(spec(), Topic().poll(1000, [990]).poll(1100, ends=[0]).poll(1990).poll(2000, [1500]).steps)
    assert fates(outcome) == [FOLDED, FOLDED]
    assert outcome.watermarks == [990, 1100, 1100, 1500]


def test_an_end_that_is_reached_later_is_a_promise_of_the_moment_when_it_was_asked_for() -> None:
    #  asked for at 1105, reached at 1120: what came meanwhile may wait unread
    outcome = expect(spec(), Topic().poll(1000, [990]).poll(1120, ends=[0], asked_ms=1105).steps)
    early = expect(spec(), Topic().poll(1000, [990]).poll(1120, ends=[0], asked_ms=1099).steps)
    assert outcome.watermarks == [990, 1105]
    assert early.watermarks == [990, 990], "idle had not passed then"


def test_a_partition_whose_end_was_not_seen_since_it_moved_promises_nothing() -> None:
    #  end seen at 1000 with 980; 990 moves w at 1001: that end was before
    never = expect(spec(), Topic().poll(1000, [980]).poll(2000).steps)
    before = expect(spec(), Topic().poll(1000, [980], ends=[0]).poll(1001, [990]).poll(2000).steps)
    assert never.watermarks == [980, 980]
    assert before.watermarks == [980, 990, 990]


def test_the_wait_for_idle_starts_anew_with_every_event_that_moves_the_watermark() -> None:
    #  idle 100;  990 moves w at 1050, so the promise waits for 1150
    outcome = expect(spec(), Topic().poll(1000, [980]).poll(1050, [990]).poll(1149, ends=[0]).poll(1150, ends=[0]).steps)
    assert outcome.watermarks == [980, 990, 990, 1150]


def test_an_end_seen_behind_the_messages_of_the_same_poll_counts() -> None:
    assert expect(spec(), Topic().poll(1000, [990]).poll(1100, [990], ends=[0]).steps).watermarks == [990, 1100]


def test_a_partition_of_poison_alone_cannot_hold_the_topic() -> None:
    poison = at(5, broken="malformed")
    topic = Topic(2).poll(1000, [990], [poison]).poll(1050, [1040], [poison]).poll(1120, [1110], [poison], ends=[1])
    assert expect(spec(), topic.steps).watermarks == [None, None, 1110]


def test_what_an_idle_partition_brings_below_its_promise_is_late_by_idle_unless_its_own_data_says_so() -> None:
    #  p0  900: w = 900 by data .......... promise: w = 1100
    #                                       905 idle,  899 data ([890, 900) was over anyway),  1099 idle,  1100 folded
    outcome = expect(spec(), Topic().poll(1000, [900]).poll(1100, ends=[0]).poll(1101, [905, 899, 1099, 1100]).steps)
    assert fates(outcome) == [FOLDED, LATE_IDLE, LATE, LATE_IDLE, FOLDED]


def test_messages_are_judged_before_the_promise_of_their_own_poll() -> None:
    #  clock 1100: 900 is read, it moves nothing, so the promise follows: w = 1100
    outcome = expect(spec(), Topic().poll(1000, [900]).poll(1100, [900], ends=[0]).poll(1101, [900]).steps)
    assert fates(outcome) == [FOLDED, FOLDED, LATE_IDLE]
    assert outcome.watermarks == [900, 1100, 1100]


def test_a_window_that_the_data_alone_would_have_closed_says_data() -> None:
    #  p0 990 -> 1015 by data;  p1 idle since ever
    #  both promise at 1100: [990, 1000) closes by a promise (p1 said nothing)
    silent = expect(spec(), Topic(2).poll(1000, [990, 1015]).poll(1100, ends=[0, 1]).steps)
    spoken = expect(spec(), Topic(2).poll(1000, [990, 1015], [1003]).poll(1100, ends=[0, 1]).steps)
    assert windows(silent.finals) == [(10, 990, 1, "idle", 1), (10, 1010, 1, "idle", 1)]
    assert windows(spoken.finals) == [(10, 990, 1, "data", 0), (10, 1000, 1, "idle", 1), (10, 1010, 1, "idle", 1)]


def test_a_partition_that_joins_promises_the_clock_minus_lateness_and_older_events_in_it_are_late() -> None:
    #  lateness 5
    #  p0  980 ......... 1000
    #  p1      joins at 1010: w1 = 1005      994: late, 1004: folded ([1000, 1010) ends behind 1005)
    topic = Topic().poll(1000, [980])
    topic.partitions = 2
    outcome = expect(spec(lateness_ms=5), topic.poll(1010, [1000], [994, 1004]).steps)
    assert fates(outcome, 1) == [LATE_JOINED, FOLDED]
    assert outcome.watermarks == [975, 995]


def test_the_topic_watermark_never_goes_back_so_a_joined_partition_may_find_its_slice_closed() -> None:
    #  p0  1045 (ahead of the clock) -> W = 1045, C = 1040
    #  p1      joins at 1010: w1 = 1010      1035: not late in p1, but [1030, 1040) is closed;   1041: folded
    topic = Topic().poll(1000, [1045])
    topic.partitions = 2
    outcome = expect(spec(where=lambda event: event["v"] != 0), topic.poll(1010, [], [1035, at(1035, v=0), 1041]).steps)
    assert fates(outcome, 1) == [LATE_CLOSED, FILTERED, FOLDED]
    assert outcome.watermarks == [1045, 1045]


def test_every_group_set_has_its_rows_and_null_is_a_group_of_its_own() -> None:
    groups = Spec(tumbling(10), KPIS, lateness_ms=0, group_sets=((), ("c",), ("a.b", "c")))
    messages = [at(1, c=None, a={"b": True}), at(2, c="", a={"b": True}), at(3, c="", a=None), at(3, c="None", a={"b": -7})]
    outcome = expect(groups, Topic().poll(1000, messages).steps)
    assert {(row.group_set, row.group): row.events for row in outcome.open} == {
        ((), ()): 4,
        (("c",), (None,)): 1,
        (("c",), ("",)): 2,
        (("c",), ("None",)): 1,
        (("a.b", "c"), ("true", None)): 1,
        (("a.b", "c"), ("true", "")): 1,
        (("a.b", "c"), (None, "")): 1,
        (("a.b", "c"), ("-7", "None")): 1,
    }


@pytest.mark.parametrize(
    ("aggregate", "values", "want"),
    [
        ("count", [], 4),
        ("rate", [], 2.0),  # 4 events in 2 s
        ("sum", [1, None, 3], 4),
        ("sum", [2**63 - 1, 1, -1], 2**63 - 1),
        ("sum", [2**63 - 1, 1], None),
        ("sum", [-(2**63), 0], -(2**63)),
        ("sum", [-(2**63), -1], None),
        ("sum", [Decimal("1.10"), Decimal("-2.35")], Decimal("-1.25")),
        ("sum", [Decimal(10**37)] * 10, None),
        ("sum", [1e100, 1.0, -1e100, math.nan, math.inf], 1.0),
        ("sum", [None], 0),
        ("mean", [1, 2, None], 1.5),
        ("mean", [2**63 - 1, 2**63 - 1], float(2**63 - 1)),
        ("mean", [math.nan], None),
        ("min", [3, None, -1], -1),
        ("max", [Decimal("1.5"), Decimal("1.25")], Decimal("1.5")),
        ("max", [math.inf, -0.5, math.nan], -0.5),
        ("min", [], None),
        ("deviation", [2, 4, 4, 4, 5, 5, 7, 9], math.sqrt(32 / 7)),
        ("deviation", [1e9 - 1, 1e9, 1e9 + 1], 1.0),
        ("deviation", [2**62 - 1, 2**62, 2**62 + 1], 1.0),
        ("deviation", [7, None, math.nan], None),
        ("deviation", [7, 7], 0.0),
        ("share", [True, False, None, True], 2 / 3),
        ("share", [None], None),
        ("first", [None, 3, 5], 3),
        ("last", ["b", "a", None], "a"),
        ("last", [1.5, math.nan], 1.5),
        ("first", [None], None),
        ("counts", ["WEB", None, "APP", "WEB"], {"WEB": 2, "APP": 1}),
        ("counts", [True, True], {"true": 2}),
        ("counts", [None], None),
        ("distinct", [0.0, -0.0, 1.0, None, math.nan], 2),
        ("distinct", [Decimal("1.0"), Decimal("1.00"), Decimal(2)], 2),
        ("distinct", [None], 0),
        ("increase", [5], 0),
        ("increase", [5, 8, 2, 4, 4], 7),  # 3, then anew from 2, then 2 and 0
        ("increase", [Decimal("1.5"), Decimal("1.25")], Decimal("1.25")),
        ("increase", [-(2**62), 2**62 - 1, 0, 2**62], None),  # two times almost 2^63
        ("increase", [None], None),
    ],
)
def test_aggregates_come_out_as_worked_by_hand(aggregate: str, values: list[int | float | Decimal | None], want: object) -> None:
    got, _ = result(aggregate, values, 4, 2000)
    assert got == want
    assert type(got) is type(want)


@pytest.mark.parametrize(
    ("aggregate", "told", "values", "want"),
    [
        ("top", Told(k=2), ["b", "a", "c", "a", "b", None], [("a", 2), ("b", 2)]),  # as often: by text
        ("top", Told(k=9), [10, 9, 10, True], [("10", 2), ("9", 1), ("true", 1)]),
        ("top", Told(k=2), [None], None),
        ("histogram", Told(edges=(10.0, 50.0)), [9, 10, 49.5, 50, None], [("< 10", 1), ("10 – 50", 2), ("≥ 50", 1)]),  # noqa: RUF001 - en dash
        ("histogram", Told(edges=(0.1,)), [Decimal("0.1"), Decimal("0.09")], [("< 0.1", 1), ("≥ 0.1", 1)]),
        ("histogram", Told(edges=(1.0,)), [math.nan], None),
        ("quantile", Told(q=0.5), [None, math.inf], None),
    ],
)
def test_aggregates_that_are_told_more_come_out_as_worked_by_hand(aggregate: str, told: Told, values: list[Measured], want: object) -> None:
    assert result(aggregate, values, 4, 2000, told) == (want, 0.0)


@pytest.mark.parametrize(
    ("q", "values", "right", "wrong"),
    [
        (0.5, [1.0, 2.0, 3.0, 4.0], [2.0, 1.981, 2.019], [1.97, 2.03, 3.0, 2]),  # floor(0.5 * 3) = 1
        (0.95, [float(v) for v in range(1, 22)], [20.0, 19.9], [19.0, 21.0]),  # 0.95 * 20 is the 19th behind the first
        (0.0, [-5.0, 0.0, 3.0], [-5.0, -4.96], [5.0, 0.0]),
        (0.5, [-5, 0, 3], [0.0], [1e-300, -0.01]),  # nothing is near 0 but 0
        (1.0, [5e-324], [5e-324], [0.0, 1e-323]),
        (1.0, [1.7e308], [1.69e308], [math.inf]),
    ],
)
def test_a_quantile_is_within_a_hundredth_of_the_value_at_its_rank(
    q: float, values: list[Measured], right: list[float], wrong: list[float]
) -> None:
    want, _ = result("quantile", values, 0, 1, Told(q=q))
    assert all(agree(want, got) for got in right)
    assert not any(agree(want, got) for got in wrong)


def test_beyond_1024_values_a_distinct_and_a_top_may_be_off_by_as_much_as_they_say() -> None:
    many = [str(number) for number in range(2_000)] + ["7"] * 500
    want, _ = result("distinct", many, 0, 1)
    assert [agree(want, got) for got in (1_960, 2_040, 1_959, 2_041, 2_000.0)] == [True, True, False, False, False]
    top, _ = result("top", many, 0, 1, Told(k=1))  # 2,500 / 1,025 = 2.4: at most two too low
    low, high, other = ([{"value": value, "events": count}] for value, count in (("7", 499), ("7", 502), ("8", 1)))
    assert [agree(top, got) for got in (low, high, other, [])] == [True, False, False, False]


@pytest.mark.parametrize(
    ("above", "below", "want"),
    [
        ((3, 0.0), (2, 0.0), 1.5),
        ((Decimal("1.5"), 0.0), (0.5, 0.0), 3.0),
        ((None, 0.0), (2, 0.0), None),
        ((3, 0.0), (0, 0.0), None),
        ((1e300, 0.0), (1e-300, 0.0), None),
        ((1, 0.0), (1e-17, 1e-14), Anything()),  # what it divides by may be nothing but rounding
    ],
)
def test_a_ratio_is_of_two_numbers_and_null_where_it_is_none(
    above: tuple[Expected, float], below: tuple[Expected, float], want: object
) -> None:
    assert ratio(above, below)[0] == want


def test_differences_are_named_and_agreement_is_silent() -> None:
    measured = Spec(tumbling(10), (*KPIS, Kpi("mean", "mean", "v")), lateness_ms=0, group_sets=(("c",),))
    outcome = expect(measured, Topic().poll(1000, [at(1, c="x"), at(2, c="x", v=4), at(25, c=None)]).steps)
    good = {"window": "10ms", "window_start": 0, "window_end": 10, "group_by": "c", "group": {"c": "x", "d": None}, "events": 2}
    good |= {"n": 2, "total": 5, "mean": 2.5 + 1e-10, "revision": 1, "final": True, "closed_by": "data"}
    provisional = {**good, "total": 1, "revision": 0, "final": False, "closed_by": None}
    assert compare(outcome.finals, [provisional, good]) == []
    assert compare(outcome.finals, [{**good, "total": 6}]) == ["10ms [0, 10) by (c) = ('x',): total: got 6, want 5 (slack 0.0e+00)"]
    assert compare(outcome.finals, [{**good, "total": 5.0}])[0].endswith("total: got 5.0, want 5 (slack 0.0e+00)")
    assert compare(outcome.finals, [{**good, "mean": 2.5 + 1e-8}])[0].startswith("10ms [0, 10) by (c) = ('x',): mean: got 2.5")
    assert compare(outcome.finals, [{**good, "closed_by": "idle"}])[0].endswith("closed_by: got 'idle', want 'data'")
    assert compare(outcome.finals, [good, {**good, "revision": 2}])[0].endswith("got a row after its final one")
    assert compare(outcome.finals, [{**provisional, "revision": 1}, good])[0].endswith("got revision 1 after 1")
    assert compare(outcome.finals, [{**good, "group": {"c": "x", "d": "y"}}])[0].endswith("d: got 'y', want null outside of its group set")
    assert "got no row, want 2 events" in compare(outcome.finals, [])[0]
    assert compare([], [good])[0].endswith("got 2 events, want no row")
    assert "by (c) = (None,)" in compare(outcome.open, [])[0]


@pytest.mark.parametrize(
    ("want", "got", "slack", "same"),
    [
        (1.0, 1.0 + 9e-10, 0.0, True),
        (1.0, 1.0 + 2e-9, 0.0, False),
        (1.0, 1.5, 0.5, True),
        (1.0, math.nan, 9.0, False),
        (1.0, None, 9.0, False),
        (None, 0.0, 9.0, False),
        (Decimal("1.10"), Decimal("1.1"), 0.0, True),
        (Decimal("1.10"), 1.1, 9.0, False),
        (0, Decimal("0.00"), 0.0, True),
        (0, None, 0.0, False),
    ],
)
def test_floats_agree_to_a_billionth_and_all_else_exactly(want: object, got: object, slack: float, same: bool) -> None:
    assert agree(want, got, slack) is same
