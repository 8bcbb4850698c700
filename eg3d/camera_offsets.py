"""Cameras moved rigidly by six numbers, so that a pose can be optimised."""

from collections.abc import Sequence

import torch

from training.cameras import Camera


def moved(camera: Camera, offset: torch.Tensor, pivot: Sequence[float]) -> Camera:
    """Cameras moved by offsets [6] or [N, 6]; gradients flow to the offset.

    The first three numbers turn a camera around `pivot` [3], which stays where it is in the
    picture: an axis times an angle in radians, along the camera's own right, down and forward, so
    that the second is an orbit to the camera's left. The last three shift the camera along the
    same axes, in world units. N = 1 goes with many.
    """
    offset = offset.expand(max(len(camera), offset.reshape(-1, 6).shape[0]), 6)
    pose = camera.cam2world.expand(len(offset), 4, 4)
    axes, position = pose[:, :3, :3], pose[:, :3, 3]
    turned = axes @ rotation(offset[:, :3])
    pivot = torch.as_tensor(pivot, dtype=pose.dtype, device=pose.device)
    arm = axes.mT @ (position - pivot)[:, :, None]  # from the pivot, along the camera's axes
    centre = turned @ arm + axes @ offset[:, 3:, None] + pivot[:, None]
    top = torch.cat([turned, centre], dim=2)
    lens = camera.intrinsics.expand(len(offset), 3, 3)
    return Camera(torch.cat([top, pose[:, 3:]], dim=1), lens)


def rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Rotations [N, 3, 3] around vectors [N, 3] by their lengths in radians."""
    x, y, z = vectors.unbind(1)
    o = torch.zeros_like(x)
    rows = [o, -z, y, z, o, -x, -y, x, o]
    return torch.linalg.matrix_exp(torch.stack(rows, dim=1).unflatten(1, (3, 3)))


def angle_between(camera: Camera, other: Camera) -> float:
    """The angle in degrees by which one camera (N = 1) is turned against another."""
    relative = camera.cam2world[0, :3, :3].double().T @ other.cam2world[0, :3, :3].double()
    sine = torch.stack([relative[2, 1] - relative[1, 2], relative[0, 2] - relative[2, 0]])
    sine = torch.cat([sine, (relative[1, 0] - relative[0, 1])[None]]).norm() / 2
    return torch.rad2deg(torch.atan2(sine, (relative.trace() - 1) / 2)).item()
