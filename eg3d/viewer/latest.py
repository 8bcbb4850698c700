"""A place for one value: who puts a new one there replaces what was not taken yet."""

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """Hands the newest value from one thread to another; nothing queues up."""

    def __init__(self):
        self._condition = threading.Condition()
        self._value: T | None = None
        self._closed = False

    def put(self, value: T) -> None:
        """Leaves a value, which is not None; returns at once."""
        with self._condition:
            self._value = value
            self._condition.notify_all()

    def take(self) -> T | None:
        """The newest value, waiting for one; None once the place is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._value is not None)
            value, self._value = self._value, None
            return None if self._closed else value

    def wait(self, seconds: float) -> bool:
        """Whether, within that time, a value came or the place was closed; the value stays."""
        with self._condition:
            there = lambda: self._closed or self._value is not None  # noqa: E731
            return self._condition.wait_for(there, seconds)

    def pause(self, seconds: float) -> None:
        """Waits, or less if the place is closed."""
        end = time.monotonic() + seconds
        with self._condition:
            self._condition.wait_for(lambda: self._closed, max(end - time.monotonic(), 0))

    def close(self) -> None:
        """Lets everybody who waits go."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
