"""Real Kafka and a real schema registry without Docker: child processes, from PyPI and Maven coordinates alone."""

from infra.embedded.cluster import Cluster, cluster
from infra.embedded.errors import PartError

__all__ = ["Cluster", "PartError", "cluster"]
