"""A flow stands still, another takes over, the first wakes up. In: a ground. Out: a row of the scoreboard.

The second has a copy of the recovery directory, as after a move to another machine: only Kafka can tell the first that it is over.
"""

import signal
import time
from random import Random

from flows.stop import FENCED
from tests.chaos.base import Ground, Result, Scene, pause, until, verified
from tests.chaos.flow import SHAPES, Life

AWAKE_S = 30.0  # a flow that wakes up must have left by then
SHAPES_OF_ZOMBIES = SHAPES[:2]  # of two processes, one may own no sink part


def zombies(ground: Ground, count: int, seed: int) -> Result:
    """Replaced `count` times."""
    dice, seconds, failed, fenced = Random(seed), list[float](), list[str](), 0
    with ground.scene("zombies", seed) as scene:
        first = scene.flow
        flows = [first]
        life = first.start()
        try:
            scene.first_row(life)
            for number in range(count):
                pause(dice.uniform(0, 1.5))
                life.signal(signal.SIGSTOP)
                flows.append(scene.flow.twin(f"zombies-{number + 1}"))
                scene.flow = flows[-1]
                second = scene.flow.start(dice.choice(SHAPES_OF_ZOMBIES))
                took = scene.first_row(second)
                gone_s, codes = _wake(scene, life)
                fenced += codes == [FENCED]
                if codes != [FENCED]:
                    failed.append(f"zombie {number + 1} ended with {codes}, want [{FENCED}]")
                seconds.append(gone_s)
                shown = f"the second's first row after {took:.1f} s, the first left {gone_s:.1f} s after waking with {codes}"
                ground.say(f"zombies: {number + 1} of {count}, {shown}")
                if not second.alive:
                    failed.append(f"the flow that took over ended with {second.exit_codes}")
                    second = scene.flow.start()
                life = second
            verdict = scene.settle(life)
            failed += verified(scene)
        finally:
            for flow in flows:
                flow.end()
    return Result("zombies", count, verdict, seconds, AWAKE_S, f"{fenced} of {count} left fenced", failed)


def _wake(scene: Scene, life: Life) -> tuple[float, list[int | None]]:
    """SIGCONT: seconds until it left, and its exit codes."""
    woken_s = time.monotonic()
    life.signal(signal.SIGCONT)
    try:
        until(lambda: not life.alive, AWAKE_S, "the first flow leaves")
    except TimeoutError as error:
        scene.say(f"    {error}")
    return time.monotonic() - woken_s, life.exit_codes
