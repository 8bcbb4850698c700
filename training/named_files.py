"""Files by name, wherever they lie: what datasets are read from."""

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

MOST_BYTES = 2**28  # of an encoded picture: more is an error, or an attempt to fill the memory
_OUTSIDE = re.compile(r"[/\\]|[A-Za-z]:[/\\]|(.*[/\\])?\.\.([/\\]|$)")


class NamedFiles(ABC):
    """A fixed set of files, read by name. Any number of threads and processes may read at a time:
    nothing is shared but what was read of the list of names, once.

    Attributes:
        path: where they lie, as the user wrote it.
        name: a short one, for folders of runs.
        names: of all files, with forward slashes, relative to the root.
    """

    path: str
    name: str
    names: list[str]

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError, whose message says why it cannot be had."""

    @abstractmethod
    def entries(self) -> list[tuple[str, int, int]]:
        """(name, bytes, something that changes with the content) of each file."""

    def labels(self) -> Any:
        """What a dataset.json would hold, for files that keep labels in another way; else None."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Closes what is open; reading opens it again."""


class LocalFile:
    """Parts of a file of this machine.

    Reads name their place and move no position, so that threads and forked processes may share the
    open file.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        self._file = None

    def __getstate__(self) -> dict:
        return {"path": self.path, "_file": None}

    def read(self, offset: int, size: int) -> bytes:
        """Raises OSError, also where the file ends early."""
        if hasattr(os, "pread"):
            file = self._file  # held: another thread may open it at the same time
            if file is None:
                file = self._file = open(self.path, "rb", buffering=0)
            content = os.pread(file.fileno(), size, offset)
        else:  # Windows
            with open(self.path, "rb") as file:
                file.seek(offset)
                content = file.read(size)
        if len(content) != size:
            raise OSError("it ends early")
        return content

    def close(self) -> None:
        """The next read opens it again."""
        if self._file is not None:
            self._file.close()
        self._file = None


def wrong_name(names: list[str]) -> str | None:
    """What is wrong with the names in an archive, in a few words: one that leads out of it, or is
    there twice."""
    seen = set()
    for name in names:
        if _OUTSIDE.match(name) or "\0" in name:
            return f"has a file called {name!r}; names must stay inside of it"
        if name in seen:
            return f"has {name} twice; names must differ"
        seen.add(name)
    return None
