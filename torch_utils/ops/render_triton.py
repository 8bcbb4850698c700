"""Kernels for rays: compositing while decoding, and its gradient.

A tile is BLOCK rays that go along their samples together, front to back; of a sample only what the
next segment needs is kept. So memory grows with rays, not samples.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import triplane_device as device
from .render_ops import Rule
from .triplane_ops import How, empty_gradients
from .triplane_triton import (
    PRODUCTS,
    Layers,
    Rays,
    backward,
    dense,
    shape_constants,
    stored,
)

BLOCK = 16  # rays a tile; 32 of them would not fit into registers
WARPS = 4
# Of the backward pass. In one stage ptxas would rather spill than use more than 128 registers.
STAGES = {"float32": 1, "tf32": 2, "float16": 1}


@triton.jit
def load_rays(origins, directions, ray, inside, scale):
    """Origins x, y, z and directions x, y, z of rays, [BLOCK] each, where planes cover the cube
    [-1, 1]^3."""
    o, d = origins + 3 * ray, directions + 3 * ray
    return (
        tl.load(o, mask=inside, other=0.0) * scale,
        tl.load(o + 1, mask=inside, other=0.0) * scale,
        tl.load(o + 2, mask=inside, other=0.0) * scale,
        tl.load(d, mask=inside, other=0.0) * scale,
        tl.load(d + 1, mask=inside, other=0.0) * scale,
        tl.load(d + 2, mask=inside, other=0.0) * scale,
    )


@triton.jit
def decode_at(
    planes, rays, t, inside, layers,
    AXES: tl.constexpr, SIZES: tl.constexpr, C: tl.constexpr,
    ACTIVATION: tl.constexpr, COLOURING: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Colours [BLOCK, COLOURS] and densities [BLOCK] at depths t [BLOCK] of rays."""
    ox, oy, oz, dx, dy, dz = rays
    w1, b1, w_sigma, b_sigma, w2, b2 = layers
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    features = device.gather(planes, x, y, z, inside, AXES, SIZES, C)
    hidden = device.activate(device.hidden_layer(features, w1, b1, PRECISION), ACTIVATION)
    colours = device.colour(hidden, w2, b2, COLOURING, PRECISION)
    return colours, device.density(hidden, w_sigma, b_sigma)


