"""Cameras of faces from landmarks: the pose of a model of a face under a known focal length.

The world is that of Deep3DFaceRecon's cameras, so that either estimator may label a dataset.
"""

from typing import Any

import numpy as np

from dataset_preprocessing.cameras.alignment import Similarity
from dataset_preprocessing.cameras.deep3dface import SCALE, SHIFT
from dataset_preprocessing.faces.labels import FOCAL
from dataset_preprocessing.faces.steps import PreprocessingError


def load_opencv() -> Any:
    """The module cv2. Raises PreprocessingError if it is not installed."""
    try:
        import cv2
    except ImportError:
        raise PreprocessingError(
            "OpenCV is not installed: run `pip install opencv-python-headless`"
        ) from None
    return cv2


def solve_pose(points: np.ndarray, model: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """cam2world [4, 4] in the world of EG3D of a picture of width x height pixels, by least squares
    in the picture.

    Args:
        points: landmarks [N, 2] in pixels from the centre of the first one, N at least 4.
        model: the same points [N, 3] of a face in units of Deep3DFaceRecon, y up.
        size: width and height; the focal length is that of the published crop.

    Raises PreprocessingError if no camera sees them so.
    """
    cv2 = load_opencv()
    width, height = size
    lens = np.array([[FOCAL * width, 0, width / 2], [0, FOCAL * height, height / 2], [0, 0, 1]])
    seen = np.ascontiguousarray(points, dtype=np.float64) + 0.5  # from the corner, as the lens
    model = np.ascontiguousarray(model, dtype=np.float64)
    try:
        found, turn, shift = cv2.solvePnP(model, seen, lens, None, flags=cv2.SOLVEPNP_SQPNP)
        if found:
            turn, shift = cv2.solvePnPRefineLM(model, seen, lens, None, turn, shift)
    except cv2.error as error:
        raise PreprocessingError(f"no camera fits its landmarks ({error.err})") from None
    if not found or not np.isfinite(turn).all() or not shift[2, 0] > 0:
        raise PreprocessingError("no camera fits its landmarks")
    rotation = cv2.Rodrigues(turn)[0].T
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -SCALE * rotation @ shift[:, 0] + SHIFT
    return pose


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """The similarity that takes points [N, 3] nearest to others, by least squares (Umeyama 1991,
    equations 40 to 43)."""
    middle, goal = source.mean(0), target.mean(0)
    from_middle, from_goal = source - middle, target - goal
    left, strength, right = np.linalg.svd(from_goal.T @ from_middle)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = left * signs @ right
    scale = float((strength * signs).sum() / (from_middle**2).sum())
    return Similarity(scale, rotation, goal - scale * rotation @ middle)
