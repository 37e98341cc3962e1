"""`python -m bench.paced`: clicks at a steady rate, of the event time of now. In: --rate, ... Out: a topic; a line of JSON."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence

import numpy as np
from confluent_kafka import Producer

from bench.clicks import PARTITIONS, TOPIC
from flows.encoder import NULL, chosen, fixed, joined, listed, texts, zigzags

TICK_S = 0.01
BEHIND_S = 0.5  # what is due longer than this is not made: the rate is what is measured at, and bursts are another thing


def clicks(
    dice: np.random.Generator, head: bytes, times_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]", groups: Sequence[bytes]
) -> list[bytes]:
    """A click at each of these times, in the wire format; its group by chance, out of those named in `groups`."""
    count = len(times_ms)
    zeros = np.zeros(count, np.int64)
    columns = [
        chosen([head], zeros),
        zigzags(times_ms),
        listed([groups[number] for number in dice.integers(0, len(groups), count).tolist()]),
        zigzags(dice.integers(0, 10**7, count)),
        fixed(dice.random(count) * 100),
        zigzags(dice.integers(0, 10, count)),
        chosen([NULL], zeros),  # no coupon
    ]
    return joined(columns)


def main() -> None:
    """Produce until the time is over."""
    parser = argparse.ArgumentParser(prog="python -m bench.paced", description=__doc__)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--groups", type=int, default=200)
    parser.add_argument("--schema-id", type=int, required=True)
    given = parser.parse_args()
    own = {"linger.ms": 10, "batch.size": 1_000_000, "compression.type": "lz4", "queue.buffering.max.messages": 2_000_000}
    producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], **own})
    groups, dice = joined(texts([f"k{number:06d}" for number in range(given.groups)])), np.random.default_rng(1)
    head, produce = b"\0" + given.schema_id.to_bytes(4, "big"), producer.produce
    begun_s = time.monotonic()
    done = made = 0
    while (now_s := time.monotonic() - begun_s) < given.seconds:
        due = int(now_s * given.rate) - done
        done += due
        now_ms = time.time_ns() // 1_000_000
        for number, value in enumerate(clicks(dice, head, np.full(min(due, int(given.rate * BEHIND_S)), now_ms), groups), made):
            produce(TOPIC, value, None, number % PARTITIONS, None, None, now_ms)
            made += 1
        producer.poll(0)
        time.sleep(TICK_S)
    left = producer.flush(60)
    sys.stdout.write(json.dumps({"made": made - left, "seconds": now_s, "wanted": done}) + "\n")


if __name__ == "__main__":
    main()
