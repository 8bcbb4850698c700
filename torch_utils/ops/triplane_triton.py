"""Kernels for points: features of the planes, decoder, and the gradients of both.

The points are given, or they are the samples of rays at given depths and never exist as a tensor.
The backward kernel keeps nothing of the forward one: it decodes again.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import triplane_device as device
from .triplane_ops import How, empty_gradients

Layers = tuple[Tensor, Tensor, Tensor, Tensor]  # w1, b1, w2, b2
Rays = tuple[Tensor, Tensor | None, Tensor | None]  # origins, directions, depths; or points alone

# Samples a tile and warps: the largest without spills in the compile gate. An exact product is
# three of tf32, whose parts take registers. In one stage ptxas would rather spill than use more
# than 168 registers on compute capability 10.
FORWARD_TILE = dict(num_warps=4, num_stages=1)
FORWARD_BLOCK = {"float32": 16, "tf32": 64, "float16": 64}
BACKWARD_BLOCK = 16
BACKWARD_LAUNCH = {
    "float32": dict(num_warps=8, num_stages=1),
    "tf32": dict(num_warps=4, num_stages=2),
    "float16": dict(num_warps=4, num_stages=2),
}
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
    AXES: tl.constexpr, SIZES: tl.constexpr, TEXELS: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr,
    ACTIVATION: tl.constexpr, COLOURING: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Colours [N, count, COLOURS], unless `rgb` is None, and raw densities [N, count]."""
    scene = tl.program_id(1).to(tl.int64)
    first = scene * count
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < count
    w1, b1, w_sigma, b_sigma, w2, b2 = device.load_layers(w1, b1, w2, b2, C, HIDDEN, COLOURS)
    planes += scene * (TEXELS * C)

    x, y, z = positions(points, directions, depths, first, at, inside, samples, scale)
    features = device.gather(planes, x, y, z, inside, AXES, SIZES, C)
    hidden = device.activate(device.hidden_layer(features, w1, b1, PRECISION), ACTIVATION)
    tl.store(sigma + first + at, device.density(hidden, w_sigma, b_sigma), mask=inside)
    if rgb is not None:
        colours = device.colour(hidden, w2, b2, COLOURING, PRECISION)
        offsets = ((first + at) * COLOURS)[:, None] + tl.arange(0, COLOURS)[None, :]
        tl.store(rgb + offsets, colours, mask=inside[:, None])


