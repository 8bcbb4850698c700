"""Folders, zips and shards of a dataset, whole or broken."""

import io
import json
import os
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.broken_files import Content
from training.shards import sample_key


def folder(dataset: Content, path: Path) -> Path:
    """Files below a folder."""
    for name, content in dataset.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    path.mkdir(exist_ok=True)
    (path / "dataset.json").write_bytes(dataset.packed_labels())
    return path


def zipped(dataset: Content, path: Path) -> Path:
    """A zip."""
    path = path.with_suffix(".zip")
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")  # of names that come twice
        for name in [*dataset.files, *dataset.twice]:
            archive.writestr(zipfile.ZipInfo(name), dataset.files[name])
        archive.writestr(zipfile.ZipInfo("dataset.json"), dataset.packed_labels())
    return path


def sharded(dataset: Content, path: Path) -> Path:
    """A tar with a label beside each picture; where the dataset has a label file of its own, that
    is what the first label consists of."""
    path = path.with_suffix(".tar")
    weights = dict(dataset.weights or [])
    first = min(dataset.files)
    with tarfile.open(path, "w") as archive:
        for name in [*dataset.files, *dataset.twice]:
            add(archive, name, dataset.files[name])
            if name not in dataset.labels and dataset.label_file is None:
                continue
            label = dict(label=dataset.labels.get(name))
            if name in weights:
                label["weight"] = weights[name]
            content = json.dumps(label).encode()
            if dataset.label_file is not None and name == first:
                content = dataset.label_file
            add(archive, f"{sample_key(name)}.json", content)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """A file with this name, whatever it is."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


PACK: dict[str, Callable[[Content, Path], Path]] = {
    "folder": folder,
    "zip": zipped,
    "shards": sharded,
}

# -- Damage to a packed dataset: changes what is at a path -----------------------------------------


def _cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: rng.randrange(1, len(content))])


def _emptied(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def _garbage(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(rng.randrange(1, 5000)))


def _text(path: Path, rng: random.Random) -> None:
    path.write_text("not an archive\n" * rng.randrange(1, 400))


def _replaced(old: bytes, new: bytes, path: Path) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def _entry(path: Path, rng: random.Random) -> tuple[zipfile.ZipInfo, bytes]:
    """A picture of a zip and its row in the list of contents."""
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".png")]
    info = rng.choice(infos)
    content = path.read_bytes()
    start = content.rindex(b"PK\1\2", 0, content.rindex(info.filename.encode()))
    return info, content[start : start + 46 + len(info.filename)]


def _row(change: Callable[[bytearray], None]) -> Callable[[Path, random.Random], None]:
    """Changes a picture's row in the list of contents."""

    def damage(path: Path, rng: random.Random) -> None:
        _, row = _entry(path, rng)
        changed = bytearray(row)
        change(changed)
        _replaced(row, bytes(changed), path)

    return damage


def _put(place: int, value: int, size: int) -> Callable[[bytearray], None]:
    def change(row: bytearray) -> None:
        row[place : place + size] = value.to_bytes(size, "little")

    return change


def _wrong_bytes(path: Path, rng: random.Random) -> None:
    info, _ = _entry(path, rng)
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + rng.randrange(info.file_size)] ^= 255
    path.write_bytes(content)


ZIPS: dict[str, Callable[[Path, random.Random], None]] = {
    "cut off": _cut,
    "empty": _emptied,
    "garbage": _garbage,
    "text": _text,
    "a byte of a picture": _wrong_bytes,
    "encrypted": _row(_put(8, 1, 2)),
    "unknown packing": _row(_put(10, 99, 2)),
    "wrong CRC": _row(_put(16, 12345, 4)),
    "bomb by its list": _row(lambda row: (_put(20, 2**31, 4)(row), _put(24, 2**31, 4)(row))),
    "wrong place": _row(_put(42, 7, 4)),
    "place beyond the end": _row(_put(42, 2**31, 4)),
    "deflated, they say": _row(_put(10, 8, 2)),
}


def _member(kind: bytes, target: str = "") -> Callable[[Path, random.Random], None]:
    """A picture becomes a member of another kind."""

    def damage(path: Path, rng: random.Random) -> None:
        with tarfile.open(path) as archive:
            members = [(m, archive.extractfile(m).read()) for m in archive]
        chosen = rng.choice([m.name for m, _ in members if m.name.endswith(".png")])
        with tarfile.open(path, "w") as archive:
            for member, content in members:
                if member.name == chosen:
                    member.type, member.linkname, member.size = kind, target, 0
                    archive.addfile(member)
                else:
                    archive.addfile(member, io.BytesIO(content))

    return damage


TARS: dict[str, Callable[[Path, random.Random], None]] = {
    "cut off": _cut,
    "empty": _emptied,
    "garbage": _garbage,
    "text": _text,
    "a link": _member(tarfile.SYMTYPE, "../../secret.png"),
    "an absolute link": _member(tarfile.SYMTYPE, "/etc/hostname"),
    "a hard link": _member(tarfile.LNKTYPE, "../secret.png"),
    "a pipe": _member(tarfile.FIFOTYPE),
    "a device": _member(tarfile.CHRTYPE),
}


def _picture(path: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path.rglob("*.png")))


def _replaced_by(make: Callable[[Path], None]) -> Callable[[Path, random.Random], None]:
    def damage(path: Path, rng: random.Random) -> None:
        picture = _picture(path, rng)
        picture.unlink()
        make(picture)

    return damage


FOLDERS: dict[str, Callable[[Path, random.Random], None]] = {
    "link to nothing": _replaced_by(lambda picture: picture.symlink_to("nothing.png")),
    "link to itself": _replaced_by(lambda picture: picture.symlink_to(picture.name)),
    "a pipe": _replaced_by(lambda picture: os.mkfifo(picture)),
}
