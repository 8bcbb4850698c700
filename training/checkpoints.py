"""Checkpoints: everything that a run needs to go on as if nothing had happened.

A checkpoint is one file, `checkpoint-<images shown>-<first 16 hex digits of its SHA-256>.pt`: plain
containers and tensors written by `torch.save`, which `torch.load(weights_only=True)` opens. As the
name carries the hash of the content, a file that was torn or has rotted is told from a good one.
"""

import hashlib
import io
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

FORMAT = 1
DIGITS = 16
_NAME = re.compile(rf"checkpoint-(\d{{12,}})-([0-9a-f]{{{DIGITS}}})\.pt")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names it and says why."""


class Stateful(Protocol):
    """A part of a run that can be written down and restored, exactly."""

    def state_dict(self) -> dict:
        """Plain containers, numbers, texts and tensors."""

    def load_state_dict(self, state: dict) -> Any:
        """Becomes what `state_dict` described."""


class Progress:
    """How far a run is: counters, and the state of each of its parts.

    Args:
        parts: by name; all that changes during training and is no counter. Random numbers follow
            from the seed and the counters (`training.micro_batches`).

    Attributes:
        nimg: real images shown.
        batch_idx: iterations taken.
        tick: ticks ended.
        tick_nimg: images shown at the end of the last one.
    """

    def __init__(self, parts: Mapping[str, Stateful]):
        self.parts = dict(parts)
        self.nimg, self.batch_idx, self.tick, self.tick_nimg = 0, 0, 0, 0

    def tick_is_over(self, images: float) -> bool:
        """Whether `images` were shown since the last tick; the first one is a single iteration."""
        if self.tick == 0:
            return self.nimg > 0
        return self.nimg >= self.tick_nimg + images

    def end_tick(self) -> None:
        """Counts a tick that ends here."""
        self.tick += 1
        self.tick_nimg = self.nimg

    def state_dict(self) -> dict:
        """Counters and parts."""
        return dict(
            format=FORMAT,
            counters=dict(
                nimg=self.nimg, batch_idx=self.batch_idx, tick=self.tick, tick_nimg=self.tick_nimg
            ),
            parts={name: part.state_dict() for name, part in self.parts.items()},
        )

    def load_state_dict(self, state: dict, is_first: bool = True) -> None:
        """Restores everything. Raises CheckpointError where the state is of a run with other parts;
        processes but the first (`is_first`) may have fewer."""
        differing = set(self.parts) ^ set(state["parts"])
        if not is_first:
            differing &= set(self.parts)
        if differing:
            raise CheckpointError(f"is of a run with other parts ({', '.join(sorted(differing))})")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        for name, value in state["counters"].items():
            setattr(self, name, value)


class Found(NamedTuple):
    """A checkpoint that was read."""

    path: Path
    state: dict


def list_checkpoints(run_dir: str | Path) -> list[Path]:
    """The checkpoints of a run, newest first, by name: they may be damaged."""
    paths = [p for p in Path(run_dir).glob("checkpoint-*.pt") if _NAME.fullmatch(p.name)]
    return sorted(paths, key=lambda p: (images_shown(p), p.stat().st_mtime_ns), reverse=True)


def images_shown(path: Path) -> int:
    """The number of images that a checkpoint's name tells."""
    return int(_NAME.fullmatch(path.name).group(1))


def write_checkpoint(run_dir: str | Path, state: dict, keep: int = 2) -> Path:
    """Writes `Progress.state_dict()`, so that a kill at any moment leaves the older ones intact.

    Keeps this and the newest `keep - 1` that are not ahead of it; those ahead of it were no good,
    or the run would have gone on from them. Returns the path. Raises OSError, also where the disk
    gives back other bytes than were written.
    """
    run_dir = Path(run_dir)
    stem = f"checkpoint-{state['counters']['nimg']:012d}"
    temporary = run_dir / f".{stem}.{os.getpid()}.part"
    try:
        digest = _write(temporary, state)
        if _sha256(temporary) != digest:
            raise OSError(f"{temporary}: the disk gives back other bytes than were written")
        path = run_dir / f"{stem}-{digest[:DIGITS]}.pt"
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _sync_folder(run_dir)
    older = [p for p in list_checkpoints(run_dir) if p != path]
    behind = [p for p in older if images_shown(p) <= images_shown(path)]
    for obsolete in set(older) - set(behind[: keep - 1]):
        obsolete.unlink(missing_ok=True)
    return path


def _write(path: Path, state: dict) -> str:
    """Writes a new file through to the disk; returns its SHA-256."""
    try:
        with open(path, "wb") as file:
            hashing = _HashingFile(file)
            torch.save(state, hashing)
            hashing.flush()
            os.fsync(file.fileno())
    except OSError as error:  # Not all of them name the file.
        raise OSError(error.errno, error.strerror, str(path)) from None
    return hashing.sha256.hexdigest()


def read_newest(run_dir: str | Path) -> Found | None:
    """The newest checkpoint that is good, None if there is none.

    Each one that is not is reported with a line on stderr that names it and says what is wrong.
    """
    for path in list_checkpoints(run_dir):
        try:
            return Found(path, read_checkpoint(path))
        except CheckpointError as error:
            print(f"Warning: {error}; the one before it counts", file=sys.stderr, flush=True)
    return None


def read_checkpoint(path: Path) -> dict:
    """A checkpoint's state, all tensors on the CPU. Raises CheckpointError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    if not _matches(path, hashlib.sha256(content).hexdigest()):
        raise CheckpointError(
            f"{path} is damaged (its {len(content)} bytes do not match the hash in its name)"
        )
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        version = state["format"]
    except Exception as error:  # Intact, but no checkpoint: torch raises all kinds of errors here.
        reason = " ".join(str(error).split())[:100]
        raise CheckpointError(f"{path} cannot be opened ({reason})") from None
    if version != FORMAT:
        raise CheckpointError(f"{path} has the format {version}, this program reads {FORMAT}")
    return state


def is_intact(path: Path) -> bool:
    """Whether a checkpoint's content matches its name."""
    try:
        return _matches(path, _sha256(path))
    except OSError:
        return False


def remove_leftovers(run_dir: str | Path) -> None:
    """Removes what killed processes left half written. Only for whoever holds the run's lock."""
    for path in Path(run_dir).glob(".*.part"):
        path.unlink(missing_ok=True)


class Clock:
    """Says when the next checkpoint is due: `minutes` after the last, or after the start."""

    def __init__(self, minutes: float):
        self.seconds = minutes * 60
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether the time has come; then it begins anew."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class _HashingFile:
    """As much of a file as `torch.save` needs; hashes what passes. Its first error is raised by
    `flush`: raised in between, torch would hide it behind one of its own."""

    def __init__(self, file):
        self.file = file
        self.sha256 = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data) -> int:
        self.sha256.update(data)
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        if self.error is not None:
            raise self.error
        self.file.flush()


def _sha256(path: Path) -> str:
    result = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            result.update(block)
    return result.hexdigest()


def _matches(path: Path, digest: str) -> bool:
    return _NAME.fullmatch(path.name).group(2) == digest[:DIGITS]


def _sync_folder(folder: Path) -> None:
    """Makes a renaming last through a power failure; not every system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
