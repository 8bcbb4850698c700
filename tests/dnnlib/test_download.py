"""Downloads that break off, change, are wanted by several processes at once, or are forbidden."""

import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dnnlib import locks, util

CONTENT = bytes(range(256)) * 1024  # 256 KiB
OTHER = CONTENT[::-1]
ROOT = Path(__file__).parents[2]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Site:
    """A web server with one file; how its next answers behave is set from outside."""

    def __init__(self):
        self.content = CONTENT
        self.etag = '"one"'
        self.last_modified = None
        self.cuts = []  # bytes after which the next answers break off
        self.knows_ranges = True
        self.heeds_if_range = True
        self.before = lambda: None  # called before each answer
        self.requests = []  # headers of each
        self.url = None

    def ranges(self):
        return [headers.get("Range") for headers in self.requests]

    def respond(self, handler):
        self.requests.append(handler.headers)
        self.before()
        start, total = self._start(handler.headers), len(self.content)
        if start >= total:
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        for name, value in (("ETag", self.etag), ("Last-Modified", self.last_modified)):
            if value:
                handler.send_header(name, value)
        handler.send_header("Content-Length", str(total - start))
        handler.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else total
        handler.wfile.write(self.content[start:end])

    def _start(self, headers):
        asked, condition = headers.get("Range"), headers.get("If-Range")
        if asked is None or not self.knows_ranges:
            return 0
        if self.heeds_if_range and condition not in (None, self.etag, self.last_modified):
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))


@pytest.fixture
def site():
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            site.respond(self)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
        site.url = f"http://127.0.0.1:{httpd.server_port}/file.pkl"
        yield site
        httpd.shutdown()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.delenv("EG3D_OFFLINE", raising=False)


@pytest.fixture
def fetch(site, tmp_path):
    """`fetch(**options)` -> the bytes that open_url gives."""

    def read(url=None, **options):
        options = {"cache_dir": str(tmp_path), "verbose": False, **options}
        with util.open_url(url or site.url, **options) as file:
            return file.read()

    return read


def suffixes(folder):
    """What lies in a cache folder, without the key that all names start with."""
    return sorted(path.name[32:] for path in folder.iterdir())


@pytest.mark.parametrize("validator", ["etag", "last_modified"])
def test_broken_transfer_continues_where_it_ended(site, fetch, tmp_path, validator):
    site.etag = site.last_modified = None
    setattr(site, validator, '"one"' if validator == "etag" else "Wed, 21 Oct 2015 07:28:00 GMT")
    site.cuts = [100_000, 50_000]
    with pytest.raises(OSError, match=f"{site.url}: the answer ended after 150,000 of 262,144"):
        fetch(num_attempts=2)
    assert suffixes(tmp_path) == [".part", ".part.json"]
    assert fetch(num_attempts=1) == CONTENT  # as another process would
    assert site.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert site.requests[1]["If-Range"] == getattr(site, validator)
    assert suffixes(tmp_path) == ["_file.pkl"]


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_changed_file_is_not_mixed(site, fetch, heeds_if_range):
    site.heeds_if_range = heeds_if_range  # else the ETag of the answer gives the change away
    site.cuts = [100_000]
    with pytest.raises(OSError):
        fetch(num_attempts=1)
    site.content, site.etag = OTHER, '"two"'
    assert fetch(num_attempts=1) == OTHER
    assert site.ranges()[:2] == [None, "bytes=100000-"]


def test_shorter_file_than_what_is_here(site, fetch):
    site.cuts, site.heeds_if_range = [100_000], False
    with pytest.raises(OSError):
        fetch(num_attempts=1)
    site.content, site.etag = OTHER[:50_000], '"two"'  # the server answers 416 to the range
    assert fetch(num_attempts=1) == OTHER[:50_000]


def test_server_without_ranges_starts_from_zero(site, fetch):
    site.cuts, site.knows_ranges = [100_000], False
    assert fetch(num_attempts=2) == CONTENT
    assert site.ranges() == [None, "bytes=100000-"]


