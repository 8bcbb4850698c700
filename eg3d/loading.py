"""Reading the networks of a snapshot file."""

import io
import os
import pickle
from typing import Any, BinaryIO

import torch

from dnnlib.util import is_url, open_url
from eg3d.errors import SnapshotError


class _CpuUnpickler(pickle.Unpickler):
    """Maps tensors to the CPU that were on a GPU when the file was written."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return lambda data: torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return super().find_class(module, name)


def load_network(source: str | os.PathLike, name: str = "G_ema") -> torch.nn.Module:
    """One network of the snapshot at a path or web address: on the CPU, eval mode, no gradients.

    As any pickle, the file is trusted: it can run code. Raises SnapshotError where it is missing,
    is no snapshot, or lacks the network.
    """
    source = os.fspath(source)
    try:
        with open_url(source) as file:
            data = _unpickle(file, source)
    except OSError as error:
        reason = str(error) if is_url(source) else f"{source}: {error.strerror or error}"
        raise SnapshotError(f"{reason}; expected a snapshot (.pkl)") from error
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise SnapshotError(f"{source}: holds a {kind}, not the dict of networks of a snapshot")
    present = sorted(str(k) for k, v in data.items() if isinstance(v, torch.nn.Module))
    if name not in present:
        names = ", ".join(present) or "none"
        raise SnapshotError(f"{source}: has no network {name!r}; networks in it: {names}")
    return data[name].eval().requires_grad_(False)


def _unpickle(file: BinaryIO, source: str) -> Any:
    try:
        return _CpuUnpickler(file).load()
    except OSError:
        raise
    except Exception as error:  # What a damaged or foreign pickle raises has no bounds.
        reason = " ".join(str(error).split()) or "ends early"
        raise SnapshotError(
            f"{source}: not a snapshot that can be read ({type(error).__name__}: {reason})"
        ) from error
