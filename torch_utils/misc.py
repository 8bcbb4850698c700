"""Helpers for modules, data sampling and distributed training."""

import functools
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch

from .module_summary import print_module_summary

__all__ = [
    "InfiniteSampler",
    "assert_shape",
    "check_ddp_consistency",
    "constant",
    "copy_params_and_buffers",
    "ddp_sync",
    "named_params_and_buffers",
    "nan_to_num",
    "own_constants",
    "params_and_buffers",
    "print_module_summary",
    "profiled_function",
    "suppress_tracer_warnings",
    "symbolic_assert",
]

symbolic_assert = torch._assert

_constants: dict[tuple, torch.Tensor] = {}


def constant(
    value: Any,
    shape: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """A constant tensor, made once and kept: no copy to the device at the second call.

    `value` is a number, nested sequence or array, broadcast to `shape` if given. All callers share
    the tensor: do not change it.
    """
    array = np.asarray(value)
    shape = None if shape is None else tuple(shape)
    dtype = dtype or torch.get_default_dtype()
    device = torch.device(device or "cpu")
    memory_format = memory_format or torch.contiguous_format
    key = (array.shape, array.dtype, array.tobytes(), shape, dtype, device, memory_format)
    if key not in _constants:
        # Outside of inference mode, lest training finds a tensor that autograd refuses.
        with torch.inference_mode(False):
            tensor = torch.as_tensor(array.copy(), dtype=dtype, device=device)
            tensor = tensor if shape is None else tensor.expand(shape)
            _constants[key] = tensor.contiguous(memory_format=memory_format)
    return _constants[key]


@contextmanager
def own_constants() -> Iterator[None]:
    """Constants made within a `with` are forgotten at its end: fake tensors are to stay there."""
    before = dict(_constants)
    try:
        yield
    finally:
        _constants.clear()
        _constants.update(before)


def nan_to_num(
    input: torch.Tensor,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """`torch.nan_to_num`: replaces NaN by `nan`, infinities by the given or the largest numbers."""
    return torch.nan_to_num(input, nan=nan, posinf=posinf, neginf=neginf, out=out)


@contextmanager
def suppress_tracer_warnings() -> Iterator[None]:
    """Hides the warnings of `torch.jit.trace` within a `with` block."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=torch.jit.TracerWarning)
        yield


def assert_shape(tensor: torch.Tensor, ref_shape: Sequence[int | None]) -> None:
    """Raises AssertionError unless the tensor has this shape; None stands for any size."""
    found, wanted = list(tensor.shape), list(ref_shape)
    fits = len(found) == len(wanted) and all(
        w is None or int(w) == f for f, w in zip(found, wanted, strict=True)
    )
    if not fits:
        raise AssertionError(f"expected the shape {wanted}, got {found}")


def profiled_function(fn: Callable) -> Callable:
    """Decorator: the function's calls appear under its name in torch profiles."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with torch.autograd.profiler.record_function(fn.__name__):
            return fn(*args, **kwargs)

    return wrapper


class InfiniteSampler(torch.utils.data.Sampler):
    """Endless indices into a dataset, shuffled a little more at every step, split over processes.

    Index number k of the common sequence goes to the process `rank` = k mod `num_replicas`. Behind
    the reading position, items are swapped with ones up to `window_size` (share of the dataset)
    before it. The sequence depends only on the arguments: `start` > 0 leaves out the first `start`
    indices of this process and so continues where an earlier sampler was.
    """

    def __init__(
        self,
        dataset: Any,
        rank: int = 0,
        num_replicas: int = 1,
        shuffle: bool = True,
        seed: int = 0,
        window_size: float = 0.5,
        start: int = 0,
    ):
        if len(dataset) == 0:
            raise ValueError("the dataset is empty")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank is from 0 to num_replicas-1, got {rank} of {num_replicas}")
        if not 0 <= window_size <= 1:
            raise ValueError(f"window_size is from 0 to 1, got {window_size}")
        if start < 0:
            raise ValueError(f"start is at least 0, got {start}")
        super().__init__()
        self.dataset = dataset
        self.rank, self.num_replicas = rank, num_replicas
        self.shuffle, self.seed, self.window_size = shuffle, seed, window_size
        self.start = start

    def __iter__(self) -> Iterator[int]:
        first = self.start * self.num_replicas + self.rank
        for k, index in enumerate(self._common_sequence()):
            if k >= first and (k - self.rank) % self.num_replicas == 0:
                yield index

    def _common_sequence(self) -> Iterator[int]:
        size = len(self.dataset)
        order = np.arange(size)
        random = np.random.RandomState(self.seed)
        window = int(np.rint(size * self.window_size)) if self.shuffle else 0
        if self.shuffle:
            random.shuffle(order)
        while True:
            for i in range(size):
                yield int(order[i])
                if window >= 2:
                    j = i - random.randint(window)  # negative: counted from the end, as meant
                    order[i], order[j] = order[j], order[i]


def params_and_buffers(module: torch.nn.Module) -> list[torch.Tensor]:
    """All parameters, then all buffers."""
    return [tensor for _, tensor in named_params_and_buffers(module)]


def named_params_and_buffers(module: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """All (name, parameter), then all (name, buffer)."""
    return [*module.named_parameters(), *module.named_buffers()]


@torch.no_grad()
def copy_params_and_buffers(
    src_module: torch.nn.Module, dst_module: torch.nn.Module, require_all: bool = False
) -> None:
    """Copies values by name into the tensors of `dst_module`, whose requires_grad stays.

    What only the source has is ignored; what it lacks is kept, or a ValueError if `require_all`.
    Shapes that differ are a ValueError.
    """
    source = dict(named_params_and_buffers(src_module))
    target = named_params_and_buffers(dst_module)
    missing = [name for name, _ in target if name not in source]
    if require_all and missing:
        raise ValueError(f"{type(src_module).__name__} lacks {', '.join(missing)}")
    for name, tensor in target:
        if name not in source:
            continue
        if source[name].shape != tensor.shape:
            shapes = f"{list(source[name].shape)}, expected {list(tensor.shape)}"
            raise ValueError(f"{name} of {type(src_module).__name__} has the shape {shapes}")
        tensor.copy_(source[name])


def ddp_sync(module: torch.nn.Module, sync: bool) -> AbstractContextManager:
    """A `with` block in which a DistributedDataParallel module exchanges gradients only if `sync`.

    Changes nothing for other modules.
    """
    if sync or not isinstance(module, torch.nn.parallel.DistributedDataParallel):
        return nullcontext()
    return module.no_sync()


@torch.no_grad()
def check_ddp_consistency(module: torch.nn.Module, ignore_regex: str | None = None) -> None:
    """Raises RuntimeError naming the first tensor that differs between this process and rank 0.

    All processes must call it. `ignore_regex` matches whole names "Class.layer.weight"; NaN equals
    NaN. Without a process group there is nothing to compare.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    differing = []
    for name, tensor in named_params_and_buffers(module):
        full_name = f"{type(module).__name__}.{name}"
        if ignore_regex is not None and re.fullmatch(ignore_regex, full_name):
            continue
        reference = tensor.detach().clone()
        torch.distributed.broadcast(reference, src=0)
        if not torch.allclose(
            tensor, reference, rtol=0, atol=0, equal_nan=tensor.is_floating_point()
        ):
            differing.append(full_name)
    if differing:  # only now: every process takes part in all broadcasts
        raise RuntimeError(f"{differing[0]} differs between processes ({len(differing)} in all)")