@pytest.mark.parametrize("etag", [None, 'W/"one"'])
def test_nothing_is_kept_that_cannot_be_compared(site, fetch, tmp_path, etag):
    site.etag, site.cuts = etag, [100_000, 100_000]
    with pytest.raises(OSError, match="100,000 of 262,144"):
        fetch(num_attempts=2)
    assert site.ranges() == [None, None] and suffixes(tmp_path) == []


def test_known_hash_allows_to_continue_without_a_validator(site, fetch, tmp_path):
    site.etag, site.cuts = None, [100_000]
    with pytest.raises(OSError):
        fetch(num_attempts=1, sha256=sha256(CONTENT))
    site.content = OTHER  # of the same size: only the hash can tell
    with pytest.raises(OSError):
        fetch(num_attempts=1, sha256=sha256(OTHER))
    assert suffixes(tmp_path) == []  # the mixture is not kept either
    site.cuts = [100_000]
    assert fetch(num_attempts=3, sha256=sha256(OTHER)) == OTHER


def test_resumed_mixture_is_fetched_anew(site, fetch):
    site.etag, site.cuts = None, [100_000]
    with pytest.raises(OSError):
        fetch(num_attempts=1, sha256=sha256(OTHER))
    site.content = OTHER
    assert fetch(num_attempts=2, sha256=sha256(OTHER)) == OTHER
    assert site.ranges() == [None, "bytes=100000-", None]


def test_transfer_without_cache_continues_too(site, fetch, tmp_path):
    site.cuts = [100_000]
    assert fetch(cache=False) == CONTENT
    assert site.ranges() == [None, "bytes=100000-"] and not suffixes(tmp_path)


def test_damaged_notes_of_a_partial_file(site, fetch, tmp_path):
    site.cuts = [100_000]
    with pytest.raises(OSError):
        fetch(num_attempts=1)
    next(tmp_path.glob("*.json")).write_text("[")
    assert fetch(num_attempts=1) == CONTENT and site.ranges() == [None, None]


def test_hash_of_a_download(site, fetch, tmp_path):
    for options in ({"sha256": sha256(CONTENT).upper()}, {"url": f"{site.url}#sha256="}):
        if "url" in options:
            options["url"] += sha256(CONTENT)
        assert fetch(**options) == CONTENT
    assert len(site.requests) == 1  # one cache entry, with and without the hash in the address
    assert fetch() == CONTENT and len(site.requests) == 1


def test_wrong_hash_is_one_line_with_both(site, fetch, tmp_path):
    with pytest.raises(OSError) as caught:
        fetch(sha256=sha256(OTHER))
    message = str(caught.value)
    assert "\n" not in message and site.url in message
    assert sha256(CONTENT) in message and sha256(OTHER) in message
    assert len(site.requests) == 1 and suffixes(tmp_path) == []
    assert fetch() == CONTENT  # without a hash it is what it is
    with pytest.raises(OSError):
        fetch(sha256=sha256(OTHER))
    assert suffixes(tmp_path) == ["_file.pkl"] and fetch(sha256=sha256(CONTENT)) == CONTENT
    assert len(site.requests) == 3  # a cached file that differs is fetched again once


def test_corrupt_cached_file_is_replaced(site, fetch, tmp_path):
    fetch()
    cached = next(tmp_path.iterdir())
    cached.write_bytes(b"corrupt")
    assert fetch(sha256=sha256(CONTENT)) == CONTENT and cached.read_bytes() == CONTENT
    cached.rename(cached.with_name(cached.name + ".old")).write_bytes(b"corrupt")
    assert fetch(sha256=sha256(CONTENT)) == CONTENT
    assert suffixes(tmp_path) == ["_file.pkl"]  # nor does it stay under another name


def test_hash_of_a_local_file(tmp_path):
    path = tmp_path / "local#sha256=x.bin"
    path.write_bytes(b"local")
    good, bad = sha256(b"local"), sha256(b"")
    assert util.open_url(path, sha256=good).read() == b"local"
    assert util.open_url(f"{path.as_uri()}#sha256={good}").read() == b"local"
    for options in ({"url": str(path), "sha256": bad}, {"url": f"{path.as_uri()}#sha256={bad}"}):
        with pytest.raises(OSError, match=f"SHA-256 is {good}, expected {bad}"):
            util.open_url(**options)
    assert path.read_bytes() == b"local"


