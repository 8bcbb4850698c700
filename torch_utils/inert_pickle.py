"""The content of pickled networks as data: tensors, plain values, and `Node` for every object.

Nothing that the file names is imported, called or created: `load` knows the few globals that
networks are made of, and refuses every other one by name.
"""

import io
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dnnlib.util import EasyDict
from torch_utils.pickle_machine import Global, PickleRefused, run, shown

__all__ = ["Node", "PickleRefused", "load", "shown"]

STORAGE_MAGIC = 0x1950A86A20F9469CFC6C
STORAGE_PROTOCOL = 1001
DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MAX_HEADER = 100  # pickle instructions in each part of a storage's header
MAX_ATTRIBUTES = 256  # of one object; a torch module has about 40
SET_BYTES = 64  # that a set takes for each of its members
_DTYPE_NAMES = {str(dtype).removeprefix("torch.") for dtype in DTYPES.values()}
_NUMPY_NUMBER = re.compile(r"[biuf][1248]|bool|float(16|32|64)|u?int(8|16|32|64)")
_ARRAY = Global("numpy", "ndarray")
_PERSISTENT = Global("torch_utils.persistence", "_reconstruct_persistent_obj")
# Classes whose objects come as Nodes. The last pattern: made by the original tools from source text
# in a file, and saved again.
_CLASSES = (
    re.compile(r"training(\.\w+)+"),
    re.compile(r"torch\.nn\.modules(\.\w+)+"),
    re.compile(r"_imported_module_[0-9a-f]{32}\.\w+"),
)


@dataclass
class Node:
    """An object in a file: the name of its class and its attributes, not the object.

    `module` is empty for objects of `torch_utils.persistence`, which are stored by class name only.
    """

    module: str
    class_name: str
    state: dict[str, Any]


@dataclass(frozen=True)
class _Storage:
    """The numbers [n] that tensors are views of."""

    values: torch.Tensor


@dataclass(frozen=True)
class _NumpyType:
    """A numpy.dtype of numbers."""

    name: str


class _Array:
    """A numpy.ndarray, of which no network is made: what is in it is not looked at."""


def load(data: bytes) -> Any:
    """The content of one pickle. Tensors are on the CPU, contiguous, and own their memory.

    Raises PickleRefused with one line for what is not allowed, and other errors of parsing
    (ValueError, UnicodeError, ...) where the bytes are no pickle.
    """
    return run(io.BytesIO(data), _Networks(budget=len(data)))


