"""How the reader thread is. In: what it says of itself. Out: what every page says of it. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """How the feed is. `trouble`: what it waits for, in words, since `trouble_s` (clock); empty when all is well.

    `behind`: records of the history still to be read back, at most.
    """

    address: str
    registry: str
    topics: int = 0
    rows: int = 0
    unreadable: int = 0
    behind: int = 0
    looked: bool = False  # whether a broker has ever listed its topics
    trouble: str = ""
    trouble_s: float = 0.0
