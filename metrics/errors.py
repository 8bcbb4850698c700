"""What goes wrong with metrics."""


class MetricError(ValueError):
    """A metric that does not exist or cannot be computed; the message names it and says why."""


class MetricUnavailable(MetricError):
    """A metric that exists, but not here: something that it needs is missing."""
