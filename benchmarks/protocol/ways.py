"""Ways to compute the same thing: which operators, in which precision, as a CUDA graph or not."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from torch_utils import graphs
from torch_utils.ops import choice
from torch_utils.ops.conv2d_gradfix import bfloat16_convolutions, has_bfloat16

PLAIN, KERNELS, GRAPH = "plain", "kernels", "kernels + graph"

# How far a graph's first repetition may be from the kernels' own results, as a share of these.
_TOLERANCE = 0.01


class Precision(NamedTuple):
    """`half`: networks compute in 16 bits where the published ones do; `tf32`: float32 products
    may round factors to 10 bits."""

    half: bool
    tf32: bool


PRECISIONS = {
    "float32": Precision(half=False, tf32=False),
    "tf32": Precision(half=False, tf32=True),
    "half": Precision(half=True, tf32=False),
    "half + tf32": Precision(half=True, tf32=True),
    "float16 planes": Precision(half=False, tf32=False),
    "bf16": Precision(half=False, tf32=False),  # convolutions of a CPU
    "none": Precision(half=False, tf32=False),  # nothing is computed
}


@dataclass(frozen=True)
class Way:
    """Operators and precision: one of PLAIN, KERNELS, GRAPH, and a key of PRECISIONS."""

    implementation: str = PLAIN
    precision: str = "float32"

    def why_not(self, device: torch.device) -> str | None:
        """Why the device cannot compute so, in a few words; None if it can."""
        if device.type == "cuda":
            if self.precision == "bf16":
                return "rounding of convolutions is for CPUs; a GPU has half"
            return None if self.implementation == PLAIN else choice.why_not_triton()
        if self.implementation != PLAIN:
            return "needs a CUDA device"
        if self.precision == "bf16":
            return None if has_bfloat16() else "this CPU has no bfloat16 arithmetic"
        return (
            None if self.precision in ("float32", "none") else "a CPU computes all of it in float32"
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within: operators are chosen, and products rounded, as the way says."""
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        before = products.allow_tf32, convolutions.allow_tf32
        with ExitStack() as stack:
            stack.enter_context(
                choice.using_ops("torch" if self.implementation == PLAIN else "triton")
            )
            stack.enter_context(bfloat16_convolutions(self.precision == "bf16"))
            products.allow_tf32 = convolutions.allow_tf32 = PRECISIONS[self.precision].tf32
            try:
                yield
            finally:
                products.allow_tf32, convolutions.allow_tf32 = before

    @property
    def network_options(self) -> dict[str, bool]:
        """What synthesis and discriminator are called with."""
        return {} if PRECISIONS[self.precision].half else dict(force_fp32=True)

    def repeated(self, function: Callable, device: torch.device) -> Callable:
        """The function of tensors itself, or, where the way is a graph, what repeats it from the
        third call on. Raises RuntimeError where it cannot be recorded."""
        if self.implementation != GRAPH:
            return function
        return as_graph(function, graphs.cuda_recorder(device))


HOST = Way(PLAIN, "none")


def as_graph(function: Callable, record: graphs.Recorder) -> Callable:
    """A function of tensors that is recorded at its third call. Raises RuntimeError where that
    fails, or a repetition gives other numbers."""

    def difference(found: Any, exact: Any) -> str:
        share = graphs.share_off(pytree.tree_leaves(found), pytree.tree_leaves(exact))
        return "" if share <= _TOLERANCE else f"a repetition is {100 * share:.1f} % off"

    return graphs.Repeated(function, record, 2, difference, refused=refuse)


def refuse(problem: str) -> None:
    """Raises RuntimeError: rows of graphs must not be of anything else."""
    raise RuntimeError(problem)
