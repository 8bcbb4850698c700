"""Opens thousands of hostile files without trust and reports what happened, kind by kind.

python -m benchmarks.hostile_files [--count=2400] [--seed=0] [--processes=2]

Each file is made from the seed and its number alone. It must come out as networks, or be refused by
exactly one printable line, within bounds of time and memory, while nothing that Python's audit
events tell of is done but reading it. Anything else is printed, and the exit status is 1. Linux.
"""

import json
import os
import random
import select
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks import hostile_bombs as bombs
from benchmarks import hostile_damage as damage
from benchmarks import hostile_payloads as payloads
from benchmarks.common import machine, table

SECONDS = 5.0  # of processor time that one file may take
PATIENCE = 120  # seconds until a process that gives no answer is ended
MEMORY = 64 * 2**20  # bytes that any file may take, and
TIMES_SIZE = 20  # times its own size besides
LINE = 1000  # characters of an error
ROOT = Path(__file__).parent.parent

# kind: (how to make one, how many of 60 files)
KINDS: dict[str, tuple[Callable[[random.Random], bytes], int]] = {
    "cut off": (damage.truncated, 4),
    "bits anywhere": (damage.flipped, 5),
    "bits of instructions": (damage.flipped_opcodes, 4),
    "bits of lengths": (damage.flipped_lengths, 3),
    "bits of plain headers": (damage.flipped_header, 3),
    "bits of storage headers": (damage.flipped_storages, 3),
    "instructions moved": (damage.edited, 5),
    "references moved": (damage.memo, 3),
    "two files joined": (damage.spliced, 3),
    "calls of code": (payloads.code, 8),
    "source texts": (payloads.sources, 1),
    "names of super-resolutions": (payloads.superresolution, 2),
    "archives": (bombs.archive, 1),
    "nested containers": (bombs.laughs, 4),
    "one call repeated": (bombs.repeated, 1),
    "one instruction repeated": (bombs.instructions, 1),
    "very many entries": (bombs.many, 1),
    "absurd tensors": (bombs.absurd_tensors, 2),
    "absurd lengths": (bombs.absurd_lengths, 1),
    "absurd arguments": (bombs.absurd_arguments, 2),
    "absurd plain headers": (bombs.absurd_headers, 2),
    "other pickles": (bombs.other_pickles, 1),
}
_SCHEDULE = [kind for kind, (_, share) in KINDS.items() for _ in range(share)]
random.Random(0).shuffle(_SCHEDULE)


@dataclass
class Outcome:
    """What one file led to; `faults` is empty where all is well."""

    index: int
    kind: str
    size: int
    report: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def kind_of(index: int) -> str:
    """The kind of the file of this number."""
    return _SCHEDULE[index % len(_SCHEDULE)]


def make(seed: int, index: int) -> bytes:
    """The file of this number."""
    return KINDS[kind_of(index)][0](random.Random(f"{seed} {index}"))


class Worker:
    """A process that opens files; a new one takes its place where it dies or gives no answer."""

    def __init__(self, folder: str):
        self.folder = folder
        self.process: subprocess.Popen | None = None

    def open(self, data: bytes, opener: str = "safe") -> dict[str, Any]:
        """The report on a file of these bytes; {'crashes': [...]} alone where there is none."""
        if self.process is None:
            self._start()
        path = os.path.join(self.folder, "hostile")
        Path(path).write_bytes(data)
        self.process.stdin.write(json.dumps({"path": path, "opener": opener}).encode() + b"\n")
        self.process.stdin.flush()
        answer = self._answer()
        if answer:
            return json.loads(answer)
        status = self.process.poll()
        self.close()
        hang = f"no answer within {PATIENCE} s"
        return {"crashes": [hang if status is None else f"the process died: {status}"]}

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.hostile_worker"],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def _answer(self) -> bytes:
        ready, _, _ = select.select([self.process.stdout], [], [], PATIENCE)
        line = self.process.stdout.readline() if ready else b""
        if not line and ready:
            self.process.wait(PATIENCE)
        return line


