"""What the dashboards show: a line a panel. Every query is asked of a live Prometheus by a test, as a wrong name gives no error. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: a query in PromQL, the unit in Grafana's words, and how its lines are called."""

    title: str
    query: str
    unit: str = "short"
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard: panels from left to right, three in a row. `topic` gives it a choice of topics, as $topic in queries."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    topic: str = ""  # the query whose label `topic` is to choose from


BROKER = "{{instance}}"
EACH = "{{instance}} {{request}}"


def quantiles(title: str, metric: str) -> tuple[Panel, ...]:
    """p50, p95 and p99 of a histogram in milliseconds."""
    return tuple(
        Panel(f"{title}, p{share}", f"histogram_quantile(0.{share}, sum by (le) (rate({metric}_bucket[1m])))", "ms")
        for share in (50, 95, 99)
    )


def duration(title: str, metric: str) -> tuple[Panel, ...]:
    """The mean and p99 of a histogram in seconds."""
    return (
        Panel(f"{title}, mean", f"sum(rate({metric}_sum[1m])) / sum(rate({metric}_count[1m]))", "s"),
        Panel(f"{title}, p99", f"histogram_quantile(0.99, sum by (le) (rate({metric}_bucket[1m])))", "s"),
    )


def request_part(part: str) -> Panel:
    """Where the time of requests goes."""
    return Panel(f"p99, {part}", f'kafka_network_request_p99_ms{{part="{part}"}}', "ms", EACH)


KAFKA = Board(
    "kafka",
    "Kafka",
    (
        Panel("Brokers up", "kafka:brokers_up"),
        Panel("Active controllers", "kafka:active_controllers"),
        Panel("Offline partitions", "kafka:offline_partitions"),
        Panel("Under-replicated partitions", "kafka_server_replicamanager_underreplicatedpartitions", legend=BROKER),
        Panel("Partitions under min ISR", "kafka_server_replicamanager_underminisrpartitioncount", legend=BROKER),
        Panel("Unclean elections", "kafka:unclean_elections:5m"),
        Panel("Messages in", "rate(kafka_server_brokertopicmetrics_messagesin_alltopics_total[1m])", "wps", BROKER),
        Panel("Bytes in", "rate(kafka_server_brokertopicmetrics_bytesin_alltopics_total[1m])", "Bps", BROKER),
        Panel("Bytes out", "rate(kafka_server_brokertopicmetrics_bytesout_alltopics_total[1m])", "Bps", BROKER),
        Panel("Requests", "sum by (request) (rate(kafka_network_requests_total[1m])) > 0.1", "reqps", "{{request}}"),
        Panel("Errors", 'sum by (error) (rate(kafka_network_request_errors_total{error!="NONE"}[5m]))', "reqps", "{{error}}"),
        Panel("Handlers idle", "kafka_server_requesthandler_idle_ratio", "percentunit", BROKER),
        *(request_part(part) for part in ("Total", "RequestQueue", "Local", "Remote", "ResponseQueue", "ResponseSend")),
        Panel("Network idle", "kafka_network_processor_idle_ratio", "percentunit", BROKER),
        Panel("ISR shrinks", "rate(kafka_server_replicamanager_isrshrinks_total[5m])", "ops", BROKER),
        Panel("ISR expands", "rate(kafka_server_replicamanager_isrexpands_total[5m])", "ops", BROKER),
        Panel("Partitions", "kafka_server_replicamanager_partitioncount", legend=BROKER),
        Panel("Leaders", "kafka_server_replicamanager_leadercount", legend=BROKER),
        Panel("ZooKeeper sessions expired", "rate(kafka_server_sessionexpirelistener_zookeeperexpires_total[5m])", "ops", BROKER),
    ),
)

TOPIC = Board(
    "topic",
    "Topic",
    (
        Panel(
            "Messages in", 'sum(rate(kafka_server_brokertopicmetrics_messagesin_total{topic=~"$topic"}[1m])) by (topic)', "wps", "{{topic}}"
        ),
        Panel("Bytes in", 'sum(rate(kafka_server_brokertopicmetrics_bytesin_total{topic=~"$topic"}[1m])) by (topic)', "Bps", "{{topic}}"),
        Panel("Bytes out", 'sum(rate(kafka_server_brokertopicmetrics_bytesout_total{topic=~"$topic"}[1m])) by (topic)', "Bps", "{{topic}}"),
        Panel("Size, all replicas", 'sum(kafka_log_size_bytes{topic=~"$topic"}) by (topic)', "bytes", "{{topic}}"),
        Panel("Lag", 'burrow_kafka_consumer_partition_lag{topic=~"$topic"}', legend="{{consumer_group}} {{topic}} {{partition}}"),
        Panel("Committed", 'burrow_kafka_consumer_current_offset{topic=~"$topic"}', legend="{{consumer_group}} {{topic}} {{partition}}"),
    ),
    topic="kafka_server_brokertopicmetrics_messagesin_total",
)

