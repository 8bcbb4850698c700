"""Zero insertion, padding, FIR filtering and decimation of images (Karras et al., StyleGAN2).

A pass is one depthwise convolution. Its gradient is a pass again, with the rates swapped, so that
gradients of any order are as cheap: torch's own second derivative of a depthwise convolution
computes a weight gradient, channel by channel, that nobody needs.
"""

import functools
import operator
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from . import upfirdn2d_ops

__all__ = ["setup_filter", "upfirdn2d", "filter2d", "upsample2d", "downsample2d"]

Scaling = int | Sequence[int]
Padding = int | Sequence[int]

# At or below this many channels the CPU convolutions are several times faster in channels-last,
# conversions included (measured for 2 to 8 channels, 128^2 and 256^2).
_FEW_CHANNELS = 8


def setup_filter(
    f: torch.Tensor | np.ndarray | Sequence | float | None,
    device: torch.device | str = "cpu",
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1,
    separable: bool | None = None,
) -> torch.Tensor:
    """Returns float32 FIR taps for `upfirdn2d`: [height, width], or [taps] if separable.

    `f` has 0, 1 or 2 dimensions; None is the identity. 1-D taps become their outer product, unless
    `separable` (default: from 8 taps on, where two passes are cheaper). `normalize` makes the taps
    sum to 1, `gain` is that of the 2-D filter. The argument itself is never changed.
    """
    # Named, so that the taps are real where a network is being built on the meta device.
    origin = f.device if isinstance(f, torch.Tensor) else "cpu"
    taps = torch.as_tensor(1.0 if f is None else f, dtype=torch.float32, device=origin)
    if taps.ndim > 2 or taps.numel() == 0:
        raise ValueError(f"a filter has 0, 1 or 2 dimensions and taps, got {list(taps.shape)}")
    taps = taps.reshape(1) if taps.ndim == 0 else taps
    if separable is None:
        separable = taps.ndim == 1 and taps.numel() >= 8
    if separable and taps.ndim != 1:
        raise ValueError(f"a separable filter is 1-D, got the shape {list(taps.shape)}")
    if taps.ndim == 1 and not separable:
        taps = torch.outer(taps, taps)
    if normalize:
        taps = taps / taps.sum()
    if flip_filter:
        taps = taps.flip(tuple(range(taps.ndim)))
    return (taps * gain ** (taps.ndim / 2)).to(device)


