"""Folders for what the commands write."""

from pathlib import Path

from eg3d.errors import InputError


def make_folder(path: str | Path) -> Path:
    """Creates a folder with its parents; one that exists is fine. Raises InputError."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be made a folder: {error.strerror}") from error
    return Path(path)
