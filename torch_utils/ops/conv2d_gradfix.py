"""2-D convolutions under the names that published checkpoints import.

torch's convolutions are differentiable any number of times, and autograd leaves out a weight
gradient that nobody asked for. So the two switches remain for programs that set them; they never
changed results, only cost, and are not read here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F

__all__ = [
    "conv2d",
    "conv_transpose2d",
    "enabled",
    "no_weight_gradients",
    "weight_gradients_disabled",
]

enabled = False
weight_gradients_disabled = False

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
    return F.conv_transpose2d(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