def faults(report: dict[str, Any], size: int) -> Iterator[str]:
    """What must not be in the report on a file of `size` bytes."""
    yield from report["crashes"]
    if "events" not in report:
        return
    yield from (f"did {event}" for event in report["events"])
    for line in report["lines"] + report["texts"]:
        if not (line.isascii() and line.isprintable()):
            yield f"shows what is not printable: {line[:200]!r}"
    yield from (f"a line of {len(line)} characters" for line in report["lines"] if len(line) > LINE)
    if report["seconds"] > SECONDS:
        yield f"took {report['seconds']:.1f} s"
    if report["peak"] > MEMORY + TIMES_SIZE * size:
        yield f"took {report['peak'] / 2**20:.0f} MiB for {size:,} bytes"


def run(seed: int, indices: Iterable[int], processes: int = 2) -> list[Outcome]:
    """Makes the files of these numbers and opens each, in so many processes."""
    outcomes: list[Outcome] = []
    torch.set_num_threads(1)  # good files are made of tiny networks: threads would only wait
    left, lock = iter(list(indices)), threading.Lock()

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            worker = Worker(folder)
            try:
                while True:
                    with lock:
                        index = next(left, None)
                    if index is None:
                        return
                    outcomes.append(_outcome(seed, index, worker))
            finally:
                worker.close()

    threads = [threading.Thread(target=work) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes, key=lambda outcome: outcome.index)


def _outcome(seed: int, index: int, worker: Worker) -> Outcome:
    data = make(seed, index)
    report = worker.open(data)
    if report.get("seconds", PATIENCE) > SECONDS:  # Once more: the machine may have been busy.
        report = worker.open(data)
    found = list(faults(report, len(data)))
    strange = sorted(set(os.listdir(worker.folder)) - {"hostile"})
    found += [f"left a file {name!r} behind" for name in strange]
    for name in strange:
        os.remove(os.path.join(worker.folder, name))
    return Outcome(index, kind_of(index), len(data), report, found)


def summary(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """One row for each kind, and one for all."""
    rows = []
    for kind in (*KINDS, "all"):
        chosen = [outcome for outcome in outcomes if kind in (outcome.kind, "all")]
        done = [outcome for outcome in chosen if "events" in outcome.report]
        if not chosen:
            continue
        rows.append(
            {
                "kind": kind,
                "files": len(chosen),
                "opened": sum(not outcome.report["lines"] for outcome in done),
                "refused": sum(bool(outcome.report["lines"]) for outcome in done),
                "slowest (s)": max((o.report["seconds"] for o in done), default=0.0),
                "most memory (MiB)": round(
                    max((o.report["peak"] for o in done), default=0) / 2**20
                ),
                "executed": sum(bool(outcome.report["events"]) for outcome in done),
                "faults": sum(bool(outcome.faults) for outcome in chosen),
            }
        )
    return rows


@click.command()
@click.option("--count", default=2400, type=click.IntRange(min=1), show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--processes", default=2, type=click.IntRange(min=1), show_default=True)
@click.option("--only", type=int, help="Only the file of this number.")
def main(count: int, seed: int, processes: int, only: int | None) -> None:
    """Opens COUNT hostile files and prints a table; exit status 1 where something went wrong."""
    indices = range(count) if only is None else [only]
    outcomes = run(seed, indices, processes if only is None else 1)
    click.echo(", ".join(f"{key} {value}" for key, value in machine().items()))
    click.echo(table(summary(outcomes)))
    bad = [outcome for outcome in outcomes if outcome.faults]
    for outcome in bad:
        click.echo(f"{outcome.kind}, {outcome.size:,} bytes: {'; '.join(outcome.faults)[:1000]!r}")
        click.echo(f"    python -m benchmarks.hostile_files --seed={seed} --only={outcome.index}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
