"""Where along a ray the field is looked at: limits, evenly jittered depths, importance depths.

Nothing here carries a gradient: depths are constants of the picture.
"""

import torch
import torch.nn.functional as F

from .math_utils import get_ray_limits_box, linspace
from .options import RenderingOptions

Limit = float | torch.Tensor

LEAST_WEIGHT = 1e-5  # of a sample, for importance sampling without smoothing


def ray_limits(
    origins: torch.Tensor, directions: torch.Tensor, options: RenderingOptions
) -> tuple[Limit, Limit]:
    """First and last depth: the options' two numbers, or for 'auto' a tensor [N, M, 1] each.

    A ray that misses the box borrows its limits from the rays of the batch that hit it.
    """
    if not options.auto_limits:
        return options.ray_start, options.ray_end
    near, far = get_ray_limits_box(origins, directions, options.box_warp)
    exact = options.ray_limits == "exact"
    if exact:
        # 1/depth of a camera inside the box would begin at infinity.
        least = 1e-2 * options.box_warp if options.disparity_space_sampling else 0.0
        near = near.clamp(min=least)
    hit = far > near
    any_hit = hit.any()
    first = torch.where(hit, near, torch.inf).min()
    last = torch.where(hit, far if exact else near, -torch.inf).max()
    if exact:
        # Where nothing is hit, an interval of no length absorbs nothing: background.
        none_near = none_far = torch.full_like(near, options.box_warp)
    else:
        none_near, none_far = near, far
    near = torch.where(hit, near, torch.where(any_hit, first, none_near))
    far = torch.where(hit, far, torch.where(any_hit, last, none_far))
    return near, far


def coarse_depths(
    near: Limit, far: Limit, jitter: torch.Tensor, options: RenderingOptions
) -> torch.Tensor:
    """The coarse samples' ascending depths [N, M, S, 1]; jitter in [0, 1) broadcasts to them."""
    count, disparity = options.depth_resolution, options.disparity_space_sampling
    if options.depth_jitter == "forward":
        return stratified_depths(near, far, count, jitter, disparity)
    even = stratified_depths(near, far, count, torch.zeros_like(jitter), disparity)
    return jitter_in_bins(even, jitter)


def jitter_in_bins(depths: torch.Tensor, jitter: torch.Tensor) -> torch.Tensor:
    """Ascending depths [..., S, 1] -> each anywhere between the middles of its two intervals, the
    first one not before and the last one not behind itself; jitter in [0, 1)."""
    middles = (depths[..., :-1, :] + depths[..., 1:, :]) / 2
    lower = torch.cat([depths[..., :1, :], middles], dim=-2)
    upper = torch.cat([middles, depths[..., -1:, :]], dim=-2)
    return lower + (upper - lower) * jitter


def stratified_depths(
    near: Limit, far: Limit, count: int, jitter: torch.Tensor, disparity: bool = False
) -> torch.Tensor:
    """`count` ascending depths [N, M, count, 1] from near (included) to beyond far.

    near, far: two numbers, or two tensors [N, M, 1]. jitter [N, M, count, 1] in [0, 1) moves each
    depth by that share of an interval, forward only, so the last one lies behind far. With
    `disparity` the depths are evenly spaced in 1 / depth instead.
    """
    per_ray = torch.is_tensor(near)
    if disparity:
        unit = torch.linspace(0, 1, count, dtype=jitter.dtype, device=jitter.device)
        fraction = unit[:, None] + jitter / (count - 1)
        if per_ray:
            near, far = near.unsqueeze(-2), far.unsqueeze(-2)
        return 1 / ((1 / near) * (1 - fraction) + (1 / far) * fraction)
    if per_ray:
        grid = linspace(near, far, count).permute(1, 2, 0, 3)
        return grid + jitter * ((far - near) / (count - 1)).unsqueeze(-2)
    grid = torch.linspace(near, far, count, dtype=jitter.dtype, device=jitter.device)
    return grid[:, None] + jitter * ((far - near) / (count - 1))


def importance_depths(
    depths: torch.Tensor,
    weights: torch.Tensor,
    uniform: torch.Tensor,
    bins: str = "reference",
    smoothing: bool = True,
) -> torch.Tensor:
    """Fine depths [R, S_f], unsorted, dense where the coarse pass found weight.

    depths [R, S] ascending, uniform [R, S_f] in [0, 1), weights [R, S] of the samples or [R, S - 1]
    of the segments between them; `smoothing` blurs them. With bins 'reference' weight i is spread
    around depth i, and the first and last are left out: right for weights of samples. That of a
    segment comes half an interval nearer than it was found, and the last one and a half intervals
    get none; 'centered' spreads it over its own segment.
    """
    weights = smooth_weights(weights) if smoothing else weights + LEAST_WEIGHT
    if bins == "centered":
        return inverse_cdf(depths, weights, uniform)
    middles = (depths[:, :-1] + depths[:, 1:]) / 2
    return inverse_cdf(middles, weights[:, 1:-1], uniform)


def smooth_weights(weights: torch.Tensor, floor: float = 0.01) -> torch.Tensor:
    """Weights [R, L] -> [R, L]: maximum of neighbour pairs, then mean of pairs, plus a floor.

    The integrated form of mip-NeRF's blurpool (Barron et al. 2021, equation 18).
    """
    padded = F.pad(weights, (1, 1), value=-torch.inf)
    highest = torch.maximum(padded[:, :-1], padded[:, 1:])
    return (highest[:, :-1] + highest[:, 1:]) / 2 + floor


def inverse_cdf(
    edges: torch.Tensor, weights: torch.Tensor, uniform: torch.Tensor, eps: float = 1e-5
) -> torch.Tensor:
    """Quantiles `uniform` [R, K] of a piecewise constant density -> positions [R, K].

    edges [R, E >= L + 1] ascending, of which the first L + 1 count; weights [R, L] of the intervals
    between them. An interval of less than `eps` probability gives its first edge plus the excess.
    """
    weights = weights + eps
    cdf = F.pad((weights / weights.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
    above = torch.searchsorted(cdf, uniform.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=weights.shape[-1])
    cdf_below, edge_below = cdf.gather(-1, below), edges.gather(-1, below)
    mass = cdf.gather(-1, above) - cdf_below
    mass = torch.where(mass < eps, 1.0, mass)
    width = edges.gather(-1, above) - edge_below
    return edge_below + (uniform - cdf_below) / mass * width