@triton.jit
def composite_forward(
    planes, w1, b1, w2, b2,
    origins, directions, depths,
    features, total, distance, left,
    count, samples, scale, bias, last_delta,
    AXES: tl.constexpr, SIZES: tl.constexpr, TEXELS: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr,
    ACTIVATION: tl.constexpr, COLOURING: tl.constexpr, RULE: tl.constexpr, CLAMP: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of `count` rays a scene: sums over pieces of weight times colour [N, count, COLOURS], of
    weights, of weight times depth, and the light that is left, [N, count] each."""
    scene = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    ray = scene * count + at
    layers = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    planes += scene * (TEXELS * C)
    rays = load_rays(origins, directions, ray, inside, scale)
    depths += ray * samples

    sum_colours = tl.zeros([BLOCK, COLOURS], tl.float32)
    sum_weights = tl.zeros([BLOCK], tl.float32)
    sum_depths = tl.zeros([BLOCK], tl.float32)
    light = tl.full([BLOCK], 1.0, tl.float32)
    t = tl.load(depths, mask=inside, other=0.0)
    colours, density = decode_at(
        planes, rays, t, inside, layers, AXES, SIZES, C, ACTIVATION, COLOURING, PRECISION
    )
    for k in range(1, samples):
        next_t = tl.load(depths + k, mask=inside, other=0.0)
        next_colours, next_density = decode_at(
            planes, rays, next_t, inside, layers, AXES, SIZES, C, ACTIVATION, COLOURING, PRECISION
        )
        raw = device.of_piece(density, next_density, RULE)
        absorbed, passed = device.absorption(raw, next_t - t, bias, CLAMP)
        weight = absorbed * light
        sum_colours += weight[:, None] * device.of_piece(colours, next_colours, RULE)
        sum_weights += weight
        sum_depths += weight * device.of_piece(t, next_t, RULE)
        light *= passed
        t, colours, density = next_t, next_colours, next_density
    tl.store(left + ray, light, mask=inside)
    if RULE == "classic":
        weight = device.absorption(density, last_delta, bias, CLAMP)[0] * light
        sum_colours += weight[:, None] * colours
        sum_weights += weight
        sum_depths += weight * t
    tl.store(total + ray, sum_weights, mask=inside)
    tl.store(distance + ray, sum_depths, mask=inside)
    offsets = (ray * COLOURS)[:, None] + tl.arange(0, COLOURS)[None, :]
    tl.store(features + offsets, sum_colours, mask=inside[:, None])


@triton.jit
def composite_backward(
    planes, w1, b1, w2, b2,
    origins, directions, depths,
    g_features, g_total, g_distance, rest,
    shares, g_sigma,
    count, samples, scale, bias, last_delta,
    AXES: tl.constexpr, SIZES: tl.constexpr, TEXELS: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr,
    ACTIVATION: tl.constexpr, COLOURING: tl.constexpr, RULE: tl.constexpr, CLAMP: tl.constexpr,
    BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of every sample, [N, count, samples]: its share of the ray's colours, and the gradient of its
    density.

    With q the gradient of a piece's weight w, E = exp(-thickness) and T the light before it,
    d loss / d thickness = E T q - E / (E + 1e-10) * (sum of w q over later pieces). The sum over
    all pieces and the light that is left, `rest` [N, count], follows from the forward pass's
    results, so that one pass front to back is enough. The light that is left depends on all pieces
    but the classic rule's last.
    """
    scene = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    ray = scene * count + at
    layers = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    planes += scene * (TEXELS * C)
    rays = load_rays(origins, directions, ray, inside, scale)
    offsets = (ray * COLOURS)[:, None] + tl.arange(0, COLOURS)[None, :]
    g_colours = tl.load(g_features + offsets, mask=inside[:, None], other=0.0)
    g_weight = tl.load(g_total + ray, mask=inside, other=0.0)
    g_depth = tl.load(g_distance + ray, mask=inside, other=0.0)
    later = tl.load(rest + ray, mask=inside, other=0.0)
    depths += ray * samples
    shares += ray * samples
    g_sigma += ray * samples

    light = tl.full([BLOCK], 1.0, tl.float32)
    weight_before, slope_before = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    t = tl.load(depths, mask=inside, other=0.0)
    colours, density = decode_at(
        planes, rays, t, inside, layers, AXES, SIZES, C, ACTIVATION, COLOURING, PRECISION
    )
    value = tl.sum(colours * g_colours, 1)
    for k in range(1, samples):
        next_t = tl.load(depths + k, mask=inside, other=0.0)
        next_colours, next_density = decode_at(
            planes, rays, next_t, inside, layers, AXES, SIZES, C, ACTIVATION, COLOURING, PRECISION
        )
        next_value = tl.sum(next_colours * g_colours, 1)
        raw = device.of_piece(density, next_density, RULE)
        absorbed, passed = device.absorption(raw, next_t - t, bias, CLAMP)
        weight = absorbed * light
        at_depth = g_depth * device.of_piece(t, next_t, RULE)
        gain = device.of_piece(value, next_value, RULE) + g_weight + at_depth
        later -= weight * gain
        slope = (1.0 - absorbed) * (light * gain - later / passed)
        slope *= (next_t - t) * device.density_slope(raw, bias, CLAMP)
        if RULE == "midpoint":  # half of a piece's each to its ends
            weight *= 0.5
            slope *= 0.5
            tl.store(shares + (k - 1), weight_before + weight, mask=inside)
            tl.store(g_sigma + (k - 1), slope_before + slope, mask=inside)
        else:
            tl.store(shares + (k - 1), weight, mask=inside)
            tl.store(g_sigma + (k - 1), slope, mask=inside)
        light *= passed
        t, value, density, weight_before, slope_before = (
            next_t, next_value, next_density, weight, slope
        )  # fmt: skip
    if RULE == "classic":
        absorbed, _ = device.absorption(density, last_delta, bias, CLAMP)
        weight_before = absorbed * light
        slope_before = (1.0 - absorbed) * light * (value + g_weight + g_depth * t)
        slope_before *= last_delta * device.density_slope(density, bias, CLAMP)
    tl.store(shares + (samples - 1), weight_before, mask=inside)
    tl.store(g_sigma + (samples - 1), slope_before, mask=inside)


def composite(
    planes: Tensor, layers: Layers, rays: Rays, how: How, rule: Rule
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `render_ops.composite`."""
    planes, layers, rays = stored(planes, how), dense(layers), dense(rays)
    n, count, samples = rays[2].shape
    features = rays[2].new_empty(n, count, len(layers[3]) - 1)
    total, distance, left = (rays[2].new_empty(n, count) for _ in range(3))
    composite_forward[_grid(n, count)](
        planes, *layers, *rays, features, total, distance, left, count, samples, how.scale,
        rule.bias, rule.last_delta, RULE=rule.name, CLAMP=rule.clamp,
        PRECISION=PRODUCTS[how.precision][0], **shape_constants(how, planes, layers),
        BLOCK=BLOCK, num_warps=WARPS, num_stages=1,
    )  # fmt: skip
    return features, total, distance, left


def composite_gradients(
    grads: Sequence[Tensor],
    planes: Tensor,
    layers: Layers,
    rays: Rays,
    how: How,
    rule: Rule,
    needed: Sequence[bool],
) -> list[Tensor]:
    """See `render_ops.composite_backward`."""
    with_rays = needed[5] or needed[6]
    found = empty_gradients((planes, *layers, *rays[:2]), [*needed[:5], with_rays, with_rays])
    for g in (found[0], *found[5:]):
        g.zero_()
    planes, layers, rays, grads = stored(planes, how), dense(layers), dense(rays), dense(grads)
    n, count, samples = rays[2].shape
    shares, g_sigma = torch.empty_like(rays[2]), torch.empty_like(rays[2])
    composite_backward[_grid(n, count)](
        planes, *layers, *rays, *grads, shares, g_sigma, count, samples, how.scale,
        rule.bias, rule.last_delta, RULE=rule.name, CLAMP=rule.clamp,
        PRECISION=PRODUCTS[how.precision][0], **shape_constants(how, planes, layers),
        BLOCK=BLOCK, num_warps=WARPS, num_stages=STAGES[how.precision],
    )  # fmt: skip
    grads = (grads[0], shares, g_sigma)
    wanted = (found[0] if needed[0] else None, *(found[5:] if with_rays else (None, None)))
    found[1:5] = backward(grads, planes, layers, rays, how, wanted, any(needed[1:5]))
    return found


def _grid(n: int, count: int) -> tuple[int, int]:
    return triton.cdiv(count, BLOCK), n
