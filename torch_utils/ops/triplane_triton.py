"""Kernels for points: features of the planes, decoder, and the gradients of both.

The points are given, or they are the samples of rays at given depths and never exist as a tensor.
The backward kernel keeps nothing of the forward one: it decodes again.
"""

import itertools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import triplane_device as device
from .compile_gate import CompileCase
from .triplane_ops import empty_gradients

Layers = tuple[Tensor, Tensor, Tensor, Tensor]  # w1, b1, w2, b2

# Samples a tile and warps: the largest without spills in the compile gate. An exact product is
# three of tf32, whose parts take registers.
FORWARD_TILE = dict(num_warps=4, num_stages=1)
FORWARD_BLOCK = {"float32": 16, "tf32": 64, "float16": 64}
BACKWARD_TILE = dict(BLOCK=16, num_stages=1)
BACKWARD_WARPS = {"float32": 8, "tf32": 4, "float16": 4}
PROGRAMS = 4  # of the backward kernel, on each multiprocessor

# Of products with the layers and with gradients, whose range 16 bits do not have.
PRODUCTS = {"float32": ("tf32x3", "tf32x3"), "tf32": ("tf32", "tf32"), "float16": ("fp16", "tf32")}


@triton.jit
def positions(points, directions, depths, first, at, inside, samples, scale):
    """Points [BLOCK] of the cube [-1, 1]^3 in rows first + at; `points` are the origins of rays if
    there are directions."""
    if directions is None:
        start = points + 3 * (first + at)
        x = tl.load(start, mask=inside, other=0.0)
        y = tl.load(start + 1, mask=inside, other=0.0)
        z = tl.load(start + 2, mask=inside, other=0.0)
    else:
        ray = 3 * (first // samples + at // samples)
        t = tl.load(depths + first + at, mask=inside, other=0.0)
        x = tl.load(points + ray, mask=inside, other=0.0)
        y = tl.load(points + ray + 1, mask=inside, other=0.0)
        z = tl.load(points + ray + 2, mask=inside, other=0.0)
        x += t * tl.load(directions + ray, mask=inside, other=0.0)
        y += t * tl.load(directions + ray + 1, mask=inside, other=0.0)
        z += t * tl.load(directions + ray + 2, mask=inside, other=0.0)
    return x * scale, y * scale, z * scale


@triton.jit
def decode_forward(
    planes, w1, b1, w2, b2,
    points, directions, depths,
    rgb, sigma,
    count, samples, scale,
    AXES: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Colours [N, count, COLOURS], unless `rgb` is None, and raw densities [N, count]."""
    scene = tl.program_id(1).to(tl.int64)
    first = scene * count
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    w1, b1, w_sigma, b_sigma, w2, b2 = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    planes += scene * ((len(AXES) // 2) * H * W * C)

    x, y, z = positions(points, directions, depths, first, at, inside, samples, scale)
    features = device.gather(planes, x, y, z, inside, AXES, H, W, C)
    hidden = device.softplus(device.hidden_layer(features, w1, b1, PRECISION))
    tl.store(sigma + first + at, device.density(hidden, w_sigma, b_sigma), mask=inside)
    if rgb is not None:
        colours = device.widened(device.colour_sigmoid(hidden, w2, b2, PRECISION))
        offsets = (at * COLOURS)[:, None] + tl.arange(0, COLOURS)[None, :]
        tl.store(rgb + first * COLOURS + offsets, colours, mask=inside[:, None])


@triton.jit
def decode_backward(
    planes, w1, b1, w2, b2,
    points, directions, depths,
    g_rgb, shares, g_sigma,
    g_planes, g_layers, g_points, g_directions,
    count, samples, scale,
    AXES: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr, GRADIENTS: tl.constexpr,
):  # fmt: skip
    """Gradients of what is not None: g_planes and rays are added to, g_points written, g_layers
    [N, programs, ...] are sums of each program's tiles.

    g_rgb is [N, count, COLOURS], or [N, rays, COLOURS] of which each sample has its share, or None
    where colours do not count.
    GRADIENTS is the precision of products with gradients, whose range 16 bits do not have.
    """
    scene = tl.program_id(1).to(tl.int64)
    first = scene * count
    programs = tl.num_programs(0)
    w1, b1, w_sigma, b_sigma, w2, b2 = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    volume = scene * ((len(AXES) // 2) * H * W * C)
    planes += volume
    units, channels, colours = tl.arange(0, HIDDEN), tl.arange(0, C), tl.arange(0, COLOURS)
    sum_w1, sum_b1 = tl.zeros([HIDDEN, C], tl.float32), tl.zeros([HIDDEN], tl.float32)
    sum_w2, sum_b2 = tl.zeros([COLOURS, HIDDEN], tl.float32), tl.zeros([COLOURS], tl.float32)
    sum_w_sigma, sum_b_sigma = tl.zeros([HIDDEN], tl.float32), 0.0

    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), programs):
        at = tile * BLOCK + tl.arange(0, BLOCK)
        inside = at < count
        x, y, z = positions(points, directions, depths, first, at, inside, samples, scale)
        features = device.gather(planes, x, y, z, inside, AXES, H, W, C)
        before = device.hidden_layer(features, w1, b1, PRECISION)
        hidden = device.softplus(before)

        g_density = tl.load(g_sigma + first + at, mask=inside, other=0.0)
        g_hidden = g_density[:, None] * w_sigma[None, :]
        if g_rgb is not None:
            if shares is None:
                row, share = first + at, 1.0
            else:
                row = first // samples + at // samples
                share = tl.load(shares + first + at, mask=inside, other=0.0)[:, None]
            cells = (row * COLOURS)[:, None] + colours[None, :]
            g_out = tl.load(g_rgb + cells, mask=inside[:, None], other=0.0) * share
            sigmoid = device.colour_sigmoid(hidden, w2, b2, PRECISION)
            g_out *= 1.002 * sigmoid * (1.0 - sigmoid)
            g_hidden += device.multiply(g_out, tl.trans(w2), GRADIENTS)
            if g_layers is not None:
                sum_w2 += device.multiply(tl.trans(g_out), hidden, GRADIENTS)
                sum_b2 += tl.sum(g_out, 0)
        g_before = g_hidden * tl.sigmoid(before)
        if g_layers is not None:
            sum_w1 += device.multiply(tl.trans(g_before), features, GRADIENTS)
            sum_b1 += tl.sum(g_before, 0)
            sum_w_sigma += tl.sum(hidden * g_density[:, None], 0)
            sum_b_sigma += tl.sum(g_density, 0)
        g_features = device.multiply(g_before, tl.trans(w1), GRADIENTS)
        if g_planes is not None:
            device.scatter(g_planes + volume, g_features, x, y, z, inside, AXES, H, W)
        if g_points is not None:
            g_x, g_y, g_z = device.slopes(planes, g_features, x, y, z, inside, AXES, H, W)
            g_x, g_y, g_z = g_x * scale, g_y * scale, g_z * scale
            if directions is None:
                start = g_points + 3 * (first + at)
                tl.store(start, g_x, mask=inside)
                tl.store(start + 1, g_y, mask=inside)
                tl.store(start + 2, g_z, mask=inside)
            else:
                ray = 3 * (first // samples + at // samples)
                t = tl.load(depths + first + at, mask=inside, other=0.0)
                tl.atomic_add(g_points + ray, g_x, mask=inside, sem="relaxed")
                tl.atomic_add(g_points + ray + 1, g_y, mask=inside, sem="relaxed")
                tl.atomic_add(g_points + ray + 2, g_z, mask=inside, sem="relaxed")
                tl.atomic_add(g_directions + ray, t * g_x, mask=inside, sem="relaxed")
                tl.atomic_add(g_directions + ray + 1, t * g_y, mask=inside, sem="relaxed")
                tl.atomic_add(g_directions + ray + 2, t * g_z, mask=inside, sem="relaxed")

    if g_layers is not None:
        WEIGHTS1: tl.constexpr = HIDDEN * C
        WEIGHTS2: tl.constexpr = (1 + COLOURS) * HIDDEN
        g_layers += (scene * programs + tl.program_id(0)) * (
            WEIGHTS1 + HIDDEN + WEIGHTS2 + 1 + COLOURS
        )
        tl.store(g_layers + (units * C)[:, None] + channels[None, :], sum_w1)
        g_layers += WEIGHTS1
        tl.store(g_layers + units, sum_b1)
        g_layers += HIDDEN
        tl.store(g_layers + units, sum_w_sigma)
        tl.store(g_layers + ((1 + colours) * HIDDEN)[:, None] + units[None, :], sum_w2)
        g_layers += WEIGHTS2
        tl.store(g_layers, sum_b_sigma)
        tl.store(g_layers + 1 + colours, sum_b2)


def decode(
    planes: Tensor, layers: Layers, points: Tensor, axes, scale: float, precision: str, want_rgb
) -> tuple[Tensor, Tensor]:
    """See `triplane_ops.decode`."""
    n, count = points.shape[:2]
    sigma = torch.empty(n, count, dtype=torch.float32, device=points.device)
    rgb = sigma.new_empty(n, count if want_rgb else 0, layers[2].shape[0] - 1)
    _decode(
        planes,
        layers,
        (points, None, None),
        rgb if want_rgb else None,
        sigma,
        1,
        axes,
        scale,
        precision,
    )
    return rgb, sigma


def ray_densities(
    planes: Tensor, layers: Layers, rays: tuple[Tensor, Tensor, Tensor], axes, scale, precision
) -> Tensor:
    """Raw densities [N, M, S] of rays: origins, directions [N, M, 3] and depths [N, M, S]."""
    sigma = rays[2].new_empty(rays[2].shape)
    _decode(planes, layers, rays, None, sigma, rays[2].shape[2], axes, scale, precision)
    return sigma


def _decode(planes, layers, rays, rgb, sigma, samples, axes, scale, precision) -> None:
    planes, layers, rays = stored(planes, precision), dense(layers), dense(rays)
    count = sigma[0].numel()
    block = FORWARD_BLOCK[precision]
    grid = (triton.cdiv(count, block), len(planes))
    constants = shape_constants(axes, planes, layers)
    decode_forward[grid](
        planes, *layers, *rays, rgb, sigma, count, samples, scale,
        PRECISION=PRODUCTS[precision][0], BLOCK=block, **constants, **FORWARD_TILE,
    )  # fmt: skip


def decode_gradients(
    g_rgb, g_sigma, planes, layers, points, axes, scale, precision, needed
) -> list[Tensor]:
    """See `triplane_ops.decode_backward`."""
    found = empty_gradients((planes, *layers, points), needed)
    found[0].zero_()
    rays, g_rays = (points, None, None), (found[5] if needed[5] else None, None)
    found[1:5] = backward(
        planes, layers, rays, g_rgb, None, g_sigma, found[0] if needed[0] else None,
        any(needed[1:5]), g_rays, axes, scale, precision,
    )  # fmt: skip
    return found


def backward(
    planes,
    layers,
    rays,
    g_rgb,
    shares,
    g_sigma,
    g_planes,
    with_layers,
    g_rays,
    axes,
    scale,
    precision,
) -> list[Tensor]:
    """Launches `decode_backward`; returns gradients of the layers, or empty tensors."""
    planes, layers, rays = stored(planes, precision), dense(layers), dense(rays)
    g_rgb, shares, g_sigma = dense((g_rgb, shares, g_sigma))
    n, count = len(planes), g_sigma[0].numel()
    samples = 1 if shares is None else shares.shape[2]
    tiles = triton.cdiv(count, BACKWARD_TILE["BLOCK"])
    programs = min(tiles, triton.cdiv(PROGRAMS * _multiprocessors(planes.device), n))
    sizes = [t.numel() for t in layers]
    sums = g_sigma.new_empty(n * programs, sum(sizes)) if with_layers else None
    results = [(g_planes, sums, *g_rays)]
    if precision == "float32":  # one after the other: together they would not fit into registers
        results = [(g_planes, sums, None, None), (None, None, *g_rays)]
    products, gradients = PRODUCTS[precision]
    for wanted in results:
        if any(t is not None for t in wanted):
            decode_backward[(programs, n)](
                planes, *layers, *rays, g_rgb, shares, g_sigma, *wanted, count, samples, scale,
                PRECISION=products, GRADIENTS=gradients, **shape_constants(axes, planes, layers),
                **BACKWARD_TILE, num_warps=BACKWARD_WARPS[precision],
            )  # fmt: skip
    if sums is None:
        return [g_sigma.new_empty(0) for _ in layers]
    return [g.view_as(t).clone() for g, t in zip(sums.sum(0).split(sizes), layers, strict=True)]


def stored(planes: Tensor, precision: str) -> Tensor:
    """Planes as kernels read them: in 16 bits if `precision` says so, as far as those reach."""
    if precision == "float16" and planes.dtype != torch.float16:
        return planes.clamp(-65504, 65504).half()
    return planes.contiguous()


def dense(tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The same tensors, rows after rows in memory."""
    return tuple(None if t is None else t.contiguous() for t in tensors)


def shape_constants(axes, planes: Tensor, layers: Layers) -> dict[str, object]:
    """Constants that all kernels of the renderer have."""
    height, width, channels = planes.shape[2:]
    hidden, outputs = len(layers[1]), len(layers[3])
    return dict(AXES=tuple(axes), H=height, W=width, C=channels, HIDDEN=hidden, COLOURS=outputs - 1)


def _multiprocessors(where: torch.device) -> int:
    if where.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(where).multi_processor_count


PUBLISHED = dict(H=256, W=256, C=32, HIDDEN=64, COLOURS=32)
AXES = {"legacy": (0, 1, 0, 2), "orthogonal": (0, 1, 0, 2, 2, 1)}
RAYS = dict.fromkeys("w1 b1 w2 b2 points directions depths".split(), "*fp32")
RAYS |= dict(count="i32", samples="i32", scale="fp32")


def compile_cases() -> list[CompileCase]:
    """Both kernels in each precision and with both kinds of axes, for points and for rays."""
    cases = []
    names = "rgb sigma g_rgb shares g_sigma g_planes g_layers g_points g_directions".split()
    points = dict(directions=None, depths=None)
    for (precision, (product, gradient)), (kind, axes) in itertools.product(
        PRODUCTS.items(), AXES.items()
    ):
        planes = "*fp16" if precision == "float16" else "*fp32"
        types = dict(RAYS, planes=planes, **dict.fromkeys(names, "*fp32"))
        shared = dict(PUBLISHED, AXES=axes, PRECISION=product)
        for what, absent in {"query": points, "densities of rays": dict(rgb=None)}.items():
            constants = dict(shared, BLOCK=FORWARD_BLOCK[precision], **absent)
            name = f"{what}, {precision} {kind}"
            cases.append(CompileCase(name, decode_forward, types, constants, **FORWARD_TILE))
        alone = dict(g_planes=None, g_layers=None)
        still = dict(g_points=None, g_directions=None)
        ways = {
            "density query backward": dict(points, **still, shares=None, g_rgb=None),
            "query backward": dict(points, **still, shares=None),
            "render backward": still,
            "render backward with rays": alone if precision == "float32" else {},
        }
        for what, absent in ways.items():
            tile = dict(BACKWARD_TILE, num_warps=BACKWARD_WARPS[precision])
            constants = dict(shared, GRADIENTS=gradient, BLOCK=tile.pop("BLOCK"), **absent)
            name = f"{what}, {precision} {kind}"
            cases.append(CompileCase(name, decode_backward, types, constants, **tile))
    return cases
