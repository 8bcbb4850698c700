"""Importance sampling of the volume renderer: one ray a program, in registers."""

import itertools

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import triplane_device as device
from .compile_gate import CompileCase
from .render_ops import Rule


@triton.jit
def piece(depths, sigma, number, count, bias, last_delta, RULE: tl.constexpr, CLAMP: tl.constexpr):
    """Absorbed and passed share of these pieces of a ray, 0 and 1 where there is none; and where
    there is one."""
    exists = (number >= 0) & (number < count - 1)
    length = tl.load(depths + number + 1, mask=exists, other=0.0)
    length -= tl.load(depths + number, mask=exists, other=0.0)
    if RULE == "classic":
        length = tl.where(exists, length, last_delta)
        exists = (number >= 0) & (number < count)
    raw = tl.load(sigma + number, mask=exists, other=0.0)
    if RULE == "midpoint":
        raw = device.of_piece(raw, tl.load(sigma + number + 1, mask=exists, other=0.0), RULE)
    absorbed, passed = device.absorption(raw, length, bias, CLAMP)
    return tl.where(exists, absorbed, 0.0), tl.where(exists, passed, 1.0), exists


@triton.jit
def weights_of(
    depths, sigma, number, count, bias, last_delta,
    RULE: tl.constexpr, CLAMP: tl.constexpr, SMOOTHING: tl.constexpr,
):  # fmt: skip
    """Weights of pieces plus 1e-5; or blurred as in mip-NeRF (Barron et al. 2021, equation 18),
    plus 0.01. Numbers begin with -1 or 0."""
    absorbed_before, passed, exists_before = piece(
        depths, sigma, number - 1, count, bias, last_delta, RULE, CLAMP
    )
    light = tl.cumprod(passed, 0)
    absorbed, passed, exists = piece(depths, sigma, number, count, bias, last_delta, RULE, CLAMP)
    if SMOOTHING:
        _, passed_before, _ = piece(depths, sigma, number - 2, count, bias, last_delta, RULE, CLAMP)
        absorbed_after, _, exists_after = piece(
            depths, sigma, number + 1, count, bias, last_delta, RULE, CLAMP
        )
        light_before = tl.cumprod(passed_before, 0)
        weight = tl.where(exists, absorbed * light, float("-inf"))
        before = tl.where(exists_before, absorbed_before * light_before, float("-inf"))
        after = tl.where(exists_after, absorbed_after * light * passed, float("-inf"))
        weights = (tl.maximum(before, weight) + tl.maximum(weight, after)) * 0.5 + 0.01
    else:
        weights = absorbed * light + 1e-5
    return weights


@triton.jit
def importance(
    depths, sigma, uniform, merged,
    coarse, fine, uniform_row, uniform_column, bias, last_delta,
    SIDE: tl.constexpr, CENTERED: tl.constexpr, SMOOTHING: tl.constexpr,
    RULE: tl.constexpr, CLAMP: tl.constexpr,
):  # fmt: skip
    """One ray a program: coarse depths and densities [coarse], quantiles [fine] -> all depths in
    ascending order, [coarse + fine]. SIDE is a power of two not below either number.

    Interval i lies between edges i - 1 and i, and the cdf at edge i is the sum up to it.
    """
    ray = tl.program_id(0).to(tl.int64)
    depths += ray * coarse
    sigma += ray * coarse
    number = tl.arange(0, SIDE)
    t = tl.load(depths + number, mask=number < coarse, other=float("inf"))
    if CENTERED:
        last = coarse - 1
        edges = t
        first = number - 1
    else:
        # The classic rule's samples lie between the edges. Of the other, segments come half an
        # interval nearer, and nothing in the last one and a half: as published.
        last = coarse - 2 if RULE == "classic" else coarse - 3
        after = tl.load(depths + number + 1, mask=number + 1 < coarse, other=0.0)
        edges = (t + after) * 0.5
        first = number
    weights = weights_of(depths, sigma, first, coarse, bias, last_delta, RULE, CLAMP, SMOOTHING)
    weights = tl.where((number >= 1) & (number <= last), weights + 1e-5, 0.0)
    cdf = tl.cumsum(weights / tl.sum(weights, 0), 0)
    edges = tl.where(number <= last, edges, 0.0)

    quantile = tl.load(
        uniform + ray * uniform_row + number * uniform_column, mask=number < fine, other=0.0
    )
    reached = (number <= last)[None, :] & (cdf[None, :] <= quantile[:, None])
    edge = tl.sum(reached.to(tl.int32), 1)
    below = tl.maximum(edge - 1, 0)[:, None] == number[None, :]
    above = tl.minimum(edge, last)[:, None] == number[None, :]
    cdf_below = tl.sum(tl.where(below, cdf[None, :], 0.0), 1)
    edge_below = tl.sum(tl.where(below, edges[None, :], 0.0), 1)
    mass = tl.sum(tl.where(above, cdf[None, :], 0.0), 1) - cdf_below
    width = tl.sum(tl.where(above, edges[None, :], 0.0), 1) - edge_below
    found = edge_below + (quantile - cdf_below) / tl.where(mass < 1e-5, 1.0, mass) * width
    found = tl.where(number < fine, found, float("inf"))

    ordered = tl.sort(tl.reshape(tl.join(t, found), [2 * SIDE]))  # what pads them comes last
    place = tl.arange(0, 2 * SIDE)
    tl.store(merged + ray * (coarse + fine) + place, ordered, mask=place < coarse + fine)


def importance_depths(
    depths: Tensor, sigma: Tensor, uniform: Tensor, centered: bool, smoothing: bool, rule: Rule
) -> Tensor:
    """See `render_ops.importance_depths`."""
    count, coarse = depths.shape
    fine = uniform.shape[1]
    depths, sigma = depths.contiguous(), sigma.contiguous()
    merged = torch.empty(count, coarse + fine, dtype=torch.float32, device=depths.device)
    side = triton.next_power_of_2(max(coarse, fine))
    importance[(count,)](
        depths, sigma, uniform, merged, coarse, fine, *uniform.stride(),
        rule.bias, rule.last_delta, SIDE=side, CENTERED=centered, SMOOTHING=smoothing,
        RULE=rule.name, CLAMP=rule.clamp, num_warps=_warps(side), num_stages=1,
    )  # fmt: skip
    return merged


def _warps(side: int) -> int:
    """The pairs of quantile and edge are to fit into registers."""
    return max(side // 16, 1)


def compile_cases() -> list[CompileCase]:
    """By the number of samples and the kind of bins."""
    cases = []
    tensors, sizes = "depths sigma uniform merged", "coarse fine uniform_row uniform_column"
    types = dict.fromkeys(tensors.split(), "*fp32") | dict.fromkeys(sizes.split(), "i32")
    types |= dict(bias="fp32", last_delta="fp32")
    kinds = {
        "reference": dict(CENTERED=False, SMOOTHING=True, RULE="midpoint"),
        "centered": dict(CENTERED=True, SMOOTHING=True, RULE="midpoint"),
        "classic": dict(CENTERED=False, SMOOTHING=False, RULE="classic"),
    }
    for side, (kind, constants) in itertools.product((32, 64, 128), kinds.items()):
        cases.append(
            CompileCase(
                name=f"importance, {side} {kind}",
                kernel=importance,
                types=types,
                constants=dict(constants, SIDE=side, CLAMP="softplus"),
                num_warps=_warps(side),
                num_stages=1,
                odd=tuple(sizes.split()),
            )
        )
    return cases
