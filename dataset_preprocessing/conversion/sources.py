"""Where pictures come from: folders, zips, LSUN databases, CIFAR-10, MNIST.

Every source is a list of names in a fixed order, a label for each or None, and the content of each:
bytes of an encoded file or pixels. Sources may be pickled, so that several processes can read them.
"""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.label_file import LABEL_FILE

Label = list[float] | int | None


class SourceError(OSError):
    """A source of pictures cannot be used; the message is one line that names it."""


class Source(ABC):
    """Pictures by number.

    names: of all pictures; labels: of each, None where there is none. `has_labels` says whether the
    source has labels at all.
    """

    names: list[str]
    labels: list[Label]

    @abstractmethod
    def read(self, index: int) -> bytes | np.ndarray:
        """An encoded picture, or pixels uint8 [H, W] or [H, W, 3]. Raises OSError."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_labels(self) -> bool:
        """Whether any picture has a label."""
        return any(label is not None for label in self.labels)

    def limit(self, count: int | None) -> None:
        """Keeps the first `count` pictures; None: all."""
        self.names, self.labels = self.names[:count], self.labels[:count]


class FileSource(Source):
    """Pictures below a folder, with the dataset.json at its root."""

    def __init__(self, folder: Path):
        self.folder = folder
        found = [
            Path(place, name).relative_to(folder).as_posix()
            for place, _, names in os.walk(folder)
            for name in names
        ]
        self.names = _pictures(found, folder)
        content = (folder / LABEL_FILE).read_bytes() if LABEL_FILE in found else None
        self.labels = _labels(content, self.names, folder / LABEL_FILE)

    def read(self, index: int) -> bytes:
        return (self.folder / self.names[index]).read_bytes()


class ZipSource(Source):
    """Pictures in a zip, with the dataset.json at its root."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                found = [name for name in archive.namelist() if not name.endswith("/")]
                content = archive.read(LABEL_FILE) if LABEL_FILE in found else None
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise SourceError(f"{path}: not a readable zip file ({error})") from None
        twice = {name for name in found if found.count(name) > 1} if _has_doubles(found) else set()
        if twice:
            raise SourceError(f"{path}: has {sorted(twice)[0]} twice; names must differ")
        self.names = _pictures(found, path)
        self.labels = _labels(content, self.names, path / LABEL_FILE)
        self._archive: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_archive": None}

    def read(self, index: int) -> bytes:
        if self._archive is None or self._archive[0] != os.getpid():
            self._archive = (os.getpid(), zipfile.ZipFile(self.path))
        try:
            return self._archive[1].read(self.names[index])
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise SourceError(f"not readable ({error})") from None


class LmdbSource(Source):
    """The pictures of an LSUN database, a folder that ends in `_lmdb`; without labels."""

    def __init__(self, folder: Path):
        self.folder = folder
        with self._open() as database, database.begin() as transaction:
            keys = [key for key, _ in transaction.cursor()]
        if not keys:
            raise SourceError(f"{folder}: an empty database")
        self.keys = keys
        self.names = [key.decode("ascii", "replace") for key in keys]
        self.labels = [None] * len(keys)
        self._database: tuple[int, Any] | None = None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_database": None}

    def _open(self):
        try:
            import lmdb
        except ImportError:
            raise SourceError(f"{self.folder}: run `pip install lmdb` to read databases") from None
        try:
            return lmdb.open(str(self.folder), readonly=True, lock=False, create=False)
        except lmdb.Error as error:
            raise SourceError(f"{self.folder}: not a readable database ({error})") from None

    def read(self, index: int) -> bytes:
        if self._database is None or self._database[0] != os.getpid():
            self._database = (os.getpid(), self._open())
        with self._database[1].begin() as transaction:
            return transaction.get(self.keys[index])


class ArraySource(Source):
    """Pixels uint8 [N, H, W] or [N, H, W, 3] in memory, with classes."""

    def __init__(self, pixels: np.ndarray, labels: list[int]):
        self.pixels = pixels
        self.labels = labels
        self.names = [f"{index:08d}" for index in range(len(pixels))]

    def read(self, index: int) -> np.ndarray:
        return self.pixels[index]


def open_source(source: str | Path) -> Source:
    """The source that a path means. Raises SourceError."""
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{source}: no such file or folder")
    if path.is_dir():
        return LmdbSource(path) if path.name.endswith("_lmdb") else FileSource(path)
    if path.name == "cifar-10-python.tar.gz":
        return _cifar10(path)
    if path.name == "train-images-idx3-ubyte.gz":
        return _mnist(path)
    if path.suffix.lower() == ".zip":
        return ZipSource(path)
    raise SourceError(
        f"{source}: unknown kind of file; must be a folder, a .zip, a folder ending in _lmdb, "
        "cifar-10-python.tar.gz or train-images-idx3-ubyte.gz"
    )


def _pictures(found: list[str], where: Path) -> list[str]:
    Image.init()
    names = sorted(n for n in found if os.path.splitext(n)[1].lower() in Image.EXTENSION)
    if not names:
        raise SourceError(f"{where}: no pictures in it")
    return names


def _has_doubles(names: list[str]) -> bool:
    return len(set(names)) != len(names)


def _labels(content: bytes | None, names: list[str], where: Path) -> list[Label]:
    """Labels from a dataset.json by name; None where it has none."""
    if content is None:
        return [None] * len(names)
    try:
        entries = json.loads(content)["labels"]
        by_name = {name.replace("\\", "/"): label for name, label in entries or []}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SourceError(
            f'{where}: must be {{"labels": [[file name, label], ...]}}, or {{"labels": null}}'
        ) from None
    return [by_name.get(name) for name in names]


class _PlainUnpickler(pickle.Unpickler):
    """Lists, dicts, strings and arrays: what the batches of CIFAR-10 consist of."""

    _ALLOWED = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise SourceError(f"has {module}.{name} in it, which no CIFAR-10 file has")
        return super().find_class(module, name)


def _cifar10(path: Path) -> ArraySource:
    pixels, labels = [], []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for number in range(1, 6):
                file = archive.extractfile(f"cifar-10-batches-py/data_batch_{number}")
                batch = _PlainUnpickler(io.BytesIO(file.read()), encoding="latin1").load()
                pixels.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
                labels += [int(label) for label in batch["labels"]]
    except (tarfile.TarError, KeyError, AttributeError, EOFError, pickle.PickleError) as error:
        raise SourceError(f"{path}: not a CIFAR-10 archive ({error})") from None
    except (SourceError, ValueError) as error:
        raise SourceError(f"{path}: {error}") from None
    return ArraySource(np.concatenate(pixels).transpose(0, 2, 3, 1).copy(), labels)


def _mnist(path: Path) -> ArraySource:
    """28 x 28 digits with two pixels of black on each side."""
    beside = path.with_name("train-labels-idx1-ubyte.gz")
    try:
        pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
        labels = np.frombuffer(gzip.decompress(beside.read_bytes()), np.uint8, offset=8)
        pixels = pixels.reshape(-1, 28, 28)
    except FileNotFoundError:
        raise SourceError(f"{beside}: no such file; it has the labels of {path.name}") from None
    except (OSError, EOFError, ValueError) as error:
        raise SourceError(f"{path}: not an MNIST file ({error})") from None
    if len(pixels) != len(labels):
        raise SourceError(f"{path}: {len(pixels)} pictures, but {len(labels)} labels in {beside}")
    return ArraySource(np.pad(pixels, ((0, 0), (2, 2), (2, 2))), labels.tolist())
