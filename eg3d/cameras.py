"""Cameras to generate from: at given angles, drawn, in closed loops; the conditioning camera.

Conventions: docs/cameras.md. The published pose samplers (classes) and `sway` take the angles h, v
of `training.cameras.orbit_position`, whose v is not a polar angle. Everything else takes true
angles in radians: azimuth 0 is the front, pi/2 the right; elevation is above the horizon.
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
    "around",
    "canonical_camera",
    "create_cam2world_matrix",
    "gaussian",
    "horizontal_fov",
    "horizontal_fov_to_intrinsics",
    "look_at",
    "orbit",
    "sway",
    "uniform",
]


_ALMOST_A_POLE = math.pi / 2 - 1e-3  # There is no upright picture at the poles themselves.


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
    return _centred(1 / (math.tan(fov_degrees * 3.14159 / 360) * 1.414), device)


def horizontal_fov_to_intrinsics(
    degrees: float, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Normalised intrinsics [3, 3] of a field of view in degrees, from left edge to right edge."""
    return _centred(0.5 / math.tan(math.radians(degrees) / 2), device)


def horizontal_fov(intrinsics: torch.Tensor) -> torch.Tensor:
    """Degrees [...] from left edge to right edge of lenses [..., 3, 3], also off centre ones."""
    focal, centre = intrinsics[..., 0, 0], intrinsics[..., 0, 2]
    return torch.rad2deg(torch.atan(centre / focal) + torch.atan((1 - centre) / focal))


def _centred(focal: float, device: str | torch.device) -> torch.Tensor:
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


def around(
    azimuth: torch.Tensor,
    elevation: torch.Tensor,
    radius: float,
    intrinsics: torch.Tensor,
    pivot: Vector = (0.0, 0.0, 0.0),
    up: Vector = Y_UP,
) -> Camera:
    """Cameras at angles [N] on a sphere of this radius around the world origin, looking at `pivot`.

    The front is +z in a y-up world and +x in a z-up one (ShapeNet). intrinsics [3, 3].
    """
    azimuth, elevation = (angle.to(intrinsics)[:, None] for angle in (azimuth, elevation))
    front, side, up = _horizon(torch.as_tensor(up).to(intrinsics))
    ring = torch.cos(azimuth) * front + torch.sin(azimuth) * side
    position = radius * (torch.cos(elevation) * ring + torch.sin(elevation) * up)
    return Camera(look_at(position, pivot, up), intrinsics.expand(len(position), 3, 3))


def gaussian(
    count: int,
    radius: float,
    intrinsics: torch.Tensor,
    azimuth: tuple[float, float] = (0.0, 0.0),
    elevation: tuple[float, float] = (0.0, 0.0),
    pivot: Vector = (0.0, 0.0, 0.0),
    up: Vector = Y_UP,
    generator: torch.Generator | None = None,
) -> Camera:
    """`count` cameras at normally distributed angles, (mean, standard deviation) each.

    Elevations end just before the poles. Random numbers come from `generator`, a CPU's, default
    torch's own; other arguments as of `around`.
    """
    angles = torch.randn(2, count, generator=generator, dtype=torch.float64)
    (mean, deviation), (height, spread) = azimuth, elevation
    elevations = (height + spread * angles[1]).clamp(-_ALMOST_A_POLE, _ALMOST_A_POLE)
    return around(mean + deviation * angles[0], elevations, radius, intrinsics, pivot, up)


def uniform(
    count: int,
    radius: float,
    intrinsics: torch.Tensor,
    azimuth: tuple[float, float] = (-math.pi, math.pi),
    elevation: tuple[float, float] = (0.0, 0.0),
    pivot: Vector = (0.0, 0.0, 0.0),
    up: Vector = Y_UP,
    generator: torch.Generator | None = None,
) -> Camera:
    """`count` cameras evenly by area over a part of the sphere, angles (lowest, highest) each.

    Arguments as of `gaussian`.
    """
    share = torch.rand(2, count, generator=generator, dtype=torch.float64)
    bottom, top = (math.sin(angle) for angle in elevation)
    elevations = torch.asin(bottom + (top - bottom) * share[1])
    elevations = elevations.clamp(-_ALMOST_A_POLE, _ALMOST_A_POLE)
    azimuths = azimuth[0] + (azimuth[1] - azimuth[0]) * share[0]
    return around(azimuths, elevations, radius, intrinsics, pivot, up)


def orbit(
    count: int,
    radius: float,
    intrinsics: torch.Tensor,
    elevation: float = 0.0,
    pivot: Vector = (0.0, 0.0, 0.0),
    up: Vector = Y_UP,
) -> Camera:
    """A closed loop of `count` cameras in equal steps of azimuth, from the front to the right.

    elevation: of all of them; other arguments as of `around`.
    """
    azimuth = torch.arange(count) * (2 * math.pi / count)
    elevation = torch.full((count,), elevation)
    return around(azimuth, elevation, radius, intrinsics, pivot, up)


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
