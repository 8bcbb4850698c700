"""`upfirdn2d` as operators of `torch.library`: alone, and joined with an epilogue.

Filtering is linear and its adjoint is filtering with the rates swapped, so gradients of any order
are the operator itself.
"""

import torch
from torch import Tensor

from .choice import use_triton
from .epilogue_ops import dense_format, epilogue, epilogue_backward
from .registration import operator

__all__ = ["fir_epilogue", "fits", "output_size", "upfirdn2d"]

ROWS = 4  # of the output that a program of the kernel makes
_MOST_TAPS = 12  # along an axis; the loops over taps are unrolled


def fits(x: Tensor, size: tuple[int, int], up: tuple[int, int], down: tuple[int, int]) -> bool:
    """Whether the kernel can filter with (width, height) taps, has the gradients, and should."""
    rates = all(ROWS * a % b == 0 for a, b in ((down[1], up[1]), (up[1], down[1])))
    return rates and max(size) <= _MOST_TAPS and x.numel() > 0 and use_triton(x)


def output_size(size: int, taps: int, up: int, down: int, before: int, after: int) -> int:
    """Pixels along an axis of which `size` go in."""
    return (size * up + before + after - taps) // down + 1


@operator
def upfirdn2d(
    x: Tensor,
    taps: Tensor,
    up: list[int],
    down: list[int],
    pad: list[int],
    reverse: bool,
    gain: float,
) -> Tensor:
    """One pass: zero insertion, padding, correlation with `taps`, decimation.

    Args:
        x: [N, C, H, W].
        taps: [height, width].
        up, down: [x, y].
        pad: [x0, x1, y0, y1].
        reverse: turn the taps around in both directions, which makes it a convolution.
        gain: factor of the result.

    Returns:
        [N, C, H', W'] in the dtype and layout of `x`, summed in float32 and rounded once.
    """
    from . import upfirdn2d_triton

    return upfirdn2d_triton.run(x, taps, up, down, pad, reverse, gain)


@operator
def fir_epilogue(
    x: Tensor,
    taps: Tensor,
    pad: list[int],
    reverse: bool,
    filter_gain: float,
    scale: Tensor | None,
    noise: Tensor | None,
    strength: Tensor | None,
    bias: Tensor | None,
    slope: float,
    gain: float,
    clamp: float | None,
) -> Tensor:
    """`epilogue(upfirdn2d(x, ...), ...)` in one pass, without rounding between."""
    from . import upfirdn2d_triton

    parts = (scale, noise, strength, bias, slope, gain, clamp)
    return upfirdn2d_triton.run(x, taps, [1, 1], [1, 1], pad, reverse, filter_gain, parts)


@torch.library.register_fake(upfirdn2d.name())
def _(x, taps, up, down, pad, reverse, gain):
    width = output_size(x.shape[3], taps.shape[1], up[0], down[0], *pad[:2])
    height = output_size(x.shape[2], taps.shape[0], up[1], down[1], *pad[2:])
    shape = (*x.shape[:2], height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=dense_format(x))


@torch.library.register_fake(fir_epilogue.name())
def _(x, taps, pad, reverse, filter_gain, scale, noise, strength, bias, slope, gain, clamp):
    return torch.empty_like(upfirdn2d(x, taps, [1, 1], [1, 1], pad, reverse, filter_gain))


def _adjoint(dy: Tensor, taps: Tensor, up, down, pad, reverse, gain, size) -> Tensor:
    """The gradient in x, whose (width, height) were `size`."""
    back = []
    for axis in range(2):
        before = pad[2 * axis]
        reach = size[axis] * up[axis] - dy.shape[3 - axis] * down[axis]
        back += [taps.shape[1 - axis] - before - 1, reach + before - up[axis] + 1]
    return upfirdn2d(dy, taps, down, up, back, not reverse, gain)


def _save(ctx, inputs, output) -> None:
    x, taps, *ctx.options = inputs
    ctx.save_for_backward(taps)
    ctx.size = x.shape[3], x.shape[2]


def _gradients(ctx, dy):
    (taps,) = ctx.saved_tensors
    return _adjoint(dy, taps, *ctx.options, ctx.size), *(None,) * 6


def _save_joined(ctx, inputs, output) -> None:
    x, taps, *ctx.options = inputs[:5]
    scale, noise, strength, bias, *ctx.shape_of_act = inputs[5:]
    slope, _, clamp = ctx.shape_of_act
    y = output if slope != 1 or clamp is not None else None
    needed = x if scale is not None and scale.requires_grad else None
    ctx.save_for_backward(y, taps, needed, scale, noise)
    ctx.size = x.shape[3], x.shape[2]
    ctx.dtypes = [None if t is None else t.dtype for t in (scale, strength, bias)]


def _joined_gradients(ctx, dy):
    y, taps, x, scale, noise = ctx.saved_tensors
    with_scale, _, with_strength, with_bias = ctx.needs_input_grad[5:9]
    noise = noise if with_strength else None
    du, db, _, dn = epilogue_backward(dy, y, None, None, noise, with_bias, *ctx.shape_of_act)
    # <du, filtered x> = <adjoint of du, x>: nothing needs to be filtered again.
    dx, ds = _adjoint(du, taps, (1, 1), (1, 1), *ctx.options, ctx.size), None
    if with_scale:
        dx, _, ds, _ = epilogue_backward(dx, None, x, scale, None, False, 1.0, 1.0, None)
    elif scale is not None:
        dx = epilogue(dx, scale, None, None, None, 1.0, 1.0, None)
    of_scale, of_strength, of_bias = ctx.dtypes
    return (
        dx,
        *(None,) * 4,
        ds.to(of_scale) if with_scale else None,
        None,
        dn.to(of_strength) if with_strength else None,
        db.to(of_bias) if with_bias else None,
        *(None,) * 3,
    )


torch.library.register_autograd(upfirdn2d.name(), _gradients, setup_context=_save)
torch.library.register_autograd(fir_epilogue.name(), _joined_gradients, setup_context=_save_joined)
