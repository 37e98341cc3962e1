"""The Kafka monitor: writes to every partition of a topic of its own, reads it back, and tells how long it took and what is missing."""
