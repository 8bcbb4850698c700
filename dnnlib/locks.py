"""Locks among processes, held on files."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without it
    fcntl = None

__all__ = ["exclusive"]


@contextmanager
def exclusive(path: str | Path, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Within the `with` block, no other process or thread is in a block on the same path.

    Waits for others; `on_wait` is called once if there are any. The lock ends with the process,
    however that ends, and its file is removed. Gives False, and holds nothing off, where the
    system or the file system has no such locks.
    """
    path = Path(path)
    handle = _acquire(path, on_wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()
            os.close(handle)


def _acquire(path: Path, on_wait: Callable[[], None] | None) -> int | None:
    while fcntl is not None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _lock(handle, wait=False):
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                _lock(handle, wait=True)
            # The one before may have removed the file that this handle belongs to; others then
            # lock a new file of that name.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException as error:
            os.close(handle)
            if isinstance(error, OSError):  # the file system has no locks
                path.unlink(missing_ok=True)
                return None
            raise
        os.close(handle)
    return None


def _lock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
