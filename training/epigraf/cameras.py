"""EpiGRAF's cameras: angles instead of labels, and how they are distributed.

Angles are yaw, pitch and roll in radians as in `training.orbit_angles`. The roll is always 0.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.orbit_angles import LEAST_PITCH, angles_from_label, label_from_angles

__all__ = [
    "CameraDistribution",
    "angles_from_draws",
    "angles_from_label",
    "blender_angles",
    "check_frustum",
    "frustum_reach",
    "label_from_angles",
    "sample_angles",
]

DISTRIBUTIONS = (
    "uniform",
    "normal",
    "gaussian",
    "hybrid",
    "truncated_gaussian",
    "spherical_uniform",
)
_NORMAL = ("normal", "gaussian")
_TRIES = 4  # of a truncated normal number
_BOUND = 2.0  # standard deviations


@dataclass(frozen=True)
class CameraDistribution:
    """How yaw (horizontal) and pitch (vertical) are distributed; means and deviations in radians.

    dist: 'uniform' within one deviation of the mean; 'normal', also called 'gaussian';
    'truncated_gaussian', normal within two deviations; 'spherical_uniform', a pitch that is uniform
    in area, within one deviation measured in shares of pi; 'hybrid', by a coin for the whole batch
    'uniform' with doubled deviations or 'normal'.
    """

    dist: str = "uniform"
    horizontal_mean: float = 0.0
    horizontal_std: float = math.pi
    vertical_mean: float = math.pi / 2
    vertical_std: float = math.pi / 2

    def __post_init__(self):
        if self.dist not in DISTRIBUTIONS:
            raise ValueError(f"dist is {self.dist!r}; must be one of {', '.join(DISTRIBUTIONS)}")
        if min(self.horizontal_std, self.vertical_std) < 0:
            raise ValueError(
                f"horizontal_std, vertical_std are {self.horizontal_std}, {self.vertical_std}; "
                "must be 0 or more"
            )

    def settled(self, coin: float) -> "CameraDistribution":
        """What a hybrid is after the toss of a coin in [0, 1); any other stays as it is."""
        if self.dist != "hybrid":
            return self
        if coin >= 0.5:
            return replace(self, dist="normal")
        wide = dict(horizontal_std=2 * self.horizontal_std, vertical_std=2 * self.vertical_std)
        return replace(self, dist="uniform", **wide)


def sample_angles(
    count: int, distribution: CameraDistribution, device: torch.device | str | None = None
) -> Tensor:
    """Angles [count, 3] of random cameras."""
    if distribution.dist == "hybrid":
        distribution = distribution.settled(torch.rand([]).item())
    truncated = distribution.dist == "truncated_gaussian"
    draw = torch.randn if truncated or distribution.dist in _NORMAL else torch.rand
    shape = [count, _TRIES] if truncated else [count]
    yaw, pitch = draw(shape, device=device), draw(shape, device=device)
    return angles_from_draws(distribution, yaw, pitch)


def angles_from_draws(distribution: CameraDistribution, yaw: Tensor, pitch: Tensor) -> Tensor:
    """Angles [N, 3] that random numbers mean under a settled distribution.

    yaw, pitch: standard normal numbers [N] for 'normal' and [N, 4] for 'truncated_gaussian', where
    the first within the bound counts, or the first of all if none is; else uniform in [0, 1), [N].
    """
    if distribution.dist == "hybrid":
        raise ValueError("a hybrid distribution must be settled by a coin first")
    kind, mean, std = distribution.dist, distribution.vertical_mean, distribution.vertical_std
    yaw = distribution.horizontal_mean + distribution.horizontal_std * _unit(kind, yaw)
    if kind == "spherical_uniform":
        height = (mean + std * _unit(kind, pitch)) / math.pi
        pitch = torch.arccos(1 - 2 * height.clamp(1e-5, 1 - 1e-5))
    else:
        pitch = mean + std * _unit(kind, pitch)
    pitch = pitch.clamp(LEAST_PITCH, math.pi - LEAST_PITCH)
    return torch.stack([yaw, pitch, torch.zeros_like(yaw)], dim=1)


def _unit(kind: str, draws: Tensor) -> Tensor:
    """Deviations from the mean [N], in units of the standard deviation."""
    if kind == "truncated_gaussian":
        first = (draws.abs() < _BOUND).int().argmax(dim=1, keepdim=True)
        return draws.gather(1, first)[:, 0]
    return draws if kind in _NORMAL else 2 * draws - 1


def frustum_reach(
    fov_degrees: float, ray_start: float, ray_end: float, radius: float = 1.0
) -> float:
    """How far from the origin samples can lie: half the side of the smallest cube that holds the
    view of every camera on the sphere.

    The corners of a picture reach farthest. They are carried along when the camera goes around the
    sphere, and pass through every axis.
    """
    cosine = (1 + 2 * math.tan(math.radians(fov_degrees) / 2) ** 2) ** -0.5
    return max(math.sqrt(radius**2 + t**2 - 2 * radius * t * cosine) for t in (ray_start, ray_end))


def check_frustum(
    fov_degrees: float, ray_start: float, ray_end: float, radius: float, cube_scale: float
) -> None:
    """Raises ValueError where samples can lie outside the cube [-cube_scale, cube_scale]^3."""
    reach = frustum_reach(fov_degrees, ray_start, ray_end, radius)
    if reach > cube_scale:
        raise ValueError(
            f"cube_scale is {cube_scale}, but rays from {ray_start} to {ray_end} of cameras with "
            f"radius {radius} and fov {fov_degrees} reach {reach:.4g} from the origin: "
            "must be at least that"
        )


def blender_angles(cam2world: Tensor) -> Tensor:
    """Angles [N, 3] as published data sets have them of Blender's matrices [N, 4, 4] (z-up).

    They are Euler angles, the roll included, of which the yaw runs the other way round than that of
    `label_from_angles`: a picture made with yaw a is what `label_from_angles` sees from -a.
    """
    m = cam2world
    yaw = torch.atan2(m[:, 1, 0], m[:, 0, 0])
    pitch = torch.atan2(m[:, 2, 1], m[:, 2, 2])
    roll = torch.atan2(-m[:, 2, 0], torch.hypot(m[:, 2, 1], m[:, 2, 2]))
    return torch.stack([yaw, pitch, roll], dim=1)
