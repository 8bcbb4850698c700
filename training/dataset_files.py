"""Datasets as files: below a folder, in a zip, in shards."""

import bz2
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from dnnlib.util import one_line
from training.label_file import LABEL_FILE, DatasetError
from training.named_files import MOST_BYTES, LocalFile, NamedFiles, wrong_name
from training.shards import ShardFiles, is_shards

_HEADER = struct.Struct("<4s22xHH")  # of a file in a zip: mark, lengths of name and extra field
_ENCRYPTED = 1
_MOST_LABEL_BYTES = 2**30
UNREADABLE_ZIP = (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, struct.error)


class FolderFiles(NamedFiles):
    """The files below a folder."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        self.name = _stem(path)
        self.names = [
            Path(place, name).relative_to(self.path).as_posix()
            for place, _, names in os.walk(self.path)
            for name in names
        ]

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError."""
        path = Path(self.path, name)
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no ordinary file")
        _check_size(name, status.st_size)
        return path.read_bytes()

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, bytes, time of change) of each file."""
        states = ((name, Path(self.path, name).stat()) for name in self.names)
        return [(name, state.st_size, state.st_mtime_ns) for name, state in states]

    def close(self) -> None:
        """Nothing is open."""


class ZipFiles(NamedFiles):
    """The files in a zip, stored, deflated or bzip2.

    The zip's list of contents is read once, not by every process that reads pictures. Raises
    DatasetError.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        self.name = _stem(path)
        try:
            with zipfile.ZipFile(path) as archive:
                files = [info for info in archive.infolist() if not info.is_dir()]
        except (*UNREADABLE_ZIP, OSError) as error:
            raise DatasetError(f"{path}: not a readable zip file ({one_line(error)})") from None
        self.names = [info.filename for info in files]
        problem = wrong_name(self.names)
        if problem is not None:
            raise DatasetError(f"{path}: {problem}")
        self._number = {name: number for number, name in enumerate(self.names)}
        # An array, not objects: processes that are forked share it for good.
        self._table = np.array(
            [
                (f.header_offset, f.compress_size, f.file_size, f.CRC, f.compress_type, f.flag_bits)
                for f in files
            ],
            dtype=np.uint64,
        ).reshape(-1, 6)
        self._file = LocalFile(path)

    def read(self, name: str) -> bytes:
        """The content of a file, checked by its CRC. Raises OSError."""
        row = self._table[self._number[name]].tolist()
        offset, packed, size, crc, method, flags = row
        _check_size(name, max(size, packed))
        if flags & _ENCRYPTED:
            raise OSError("it is encrypted")
        mark, *lengths = _HEADER.unpack(self._file.read(offset, _HEADER.size))
        if mark != b"PK\3\4":
            raise OSError("the zip has no file where its list of contents says")
        content = self._file.read(offset + _HEADER.size + sum(lengths), packed)
        content = _unpacked(content, method, size)
        if len(content) != size or zlib.crc32(content) != crc:
            raise OSError("it is damaged: its CRC is wrong")
        return content

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, bytes, CRC) of each file."""
        numbers = self._table[:, 2:4].tolist()
        return [(name, size, crc) for name, (size, crc) in zip(self.names, numbers, strict=True)]

    def close(self) -> None:
        """Closes the zip."""
        self._file.close()


def open_files(path: str | Path) -> NamedFiles:
    """The files of a dataset: a folder, a `.zip`, or shards as `training.shards.is_shards` has
    them. Raises DatasetError."""
    if is_shards(path):
        return ShardFiles(path)
    place = Path(path)
    if place.is_dir():
        return FolderFiles(path)
    if not place.exists():
        raise DatasetError(
            f"{path}: no such file or folder; expected a folder, a .zip or .tar shards"
        )
    if place.suffix.lower() != ".zip":
        raise DatasetError(f"{path}: neither a folder nor a .zip file nor .tar shards")
    return ZipFiles(path)


def _unpacked(content: bytes, method: int, size: int) -> bytes:
    """At most one byte more than `size`, so that a small file cannot become a very large one."""
    if method == zipfile.ZIP_STORED:
        return content
    if method == zipfile.ZIP_DEFLATED:
        decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    elif method == zipfile.ZIP_BZIP2:
        decompressor = bz2.BZ2Decompressor()
    else:
        raise OSError(f"it is packed by method {method}; must be stored, deflated or bzip2")
    try:
        return decompressor.decompress(content, size + 1)
    except zlib.error as error:
        raise OSError(f"it is damaged ({error})") from None


def _check_size(name: str, size: int) -> None:
    most = _MOST_LABEL_BYTES if name == LABEL_FILE else MOST_BYTES
    if size > most:
        raise OSError(f"it has {size} bytes, must have at most {most}")


def _stem(path: str | Path) -> str:
    return Path(os.path.abspath(path)).stem
