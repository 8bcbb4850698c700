"""Errors whose message is one line for the user: commands print it instead of a traceback."""


class InputError(ValueError):
    """Something given from outside cannot be used; the message names it and what would be right."""


class SnapshotError(InputError):
    """A file cannot be read as a snapshot."""
