"""Volume rendering of planes with a two-layer decoder as operators of `torch.library`.

A coarse pass takes densities alone; importance sampling makes of them all depths in order; the
composite decodes along the rays and keeps sums. Its backward pass keeps the depths, goes along the
rays again for two numbers a sample, and lets `triplane_triton.decode_backward` decode once more.
So colours, features and points never exist for all samples at once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .choice import use_triton
from .registration import on_its_device
from .triplane_ops import How, as_needed, decode_plain, empty_gradients, plain_gradients

__all__ = [
    "MOST_SAMPLES",
    "Rule",
    "composite",
    "composite_plain",
    "importance_depths",
    "ray_densities",
]

MOST_SAMPLES = 128  # coarse or fine samples of a ray, that `importance_depths` has room for


class Rule(NamedTuple):
    """How densities along a ray become weights.

    Args:
        name: 'midpoint', where the pieces are the segments between samples, with the means of their
            ends; or 'classic', where each sample stands for the piece to the next.
        clamp: density = 'softplus' or 'relu' of raw density + bias.
        bias: see there.
        last_delta: of 'classic', length of the last sample's piece.
    """

    name: str = "midpoint"
    clamp: str = "softplus"
    bias: float = -1.0
    last_delta: float = 1e10


@torch.library.custom_op("eg3d::ray_densities", mutates_args=())
@on_its_device
def ray_densities(
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    origins: Tensor,
    directions: Tensor,
    depths: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    scale: float,
    precision: str,
    activation: str,
    colouring: str,
) -> Tensor:
    """Raw densities [N, M, S] at depths [N, M, S] of rays [N, M, 3], without gradient; the rest as
    `triplane_ops.decode`. Kernels only."""
    from . import triplane_triton

    rays = (origins, directions, depths)
    how = How(tuple(axes), tuple(sizes), scale, precision, activation, colouring)
    return triplane_triton.ray_densities(planes, (w1, b1, w2, b2), rays, how)


@torch.library.custom_op("eg3d::importance_depths", mutates_args=())
@on_its_device
def importance_depths(
    depths: Tensor,
    sigma: Tensor,
    uniform: Tensor,
    centered: bool,
    smoothing: bool,
    rule: str,
    clamp: str,
    bias: float,
    last_delta: float,
) -> Tensor:
    """Coarse depths and raw densities [R, S], quantiles [R, S_f] -> all depths [R, S + S_f] in
    ascending order, without gradient; S from 4, both numbers up to `MOST_SAMPLES`.

    The fine ones are dense where weight is, blurred with `smoothing`; `centered` tells how that of
    a segment is spread: over it, or half an interval nearer. Kernels only.
    """
    from . import render_importance_triton

    how = (centered, smoothing, Rule(rule, clamp, bias, last_delta))
    return render_importance_triton.importance_depths(depths, sigma, uniform, *how)


@torch.library.custom_op("eg3d::composite", mutates_args=())
@on_its_device
def composite(
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    origins: Tensor,
    directions: Tensor,
    depths: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    scale: float,
    precision: str,
    activation: str,
    colouring: str,
    rule: str,
    clamp: str,
    bias: float,
    last_delta: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums over the pieces of rays of weight times colour [N, M, K], of weights [N, M], and of
    weight times depth [N, M]; and the light [N, M] that is left, of the classic rule before the
    last sample. Depths [N, M, S] are constants; the rest as `triplane_ops.decode` and `Rule`."""
    layers = (w1, b1, w2, b2)
    how = How(tuple(axes), tuple(sizes), scale, precision, activation, colouring)
    rule = Rule(rule, clamp, bias, last_delta)
    if not use_triton(planes):
        return composite_plain(planes, *layers, origins, directions, depths, how, rule)
    from . import render_triton

    rays = (origins, directions, depths)
    return render_triton.composite(planes, layers, rays, how, rule)


