"""Leaky ReLU between up- and down-sampling (Karras et al., StyleGAN3), composed of other ops."""

import math

import torch

from .bias_act import bias_act
from .upfirdn2d import Padding, upfirdn2d

__all__ = ["filtered_lrelu"]


def filtered_lrelu(
    x: torch.Tensor,
    fu: torch.Tensor | None = None,
    fd: torch.Tensor | None = None,
    b: torch.Tensor | None = None,
    up: int = 1,
    down: int = 1,
    padding: Padding = 0,
    gain: float = math.sqrt(2),
    slope: float = 0.2,
    clamp: float | None = None,
    flip_filter: bool = False,
    impl: str = "cuda",
) -> torch.Tensor:
    """Adds `b` [C] to `x` [N, C, H, W], up-samples, applies a leaky ReLU and down-samples.

    `fu`, `fd`: filters before and after the activation, see `upfirdn2d`; `padding` counts
    up-sampled pixels; `slope`, `gain` and `clamp` belong to the activation. Returns
    [N, C, (H*up + y0 + y1 - (fu-1) - (fd-1) + down-1) // down, ...] in the dtype of `x`.
    """
    x = bias_act(x, b, impl=impl)
    x = upfirdn2d(x, fu, up=up, padding=padding, gain=up**2, flip_filter=flip_filter, impl=impl)
    x = bias_act(x, act="lrelu", alpha=slope, gain=gain, clamp=clamp, impl=impl)
    return upfirdn2d(x, fd, down=down, flip_filter=flip_filter, impl=impl)
