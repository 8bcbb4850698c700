"""2-D convolutions under the names that published checkpoints import.

torch's convolutions are differentiable any number of times, and autograd leaves out a weight
gradient that nobody asked for. So the two switches remain for programs that set them; they never
changed results, only cost, and are not read here.

`bfloat16_convolutions` trades digits for speed where a CPU has instructions for that.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F

__all__ = [
    "bfloat16_convolutions",
    "conv2d",
    "conv_transpose2d",
    "enabled",
    "no_weight_gradients",
    "weight_gradients_disabled",
]

enabled = False
weight_gradients_disabled = False
_bfloat16 = False

Pair = int | Sequence[int]


@contextmanager
def no_weight_gradients(disable: bool = True) -> Iterator[None]:
    """Sets `weight_gradients_disabled` for the duration of a `with` block (if `disable`)."""
    global weight_gradients_disabled
    before = weight_gradients_disabled
    weight_gradients_disabled = before or disable
    try:
        yield
    finally:
        weight_gradients_disabled = before


@contextmanager
def bfloat16_convolutions(enable: bool = True) -> Iterator[None]:
    """In the `with` block, of all threads, float32 convolutions on a CPU round their operands and
    results to bfloat16 and add up in float32, forwards and backwards; all else stays as it is, the
    grouped convolutions of FIR filters too.

    Where the CPU has no such arithmetic this is correct, but slower: see `has_bfloat16`.
    """
    global _bfloat16
    before, _bfloat16 = _bfloat16, enable
    try:
        yield
    finally:
        _bfloat16 = before


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32: AMX, or AVX-512 with bfloat16."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _rounded(x: torch.Tensor, groups: int) -> bool:
    return _bfloat16 and groups == 1 and x.dtype == torch.float32 and x.device.type == "cpu"


def conv2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    """`torch.nn.functional.conv2d`: [N, I, H, W] and [O, I/groups, kh, kw] -> [N, O, H', W']."""
    if _rounded(input, groups):
        operands = (None if t is None else t.bfloat16() for t in (input, weight, bias))
        return F.conv2d(*operands, stride, padding, dilation).to(input.dtype)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> torch.Tensor:
    """`torch.nn.functional.conv_transpose2d`, weight [I, O/groups, kh, kw] -> [N, O, H', W']."""
    if _rounded(input, groups):
        operands = (None if t is None else t.bfloat16() for t in (input, weight, bias))
        rest = (stride, padding, output_padding, groups, dilation)
        return F.conv_transpose2d(*operands, *rest).to(input.dtype)
    return F.conv_transpose2d(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
