"""Operators of `torch.library` without what `torch.library.custom_op` checks on every call.

Its wrappers against aliasing and tracing cost 10 microseconds of a call, and several times that
with gradients: as much as many kernels take. Our operators return new tensors and change no
argument.
"""

import functools
from collections.abc import Callable

import torch

__all__ = ["on_its_device", "operator"]

NAMESPACE = "eg3d"


def operator(function: Callable) -> torch._ops.OpOverload:
    """Decorator: registers `function` under its name, for CPU and CUDA tensors; the first argument
    must be one.

    Its annotations become the schema, as for `torch.library.custom_op`. Shapes and gradients come
    by `torch.library.register_fake` and `register_autograd`, which take the result's `name()`.
    """
    name = f"{NAMESPACE}::{function.__name__}"
    schema = torch.library.infer_schema(function, mutates_args=())
    torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
    torch.library.impl(name, "cpu", function)
    torch.library.impl(name, "cuda", on_its_device(function))
    registered = getattr(getattr(torch.ops, NAMESPACE), function.__name__).default
    registered.__doc__ = function.__doc__
    return registered


def on_its_device(function: Callable) -> Callable:
    """Decorator: Triton starts kernels on the current device, which need not be that of the
    tensors; the first of them says where they are."""

    @functools.wraps(function)
    def guarded(*args):
        x = next(argument for argument in args if isinstance(argument, torch.Tensor))
        if not x.is_cuda or x.get_device() == torch.cuda.current_device():
            return function(*args)
        with torch.cuda.device(x.get_device()):
            return function(*args)

    return guarded
