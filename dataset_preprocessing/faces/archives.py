"""Zip files that data sets come in."""

import os
import zipfile
from functools import lru_cache
from pathlib import Path

from dataset_preprocessing.faces.steps import Job, PreprocessingError, Step, problems_error
from dataset_preprocessing.faces.values import leads_out


def members(path: str | Path) -> dict[str, int]:
    """{name: size in bytes} of the files in a zip. Raises PreprocessingError, also for names that
    lead out of a folder."""
    path = Path(path)
    if not path.is_file():
        raise PreprocessingError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            found = {info.filename: info.file_size for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise PreprocessingError(f"{path}: not a readable zip file ({error})") from None
    outside = [name for name in found if leads_out(name)]
    if outside:
        raise problems_error([f"{path}: {name}: leads out of the folder" for name in outside])
    return {name: size for name, size in found.items() if not name.endswith("/")}


def read_member(job: Job) -> bytes:
    """The file `member` in the zip `archive`. Raises OSError."""
    try:
        return _opened(job["archive"], os.getpid()).read(job["member"])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise OSError(f"not readable ({error})") from None


def unpack_step(path: str | Path) -> Step:
    """The step that unpacks a zip. Raises PreprocessingError."""
    found = members(path)
    jobs = {name: dict(archive=str(path), member=name, size=size) for name, size in found.items()}
    return Step("unpack", read_member, jobs)


@lru_cache(maxsize=2)
def _opened(path: str, process: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
