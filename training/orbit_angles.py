"""Cameras that look at the origin of a y-up world from yaw and pitch, without roll.

Yaw: 0 from +z, positive towards -x. Pitch: the angle between the camera's place and +y, 0 above the
origin, pi/2 level with it, pi below. Both in radians. Mirroring the picture negates the yaw. GRAM
and EpiGRAF (Skorokhodov et al. 2022) publish the cameras of their data so.
"""

import math

import torch
from torch import Tensor

from training.cameras import Camera

LEAST_PITCH = 1e-5  # radians from the poles


def label_from_angles(
    angles: Tensor, radius: float | Tensor, fov_degrees: float | Tensor
) -> Tensor:
    """Labels [N, 25] of cameras with yaw and pitch, angles [N, 2 or more]; the rest is not read.

    Args:
        radius: distance from the origin, one or [N].
        fov_degrees: angle between the left and the right edge of the picture, one or [N].

    The pitch is clamped to [1e-5, pi - 1e-5].
    """
    yaw, pitch = angles[:, 0], angles[:, 1].clamp(LEAST_PITCH, math.pi - LEAST_PITCH)
    ring = pitch.sin()
    right = torch.stack([yaw.cos(), torch.zeros_like(yaw), yaw.sin()], dim=1)
    back = torch.stack([-ring * yaw.sin(), pitch.cos(), ring * yaw.cos()], dim=1)
    pose = torch.eye(4).to(angles).repeat(len(angles), 1, 1)
    pose[:, :3, 0] = right
    pose[:, :3, 1] = torch.linalg.cross(right, back)
    pose[:, :3, 2] = -back
    pose[:, :3, 3] = back * torch.as_tensor(radius).to(angles).reshape(-1, 1)
    half = torch.deg2rad(torch.as_tensor(fov_degrees).to(angles)) / 2
    lens = torch.eye(3).to(angles).repeat(len(angles), 1, 1)
    lens[:, 0, 0] = lens[:, 1, 1] = 0.5 / half.tan()
    lens[:, :2, 2] = 0.5
    return Camera(pose, lens).label()


def angles_from_label(label: Tensor) -> Tensor:
    """Yaw in [-pi, pi], pitch in [0, pi] and 0 for the roll, [N, 3], of labels [N, 25].

    They are those of the camera's place, also where it does not look at the origin.
    """
    x, y, z = Camera.from_label(label).cam2world[:, :3, 3].unbind(1)
    yaw, pitch = torch.atan2(-x, z), torch.atan2(torch.hypot(x, z), y)
    return torch.stack([yaw, pitch, torch.zeros_like(yaw)], dim=1)
