package peers;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** What is known of one country in one window: 32 bytes in the store, JSON in the output. */
final class Totals {
    static final Serde<Totals> SERDE = Serdes.serdeFrom((topic, totals) -> totals.bytes(), (topic, bytes) -> of(bytes));

    private long events;
    private double sum;
    private double min = Double.POSITIVE_INFINITY;
    private double max = Double.NEGATIVE_INFINITY;

    Totals plus(double amount) {
        events++;
        sum += amount;
        min = Math.min(min, amount);
        max = Math.max(max, amount);
        return this;
    }

    String json() {
        return "{\"events\": " + events + ", \"sum\": " + sum + ", \"min\": " + min + ", \"max\": " + max + "}";
    }

    private byte[] bytes() {
        return ByteBuffer.allocate(32).putLong(events).putDouble(sum).putDouble(min).putDouble(max).array();
    }

    private static Totals of(byte[] bytes) {
        ByteBuffer buffer = ByteBuffer.wrap(bytes);
        Totals totals = new Totals();
        totals.events = buffer.getLong();
        totals.sum = buffer.getDouble();
        totals.min = buffer.getDouble();
        totals.max = buffer.getDouble();
        return totals;
    }
}
