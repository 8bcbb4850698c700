"""Files from the web, kept in a cache folder."""

import hashlib
import http.client
import io
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .files import replacing

__all__ = ["is_url", "make_cache_dir_path", "open_url", "set_cache_dir"]

_cache_dir: str | None = None


def set_cache_dir(path: str | None) -> None:
    """Sets the cache folder of this process; None goes back to the default."""
    global _cache_dir
    _cache_dir = path


def make_cache_dir_path(*paths: str) -> str:
    """A path below the cache folder; nothing is created.

    The folder is that of `set_cache_dir`, else of the variable DNNLIB_CACHE_DIR, else
    ~/.cache/dnnlib.
    """
    root = _cache_dir or os.environ.get("DNNLIB_CACHE_DIR")
    return os.path.join(root or str(Path.home() / ".cache" / "dnnlib"), *paths)


def is_url(obj: Any, allow_file_urls: bool = False) -> bool:
    """Whether the object is the text of a web address (or, if allowed, of a file:// one)."""
    if not isinstance(obj, str):
        return False
    parts = urllib.parse.urlsplit(obj)
    if parts.scheme == "file":
        return allow_file_urls and bool(parts.path)
    return parts.scheme in ("http", "https", "ftp") and bool(parts.hostname)


def open_url(
    url: str | os.PathLike,
    cache_dir: str | None = None,
    num_attempts: int = 10,
    verbose: bool = True,
    return_filename: bool = False,
    cache: bool = True,
) -> BinaryIO | str:
    """Opens a web address, a file:// address or a local path for reading bytes.

    Downloads are kept as `<cache_dir>/<md5 of the address>_<name>` (default: `downloads` below the
    cache folder) and appear there only when complete; `cache=False` neither reads nor keeps them.
    `return_filename` gives the path of the local file instead. Raises OSError naming the address
    after `num_attempts`, at once where the server refuses, and FileNotFoundError for a local path.
    """
    if num_attempts < 1:
        raise ValueError(f"num_attempts is at least 1, got {num_attempts}")
    if return_filename and not cache:
        raise ValueError("return_filename needs cache=True: there is no file otherwise")
    if not is_url(url):
        path = _local_path(os.fspath(url))
        return path if return_filename else open(path, "rb")
    url = os.fspath(url)

    key = hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()
    folder = Path(cache_dir or make_cache_dir_path("downloads"))
    known = sorted(folder.glob(f"{key}_*")) if cache else []
    if not known:
        name, data = _with_attempts(lambda: _fetch(url), url, num_attempts, verbose)
        if not cache:
            return io.BytesIO(data)
        known = [_store(folder, f"{key}_{name}", data)]
    return str(known[0]) if return_filename else open(known[0], "rb")


def _local_path(text: str) -> str:
    if not text.startswith("file:"):
        return text
    path = urllib.request.url2pathname(urllib.parse.urlsplit(text).path)
    # file:///C:/x has a path "/C:/x" where drives have letters.
    return path[1:] if re.match(r"[/\\][A-Za-z]:", path) else path


def _with_attempts(fetch: Callable, url: str, attempts: int, verbose: bool) -> tuple[str, bytes]:
    if verbose:
        print(f"Downloading {url} ...", end="", flush=True)
    for attempt in range(1, attempts + 1):
        try:
            result = fetch()
        except (OSError, http.client.HTTPException) as error:
            # Answers such as "404 not found" stay the same, however often one asks.
            refused = isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500
            if verbose:
                print(" failed" if refused or attempt == attempts else ".", end="", flush=True)
            if refused or attempt == attempts:
                raise OSError(f"cannot download {url}: {error}") from error
            time.sleep(min(0.1 * 2**attempt, 5))
        else:
            if verbose:
                print(" done")
            return result
    raise AssertionError("unreachable: the last attempt returns or raises")


def _fetch(url: str) -> tuple[str, bytes]:
    """A file name fit for any file system, and the content."""
    request = urllib.request.Request(url, headers={"User-Agent": "dnnlib"})
    with urllib.request.urlopen(request, timeout=60) as response:
        data = response.read()
        name = response.headers.get_filename() or urllib.parse.urlsplit(response.url).path
    if not data:
        raise OSError("the answer is empty")
    name = re.sub(r"[^\w.\-]", "_", urllib.parse.unquote(name).rstrip("/").rpartition("/")[2])
    return name[-128:] or "file", data


def _store(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / name) as temporary:
        temporary.write_bytes(data)
    return folder / name
