"""Signals that end a run in good order: the iteration ends, a checkpoint is written."""

import multiprocessing
import os
import signal
import threading
from types import TracebackType

EXIT_STATUS = getattr(os, "EX_TEMPFAIL", 75)  # "try again": the same command goes on.


class StopSignals:
    """Within a `with` block the first SIGTERM or SIGINT only sets `received` to its name.

    A second one does what it did before the block. Other threads than the main one cannot handle
    signals: there the block changes nothing.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _receive(self, number: int, frame: object) -> None:
        self.received = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def leave_signals_to_parent(worker: int = 0) -> None:
    """For a data loading process: lives exactly as long as its parent has use for it.

    Ctrl-C, `timeout` and cluster schedulers signal all processes of a job at once; a worker that
    died of it would take the parent's last iteration with it. And whatever kills the parent leaves
    no worker behind.
    """
    parent = multiprocessing.parent_process()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # In all threads from here on.
        threading.Thread(target=_obey, args=(parent,), daemon=True).start()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent) -> None:
    """Ends this process when the parent has ended."""
    parent.join()
    os._exit(1)


def _obey(parent) -> None:
    """Ends this process at a SIGTERM that the parent has sent, at no other."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent.pid:
        pass
    os._exit(0)
