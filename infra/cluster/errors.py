"""What can go wrong that a person can mend. Pure."""


class ClusterError(Exception):
    """The cluster cannot be had; the text says what is wrong and the way on, in one line."""
