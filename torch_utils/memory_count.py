"""Counting the memory that a computation takes, without a device that would have it.

Both counts see tensors only: neither workspaces inside an operator nor what an allocator loses
between blocks. On fake copies of modules (`fake_copies`) the computation itself takes no memory and
hardly any time, at full size too.
"""

import copy
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["LiveBytes", "fake_copies", "saved_bytes"]


def saved_bytes(function: Callable[[], Any], known: Iterable[torch.Tensor] = ()) -> int:
    """Bytes that autograd keeps for the backward pass of `function()`, each storage counted once;
    those of the tensors `known`, such as parameters, are left out."""
    without = {tensor.untyped_storage()._cdata for tensor in known}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in without:
            sizes[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Kept until the end, lest an address be used for two storages.
        results = function()
    total = sum(sizes.values())
    del results
    return total


class LiveBytes(TorchDispatchMode):
    """Within a `with`, counts the bytes of tensors made in it: `now` and, at most so far, `peak`.

    A storage counts from the operator that makes it until nothing refers to it any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def restart(self) -> None:
        """Counts the peak from here on."""
        self.peak = self.now

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Runs the operator and counts the storages of its results."""
        before = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        results = func(*args, **(kwargs or {}))
        for tensor in _tensors(results):
            storage = tensor.untyped_storage()
            if storage._cdata not in before and storage._cdata not in self._known:
                self._add(storage)
        return results

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def fake_copies(mode: Any, modules: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """Copies of modules whose parameters and buffers are fake tensors of `mode`, a FakeTensorMode:
    they have shapes, types and devices, no memory and no values."""
    stand_ins = {}
    with mode:
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                size, stride = tensor.size(), tensor.stride()
                fake = torch.empty_strided(size, stride, dtype=tensor.dtype, device=tensor.device)
                if isinstance(tensor, torch.nn.Parameter):
                    fake = torch.nn.Parameter(fake, requires_grad=tensor.requires_grad)
                stand_ins[id(tensor)] = fake
    return [copy.deepcopy(module, dict(stand_ins)) for module in modules]


def _tensors(tree: Any) -> Iterable[torch.Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
