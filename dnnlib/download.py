"""Files from the web, kept in a cache folder."""

import errno
import hashlib
import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from .locks import exclusive
from .transfer import Progress, Transfer

__all__ = ["is_url", "make_cache_dir_path", "open_url", "set_cache_dir", "set_offline"]

_cache_dir: str | None = None
_offline: bool | None = None

# Answers such as "404 not found" stay the same, however often one asks; these may not.
_PASSING = (408, 425, 429)
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def set_cache_dir(path: str | None) -> None:
    """Sets the cache folder of this process; None goes back to the default."""
    global _cache_dir
    _cache_dir = path


def set_offline(offline: bool | None) -> None:
    """Whether this process leaves the network alone; None goes back to the default.

    The default is that of the variable EG3D_OFFLINE: on unless it is empty, 0, false, no or off.
    """
    global _offline
    _offline = offline


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
    *,
    sha256: str | None = None,
) -> BinaryIO | str:
    """Opens a web address, a file:// address or a local path for reading bytes.

    Downloads are kept as `<cache_dir>/<md5 of the address>_<name>` (default: `downloads` below the
    cache folder) and appear there only when complete; `cache=False` neither reads nor keeps them.
    A download that breaks off is continued by the next attempt, also of another process; processes
    that want the same file wait for the one that fetches it.

    `sha256` (or an address that ends in `#sha256=<64 hex digits>`) is what the file must have: a
    cached file that differs is fetched again. `return_filename` gives the path of the local file
    instead. Raises OSError naming the address after `num_attempts`, at once where the server
    refuses, for a wrong hash (with both), and offline for what is not in the cache;
    FileNotFoundError for a local path.
    """
    if num_attempts < 1:
        raise ValueError(f"num_attempts is at least 1, got {num_attempts}")
    if return_filename and not cache:
        raise ValueError("return_filename needs cache=True: there is no file otherwise")
    if is_url(url, allow_file_urls=True):
        url, sha256 = _split_hash(url, sha256)
    sha256 = _normalized_hash(sha256)
    if not is_url(url):
        path = _local_path(os.fspath(url))
        if sha256 is not None:
            _check_hash(path, _hash_of(path), sha256)
        return path if return_filename else open(path, "rb")

    folder = Path(cache_dir or make_cache_dir_path("downloads"))
    if not cache:
        return _without_cache(url, folder, num_attempts, verbose, sha256)
    path = _find(folder, url, sha256) or _fetch(folder, url, num_attempts, verbose, sha256)
    return str(path) if return_filename else open(path, "rb")


def _local_path(text: str) -> str:
    if not text.startswith("file:"):
        return text
    path = urllib.request.url2pathname(urllib.parse.urlsplit(text).path)
    # file:///C:/x has a path "/C:/x" where drives have letters.
    return path[1:] if re.match(r"[/\\][A-Za-z]:", path) else path


def _split_hash(url: str, sha256: str | None) -> tuple[str, str | None]:
    address, mark, named = url.partition("#sha256=")
    if not mark:
        return url, sha256
    if sha256 is not None and sha256.lower() != named.lower():
        raise ValueError(f"{url}: the address asks for another hash than sha256={sha256}")
    return address, named


def _normalized_hash(sha256: str | None) -> str | None:
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(f"sha256={sha256}: must be 64 hexadecimal digits")
    return sha256 and sha256.lower()


def _hash_of(file: BinaryIO | str | Path) -> str:
    if isinstance(file, (str, Path)):
        with open(file, "rb") as opened:
            return _hash_of(opened)
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _check_hash(name: str | Path, found: str, expected: str) -> None:
    if found != expected:
        raise OSError(f"{name}: SHA-256 is {found}, expected {expected}")


def _key(url: str) -> str:
    return hashlib.md5(url.encode(), usedforsecurity=False).hexdigest()


def _entries(folder: Path, url: str) -> list[Path]:
    return sorted(folder.glob(f"{_key(url)}_*"))


