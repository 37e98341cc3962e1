package peers;

import java.util.concurrent.atomic.LongAdder;

/** Counts the messages that are handled, over all threads, and says `read N` ten times a second until all are. */
final class Progress {
    private static final LongAdder READ = new LongAdder();

    private Progress() {}

    static void handled() {
        READ.increment();
    }

    /** Returns at once; `then` runs when all are read. */
    static void tell(long total, Runnable then) {
        Thread.ofPlatform().daemon().name("progress").start(() -> {
            for (long told = 0; told < total; ) {
                long read = READ.sum();
                if (read > told) {
                    System.out.println("read " + read);
                    System.out.flush();
                    told = read;
                }
                try {
                    Thread.sleep(100);
                } catch (InterruptedException asked) {
                    return;
                }
            }
            then.run();
        });
    }
}