def upfirdn2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Scaling = 1,
    down: Scaling = 1,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Up-samples by zero insertion, pads, filters and decimates every channel of `x` [N, C, H, W].

    `f` is None (identity), [taps] (standing for its outer product) or [height, width]. `up` and
    `down` are factors or [x, y]; `padding` counts up-sampled pixels: one number, [x, y] or
    [x0, x1, y0, y1], negative to crop. The filter is convolved, or correlated if `flip_filter`.
    Returns [N, C, (H*up + y0 + y1 - height) // down + 1, ...] in the dtype and the memory format of
    `x`. Differentiable any number of times in `x`, not in `f`. `impl` is "cuda" (the version of
    `choice`: a kernel where Triton runs) or "ref" (plain torch). Raises ValueError for bad
    arguments.
    """
    if impl not in ("cuda", "ref"):
        raise ValueError(f'impl is "cuda" or "ref", got {impl!r}')
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x must be a floating [N, C, H, W], got {x.dtype} {list(x.shape)}")
    upx, upy = _parse_scaling(up)
    downx, downy = _parse_scaling(down)
    px0, px1, py0, py1 = _parse_padding(padding)
    fw, fh = _get_filter_size(f)
    if x.shape[3] * upx + px0 + px1 < fw or x.shape[2] * upy + py0 + py1 < fh:
        raise ValueError(f"{list(x.shape)} with padding {padding} is smaller than the filter")

    if impl == "cuda" and upfirdn2d_ops.fits(x, (fw, fh), (upx, upy), (downx, downy)):
        taps = f if f is not None else torch.ones([1, 1], device=x.device)
        run = functools.partial(upfirdn2d_ops.upfirdn2d, reverse=not flip_filter)
        if taps.ndim == 2:
            return run(x, taps, (upx, upy), (downx, downy), (px0, px1, py0, py1), gain=gain)
        x = run(x, taps[None, :], (upx, 1), (downx, 1), (px0, px1, 0, 0), gain=1)
        return run(x, taps[:, None], (1, upy), (1, downy), (0, 0, py0, py1), gain=gain)

    kernel = _correlation_kernel(x, f, flip_filter, gain)
    squeezed = _prefers_channels_last(x)
    y = x.contiguous(memory_format=torch.channels_last) if squeezed else x
    if kernel.ndim == 2:
        y = _Pass.apply(y, kernel, (upx, upy), (downx, downy), (px0, px1, py0, py1))
    else:
        y = _Pass.apply(y, kernel[None, :], (upx, 1), (downx, 1), (px0, px1, 0, 0))
        y = _Pass.apply(y, kernel[:, None], (1, upy), (1, downy), (0, 0, py0, py1))
    return y.contiguous() if squeezed else y


def filter2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Filters `x` [N, C, H, W], size kept (plus `padding`); arguments as for `upfirdn2d`."""
    padding = _centred(f, padding, lambda taps: (taps // 2, (taps - 1) // 2))
    return upfirdn2d(x, f, padding=padding, flip_filter=flip_filter, gain=gain, impl=impl)


def upsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    up: Scaling = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Enlarges `x` [N, C, H, W] to [N, C, H*up, W*up], brightness kept; see `upfirdn2d`."""
    factors = _parse_scaling(up)
    padding = _centred(f, padding, lambda taps, s: ((taps + s - 1) // 2, (taps - s) // 2), factors)
    gain = gain * factors[0] * factors[1]
    return upfirdn2d(x, f, up=up, padding=padding, flip_filter=flip_filter, gain=gain, impl=impl)


def downsample2d(
    x: torch.Tensor,
    f: torch.Tensor | None,
    down: Scaling = 2,
    padding: Padding = 0,
    flip_filter: bool = False,
    gain: float = 1,
    impl: str = "cuda",
) -> torch.Tensor:
    """Shrinks `x` [N, C, H, W] to [N, C, H/down, W/down]; arguments as for `upfirdn2d`."""
    factors = _parse_scaling(down)
    padding = _centred(f, padding, lambda taps, s: ((taps - s + 1) // 2, (taps - s) // 2), factors)
    return upfirdn2d(
        x, f, down=down, padding=padding, flip_filter=flip_filter, gain=gain, impl=impl
    )


def _parse_scaling(scaling: Scaling) -> tuple[int, int]:
    """An up- or down-sampling factor, or [x, y], as (x, y)."""
    pair = _integers(scaling, "a scaling factor")
    pair = pair * 2 if len(pair) == 1 else pair
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"a scaling factor is a number from 1 on, or [x, y], got {scaling}")
    return pair


def _parse_padding(padding: Padding) -> tuple[int, int, int, int]:
    """Padding given as p, [x, y] or [x0, x1, y0, y1] as (x0, x1, y0, y1)."""
    numbers = _integers(padding, "padding")
    if len(numbers) == 4:
        return numbers
    if len(numbers) > 2 or not numbers:
        raise ValueError(f"padding is p, [x, y] or [x0, x1, y0, y1], got {padding}")
    return (numbers[0],) * 2 + (numbers[-1],) * 2


def _get_filter_size(f: torch.Tensor | None) -> tuple[int, int]:
    """(width, height) of a filter: None is 1 x 1, [taps] stands for taps x taps."""
    if f is None:
        return 1, 1
    if not isinstance(f, torch.Tensor) or f.ndim not in (1, 2) or not f.is_floating_point():
        raise ValueError("a filter is None or a floating tensor [taps] or [height, width]")
    if f.requires_grad:
        raise ValueError("a filter is constant: it must not require grad")
    return f.shape[-1], f.shape[0]


def _integers(value, what: str) -> tuple[int, ...]:
    values = value if isinstance(value, Sequence) else [value]
    try:
        return tuple(operator.index(v) for v in values)
    except TypeError:
        raise ValueError(f"{what} consists of plain integers, got {value}") from None


def _centred(f, padding: Padding, rule, factors: tuple[int, int] | None = None) -> list[int]:
    """`padding` plus the (before, after) that `rule` gives for each axis: keeps images aligned."""
    padding = _parse_padding(padding)
    added = []
    for axis, taps in enumerate(_get_filter_size(f)):
        added += rule(taps, factors[axis]) if factors else rule(taps)
    return [own + extra for own, extra in zip(padding, added, strict=True)]


def _correlation_kernel(x, f, flip_filter: bool, gain: float) -> torch.Tensor:
    """The taps to correlate with, gain included, in the dtype of `x`; rounded once."""
    if f is None:
        f = torch.ones([1, 1], device=x.device)
    kernel = f.to(torch.promote_types(f.dtype, x.dtype))
    if kernel.shape == (1,):  # squared here, a single tap needs one pass only
        kernel = torch.outer(kernel, kernel)
    kernel = kernel * gain ** (kernel.ndim / 2)
    if not flip_filter:
        kernel = kernel.flip(tuple(range(kernel.ndim)))
    return kernel.to(x.dtype)


def _prefers_channels_last(x: torch.Tensor) -> bool:
    if x.device.type != "cpu" or not 1 < x.shape[1] <= _FEW_CHANNELS:
        return False
    return not x.is_contiguous(memory_format=torch.channels_last)


class _Pass(torch.autograd.Function):
    """`_one_pass` with its derivative in `x`."""

    @staticmethod
    def forward(ctx, x, kernel, up, down, padding):
        y = _one_pass(x, kernel, up, down, padding)
        ctx.kernel, ctx.rates = kernel, (up, down)
        # Padding with which the gradient gets the size of x, for the axes x and y.
        ctx.padding = []
        for axis in range(2):
            before = padding[2 * axis]
            reach = x.shape[3 - axis] * up[axis] - y.shape[3 - axis] * down[axis]
            ctx.padding += [kernel.shape[1 - axis] - before - 1, reach + before - up[axis] + 1]
        return y

    @staticmethod
    def backward(ctx, dy):
        up, down = ctx.rates
        dx = _Pass.apply(dy, ctx.kernel.flip((0, 1)), down, up, tuple(ctx.padding))
        return dx, None, None, None, None


def _one_pass(x, kernel, up, down, padding) -> torch.Tensor:
    """`upfirdn2d` with a parsed 2-D `kernel` that is correlated.

    Without up-sampling this is a strided depthwise convolution. With it, a transposed one: taps
    that would meet an inserted zero are never multiplied.
    """
    channels = x.shape[1]
    if up == (1, 1):
        px0, px1, py0, py1 = padding
        if px0 != px1 or py0 != py1 or min(px0, py0) < 0:
            x, px0, py0 = F.pad(x, list(padding)), 0, 0
        weight = kernel.expand(channels, 1, *kernel.shape)
        return F.conv2d(x, weight, stride=down[::-1], padding=(py0, px0), groups=channels)

    # The transposed convolution gives every output that any tap reaches; `surplus` of them lie
    # outside of the wanted extent at each side (negative: outputs that no tap reaches are missing).
    weight = kernel.flip((0, 1)).expand(channels, 1, *kernel.shape)
    surplus, inside = [], []
    for axis in range(2):
        taps = kernel.shape[1 - axis]
        before = taps - 1 - padding[2 * axis]
        after = taps - up[axis] - padding[2 * axis + 1]
        inside.append(max(min(before, after), 0))
        surplus += [before - inside[axis], after - inside[axis]]
    y = F.conv_transpose2d(x, weight, stride=up[::-1], padding=inside[::-1], groups=channels)
    if any(surplus):
        y = F.pad(y, [-s for s in surplus])
    return y if down == (1, 1) else _decimate(y, down)


def _decimate(y: torch.Tensor, down: tuple[int, int]) -> torch.Tensor:
    channels_last = y.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return y[:, :, :: down[1], :: down[0]].contiguous(memory_format=layout)
