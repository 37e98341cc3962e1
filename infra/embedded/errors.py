"""What can go wrong that a person can mend. Pure."""


class PartError(Exception):
    """A part cannot be had, cannot start, or ended; the text names it and says what is known or what to do."""
