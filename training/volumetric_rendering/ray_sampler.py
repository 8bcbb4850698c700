"""From a camera to one ray for every pixel."""

import torch
import torch.nn.functional as F


class RaySampler(torch.nn.Module):
    """Rays through the pixel centres of a square picture. Has no parameters.

    The attributes are always None; they exist because published pickles carry them.
    """

    def __init__(self):
        super().__init__()
        self.ray_origins_h = None
        self.ray_directions = None
        self.depths = None
        self.image_coords = None
        self.rendering_options = None

    def forward(
        self, cam2world_matrix: torch.Tensor, intrinsics: torch.Tensor, resolution: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cam2world [N, 4, 4] (OpenCV axes), intrinsics [N, 3, 3] of an image that spans [0, 1]^2.

        -> origins and unit directions, each [N, resolution^2, 3], differentiable in both inputs.
        Ray row * resolution + column belongs to the pixel in that row and column.
        """
        x, y = pixel_centres(resolution, like=cam2world_matrix)
        return camera_rays(cam2world_matrix, intrinsics, x[None], y[None])


def pixel_centres(resolution: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Image coordinates x, y in [0, 1], each [resolution^2], of all pixel centres, row by row."""
    steps = torch.arange(resolution, dtype=like.dtype, device=like.device)
    steps = steps * (1 / resolution) + 0.5 / resolution
    return steps.repeat(resolution), steps.repeat_interleave(resolution)


def camera_rays(
    cam2world: torch.Tensor, intrinsics: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rays through image points x, y [N or 1, M] of [0, 1]^2 -> origins, directions [N, M, 3].

    Directions have unit length, so that depth everywhere means distance along the ray.
    """
    fx, skew, cx = (intrinsics[:, 0, i, None] for i in range(3))
    fy, cy = intrinsics[:, 1, 1, None], intrinsics[:, 1, 2, None]
    lifted_x = (x - cx + cy * skew / fy - skew * y / fy) / fx
    lifted_y = ((y - cy) / fy).expand_as(lifted_x)
    ones = torch.ones_like(lifted_x)
    # One product of [4, 4] with [4, M]: the transposed product rounds differently (2e-7 in the
    # direction), which sharp scenes magnify.
    on_plane = cam2world @ torch.stack([lifted_x, lifted_y, ones, ones], dim=1)
    centre = cam2world[:, None, :3, 3]
    directions = F.normalize(on_plane[:, :3].transpose(1, 2) - centre, dim=-1)
    return centre.expand_as(directions), directions
