"""Poses of faces from Deep3DFaceRecon (Deng et al. 2019): NAME.mat with `angle` and `trans`.

The pictures are the aligned crops of the published recipe: the middle 700 of 1024 pixels, resized
at will. Their focal length follows from the crop and is the same for all.
"""

import math
from pathlib import Path

import numpy as np
import scipy.io
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.gallery import Gallery
from dataset_preprocessing.cameras.posed import CameraError, Lens, PosedPictures, assemble

MODES = ("orig", "cor")
_FOCAL = 2985.29  # pixels: 1015 of 224, enlarged to 1024 and by 300 / 466.285
_SIDE = 700
_CAMERA = np.array([0.0, 0.0, 10.0])  # where the estimator's camera stands
SCALE, SHIFT = 0.27, np.array([0.0, 0.006, 0.161])  # from its world to that of EG3D
_RADIUS = 2.7
_PIVOT = np.array([0.0, 0.0, 0.175])
_FLIP = np.diag([1.0, -1.0, -1.0])


def is_there(source: Path) -> bool:
    """Whether a folder has .mat files."""
    return source.is_dir() and any(source.glob("*.mat"))


def pictures_folder(source: Path) -> Path:
    """The folder itself."""
    return source


def read(source: Path, gallery: Gallery, mode: str = "orig") -> PosedPictures:
    """The faces of a folder of results, each moved to the distance of 2.7 (`to_radius`). Raises
    CameraError."""
    lens = Lens(_SIDE, _SIDE, _FOCAL, _FOCAL, _SIDE / 2, _SIDE / 2)
    names, poses = [], []
    for file in sorted(source.glob("*.mat")):
        names.append(gallery.find(file.stem))
        poses.append(to_radius(camera_of(*load(file)), mode))
    return assemble(names, np.array(poses), [lens] * len(names))


def camera_of(angle: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """cam2world [4, 4] in the world of EG3D; angle [3] in radians, about x, then y, then z."""
    turn = Rotation.from_euler("xyz", angle).as_matrix().T
    pose = np.eye(4)
    pose[:3, :3] = turn @ _FLIP
    pose[:3, 3] = -SCALE * turn @ (trans - _CAMERA) + SHIFT
    return pose


def coefficients_of(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """angle [3] and trans [3] of a cam2world [4, 4]: the inverse of `camera_of`."""
    turn = pose[:3, :3] @ _FLIP
    trans = _CAMERA - turn.T @ ((pose[:3, 3] - SHIFT) / SCALE)
    return Rotation.from_matrix(turn.T).as_euler("xyz"), trans


def to_radius(pose: np.ndarray, mode: str) -> np.ndarray:
    """A camera, not turned, at the distance of 2.7 from the origin ('orig') or a point within the
    head ('cor')."""
    pivot = _PIVOT if mode == "cor" else np.zeros(3)
    away = pose[:3, 3] - pivot
    moved = pose.copy()
    moved[:3, 3] = pivot + _RADIUS * away / math.hypot(*away)
    return moved


def load(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """angle [3] and trans [3] of a file of results. Raises CameraError."""
    try:
        content = scipy.io.loadmat(str(file), variable_names=("angle", "trans"))
        values = [np.asarray(content[key], dtype=np.float64) for key in ("angle", "trans")]
    except Exception as error:  # Of many kinds where the file is broken.
        raise CameraError(f"{file}: has no angle and trans ({error})") from None
    if any(v.size != 3 or not np.isfinite(v).all() for v in values):
        raise CameraError(f"{file}: angle and trans must be 3 numbers each")
    return values[0].ravel(), values[1].ravel()
