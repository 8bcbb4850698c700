"""Datasets in tar shards, on this machine or in an object store.

The naming is WebDataset's: a sample is the files of one name up to its first dot, `00000/img1.png`
and `00000/img1.json`; the JSON is `{"label": label, "weight": number}`, the weight optional. Shards
are `cars-{000000..000009}.tar`, one `.tar`, a folder of them, or any of these behind an address
that fsspec knows (`s3://bucket/cars-{000000..000009}.tar`).

Every shard's list of contents is read once and kept in the cache folder, so that pictures are read
by their place. Training then draws from shards as from a zip: in the same order, resumed exactly.
"""

import hashlib
import json
import os
import re
import tarfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from dnnlib.util import make_cache_dir_path, one_line, replacing
from training.label_file import DatasetError
from training.named_files import MOST_BYTES, LocalFile, NamedFiles, wrong_name

_VERSION = 1  # of the lists that are kept
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000
_MOST_JSON = 2**20  # bytes of a label


@dataclass(frozen=True)
class ShardList:
    """What is in a shard: (name, offset, bytes) of each file; (key, content) of each JSON."""

    files: list[list]
    samples: list[list]


def is_shards(path: str | Path) -> bool:
    """Whether a path means shards: an address, a .tar, a pattern, a folder of nothing but .tar (and
    what .json is beside them)."""
    text = str(path)
    if "://" in text or text.lower().endswith(".tar"):
        return True
    found = False
    with suppress(OSError, ValueError), os.scandir(text) as entries:
        for entry in entries:
            name = entry.name.lower()
            if not name.startswith(".") and not name.endswith((".tar", ".json")):
                return False
            found |= name.endswith(".tar")
    return found


def expand(pattern: str) -> list[str]:
    """The names that `{000..123}` stands for; the text itself without such. Raises DatasetError."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + _MOST_SHARDS:
        raise DatasetError(f"{pattern}: {found[0]} must count upwards, to fewer than a million")
    width = len(found[1])
    numbers = (f"{number:0{width}d}" for number in range(first, last + 1))
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [name for number in numbers for name in expand(head + number + tail)]


def sample_key(name: str) -> str:
    """What the files of one sample have in common: the path up to the name's first dot."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