JVM = Board(
    "jvm",
    "JVM",
    (
        Panel("Heap", 'jvm_memory_used_bytes{job="kafka", area="heap"}', "bytes", BROKER),
        Panel("Heap at most", 'jvm_memory_max_bytes{job="kafka", area="heap"}', "bytes", BROKER),
        Panel("Heap of ZooKeeper", 'jvm_memory_bytes_used{job="zookeeper", area="heap"}', "bytes", BROKER),
        Panel("Time in GC", "rate(jvm_gc_collection_seconds_sum[1m])", "percentunit", "{{instance}} {{gc}}"),
        Panel("CPU", "rate(process_cpu_seconds_total[1m])", "percentunit", BROKER),
        Panel("Threads", "jvm_threads_current", legend=BROKER),
    ),
)

ZOOKEEPER = Board(
    "zookeeper",
    "ZooKeeper",
    (
        Panel("Latency, mean", "avg_latency", "ms"),
        Panel("Latency, longest", "max_latency", "ms"),
        Panel("Requests that wait", "outstanding_requests"),
        Panel("Connections", "num_alive_connections"),
        Panel("Sessions", "global_sessions"),
        Panel("Sessions expired", "increase(stale_sessions_expired[5m])"),
        Panel("Znodes", "znode_count"),
        Panel("Ephemeral nodes", "ephemerals_count"),
        Panel("Watches", "watch_count"),
    ),
)

MONITOR = Board(
    "monitor",
    "Kafka monitor",
    (
        Panel("Availability from end to end", "kmf_consume_availability_avg", "percentunit", "partition {{partition}}"),
        Panel("Availability of writing", "kmf_produce_availability_avg", "percentunit", "partition {{partition}}"),
        Panel("Partitions, one for each broker", "kmf_topic_partitions"),
        Panel("Lost", "increase(kmf_records_lost_total[5m])", legend="partition {{partition}}"),
        Panel("Late", "increase(kmf_records_delayed_total[5m])", legend="partition {{partition}}"),
        Panel("Duplicated", "increase(kmf_records_duplicated_total[5m])", legend="partition {{partition}}"),
        *quantiles("From end to end", "kmf_records_delay_ms"),
        *quantiles("Writing", "kmf_produce_delay_ms"),
        *quantiles("Committing", "kmf_commit_latency_ms"),
        Panel("Groups that Burrow knows", "count(burrow_kafka_consumer_status)"),
        Panel("Lag of groups", "burrow_kafka_consumer_lag_total", legend="{{consumer_group}}"),
        Panel("Burrow answers", "burrow_up"),
    ),
)

FLOW = Board(
    "flow",
    "KPI flow",
    (
        Panel("Events", 'sum by (topic) (rate(kpi_messages_total{topic=~"$topic"}[1m]))', "wps", "{{topic}}"),
        Panel("Behind: watermark lag", 'kpi:watermark_lag_seconds{topic=~"$topic"}', "s", "{{topic}}"),
        Panel("Windows since the last final row", 'kpi:windows_without_final{topic=~"$topic"}', legend="{{topic}} {{window}}"),
        Panel("Rows", 'sum by (topic, kind) (rate(kpi_rows_total{topic=~"$topic"}[1m]))', "wps", "{{topic}} {{kind}}"),
        Panel(
            "From a window's end to its final row", 'time() - kpi_final_window_end_seconds{topic=~"$topic"}', "s", "{{topic}} {{window}}"
        ),
        Panel("Late", 'sum by (topic) (rate(kpi_messages_total{topic=~"$topic", fate="late"}[5m]))', "wps", "{{topic}}"),
        Panel("Dead letters", 'kpi:dead_letter_ratio{topic=~"$topic"}', "percentunit", "{{topic}}"),
        Panel("By fate", 'sum by (fate) (rate(kpi_messages_total{topic=~"$topic"}[1m]))', "wps", "{{fate}}"),
        Panel("Topics that wait", "sum(kpi_waiting_topics)"),
        Panel("Open slices", 'sum by (topic) (kpi_open_slices{topic=~"$topic"})', legend="{{topic}}"),
        Panel("Groups in open slices", 'sum by (topic) (kpi_open_groups{topic=~"$topic"})', legend="{{topic}}"),
        *duration("Epoch", "kpi_epoch_seconds"),
        *duration("Transaction", "kpi_transaction_seconds"),
        Panel("Transactions", "sum(rate(kpi_transaction_seconds_count[1m]))", "ops"),
        Panel("Dashboard sessions", "sum(dashboard_sessions)"),
        *duration("Dashboard frame", "dashboard_frame_seconds"),
        Panel("Flows up", "kpi:flows_up"),
        Panel("Memory", 'process_resident_memory_bytes{job="flow"}', "bytes"),
        Panel("CPU", 'rate(process_cpu_seconds_total{job="flow"}[1m])', "percentunit"),
    ),
    topic="kpi_messages_total",
)

BOARDS = (KAFKA, TOPIC, JVM, ZOOKEEPER, MONITOR, FLOW)