def test_hashes_that_are_none(site):
    with pytest.raises(ValueError, match="sha256=abc: must be 64 hexadecimal digits"):
        util.open_url(site.url, sha256="abc")
    with pytest.raises(ValueError, match="64 hexadecimal"):
        util.open_url(f"{site.url}#sha256={'g' * 64}")
    with pytest.raises(ValueError, match="another hash"):
        util.open_url(f"{site.url}#sha256={'0' * 64}", sha256="1" * 64)
    assert not site.requests


@pytest.mark.parametrize("how", ["variable", "function"])
def test_offline(site, fetch, tmp_path, monkeypatch, how):
    def go_offline():
        if how == "variable":
            monkeypatch.setenv("EG3D_OFFLINE", "1")
        else:
            util.set_offline(True)

    try:
        go_offline()
        for cache in (True, False):
            with pytest.raises(OSError) as caught:
                fetch(cache=cache)
            message = str(caught.value)
            assert site.url in message and str(tmp_path) in message and "\n" not in message
        assert not site.requests and suffixes(tmp_path) == []
        util.set_offline(False)  # stronger than the variable
        assert fetch() == CONTENT
        util.set_offline(None)
        go_offline()
        assert fetch() == CONTENT and len(site.requests) == 1
        with pytest.raises(OSError, match="_file.pkl with another SHA-256"):
            fetch(sha256=sha256(OTHER))
    finally:
        util.set_offline(None)


@pytest.mark.parametrize(("value", "is_offline"), [("", False), ("0", False), ("true", True)])
def test_values_of_the_offline_variable(site, fetch, monkeypatch, value, is_offline):
    monkeypatch.setenv("EG3D_OFFLINE", value)
    if is_offline:
        with pytest.raises(OSError, match="offline"):
            fetch()
    else:
        assert fetch() == CONTENT


PROCESS = """
import sys
from dnnlib.util import open_url
url, folder, size = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
with open_url(url, cache_dir=folder, verbose=True) as file:
    assert len(file.read()) == int(size)
"""


def test_processes_at_once_download_once(site, tmp_path):
    arrived = threading.Event()
    site.before = lambda: arrived.wait(0.3)  # so long that the others find the lock taken
    run = [sys.executable, "-c", PROCESS, site.url, str(tmp_path), str(len(CONTENT))]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    processes = [subprocess.Popen(run, **pipes) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(site.requests) == 1 and suffixes(tmp_path) == ["_file.pkl"]
    assert sum("Downloading" in text for text in outputs) == 1


def test_threads_at_once_without_locks(site, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    both = threading.Barrier(2)
    site.before = lambda: both.wait(10)
    site.cuts = [1000, 2000]  # each breaks off once, and continues its own file
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [CONTENT, CONTENT] and suffixes(tmp_path) == ["_file.pkl"]
    assert sorted(filter(None, site.ranges())) == ["bytes=1000-", "bytes=2000-"]


def test_lock_excludes_and_leaves_nothing(tmp_path):
    path = tmp_path / "x.lock"
    inside, waited, worst = [], [], []

    def work():
        for _ in range(20):
            with locks.exclusive(path, lambda: waited.append(1)) as alone:
                inside.append(alone)
                worst.append(len(inside))
                os.sched_yield()
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(worst) == 80 and max(worst) == 1 and not path.exists()


def test_lock_where_the_file_system_has_none(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no locks")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locks.exclusive(tmp_path / "x.lock") as alone:
        assert alone is False
    assert not list(tmp_path.iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal(site, fetch, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    fetch(verbose=True)
    text = sys.stdout.getvalue()
    assert text.startswith(f"Downloading {site.url} ...\n\r")
    assert text.endswith("\r  0.3 MB of 0.3 MB, 100% done\n")


def test_full_disk_ends_at_once(site, fetch, tmp_path, monkeypatch):
    def full(self, progress):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dnnlib.transfer.Transfer.receive", full)
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with pytest.raises(OSError, match="No space left"):
        fetch()
    assert not pauses
