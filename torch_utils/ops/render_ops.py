"""Volume rendering of planes with a two-layer decoder as operators of `torch.library`.

A coarse pass takes densities alone; importance sampling makes of them all depths in order; the
composite decodes along the rays and keeps sums. Its backward pass keeps the depths, goes along the
rays again for two numbers a sample, and lets `triplane_triton.decode_backward` decode once more.
So colours, features and points never exist for all samples at once.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .choice import use_triton
from .registration import on_its_device
from .triplane_ops import How, as_needed, decode_plain, empty_gradients, plain_gradients

__all__ = ["MOST_SAMPLES", "composite", "composite_plain", "importance_depths", "ray_densities"]

MOST_SAMPLES = 128  # coarse or fine samples of a ray, that `importance_depths` has room for


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
    scale: float,
    precision: str,
) -> Tensor:
    """Raw densities [N, M, S] at depths [N, M, S] of rays [N, M, 3], without gradient; the rest as
    `triplane_ops.decode`. Kernels only."""
    from . import triplane_triton

    rays = (origins, directions, depths)
    how = How(tuple(axes), scale, precision)
    return triplane_triton.ray_densities(planes, (w1, b1, w2, b2), rays, how)


@torch.library.custom_op("eg3d::importance_depths", mutates_args=())
@on_its_device
def importance_depths(depths: Tensor, sigma: Tensor, uniform: Tensor, centered: bool) -> Tensor:
    """Coarse depths and raw densities [R, S], quantiles [R, S_f] -> all depths [R, S + S_f] in
    ascending order, without gradient; S from 4, both numbers up to `MOST_SAMPLES`.

    The fine ones are dense where weight is; `centered` tells how that of an interval is spread:
    over it, or half an interval nearer. Kernels only.
    """
    from . import render_importance_triton

    return render_importance_triton.importance_depths(depths, sigma, uniform, centered)


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
    scale: float,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the segments of rays of weight times colour [N, M, K], of weights [N, M], and of
    weight times depth [N, M]. Depths [N, M, S] are constants; the rest as `triplane_ops.decode`."""
    layers = (w1, b1, w2, b2)
    if not use_triton(planes):
        return composite_plain(planes, *layers, origins, directions, depths, axes, scale)
    from . import render_triton

    rays = (origins, directions, depths)
    return render_triton.composite(planes, layers, rays, How(tuple(axes), scale, precision))


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
    scale: float,
    precision: str,
    needed: Sequence[bool],
) -> list[Tensor]:
    """Gradients of planes, w1, b1, w2, b2, origins and directions; empty tensors for those not
    needed, except that those of the layers and those of the rays come together. `rest` [N, M] is
    the sum of weight times its gradient over a ray. Kernels only."""
    from . import render_triton

    grads, layers = (g_features, g_total, g_distance, rest), (w1, b1, w2, b2)
    rays = (origins, directions, depths)
    how = How(tuple(axes), scale, precision)
    return render_triton.composite_gradients(grads, planes, layers, rays, how, needed)


def composite_plain(
    planes: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    origins: Tensor,
    directions: Tensor,
    depths: Tensor,
    axes: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The twin of `composite`. A segment absorbs 1 - exp(-softplus(mean density - 1) * length) of
    the light, and 1e-10 of it passes whatever it is."""
    points = origins.unsqueeze(2) + depths.unsqueeze(-1) * directions.unsqueeze(2)
    rgb, sigma = decode_plain(planes, w1, b1, w2, b2, points.flatten(1, 2), axes, scale)
    rgb, sigma = rgb.unflatten(1, depths.shape[1:]), sigma.unflatten(1, depths.shape[1:])
    thickness = F.softplus((sigma[..., 1:] + sigma[..., :-1]) / 2 - 1) * depths.diff(dim=-1)
    absorbed = 1 - torch.exp(-thickness)
    passed = (1 - absorbed) + 1e-10
    light = F.pad(passed[..., :-1], (1, 0), value=1.0).cumprod(-1)
    weights = absorbed * light
    features = (weights.unsqueeze(-1) * (rgb[..., 1:, :] + rgb[..., :-1, :]) / 2).sum(-2)
    distance = (weights * (depths[..., 1:] + depths[..., :-1]) / 2).sum(-1)
    return features, weights.sum(-1), distance


@ray_densities.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, depths, axes, scale, precision):
    return depths.new_empty(depths.shape)


@importance_depths.register_fake
def _(depths, sigma, uniform, centered):
    return depths.new_empty(depths.shape[0], depths.shape[1] + uniform.shape[1])


@composite.register_fake
def _(planes, w1, b1, w2, b2, origins, directions, depths, axes, scale, precision):
    n, m = depths.shape[:2]
    return depths.new_empty(n, m, len(b2) - 1), depths.new_empty(n, m), depths.new_empty(n, m)


@composite_backward.register_fake
def _(
    g_features, g_total, g_distance, rest,
    planes, w1, b1, w2, b2, origins, directions, depths, axes, scale, precision, needed,
):  # fmt: skip
    return empty_gradients((planes, w1, b1, w2, b2, origins, directions), needed)


def _save(ctx, inputs, output) -> None:
    *tensors, axes, scale, precision = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.how = How(tuple(axes), scale, precision)


def _gradients(ctx, *grads):
    *inputs, depths, features, total, distance = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:7])
    if torch.is_grad_enabled() or not use_triton(depths):
        found = plain_gradients(
            lambda *inputs: composite_plain(*inputs, depths, ctx.how.axes, ctx.how.scale),
            inputs,
            needed,
            grads,
        )
    else:
        sums = (features, total.unsqueeze(-1), distance.unsqueeze(-1))
        parts = zip(sums, (grads[0], *(g.unsqueeze(-1) for g in grads[1:])), strict=True)
        rest = sum((x * g).sum(-1) for x, g in parts)
        found = composite_backward(*grads, rest, *inputs, depths, *ctx.how, needed)
        found = as_needed(found, inputs, needed)
    return *found, None, None, None, None


composite.register_autograd(_gradients, setup_context=_save)
