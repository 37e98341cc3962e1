"""Since when what a flow has published counts. In: kpi.progress. Out: the moment at which it was last begun anew, if it was.

After `make reset` a flow reads its topics from `start`, so what it publishes from then on is complete by itself, and what stands before
it counts no more. A reset leaves a marker, and the parts of the sink that begin then have lineages of their own. Kafka compacts this
topic: of each part it keeps the newest marker, and forgets those before after a megabyte of them, which is an hour of a busy flow.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from audit.moment import iso
from audit.topic import CannotVerifyError, Topics, stamp_of
from flows.records import PROGRESS

RESET = "reset"  # the owner of a reset's markers


class Marker(NamedTuple):
    """What a part of the sink has committed, and when."""

    stamp_ms: int
    lineage: str
    sequence: int
    owner: str


class Begun(NamedTuple):
    """`since_ms`: what was published before counts no more (0: all counts); `resets`: how many of them kpi.progress remembers."""

    since_ms: int = 0
    resets: int = 0

    @property
    def former(self) -> str:
        """What stands before, in words."""
        how = f" (make reset{f', {self.resets} times' if self.resets > 1 else ''})" if self.resets else ""
        return f"final rows and records from before {iso(self.since_ms)}, when the flow was begun anew{how}"


def begun(topics: Topics, flow_id: str) -> Begun:
    """The last beginning of a flow. Raises CannotVerifyError where it has published nothing since."""
    parts, span = defaultdict[bytes | None, list[Marker]](list), topics.span(PROGRESS)
    own = {f"{flow_id}-{part}".encode() for part in span}
    for messages in topics.read(PROGRESS, span):
        for message in messages:
            if message.key() in own:
                lineage, sequence, _, owner = json.loads(message.value() or b"")
                parts[message.key()].append(Marker(stamp_of(message), lineage, sequence, owner))
    return beginning(parts.values(), flow_id)


def beginning(parts: Collection[Sequence[Marker]], flow_id: str) -> Begun:
    """The first marker of the last lineage, by the flow's own clock, where another lineage stands before it."""
    resets = max((sum(marker.owner == RESET for marker in markers) for markers in parts), default=0)
    if resets and all(markers[-1].sequence == 0 for markers in parts):
        at_ms = max(marker.stamp_ms for markers in parts for marker in markers if marker.owner == RESET)
        raise CannotVerifyError(
            f"the flow {flow_id!r} was begun anew (make reset, {iso(at_ms)}) and has published nothing since: let it run first, "
            "or say since when it has run without a recovery directory: --since"
        )
    since = [
        next(marker.stamp_ms for marker in markers if marker.lineage == markers[-1].lineage)
        for markers in parts
        if markers[0].lineage != markers[-1].lineage and markers[-1].owner != RESET
    ]
    return Begun(min(since, default=0), resets)
