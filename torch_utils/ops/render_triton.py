"""Kernels for rays: importance sampling, compositing while decoding, and its gradient.

A tile is BLOCK rays that go along their samples together, front to back; of a sample only what the
next segment needs is kept. So memory grows with rays, not samples.
"""

import itertools

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import triplane_device as device
from .compile_gate import CompileCase
from .triplane_ops import empty_gradients
from .triplane_triton import (
    AXES,
    PRODUCTS,
    PUBLISHED,
    RAYS,
    Layers,
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
def absorption(density, next_density, length):
    """Share of light that a segment absorbs, and what passes: its density is the softplus of the
    mean of its ends - 1, and 1e-10 of the light passes whatever it is."""
    thickness = device.softplus((density + next_density) * 0.5 - 1.0) * length
    absorbed = 1.0 - tl.exp(-thickness)
    return absorbed, (1.0 - absorbed) + 1e-10


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
    AXES: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Colours [BLOCK, COLOURS] and densities [BLOCK] at depths t [BLOCK] of rays."""
    ox, oy, oz, dx, dy, dz = rays
    w1, b1, w_sigma, b_sigma, w2, b2 = layers
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    features = device.gather(planes, x, y, z, inside, AXES, H, W, C)
    hidden = device.softplus(device.hidden_layer(features, w1, b1, PRECISION))
    colours = device.widened(device.colour_sigmoid(hidden, w2, b2, PRECISION))
    return colours, device.density(hidden, w_sigma, b_sigma)


@triton.jit
def composite_forward(
    planes, w1, b1, w2, b2,
    origins, directions, depths,
    features, total, distance,
    count, samples, scale,
    AXES: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of `count` rays a scene: sums over segments of weight times colour [N, count, COLOURS], of
    weights, and of weight times depth, [N, count] each."""
    scene = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    ray = scene * count + at
    layers = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    planes += scene * ((len(AXES) // 2) * H * W * C)
    rays = load_rays(origins, directions, ray, inside, scale)
    depths += ray * samples

    sum_colours = tl.zeros([BLOCK, COLOURS], tl.float32)
    sum_weights = tl.zeros([BLOCK], tl.float32)
    sum_depths = tl.zeros([BLOCK], tl.float32)
    light = tl.full([BLOCK], 1.0, tl.float32)
    t = tl.load(depths, mask=inside, other=0.0)
    colours, density = decode_at(planes, rays, t, inside, layers, AXES, H, W, C, PRECISION)
    for k in range(1, samples):
        next_t = tl.load(depths + k, mask=inside, other=0.0)
        next_colours, next_density = decode_at(
            planes, rays, next_t, inside, layers, AXES, H, W, C, PRECISION
        )
        absorbed, passed = absorption(density, next_density, next_t - t)
        weight = absorbed * light
        sum_colours += (weight * 0.5)[:, None] * (colours + next_colours)
        sum_weights += weight
        sum_depths += weight * ((t + next_t) * 0.5)
        light *= passed
        t, colours, density = next_t, next_colours, next_density
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
    count, samples, scale,
    AXES: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Of every sample, [N, count, samples]: its share of the ray's colours, and the gradient of its
    density.

    With q the gradient of a segment's weight w, E = exp(-thickness) and T the light before it,
    d loss / d thickness = E T q - E / (E + 1e-10) * (sum of w q over later segments). The sum over
    all segments, `rest` [N, count], follows from the forward pass's results, so that one pass front
    to back is enough.
    """
    scene = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    ray = scene * count + at
    layers = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    planes += scene * ((len(AXES) // 2) * H * W * C)
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
    colours, density = decode_at(planes, rays, t, inside, layers, AXES, H, W, C, PRECISION)
    value = tl.sum(colours * g_colours, 1)
    for k in range(1, samples):
        next_t = tl.load(depths + k, mask=inside, other=0.0)
        next_colours, next_density = decode_at(
            planes, rays, next_t, inside, layers, AXES, H, W, C, PRECISION
        )
        next_value = tl.sum(next_colours * g_colours, 1)
        absorbed, passed = absorption(density, next_density, next_t - t)
        weight = absorbed * light
        gain = (value + next_value) * 0.5 + g_weight + g_depth * ((t + next_t) * 0.5)
        later -= weight * gain
        slope = (1.0 - absorbed) * (light * gain - later / passed)
        slope *= 0.5 * (next_t - t) * tl.sigmoid((density + next_density) * 0.5 - 1.0)
        tl.store(shares + (k - 1), (weight_before + weight) * 0.5, mask=inside)
        tl.store(g_sigma + (k - 1), slope_before + slope, mask=inside)
        light *= passed
        t, value, density, weight_before, slope_before = (
            next_t, next_value, next_density, weight, slope
        )  # fmt: skip
    tl.store(shares + (samples - 1), weight_before * 0.5, mask=inside)
    tl.store(g_sigma + (samples - 1), slope_before, mask=inside)


@triton.jit
def segment(depths, sigma, number, count):
    """Absorbed and passed share of these segments of a ray: 0 and 1 where there is none."""
    exists = (number >= 0) & (number < count - 1)
    absorbed, passed = absorption(
        tl.load(sigma + number, mask=exists, other=0.0),
        tl.load(sigma + number + 1, mask=exists, other=0.0),
        tl.load(depths + number + 1, mask=exists, other=0.0)
        - tl.load(depths + number, mask=exists, other=0.0),
    )
    return tl.where(exists, absorbed, 0.0), tl.where(exists, passed, 1.0), exists


@triton.jit
def smoothed_weights(depths, sigma, number, count):
    """Weights of segments, blurred as in mip-NeRF (Barron et al. 2021, equation 18), plus 0.01."""
    _, passed_before, _ = segment(depths, sigma, number - 2, count)
    absorbed_before, passed, exists_before = segment(depths, sigma, number - 1, count)
    light_before = tl.cumprod(passed_before, 0)
    light = tl.cumprod(passed, 0)
    absorbed, passed, exists = segment(depths, sigma, number, count)
    absorbed_after, _, exists_after = segment(depths, sigma, number + 1, count)
    weight = tl.where(exists, absorbed * light, float("-inf"))
    before = tl.where(exists_before, absorbed_before * light_before, float("-inf"))
    after = tl.where(exists_after, absorbed_after * light * passed, float("-inf"))
    return (tl.maximum(before, weight) + tl.maximum(weight, after)) * 0.5 + 0.01


@triton.jit
def importance(
    depths, sigma, uniform, merged,
    coarse, fine, uniform_row, uniform_column,
    SIDE: tl.constexpr, CENTERED: tl.constexpr,
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
        weights = smoothed_weights(depths, sigma, number - 1, coarse)
    else:
        # Half an interval nearer, and nothing in the last one and a half: as published.
        last = coarse - 3
        after = tl.load(depths + number + 1, mask=number + 1 < coarse, other=0.0)
        edges = (t + after) * 0.5
        weights = smoothed_weights(depths, sigma, number, coarse)
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


def importance_depths(depths: Tensor, sigma: Tensor, uniform: Tensor, centered: bool) -> Tensor:
    """See `render_ops.importance_depths`."""
    count, coarse = depths.shape
    fine = uniform.shape[1]
    depths, sigma = depths.contiguous(), sigma.contiguous()
    merged = torch.empty(count, coarse + fine, dtype=torch.float32, device=depths.device)
    side = triton.next_power_of_2(max(coarse, fine))
    importance[(count,)](
        depths, sigma, uniform, merged, coarse, fine, *uniform.stride(),
        SIDE=side, CENTERED=centered, num_warps=_importance_warps(side), num_stages=1,
    )  # fmt: skip
    return merged


def _importance_warps(side: int) -> int:
    """The pairs of quantile and edge are to fit into registers."""
    return max(side // 16, 1)


def composite(
    planes: Tensor, layers: Layers, rays: tuple[Tensor, Tensor, Tensor], axes, scale, precision
) -> tuple[Tensor, Tensor, Tensor]:
    """See `render_ops.composite`."""
    n, count, samples = rays[2].shape
    features = rays[2].new_empty(n, count, len(layers[3]) - 1)
    total, distance = rays[2].new_empty(n, count), rays[2].new_empty(n, count)
    planes, layers, rays = stored(planes, precision), dense(layers), dense(rays)
    composite_forward[_grid(n, count)](
        planes, *layers, *rays, features, total, distance, count, samples, scale,
        PRECISION=PRODUCTS[precision][0], **shape_constants(axes, planes, layers),
        BLOCK=BLOCK, num_warps=WARPS, num_stages=1,
    )  # fmt: skip
    return features, total, distance


def composite_gradients(
    grads, planes, layers, rays, axes, scale, precision, needed
) -> list[Tensor]:
    """See `render_ops.composite_backward`."""
    n, count, samples = rays[2].shape
    with_rays = needed[5] or needed[6]
    found = empty_gradients((planes, *layers, *rays[:2]), [*needed[:5], with_rays, with_rays])
    for g in (found[0], *found[5:]):
        g.zero_()
    planes, layers, rays = stored(planes, precision), dense(layers), dense(rays)
    shares, g_sigma = torch.empty_like(rays[2]), torch.empty_like(rays[2])
    grads = dense(grads)
    composite_backward[_grid(n, count)](
        planes, *layers, *rays, *grads, shares, g_sigma, count, samples, scale,
        PRECISION=PRODUCTS[precision][0], **shape_constants(axes, planes, layers),
        BLOCK=BLOCK, num_warps=WARPS, num_stages=STAGES[precision],
    )  # fmt: skip
    g_planes = found[0] if needed[0] else None
    g_rays = tuple(found[5:]) if with_rays else (None, None)
    found[1:5] = backward(
        planes, layers, rays, grads[0], shares, g_sigma, g_planes, any(needed[1:5]), g_rays,
        axes, scale, precision,
    )  # fmt: skip
    return found


def _grid(n: int, count: int) -> tuple[int, int]:
    return triton.cdiv(count, BLOCK), n


def compile_cases() -> list[CompileCase]:
    """Composites in each precision and with both kinds of axes; importance sampling by size."""
    cases = []
    names = "features total distance g_features g_total g_distance rest shares g_sigma origins"
    for (precision, (product, _)), (kind, axes) in itertools.product(
        PRODUCTS.items(), AXES.items()
    ):
        planes = "*fp16" if precision == "float16" else "*fp32"
        types = dict(RAYS, planes=planes, **dict.fromkeys(names.split(), "*fp32"))
        constants = dict(PUBLISHED, AXES=axes, PRECISION=product, BLOCK=BLOCK)
        for name, kernel, stages in (
            ("composite", composite_forward, 1),
            ("composite backward", composite_backward, STAGES[precision]),
        ):
            name, options = f"{name}, {precision} {kind}", dict(num_warps=WARPS, num_stages=stages)
            cases.append(CompileCase(name, kernel, types, constants, **options))
    tensors, sizes = "depths sigma uniform merged", "coarse fine uniform_row uniform_column"
    types = dict.fromkeys(tensors.split(), "*fp32") | dict.fromkeys(sizes.split(), "i32")
    for side, centered in itertools.product((32, 64, 128), (False, True)):
        name = f"importance, {side} {'centered' if centered else 'reference'}"
        constants = dict(SIDE=side, CENTERED=centered)
        options = dict(num_warps=_importance_warps(side), num_stages=1)
        cases.append(
            CompileCase(
                name,
                importance,
                types,
                constants,
                **options,
                odd=("fine", "coarse", "uniform_row", "uniform_column"),
            )
        )
    return cases
