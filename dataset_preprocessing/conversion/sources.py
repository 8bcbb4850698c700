"""Where pictures come from: folders, zips, tar shards, LSUN databases, CIFAR-10, MNIST.

Every source is a list of names in a fixed order, a label for each or None, and the content of each:
bytes of an encoded file or pixels. Sources may be pickled, so that several processes can read them.
"""

import gzip
import io
import json
import os
import pickle
import tarfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dnnlib.util import one_line
from training.dataset_files import open_files
from training.label_file import (
    LABEL_FILE,
    DatasetError,
    count_classes,
    parse_classes,
    parse_weights,
)
from training.shards import is_shards

Label = list[float] | int | None

PROVENANCE = "provenance"  # entry of a dataset.json: what pictures and labels were made with


class SourceError(OSError):
    """A source of pictures cannot be used; the message is one line that names it."""


class Source(ABC):
    """Pictures by number.

    names: of all pictures; labels: of each, None where there is none. `has_labels` says whether the
    source has labels at all. weights: how often each is to be drawn in training, None where nothing
    says so. classes: what kind of thing each shows besides its camera, None likewise; num_classes:
    how many kinds there are. provenance: what a dataset.json says of its making.
    """

    names: list[str]
    labels: list[Label]
    weights: list[float] | None = None
    classes: list[int] | None = None
    num_classes: int = 0
    provenance: dict[str, Any] | None = None

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
    """Pictures in a folder, a zip or tar shards, with a dataset.json at its root, or what stands
    for it in shards; labelled=False does not look into that."""

    def __init__(self, path: str | Path, labelled: bool = True):
        try:
            self._files = open_files(path)
            self.names = _pictures(self._files.names, path)
            content = self._label_content() if labelled else None
            where = f"{path}/{LABEL_FILE}"
            weights = parse_weights(content, self.names, where)
            classes = parse_classes(content, self.names, where)
            self.num_classes = 0 if classes is None else count_classes(content, classes, where)
        except DatasetError as error:
            raise SourceError(str(error)) from None
        self.labels = _labels(content, self.names, where)
        self.weights = None if weights is None else weights.tolist()
        self.classes = None if classes is None else classes.tolist()
        found = content.get(PROVENANCE) if isinstance(content, dict) else None
        self.provenance = found if isinstance(found, dict) else None

    def read(self, index: int) -> bytes:
        return self._files.read(self.names[index])

    def limit(self, count: int | None) -> None:
        super().limit(count)
        self.weights = self.weights and self.weights[:count]
        self.classes = self.classes and self.classes[:count]

    def _label_content(self) -> Any:
        content = self._files.labels()
        if content is not None or LABEL_FILE not in self._files.names:
            return content
        try:
            return json.loads(self._files.read(LABEL_FILE))
        except (OSError, ValueError, RecursionError) as error:
            reason = one_line(error)
            raise SourceError(
                f"{self._files.path}/{LABEL_FILE}: must be JSON with a list of labels ({reason})"
            ) from None


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
    if is_shards(source):
        return FileSource(source)
    if not path.exists():
        raise SourceError(f"{source}: no such file or folder")
    if path.is_dir():
        return LmdbSource(path) if path.name.endswith("_lmdb") else FileSource(path)
    if path.name == "cifar-10-python.tar.gz":
        return _cifar10(path)
    if path.name == "train-images-idx3-ubyte.gz":
        return _mnist(path)
    if path.suffix.lower() == ".zip":
        return FileSource(path)
    raise SourceError(
        f"{source}: unknown kind of file; must be a folder, a .zip, .tar shards, a folder ending "
        "in _lmdb, cifar-10-python.tar.gz or train-images-idx3-ubyte.gz"
    )


def _pictures(found: list[str], where: str | Path) -> list[str]:
    Image.init()
    names = sorted(n for n in found if os.path.splitext(n)[1].lower() in Image.EXTENSION)
    if not names:
        raise SourceError(f"{where}: no pictures in it")
    return names


def _labels(content: Any, names: list[str], where: str) -> list[Label]:
    """Labels by name from the content of a dataset.json; None where it has none."""
    if content is None:
        return [None] * len(names)
    try:
        entries = content["labels"]
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
