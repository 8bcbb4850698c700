"""CUDA graphs: work that a GPU is told once and then repeats at a single launch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

__all__ = ["Recorded", "Recorder", "Repeated", "clones", "cuda_recorder", "share_off"]

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
        with torch.inference_mode(False):  # Such tensors could be overwritten in that mode only.
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


class Repeated:
    """A function of tensors that is computed plainly at first, then recorded, and repeated from
    then on, if the first repetition does what the plain way does.

    Args:
        function, record: see `Recorded`.
        plain_first: calls before it is recorded: kernels are compiled and chosen in them, and
            constants are made.
        difference: of the results of a repetition and of the plain way: what is wrong, '' if
            nothing is.
        moved: tensors that the function changes in place.
        refused: is told why the function stays plain.
    """

    def __init__(
        self,
        function: Callable,
        record: Recorder,
        plain_first: int,
        difference: Callable[[Any, Any], str],
        moved: Sequence[Tensor] = (),
        refused: Callable[[str], None] = lambda problem: None,
    ):
        self._function = function
        self._record = record
        self._plain_calls = plain_first
        self._difference = difference
        self._moved = moved
        self._refused = refused
        self._recorded: Recorded | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        """The function's results, in memory that the next call may overwrite."""
        if self._recorded is not None:
            return self._recorded(*tensors)
        self._plain_calls -= 1
        return self._first(tensors) if self._plain_calls == -1 else self._function(*tensors)

    def _first(self, tensors: Sequence[Tensor]) -> Any:
        """Tries a recording on the same numbers, random ones too, that the plain way gets, whose
        results and movements count."""
        devices = [x.device for x in tensors[:1] if x.is_cuda]
        with torch.random.fork_rng(devices):
            plain = self._function(*tensors)
        moved = clones(list(self._moved))
        try:
            recorded = Recorded(self._function, tensors, self._record)
            problem = self._difference(recorded(*tensors), plain)
        except RuntimeError as error:  # what PyTorch raises where something cannot be recorded
            problem = str(error).strip().partition("\n")[0]
        for tensor, value in zip(self._moved, moved, strict=True):
            tensor.copy_(value)
        if problem:
            self._refused(problem)
        else:
            self._recorded = recorded
        return plain


def share_off(tensors: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """The length of the difference of all tensors together, as a share of that of the exact ones.
    NaN where numbers are not finite."""
    error = torch.stack([(x - y).float().norm() for x, y in zip(tensors, exact, strict=True)])
    return (error.norm() / torch.stack([y.float().norm() for y in exact]).norm()).item()


def clones(results: Any) -> Any:
    """Tensors in tuples, lists and dicts, in memory of their own."""
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, results)


def _kind(tensor: Tensor) -> tuple:
    return tuple(tensor.shape), tensor.dtype, tensor.device
