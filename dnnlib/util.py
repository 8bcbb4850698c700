"""Small helpers that need no torch; the names are those that published checkpoints import."""

import ctypes
import io
import pickle
import sys
from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np

from .download import is_url, make_cache_dir_path, open_url, set_cache_dir, set_offline
from .files import copy_files_and_create_dirs, list_dir_recursively_with_ignore, replacing
from .names import (
    call_func_by_name,
    construct_class_by_name,
    get_module_dir_by_obj_name,
    get_module_from_obj_name,
    get_obj_by_name,
    get_obj_from_module,
    get_top_level_function_name,
    is_top_level_function,
)

__all__ = [
    "EasyDict",
    "Logger",
    "ask_yes_no",
    "call_func_by_name",
    "construct_class_by_name",
    "copy_files_and_create_dirs",
    "format_time",
    "format_time_brief",
    "get_dtype_and_ctype",
    "get_module_dir_by_obj_name",
    "get_module_from_obj_name",
    "get_obj_by_name",
    "get_obj_from_module",
    "get_top_level_function_name",
    "is_pickleable",
    "is_top_level_function",
    "is_url",
    "list_dir_recursively_with_ignore",
    "one_line",
    "make_cache_dir_path",
    "open_url",
    "replacing",
    "set_cache_dir",
    "set_offline",
    "tuple_product",
]


class EasyDict(dict):
    """A dict whose entries are attributes too: `d.lr` is `d["lr"]`; AttributeError if missing."""

    def __getattr__(self, key: str) -> Any:
        if key in self:
            return self[key]
        raise AttributeError(f"no entry {key!r}, known are {', '.join(map(str, self)) or 'none'}")

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __delattr__(self, key: str) -> None:
        if key not in self:
            raise AttributeError(f"no entry {key!r}")
        del self[key]


class Logger:
    """Sends stdout and stderr to the old stdout and to a file, until closed (or as a `with`).

    `file_name` None redirects without a file; `file_mode` "a" appends; `should_flush` flushes
    after every write, so that the file is complete if the process is killed.
    """

    def __init__(
        self, file_name: str | None = None, file_mode: str = "w", should_flush: bool = True
    ):
        self.file = None if file_name is None else open(file_name, file_mode, encoding="utf-8")
        self.should_flush = should_flush
        self.stdout, self.stderr = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = self

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def write(self, text: str | bytes) -> int:
        """Writes to the console and the file; returns the number of characters."""
        text = text.decode(errors="replace") if isinstance(text, bytes) else text
        if text:
            for stream in self._streams():
                stream.write(text)
            if self.should_flush:
                self.flush()
        return len(text)

    def flush(self) -> None:
        """Flushes the console and the file."""
        for stream in self._streams():
            stream.flush()

    def isatty(self) -> bool:
        """Whether the console is a terminal (progress bars ask)."""
        return self.stdout.isatty()

    def close(self) -> None:
        """Gives stdout and stderr back and closes the file; a second call does nothing."""
        self.flush()
        if sys.stdout is self:
            sys.stdout = self.stdout
        if sys.stderr is self:
            sys.stderr = self.stderr
        if self.file is not None:
            self.file.close()
            self.file = None

    def _streams(self) -> list:
        return [self.stdout] if self.file is None else [self.stdout, self.file]


def format_time(seconds: float) -> str:
    """Seconds as "5s", "1m 05s", "1h 02m 05s" or "1d 01h 01m"."""
    total = round(seconds)
    minutes, s = divmod(total, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h:02}h {m:02}m"
    if hours:
        return f"{hours}h {m:02}m {s:02}s"
    return f"{minutes}m {s:02}s" if minutes else f"{s}s"


def format_time_brief(seconds: float) -> str:
    """The two largest units of `format_time`: "5s", "1m 05s", "1h 02m" or "1d 01h"."""
    return " ".join(format_time(seconds).split()[:2])


def ask_yes_no(question: str) -> bool:
    """Asks on the console until the answer starts with y or n, or is 1/0, true/false, on/off."""
    answers = {"1": True, "true": True, "t": True, "on": True, "0": False, "false": False}
    answers |= {"y": True, "yes": True, "n": False, "no": False, "f": False, "off": False}
    while True:
        answer = input(f"{question} [y/n] ").strip().lower()
        if answer in answers:
            return answers[answer]


def tuple_product(t: Iterable[int]) -> int:
    """The product of the numbers, 1 for none."""
    return prod(t)


def get_dtype_and_ctype(type_obj: Any) -> tuple[np.dtype, Any]:
    """The NumPy dtype and the ctypes type for a type, a dtype or the name of one."""
    try:
        dtype = np.dtype(type_obj)
        return dtype, np.ctypeslib.as_ctypes_type(dtype)
    except (TypeError, NotImplementedError):
        pass
    name = type_obj if isinstance(type_obj, str) else getattr(type_obj, "__name__", "")
    ctype = getattr(ctypes, name, None) or getattr(ctypes, f"c_{name}", None)
    if ctype is None:
        raise ValueError(f"{type_obj!r} is neither a NumPy nor a C type")
    return np.dtype(ctype), ctype


def one_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its class if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def is_pickleable(obj: Any) -> bool:
    """Whether `pickle.dump` accepts the object."""
    try:
        pickle.dump(obj, io.BytesIO())
    except Exception:  # a __reduce__ may raise anything
        return False
    return True
