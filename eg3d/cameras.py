"""Cameras to generate from: the published pose samplers, closed loops, the conditioning camera.

Conventions: docs/cameras.md. Angles h, v of the samplers are those of
`training.cameras.orbit_position`; v is not a polar angle.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from training.cameras import Y_UP, Camera, Vector, look_at, orbit_position, pose_from_forward

__all__ = [
    "Camera",
    "FOV_to_intrinsics",
    "GaussianCameraPoseSampler",
    "LookAtPoseSampler",
    "UniformCameraPoseSampler",
    "canonical_camera",
    "create_cam2world_matrix",
    "orbit",
    "sway",
]


class GaussianCameraPoseSampler:
    """Cameras on a sphere that look at the world origin, angles normally distributed."""

    @staticmethod
    def sample(
        horizontal_mean: float,
        vertical_mean: float,
        horizontal_stddev: float = 0,
        vertical_stddev: float = 0,
        radius: float = 1,
        batch_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> torch.Tensor:
        """cam2world [batch_size, 4, 4]; angles in the sense of `orbit_position`."""
        h = torch.randn(batch_size, 1, device=device) * horizontal_stddev + horizontal_mean
        v = torch.randn(batch_size, 1, device=device) * vertical_stddev + vertical_mean
        return _poses(h, v, radius, (0.0, 0.0, 0.0))


class LookAtPoseSampler:
    """Cameras on a sphere around the world origin that look at a given point."""

    @staticmethod
    def sample(
        horizontal_mean: float,
        vertical_mean: float,
        lookat_position: Vector,
        horizontal_stddev: float = 0,
        vertical_stddev: float = 0,
        radius: float = 1,
        batch_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> torch.Tensor:
        """cam2world [batch_size, 4, 4]; angles normally distributed, lookat_position [3]."""
        h = torch.randn(batch_size, 1, device=device) * horizontal_stddev + horizontal_mean
        v = torch.randn(batch_size, 1, device=device) * vertical_stddev + vertical_mean
        return _poses(h, v, radius, lookat_position)


class UniformCameraPoseSampler:
    """Cameras on a sphere that look at the world origin, angles uniform on mean +- stddev."""

    @staticmethod
    def sample(
        horizontal_mean: float,
        vertical_mean: float,
        horizontal_stddev: float = 0,
        vertical_stddev: float = 0,
        radius: float = 1,
        batch_size: int = 1,
        device: str | torch.device = "cpu",
    ) -> torch.Tensor:
        """cam2world [batch_size, 4, 4]; angles in the sense of `orbit_position`."""
        h = (torch.rand(batch_size, 1, device=device) * 2 - 1) * horizontal_stddev + horizontal_mean
        v = (torch.rand(batch_size, 1, device=device) * 2 - 1) * vertical_stddev + vertical_mean
        return _poses(h, v, radius, (0.0, 0.0, 0.0))


def _poses(h: torch.Tensor, v: torch.Tensor, radius: float, target: Vector) -> torch.Tensor:
    return look_at(orbit_position(h[:, 0], v[:, 0], radius), target)


def create_cam2world_matrix(forward_vector: torch.Tensor, origin: torch.Tensor) -> torch.Tensor:
    """cam2world [N, 4, 4] at origin [N, 3] viewing along forward_vector [N, 3], +y up, no roll."""
    return pose_from_forward(forward_vector, origin)


def FOV_to_intrinsics(fov_degrees: float, device: str | torch.device = "cpu") -> torch.Tensor:
    """Normalised intrinsics [3, 3] of a *diagonal* field of view in degrees.

    The constants are the published, truncated ones: 18.837 degrees give a focal length of 4.26339.
    """
    focal = 1 / (math.tan(fov_degrees * 3.14159 / 360) * 1.414)
    return torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]], device=device)


def canonical_camera(rendering_kwargs: Mapping[str, Any], intrinsics: torch.Tensor) -> Camera:
    """The camera that identities are conditioned on: frontal, at the data set's mean distance.

    Reads avg_camera_pivot (default the origin) and avg_camera_radius (2.7). intrinsics [3, 3] or
    [N, 3, 3], those of the camera that renders; one camera for each.
    """
    lens = intrinsics.reshape(-1, 3, 3)
    pose = LookAtPoseSampler.sample(
        math.pi / 2,
        math.pi / 2,
        rendering_kwargs.get("avg_camera_pivot", (0.0, 0.0, 0.0)),
        radius=rendering_kwargs.get("avg_camera_radius", 2.7),
        device=lens.device,
    )
    return Camera(pose.expand(len(lens), 4, 4), lens)


def orbit(
    count: int,
    radius: float,
    intrinsics: torch.Tensor,
    elevation: float = 0.0,
    pivot: Vector = (0.0, 0.0, 0.0),
    up: Vector = Y_UP,
) -> Camera:
    """A closed loop of `count` cameras around the world's vertical through the origin.

    Equal steps of azimuth at distance `radius` from the origin, raised by `elevation` radians, all
    looking at `pivot`. The first camera is at +z in a y-up world, at +x in a z-up world (ShapeNet);
    the second lies to its right. intrinsics [3, 3].
    """
    kind = {"dtype": torch.float32, "device": intrinsics.device}
    front, side, up = _horizon(torch.as_tensor(up, **kind))
    azimuth = torch.arange(count, **kind)[:, None] * (2 * math.pi / count)
    ring = torch.cos(azimuth) * front + torch.sin(azimuth) * side
    position = radius * (math.cos(elevation) * ring + math.sin(elevation) * up)
    return Camera(look_at(position, pivot, up), intrinsics.expand(count, 3, 3))


def sway(
    count: int,
    radius: float,
    intrinsics: torch.Tensor,
    pivot: Vector = (0.0, 0.0, 0.0),
    yaw_range: float = 0.35,
    pitch_range: float = 0.25,
    pitch_offset: float = -0.05,
) -> Camera:
    """A closed loop of `count` cameras that sway around the front, as in the published videos.

    h = pi/2 + yaw_range sin a, v = pi/2 + pitch_offset + pitch_range cos a, for a over one turn.
    """
    turn = torch.arange(count, device=intrinsics.device) * (2 * math.pi / count)
    h = math.pi / 2 + yaw_range * torch.sin(turn)
    v = math.pi / 2 + pitch_offset + pitch_range * torch.cos(turn)
    pose = look_at(orbit_position(h, v, radius), pivot)
    return Camera(pose, intrinsics.expand(count, 3, 3))


def _horizon(up: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Front, side and up, orthonormal [3] each; front is the axis after `up` in x, y, z, x."""
    up = up / up.norm()
    front = up.roll(1)
    front = front - (front @ up) * up
    if front.norm() < 1e-3:
        raise ValueError(f"up direction {up.tolist()} has no next axis; use an axis of the world")
    front = front / front.norm()
    return front, torch.linalg.cross(up, front), up
