"""The Kafka monitor's books, its partitions, and how Burrow's words become metrics."""

import http.server
import json
import threading

from prometheus_client import CollectorRegistry

from infra.monitor.burrow import Burrow
from infra.monitor.ledger import Ledger
from infra.monitor.placement import Partition, missing, strayed


def ledger(*, acknowledged: int, received: int = 0) -> Ledger:
    """Records 0, 1, ... are sent at second 0 and acknowledged at offsets 0, 1, ...; the first of them are received at 0.5 s."""
    books = Ledger(late_s=2)
    for number in range(acknowledged):
        books.sent(number, 0)
        books.acknowledged(number, number, 0.1)
    for number in range(received):
        books.received(number, number, 0.5)
        books.passed(number)
    return books


def test_a_record_that_comes_back_in_time_is_available() -> None:
    books = ledger(acknowledged=3, received=3)
    assert books.fates == {"produced": 3, "consumed": 3}
    assert books.consume_availability == books.produce_availability == 1


def test_a_record_that_is_late_counts_against_availability_at_once_and_only_once() -> None:
    books = ledger(acknowledged=2, received=1)
    books.tick(2.5)
    assert books.consume_availability == 0.5
    assert books.received(1, 1, 5) == 5
    assert books.fates["delayed"] == 1
    assert books.consume_availability == 0.5


def test_a_record_that_the_reader_passes_without_meeting_it_is_lost() -> None:
    books = ledger(acknowledged=3)
    books.received(2, 2, 1)
    books.passed(2)  #  0 1 [2]: the reader met 2 only
    assert books.fates["lost"] == 2
    assert books.first_awaited is None


def test_a_record_that_another_one_has_taken_the_place_of_is_lost_though_it_was_read() -> None:
    books = ledger(acknowledged=4, received=4)  #  0 1 2 3, all read; then the log is cut off after 1
    books.sent(4, 6)
    books.acknowledged(4, 2, 6)
    assert books.first_awaited == 2
    books.received(4, 2, 6.1)
    assert books.fates["lost"] == 2


def test_a_record_at_a_second_offset_is_a_duplicate_and_one_that_is_read_again_is_not() -> None:
    books = ledger(acknowledged=1, received=1)
    assert books.received(0, 0, 1) is None
    assert books.fates["duplicated"] == 0
    books.received(0, 7, 1)
    assert books.fates["duplicated"] == 1


def test_a_record_that_cannot_be_written_is_neither_available_nor_lost() -> None:
    books = ledger(acknowledged=1, received=1)
    books.sent(1, 1)
    books.failed(1, 1.5)
    books.passed(9)
    assert books.produce_availability == books.consume_availability == 0.5
    assert books.fates == {"produced": 1, "consumed": 1, "error": 1}


def test_how_long_a_record_is_awaited_counts_from_its_acknowledgement() -> None:
    books = Ledger(late_s=2)
    books.sent(1, 0)
    assert books.awaits_s(9) == 0
    books.acknowledged(1, 5, 10)
    books.sent(2, 10)
    books.acknowledged(2, 6, 12)
    assert books.awaits_s(13) == 3
    books.received(1, 5, 13)
    assert books.awaits_s(13) == 1


def test_shares_are_of_the_last_minute() -> None:
    books = ledger(acknowledged=2, received=1)
    books.tick(3)
    books.tick(61)
    assert books.consume_availability == 0
    books.tick(64)
    assert books.consume_availability is None


# Placement


def led_by(*leaders: int, brokers: tuple[int, ...] = (1, 2, 3)) -> dict[int, Partition]:
    """Partition n is to be led by broker n + 1, and is led by leaders[n]."""
    return {n: Partition(leader, (n + 1, *(b for b in brokers if b != n + 1)), brokers) for n, leader in enumerate(leaders)}


def test_a_broker_that_comes_gets_a_partition_that_it_leads() -> None:
    assert missing([1, 2, 3, 4], led_by(1, 2, 3), copies=3) == [[4, 1, 2]]
    assert missing([1, 2], {}, copies=3) == [[1, 2], [2, 1]]


def test_a_broker_that_goes_changes_nothing() -> None:
    assert missing([1, 3], led_by(1, 3, 3), copies=3) == []
    assert strayed([1, 3], led_by(1, 3, 3)) == []


def test_a_broker_that_is_back_leads_its_partition_again_once_it_is_in_sync() -> None:
    assert strayed([1, 2, 3], led_by(1, 3, 3)) == [1]
    behind = {**led_by(1, 3, 3), 1: Partition(3, (2, 3, 1), (1, 3))}
    assert strayed([1, 2, 3], behind) == []


# Burrow

SAID = {
    "/v3/kafka/local/consumer": {"consumers": ["kpi"]},
    "/v3/kafka/local/consumer/kpi/lag": {
        "status": {
            "status": "WARN",
            "totallag": 12,
            "partitions": [{"topic": "shop.orders", "partition": 1, "current_lag": 12, "end": {"offset": 30}}],
        }
    },
}


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps(SAID[self.path]).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


def test_what_burrow_says_becomes_metrics_and_its_silence_does_too() -> None:
    registry = CollectorRegistry()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        registry.register(Burrow(f"http://127.0.0.1:{server.server_port}"))
        group = {"cluster": "local", "consumer_group": "kpi"}
        assert registry.get_sample_value("burrow_up") == 1
        assert registry.get_sample_value("burrow_kafka_consumer_status", group) == 2
        at = {**group, "topic": "shop.orders", "partition": "1"}
        assert registry.get_sample_value("burrow_kafka_consumer_partition_lag", at) == 12
        assert registry.get_sample_value("burrow_kafka_consumer_current_offset", at) == 30
        server.shutdown()
    assert registry.get_sample_value("burrow_up") == 0
