"""The files of a list, downloaded and compared with it."""

import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tqdm

from dataset_preprocessing.faces.steps import problems_error
from dataset_preprocessing.ffhq.listing import File
from dnnlib.util import open_url

_PARTS = ".downloads"  # what is on its way, in the folder of the files


@dataclass(frozen=True)
class Fetched:
    """How many files were downloaded, and how many were there."""

    new: int
    there: int


def download(
    files: list[File], dest: str | Path, threads: int = 32, attempts: int = 10, verbose: bool = True
) -> Fetched:
    """Downloads the files that are not in a folder yet, several at once.

    A file gets its name when its size and MD5 are those of the list; a transfer that broke off is
    continued, also next time. Raises PreprocessingError with all files that could not be had.
    """
    dest = Path(dest)
    missing = [file for file in files if not _is_there(file, dest)]
    problems, stopping = [], threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        try:
            work = partial(_fetch, dest=dest, attempts=attempts, stopping=stopping)
            for problem in _progress(pool.map(work, missing), len(missing), verbose):
                problems += [problem] if problem else []
        except BaseException:
            stopping.set()
            pool.shutdown(cancel_futures=True)
            raise
    if problems:
        outcome = f"of {len(files)} files; the same command tries again"
        raise problems_error(problems, outcome)
    shutil.rmtree(dest / _PARTS, ignore_errors=True)
    return Fetched(len(missing), len(files) - len(missing))


def validate(files: list[File], folder: str | Path, mode: str = "file") -> tuple[int, list[str]]:
    """The number of files that are as listed, and a line for each that is not.

    Files whose content is wrong are deleted, so that `download` fetches them again. `mode` as of
    `File.problem`.
    """
    good, problems = 0, []
    for file in files:
        path = Path(folder) / file.path
        if not path.is_file():
            problems.append(f"{path}: no such file")
            continue
        problem = file.problem(path.read_bytes(), mode)
        if problem is None:
            good += 1
        else:
            path.unlink()
            problems.append(f"{path}: {problem}; deleted")
    return good, problems


def _is_there(file: File, dest: Path) -> bool:
    """By its size: files get their names only once their MD5 was right."""
    path = dest / file.path
    return path.is_file() and path.stat().st_size == file.size


def _fetch(file: File, dest: Path, attempts: int, stopping: threading.Event) -> str | None:
    """Downloads one file; returns what went wrong."""
    target = dest / file.path
    problem = None
    for _ in range(attempts):
        if stopping.is_set():
            return f"{file.path}: stopped"
        try:
            folder = str(dest / _PARTS)
            kept = open_url(file.url, folder, attempts, verbose=False, return_filename=True)
            problem = file.problem(Path(kept).read_bytes())
            if problem is None:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(kept, target)
                return None
            os.unlink(kept)  # An answer such as "too many downloads today", which is a page.
        except (OSError, ValueError) as error:
            return f"{file.path}: {error}"
    return f"{file.path}: {file.url} {problem}"


def _progress(items: Iterator, count: int, verbose: bool) -> Iterator:
    disable = None if verbose else True
    return tqdm.tqdm(items, total=count, unit="file", desc="downloading", disable=disable)
