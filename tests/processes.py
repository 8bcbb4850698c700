"""Processes of tests that start at once: forks of one that has imported torch already.

Python and torch take seconds to start, more than what most tests of several processes do in them.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_READY = ["torch._dynamo", "training.training_loop"]  # the first is imported by optimizers


class Process:
    """As `python -c CODE ARGUMENTS`, leader of a process group of its own.

    Args:
        code: runs as `__main__`, with the arguments in `sys.argv[1:]` and no input.
        environment: variables besides those of this process.
    """

    def __init__(self, code: str, *arguments: object, environment: Mapping[str, str] | None = None):
        _CONTEXT.set_forkserver_preload(_READY)
        self._output = tempfile.TemporaryDirectory()
        settings = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        given = (code, [str(argument) for argument in arguments], settings, self._output.name)
        self._process = _CONTEXT.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, -N after signal N, None while it runs."""
        return self._process.exitcode

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._printed("1")

    @property
    def stderr(self) -> str:
        """What it has printed there so far."""
        return self._printed("2")

    def _printed(self, descriptor: str) -> str:
        path = Path(self._output.name, descriptor)
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def wait(self, timeout: float = 300) -> int:
        """The exit status at its end; after `timeout` seconds the test fails."""
        self._process.join(timeout)
        assert self.returncode is not None, f"still runs: {self.stdout}{self.stderr}"
        return self.returncode

    def kill_group(self) -> None:
        """Ends it and what it started."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # before it leads a group
                os.killpg(self.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()


def together(
    size: int, start: Callable[[int], Process], timeout: float = 300
) -> list[tuple[str, str]]:
    """What processes of ranks 0 to size - 1 print, (stdout, stderr) each; all must succeed."""
    processes = [start(rank) for rank in range(size)]
    try:
        failed = any([process.wait(timeout) for process in processes])
    finally:
        for process in processes:
            process.kill_group()
    outputs = [(process.stdout, process.stderr) for process in processes]
    assert not failed, outputs
    return outputs


def wait_for(condition: Callable[[], bool], timeout: float = 120) -> None:
    """Returns when the condition holds; after `timeout` seconds the test fails."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _run(code: str, arguments: list[str], environment: dict[str, str], output: str) -> None:
    import torch

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        stream.flush()
        os.dup2(os.open(f"{output}/{descriptor}", os.O_WRONLY | os.O_CREAT), descriptor)
    torch.set_num_threads(1)
    sys.argv[:] = ["-c", *arguments]
    exec(compile(code, "<code of a test>", "exec"), {"__name__": "__main__"})
