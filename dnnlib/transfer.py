"""One file from a web server, streamed; a broken transfer is continued where it ended."""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO

from .files import replacing

__all__ = ["Progress", "Transfer"]

_CHUNK = 1 << 18
_TIMEOUT = 60  # seconds without a byte


class Transfer:
    """A file on its way from an address into an open file; `receive` again after an error.

    What arrived is continued only if the server can show that it still has the same file (a strong
    ETag, or the time of its last change), or if `has_hash`: then a mixture would be noticed.

    Args:
        url: where the file is.
        file: opened for reading and appending; may hold what an earlier process received.
        state_path: where to keep what the server said of the file, for a later process.
        has_hash: the caller compares the result with a known hash.
    """

    def __init__(
        self, url: str, file: BinaryIO, state_path: Path | None = None, has_hash: bool = False
    ):
        self.url = url
        self.file = file
        self.state_path = state_path
        self.has_hash = has_hash
        self.resumed = False  # whether the last answer continued an earlier one
        self._validator, self._total = _read_state(state_path)

    @property
    def resumable(self) -> bool:
        """Whether what has arrived is of use to a later attempt."""
        return self._received() > 0 and (self.has_hash or self._validator is not None)

    def restart(self) -> None:
        """Forgets what has arrived."""
        self._begin(None, None)

    def receive(self, progress: Callable[[int, int | None], None]) -> str:
        """One attempt at the rest of the file; returns the file name that the server gives.

        `progress` is called with the bytes received and expected (None if unknown). Raises OSError
        or http.client.HTTPException; `file` then holds what arrived.
        """
        response, self.resumed = self._ask()
        with response:
            if not self.resumed:
                length = response.headers.get("Content-Length")
                total = int(length) if length and length.isdecimal() else None
                self._begin(_validator(response.headers), total)
            received = self._received()
            progress(received, self._total)
            while chunk := response.read1(_CHUNK):
                self.file.write(chunk)
                received += len(chunk)
                progress(received, self._total)
            self.file.flush()
        if self._total is not None and received != self._total:
            raise OSError(f"the answer ended after {received:,} of {self._total:,} bytes")
        if not received:
            raise OSError("the answer is empty")
        return _file_name(response.headers.get_filename(), response.url)

    def _ask(self) -> tuple[Any, bool]:
        """The server's answer, and whether it is the rest of what is here."""
        if self.resumable:
            start = self._received()
            headers = {"Range": f"bytes={start}-"}
            if self._validator:
                headers["If-Range"] = self._validator
            try:
                response = _open(self.url, headers)
            except urllib.error.HTTPError as error:
                if error.code != 416:  # "nothing there": the file is now another, shorter one
                    raise
            else:
                if getattr(response, "status", None) != 206:
                    return response, False  # the server ignores ranges, or the file has changed
                if self._continues(response.headers, start):
                    return response, True
                response.close()
        return _open(self.url, {}), False

    def _continues(self, headers: Message, start: int) -> bool:
        """Whether a partial answer starts at byte `start` of the same file as before."""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start:
            return False
        now = _validator(headers)
        if self._validator and now and now != self._validator:
            return False
        total = None if match[2] == "*" else int(match[2])
        if None not in (total, self._total) and total != self._total:
            return False
        self._total = total if self._total is None else self._total
        return True

    def _received(self) -> int:
        return self.file.seek(0, 2)

    def _begin(self, validator: str | None, total: int | None) -> None:
        # In this order: bytes never lie beside what was said of other bytes.
        self.file.seek(0)
        self.file.truncate()
        self._validator, self._total = validator, total
        if self.state_path is not None:
            with replacing(self.state_path) as temporary:
                temporary.write_text(json.dumps({"validator": validator, "total": total}))


class Progress:
    """Says on stdout how a download goes; the share received only where that is a terminal."""

    def __init__(self, url: str, verbose: bool):
        self.verbose = verbose
        self.is_terminal = verbose and sys.stdout.isatty()
        self._next = 0.0
        self.say(f"Downloading {url} ...", end="\n" if self.is_terminal else "")

    def say(self, text: str, end: str = "") -> None:
        """Prints unless the caller wants silence."""
        if self.verbose:
            print(text, end=end, flush=True)

    def __call__(self, received: int, total: int | None) -> None:
        """Rewrites the line, five times a second."""
        if self.is_terminal and (time.monotonic() >= self._next or received == total):
            self._next = time.monotonic() + 0.2
            share = "" if not total else f" of {total / 1e6:.1f} MB, {received / total:.0%}"
            self.say(f"\r  {received / 1e6:.1f} MB{share}")


def _open(url: str, headers: dict[str, str]) -> Any:
    request = urllib.request.Request(url, headers={"User-Agent": "dnnlib", **headers})
    return urllib.request.urlopen(request, timeout=_TIMEOUT)


def _validator(headers: Message) -> str | None:
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):  # weak ones may stand for files that differ in bytes
        return etag
    return headers.get("Last-Modified")


def _read_state(path: Path | None) -> tuple[str | None, int | None]:
    try:
        state = json.loads(path.read_text()) if path is not None else {}
        return state.get("validator"), state.get("total")
    except (OSError, ValueError, AttributeError):  # missing or damaged: nothing is known
        return None, None


def _file_name(given: str | None, url: str) -> str:
    """A name fit for any file system."""
    name = urllib.parse.unquote(given or urllib.parse.urlsplit(url).path)
    name = re.sub(r"[^\w.\-]", "_", name.rstrip("/").rpartition("/")[2])
    return name[-128:] or "file"
