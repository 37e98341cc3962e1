"""How the partitions of a topic are shared out among readers."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from flows.reader import Duty

READERS = 4


@given(st.text(), st.integers(0, 40), st.integers(1, READERS))
def test_every_partition_has_one_reader_and_no_more_readers_have_some_than_may(topic: str, partitions: int, readers: int) -> None:
    shares = [Duty(number, READERS, {}).mine(topic, partitions, readers) for number in range(READERS)]
    assert sorted(partition for share in shares for partition in share) == list(range(partitions))
    assert sum(map(bool, shares)) == min(partitions, readers)
    sizes = [len(share) for share in shares if share]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


@given(st.text(), st.integers(0, 40))
def test_partitions_of_a_topic_of_all_readers_go_to_them_in_turns(topic: str, partitions: int) -> None:
    first = zlib.crc32(topic.encode())
    for number in range(READERS):
        wanted = {partition for partition in range(partitions) if (first + partition) % READERS == number}
        assert Duty(number, READERS, {}).mine(topic, partitions, READERS) == wanted
