"""Triton's kernels while a benchmark runs: launches counted, and an interpreter that hurries."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch_utils.ops.choice import triton_problem

_OURS = "torch_utils.ops."


@contextmanager
def counted_launches() -> Iterator[Counter[str]]:
    """Yields a counter of launches by 'module.kernel'; it stays empty where Triton is missing."""
    launches: Counter[str] = Counter()
    if triton_problem() is not None:
        yield launches
        return
    from triton.runtime.jit import KernelInterface

    launcher = KernelInterface.__getitem__

    def counting(kernel, grid):
        function = kernel.fn
        launches[f"{function.__module__.removeprefix(_OURS)}.{function.__name__}"] += 1
        return launcher(kernel, grid)

    with mock.patch.object(KernelInterface, "__getitem__", counting):
        yield launches


@contextmanager
def hurried_interpreter() -> Iterator[None]:
    """Triton's interpreter in a quarter of the time, with the same bits.

    It does not compute every sum of integers twice to see whether it overflows, and the language is
    made interpretable once a launch and not again for each device function that a program calls:
    those of the language itself need it once, for the module that they live in.
    """
    from triton.runtime import interpreter

    prepared: set[str] = set()

    def call(function, *args, **kwargs):
        module = function.fn.__module__
        if not module.startswith(_OURS) and module not in prepared:
            interpreter._patch_lang(function.fn)
            prepared.add(module)
        return function.rewrite()(*args, **kwargs)

    builder = interpreter.interpreter_builder
    options = dataclasses.replace(builder.options, sanitize_overflow=False)
    with (
        mock.patch.object(builder, "options", options),
        mock.patch.object(interpreter.InterpretedFunction, "__call__", call),
    ):
        yield
