"""Steps of a pipeline: each makes a folder of files out of jobs, one file a job.

The folder is there when it is complete. A step that was interrupted goes on, to the same bytes; one
that is done is not made again. `pipeline.json` in the folder says what it was made from.
"""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tqdm

from dataset_preprocessing.conversion.archive import Destination
from dataset_preprocessing.conversion.pictures import PictureError
from dnnlib.util import one_line

RECORD_FILE = "pipeline.json"
PATHS = ("picture", "archive", "model_file")
NOTHING = "nothing is written"
_SKIP = f"{NOTHING}; --on-error=skip leaves such out"
_SHOWN = 20  # problems that are listed
_CHUNK = 8
_FAILURES = (PictureError, OSError, MemoryError)

Job = dict[str, Any]  # plain values, as JSON has them


class PreprocessingError(ValueError):
    """Something given cannot be used; the message names it, a line for each problem."""


@dataclass(frozen=True)
class Step:
    """What makes a folder.

    Args:
        name: of the step, for messages and the record.
        make: the content of a file from its job; a function of a module, since other processes call
            it. Raises PreprocessingError, PictureError or OSError for a job that cannot be done.
        jobs: by the name of the file. With the settings they decide whether a folder is this
            step's. Entries in `PATHS` count by the name of the file only: folders may move.
        settings: plain values that the record shows; what `closing` writes follows from them.
        provenance: what datasets made of the folder say of it, such as estimators; plain values.
        closing: further files, from the names of those that were made.
        problems: why files that would be there cannot be made, by what the reason is about; found
            before anything is made.
    """

    name: str
    make: Callable[[Job], bytes]
    jobs: dict[str, Job]
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    closing: Callable[[list[str]], dict[str, bytes]] | None = None
    problems: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """What the folder is made from, plain values."""
        jobs = {name: _without_folders(job) for name, job in self.jobs.items()}
        digest = hashlib.sha256(json.dumps(jobs, sort_keys=True).encode()).hexdigest()
        record = dict(step=self.name, settings=self.settings, provenance=self.provenance)
        return json.loads(json.dumps(dict(record, jobs=digest)))


@dataclass(frozen=True)
class Report:
    """The names of the files that were made, the reasons for those left out, and whether all was
    there before."""

    made: list[str]
    left_out: dict[str, str]
    was_there: bool = False


def run_step(
    step: Step,
    dest: str | Path,
    workers: int = 1,
    on_error: str = "stop",
    verbose: bool = False,
) -> Report:
    """Makes the folder `dest`, or leaves it as it is if it is this step's.

    Args:
        workers: processes.
        on_error: 'stop' makes no folder if a file cannot be made, and nothing at all if that is
            known before; 'skip' leaves such files out.

    Raises PreprocessingError with all problems, OSError where nothing can be written.
    """
    dest = Path(dest)
    if step.problems and (on_error == "stop" or not step.jobs):
        raise _failure(step.problems)
    if not step.jobs:
        raise PreprocessingError(f"{dest}: there is nothing to make it from")
    record = step.record()
    there = _report_of(dest, record, step)
    if there is not None:
        return there
    left_out = dict(step.problems)
    with closing(Destination(dest, record)) as destination:
        for name, made in _progress(_make_all(step, destination, workers), step, verbose):
            if isinstance(made, str):
                left_out[name] = made
            elif made is not None:
                destination.add(name, made)
        names = [name for name in step.jobs if name not in left_out]
        if left_out and (on_error == "stop" or not names):
            raise _failure(left_out)
        extra = step.closing(names) if step.closing else {}
        extra[RECORD_FILE] = json.dumps(dict(record, left_out=left_out), indent=1).encode()
        for name, content in extra.items():
            destination.add(name, content)
        destination.finish()
    return Report(names, left_out)


def provenance_of(folder: str | Path) -> dict[str, Any]:
    """What the record of a folder says of its making; {} if it has none."""
    record = _read_record(Path(folder))
    return {} if record is None else record.get("provenance", {})


def problems_error(problems: list[str], outcome: str = NOTHING) -> PreprocessingError:
    """The error that lists problems, the first of many, and says what they have for a result."""
    count = len(problems)
    more = [f"and {count - _SHOWN} more"] if count > _SHOWN else []
    head = f"{count} problem{'s' * (count > 1)}, {outcome}:"
    return PreprocessingError("\n  ".join([head, *problems[:_SHOWN], *more]))


def _failure(left_out: dict[str, str]) -> PreprocessingError:
    return problems_error([f"{name}: {reason}" for name, reason in left_out.items()], _SKIP)


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Name and SHA-256 of a file, for provenance."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return dict(file=Path(path).name, sha256=digest.hexdigest())


def _without_folders(job: Job) -> Job:
    return {key: Path(value).name if key in PATHS else value for key, value in job.items()}


def _read_record(folder: Path) -> dict | None:
    try:
        record = json.loads((folder / RECORD_FILE).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _report_of(dest: Path, record: dict, step: Step) -> Report | None:
    """Of a folder that is there already; None if there is none."""
    if not dest.exists() or (dest.is_dir() and not os.listdir(dest)):
        return None
    found = _read_record(dest)
    if found is None:
        raise PreprocessingError(f"{dest}: is there already, and no step made it; name another one")
    left_out = found.pop("left_out", {})
    if found != record:
        raise PreprocessingError(
            f"{dest}: was made of other pictures or settings; remove it, or name another one"
        )
    return Report([name for name in step.jobs if name not in left_out], left_out, was_there=True)


def _attempt(make: Callable[[Job], bytes], job: Job) -> bytes | str:
    """The content of a file, or why it cannot be had."""
    try:
        return make(job)
    except (PreprocessingError, *_FAILURES) as error:
        return one_line(error)


def _make_all(
    step: Step, destination: Destination, workers: int
) -> Iterator[tuple[str, bytes | str | None]]:
    """(name, content) of all files in order; a reason instead of content where it cannot be had,
    None for what is there from before."""
    fresh = [job for name, job in step.jobs.items() if name not in destination.kept]
    attempt = partial(_attempt, step.make)
    with ExitStack() as stack:
        if workers == 1:
            made = map(attempt, fresh)
        else:  # Spawned, not forked: the caller may be a program with threads.
            pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)
            made = pool.map(attempt, fresh, chunksize=_CHUNK)
        for name in step.jobs:
            yield name, None if name in destination.kept else next(made)


def _progress(items: Iterator, step: Step, verbose: bool) -> Iterator:
    disable = None if verbose else True
    return tqdm.tqdm(items, total=len(step.jobs), unit="file", desc=step.name, disable=disable)
