"""What lies behind the volume (EpiGRAF, Skorokhodov et al. 2022, appendix): a picture of its own,
or the world outside the unit sphere turned inside out (NeRF++, Zhang et al. 2020, section 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_utils.ops import resampling
from training.epigraf.background_network import BackgroundINR
from training.views import FullView, View
from training.volumetric_rendering.depths import jitter_in_bins
from training.volumetric_rendering.ray_marcher import closed_weights, weighted_sum

LAST_DELTA = 1e10  # the last sample stands for all that is farther
NO_AXIS = 1e-10  # square of the length of an axis that is none


def plane_background(picture: Tensor, resolution: int, view: View) -> Tensor:
    """A generated picture [N, 3, h, h], enlarged to `resolution` by its corners, as `view` sees it:
    [N, 3, r, r]. A view of all of it may have any side."""
    if isinstance(view, FullView):
        resolution = view.resolution
    if picture.shape[-1] != resolution:
        picture = resampling.resize(picture, resolution, resolution, align_corners=True)
    return view.crop(picture)


def inverse_distances(
    count: int,
    start: float = 1.0,
    jitter: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """`count` descending inverse distances from `start` to 0, [count], or, in the shape of `jitter`
    [..., count], each moved by these numbers in [0, 1) between the middles of its intervals."""
    even = torch.linspace(start, 0, count, device=device if jitter is None else jitter.device)
    if jitter is None:
        return even
    return jitter_in_bins(even.unsqueeze(-1), jitter.unsqueeze(-1)).squeeze(-1)


def outside_points(origins: Tensor, directions: Tensor, inverse: Tensor) -> Tensor:
    """Points of rays outside the unit sphere, as (direction on the sphere, inverse distance).

    origins in the sphere and directions of any length [..., 3], inverse distances in [0, 1], [S] or
    [..., S] -> [..., S, 4].

    The ray leaves the sphere at p; where it is 1 / t from the centre follows from p by a turn in
    the plane of ray and centre (NeRF++, figure 8).
    """
    inverse = inverse.expand(*origins.shape[:-1], -1)
    square = _dot(directions, directions)
    nearest = origins - _dot(directions, origins) / square * directions
    # A ray's distance from the centre; rounding can put that of a camera on the sphere outside.
    reach = nearest.norm(dim=-1, keepdim=True).clamp(max=1)
    exit_point = nearest + ((1 - reach.square()) / square).sqrt() * directions
    axis = torch.linalg.cross(origins, exit_point)
    # Rays through the centre have no axis: nothing turns.
    axis = axis * _dot(axis, axis).clamp(min=NO_AXIS).rsqrt()
    angle = (reach.asin() - (reach * inverse).asin()).unsqueeze(-1)

    axis, exit_point = axis.unsqueeze(-2), exit_point.unsqueeze(-2)
    turned = exit_point * angle.cos() + torch.linalg.cross(axis, exit_point) * angle.sin()
    return torch.cat([F.normalize(turned, dim=-1), inverse.unsqueeze(-1)], dim=-1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=-1, keepdim=True)


def sphere_background(
    network: BackgroundINR,
    ws: Tensor,
    origins: Tensor,
    directions: Tensor,
    inverse: Tensor,
    chunk: int | None = None,
) -> Tensor:
    """The background's colours along rays, [N, M, 3].

    Args:
        ws: [N, num_ws, w_dim].
        origins, directions: of the rays, [N, M, 3], in the frame that the network was trained in.
        inverse: inverse distances, [N, M, S] or [S].
        chunk: rays of a scene at a time, default all; the result is the same.
    """
    inverse = inverse.expand(*origins.shape[:2], -1)
    rays = [x.split(chunk or origins.shape[1], dim=1) for x in (origins, directions, inverse)]
    parts = [_colors(network, ws, *part) for part in zip(*rays, strict=True)]
    return torch.cat(parts, dim=1)


def _colors(network, ws, origins, directions, inverse):
    points = outside_points(origins, directions, inverse)
    answer = network(points.flatten(1, 2), ws).unflatten(1, inverse.shape[1:])
    colors, densities = answer.tensor_split([-1], dim=-1)
    weights, _ = closed_weights(densities[..., 0], -inverse, LAST_DELTA, bias=0.0)
    return weighted_sum(weights, colors)
