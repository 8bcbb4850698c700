"""Where a dataset goes: a zip, a folder or one of shards, that is there when it is complete, and
not before.

A conversion that was interrupted goes on. What it had written lies beside the destination under a
hidden name, with a journal: what it is made from, then a line for each file.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

from dataset_preprocessing.conversion.shard_archive import ShardArchive

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: the same input, the same bytes


class DestinationError(OSError):
    """A destination cannot be used; the message is one line that names it."""


class Destination:
    """Files on their way to a zip or into a folder; to be closed.

    Args:
        path: ends in `.zip`, else a folder; not there yet, or an empty folder.
        key: what the files are made from, plain values. The files of an interrupted conversion with
            the same key are kept; `kept` has what was noted with each.
        shards: the folder holds tar shards; `add` is told which.
    """

    def __init__(self, path: str | Path, key: Any, shards: bool = False):
        self.path = Path(path)
        check_destination(self.path)
        part = self.path.with_name(f".{self.path.name}.part")
        if part.is_symlink():
            raise DestinationError(f"{part}: is a link in the way; remove it")
        self._journal = self.path.with_name(f".{self.path.name}.journal")
        lines = _lines_of(self._journal, key)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if shards:
                self._files = ShardArchive(part)
            else:
                self._files = (_Zip if self.path.suffix.lower() == ".zip" else _Folder)(part)
            lines = self._files.go_on(lines)
            with open(self._journal, "w") as file:
                file.writelines(json.dumps(line) + "\n" for line in [key, *lines])
            self._log = open(self._journal, "a")
        except OSError as error:
            raise DestinationError(f"{path}: cannot be written ({error.strerror})") from None
        self.kept: dict[str, Any] = {line["name"]: line["note"] for line in lines}
        self._lines = {line["name"]: line for line in lines}

    def add(self, name: str, content: bytes, note: Any = None, shard: str | None = None) -> None:
        """Writes a file, in shards into one of them; `note`, plain values, is there again after an
        interruption."""
        line = dict(name=name, note=note, **self._files.add(name, content, shard))
        self._lines[name] = line
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()

    def finish(self, leave_out: set[str] = frozenset()) -> None:
        """Puts everything in its place, but for some files."""
        self._files.finish(self.path, [self._lines[name] for name in leave_out])
        self._log.close()
        self._journal.unlink()

    def close(self) -> None:
        """Leaves what there is for the next time."""
        self._files.close()
        self._log.close()


class _Folder:
    def __init__(self, part: Path):
        self.part = part

    def go_on(self, lines: list[dict]) -> list[dict]:
        kept = [line for line in lines if (self.part / line["name"]).is_file()]
        names = {line["name"] for line in kept}
        for path in [path for path in self.part.rglob("*") if path.is_file()]:
            if path.relative_to(self.part).as_posix() not in names:
                path.unlink()
        self.part.mkdir(exist_ok=True)
        return kept

    def add(self, name: str, content: bytes, shard: None) -> dict:
        path = self.part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {}

    def finish(self, path: Path, leave_out: list[dict]) -> None:
        for line in leave_out:
            (self.part / line["name"]).unlink()
        if path.exists():
            path.rmdir()
        os.replace(self.part, path)

    def close(self) -> None:
        pass


class _Zip:
    """Grows at its end; the list of contents, which ends a zip, is in the journal until then."""

    def __init__(self, part: Path):
        self.part = part

    def go_on(self, lines: list[dict]) -> list[dict]:
        there = self.part.stat().st_size if self.part.exists() else 0
        lines = [line for line in lines if line["end"] <= there]
        end = max((line["end"] for line in lines), default=0)
        self._file = open(self.part, "r+b" if there else "w+b")
        self._file.truncate(end)
        self._file.seek(end)
        self._archive = zipfile.ZipFile(self._file, "w")
        for line in lines:
            info = _info(line["name"])
            info.CRC, info.header_offset = line["crc"], line["offset"]
            info.file_size = info.compress_size = line["size"]
            self._archive.filelist.append(info)
            self._archive.NameToInfo[info.filename] = info
        return lines

    def add(self, name: str, content: bytes, shard: None) -> dict:
        info = _info(name)
        self._archive.writestr(info, content)
        self._file.flush()
        place = dict(offset=info.header_offset, end=self._file.tell())
        return dict(crc=info.CRC, size=info.file_size, **place)

    def finish(self, path: Path, leave_out: list[dict]) -> None:
        names = {line["name"] for line in leave_out}
        listed = [info for info in self._archive.filelist if info.filename not in names]
        self._archive.filelist[:] = listed
        self.close()
        os.replace(self.part, path)

    def close(self) -> None:
        self._archive.close()
        self._file.close()


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system, info.external_attr = 3, 0o644 << 16
    return info


def check_destination(path: str | Path) -> None:
    """Raises DestinationError where something is there already."""
    path = Path(path)
    if path.suffix.lower() == ".zip":
        if path.exists():
            raise DestinationError(f"{path}: is there already; remove it or name another one")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DestinationError(f"{path}: must be an empty folder, or not be there yet")


def _lines_of(journal: Path, key: Any) -> list[dict]:
    """The lines of a journal with this key; none of another one, and none that was cut short."""
    try:
        first, *rest = journal.read_text().splitlines()
        if json.loads(first) != json.loads(json.dumps(key)):
            return []
    except (OSError, ValueError):
        return []
    lines = []
    for text in rest:
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines
