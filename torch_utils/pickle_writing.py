"""Pickles that old and new versions of torch and NumPy can read, the same bytes every time."""

import io
import pickle
import struct
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from dnnlib.util import EasyDict
from torch_utils.inert_pickle import STORAGE_MAGIC, STORAGE_PROTOCOL

# The third part of a storage in the format that torch.save had before it used zip.
_SYSTEM = {
    "protocol_version": STORAGE_PROTOCOL,
    "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}
_KEY = "0"  # names the storage within its bytes; any string will do, a fixed one makes equal files
_STORAGE_CLASSES = {
    torch.float64: torch.DoubleStorage,
    torch.float32: torch.FloatStorage,
    torch.float16: torch.HalfStorage,
    torch.bfloat16: torch.BFloat16Storage,
    torch.int64: torch.LongStorage,
    torch.int32: torch.IntStorage,
    torch.int16: torch.ShortStorage,
    torch.int8: torch.CharStorage,
    torch.uint8: torch.ByteStorage,
    torch.bool: torch.BoolStorage,
}

_CONTAINERS = (list, tuple, dict, OrderedDict, EasyDict)
_UNFINISHED = object()


def plain_numbers(value: Any, _seen: dict | None = None) -> Any:
    """`value` with Python numbers for NumPy scalars, also within lists, tuples and dicts.

    A pickled NumPy scalar ties the file to the module layout of NumPy 1 or of NumPy 2. Equal
    strings become one object, so that pickles do not depend on where a string came from. Raises
    ValueError for a container that contains itself.
    """
    if isinstance(value, np.generic):
        return value.item()
    kind = type(value)
    if kind is str:
        return sys.intern(value)
    if kind not in _CONTAINERS:
        return value
    seen = {} if _seen is None else _seen  # also keeps shared containers from being walked again
    if id(value) not in seen:
        seen[id(value)] = _UNFINISHED
        if kind in (list, tuple):
            seen[id(value)] = kind([plain_numbers(item, seen) for item in value])
        else:
            items = ((plain_numbers(k, seen), plain_numbers(v, seen)) for k, v in value.items())
            seen[id(value)] = kind(items)
    if seen[id(value)] is _UNFINISHED:
        raise ValueError(f"a {kind.__name__} contains itself")
    return seen[id(value)]


def portable_state(attributes: Mapping[str, Any], *, is_module: bool) -> dict[str, Any]:
    """An object's attributes, in types that every version of torch and NumPy can read."""
    state = {sys.intern(name): plain_numbers(value) for name, value in attributes.items()}
    if is_module:
        for name, value in state.items():
            # Old versions of torch keep these in OrderedDicts and call methods of theirs.
            is_container = name in ("_parameters", "_buffers", "_modules")
            if type(value) is dict and (is_container or name.endswith("_hooks")):
                state[name] = OrderedDict(value)
    return state


class PortablePickler(pickle.Pickler):
    """Pickler whose output depends on values alone and names nothing but long-lived classes.

    Tensors are written from the CPU, contiguous, each with exactly its own numbers and without
    gradient; modules of torch with the containers that old versions of torch expect.
    """

    def reducer_override(self, obj: Any) -> Any:
        """How tensors, their storages and plain modules are written."""
        if isinstance(obj, _Storage):
            return torch.storage._load_from_bytes, (obj.data,)
        if isinstance(obj, torch.nn.Parameter):
            return torch._utils._rebuild_parameter, (obj.data, False, OrderedDict())
        if type(obj) is torch.Tensor:
            obj = obj.detach().cpu().contiguous()
            view = (0, tuple(obj.shape), obj.stride(), False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, (_Storage(storage_bytes(obj)), *view)
        if isinstance(obj, torch.nn.Module) and type(obj).__reduce__ is object.__reduce__:
            constructor, arguments, attributes = obj.__reduce_ex__(2)[:3]
            return constructor, arguments, portable_state(attributes, is_module=True)
        return NotImplemented


class _Storage:
    """Stands for the storage of a tensor while a pickle is written."""

    def __init__(self, data: bytes):
        self.data = data


class _PersistentId(tuple):
    """A tuple that is written as a persistent id."""


class _StoragePickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> tuple | None:
        return tuple(obj) if isinstance(obj, _PersistentId) else None


def storage_bytes(tensor: torch.Tensor) -> bytes:
    """The elements of a tensor as `torch.storage._load_from_bytes` takes them, for the CPU.

    The layout of torch.save before torch 1.6: five small pickles, the count, the raw numbers.
    Raises TypeError for element types that old versions of torch do not have.
    """
    if tensor.dtype not in _STORAGE_CLASSES:
        raise TypeError(f"tensors of {tensor.dtype} have no portable form")
    cls = _STORAGE_CLASSES[tensor.dtype]
    reference = _PersistentId(("storage", cls, _KEY, "cpu", tensor.numel(), None))
    file = io.BytesIO()
    for part in (STORAGE_MAGIC, STORAGE_PROTOCOL, _SYSTEM, reference, [_KEY]):
        _StoragePickler(file, protocol=2).dump(part)
    file.write(struct.pack("<q", tensor.numel()))
    file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return file.getvalue()
