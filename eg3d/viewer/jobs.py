"""Work of minutes at most for one user: one at a time, in a thread, can be stopped."""

import sys
import threading
import traceback
from collections.abc import Callable

from eg3d.errors import InputError

# Shows a message: title, text, colour.
Notify = Callable[[str, str, str | None], None]
# Told how much is done, 0 to 1; raises to stop.
Report = Callable[[float], None]


class Stopped(Exception):
    """Raised inside a job that is to end."""


class Jobs:
    """Runs one job at a time; `done` is its share of 0 to 1, None where none runs."""

    def __init__(self, notify: Notify):
        self._notify = notify
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.name = ""
        self.done: float | None = None

    def start(
        self,
        name: str,
        work: Callable[[Report], None],
        progress: Callable[[float | None], None] = lambda share: None,
    ) -> None:
        """Runs work(report) in a thread, where report(share) tells how much is done and ends the
        work when it is to stop. progress(share) is called on the way, and with None at the end.
        Raises InputError where another job is running."""
        with self._lock:
            if self.done is not None:
                raise InputError(f"still busy: {self.name}; wait for it or stop it")
            self.name, self.done = name, 0.0
        self._stop.clear()

        def report(share: float) -> None:
            if self._stop.is_set():
                raise Stopped
            self.done = share
            progress(share)

        def run() -> None:
            try:
                report(0.0)
                work(report)
            except Stopped:
                self._notify("Stopped", name, None)
            except InputError as error:
                self._notify("That does not work", str(error), "red")
            except Exception as error:  # Whatever happens in a job, the viewer goes on.
                traceback.print_exc(file=sys.stderr)
                self._notify("Something went wrong", f"{type(error).__name__}: {error}", "red")
            finally:
                self.done = None
                progress(None)

        threading.Thread(target=run, name="eg3d-job", daemon=True).start()

    def stop(self) -> None:
        """Ends the job at its next report."""
        self._stop.set()

    def close(self) -> None:
        """Ends the job, and says nothing of it."""
        self._notify = lambda *message: None
        self._stop.set()
