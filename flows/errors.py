"""What a person must mend before the flow can start. Imports nothing, so that every module may raise it. Pure."""


class ConfigError(ValueError):
    """A setting is wrong: one line that names it, what it got and what it wants."""
