"""Files of networks: snapshots (.pkl) and the plain format (.safetensors), read and written.

Reading yields records (`training.network_record`) and runs nothing of the file.
"""

import json
import os
import pickle
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dnnlib.util import open_url, replacing
from torch_utils import inert_pickle
from torch_utils.inert_pickle import shown
from training.network_record import (
    MAX_TENSORS,
    SETTINGS,
    NetworkRecord,
    RecordError,
    build,
    from_node,
    imported,
    plain,
)
from training.snapshots import save_snapshot

NETWORKS = ("G", "D", "G_ema", "augment_pipe")  # in the order of published snapshots
METADATA = "eg3d"  # the entry of a .safetensors header that describes the networks
FORMAT_VERSION = 1
MAX_BYTES = 16 * 2**30
MAX_HEADER = 2 * 2**20  # with five networks it has 150 kB
MAX_NETWORKS = 16
MAX_MESSAGE = 500  # characters of what is wrong with a file


class NetworkFileError(ValueError):
    """A file cannot be used as a file of networks; one line that begins with its name."""


@dataclass(frozen=True)
class NetworkFile:
    """What a file holds: records by network name, and what the networks were trained on."""

    source: str
    format: str  # 'pickle' or 'safetensors'
    records: dict[str, NetworkRecord] = field(default_factory=dict)
    training_set_kwargs: dict[str, Any] | None = None

    def record(self, name: str) -> NetworkRecord:
        """One network's record; raises NetworkFileError naming those that there are."""
        if name not in self.records:
            names = ", ".join(self.records) or "none"
            raise NetworkFileError(
                f"{self.source}: has no network {name!r}; networks in it: {names}"
            )
        return self.records[name]

    def build(self, name: str) -> torch.nn.Module:
        """One network, ready to run on the CPU. Raises NetworkFileError."""
        record = self.record(name)
        with _naming(self.source):
            return build(record)


def read_networks(source: str | os.PathLike | BinaryIO) -> NetworkFile:
    """Reads a path, web address or open file. Raises NetworkFileError, and OSError as `open`."""
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "the open file"))
        data = _read(source, name)
    else:
        name = os.fspath(source)
        with open_url(name) as file:
            data = _read(file, name)
    with _naming(name):
        # The plain format begins with a number, the first byte of which can be that of a pickle.
        is_plain = data[8:9] == b"{" and _header_size(data) <= MAX_HEADER
        if data[:1] == b"\x80" and not is_plain:
            return _read_pickle(data, name)
        return _read_safetensors(data, name)


def write_networks(path: str | os.PathLike, content: NetworkFile) -> None:
    """Writes a snapshot (.pkl) or the plain format (.safetensors), as the path's ending says.

    Every network is built first, so that what is written can be read. Raises NetworkFileError.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".pkl", ".safetensors"):
        raise NetworkFileError(f"{path}: the name must end in .pkl or .safetensors")
    modules = {name: content.build(name) for name in content.records}
    if kind == ".pkl":
        save_snapshot(path, content.training_set_kwargs, **modules)
    else:
        _write_safetensors(path, content)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Turns whatever damaged data lead to into one line that names the file."""
    try:
        yield
    except (NetworkFileError, OSError, KeyboardInterrupt):
        raise
    except (inert_pickle.PickleRefused, pickle.UnpicklingError, RecordError) as error:
        raise NetworkFileError(f"{source}: {shown(str(error), MAX_MESSAGE)}") from error
    except Exception as error:  # Parsers raise much; what for damaged data has no bounds.
        reason = shown(str(error), MAX_MESSAGE) or "ends early"
        raise NetworkFileError(
            f"{source}: damaged, or no file of networks ({type(error).__name__}: {reason})"
        ) from error


def _read(file: BinaryIO, name: str) -> bytes:
    head = file.read(9)
    if head[:2] == b"PK":
        raise NetworkFileError(f"{name}: is a zip archive (torch.save?), not .pkl or .safetensors")
    if head[:1] != b"\x80" and head[8:] != b"{":
        raise NetworkFileError(f"{name}: is neither a snapshot (.pkl) nor a .safetensors file")
    try:
        size = os.fstat(file.fileno()).st_size
    except (AttributeError, OSError):  # in memory
        size = 0
    if size > MAX_BYTES:
        raise NetworkFileError(f"{name}: has {size:,} bytes; networks have less than {MAX_BYTES:,}")
    return head + file.read()


