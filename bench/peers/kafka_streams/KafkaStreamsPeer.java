package peers;

import static org.apache.kafka.streams.StreamsConfig.consumerPrefix;
import static org.apache.kafka.streams.StreamsConfig.producerPrefix;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams 4.3.1, the version of the broker: count, sum, minimum and maximum per country and tumbling window, in its own DSL.
 *
 * <p>Written as its makers advise, and measured: clicks are decoded by hand to the three fields that count; they go through one
 * repartition topic for all window sizes, there as the country's bytes and eight bytes of amount, in lz4 and large batches; the window
 * stores are in memory behind a record cache that holds all open windows, so that a result leaves once a commit (30 s, the default)
 * and not once an event; two threads; the large polls of a program that catches up. It is at-least-once with the changelog topics
 * that this takes, both the default. Once all is read it closes, which writes what the cache holds: the last results must not count as
 * slow because they would wait for a commit.
 */
public final class KafkaStreamsPeer {
    /**
     * No event may be dropped: threads read partitions at different speeds, so the time of a partition of the repartition topic may be
     * ahead of an event by all that the topic spans, and by the hour of the closing events. Grace costs the memory of closed windows.
     */
    private static final Duration GRACE = Duration.ofDays(1);

    private static final Deserializer<Click> READ = new Deserializer<>() {
        private final ThreadLocal<ClickReader> readers = ThreadLocal.withInitial(ClickReader::new);

        @Override
        public Click deserialize(String topic, byte[] message) {
            ClickReader reader = readers.get();
            reader.read(message);
            byte[] country = Arrays.copyOfRange(message, reader.countryAt, reader.countryAt + reader.countryLength);
            return new Click(reader.timeMs, Bytes.wrap(country), reader.amount);
        }
    };
    private static final Serde<Click> CLICKS = Serdes.serdeFrom((topic, click) -> null, READ); // never written

    private record Click(long timeMs, Bytes country, double amount) {}

    public static void main(String[] arguments) throws InterruptedException {
        Peer peer = Peer.told();
        KafkaStreams streams = new KafkaStreams(topology(peer), settings(peer));
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        Progress.tell(peer.total(), streams::close);
        streams.start();
        new CountDownLatch(1).await(); // it is ended from outside
    }

    private static Topology topology(Peer peer) {
        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<Bytes, Double> amounts = builder
                .stream(peer.topic(), Consumed.with(Serdes.Void(), CLICKS)
                        .withTimestampExtractor((message, before) -> ((Click) message.value()).timeMs()))
                .map((nothing, click) -> KeyValue.pair(click.country(), click.amount()))
                .repartition(Repartitioned.<Bytes, Double>as("by-country")
                        .withKeySerde(Serdes.Bytes())
                        .withValueSerde(Serdes.Double()))
                .peek((country, amount) -> Progress.handled())
                .groupByKey();
        for (long sizeMs : peer.windowsMs()) {
            Duration size = Duration.ofMillis(sizeMs);
            amounts.windowedBy(TimeWindows.ofSizeAndGrace(size, GRACE))
                    .aggregate(
                            Totals::new,
                            (country, amount, totals) -> totals.plus(amount),
                            Materialized.<Bytes, Totals>as(
                                            Stores.inMemoryWindowStore("windows-" + sizeMs, size.plus(GRACE), size, false))
                                    .withKeySerde(Serdes.Bytes())
                                    .withValueSerde(Totals.SERDE)
                                    .withCachingEnabled())
                    .toStream()
                    .map((at, totals) -> KeyValue.pair(
                            sizeMs + "|" + at.window().start() + "|" + new String(at.key().get(), StandardCharsets.UTF_8),
                            totals.json()))
                    .to(peer.out(), Produced.with(Serdes.String(), Serdes.String()));
        }
        return builder.build();
    }

    private static Properties settings(Peer peer) {
        Properties settings = new Properties();
        settings.putAll(Map.ofEntries(
                Map.entry(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, peer.bootstrap()),
                Map.entry(StreamsConfig.APPLICATION_ID_CONFIG, peer.out() + "-" + System.currentTimeMillis()), // begins anew
                Map.entry(StreamsConfig.STATE_DIR_CONFIG, peer.home()),
                Map.entry(StreamsConfig.NUM_STREAM_THREADS_CONFIG, peer.threads()),
                Map.entry(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 512L << 20),
                Map.entry(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000),
                Map.entry(consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest"),
                Map.entry(consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000),
                Map.entry(producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4"),
                Map.entry(producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 << 10)));
        return settings;
    }
}
