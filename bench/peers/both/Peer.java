package peers;

import java.util.Arrays;

/** What a peer is told, all of it by its environment. */
record Peer(String bootstrap, String topic, long[] windowsMs, String out, long total, String home, int threads) {
    static Peer told() {
        return new Peer(
                value("KAFKA_BOOTSTRAP_SERVERS"),
                value("PEER_TOPIC"),
                Arrays.stream(value("PEER_WINDOWS").split(",")).mapToLong(Long::parseLong).sorted().toArray(),
                value("PEER_OUT"),
                Long.parseLong(value("PEER_TOTAL")),
                value("PEER_HOME"),
                Integer.parseInt(value("PEER_THREADS")));
    }

    private static String value(String name) {
        String value = System.getenv(name);
        if (value == null) {
            throw new IllegalArgumentException(name + ": got nothing, want a value");
        }
        return value;
    }
}
