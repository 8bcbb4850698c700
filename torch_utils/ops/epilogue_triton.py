"""Kernels of `epilogue_ops`. Imported when they first run.

A program takes `BLOCK_P` pixels times `BLOCK_C` channels of one sample, in the order of memory, so
that either layout is read and written in accesses of 16 bytes. Sums are made in two steps, a row a
program and then all rows, which gives the same bits every time.
"""

import itertools

import torch
import triton
import triton.language as tl
from torch import Tensor

from .compile_gate import CompileCase
from .epilogue_ops import dense_format, sum_dtype

__all__ = ["backward", "compile_cases", "finish", "forward"]

TILE = 2048  # values of a program at a time: 16 a thread
BACKWARD_TILE = 4096  # bytes; the sums of larger ones leave the registers
STEPS = 8  # tiles that a program of the backward pass takes one after the other


@triton.jit
def finish(u, gain: tl.constexpr, slope: tl.constexpr, clamp: tl.constexpr):
    """gain * act(u), clamped; NaN stays NaN."""
    if slope != 1:
        u = tl.where(u > 0, u, u * slope)
    u = u * gain
    if clamp is not None:
        edge = tl.full([], clamp, u.dtype)
        u = tl.where(u > edge, edge, u)
        u = tl.where(u < -edge, -edge, u)
    return u


@triton.jit
def add_terms(
    u, n, c, p, in_c, in_p, scale, noise, strength, bias, channels, pixels, NOISE_STEP: tl.constexpr
):
    """u [pixels, channels] * scale + noise * strength + bias, in the dtype of u."""
    if scale is not None:
        u *= tl.load(scale + n * channels + c, mask=in_c, other=0.0).to(u.dtype)[None, :]
    if noise is not None:
        drawn = tl.load(noise + n * NOISE_STEP * pixels + p, mask=in_p, other=0.0).to(u.dtype)
        if strength is not None:
            drawn *= tl.load(strength).to(u.dtype)
        u += drawn[:, None]
    if bias is not None:
        u += tl.load(bias + c, mask=in_c, other=0.0).to(u.dtype)[None, :]
    return u


