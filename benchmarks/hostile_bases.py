"""The good files that hostile ones are made of, and where in them what stands."""

import io
import json
import pickletools
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.published import Writer, published_bytes
from tests.tiny import tiny_discriminator, tiny_generator
from training.augment import AugmentPipe
from training.network_files import read_networks, write_networks
from training.snapshots import save_snapshot


class Instruction(NamedTuple):
    """One instruction of a pickle: its name and its bytes from `start` to `end`."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Base:
    """A good file. `instructions` and `storages` (the first byte of each) are those of a pickle,
    `header` is the length of a .safetensors file's header with the 8 bytes before it."""

    name: str
    data: bytes
    instructions: tuple[Instruction, ...] = ()
    storages: tuple[int, ...] = ()
    header: int = 0


class Raw:
    """Instructions in the place of a value, as they stand."""

    def __init__(self, data: bytes):
        self.data = data


class HostileWriter(Writer):
    """Writes `Raw` besides what `Writer` knows."""

    dispatch = dict(Writer.dispatch)

    def _save_raw(self, raw: Raw) -> None:
        self.write(raw.data)

    dispatch[Raw] = _save_raw


def written(value: Any, protocol: int = 4) -> bytes:
    """The pickle of a value made of plain values, `Global`, `Call`, `Reference` and `Raw`."""
    file = io.BytesIO()
    HostileWriter(file, protocol).dump(value)
    return file.getvalue()


@cache
def networks() -> dict[str, torch.nn.Module]:
    """The networks in the good files; changed only within `altered_generator`."""
    return {
        "G": tiny_generator(1),
        "D": tiny_discriminator(),
        "G_ema": tiny_generator(),
        "augment_pipe": AugmentPipe(xflip=1, scale=1).eval().requires_grad_(False),
    }


def altered_generator(change: Callable[[torch.nn.Module], None], protocol: int) -> bytes:
    """A published file with nothing but a generator, after `change`."""
    G = tiny_generator()
    change(G)
    return published_bytes({"G_ema": G}, protocol, source_size=200)


@cache
def bases() -> dict[str, Base]:
    """A snapshot of ours, two published files and the plain format, with equal networks."""
    data_set = {"class_name": "training.dataset.ImageFolderDataset", "path": "x.zip"}
    entries = {"training_set_kwargs": data_set, **networks()}
    with tempfile.TemporaryDirectory() as folder:
        path, plain = Path(folder) / "x.pkl", Path(folder) / "x.safetensors"
        save_snapshot(path, data_set, **networks())
        write_networks(plain, read_networks(path))
        ours, tensors = path.read_bytes(), plain.read_bytes()
    found = {"ours": _pickled("ours", ours)}
    for protocol in (2, 4):
        name = f"published {protocol}"
        found[name] = _pickled(name, published_bytes(entries, protocol, source_size=400))
    found["plain"] = Base("plain", tensors, header=8 + int.from_bytes(tensors[:8], "little"))
    return found


def good_files() -> list[bytes]:
    """The bytes of all of them."""
    return [base.data for base in bases().values()]


def pickles() -> list[Base]:
    """Those that are pickles."""
    return [base for base in bases().values() if base.instructions]


def _pickled(name: str, data: bytes) -> Base:
    starts = [(opcode.name, at) for opcode, _, at in pickletools.genops(data)]
    ends = [at for _, at in starts[1:]] + [len(data)]
    instructions = [
        Instruction(kind, start, end) for (kind, start), end in zip(starts, ends, strict=True)
    ]
    storages = [i.start + 5 for i in instructions if i.name == "BINBYTES"] or _storages_as_text(
        instructions
    )
    return Base(name, data, tuple(instructions), tuple(storages))


def _storages_as_text(instructions: list[Instruction]) -> list[int]:
    """Protocol 2 has no bytes: they are long texts."""
    return [i.start + 5 for i in instructions if i.name == "BINUNICODE" and i.end - i.start > 250]


def plain_parts() -> tuple[dict[str, Any], bytes]:
    """The header of the plain format, parsed, and what follows it."""
    base = bases()["plain"]
    return json.loads(base.data[8 : base.header]), base.data[base.header :]


def plain_file(header: Any, content: bytes) -> bytes:
    """A file of the plain format; a header of bytes is taken as it is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def described_file(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The plain format with the description of its networks after `change`."""
    header, content = plain_parts()
    described = json.loads(header["__metadata__"]["eg3d"])
    change(described)
    header["__metadata__"]["eg3d"] = json.dumps(described)
    return plain_file(header, content)
