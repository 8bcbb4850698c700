"""Files of datasets: zips against the standard reader, names and sizes that are refused."""

import io
import json
import os
import pickle
import threading
import zipfile

import numpy as np
import pytest

from training.dataset_files import open_files
from training.named_files import LocalFile, wrong_name

METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]


def contents(count=40):
    """Files of all sizes, some that compress and some that do not."""
    random = np.random.RandomState(0)
    files = {f"{k % 7}/n{k}.bin": random.bytes(3 * k * k) for k in range(count)}
    return files | {"zeros": bytes(100_000), "empty": b"", "dataset.json": b'{"labels": null}'}


def zipped(path, files, method=zipfile.ZIP_STORED, prefix=b"", extra=b""):
    """A zip that may begin with other bytes, as a program does that unpacks itself."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.extra, info.compress_type = extra, method
            archive.writestr(info, content)
    path.write_bytes(prefix + buffer.getvalue())
    return path


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prefix, extra", [(b"", b""), (b"#!/bin/sh\n", b"\x99\x99\x04\x00abcd")])
def test_a_zip_has_what_the_standard_reader_finds(tmp_path, method, prefix, extra):
    path = zipped(tmp_path / "a.zip", contents(), method, prefix, extra)
    files = open_files(path)
    with zipfile.ZipFile(path) as archive:
        assert files.names == archive.namelist()
        assert all(files.read(name) == archive.read(name) for name in files.names)
        entries = [(i.filename, i.file_size, i.CRC) for i in archive.infolist()]
    assert files.entries() == entries and files.name == "a"


def test_folders(tmp_path):
    for name, content in contents().items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(content)
    files = open_files(tmp_path)
    assert {name: files.read(name) for name in files.names} == contents()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no ordinary file"):
        open_files(tmp_path).read("pipe")


def test_the_list_of_a_zip_is_read_once(tmp_path, monkeypatch):
    """Copies for other processes, and reading after closing, need it no more."""
    files = open_files(zipped(tmp_path / "a.zip", contents()))
    monkeypatch.delattr(zipfile, "ZipFile")
    files.read("zeros")
    files.close()
    copy = pickle.loads(pickle.dumps(files))
    for other in (files, copy):
        assert {name: other.read(name) for name in other.names} == contents()


def test_threads_read_at_once(tmp_path):
    """A shared position would mix up what they read; and all of them open the file at first, which
    must not take it from one that reads already."""
    path, expected = zipped(tmp_path / "a.zip", contents()), contents()
    files, errors = open_files(path), []

    def read():
        start.wait()
        try:
            errors.extend(name for name in files.names if files.read(name) != expected[name])
        except OSError as error:
            errors.append(str(error))

    for _ in range(200):
        files.close()
        start = threading.Barrier(6)
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


def test_windows_reads_without_pread(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(bytes(range(100)))
    monkeypatch.delattr(os, "pread")
    file = LocalFile(tmp_path / "x")
    assert file.read(30, 4) == bytes([30, 31, 32, 33])
    with pytest.raises(OSError, match="ends early"):
        file.read(98, 3)


@pytest.mark.parametrize(
    "name",
    ["/a.png", "../a.png", "a/../../b.png", "..", "a/..", "\\a.png", "..\\a.png", "C:\\a.png"]
    + ["c:/a.png", "a\0.png"],
)
def test_names_that_lead_out(name):
    assert "names must stay inside" in wrong_name(["x.png", name])


def test_names_that_do_not():
    assert wrong_name(["a/b.png", "..a.png", "a..b/c...png", "12:30.png", "a\\b.png"]) is None
    assert wrong_name(["a", "b", "a"]) == "has a twice; names must differ"


def changed(path, old, new):
    content = path.read_bytes()
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize("method", METHODS)
def test_small_files_cannot_become_large_ones(tmp_path, method):
    """The list says 10 bytes; a reader that believes the packed bytes makes ten million."""
    path = zipped(tmp_path / "a.zip", {"a.png": bytes(10_000_000)}, method)
    changed(path, (10_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    with pytest.raises(OSError, match="CRC|early"):
        open_files(path).read("a.png")
    path = zipped(tmp_path / "b.zip", {"a.png": bytes(1000)}, method)
    changed(path, (1000).to_bytes(4, "little"), (2**31).to_bytes(4, "little"))
    with pytest.raises(OSError, match="2147483648 bytes, must have at most"):
        open_files(path).read("a.png")


def test_what_cannot_be_unpacked(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": b"x"}, zipfile.ZIP_LZMA)
    with pytest.raises(OSError, match="method 14; must be stored, deflated or bzip2"):
        open_files(path).read("a.png")
    path = zipped(tmp_path / "b.zip", {"a.png": bytes(1000)}, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    content[35] ^= 255
    path.write_bytes(content)
    with pytest.raises(OSError, match="damaged"):
        open_files(path).read("a.png")


def test_labels_come_from_the_label_file(tmp_path):
    assert open_files(zipped(tmp_path / "a.zip", contents())).labels() is None
    assert json.loads(open_files(tmp_path / "a.zip").read("dataset.json")) == {"labels": None}
