"""A destination of tar shards: a folder of archives that grow at their ends."""

import math
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from training.label_file import DatasetError
from training.shards import expand

_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class ShardPlan:
    """Which shard a picture goes to: `count` pictures, in their order, in equal parts.

    folder: of the shards; names: of the files in it.
    """

    folder: Path
    names: tuple[str, ...]
    count: int

    def shard_of(self, index: int) -> str:
        """The file of the picture with this number."""
        return self.names[index * len(self.names) // self.count]


def plan_shards(dest: str | Path, shard_size: int | None, count: int) -> ShardPlan | None:
    """How `count` pictures are laid out in shards; None where `dest` means none.

    Args:
        dest: `folder/cars-{000000..000009}.tar`, or with a `shard_size` a folder, in which the
            shards have its name and a number.
        shard_size: most pictures of a shard.

    Raises DatasetError.
    """
    path = Path(os.path.abspath(dest))
    if path.suffix.lower() == ".tar":
        if shard_size is not None:
            raise DatasetError(f"--shard-size: {path.name} says already how many shards there are")
        names = tuple(expand(path.name))
        if count < len(names):
            raise DatasetError(f"{dest}: names {len(names)} shards for {count} pictures")
        return ShardPlan(path.parent, names, count)
    if shard_size is None:
        return None
    if path.suffix.lower() == ".zip":
        raise DatasetError(f"--shard-size: {dest} must be a folder for shards, not a .zip")
    number = math.ceil(count / shard_size)
    return ShardPlan(path, tuple(f"{path.name}-{k:06d}.tar" for k in range(number)), count)


class ShardArchive:
    """Files on their way into the shards of a folder; the end of each is written last.

    Same bytes for the same files, and any prefix of a shard may be gone on from.
    """

    def __init__(self, part: Path):
        self.part = part
        self._open: tuple[str, object] | None = None

    def go_on(self, lines: list[dict]) -> list[dict]:
        """Keeps what was written whole and noted in `lines`; returns those."""
        self.part.mkdir(exist_ok=True)
        sizes = {path.name: path.stat().st_size for path in self.part.iterdir()}
        kept = [line for line in lines if line["end"] <= sizes.get(line["shard"], -1)]
        ends = {line["shard"]: line["end"] for line in kept}
        for name in sizes:
            if name in ends:
                os.truncate(self.part / name, ends[name])
            else:
                (self.part / name).unlink()
        return kept

    def add(self, name: str, content: bytes, shard: str | None) -> dict:
        """Appends a file to a shard; None: a file beside them. Returns its place."""
        if shard is None:
            (self.part / name).write_bytes(content)
            return dict(shard=name, offset=0, end=len(content))
        file = self._file(shard)
        offset = file.tell()
        file.write(_header(name, len(content)))
        file.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
        file.flush()
        return dict(shard=shard, offset=offset, end=file.tell())

    def finish(self, path: Path, leave_out: list[dict]) -> None:
        """Ends the shards and puts the folder in its place, without the files at some places."""
        self.close()
        for name in {line["shard"] for line in leave_out}:
            self._cut_out(name, [line for line in leave_out if line["shard"] == name])
        for shard in self.part.glob("*.tar"):
            with open(shard, "ab") as file:
                file.write(_END)
        if path.exists():
            path.rmdir()
        os.replace(self.part, path)

    def close(self) -> None:
        """Leaves what there is for the next time."""
        if self._open is not None:
            self._open[1].close()
        self._open = None

    def _file(self, shard: str):
        if self._open is None or self._open[0] != shard:
            self.close()
            self._open = (shard, open(self.part / shard, "ab"))
        return self._open[1]

    def _cut_out(self, name: str, lines: list[dict]) -> None:
        shard, shorter = self.part / name, self.part / f"{name}.new"
        with open(shard, "rb") as old, open(shorter, "wb") as new:
            for line in sorted(lines, key=lambda line: line["offset"]):
                new.write(old.read(line["offset"] - old.tell()))
                old.seek(line["end"])
            new.write(old.read())
        os.replace(shorter, shard)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(tarfile.USTAR_FORMAT)
