"""A printed table of a network's layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["print_module_summary"]

_HEADER = ["Parameters", "Buffers", "Output shape", "Datatype"]


@dataclass
class _Call:
    """One call of a submodule, with the tensors that no earlier row has shown."""

    name: str
    params: list[torch.Tensor]
    buffers: list[torch.Tensor]
    outputs: list[torch.Tensor]

    def rows(self) -> Iterator[list[str]]:
        """Text of the columns; one row for each further output."""
        shapes = [str(list(t.shape)) for t in self.outputs] or ["-"]
        dtypes = [str(t.dtype).removeprefix("torch.") for t in self.outputs] or ["-"]
        for i, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
            counts = [_count(self.params), _count(self.buffers)] if i == 0 else ["-", "-"]
            yield [self.name if i == 0 else f"{self.name}:{i}", *counts, shape, dtype]


def print_module_summary(
    module: torch.nn.Module,
    inputs: Sequence[Any],
    max_nesting: int = 3,
    skip_redundant: bool = True,
) -> Any:
    """Runs `module(*inputs)`, prints a table of its submodules and returns the outputs.

    Columns: name, parameters, buffers, output shape, datatype; every tensor is counted in the first
    row that has it, so a row of a container shows only what its parts do not. Submodules deeper
    than `max_nesting` are counted with their ancestor; `skip_redundant` leaves out rows with
    nothing new.
    """
    calls, outputs = _record_calls(module, inputs, max_nesting)
    seen: set[int] = set()
    shown = []
    for call in calls:
        for tensors in (call.params, call.buffers, call.outputs):
            tensors[:] = [t for t in tensors if not (id(t) in seen or seen.add(id(t)))]
        if not skip_redundant or call.params or call.buffers or call.outputs:
            shown.append(call)
    table = [[type(module).__name__, *_HEADER]]
    table += [row for call in shown for row in call.rows()]
    table.append(["Total", _count(module.parameters()), _count(module.buffers()), "-", "-"])
    _print_table(table)
    return outputs


def _record_calls(module, inputs, max_nesting: int) -> tuple[list[_Call], Any]:
    """Calls in the order in which they end: parts before their container."""
    names = {child: name for name, child in module.named_modules()}
    calls: list[_Call] = []
    depth = 0

    def enter(child, _):
        nonlocal depth
        depth += 1

    def leave(child, _, outputs):
        nonlocal depth
        depth -= 1
        if depth > max_nesting:
            return
        # At the deepest level shown, the row stands for everything below it too.
        recurse = depth == max_nesting
        params, buffers = child.parameters(recurse), child.buffers(recurse)
        name = names[child] or "<top-level>"
        calls.append(_Call(name, list(params), list(buffers), list(_tensors(outputs))))

    hooks = [child.register_forward_pre_hook(enter) for child in names]
    hooks += [child.register_forward_hook(leave) for child in names]
    try:
        return calls, module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(outputs: Any) -> Iterator[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        yield outputs
    elif isinstance(outputs, (list, tuple)):
        for value in outputs:
            yield from _tensors(value)
    elif isinstance(outputs, dict):
        yield from _tensors(list(outputs.values()))


def _count(tensors) -> str:
    total = sum(t.numel() for t in tensors)
    return str(total) if total else "-"


def _print_table(table: list[list[str]]) -> None:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    rule = ["-" * width for width in widths]
    print()
    for row in [table[0], rule, *table[1:-1], rule, table[-1]]:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    print()
