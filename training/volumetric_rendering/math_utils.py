"""Small vector helpers and the intersection of rays with the scene's box."""

import torch


def transform_vectors(matrix: torch.Tensor, vectors4: torch.Tensor) -> torch.Tensor:
    """Apply matrix [4, 4] to the row vectors vectors4 [N, 4] -> [N, 4]."""
    return vectors4 @ matrix.T


def normalize_vecs(vectors: torch.Tensor) -> torch.Tensor:
    """Scale vectors [..., D] to unit length (no epsilon: a zero vector gives NaN)."""
    return vectors / vectors.norm(dim=-1, keepdim=True)


def torch_dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Inner product of x and y [..., D] over the last dimension -> [...]."""
    return (x * y).sum(-1)


def linspace(start: torch.Tensor, stop: torch.Tensor, num: int) -> torch.Tensor:
    """`num` evenly spaced values from start [...] to stop [...], both included -> [num, ...]."""
    fraction = torch.arange(num, dtype=start.dtype, device=start.device) / (num - 1)
    fraction = fraction.reshape(num, *[1] * start.ndim)
    return start + fraction * (stop - start)


def get_ray_limits_box(
    rays_o: torch.Tensor, rays_d: torch.Tensor, box_side_length: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances at which rays enter and leave the cube of that side around the world origin.

    rays_o, rays_d [..., 3] -> (near, far), each [..., 1], without gradient. The slab test: near is
    the last entry into the three slabs, far the first exit. A ray that misses gets (-1, -2). Near
    is negative for a camera inside the cube, and both are for a cube behind the camera.
    """
    origins, slopes = rays_o.detach(), 1 / rays_d.detach()
    # A slope of minus infinity (direction -0) enters from the positive face, like any negative one.
    half = torch.where(slopes < 0, -box_side_length / 2, box_side_length / 2).to(origins.dtype)
    enter = (-half - origins) * slopes
    leave = (half - origins) * slopes

    # Comparisons with NaN (0 * inf: a ray inside a face) are false, so x against y must come first.
    near, far = enter[..., 0:1], leave[..., 0:1]
    missed = torch.zeros_like(near, dtype=torch.bool)
    for axis in (1, 2):
        axis_near, axis_far = enter[..., axis : axis + 1], leave[..., axis : axis + 1]
        missed = missed | (near > axis_far) | (axis_near > far)
        near, far = torch.maximum(near, axis_near), torch.minimum(far, axis_far)
    return near.masked_fill(missed, -1.0), far.masked_fill(missed, -2.0)
