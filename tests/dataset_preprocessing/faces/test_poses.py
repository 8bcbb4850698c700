"""A known camera projects known landmarks and is recovered."""

import builtins

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.deep3dface import camera_of
from dataset_preprocessing.faces import mediapipe_model
from dataset_preprocessing.faces.labels import FOCAL
from dataset_preprocessing.faces.poses import fit_similarity, solve_pose
from dataset_preprocessing.faces.steps import PreprocessingError
from tests.dataset_preprocessing.faces.heads import MODEL

cv2 = pytest.importorskip("cv2")

ANGLES = [(0, 0, 0), (0.1, -0.35, 0.07), (-0.2, 0.6, -0.1), (0.3, -0.9, 0.3)]
SIZE = (512, 512)


def projected(model, angle, trans, side):
    """Landmarks by the conventions of Deep3DFaceRecon alone: vertices turned and moved, a camera at
    z = 10 that looks along -z, focal length of the crop."""
    turn = Rotation.from_euler("xyz", angle).as_matrix()
    points = model @ turn.T + trans
    depth = 10 - points[:, 2]
    focal = FOCAL * side
    x, y = focal * points[:, 0] / depth, focal * points[:, 1] / depth
    return np.stack([side / 2 + x, side / 2 - y], axis=1) - 0.5


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("trans", [(0, 0, 0), (0.1, -0.06, 0.4)])
@pytest.mark.parametrize("model", [MODEL, mediapipe_model.model_points(MODEL)], ids=["5", "13"])
def test_pose_is_recovered(angle, trans, model):
    pose = solve_pose(projected(model, angle, trans, 512), model, SIZE)
    assert np.allclose(pose, camera_of(np.array(angle), np.array(trans)), atol=1e-4)


def test_noise_moves_the_pose_a_little():
    """Half a pixel of noise in 13 landmarks: a degree or so."""
    model = mediapipe_model.model_points(MODEL)
    random, angle = np.random.RandomState(0), np.array([0.1, -0.3, 0.05])
    true = camera_of(angle, np.zeros(3))
    for _ in range(10):
        points = projected(model, angle, np.zeros(3), 512) + 0.5 * random.randn(13, 2)
        turn = solve_pose(points, model, SIZE)[:3, :3].T @ true[:3, :3]
        assert np.degrees(np.linalg.norm(Rotation.from_matrix(turn).as_rotvec())) < 3


@pytest.mark.parametrize("points", [np.full((5, 2), np.nan), np.zeros((5, 2))])
def test_no_camera(points):
    with pytest.raises(PreprocessingError, match="no camera fits"):
        solve_pose(points, MODEL, SIZE)


def test_similarity_is_found_again():
    random = np.random.RandomState(1)
    turn = Rotation.random(random_state=random).as_matrix()
    source = random.randn(5, 3)
    found = fit_similarity(source, 0.3 * source @ turn.T + [1, 2, 3])
    assert found.scale == pytest.approx(0.3) and np.allclose(found.rotation, turn)
    assert np.allclose(found.translation, [1, 2, 3])


def test_similarity_never_reflects():
    source = np.random.RandomState(2).randn(6, 3)
    assert np.linalg.det(fit_similarity(source, source * (1, 1, -1)).rotation) == pytest.approx(1)


def test_canonical_face():
    """Symmetric, upright, eyes above the mouth, nose in front; of a size that centimetres allow."""
    places = np.array(list(mediapipe_model.POINTS.values()))
    mirrored = {tuple(p) for p in places * (-1, 1, 1) + 0.0}
    assert mirrored == {tuple(p) for p in places + 0.0}
    mesh = np.zeros((478, 3))
    mesh[mediapipe_model.NUMBERS] = places
    left, right, nose, *mouth = mediapipe_model.five_of_mesh(mesh)
    assert 5.5 < right[0] - left[0] < 7 and nose[2] == places[:, 2].max()
    assert left[1] > nose[1] > mouth[0][1] and mouth[0][0] < 0 < mouth[1][0]


def test_without_opencv(monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "cv2":
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(PreprocessingError, match="pip install opencv-python-headless"):
        solve_pose(np.zeros((5, 2)), MODEL, SIZE)
