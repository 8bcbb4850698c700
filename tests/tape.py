"""A recorder of operators on a CPU, in place of CUDA graphs: like these it repeats operators on the
same tensors, whatever Python would do now, and it refuses to look at values while it records."""

from collections.abc import Sequence

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

# What becomes of numbers that are handed to a device: a GPU would have to copy them from the host.
FROM_HOST = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)


class Tape:
    """Records. `buffers` are the tensors that the work moves: recording moves them too, which a
    CUDA graph does not, so they are put back. `lengths` has the operators of each recording."""

    def __init__(self, buffers: Sequence[torch.Tensor] = ()):
        self.buffers = buffers
        self.lengths: list[int] = []

    def __call__(self, work):
        before = [tensor.clone() for tensor in self.buffers]
        with torch.random.fork_rng([]):
            tape = make_fx(work)()
            results, form = pytree.tree_flatten(tape())
        for tensor, value in zip(self.buffers, before, strict=True):
            tensor.copy_(value)
        nodes = [node for node in tape.graph.nodes if node.op == "call_function"]
        assert not [node for node in nodes if node.target in FROM_HOST], "numbers from the host"
        self.lengths.append(len(nodes))

        def repeat():
            for old, new in zip(results, pytree.tree_leaves(tape()), strict=True):
                if isinstance(old, torch.Tensor):
                    old.copy_(new)

        return repeat, pytree.tree_unflatten(results, form)
