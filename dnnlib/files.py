"""Listing, copying and replacing files."""

import fnmatch
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["copy_files_and_create_dirs", "list_dir_recursively_with_ignore", "replacing"]


def list_dir_recursively_with_ignore(
    dir_path: str, ignores: Iterable[str] | None = None, add_base_to_relative: bool = False
) -> list[tuple[str, str]]:
    """Lists the files below a folder as (path, path relative to the folder), sorted.

    Files and folders whose name matches a shell pattern of `ignores` are left out.
    `add_base_to_relative` puts the name of the folder itself in front of the relative path.
    Raises NotADirectoryError.
    """
    if not os.path.isdir(dir_path):
        raise NotADirectoryError(f"{dir_path} is not a folder")
    patterns = list(ignores or [])
    base = os.path.basename(os.path.normpath(dir_path)) if add_base_to_relative else ""

    def keep(names: list[str]) -> list[str]:
        return sorted(n for n in names if not any(fnmatch.fnmatch(n, p) for p in patterns))

    found = []
    for folder, folders, names in os.walk(dir_path):
        folders[:] = keep(folders)  # os.walk descends into what is left
        for name in keep(names):
            path = os.path.join(folder, name)
            found.append((path, os.path.join(base, os.path.relpath(path, dir_path))))
    return found


def copy_files_and_create_dirs(files: Iterable[tuple[str, str]]) -> None:
    """Copies each (source, destination), making the folders of the destinations."""
    for source, destination in files:
        os.makedirs(os.path.dirname(os.path.abspath(destination)), exist_ok=True)
        shutil.copyfile(source, destination)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` at the end of the `with` block.

    After an error in the block the temporary file is removed, and an older `path` stays as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # The folder may not even be one.
            temporary.unlink(missing_ok=True)
