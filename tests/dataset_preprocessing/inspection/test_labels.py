"""Labels that can be mended, and those that cannot."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dataset_preprocessing.inspection.labels import from_opengl, has_opengl_axes, mend_label
from tests.training.test_sampling_weights import labels_at

GOOD = labels_at([35], [20], roll=5)[0]


def changed(change):
    pose, lens = GOOD[:16].reshape(4, 4).copy(), GOOD[16:].reshape(3, 3).copy()
    change(pose, lens)
    return [*pose.ravel().tolist(), *lens.ravel().tolist()]


def scale_rotation(pose, lens):
    pose[:3, :3] *= 1.7


def to_pixels(pose, lens):
    lens[0] *= 128
    lens[1] *= 64


def last_rows(pose, lens):
    pose[3] = lens[2] = 0


@pytest.mark.parametrize(
    "change, mends",
    [
        (lambda pose, lens: None, []),
        (scale_rotation, ["rotation that is not orthonormal"]),
        (to_pixels, ["intrinsics in pixels"]),
        (last_rows, ["last row of the pose", "last row of the intrinsics"]),
    ],
)
def test_what_is_mended_is_what_it_was(change, mends):
    mended = mend_label(changed(change), 128, 64)
    assert mended.mends == mends and mended.problem is None
    np.testing.assert_allclose(mended.label, GOOD, atol=1e-12)


def test_the_nearest_rotation():
    """No other rotation is nearer to the matrix."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.02, (3, 3))

    def disturb(pose, lens):
        pose[:3, :3] += noise

    matrix = np.array(changed(disturb)[:16]).reshape(4, 4)[:3, :3]
    found = mend_label(changed(disturb), 64, 64).label[:16].reshape(4, 4)[:3, :3]
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
    least = np.linalg.norm(found - matrix)
    for _ in range(200):
        other = found @ Rotation.from_rotvec(random.normal(0, 0.01, 3)).as_matrix()
        assert np.linalg.norm(other - matrix) >= least


def reflect(pose, lens):
    pose[:3, 0] *= -1


def flatten(pose, lens):
    pose[:3, 2] = 0


def negative(pose, lens):
    lens[0, 0] *= -1


@pytest.mark.parametrize(
    "label, words",
    [
        (None, "no camera"),
        (3, "no camera"),
        ([1.0, "x"], "no camera"),
        ([True] * 25, "no camera"),
        ([1.0] * 16, "16 numbers, must be 25"),
        ([float("nan"), *GOOD[1:].tolist()], "not finite"),
        (changed(reflect), "reflection"),
        (changed(flatten), "not orthonormal"),
        (changed(negative), "focal lengths"),
    ],
)
def test_what_nobody_can_mend(label, words):
    mended = mend_label(label, 64, 64)
    assert mended.label is None and words in mended.problem


def test_axes_of_opengl():
    labels = labels_at(np.linspace(-180, 170, 20), np.linspace(5, 40, 20))
    other = from_opengl(labels)
    origin = np.zeros(3)
    assert has_opengl_axes(other, origin) is True and has_opengl_axes(labels, origin) is False
    np.testing.assert_allclose(from_opengl(other), labels)
    pose = labels[3, :16].reshape(4, 4)
    gl = np.stack([pose[:, 0], -pose[:, 1], -pose[:, 2], pose[:, 3]], axis=1)
    np.testing.assert_allclose(other[3, :16], gl.ravel())
