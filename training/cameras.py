"""Cameras: the only place that packs and unpacks the 25 numbers of a label.

Labels of networks with classes are longer: behind the camera there are K numbers, the class,
one-hot (docs/datasets.md).

Conventions (docs/cameras.md): poses map camera to world, camera axes are right, down, forward
(OpenCV), intrinsics are divided by the image size, worlds of faces have +y up.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

LABEL_SIZE = 25
POSE_SIZE = 16
FARTHEST_CENTRE = 8.0  # images: a principal point beyond is one in pixels
Y_UP = (0.0, 1.0, 0.0)
Z_UP = (0.0, 0.0, 1.0)

Vector = torch.Tensor | Sequence[float]


@dataclass(frozen=True, eq=False)
class Camera:
    """N cameras: cam2world [N, 4, 4] and intrinsics [N, 3, 3] of an image that spans [0, 1]^2."""

    cam2world: torch.Tensor
    intrinsics: torch.Tensor

    def __post_init__(self):
        pose, lens = tuple(self.cam2world.shape), tuple(self.intrinsics.shape)
        if len(pose) != 3 or pose[1:] != (4, 4) or lens != (pose[0], 3, 3):
            raise ValueError(
                f"camera: cam2world of shape {pose} and intrinsics of shape {lens}; "
                "must be [N, 4, 4] and [N, 3, 3]"
            )

    def __len__(self) -> int:
        return self.cam2world.shape[0]

    def __getitem__(self, index: int | slice) -> "Camera":
        """Some of the cameras, as cameras: an integer gives N = 1."""
        if isinstance(index, int):
            index = range(len(self))[index]
            index = slice(index, index + 1)
        return Camera(self.cam2world[index], self.intrinsics[index])

    @classmethod
    def from_label(cls, label: torch.Tensor) -> "Camera":
        """Labels [N, 25]: the pose row by row, then the intrinsics row by row. A class that follows
        is no part of a camera and not looked at."""
        if label.ndim != 2 or label.shape[1] < LABEL_SIZE:
            raise ValueError(
                f"camera labels have shape {tuple(label.shape)}; must be [N, {LABEL_SIZE}], or "
                "longer by a class"
            )
        pose, lens = label[:, :POSE_SIZE], label[:, POSE_SIZE:LABEL_SIZE]
        return cls(pose.unflatten(1, (4, 4)), lens.unflatten(1, (3, 3)))

    def label(self) -> torch.Tensor:
        """Labels [N, 25], the inverse of `from_label`."""
        return torch.cat([self.cam2world.flatten(1), self.intrinsics.flatten(1)], dim=1)

    def to(self, *args, **kwargs) -> "Camera":
        """On another device or in another dtype; arguments as of torch.Tensor.to."""
        return Camera(self.cam2world.to(*args, **kwargs), self.intrinsics.to(*args, **kwargs))

    def mirror(self) -> "Camera":
        """The cameras that see the mirrored world (x to -x) as the mirrored image.

        Pose S P S with S = diag(-1, 1, 1, 1); principal point cx to 1 - cx, skew to its negative.
        """
        signs = self.cam2world.new_ones(4, 4)
        signs[0, 1:] = signs[1:, 0] = -1
        lens = self.intrinsics.clone()
        lens[:, 0, 1] = -lens[:, 0, 1]
        lens[:, 0, 2] = 1 - lens[:, 0, 2]
        return Camera(self.cam2world * signs, lens)


def split_label(label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels [N, 25 + K] -> cameras [N, 25] and classes [N, K]."""
    return label.tensor_split([LABEL_SIZE], dim=1)


def check_label(label: Sequence[float] | np.ndarray, tolerance: float = 1e-3) -> str | None:
    """What is wrong with one camera label of 25 numbers, in one line; None if nothing is."""
    try:
        values = np.asarray(label, dtype=np.float64)
    except OverflowError:  # an integer of hundreds of digits
        return "camera label has a value that is not finite"
    except (TypeError, ValueError):
        return f"camera label must be {LABEL_SIZE} numbers"
    if values.shape != (LABEL_SIZE,):
        return f"camera label has shape {values.shape}, must be {LABEL_SIZE} numbers"
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(np.float32))  # as training takes them
    if not finite.all():
        return f"camera label has a value that is not finite at {int(np.argmin(finite))}"
    pose, lens = values[:POSE_SIZE].reshape(4, 4), values[POSE_SIZE:].reshape(3, 3)
    if np.abs(pose[3] - (0, 0, 0, 1)).max() > tolerance:
        return f"last row of the camera pose is {pose[3].tolist()}, must be 0 0 0 1"
    rotation = pose[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > tolerance:
        return "rotation of the camera pose is not orthonormal"
    if np.linalg.det(rotation) < 0:
        return "rotation of the camera pose is a reflection (determinant -1, must be +1)"
    if lens[0, 0] <= 0 or lens[1, 1] <= 0:
        return f"focal lengths of the camera are {lens[0, 0]}, {lens[1, 1]}, must be positive"
    if np.abs(lens[:2, 2]).max() > FARTHEST_CENTRE:
        return (
            f"principal point of the camera is {lens[0, 2]}, {lens[1, 2]}, must be near 0.5: "
            "intrinsics are divided by the size of the image"
        )
    if np.abs(lens[2] - (0, 0, 1)).max() > tolerance:
        return f"last row of the camera's intrinsics is {lens[2].tolist()}, must be 0 0 1"
    return None


def pose_from_forward(forward: torch.Tensor, origin: torch.Tensor, up: Vector = Y_UP):
    """cam2world [N, 4, 4] of cameras at origin [N, 3] that view along forward [N, 3], without roll.

    The picture's upper edge is towards `up`; undefined (NaN) where forward is parallel to it.
    """
    up = torch.as_tensor(up, dtype=forward.dtype, device=forward.device).expand_as(forward)
    forward = _unit(forward)
    right = -_unit(torch.linalg.cross(up, forward))
    down = _unit(torch.linalg.cross(forward, right))
    top = torch.stack([right, down, forward, origin.expand_as(forward)], dim=-1)
    last = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(top.shape[0], 1, 4)
    return torch.cat([top, last], dim=1)


def look_at(origin: torch.Tensor, target: Vector, up: Vector = Y_UP) -> torch.Tensor:
    """cam2world [N, 4, 4] of cameras at origin [N, 3] that look at target [3] or [N, 3]."""
    target = torch.as_tensor(target, dtype=origin.dtype, device=origin.device)
    return pose_from_forward(target - origin, origin, up)


def orbit_position(h: torch.Tensor, v: torch.Tensor, radius: float = 1.0) -> torch.Tensor:
    """Positions [..., 3] on the sphere around the origin of a y-up world; h, v [...].

    h = v = pi/2 is (0, 0, radius). Greater h moves towards +x, smaller v upwards. v is not the
    polar angle phi but pi/2 (1 - cos phi): uniform v is uniform in area, and near the equator one
    unit of v is only 2/pi radians.
    """
    v = v.clamp(1e-5, math.pi - 1e-5)
    polar = torch.arccos(1 - 2 * (v / math.pi))
    ring = torch.sin(polar)
    azimuth = math.pi - h
    position = [ring * torch.cos(azimuth), torch.cos(polar), ring * torch.sin(azimuth)]
    return radius * torch.stack(position, dim=-1)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True)