@triton.jit
def decode_backward(
    planes, w1, b1, w2, b2,
    points, directions, depths,
    g_rgb, shares, g_sigma,
    g_planes, g_layers, g_points, g_directions,
    count, samples, scale,
    AXES: tl.constexpr, SIZES: tl.constexpr, TEXELS: tl.constexpr, C: tl.constexpr,
    HIDDEN: tl.constexpr, COLOURS: tl.constexpr,
    ACTIVATION: tl.constexpr, COLOURING: tl.constexpr, BLOCK: tl.constexpr,
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
    volume = scene * (TEXELS * C)
    planes += volume
    sum_w1, sum_b1 = tl.zeros([HIDDEN, C], tl.float32), tl.zeros([HIDDEN], tl.float32)
    sum_w2, sum_b2 = tl.zeros([COLOURS, HIDDEN], tl.float32), tl.zeros([COLOURS], tl.float32)
    sum_w_sigma, sum_b_sigma = tl.zeros([HIDDEN], tl.float32), 0.0

    for tile in range(tl.program_id(0), tl.cdiv(count, BLOCK), programs):
        at = tile * BLOCK + tl.arange(0, BLOCK)
        inside = at < count
        x, y, z = positions(points, directions, depths, first, at, inside, samples, scale)
        features = device.gather(planes, x, y, z, inside, AXES, SIZES, C)
        before = device.hidden_layer(features, w1, b1, PRECISION)
        hidden = device.activate(before, ACTIVATION)

        g_density = tl.load(g_sigma + first + at, mask=inside, other=0.0)
        g_hidden = g_density[:, None] * w_sigma[None, :]
        if g_rgb is not None:
            g_out = colour_gradients(g_rgb, shares, first, at, inside, samples, COLOURS)
            if COLOURING == "sigmoid":
                g_out *= device.colour_slope(hidden, w2, b2, PRECISION)
            g_hidden += device.multiply(g_out, tl.trans(w2), GRADIENTS)
            if g_layers is not None:
                sum_w2 += device.multiply(tl.trans(g_out), hidden, GRADIENTS)
                sum_b2 += tl.sum(g_out, 0)
        g_before = g_hidden * device.activation_slope(before, ACTIVATION)
        if g_layers is not None:
            sum_w1 += device.multiply(tl.trans(g_before), features, GRADIENTS)
            sum_b1 += tl.sum(g_before, 0)
            sum_w_sigma += tl.sum(hidden * g_density[:, None], 0)
            sum_b_sigma += tl.sum(g_density, 0)
        g_features = device.multiply(g_before, tl.trans(w1), GRADIENTS)
        if g_planes is not None:
            device.scatter(g_planes + volume, g_features, x, y, z, inside, AXES, SIZES)
        if g_points is not None:
            slopes = device.slopes(planes, g_features, x, y, z, inside, AXES, SIZES)
            give_points(slopes, g_points, g_directions, depths, first, at, inside, samples, scale)

    if g_layers is not None:
        program = scene * programs + tl.program_id(0)
        g_layers += program * ((C + 1) * HIDDEN + (HIDDEN + 1) * (1 + COLOURS))
        sums = (sum_w1, sum_b1, sum_w_sigma, sum_b_sigma, sum_w2, sum_b2)
        give_layers(sums, g_layers, C, HIDDEN, COLOURS)


@triton.jit
def colour_gradients(g_rgb, shares, first, at, inside, samples, COLOURS: tl.constexpr):
    """Gradients [BLOCK, COLOURS] of colours: those given, or a sample's share of its ray's."""
    if shares is None:
        row, share = first + at, 1.0
    else:
        row = first // samples + at // samples
        share = tl.load(shares + first + at, mask=inside, other=0.0)[:, None]
    cells = (row * COLOURS)[:, None] + tl.arange(0, COLOURS)[None, :]
    return tl.load(g_rgb + cells, mask=inside[:, None], other=0.0) * share


@triton.jit
def give_points(slopes, g_points, g_directions, depths, first, at, inside, samples, scale):
    """Writes gradients of points, or adds those of a ray's points to its origin and direction."""
    along_x, along_y, along_z = slopes
    along_x, along_y, along_z = along_x * scale, along_y * scale, along_z * scale
    if g_directions is None:
        start = g_points + 3 * (first + at)
        tl.store(start, along_x, mask=inside)
        tl.store(start + 1, along_y, mask=inside)
        tl.store(start + 2, along_z, mask=inside)
    else:
        ray = 3 * (first // samples + at // samples)
        t = tl.load(depths + first + at, mask=inside, other=0.0)
        tl.atomic_add(g_points + ray, along_x, mask=inside, sem="relaxed")
        tl.atomic_add(g_points + ray + 1, along_y, mask=inside, sem="relaxed")
        tl.atomic_add(g_points + ray + 2, along_z, mask=inside, sem="relaxed")
        tl.atomic_add(g_directions + ray, t * along_x, mask=inside, sem="relaxed")
        tl.atomic_add(g_directions + ray + 1, t * along_y, mask=inside, sem="relaxed")
        tl.atomic_add(g_directions + ray + 2, t * along_z, mask=inside, sem="relaxed")


@triton.jit
def give_layers(sums, start, C: tl.constexpr, HIDDEN: tl.constexpr, COLOURS: tl.constexpr):
    """Writes a program's sums one after the other: w1, b1, w2, b2, where density comes first."""
    w1, b1, w_sigma, b_sigma, w2, b2 = sums
    units, channels, colours = tl.arange(0, HIDDEN), tl.arange(0, C), tl.arange(0, COLOURS)
    tl.store(start + (units * C)[:, None] + channels[None, :], w1)
    start += HIDDEN * C
    tl.store(start + units, b1)
    start += HIDDEN
    tl.store(start + units, w_sigma)
    tl.store(start + ((1 + colours) * HIDDEN)[:, None] + units[None, :], w2)
    start += (1 + COLOURS) * HIDDEN
    tl.store(start, b_sigma)
    tl.store(start + 1 + colours, b2)


def decode(
    planes: Tensor, layers: Layers, points: Tensor, how: How, want_rgb: bool
) -> tuple[Tensor, Tensor]:
    """See `triplane_ops.decode`."""
    n, count = points.shape[:2]
    sigma = points.new_empty(n, count)
    rgb = points.new_empty(n, count if want_rgb else 0, len(layers[3]) - 1)
    _decode(planes, layers, (points, None, None), rgb if want_rgb else None, sigma, how)
    return rgb, sigma


def ray_densities(planes: Tensor, layers: Layers, rays: Rays, how: How) -> Tensor:
    """Raw densities [N, M, S] of rays: origins, directions [N, M, 3] and depths [N, M, S]."""
    sigma = rays[2].new_empty(rays[2].shape)
    _decode(planes, layers, rays, None, sigma, how)
    return sigma


def _decode(
    planes: Tensor, layers: Layers, rays: Rays, rgb: Tensor | None, sigma: Tensor, how: How
) -> None:
    planes, layers, rays = stored(planes, how), dense(layers), dense(rays)
    count, block = sigma[0].numel(), forward_block(how.precision, how.axes, how.activation)
    decode_forward[(triton.cdiv(count, block), len(planes))](
        planes, *layers, *rays, rgb, sigma, count, samples_of(rays), how.scale,
        PRECISION=PRODUCTS[how.precision][0], BLOCK=block,
        **shape_constants(how, planes, layers), **FORWARD_TILE,
    )  # fmt: skip


def decode_gradients(
    g_rgb: Tensor | None,
    g_sigma: Tensor,
    planes: Tensor,
    layers: Layers,
    points: Tensor,
    how: How,
    needed: Sequence[bool],
) -> list[Tensor]:
    """See `triplane_ops.decode_backward`."""
    found = empty_gradients((planes, *layers, points), needed)
    found[0].zero_()
    wanted = (found[0] if needed[0] else None, found[5] if needed[5] else None, None)
    rays, grads = (points, None, None), (g_rgb, None, g_sigma)
    found[1:5] = backward(grads, planes, layers, rays, how, wanted, any(needed[1:5]))
    return found


def backward(
    grads: tuple[Tensor | None, Tensor | None, Tensor],
    planes: Tensor,
    layers: Layers,
    rays: Rays,
    how: How,
    wanted: tuple[Tensor | None, Tensor | None, Tensor | None],
    with_layers: bool,
) -> list[Tensor]:
    """Launches `decode_backward`.

    Args:
        grads: g_rgb, shares and g_sigma, as that takes them.
        wanted: g_planes, g_points and g_directions, which it is to change.

    Returns: gradients of the layers, or four empty tensors.
    """
    planes, layers, rays, grads = stored(planes, how), dense(layers), dense(rays), dense(grads)
    n, count = len(planes), grads[2][0].numel()
    tiles = triton.cdiv(count, BACKWARD_BLOCK)
    programs = min(tiles, triton.cdiv(PROGRAMS * _multiprocessors(planes.device), n))
    sizes = [t.numel() for t in layers]
    sums = planes.new_empty(n * programs, sum(sizes), dtype=torch.float32) if with_layers else None
    launches = [(wanted[0], sums, *wanted[1:])]
    if separately(how.precision, how.axes):
        launches = [(wanted[0], sums, None, None), (None, None, *wanted[1:])]
    products, gradients = PRODUCTS[how.precision]
    for results in launches:
        if any(t is not None for t in results):
            decode_backward[(programs, n)](
                planes, *layers, *rays, *grads, *results, count, samples_of(rays), how.scale,
                PRECISION=products, GRADIENTS=gradients, **shape_constants(how, planes, layers),
                BLOCK=BACKWARD_BLOCK, **BACKWARD_LAUNCH[how.precision],
            )  # fmt: skip
    if sums is None:
        return [planes.new_empty(0, dtype=torch.float32) for _ in layers]
    return [g.view_as(t).clone() for g, t in zip(sums.sum(0).split(sizes), layers, strict=True)]


def forward_block(precision: str, axes: Sequence[int], activation: str) -> int:
    """Samples a tile of the forward kernel; on compute capability 10 more planes or less arithmetic
    between their texels take more registers."""
    block = FORWARD_BLOCK[precision]
    return min(block, 32) if len(axes) > 4 or activation == "lrelu" else block


def separately(precision: str, axes: Sequence[int]) -> bool:
    """Whether gradients of rays take a launch of their own: together with those of planes and
    layers they would not fit into registers."""
    return precision == "float32" or len(axes) > 6


def samples_of(rays: Rays) -> int:
    """Samples of a ray; 1 for points."""
    return 1 if rays[2] is None else rays[2].shape[2]


def stored(planes: Tensor, how: How) -> Tensor:
    """Planes as kernels read them: in 16 bits if `how` says so, as far as those reach."""
    if how.precision == "float16" and planes.dtype != torch.float16:
        return planes.clamp(-65504, 65504).half()
    return planes.contiguous()


def dense(tensors: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The same tensors, rows after rows in memory."""
    return tuple(None if t is None else t.contiguous() for t in tensors)


def shape_constants(how: How, planes: Tensor, layers: Layers) -> dict[str, object]:
    """Constants that all kernels of the renderer have."""
    return dict(
        AXES=how.axes,
        SIZES=how.sizes,
        TEXELS=planes.shape[1],
        C=planes.shape[2],
        HIDDEN=len(layers[1]),
        COLOURS=len(layers[3]) - 1,
        ACTIVATION=how.activation,
        COLOURING=how.colouring,
    )


def _multiprocessors(where: torch.device) -> int:
    if where.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(where).multi_processor_count
