"""The surface that a depth picture shows: its points, its normals, and measures of its shape.

Normals come from the points of the depth picture, not from the gradient of the density: they show
the surface that is seen, cost neither another look at the field nor a backward pass, and need
nothing but a picture, so that constructed depth pictures can test them.
"""

import torch
from torch import Tensor

from training.cameras import Camera
from training.volumetric_rendering.ray_sampler import RaySampler

# More of the light than this must be absorbed for a pixel to show a surface.
OPAQUE = 0.5


def surface_points(depth: Tensor, camera: Camera) -> Tensor:
    """World points [N, 3, H, H] of depth pictures [N, 1, H, H], distances along the rays of N
    cameras."""
    side = depth.shape[-1]
    origins, directions = RaySampler()(camera.cam2world, camera.intrinsics, side)
    points = origins + depth.flatten(2).transpose(1, 2) * directions
    return points.transpose(1, 2).unflatten(2, (side, side))


def surface_normals(points: Tensor, opaque: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals [N, 3, H, W] towards the camera, and where there are any [N, 1, H, W].

    The cross product of the differences of neighbouring points [N, 3, H, W]; a neighbour that is
    not `opaque` [N, 1, H, W] or outside gives way to the pixel itself. None where a pixel has no
    opaque neighbour in its row or none in its column. The rows of the picture go right, its
    columns down; normals are in the coordinates of the points.
    """
    along_row, has_row = _differences(points, opaque, dim=3)
    along_column, has_column = _differences(points, opaque, dim=2)
    normals = torch.linalg.cross(along_column, along_row, dim=1)
    length = normals.norm(dim=1, keepdim=True)
    found = opaque & has_row & has_column & (length > 0)
    return torch.where(found, normals / torch.where(found, length, 1.0), 0.0), found


def normal_picture(depth: Tensor, opacity: Tensor, camera: Camera) -> Tensor:
    """Normals as colours [N, 3, H, H] in [-1, 1], from depth and opacity [N, 1, H, H].

    Red is to the right, green up, blue towards the camera, as in other tools; white where no
    surface is.
    """
    points = surface_points(depth, camera)
    normals, found = surface_normals(points, opacity > OPAQUE)
    signs = normals.new_tensor([1.0, -1.0, -1.0])[:, None, None]  # from right, down, forward
    seen = torch.einsum("nij,nihw->njhw", camera.cam2world[:, :3, :3], normals) * signs
    return torch.where(found, seen, 1.0)


def normal_variance(normals: Tensor, found: Tensor) -> Tensor:
    """1 - length of the mean normal [N]: 0 for a plane, 1/3 for a sphere seen from afar.

    normals [N, 3, H, W] count where found [N, 1, H, W]; 0 where nothing is found.
    """
    count = found.flatten(1).sum(1)
    mean = (normals * found).flatten(2).sum(2) / count.clamp(min=1)[:, None]
    return torch.where(count > 0, 1 - mean.norm(dim=1), 0.0)


def plane_distance(points: Tensor, opaque: Tensor) -> Tensor:
    """Root mean square distance [N] of the opaque points [N, 3, H, W] from their best plane.

    0 where fewer than three points are opaque [N, 1, H, W].
    """
    weights = opaque.flatten(2).double()
    points = points.flatten(2).double()
    count = weights.sum(2, keepdim=True)
    centred = (points - (points * weights).sum(2, keepdim=True) / count.clamp(min=1)) * weights
    covariance = centred @ centred.transpose(1, 2) / count.clamp(min=1)
    # On the CPU: three numbers a picture, and not every accelerator can do it.
    least = torch.linalg.eigvalsh(torch.nan_to_num(covariance).cpu())[:, 0].clamp(min=0)
    return least.sqrt().to(points.device, torch.float32)


def _differences(points: Tensor, opaque: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The next point minus the previous one, and whether one of them is opaque."""
    after, has_after = _neighbour(points, dim, 1), _neighbour(opaque, dim, 1)
    before, has_before = _neighbour(points, dim, -1), _neighbour(opaque, dim, -1)
    difference = torch.where(has_after, after, points) - torch.where(has_before, before, points)
    return difference, has_after | has_before


def _neighbour(values: Tensor, dim: int, step: int) -> Tensor:
    """Every pixel's neighbour `step` further along `dim`; zeros outside."""
    moved = values.roll(-step, dim)
    moved.select(dim, -1 if step > 0 else 0).zero_()
    return moved
