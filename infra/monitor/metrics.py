"""Every metric of the monitor, named after Xinfra's where it has one. In: ledgers and times. Out: the page for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

from infra.monitor.ledger import Ledger

BUCKETS_MS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)
OF = ["partition"]

FATES = {
    "produced": Counter("kmf_records_produced", "Records that Kafka acknowledged", OF),
    "error": Counter("kmf_produce_error", "Records that could not be written", OF),
    "consumed": Counter("kmf_records_consumed", "Records that were read back", OF),
    "delayed": Counter("kmf_records_delayed", "Records that were read back later than MONITOR_LATE_S", OF),
    "lost": Counter("kmf_records_lost", "Records that Kafka acknowledged and that are not in the log", OF),
    "duplicated": Counter("kmf_records_duplicated", "Records that are in the log more than once", OF),
}
produce_availability = Gauge("kmf_produce_availability_avg", "Share of records of the last minute that were acknowledged", OF)
consume_availability = Gauge("kmf_consume_availability_avg", "Share of records of the last minute that were read back in time", OF)
produce_delay = Histogram("kmf_produce_delay_ms", "From sent to acknowledged", OF, buckets=BUCKETS_MS)
records_delay = Histogram("kmf_records_delay_ms", "From sent to read back: the latency from end to end", OF, buckets=BUCKETS_MS)
commit_latency = Histogram("kmf_commit_latency_ms", "How long a commit of the reader's offsets takes", buckets=BUCKETS_MS)
commit_error = Counter("kmf_commit_error", "Commits that failed")
partitions = Gauge("kmf_topic_partitions", "Partitions of the monitor's topic: one for each broker")


def show(partition: int, ledger: Ledger, told: dict[str, int]) -> None:
    """Bring the page to what the ledger says; `told` holds what was counted before."""
    for fate, counter in FATES.items():
        counter.labels(partition).inc(ledger.fates[fate] - told.get(fate, 0))
        told[fate] = ledger.fates[fate]
    if (share := ledger.produce_availability) is not None:
        produce_availability.labels(partition).set(share)
    if (share := ledger.consume_availability) is not None:
        consume_availability.labels(partition).set(share)