@torch.library.custom_op("eg3d::composite_backward", mutates_args=())
@on_its_device
def composite_backward(
    g_features: Tensor,
    g_total: Tensor,
    g_distance: Tensor,
    rest: Tensor,
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    origins: Tensor,
    directions: Tensor,
    depths: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int],
    scale: float,
    precision: str,
    activation: str,
    colouring: str,
    rule: str,
    clamp: str,
    bias: float,
    last_delta: float,
    needed: Sequence[bool],
) -> list[Tensor]:
    """Gradients of planes, w1, b1, w2, b2, origins and directions; empty tensors for those not
    needed, except that those of the layers and those of the rays come together. `rest` [N, M] is
    the sum of weights and of the light left times their gradients. Kernels only."""
    from . import render_triton

    grads, layers = (g_features, g_total, g_distance, rest), (w1, b1, w2, b2)
    rays = (origins, directions, depths)
    how = How(tuple(axes), tuple(sizes), scale, precision, activation, colouring)
    rule = Rule(rule, clamp, bias, last_delta)
    return render_triton.composite_gradients(grads, planes, layers, rays, how, rule, needed)


def composite_plain(
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    origins: Tensor,
    directions: Tensor,
    depths: Tensor,
    how: How,
    rule: Rule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The twin of `composite`. A piece absorbs 1 - exp(-density * length) of the light, and 1e-10
    of it passes whatever it is."""
    points = origins.unsqueeze(2) + depths.unsqueeze(-1) * directions.unsqueeze(2)
    rgb, sigma = decode_plain(planes, w1, b1, w2, b2, points.flatten(1, 2), how)
    rgb, sigma = rgb.unflatten(1, depths.shape[1:]), sigma.unflatten(1, depths.shape[1:])
    lengths, at = depths.diff(dim=-1), depths
    if rule.name == "midpoint":
        rgb, sigma = (
            (rgb[..., 1:, :] + rgb[..., :-1, :]) / 2,
            (sigma[..., 1:] + sigma[..., :-1]) / 2,
        )
        at = (depths[..., 1:] + depths[..., :-1]) / 2
    else:
        lengths = F.pad(lengths, (0, 1), value=rule.last_delta)
    density = (F.softplus if rule.clamp == "softplus" else F.relu)(sigma + rule.bias)
    absorbed = 1 - torch.exp(-density * lengths)
    light = F.pad((1 - absorbed) + 1e-10, (1, 0), value=1.0).cumprod(-1)
    weights = absorbed * light[..., :-1]
    features = (weights.unsqueeze(-1) * rgb).sum(-2)
    left = light[..., -1 if rule.name == "midpoint" else -2]
    return features, weights.sum(-1), (weights * at).sum(-1), left.clone()


@ray_densities.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, depths, *how):
    return depths.new_empty(depths.shape)


@importance_depths.register_fake
def _(depths, sigma, uniform, *how):
    return depths.new_empty(depths.shape[0], depths.shape[1] + uniform.shape[1])


@composite.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, depths, *how):
    n, m = depths.shape[:2]
    return depths.new_empty(n, m, len(b2) - 1), *(depths.new_empty(n, m) for _ in range(3))


@composite_backward.register_fake
def _(
    g_features, g_total, g_distance, rest,
    planes, w1, b1, w2, b2, origins, directions, depths, *how,
):  # fmt: skip
    return empty_gradients((planes, w1, b1, w2, b2, origins, directions), how[-1])


def _save(ctx, inputs, output) -> None:
    tensors, (axes, sizes, *rest) = inputs[:8], inputs[8:]
    ctx.save_for_backward(*tensors, *output)
    split = len(How._fields) - 2
    ctx.how = How(tuple(axes), tuple(sizes), *rest[:split])
    ctx.rule = Rule(*rest[split:])


def _gradients(ctx, *grads):
    *inputs, depths, features, total, distance, left = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:7])
    if torch.is_grad_enabled() or not use_triton(depths):
        found = plain_gradients(
            lambda *inputs: composite_plain(*inputs, depths, ctx.how, ctx.rule),
            inputs,
            needed,
            grads,
        )
    else:
        results = (features, *(x.unsqueeze(-1) for x in (total, distance, left)))
        parts = zip(results, (grads[0], *(g.unsqueeze(-1) for g in grads[1:])), strict=True)
        rest = sum((x * g).sum(-1) for x, g in parts)
        found = composite_backward(*grads[:3], rest, *inputs, depths, *ctx.how, *ctx.rule, needed)
        found = as_needed(found, inputs, needed)
    return *found, *[None] * (1 + len(ctx.how) + len(ctx.rule))


composite.register_autograd(_gradients, setup_context=_save)
