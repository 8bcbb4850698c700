"""The kernel of `upfirdn2d_ops`. Imported when it first runs.

A program makes four rows of the output, some columns wide, of some channels. It reads every row
of the input below them once and adds it to all of the four that it reaches, so that a 4x4 filter
costs 7 reads a value instead of 16; the columns that taps share come from the cache.
"""

import itertools

import torch
import triton
import triton.language as tl
from torch import Tensor

from .compile_gate import CompileCase
from .epilogue_ops import dense_format
from .epilogue_triton import add_terms, finish, noise_step
from .upfirdn2d_ops import ROWS, output_size

__all__ = ["compile_cases", "run"]

# An epilogue that changes nothing: scale, noise, strength, bias, slope, gain, clamp.
NOTHING = (None, None, None, None, 1.0, 1.0, None)


@triton.jit
def add_tap(
    acc,
    values,
    taps,
    kx,
    ONE_COLUMN: tl.constexpr,
    KY: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """acc + values * taps[KY, kx], or acc where the filter has no such row."""
    if KY >= 0 and KY < HEIGHT:
        at = KY * WIDTH + kx
        if REVERSE:
            at = HEIGHT * WIDTH - 1 - at
        if ONE_COLUMN:
            acc += values * tl.load(taps + at).to(acc.dtype)
        else:
            weight = tl.load(taps + at, mask=kx < WIDTH, other=0.0)
            acc += values * weight.to(acc.dtype)[:, None]
    return acc


@triton.jit
def store_row(
    acc,
    y,
    row,
    ox,
    c,
    n,
    channels,
    height,
    width,
    scale,
    noise,
    strength,
    bias,
    NOISE_STEP: tl.constexpr,
    filter_gain: tl.constexpr,
    gain: tl.constexpr,
    slope: tl.constexpr,
    clamp: tl.constexpr,
    LAST: tl.constexpr,
):
    """The epilogue of one row of the output, and where it goes."""
    pixels = height * width
    p = row * width + ox
    in_p, in_c = (ox < width) & (row < height), c < channels
    acc = add_terms(
        acc * filter_gain,
        n,
        c,
        p,
        in_c,
        in_p,
        scale,
        noise,
        strength,
        bias,
        channels,
        pixels,
        NOISE_STEP,
    )
    acc = finish(acc, gain, slope, clamp)
    at = p[:, None] * channels + c[None, :] if LAST else c[None, :] * pixels + p[:, None]
    at += n * channels * pixels
    tl.store(y + at, acc.to(y.dtype.element_ty), mask=in_p[:, None] & in_c[None, :])


@triton.jit
def upfirdn2d_kernel(
    x,
    taps,
    scale,
    noise,
    strength,
    bias,
    y,
    channels,
    in_height,
    in_width,
    out_height,
    out_width,
    column_blocks,
    NOISE_STEP: tl.constexpr,
    filter_gain: tl.constexpr,
    gain: tl.constexpr,
    slope: tl.constexpr,
    clamp: tl.constexpr,
    REVERSE: tl.constexpr,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    UP_X: tl.constexpr,
    UP_Y: tl.constexpr,
    DOWN_X: tl.constexpr,
    DOWN_Y: tl.constexpr,
    PAD_X: tl.constexpr,
    PAD_Y: tl.constexpr,
    LAST: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK_X: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Four rows times `BLOCK_X` columns times `BLOCK_C` channels of the output of a sample.

    Row j of the window is a row of the input if `UP_Y` divides j - PAD_Y: the zeros between are
    never read. Along x, that is decided for every column.
    """
    n = tl.program_id(2).to(tl.int64)
    # A vector of the same number: Triton's interpreter spoils masks made with scalars.
    first = tl.program_id(0) // column_blocks * 4 + tl.zeros([BLOCK_X], tl.int32)
    ox = tl.program_id(0) % column_blocks * BLOCK_X + tl.arange(0, BLOCK_X)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    start = x + n * channels * in_height * in_width
    # The first tap of each column that meets no inserted zero.
    phase = (PAD_X - ox * DOWN_X) % UP_X
    phase = tl.where(phase < 0, phase + UP_X, phase)
    y0 = tl.zeros([BLOCK_X, BLOCK_C], SUM)
    y1 = tl.zeros([BLOCK_X, BLOCK_C], SUM)
    y2 = tl.zeros([BLOCK_X, BLOCK_C], SUM)
    y3 = tl.zeros([BLOCK_X, BLOCK_C], SUM)
    for j in tl.static_range(3 * DOWN_Y + HEIGHT):
        if (j - PAD_Y) % UP_Y == 0:
            iy = first * DOWN_Y // UP_Y + (j - PAD_Y) // UP_Y
            for i in tl.static_range((WIDTH + UP_X - 1) // UP_X):
                kx = i if UP_X == 1 else phase + i * UP_X
                ix = (ox * DOWN_X + kx - PAD_X) // UP_X  # without remainder
                inside = (ix >= 0) & (ix < in_width) & (iy >= 0) & (iy < in_height)
                p = iy * in_width + ix
                at = p[:, None] * channels + c[None, :]
                if not LAST:
                    at = c[None, :] * (in_height * in_width) + p[:, None]
                v = tl.load(start + at, mask=inside[:, None] & in_c[None, :], other=0.0).to(SUM)
                y0 = add_tap(y0, v, taps, kx, UP_X == 1, j, HEIGHT, WIDTH, REVERSE)
                y1 = add_tap(y1, v, taps, kx, UP_X == 1, j - DOWN_Y, HEIGHT, WIDTH, REVERSE)
                y2 = add_tap(y2, v, taps, kx, UP_X == 1, j - 2 * DOWN_Y, HEIGHT, WIDTH, REVERSE)
                y3 = add_tap(y3, v, taps, kx, UP_X == 1, j - 3 * DOWN_Y, HEIGHT, WIDTH, REVERSE)
    for r in tl.static_range(4):
        acc = y0 if r == 0 else (y1 if r == 1 else (y2 if r == 2 else y3))
        store_row(
            acc,
            y,
            first + r,
            ox,
            c,
            n,
            channels,
            out_height,
            out_width,
            scale,
            noise,
            strength,
            bias,
            NOISE_STEP,
            filter_gain,
            gain,
            slope,
            clamp,
            LAST,
        )


def run(x: Tensor, taps: Tensor, up, down, pad, reverse, filter_gain, parts=NOTHING) -> Tensor:
    """See `upfirdn2d_ops`; `parts` are the operands of an epilogue."""
    layout = dense_format(x)
    last = layout == torch.channels_last
    x, taps = x.contiguous(memory_format=layout), taps.contiguous()
    scale, noise, strength, bias, slope, gain, clamp = parts
    scale, noise, bias = (None if t is None else t.contiguous() for t in (scale, noise, bias))
    samples, channels, in_height, in_width = x.shape
    width = output_size(in_width, taps.shape[1], up[0], down[0], *pad[:2])
    height = output_size(in_height, taps.shape[0], up[1], down[1], *pad[2:])
    shape = (samples, channels, height, width)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    tile = tile_of(channels, width, last)
    column_blocks = triton.cdiv(width, tile["BLOCK_X"])
    grid = (
        column_blocks * triton.cdiv(height, ROWS),
        triton.cdiv(channels, tile["BLOCK_C"]),
        samples,
    )
    upfirdn2d_kernel[grid](
        x,
        taps,
        scale,
        noise,
        strength,
        bias,
        y,
        channels,
        in_height,
        in_width,
        height,
        width,
        column_blocks,
        NOISE_STEP=noise_step(noise),
        filter_gain=filter_gain,
        gain=gain,
        slope=slope,
        clamp=clamp,
        REVERSE=reverse,
        HEIGHT=taps.shape[0],
        WIDTH=taps.shape[1],
        UP_X=up[0],
        UP_Y=up[1],
        DOWN_X=down[0],
        DOWN_Y=down[1],
        PAD_X=pad[0],
        PAD_Y=pad[2],
        LAST=last,
        SUM=tl.float64 if x.dtype == torch.float64 else tl.float32,
        **tile,
    )
    return y


def tile_of(channels: int, width: int, last: bool) -> dict[str, int]:
    """Sides of a tile: long along memory, and as large as the registers hold."""
    inner, outer, tile = (channels, width, 1024) if last else (width, channels, 256)
    along = min(triton.next_power_of_2(inner), 64 if last else 128)
    across = min(triton.next_power_of_2(outer), tile // along)
    return dict(BLOCK_X=across, BLOCK_C=along) if last else dict(BLOCK_X=along, BLOCK_C=across)


def compile_cases() -> list[CompileCase]:
    """The 4x4 filter as networks use it: after up-convolutions with everything that follows,
    before down-convolutions, and up and down by two."""
    nothing = dict(scale=None, noise=None, strength=None, bias=None)
    vectors = dict.fromkeys(nothing, "*fp32")
    plain = dict(gain=1.0, slope=1.0, clamp=None, **nothing)
    joined = dict(gain=2**0.5, slope=0.2, clamp=256.0)
    uses = {
        "FIR and epilogue": (joined, (1, 1), 1),
        "FIR": (plain, (1, 1), 2),
        "FIR up 2": (plain, (2, 1), 2),
        "FIR down 2": (plain, (1, 2), 1),
    }
    cases = []
    for (what, (parts, rates, pad)), kind, last in itertools.product(
        uses.items(), ("fp16", "fp32"), (True, False)
    ):
        (up, down), types = rates, dict(x=f"*{kind}", y=f"*{kind}", taps="*fp32")
        sizes = ("channels", "in_height", "in_width", "out_height", "out_width", "column_blocks")
        constants = dict(
            NOISE_STEP=1,
            filter_gain=4.0,
            REVERSE=True,
            HEIGHT=4,
            WIDTH=4,
            **dict(UP_X=up, UP_Y=up, DOWN_X=down, DOWN_Y=down, PAD_X=pad, PAD_Y=pad),
            LAST=last,
            SUM=tl.float32,
            **tile_of(64, 512, last),
            **parts,
        )
        types |= {name: kind for name, kind in vectors.items() if name not in constants}
        cases.append(
            CompileCase(
                name=f"{what}, {kind} {'channels-last' if last else 'NCHW'}",
                kernel=upfirdn2d_kernel,
                types=types | dict.fromkeys(sizes, "i32"),
                constants=constants,
                odd=sizes[1:],
            )
        )
    return cases
