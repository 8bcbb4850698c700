"""CUDA graphs: work that a GPU is told once and then repeats at a single launch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["Recorded", "Recorder", "cuda_recorder"]

Work = Callable[[], Any]
# Records what a function without arguments does, and returns what repeats it together with the
# function's results, which hold the numbers of the last repetition.
Recorder = Callable[[Work], tuple[Callable[[], None], Any]]


def cuda_recorder(device: torch.device) -> Recorder:
    """Records CUDA graphs. Graphs of one recorder share the memory of what they compute on the way:
    the results of one are good until another one runs that was recorded before it."""
    pool = torch.cuda.graph_pool_handle()

    def record(work: Work) -> tuple[Callable[[], None], Any]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        # Other threads, such as those that load data, may go on with what they do.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            results = work()
        return graph.replay, results

    return record


class Recorded:
    """A function of tensors that is recorded once and repeated with other tensors.

    What it reads besides, such as weights, may have changed in place since. Python's part is not
    repeated: numbers and branches stay as they were. Random numbers go on from the device's
    generator. Nothing in it may wait for the device, and everything that it does must have been
    done before, so that no kernel has to be compiled or chosen any more.

    Args:
        function: returns tensors in tuples, lists, dicts.
        examples: tensors of the shapes, types and devices of later ones.
        record: how; `cuda_recorder(device)` on a GPU.
    """

    def __init__(self, function: Callable, examples: Sequence[Tensor], record: Recorder):
        self._inputs = [example.clone() for example in examples]
        self._repeat, self._results = record(lambda: function(*self._inputs))

    def fits(self, tensors: Sequence[Tensor]) -> bool:
        """Whether it was recorded for tensors like these."""
        return [_kind(t) for t in tensors] == [_kind(t) for t in self._inputs]

    def __call__(self, *tensors: Tensor) -> Any:
        """The function's results, in memory that the next call overwrites. Raises ValueError for
        other shapes, types or devices than those of the examples."""
        if not self.fits(tensors):
            raise ValueError(
                f"recorded for {[_kind(t) for t in self._inputs]}, "
                f"called with {[_kind(t) for t in tensors]}"
            )
        torch._foreach_copy_(self._inputs, list(tensors))
        self._repeat()
        return self._results


def clones(results: Any) -> Any:
    """Tensors in tuples, lists and dicts, in memory of their own."""
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, results)


def _kind(tensor: Tensor) -> tuple:
    return tuple(tensor.shape), tensor.dtype, tensor.device
