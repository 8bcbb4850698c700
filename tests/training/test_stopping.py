import multiprocessing
import os
import signal
import threading
import time

import psutil
import pytest

from training.stopping import EXIT_STATUS, StopSignals, leave_signals_to_parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted(number):
    before = signal.getsignal(number)
    with StopSignals() as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number.name
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(number) is before
    assert EXIT_STATUS == 75


def test_the_second_interrupts():
    with pytest.raises(KeyboardInterrupt):
        with StopSignals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


def test_handlers_are_restored_without_a_signal():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            assert signal.getsignal(signal.SIGTERM) == stop._receive
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_change_nothing():
    seen = []

    def work():
        with StopSignals() as stop:
            seen.append((signal.getsignal(signal.SIGTERM), stop.received))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(signal.SIG_DFL, None)]


def _worker(pipe):
    leave_signals_to_parent()
    pipe.send("ready")
    pipe.recv()  # Until the parent has no more to say.


def _parent(pipe, method):
    worker = multiprocessing.get_context(method).Process(target=_worker, args=(pipe,))
    worker.start()
    pipe.send(worker.pid)
    signal.pause()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_obey_their_parent_alone(method):
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context(method).Process(target=_worker, args=(child,))
    process.start()
    assert parent.recv() == "ready"
    os.kill(process.pid, signal.SIGINT)
    os.system(f"kill -TERM {process.pid}")  # From another process than the parent.
    process.join(0.3)
    assert process.is_alive()
    process.terminate()
    process.join(20)
    assert process.exitcode == 0


def test_workers_end_with_their_parent():
    """Which was killed; they are then nobody's children, so that we look for their names."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_parent, args=(theirs, "fork"))
    process.start()
    pid = next(word for word in iter(ours.recv, None) if word != "ready")
    assert psutil.pid_exists(pid)
    time.sleep(0.2)
    process.kill()
    process.join()
    until = time.monotonic() + 4  # torch's own check is every five seconds.
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
        assert time.monotonic() < until
        time.sleep(0.02)
