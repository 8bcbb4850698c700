"""Yaw, pitch and roll of cameras, whichever axis of their world points up."""

from dataclasses import dataclass

import numpy as np

from training.cameras import POSE_SIZE

_LEVEL = 1e-6  # length of the horizontal part of a direction that is vertical


@dataclass(frozen=True, eq=False)
class PoseAngles:
    """Angles of N cameras in degrees, float64 [N] each.

    yaw: from which side a camera looks, -180 to 180: 0 from +z, 90 from +x of a y-up world.
    pitch: how far above the horizon it looks from, -90 to 90. roll: how far its picture is turned,
    0 where the horizon is level, positive where its right end hangs down.
    up: the axis of the world nearest to the pictures' up, such as (0, 1, 0).
    """

    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    up: tuple[float, float, float]


def pose_angles(labels: np.ndarray) -> PoseAngles:
    """Of camera labels [N, 25]. Follows the direction of view, not the position, so that it does
    not matter where the world has its origin."""
    pose = np.asarray(labels, dtype=np.float64)[:, :POSE_SIZE].reshape(-1, 4, 4)
    right, down, forward = (pose[:, :3, k] for k in range(3))
    up = _nearest_axis(-down.mean(0))
    sideways, frontal = level_axes(up)
    back = -forward
    across = np.cross(forward, up)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    level = np.where(length > _LEVEL, across / np.maximum(length, _LEVEL), right)
    hang = np.arctan2((right * np.cross(forward, level)).sum(1), (right * level).sum(1))
    return PoseAngles(
        yaw=np.degrees(np.arctan2(back @ sideways, back @ frontal)),
        pitch=np.degrees(np.arcsin(np.clip(back @ up, -1, 1))),
        roll=np.degrees(hang),
        up=tuple(up.tolist()),
    )


def _nearest_axis(direction: np.ndarray) -> np.ndarray:
    """The one of the six axes of the world; +y where there is no direction."""
    axis = np.zeros(3)
    largest = 1 if not np.any(direction) else int(np.argmax(np.abs(direction)))
    axis[largest] = -1.0 if direction[largest] < 0 else 1.0
    return axis


def level_axes(up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The axes that yaw is measured from, at 90 and at 0 degrees: x and z of a y-up world."""
    frontal = np.roll(up, 1)
    return np.cross(up, frontal), frontal
