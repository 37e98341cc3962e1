"""`make replay-dead`: dead letters written to their source topic again. In: TOPIC [REASON]. Out: messages, once a person agrees.

Key, value, timestamp and partition are the original's; the header `kpi.replayed` holds its offset. What was replayed is known by these
headers in the source topic, so a second run writes only what the first did not.

Exit code 0: written, or nothing to do; 1: not wanted; 2: it cannot be done, and the line says what to do.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
from confluent_kafka import Message

from audit.aside import is_of
from audit.command import DECLINED, DONE, command, parser
from audit.decode import Said, decode, reading
from audit.gather import schema_ids
from audit.measure import part
from audit.moment import YEAR_9999_MS
from audit.survey import Ground, Survey, survey
from audit.topic import headers_of, stamp_of
from audit.write import Entry, confirmed, write
from flows.errors import ConfigError
from flows.plan import TopicPlan
from flows.records import DEAD

REPLAYED = "kpi.replayed"
REASONS = ("size", "short", "magic", "schema", "malformed", "range", "time", "future")  # of dead letters, as the flow gives them

ABOUT = """Write dead letters of a source topic to it again, once what was wrong is mended (a schema registered, a setting changed).

First it says how many there are of which reason, how many still cannot be used (they stay where they are), and how many would come too
late now: those become late records, for `make repair`. Then it asks. All go out in one transaction: Ctrl-C before its end writes nothing.
Headers that the originals had are not kept; a dead letter that was cut (kpi.truncated), or
stands for a batch that could not be unpacked, cannot be replayed."""

Place = tuple[int, int]  # partition and offset in the source topic


@dataclass(slots=True)
class Letters:
    """Dead letters of one topic. `usable`: to be written again; counts by reason of the rest."""

    usable: set[Place] = field(default_factory=set)
    reasons: Counter[str] = field(default_factory=Counter)
    still: Counter[str] = field(default_factory=Counter)
    late: int = 0
    cut: int = 0
    replayed: int = 0


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """The command; its exit code."""
    made = parser("replay", ABOUT)
    made.add_argument("reasons", nargs="?", help="only these reasons, joined by commas, as schema,malformed")
    made.add_argument("--yes", action="store_true", help="write without asking")
    return command(made, arguments, environ, _replay)


def _replay(where: Ground, given: argparse.Namespace) -> int:
    topic, reasons = given.topic, frozenset((given.reasons or "").split(",")) - {""}
    if unknown := reasons.difference(REASONS):
        raise ConfigError(f"REASON: got {', '.join(map(repr, sorted(unknown)))}, want some of {','.join(REASONS)}")
    found = survey(where, topic, given.since, given.begin)
    letters = _sorted(where, found, reasons)
    print("\n".join(_words(letters)))
    if not letters.usable:
        print("nothing to do")
        return DONE
    if not confirmed(f"write {len(letters.usable):,} messages to {topic}?", yes=given.yes):
        return DECLINED
    count = write(where.settings, f"{where.flow_id}-replay", _entries(where, found, letters.usable))
    print(f"{count:,} messages written to {topic}")
    return DONE


def _words(letters: Letters) -> Iterator[str]:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(letters.reasons.items())) or "none"
    yield f"dead letters: {reasons}"
    if letters.replayed:
        yield f"replayed before: {letters.replayed:,}"
    if letters.cut:
        yield f"set aside cut, or whole batches without their bytes, so not to be replayed: {letters.cut:,}"
    if letters.still:
        yield f"still not usable: {', '.join(f'{count:,} {reason}' for reason, count in sorted(letters.still.items()))}"
    if letters.usable:
        yield f"usable now: {len(letters.usable):,}, of which {letters.late:,} would be late"


def _letters(where: Ground, found: Survey) -> Iterator[list[tuple[Message, dict[str, str]]]]:
    """The dead letters of the topic. Those from before the flow was begun anew it has met once more since, or can read now."""
    for messages in where.topics.read(DEAD, where.topics.span(DEAD)):
        said = [(message, headers_of(message)) for message in messages if stamp_of(message) >= found.begun.since_ms]
        yield [(message, headers) for message, headers in said if is_of(headers, found.topic)]


def _sorted(where: Ground, found: Survey, reasons: frozenset[str]) -> Letters:
    """Every dead letter of the topic, put where it belongs."""
    replayed, letters, seen = _replayed(where, found), Letters(), set[Place]()
    for batch in _letters(where, found):
        chosen = []
        for message, said in batch:
            place = int(said["kpi.partition"]), int(said["kpi.offset"])
            if place in seen or (reasons and said["kpi.reason"] not in reasons):
                continue
            seen.add(place)
            letters.reasons[said["kpi.reason"]] += 1
            if "kpi.truncated" in said or message.value() is None:
                letters.cut += 1
            elif place in replayed:
                letters.replayed += 1
            else:
                chosen.append((place, int(said["kpi.timestamp"]), message.value()))
        _examine(where, found, chosen, letters)
    return letters


def _replayed(where: Ground, found: Survey) -> set[Place]:
    """What stands in the source topic again, by its headers. A replay stands behind its original, so only from the first letter on."""
    letters = pl.scan_parquet(found.aside.file).filter(pl.col("reason") != "late").group_by("partition").agg(pl.col("offset").min())
    span = where.topics.span(found.topic)
    asked = {p: (max(first, span[p][0]), span[p][1]) for p, first in letters.collect().iter_rows() if p in span}
    return {
        (message.partition() or 0, int(headers_of(message)[REPLAYED]))
        for messages in where.topics.read(found.topic, asked, unread=found.aside.unread)
        for message in messages
        if message.headers() and REPLAYED in headers_of(message)
    }


def _examine(where: Ground, found: Survey, chosen: Sequence[tuple[Place, int, bytes | None]], letters: Letters) -> None:
    """What would become of them now: still unusable, late, or an event."""
    if not chosen:
        return
    made = where.source(found.topic).plan(schema_ids(value for _, _, value in chosen) | set(found.plan.version))
    frame = decode(
        [value for _, _, value in chosen],
        Said(range(0), range(len(chosen))),
        dict(made.columns),
        lambda id_: reading(where.schema_of(id_), made),
    )
    heads = [(*place, stamp_ms) for place, stamp_ms, _ in chosen]
    judged = part(made, list(zip(*heads, strict=True)), frame).select("partition", "offset", "stamp", "fate", "time")
    for partition, offset, stamp_ms, fate, time_ms in judged.iter_rows():
        still = fate or _time_fate(made, time_ms, stamp_ms)
        if still:
            letters.still[still] += 1
            continue
        letters.usable.add((partition, offset))
        reached_ms = found.judged.reached.get(partition)
        over = reached_ms is not None and (time_ms // made.slice_ms + 1) * made.slice_ms <= reached_ms - made.lateness_ms
        letters.late += over


def _time_fate(made: TopicPlan, time_ms: int | None, stamp_ms: int) -> str | None:
    if time_ms is None or not 0 <= time_ms <= YEAR_9999_MS:
        return "time"
    return "future" if 0 <= stamp_ms < time_ms - made.max_future_ms else None


def _entries(where: Ground, found: Survey, usable: set[Place]) -> Iterator[Entry]:
    left = set(usable)
    for batch in _letters(where, found):
        for message, said in batch:
            partition, offset = place = int(said["kpi.partition"]), int(said["kpi.offset"])
            if place in left and "kpi.truncated" not in said and message.value() is not None:
                left.discard(place)
                stamp_ms = max(0, int(said["kpi.timestamp"]))
                yield Entry(found.topic, message.key(), message.value(), [(REPLAYED, str(offset))], partition, stamp_ms)


if __name__ == "__main__":
    sys.exit(main())
