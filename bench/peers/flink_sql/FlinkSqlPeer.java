package peers;

import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.OptionalLong;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * Flink SQL 2.2.1 with its Kafka connector 5.0.0-2.2, the newest Flink that has one: count, sum, minimum and maximum per country and
 * tumbling window, in SQL alone.
 *
 * <p>Written as its makers advise, and measured: windowing table functions, aggregated in two phases, so that the first phase is chained
 * to the source and only a partial result a country crosses to the second; larger windows rolled up from smaller ones, so that an event
 * is aggregated once for all sizes; one set of statements, so that the source is read once; a format that decodes by hand the three
 * fields that count; objects reused, state on the heap, two slots in one JVM, results to Kafka in lz4 and large batches. A checkpoint
 * every 30 s makes it at-least-once, as the other one is. Mini-batches are for other operators: window aggregations buffer by themselves.
 */
public final class FlinkSqlPeer {
    public static void main(String[] arguments) throws Exception {
        Peer peer = Peer.told();
        StreamExecutionEnvironment environment =
                StreamExecutionEnvironment.createLocalEnvironment(peer.threads(), settings(peer));
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        tables.executeSql(clicks(peer));
        tables.executeSql(results(peer));
        StatementSet statements = tables.createStatementSet();
        for (long sizeMs : peer.windowsMs()) {
            tables.executeSql(window(peer, sizeMs));
            statements.addInsertSql(insert(sizeMs));
        }
        Progress.tell(peer.total(), () -> {});
        statements.execute().await();
    }

    private static Configuration settings(Peer peer) {
        return Configuration.fromMap(Map.ofEntries(
                Map.entry("pipeline.object-reuse", "true"),
                Map.entry("table.optimizer.agg-phase-strategy", "TWO_PHASE"),
                Map.entry("restart-strategy.type", "none"), // a failure must be seen
                Map.entry("execution.checkpointing.interval", "30 s"),
                Map.entry("execution.checkpointing.dir", Path.of(peer.home(), "checkpoints").toUri().toString()),
                Map.entry("state.backend.type", "hashmap"),
                Map.entry("taskmanager.numberOfTaskSlots", String.valueOf(peer.threads())),
                Map.entry("taskmanager.memory.managed.size", "512 mb"),
                Map.entry("io.tmp.dirs", peer.home()),
                Map.entry("rest.bind-port", "0")));
    }

    /** The watermark is made for each partition and is the least of them, so it need cover only the disorder within one. */
    private static String clicks(Peer peer) {
        return """
                CREATE TABLE clicks (
                  event_time TIMESTAMP(3), country STRING, amount DOUBLE,
                  WATERMARK FOR event_time AS event_time - INTERVAL '1' SECOND
                ) WITH (
                  'connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s', 'format' = 'click',
                  'scan.startup.mode' = 'earliest-offset',
                  'properties.max.poll.records' = '10000', 'properties.fetch.min.bytes' = '65536',
                  'properties.fetch.max.wait.ms' = '100', 'properties.max.partition.fetch.bytes' = '4194304'
                )""".formatted(peer.topic(), peer.bootstrap());
    }

    private static String results(Peer peer) {
        return """
                CREATE TABLE results (
                  place STRING, events BIGINT, `sum` DOUBLE, `min` DOUBLE, `max` DOUBLE
                ) WITH (
                  'connector' = 'kafka', 'topic' = '%s', 'properties.bootstrap.servers' = '%s',
                  'key.format' = 'raw', 'key.fields' = 'place', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY',
                  'properties.compression.type' = 'lz4', 'properties.linger.ms' = '50', 'properties.batch.size' = '524288'
                )""".formatted(peer.out(), peer.bootstrap());
    }

    /** A window is rolled up from the largest smaller one that divides it, as Flink's guide to window aggregation has it. */
    private static String window(Peer peer, long sizeMs) {
        OptionalLong from = Arrays.stream(peer.windowsMs()).filter(smaller -> smaller < sizeMs && sizeMs % smaller == 0).max();
        String rows = from.isEmpty()
                ? "COUNT(*) AS events, SUM(amount) AS total, MIN(amount) AS lowest, MAX(amount) AS highest"
                : "SUM(events) AS events, SUM(total) AS total, MIN(lowest) AS lowest, MAX(highest) AS highest";
        return """
                CREATE TEMPORARY VIEW windows_%d AS
                SELECT window_start AS began, window_time AS event_time, country, %s
                FROM TABLE(TUMBLE(TABLE %s, DESCRIPTOR(event_time), INTERVAL '%d' SECOND(6)))
                GROUP BY window_start, window_end, window_time, country"""
                .formatted(sizeMs, rows, from.isEmpty() ? "clicks" : "windows_" + from.getAsLong(), sizeMs / 1000);
    }

    private static String insert(long sizeMs) {
        return """
                INSERT INTO results
                SELECT
                  CONCAT_WS('|', '%d',
                    CAST(1000 * CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', began) AS BIGINT) AS STRING),
                    country),
                  events, total, lowest, highest
                FROM windows_%d""".formatted(sizeMs, sizeMs);
    }
}
