"""What was collected of real pictures, kept in the cache folder for the next time.

The key says all that the numbers depend on: what the pictures and labels are, not where they lie;
which of them were read; through which network. A file that is not what it should be counts as
absent. Nothing here is needed for a result: without a cache folder it is computed anew.
"""

import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dnnlib.util import make_cache_dir_path, replacing
from metrics.detectors import Detector
from metrics.errors import MetricError
from training.dataset_files import open_files

_VERSION = 1  # of the file, and of how numbers are collected
_PREFIX = "array-"  # a name in the file is free of meaning for np.savez
_OUTPUTS = ("features", "probabilities")
_KEPT = ("moments", "all")
_ELSEWHERE = {"path"}  # in the hash of the content
# Without an effect on pictures:
_WITHOUT_EFFECT = {"resolution", "use_labels", "use_classes", "mirror_labels", "cache"}


def content_hash(dataset_kwargs: Mapping[str, Any]) -> str:
    """A hash of the pictures and labels of a dataset, wherever it lies; 64 hex digits.

    Of a zip the names, sizes and CRCs of its files, of a folder their names, sizes and times of
    change, of shards what each of them is. Raises MetricError.
    """
    if "path" not in dataset_kwargs:
        raise MetricError("the real pictures have no 'path', so that nothing tells what they are")
    path = dataset_kwargs["path"]
    try:
        entries = open_files(path).entries()
    except OSError as error:
        raise MetricError(f"{path} is not a readable folder or zip ({error})") from error
    return hashlib.sha256(json.dumps(sorted(entries)).encode()).hexdigest()


def cache_key(
    dataset_kwargs: Mapping[str, Any],
    detector: Detector,
    output: str = "features",
    kept: str = "moments",
    number: int | None = None,
) -> str:
    """JSON of all that what was collected depends on.

    Args:
        dataset_kwargs: of the dataset that was read; what it leaves out has `Dataset`'s default.
        output: of the detector, 'features' or 'probabilities'.
        kept: 'moments' or 'all' rows.
        number: of pictures read; None for all.

    Raises MetricError.
    """
    if output not in _OUTPUTS or kept not in _KEPT:
        raise ValueError(f"{output=}, {kept=}: must be one of {_OUTPUTS} and one of {_KEPT}")
    choice = dict(xflip=False, max_size=None, random_seed=0) | dict(dataset_kwargs)
    if choice["max_size"] is None:
        del choice["random_seed"]  # which only chooses among pictures
    choice = {k: v for k, v in choice.items() if k not in _ELSEWHERE | _WITHOUT_EFFECT}
    key = dict(
        version=_VERSION,
        content=content_hash(dataset_kwargs),
        choice=choice,
        number=number,
        detector=[detector.name, detector.sha256],
        output=output,
        kept=kept,
    )
    return json.dumps(key, sort_keys=True, default=str)


def load(key: str) -> dict[str, np.ndarray] | None:
    """What was saved under a key, or None; a file that cannot be used is named on stderr."""
    path = _path(key)
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no .npz, or only a part of one")
            file.seek(0)
            header, arrays = _read(file)
        if header["key"] != key:
            raise ValueError("it belongs to other pictures or settings")
        if header["sha256"] != _checksum(arrays):
            raise ValueError("its checksum is wrong")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # a broken file may raise anything
        _warn(f"{path} is not used, its statistics are collected anew: {_one_line(error)}")
        return None
    return arrays


def save(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps arrays of numbers under a key, wholly or not at all; if it cannot, stderr says why.

    Raises ValueError for arrays of objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"{name} is an array of objects; must be one of numbers")
    header = json.dumps(dict(key=key, sha256=_checksum(arrays)))
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            named = {_PREFIX + name: array for name, array in arrays.items()}
            np.savez(file, header=np.array(header), **named)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        _warn(f"statistics of real pictures are not kept: {_one_line(error)}")


def _read(file: BinaryIO) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    with np.load(file, allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        names = [name for name in archive.files if name.startswith(_PREFIX)]
        return header, {name.removeprefix(_PREFIX): archive[name] for name in names}


def _path(key: str) -> Path:
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Path(make_cache_dir_path("real-statistics", f"{name}.npz"))


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _warn(text: str) -> None:
    print(f"Warning: {text}", file=sys.stderr, flush=True)
