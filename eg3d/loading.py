"""Opening the networks of a snapshot or of a file in the plain format."""

import io
import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import torch

from dnnlib.util import is_url, open_url
from eg3d.errors import SnapshotError
from training.network_files import NetworkFile, NetworkFileError, read_networks


def load_network(
    source: str | os.PathLike | BinaryIO, name: str = "G_ema", trust: bool = False
) -> torch.nn.Module:
    """One network: on the CPU, eval mode, no gradients.

    Args:
        source: path, web address or open file of a snapshot (.pkl) or of the plain format
            (.safetensors), or a run directory, which stands for its newest snapshot.
        name: 'G_ema', 'G', 'D' or 'augment_pipe'.
        trust: unpickle the file, which may run any code, for classes that are not of this project.
            Otherwise nothing of the file is run.

    Raises SnapshotError where the file is missing, cannot be used, or lacks the network.
    """
    if trust:
        modules = _unpickled(source)
        if name not in modules:
            names = ", ".join(modules) or "none"
            raise SnapshotError(f"{source}: has no network {name!r}; networks in it: {names}")
        return modules[name]
    content = read(source)
    try:
        return content.build(name)
    except NetworkFileError as error:
        raise SnapshotError(str(error)) from error


def load_all(source: str | os.PathLike | BinaryIO, trust: bool = False) -> dict[str, Any]:
    """{'G', 'D', 'G_ema', 'augment_pipe': network or None, 'training_set_kwargs': dict or None}.

    Arguments and errors are those of `load_network`; other entries of the file are left out.
    """
    names = ("G", "D", "G_ema", "augment_pipe")
    if trust:
        modules = _unpickled(source)
        return {name: modules.get(name) for name in (*names, "training_set_kwargs")}
    content = read(source)
    try:
        networks = {
            name: content.build(name) if name in content.records else None for name in names
        }
    except NetworkFileError as error:
        raise SnapshotError(str(error)) from error
    return {**networks, "training_set_kwargs": content.training_set_kwargs}


def read(source: str | os.PathLike | BinaryIO) -> NetworkFile:
    """What a file holds, without building it or running anything. Raises SnapshotError."""
    try:
        return read_networks(newest(source))
    except NetworkFileError as error:
        raise SnapshotError(str(error)) from error
    except OSError as error:
        raise _unreadable(source, error) from error


def newest(source: str | os.PathLike | BinaryIO) -> str | os.PathLike | BinaryIO:
    """The newest snapshot of a run directory; anything else as it is."""
    if hasattr(source, "read") or not os.path.isdir(source):
        return source
    snapshots = sorted(Path(source).glob("network-snapshot-*.pkl"))
    if not snapshots:
        raise SnapshotError(f"{source}: is a folder without a network-snapshot-*.pkl")
    return snapshots[-1]


def _unreadable(source: Any, error: OSError) -> SnapshotError:
    where = os.fspath(source) if isinstance(source, (str, os.PathLike)) else str(source)
    reason = str(error) if is_url(where) else f"{where}: {error.strerror or error}"
    return SnapshotError(f"{reason}; expected a snapshot (.pkl) or a .safetensors file")


# -- Trusted files ---------------------------------------------------------------------------------


class _CpuUnpickler(pickle.Unpickler):
    """Maps tensors to the CPU that were on a GPU when the file was written."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return super().find_class(module, name)


def _unpickled(source: str | os.PathLike | BinaryIO) -> dict[str, Any]:
    """The entries of a trusted snapshot; its networks in eval mode, without gradients."""
    source = newest(source)
    try:
        if hasattr(source, "read"):
            data = _CpuUnpickler(source).load()
        else:
            with open_url(os.fspath(source)) as file:
                data = _CpuUnpickler(file).load()
    except OSError as error:
        raise _unreadable(source, error) from error
    except Exception as error:  # What a damaged or foreign pickle raises has no bounds.
        reason = " ".join(str(error).split()) or "ends early"
        raise SnapshotError(
            f"{source}: cannot be unpickled ({type(error).__name__}: {reason})"
        ) from error
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise SnapshotError(f"{source}: holds a {kind}, not the dict of networks of a snapshot")
    for value in data.values():
        if isinstance(value, torch.nn.Module):
            value.eval().requires_grad_(False)
    return data