def _find(folder: Path, url: str, sha256: str | None) -> Path | None:
    """The cached file, if there is one with the right content."""
    for path in _entries(folder, url):
        if sha256 is None or _hash_of(path) == sha256:
            return path
    return None


def _refuse_offline(folder: Path, url: str) -> None:
    if _offline is None:
        offline = os.environ.get("EG3D_OFFLINE", "").lower() not in ("", "0", "false", "no", "off")
    else:
        offline = _offline
    if offline:
        differing = ", ".join(path.name for path in _entries(folder, url))
        what = f"has only {differing} with another SHA-256" if differing else "does not have it"
        raise OSError(
            f"cannot download {url}: offline (EG3D_OFFLINE, set_offline), "
            f"and the cache folder {folder} {what}"
        )


def _without_cache(
    url: str, folder: Path, attempts: int, verbose: bool, sha256: str | None
) -> BinaryIO:
    _refuse_offline(folder, url)
    file = tempfile.TemporaryFile()
    try:
        _receive(Transfer(url, file, has_hash=sha256 is not None), attempts, verbose, sha256)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _fetch(folder: Path, url: str, attempts: int, verbose: bool, sha256: str | None) -> Path:
    """Downloads into the cache; returns the path there."""
    _refuse_offline(folder, url)
    folder.mkdir(parents=True, exist_ok=True)

    def on_wait() -> None:
        if verbose:
            print(f"Waiting for another process that downloads {url} ...", flush=True)

    with exclusive(folder / f"{_key(url)}.lock", on_wait) as alone:
        found = _find(folder, url, sha256)  # by now another process may have finished
        if found is not None:
            return found
        part = _part_path(folder, url, alone)
        state = part.with_name(part.name + ".json") if alone else None
        keep = False
        try:
            with open(part, "a+b") as file:
                transfer = Transfer(url, file, state, has_hash=sha256 is not None)
                try:
                    name = _receive(transfer, attempts, verbose, sha256)
                finally:
                    keep = alone and transfer.resumable
                os.fsync(file.fileno())
            keep = False
            return _install(part, folder, url, name)
        finally:
            if not keep:
                part.unlink(missing_ok=True)
                if state is not None:
                    state.unlink(missing_ok=True)


def _part_path(folder: Path, url: str, alone: bool) -> Path:
    """Where to collect a download: a lasting name, or one of our own where locks do not work."""
    if alone:
        return folder / f"{_key(url)}.part"
    handle, path = tempfile.mkstemp(prefix=f"{_key(url)}.", suffix=".part", dir=folder)
    os.close(handle)
    return Path(path)


def _install(part: Path, folder: Path, url: str, name: str) -> Path:
    path = folder / f"{_key(url)}_{name}"
    os.replace(part, path)
    for older in _entries(folder, url):
        if older != path:  # the server gave another name before
            with suppress(OSError):
                older.unlink()
    return path


def _receive(transfer: Transfer, attempts: int, verbose: bool, sha256: str | None) -> str:
    """Receives the whole file and checks it; returns the server's name for it."""
    url = transfer.url
    progress = Progress(url, verbose)
    for attempt in range(1, attempts + 1):
        try:
            name = transfer.receive(progress)
            found = sha256 and _hash_of(transfer.file)
        except (OSError, http.client.HTTPException) as error:
            if _is_final(error) or attempt == attempts:
                progress.say(" failed", end="\n")
                raise OSError(f"cannot download {url}: {error}") from error
            progress.say(".")
            time.sleep(min(0.1 * 2**attempt, 5))
            continue
        if found == sha256:
            progress.say(" done", end="\n")
            return name
        was_resumed = transfer.resumed
        transfer.restart()
        if not was_resumed or attempt == attempts:
            progress.say(" failed", end="\n")
            _check_hash(f"cannot download {url}", found, sha256)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _is_final(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in _PASSING
    return getattr(error, "errno", None) in _DISK_FULL
