"""What is wrong with camera labels, and what of it can be put right without guessing."""

from dataclasses import dataclass, field

import numpy as np

from training.cameras import FARTHEST_CENTRE, LABEL_SIZE, POSE_SIZE, check_label

_TOLERANCE = 1e-3  # of training.cameras.check_label
_LARGEST = 1e30
_UNEVEN = 1.2  # ratio of the axes' lengths up to which a matrix is taken for a rotation
_AWAY = 0.8  # share of cameras that look away from what all look at, from which axes are OpenGL's
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Mended:
    """A label as it should be, float64 [25], or None; what was mended; what cannot be."""

    label: np.ndarray | None
    mends: list[str] = field(default_factory=list)
    problem: str | None = None


def mend_label(label: object, width: int, height: int) -> Mended:
    """A camera label of a picture of width x height pixels, with rotations that are not quite
    orthonormal, or scaled, made so; intrinsics in pixels divided; last rows as they must be."""
    if not isinstance(label, list) or not all(type(v) in (int, float) for v in label):
        return Mended(None, problem="has no camera in dataset.json")
    if len(label) != LABEL_SIZE:
        return Mended(None, problem=f"its label has {len(label)} numbers, must be {LABEL_SIZE}")
    if max(map(abs, label)) > _LARGEST or not np.isfinite(label).all():
        return Mended(None, problem="camera label has a value that is not finite")
    values = np.array(label, dtype=np.float64)
    pose, lens = values[:POSE_SIZE].reshape(4, 4), values[POSE_SIZE:].reshape(3, 3)
    mends = []
    if np.abs(pose[3] - (0, 0, 0, 1)).max() > _TOLERANCE:
        mends.append("last row of the pose")
        pose[3] = (0, 0, 0, 1)
    rotation = pose[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > _TOLERANCE:
        nearest = _nearest_rotation(rotation)
        if nearest is not None:
            mends.append("rotation that is not orthonormal")
            pose[:3, :3] = nearest
    if np.abs(lens[:2, 2]).max() > FARTHEST_CENTRE:
        mends.append("intrinsics in pixels")
        lens[0], lens[1] = lens[0] / width, lens[1] / height
    if np.abs(lens[2] - (0, 0, 1)).max() > _TOLERANCE:
        mends.append("last row of the intrinsics")
        lens[2] = (0, 0, 1)
    problem = check_label(values)
    return Mended(None, problem=problem) if problem else Mended(values, mends)


def looks_away(labels: np.ndarray, pivot: np.ndarray) -> np.ndarray:
    """Mask [N] of the cameras [N, 25] that have a point behind them."""
    pose = labels[:, :POSE_SIZE].reshape(-1, 4, 4)
    return ((pivot - pose[:, :3, 3]) * pose[:, :3, 2]).sum(1) < 0


def has_opengl_axes(labels: np.ndarray, pivot: np.ndarray) -> bool:
    """Whether most cameras look away from what their axes meet at, as they do where y is up and z
    backward in place of down and forward."""
    return len(labels) > 2 and bool(looks_away(labels, pivot).mean() > _AWAY)


def from_opengl(labels: np.ndarray) -> np.ndarray:
    """Labels [N, 25] with their second and third axis turned round."""
    pose = labels[:, :POSE_SIZE].reshape(-1, 4, 4) @ _OPENGL
    return np.concatenate([pose.reshape(-1, POSE_SIZE), labels[:, POSE_SIZE:]], axis=1)


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray | None:
    """In the sense of least squares; None for a reflection, or what is no rotation at all."""
    left, lengths, right = np.linalg.svd(matrix)
    if lengths[2] <= 0 or lengths[0] > _UNEVEN * lengths[2] or np.linalg.det(matrix) < 0:
        return None
    return left @ right