class _Networks:
    """The vocabulary of pickled networks.

    A pickle can name one thing many times. So that a small file cannot fill the memory, each kind
    of work may handle as many bytes in all as the file has: `budget`.
    """

    def __init__(self, budget: int):
        self.left = dict.fromkeys(("encoded bytes", "storages", "tensors", "sets"), budget)

    def spend(self, kind: str, size: int) -> None:
        self.left[kind] -= size
        if self.left[kind] < 0:
            raise PickleRefused(f"has {kind} that together are larger than the file")

    def global_(self, name: Global) -> Any:
        if (
            name in _CALLS
            or name == _ARRAY
            or any(pattern.fullmatch(str(name)) for pattern in _CLASSES)
        ):
            return name
        if name.module == "torch" and name.name in _DTYPE_NAMES:
            return name.name
        raise PickleRefused(f"names {_shown(name)}, which no network needs; it was not run")

    def call(self, function: Any, args: tuple) -> Any:
        if not isinstance(function, Global):
            raise PickleRefused("calls something that is no function")
        if function in _CALLS:
            try:
                return _CALLS[function](self, *args)
            except TypeError as error:
                raise PickleRefused(f"calls {function} in a way that no network does") from error
        if args != ():
            raise PickleRefused(f"calls {_shown(function)} with arguments, which no network does")
        return Node(function.module, function.name, {})

    def build(self, target: Any, state: Any) -> Any:
        if isinstance(target, Node):
            if target.state:
                raise PickleRefused(f"gives {_shown(target)} a state twice")
            target.state = _attributes(target, state)
        elif isinstance(target, _NumpyType):
            if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
                raise PickleRefused("has numbers of NumPy that are not little-endian")
        elif isinstance(target, _Array):
            if type(state) is not tuple or len(state) != 5:
                raise PickleRefused("has an array of NumPy that is damaged")
        elif not (isinstance(target, EasyDict) and type(state) is dict and not state):
            raise PickleRefused("sets attributes of something that has none")
        return target

    def persistent(self, key: Any) -> Any:
        raise PickleRefused("refers to data outside of the file (a persistent id)")

    # -- What calls mean -------------------------------------------------------------------------

    def persistent_object(self, meta: dict) -> Node:
        if not isinstance(meta, dict) or type(meta.get("class_name")) is not str:
            raise PickleRefused("has a persistent object without a class name")
        name, version, state = meta["class_name"], meta.get("version"), meta.get("state")
        if type(version) is not int or version != 6:  # no repr: of nested lists it has no end
            found = version if type(version) is int else type(version).__name__
            raise PickleRefused(f"has a {shown(name, 80)!r} of persistence version {found}, not 6")
        node = Node("", name, {})
        node.state = _attributes(node, state)
        return node

    def tensor(
        self,
        storage: _Storage,
        offset: int,
        size: tuple,
        stride: tuple,
        requires_grad: bool = False,
        hooks: Any = None,
        metadata: Any = None,
    ) -> torch.Tensor:
        if not (type(size) is tuple is type(stride) and len(size) == len(stride) <= 16):
            raise PickleRefused("has a tensor that is damaged")
        if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *size, *stride)):
            raise PickleRefused("has a tensor whose sizes or strides make no sense")
        if not isinstance(storage, _Storage):
            raise PickleRefused("has a tensor without data")
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if count and last >= len(storage.values):
            raise PickleRefused("has a tensor that reaches beyond its data")
        self.spend("tensors", count * storage.values.itemsize)
        view = storage.values.as_strided(size, stride, offset if count else 0)
        return view.clone(memory_format=torch.contiguous_format)

    def parameter(self, data: torch.Tensor, *_: Any) -> torch.Tensor:
        if not isinstance(data, torch.Tensor):
            raise PickleRefused("has a parameter that is no tensor")
        return data

    def storage(self, data: bytes) -> _Storage:
        if type(data) is not bytes:
            raise PickleRefused("has a tensor whose data are no bytes")
        self.spend("storages", len(data))
        return _read_storage(data)

    def ordered_dict(self, items: Any = ()) -> OrderedDict:
        self.no_arguments(items)
        return OrderedDict()

    def easy_dict(self, items: Any = ()) -> EasyDict:
        self.no_arguments(items)
        return EasyDict()

    def plain_dict(self, items: Any = ()) -> dict:
        self.no_arguments(items)
        return {}

    def plain_set(self, items: list = ()) -> set:
        if type(items) not in (list, tuple) or len(items) > MAX_ATTRIBUTES:
            raise PickleRefused("has a set that no network has")
        if not all(type(item) is str for item in items):
            raise PickleRefused("has a set of something else than names")
        self.spend("sets", SET_BYTES * len(items))
        return set(items)

    def no_arguments(self, items: Any) -> None:
        if type(items) not in (list, tuple) or items:
            raise PickleRefused("makes a dict in a way that no network does")

    def size(self, sizes: Any) -> tuple:
        if type(sizes) not in (list, tuple) or len(sizes) > 16:
            raise PickleRefused("has a size of a tensor that makes no sense")
        return tuple(sizes)

    def device(self, *name: Any) -> str:
        return "cpu"

    def latin1(self, text: str, encoding: str) -> bytes:
        if type(text) is not str or encoding != "latin1":
            raise PickleRefused("has bytes in an encoding that pickles do not use")
        self.spend("encoded bytes", len(text))
        return text.encode("latin1")

    def numpy_type(self, name: str, *_: Any) -> _NumpyType:
        if type(name) is not str or not _NUMPY_NUMBER.fullmatch(name):
            raise PickleRefused("has a type of NumPy that is no number")
        return _NumpyType(name)

    def numpy_array(self, kind: Global, shape: tuple, typecode: bytes) -> _Array:
        # What NumPy writes: an empty array, whose state is that of the real one.
        if (kind, shape) != (_ARRAY, (0,)) or typecode not in (b"b", "b"):
            raise PickleRefused("has an array of NumPy that is damaged")
        return _Array()

    def numpy_scalar(self, dtype: _NumpyType, data: bytes) -> int | float | bool:
        dtype = np.dtype(dtype.name) if isinstance(dtype, _NumpyType) else None
        if dtype is None or type(data) is not bytes or len(data) != dtype.itemsize:
            raise PickleRefused("has a number of NumPy that is damaged")
        return np.frombuffer(data, dtype)[0].item()