class ShardFiles(NamedFiles):
    """The files in some shards. Raises DatasetError, with the shard's name in it."""

    def __init__(self, path: str | Path):
        self.path = str(path)
        self._shards = [_Shard(place) for place in _places(self.path)]
        self.name = _short_name(self.path)
        self._where: dict[str, tuple[int, int, int]] = {}
        self._samples: dict[str, Any] = {}
        for number, shard in enumerate(self._shards):
            listed = shard.list_contents()
            for name, offset, size in listed.files:
                if name in self._where:
                    other = self._shards[self._where[name][0]].place
                    raise DatasetError(f"{shard.place}: has {name}, which is in {other} too")
                self._where[name] = (number, offset, size)
            self._samples.update(listed.samples)
        self.names = list(self._where)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises OSError."""
        number, offset, size = self._where[name]
        if size > MOST_BYTES:
            raise OSError(f"it has {size} bytes, must have at most {MOST_BYTES}")
        return self._shards[number].file.read(offset, size)

    def entries(self) -> list[tuple[str, int, int]]:
        """(name, bytes, number of the shard's state) of each file."""
        states = [int(shard.state()[:15], 16) for shard in self._shards]
        return [(name, size, states[k]) for name, (k, _, size) in self._where.items()]

    def labels(self) -> dict[str, list] | None:
        """The labels and weights of all samples, by the names of their other files."""
        if not self._samples:
            return None
        found: dict[str, list] = dict(labels=[], weights=[])
        for name in self.names:
            sample = None if name.endswith(".json") else self._samples.get(sample_key(name))
            if sample is not None:
                found["labels"].append([name, sample.get("label")])
                if "weight" in sample:
                    found["weights"].append([name, sample["weight"]])
        return found if found["weights"] else dict(labels=found["labels"])

    def close(self) -> None:
        """Closes the shards."""
        for shard in self._shards:
            shard.file.close()


class _RemoteFile:
    """Parts of a file behind an address of fsspec's; opened by each process for itself."""

    def __init__(self, url: str):
        self.url = url
        self._opened: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict:
        return {"url": self.url, "_opened": None}

    def system(self) -> tuple[Any, str]:
        """The file system and the path in it. Raises DatasetError."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), *_file_system(self.url))
        return self._opened[1:]

    def read(self, offset: int, size: int) -> bytes:
        system, path = self.system()
        try:
            content = system.cat_file(path, start=offset, end=offset + size)
        except Exception as error:  # Every file system has its own.
            raise OSError(f"{self.url} cannot be read ({one_line(error)})") from None
        if len(content) != size:
            raise OSError("it ends early")
        return content

    def close(self) -> None:
        self._opened = None


class _Shard:
    def __init__(self, place: str):
        self.place = place
        self.remote = "://" in place
        self.file = _RemoteFile(place) if self.remote else LocalFile(place)

    def state(self) -> str:
        """A hash of what and which version this is."""
        try:
            if self.remote:
                system, path = self.file.system()
                words = system.ukey(path)
            else:
                status = os.stat(self.place)
                words = f"{os.path.abspath(self.place)} {status.st_size} {status.st_mtime_ns}"
        except DatasetError:
            raise
        except Exception as error:
            raise DatasetError(f"{self.place}: cannot be read ({one_line(error)})") from None
        text = f"{_VERSION} {self.place if self.remote else ''} {words}"
        return hashlib.sha256(text.encode()).hexdigest()

    def list_contents(self) -> ShardList:
        """From the cache folder, or from the shard and into it."""
        kept = Path(make_cache_dir_path("shards", f"{self.state()}.json"))
        with suppress(OSError, ValueError, TypeError):
            return ShardList(**json.loads(kept.read_text()))
        try:
            with self._open() as file:
                found = _list(file, self.place)
        except DatasetError:
            raise
        except Exception as error:  # a broken tar, or whatever a file system raises
            raise DatasetError(
                f"{self.place}: not a readable tar file ({one_line(error)})"
            ) from None
        with suppress(OSError):  # Without a cache folder it is made anew each time.
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept) as temporary:
                temporary.write_text(json.dumps(asdict(found)))
        return found

    def _open(self) -> BinaryIO:
        if not self.remote:
            return open(self.place, "rb")
        system, path = self.file.system()
        return system.open(path, "rb")


def _list(file: BinaryIO, place: str) -> ShardList:
    files, samples = [], []
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for member in archive:
            if not member.isfile():
                if member.isdir():
                    continue
                raise DatasetError(f"{place}: {member.name} is a link; must be an ordinary file")
            files.append([member.name, member.offset_data, member.size])
            if member.name.endswith(".json"):
                samples.append([sample_key(member.name), _sample(archive, member, place)])
        _check_end(file, archive.offset, place)
    problem = wrong_name([name for name, _, _ in files])
    if problem is not None:
        raise DatasetError(f"{place}: {problem}")
    return ShardList(files, samples)


def _check_end(file: BinaryIO, end: int, place: str) -> None:
    """tarfile takes a file that was cut between two members, or garbage, for the end."""
    file.seek(end)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise DatasetError(f"{place}: not a readable tar file (it was cut off, or is damaged)")


def _sample(archive: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> dict:
    where = f"{place}: {member.name}"
    if member.size > _MOST_JSON:
        raise DatasetError(f"{where} has {member.size} bytes, must have at most {_MOST_JSON}")
    try:
        content = json.loads(archive.extractfile(member).read())
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is not readable JSON ({one_line(error)})") from None
    if not isinstance(content, dict) or "label" not in content:
        raise DatasetError(f'{where} has no label; must be {{"label": label}}')
    return {key: content[key] for key in ("label", "weight") if key in content}


def _places(path: str) -> list[str]:
    """The shards that a path means, in order."""
    if "://" in path:
        return _remote_places(path)
    if Path(path).is_dir():
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(".tar"))
        return [os.path.join(path, name) for name in names]
    places = expand(path)
    for place in places:
        if not os.path.isfile(place):
            more = f" ({len(places)} shards are wanted)" if len(places) > 1 else ""
            raise DatasetError(f"{place}: no such file{more}")
    return places


def _remote_places(path: str) -> list[str]:
    if path.lower().endswith(".tar"):
        return expand(path)
    system, root = _file_system(path)
    try:
        found = sorted(system.glob(root.rstrip("/") + "/*.tar"))
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read ({one_line(error)})") from None
    if not found:
        raise DatasetError(f"{path}: has no .tar files; expected shards")
    return [system.unstrip_protocol(name) for name in found]


def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise DatasetError(
            f"{url}: run `pip install 'eg3d-open[shards]'` (fsspec) to read from addresses"
        ) from None
    try:
        return fsspec.core.url_to_fs(url)
    except Exception as error:  # an unknown protocol, or one whose package is missing
        raise DatasetError(f"{url}: cannot be opened ({one_line(error)})") from None


def _short_name(path: str) -> str:
    """`cars` of `some/where/cars-{000000..000009}.tar`, `cars-000000.tar` or `some/cars`."""
    base = path.rstrip("/").split("://")[-1].rpartition("/")[2] if "://" in path else ""
    base = base or os.path.basename(os.path.abspath(path))
    base = re.sub(r"\.tar$", "", _RANGE.sub("", base), flags=re.IGNORECASE)
    return re.sub(r"[-_.]?\d*$", "", base) or "shards"
