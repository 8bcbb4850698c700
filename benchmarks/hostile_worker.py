"""Opens files for `benchmarks.hostile_files` and reports what happened: one process, many files.

Reads one JSON object a line, {"path": ..., "opener": "safe" or "trusting"}, and answers each with
the fields of `Report`. Linux only: peaks of memory are those that the kernel counts.
"""

import gc
import json
import os
import pickle
import resource
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch

from benchmarks.hostile_bases import good_files
from eg3d.errors import SnapshotError
from eg3d.info import describe
from eg3d.loading import load_all, load_network, read

ADDRESS_SPACE = 4 * 2**30  # bytes that one file may ask for before the process gets no more
# Audit events of what Python does all the time. Reading the file itself is allowed as well; every
# other event is reported, whatever it is.
HARMLESS = {"builtins.id", "object.__getattr__", "object.__setattr__", "sys._getframe"}


@dataclass
class Report:
    """What opening one file led to. `lines` are the errors, `texts` what may be shown besides."""

    opened: int = 0
    lines: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0


class Watch:
    """Notes the audit events while a file is being opened. Hooks cannot be removed: make one."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple) -> None:
        if self.path is None or event in HARMLESS or len(self.events) >= 20:
            return
        if event == "open" and args[0] == self.path and args[1] in ("r", "rb"):
            return
        self.events.append(f"{event} {args!r:.150}")

    @contextmanager
    def watching(self, path: str):
        """Within the block every event counts, but for reading `path`."""
        self.path, self.events = path, []
        try:
            yield self.events
        finally:
            self.path = None


def _safe(path: str, report: Report) -> None:
    """Every way in which a file is opened without trust."""

    def show() -> None:
        report.texts += describe(read(path)).splitlines()

    for way in (show, lambda: load_network(path), lambda: load_all(path)):
        try:
            way()
            report.opened += 1
        except SnapshotError as error:
            report.lines.append(str(error))
        except Exception as error:  # What must not happen, whatever it is.
            report.crashes.append(f"{type(error).__name__}: {error}"[:500])


def _trusting(path: str, report: Report) -> None:
    """Plain unpickling: shows that the watch sees what hostile files do."""
    try:
        with open(path, "rb") as file:
            pickle.load(file)
        report.opened += 1
    except Exception as error:
        report.crashes.append(f"{type(error).__name__}: {error}"[:500])


def examine(path: str, opener: str, watch: Watch) -> Report:
    """Opens one file."""
    report = Report()
    before = _memory("VmRSS")
    _forget_peak()
    start = time.process_time()
    with watch.watching(path) as events, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        {"safe": _safe, "trusting": _trusting}[opener](path, report)
    report.seconds = time.process_time() - start
    report.peak = max(0, _memory("VmHWM") - before)
    report.events = list(events)
    report.texts += [str(warning.message) for warning in caught]
    gc.collect()
    return report


def _memory(entry: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since `_forget_peak`, VmSize of addresses."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(f"{entry}:"))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def main() -> None:
    """Answers requests until the input ends."""
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a file may print must not look like an answer
    for data in good_files():  # Whatever is imported late is imported now.
        for attempt in (data, data[: len(data) // 2]):
            with open("warm-up", "wb") as file:
                file.write(attempt)
            _safe("warm-up", Report())
    os.remove("warm-up")
    gc.collect()
    gc.freeze()  # what lives now need not be looked at after every file
    limit = _memory("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watch = Watch()
    for line in sys.stdin:
        request = json.loads(line)
        report = examine(request["path"], request["opener"], watch)
        answers.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    main()