def _read_pickle(data: bytes, source: str) -> NetworkFile:
    content = inert_pickle.load(data)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise RecordError(f"holds a {kind}, not the dict of networks of a snapshot")
    nodes = {k: v for k, v in content.items() if isinstance(v, inert_pickle.Node)}
    _check_count(nodes)
    records = {shown(str(name), 40): imported(from_node(node)) for name, node in nodes.items()}
    data_set = content.get("training_set_kwargs")
    data_set = None if data_set is None else plain(data_set, "training_set_kwargs")
    return NetworkFile(source, "pickle", records, data_set)


def _check_count(networks: Sized) -> None:
    """Each network is walked, so a file may not name one again and again."""
    if len(networks) > MAX_NETWORKS:
        raise RecordError(f"has {len(networks):,} networks; at most {MAX_NETWORKS}")


# -- The plain format ------------------------------------------------------------------------------


def _header_size(data: bytes) -> int:
    return int.from_bytes(data[:8], "little")


def _read_safetensors(data: bytes, source: str) -> NetworkFile:
    import safetensors.torch  # here: `import eg3d` does without it

    size = _header_size(data)
    if size > min(MAX_HEADER, len(data)):
        raise RecordError(f"says that its header has {size:,} bytes; it is damaged")
    header = json.loads(data[8 : 8 + size])
    if len(header) > MAX_TENSORS:
        raise RecordError(f"has {len(header):,} tensors; networks have less than {MAX_TENSORS:,}")
    tensors = safetensors.torch.load(data)
    text = header.get("__metadata__", {}).get(METADATA)
    if text is None:
        raise RecordError(f"has no entry {METADATA!r} in its header: holds tensors, but no network")
    described = json.loads(text, object_hook=_restore)
    if type(described) is not dict or described.get("format") != FORMAT_VERSION:
        raise RecordError(f"the entry {METADATA!r} of its header is not of format {FORMAT_VERSION}")
    networks = described["networks"]
    _check_count(networks)
    records = {shown(name, 40): _described(networks[name], name, tensors) for name in networks}
    if tensors:
        raise RecordError(f"has tensors of no network, such as {next(iter(tensors))[:200]}")
    return NetworkFile(source, "safetensors", records, plain(described["training"], "training"))


def _described(entry: dict, name: str, tensors: dict[str, torch.Tensor]) -> NetworkRecord:
    """The record of a header's entry; takes its tensors out of `tensors`."""
    if type(entry) is not dict or type(entry.get("class")) is not str:
        raise RecordError(f"the entry {name[:100]!r} of its header names no class")
    prefix = f"{name}."
    own = [key for key in tensors if key.startswith(prefix)]
    settings = {key: entry[key] for key in (*SETTINGS, "plane_axes") if key in entry}
    return NetworkRecord(
        shown(entry["class"], 100),
        tuple(plain(entry["init_args"], "init_args")),
        plain(entry["init_kwargs"], "init_kwargs"),
        {key.removeprefix(prefix): tensors.pop(key) for key in own},
        plain(settings, name),
    )


def _write_safetensors(path: Path, content: NetworkFile) -> None:
    import safetensors.torch

    tensors, networks = {}, {}
    for name, record in content.records.items():
        tensors |= {f"{name}.{key}": value.contiguous() for key, value in record.tensors.items()}
        networks[name] = {
            "class": record.class_name,
            "init_args": record.init_args,
            "init_kwargs": record.init_kwargs,
            **record.settings,
        }
        options = record.settings.get("rendering_kwargs")
        if options is not None:  # For other programs: our own take them from rendering_kwargs.
            camera = {"radius": "avg_camera_radius", "pivot": "avg_camera_pivot"}
            networks[name]["camera"] = {key: options.get(option) for key, option in camera.items()}
    described = {
        "format": FORMAT_VERSION,
        "networks": networks,
        "training": content.training_set_kwargs,
    }
    metadata = {METADATA: json.dumps(_tagged(described))}
    with replacing(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)


def _tagged(value: Any) -> Any:
    """JSON has no tuples: they become {"tuple": [...]}."""
    if isinstance(value, tuple):
        return {"tuple": [_tagged(item) for item in value]}
    if isinstance(value, list):
        return [_tagged(item) for item in value]
    if isinstance(value, dict):
        return {key: _tagged(item) for key, item in value.items()}
    return value


def _restore(value: dict) -> Any:
    return tuple(value["tuple"]) if value.keys() == {"tuple"} else value
