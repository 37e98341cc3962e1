"""The flow is killed at random moments, in every shape, among good messages and bad ones. In: a ground. Out: rows of the scoreboard."""

from random import Random

from tests.chaos.base import Ground, Result, Scene, pause, verified
from tests.chaos.feeder import PLAIN, Diet
from tests.chaos.flow import SHAPES, Life

POISON = Diet(bad=0.5)
FIRST_ROW_LIMIT_S = 10.0
EARLY = 0.25  # of the kills come before the first row, while it starts
EARLY_S, LIFE_S = (0.2, 5.0), (0.0, 2.0)  # after its start; after its first row
AT_ONCE_S, LATER_S, MUCH_LATER_S = (0.0, 0.3), (2.1, 3.5), (6.1, 7.0)  # until the restart: lateness and window are 1 s + 1 s, or + 5 s


def kills(ground: Ground, count: int, seed: int) -> Result:
    """Killed `count` times."""
    return _killed(ground, "kills", count, seed, PLAIN)


def poison(ground: Ground, count: int, seed: int) -> Result:
    """The same with a broken message to each good one."""
    return _killed(ground, "poison", count, seed, POISON)


def _killed(ground: Ground, name: str, count: int, seed: int, diet: Diet) -> Result:
    dice, seconds, failed = Random(seed), list[float](), list[str]()
    late = changed = partly = 0
    with ground.scene(name, seed, diet=diet) as scene:
        before = SHAPES[0]
        for number in range(count):
            shape = SHAPES[0] if number == 0 else dice.choice(SHAPES)
            changed += shape != before
            before = shape
            life = scene.flow.start(shape)
            took = _live(scene, life, dice, failed, first=number == 0)
            if took is not None and number:
                seconds.append(took)
            if shape.processes > 1 and dice.random() < 0.5:
                life.kill_one(dice.randrange(shape.processes))
                partly += 1
                pause(dice.uniform(0, 1))
            life.kill()
            down_s = dice.uniform(*(AT_ONCE_S if number % 2 else MUCH_LATER_S if number % 10 == 0 else LATER_S))
            late += down_s > AT_ONCE_S[1]
            pause(down_s)
            shown = "early" if took is None else f"first row after {took:.1f} s"
            ground.say(f"{name}: kill {number + 1} of {count}, {shape}, {shown}, down {down_s:.1f} s")
        verdict = scene.settle()
        failed += verified(scene)
    notes = f"{late} restarts later than lateness + window, {changed} changes of shape, {partly} times one process of two first"
    return Result(name, count, verdict, seconds, FIRST_ROW_LIMIT_S, notes, failed)


def _live(scene: Scene, life: Life, dice: Random, failed: list[str], *, first: bool) -> float | None:
    """Let it live for a while: seconds to its first row, or None when it is to die before that."""
    if not first and dice.random() < EARLY:
        pause(dice.uniform(*EARLY_S))
        return None
    try:
        took = scene.first_row(life)
    except (TimeoutError, RuntimeError) as error:
        failed.append(str(error))
        scene.say(f"    {error}")
        return None
    pause(dice.uniform(*LIFE_S))
    return took
