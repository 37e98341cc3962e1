"""The harness proves itself: a flow with a fault built in must be found out. In: a ground. Out: a row of the scoreboard.

`python -m bytewax.run tests.chaos.faults` is the flow itself, but for a sink that commits each batch, before it is durable.
"""

from random import Random

from bytewax.dataflow import Dataflow

from flows import kpi, sink
from flows.edge import Marker
from flows.records import Barrier
from flows.sink import Item, State, WriteAhead
from tests.chaos.base import Ground, Result, pause
from tests.chaos.verdict import Verdict


class CommitEachBatch(WriteAhead):
    """The obvious way: rows go out in a transaction as soon as they come; a kill before the snapshot brings them again."""

    def _check(self, marker: Marker | None, *, fresh: bool) -> None:
        pass

    def _claim(self) -> None:
        pass

    def write_batch(self, values: list[Item]) -> None:
        rows = []
        for value in values:
            if isinstance(value, Barrier):
                self._edge.show(value.offsets)
            else:
                rows += [(*row,) for row in value]
        if rows:
            self._transactions.commit(rows, Marker(self._lineage, 1, self._run, self._run))

    def snapshot(self) -> State:
        return self._lineage, (0, ""), []


def flow() -> Dataflow:
    """The flow with the fault in it."""
    sink.WriteAhead = CommitEachBatch  # type: ignore[misc]
    return kpi.flow()


def faults(ground: Ground, count: int, seed: int) -> Result:
    """Killed `count` times, each time soon after a row was seen: this flow must double rows, and the verdict must say so."""
    dice = Random(seed)
    with ground.scene("faults", seed, module="tests.chaos.faults") as scene:
        for number in range(count):
            life = scene.flow.start()
            scene.first_row(life)
            pause(dice.uniform(0, 0.3))
            life.kill()
            ground.say(f"faults: kill {number + 1} of {count}")
        ground.say("faults: what follows must be found:")
        found = scene.settle()
    caught = found.doubled > 0
    notes = f"seeded: commit each batch; {found.doubled} rows doubled, {'caught' if caught else 'NOT caught'}"
    return Result("faults", count, Verdict(rows=found.rows), notes=notes, failed=[] if caught else ["the seeded fault was not caught"])
