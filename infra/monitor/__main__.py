"""`python -m infra.monitor`: the Kafka monitor. In: the environment. Out: metrics at its port, until SIGTERM.

Settings and their defaults: KAFKA_BOOTSTRAP_SERVERS and every other setting of librdkafka as KAFKA_X_Y, and DEFAULTS below.
"""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY, disable_created_metrics, start_http_server

from flows.connection import connection
from infra.monitor.burrow import Burrow
from infra.monitor.canary import Canary
from infra.monitor.topic import Topic

LOG = logging.getLogger("monitor")
DEFAULTS = {
    "MONITOR_TOPIC": "_monitor",
    "MONITOR_PORT": "8000",
    "MONITOR_BROKERS": "3",  # it waits for so many brokers before it makes its topic
    "MONITOR_INTERVAL_S": "0.25",  # between two records to a partition
    "MONITOR_LATE_S": "2",  # later than that is not available
    "MONITOR_TOPIC_CHECK_S": "5",  # between two looks at who leads what
    "MONITOR_BURROW": "",  # Burrow's address: its lags stand on the same page
}


def keep(topic: Topic, canary: Canary, pause_s: float = 0) -> int:
    """The topic in order and its new partitions watched. Result: how many there are, 0 while Kafka does not answer."""
    time.sleep(pause_s)
    try:
        if partitions := topic.keep():
            canary.watch(partitions)
    except KafkaException as error:
        LOG.warning("%s: %s", topic.name, error.args[0])
        return 0
    return partitions


def forever(job: Callable[[], object], stop: threading.Event) -> None:
    """The job again and again. An error of it ends the whole monitor: half of one would tell lies."""
    try:
        while not stop.is_set():
            job()
    finally:
        stop.set()


def main(environ: Mapping[str, str]) -> None:
    """Run until a signal comes."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    said = {name: environ.get(name) or default for name, default in DEFAULTS.items()}
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if said["MONITOR_BURROW"]:
        REGISTRY.register(Burrow(said["MONITOR_BURROW"]))
    kafka: dict[str, str | int | float | bool] = {**connection(environ).librdkafka()}
    topic = Topic(AdminClient(kafka), said["MONITOR_TOPIC"], copies=3, least=int(said["MONITOR_BROKERS"]))
    canary = Canary(kafka, topic.name, float(said["MONITOR_LATE_S"]))
    while not keep(topic, canary):
        if stop.wait(1):
            return
    disable_created_metrics()  # type: ignore[no-untyped-call]
    start_http_server(int(said["MONITOR_PORT"]))
    LOG.info("one partition on every broker of %s, metrics at port %s", kafka["bootstrap.servers"], said["MONITOR_PORT"])
    for name, job in (("reader", lambda: canary.read(0.1)), ("topic", lambda: keep(topic, canary, float(said["MONITOR_TOPIC_CHECK_S"])))):
        threading.Thread(target=forever, args=(job, stop), name=name, daemon=True).start()
    due = time.monotonic()
    while not stop.wait(max(0.0, due - time.monotonic())):
        due = max(due + float(said["MONITOR_INTERVAL_S"]), time.monotonic())
        canary.write()


if __name__ == "__main__":
    main(os.environ)
