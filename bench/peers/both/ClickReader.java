package peers;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/**
 * Of a framed Avro click what the windows need, read by hand: no Avro library, no object for a message, the other fields skipped.
 *
 * <p>The order of the fields is that of `bench.Click`: event_time, country, user_id, amount; behind them stands nothing of interest.
 */
final class ClickReader {
    private static final VarHandle DOUBLE = MethodHandles.byteArrayViewVarHandle(double[].class, ByteOrder.LITTLE_ENDIAN);
    private static final int FRAME = 5; // a zero and the schema's id

    long timeMs;
    int countryAt; // UTF-8, within the message
    int countryLength;
    double amount;

    private int at;

    void read(byte[] message) {
        at = FRAME;
        timeMs = number(message);
        countryLength = (int) number(message);
        countryAt = at;
        at += countryLength;
        number(message); // user_id
        amount = (double) DOUBLE.get(message, at);
    }

    /** Avro's int and long: zigzag, seven bits a byte, the lowest first. */
    private long number(byte[] message) {
        long bits = 0;
        int shift = 0;
        byte next;
        do {
            next = message[at++];
            bits |= (long) (next & 0x7f) << shift;
            shift += 7;
        } while (next < 0);
        return bits >>> 1 ^ -(bits & 1);
    }
}