_CALLS: dict[Global, Callable] = {
    _PERSISTENT: _Networks.persistent_object,
    Global("torch._utils", "_rebuild_tensor_v2"): _Networks.tensor,
    Global("torch._utils", "_rebuild_parameter"): _Networks.parameter,
    Global("torch._utils", "_rebuild_parameter_with_state"): _Networks.parameter,
    Global("torch.storage", "_load_from_bytes"): _Networks.storage,
    Global("torch", "Size"): _Networks.size,
    Global("torch", "device"): _Networks.device,
    Global("collections", "OrderedDict"): _Networks.ordered_dict,
    Global("dnnlib.util", "EasyDict"): _Networks.easy_dict,
    Global("builtins", "dict"): _Networks.plain_dict,
    Global("builtins", "set"): _Networks.plain_set,
    Global("__builtin__", "set"): _Networks.plain_set,
    Global("_codecs", "encode"): _Networks.latin1,
    Global("numpy", "dtype"): _Networks.numpy_type,
    Global("numpy.core.multiarray", "scalar"): _Networks.numpy_scalar,
    Global("numpy._core.multiarray", "scalar"): _Networks.numpy_scalar,
    Global("numpy.core.multiarray", "_reconstruct"): _Networks.numpy_array,
    Global("numpy._core.multiarray", "_reconstruct"): _Networks.numpy_array,
}


class _StorageHeader:
    """The vocabulary of the five small pickles before the bytes of a storage."""

    def global_(self, name: Global) -> Global:
        if name.module != "torch" or name.name not in DTYPES:
            raise PickleRefused(f"names {_shown(name)} as a kind of number; it was not run")
        return name

    def call(self, function: Any, args: tuple) -> Any:
        raise PickleRefused("calls a function before the bytes of a tensor")

    def build(self, target: Any, state: Any) -> Any:
        raise PickleRefused("makes an object before the bytes of a tensor")

    def persistent(self, key: Any) -> Any:
        return key


def _read_storage(data: bytes) -> _Storage:
    """A storage as torch saves a single one, wherever it was: bytes after five small pickles."""
    file = io.BytesIO(data)
    parts = [run(file, _StorageHeader(), MAX_HEADER) for _ in range(5)]
    magic, protocol, system, key, keys = parts
    if (magic, protocol) != (STORAGE_MAGIC, STORAGE_PROTOCOL) or type(system) is not dict:
        raise PickleRefused("has a tensor that does not begin as tensors do")
    if system.get("little_endian") is not True:
        raise PickleRefused("has a tensor of big-endian numbers")
    # ('storage', class, key, where it was, how many numbers, view of another one: None)
    if type(key) is not tuple or len(key) < 5 or key[0] != "storage" or type(key[2]) is not str:
        raise PickleRefused("has a tensor without a description of its data")
    if not isinstance(key[1], Global) or keys != [key[2]] or key[5:] not in ((), (None,)):
        raise PickleRefused("has a tensor whose description is damaged")
    dtype = DTYPES[key[1].name]
    count = int.from_bytes(file.read(8), "little")
    content = bytearray(data[file.tell() :])
    if count != key[4] or len(content) != count * dtype.itemsize:
        raise PickleRefused("has a tensor with fewer or more bytes than it says")
    return _Storage(
        torch.frombuffer(content, dtype=dtype) if count else torch.empty(0, dtype=dtype)
    )


def _attributes(node: Node, state: Any) -> dict[str, Any]:
    if not isinstance(state, dict) or len(state) > MAX_ATTRIBUTES:
        raise PickleRefused(f"gives {_shown(node)} a state that is no dict of attributes")
    if not all(type(name) is str for name in state):
        raise PickleRefused(f"gives {_shown(node)} attributes without a name")
    return state


def _shown(name: Global | Node) -> str:
    return shown(f"{name.module}.{name.class_name}" if isinstance(name, Node) else str(name))