@triton.jit
def forward_kernel(
    x,
    scale,
    noise,
    strength,
    bias,
    y,
    channels,
    pixels,
    NOISE_STEP: tl.constexpr,
    gain: tl.constexpr,
    slope: tl.constexpr,
    clamp: tl.constexpr,
    LAST: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """`epilogue` of a tile. `LAST`: channels-last. `NOISE_STEP`: 1 if every sample has its own."""
    n = tl.program_id(2).to(tl.int64)
    p = tl.program_id(0) * BLOCK_P + tl.arange(0, BLOCK_P)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_p, in_c = p < pixels, c < channels
    at = p[:, None] * channels + c[None, :] if LAST else c[None, :] * pixels + p[:, None]
    inside = in_p[:, None] & in_c[None, :]
    start = n * channels * pixels
    u = tl.load(x + start + at, mask=inside, other=0.0).to(SUM)
    u = add_terms(
        u, n, c, p, in_c, in_p, scale, noise, strength, bias, channels, pixels, NOISE_STEP
    )
    u = finish(u, gain, slope, clamp)
    tl.store(y + start + at, u.to(y.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    dy,
    y,
    x,
    scale,
    noise,
    dx,
    bias_sums,
    scale_sums,
    noise_sums,
    channels,
    pixels,
    NOISE_STEP: tl.constexpr,
    gain: tl.constexpr,
    slope: tl.constexpr,
    clamp: tl.constexpr,
    LAST: tl.constexpr,
    SUM: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
    STEPS: tl.constexpr,
):
    """`epilogue_backward` of `STEPS` tiles; sums are [N, programs along the pixels, C], those of
    the noise [N, programs along the pixels, programs along the channels]."""
    n = tl.program_id(2).to(tl.int64)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    in_c = c < channels
    start = n * channels * pixels
    sum_du = tl.zeros([BLOCK_P, BLOCK_C], SUM)
    sum_dux = tl.zeros([BLOCK_P, BLOCK_C], SUM)
    sum_noise = tl.zeros([BLOCK_P], SUM)
    for step in range(STEPS):
        p = (tl.program_id(0) * STEPS + step) * BLOCK_P + tl.arange(0, BLOCK_P)
        in_p = p < pixels
        at = p[:, None] * channels + c[None, :] if LAST else c[None, :] * pixels + p[:, None]
        inside = in_p[:, None] & in_c[None, :]
        du = tl.load(dy + start + at, mask=inside, other=0.0).to(SUM) * gain
        if y is not None:
            out = tl.load(y + start + at, mask=inside, other=0.0).to(SUM)
            if slope != 1:
                du = tl.where(out > 0, du, du * slope)
            if clamp is not None:
                # Rounded as the clamped outputs were.
                edge = tl.full([], clamp, SUM).to(y.dtype.element_ty).to(SUM)
                du = tl.where(tl.abs(out) < edge, du, 0.0)
        if bias_sums is not None:
            sum_du += du
        if scale_sums is not None:
            sum_dux += du * tl.load(x + start + at, mask=inside, other=0.0).to(SUM)
        if noise_sums is not None:
            drawn = tl.load(noise + n * NOISE_STEP * pixels + p, mask=in_p, other=0.0).to(SUM)
            sum_noise += tl.sum(du, 1) * drawn
        if scale is not None:
            du *= tl.load(scale + n * channels + c, mask=in_c, other=0.0).to(SUM)[None, :]
        tl.store(dx + start + at, du.to(dx.dtype.element_ty), mask=inside)
    row = n * tl.num_programs(0) + tl.program_id(0)
    if bias_sums is not None:
        tl.store(bias_sums + row * channels + c, tl.sum(sum_du, 0), mask=in_c)
    if scale_sums is not None:
        tl.store(scale_sums + row * channels + c, tl.sum(sum_dux, 0), mask=in_c)
    if noise_sums is not None:
        tl.store(noise_sums + row * tl.num_programs(1) + tl.program_id(1), tl.sum(sum_noise, 0))


def forward(x, scale, noise, strength, bias, slope, gain, clamp) -> Tensor:
    """See `epilogue_ops.epilogue`."""
    layout = dense_format(x)
    x = x.contiguous(memory_format=layout)
    y = torch.empty_like(x)
    sizes, constants = _tiling(x, layout, TILE)
    grid = (triton.cdiv(sizes[2], constants["BLOCK_P"]), *_rest(sizes, constants))
    forward_kernel[grid](
        x,
        _flat(scale),
        _flat(noise),
        strength,
        _flat(bias),
        y,
        sizes[1],
        sizes[2],
        NOISE_STEP=noise_step(noise),
        gain=gain,
        slope=slope,
        clamp=clamp,
        **constants,
    )
    return y


def backward(dy, y, x, scale, noise, with_bias, slope, gain, clamp) -> tuple[Tensor, ...]:
    """See `epilogue_ops.epilogue_backward`."""
    layout = dense_format(dy if y is None else y)
    dy, y, x = (None if t is None else t.contiguous(memory_format=layout) for t in (dy, y, x))
    dx = torch.empty_like(dy)
    sizes, constants = _tiling(dy, layout, BACKWARD_TILE // dy.itemsize)
    samples, channels, pixels = sizes
    grid = (triton.cdiv(pixels, constants["BLOCK_P"] * STEPS), *_rest(sizes, constants))
    sums = dict(dtype=sum_dtype(dy.dtype), device=dy.device)
    per_channel = (samples, grid[0], channels)
    of_bias = torch.empty(per_channel, **sums) if with_bias else None
    of_scale = torch.empty(per_channel, **sums) if x is not None else None
    of_noise = torch.empty(samples, *grid[:2], **sums) if noise is not None else None
    backward_kernel[grid](
        dy,
        y,
        x,
        _flat(scale),
        _flat(noise),
        dx,
        of_bias,
        of_scale,
        of_noise,
        channels,
        pixels,
        NOISE_STEP=noise_step(noise),
        gain=gain,
        slope=slope,
        clamp=clamp,
        STEPS=STEPS,
        **constants,
    )
    nothing = torch.empty(0, **sums)
    db = nothing if of_bias is None else of_bias.sum((0, 1))
    dn = nothing.clone() if of_noise is None else of_noise.sum()
    ds = nothing.clone()
    if of_scale is not None:
        ds = of_scale.sum(1)
    return dx, db, ds, dn


def _tiling(x: Tensor, layout: torch.memory_format, tile: int) -> tuple[tuple[int, ...], dict]:
    """(samples, channels, pixels) and the constants of a launch. A matrix [N, C] is one sample of
    N pixels, channels-last."""
    if x.ndim == 2:
        sizes, last = (1, x.shape[1], x.shape[0]), True
    else:
        sizes = x.shape[0], x.shape[1], x.shape[2] * x.shape[3]
        last = layout == torch.channels_last
    number = tl.float64 if x.dtype == torch.float64 else tl.float32
    return sizes, dict(LAST=last, SUM=number, **_blocks(*sizes[1:], last, tile))


def _blocks(channels: int, pixels: int, last: bool, tile: int) -> dict[str, int]:
    """Sides of a tile: long along memory, the other way as far as there is something."""
    inner, outer = (channels, pixels) if last else (pixels, channels)
    along = min(triton.next_power_of_2(inner), 64 if last else 256)
    across = min(triton.next_power_of_2(outer), tile // along)
    return dict(BLOCK_P=across, BLOCK_C=along) if last else dict(BLOCK_P=along, BLOCK_C=across)


def _rest(sizes, constants) -> tuple[int, int]:
    return triton.cdiv(sizes[1], constants["BLOCK_C"]), sizes[0]


def _flat(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def noise_step(noise: Tensor | None) -> int:
    return int(noise is not None and noise.ndim == 4 and noise.shape[0] > 1)


def compile_cases() -> list[CompileCase]:
    """The full form as generators use it, and the discriminator's, in both layouts."""
    act = dict(gain=2**0.5, slope=0.2, clamp=256.0)
    cases = []
    for kind, last in itertools.product(("fp16", "bf16", "fp32"), (True, False)):
        shared = dict(NOISE_STEP=1, LAST=last, SUM=tl.float32, **act)
        of_backward = BACKWARD_TILE // (4 if kind == "fp32" else 2)
        tile, smaller = (_blocks(64, 512**2, last, size) for size in (TILE, of_backward))
        data, sums, sizes = f"*{kind}", "*fp32", dict(channels="i32", pixels="i32")
        layout = "channels-last" if last else "NCHW"
        vectors = dict(scale="*fp32", noise="*fp32", strength="*fp32", bias="*fp32")
        cases.append(
            CompileCase(
                name=f"epilogue, {kind} {layout}",
                kernel=forward_kernel,
                types=dict(x=data, y=data, **vectors, **sizes),
                constants=dict(**shared, **tile),
            )
        )
        rows = dict(bias_sums=sums, scale_sums=sums, noise_sums=sums)
        inputs = dict(dy=data, y=data, x=data, dx=data, scale=sums, noise=sums)
        cases.append(
            CompileCase(
                name=f"epilogue backward, {kind} {layout}",
                kernel=backward_kernel,
                types=dict(**inputs, **rows, **sizes),
                constants=dict(STEPS=STEPS, **shared, **smaller),
            )
        )
    return cases
