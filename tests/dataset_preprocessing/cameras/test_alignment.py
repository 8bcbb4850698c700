"""Similarities against their inverses and pictures; where scenes are put."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dataset_preprocessing.cameras.alignment import (
    Similarity,
    align,
    to_box,
    to_center,
    to_radius,
    to_upright,
)
from dataset_preprocessing.cameras.posed import CameraError, PosedPictures
from tests.dataset_preprocessing.cameras.scenes import POINT, expected_labels, orbit

WORLD = Rotation.from_rotvec([2.0, -0.7, 1.1]).as_matrix()
MOVE = Similarity(1.7, WORLD, np.array([3.0, -1, 2]))


def posed_of(views):
    sizes = np.array([view.size for view in views])
    posed = PosedPictures.from_labels([v.name for v in views], expected_labels(views), sizes)
    return replace(posed, points=POINT + np.random.default_rng(0).uniform(-0.3, 0.3, (100, 3)))


def pixels(posed, points):
    """Where points [M, 3] are in the pictures, [N, M, 2]."""
    rotation, center = posed.cam2world[:, None, :3, :3], posed.cam2world[:, None, :3, 3]
    seen = posed.intrinsics[:, None] @ rotation.swapaxes(-1, -2) @ (points - center)[..., None]
    return seen[..., :2, 0] / seen[..., 2:, 0]


def same(first, second):
    return all(
        np.abs(getattr(first, name) - getattr(second, name)).max() < 1e-12
        for name in ("scale", "rotation", "translation")
    )


def test_similarity_is_what_it_says():
    points = np.random.default_rng(1).normal(size=(7, 3))
    for point, moved in zip(points, MOVE.points(points), strict=True):
        assert np.allclose(moved, 1.7 * WORLD @ point + [3, -1, 2])


def test_inverse_and_composition():
    other = Similarity(0.3, WORLD @ WORLD, np.array([0.1, 0.2, 0.3]))
    points = posed_of(orbit()).points
    assert same(MOVE.inverse().after(MOVE), Similarity.of())
    assert np.allclose(other.after(MOVE).points(points), other.points(MOVE.points(points)))
    posed = posed_of(orbit())
    back = MOVE.inverse().apply(MOVE.apply(posed))
    assert np.abs(back.labels() - posed.labels()).max() < 1e-12
    assert np.abs(back.points - posed.points).max() < 1e-12


def test_pictures_stay_the_same():
    posed = posed_of(orbit())
    moved = MOVE.apply(posed)
    before, after = pixels(posed, posed.points), pixels(moved, moved.points)
    assert np.abs(before - after).max() < 1e-9
    assert np.abs(before[0, 0] - orbit()[0].pixel(posed.points[0])).max() < 1e-9


def test_align_puts_and_undoes():
    """A scene that was moved anywhere is upright, centred and of the right size; back again by the
    inverse."""
    posed = MOVE.apply(posed_of(orbit(8)))
    found, similarity = align(posed, auto_orient=True, recenter=True, radius=2.7)
    assert np.allclose(similarity.rotation @ WORLD @ [0, 1, 0], [0, 1, 0], atol=1e-12)
    assert np.linalg.norm(similarity.points(MOVE.points(np.zeros(3)))) < 0.1
    assert np.isclose(np.linalg.norm(found.cam2world[:, :3, 3], axis=1).mean(), 2.7)
    back = similarity.inverse().apply(found)
    assert np.abs(back.cam2world - posed.cam2world).max() < 1e-12


def test_each_step_alone():
    posed = MOVE.apply(posed_of(orbit(8)))
    steps = [
        (dict(auto_orient=True), to_upright(posed)),
        (dict(recenter=True), to_center(posed)),
        (dict(radius=2.0), to_radius(posed, 2.0)),
        (dict(box=1.5), to_box(posed, 1.5)),
    ]
    for options, step in steps:
        assert same(align(posed, **options)[1], step)
        assert not same(step, Similarity.of())
    assert same(align(posed)[1], Similarity.of())


# -- Up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turn", [[0, 0, 0], [np.pi, 0, 0], [0, 0, np.pi], [0.1, 0.2, 3.0]], ids=str
)
def test_upright_from_any_world(turn):
    world = Rotation.from_rotvec(turn).as_matrix()
    rotation = to_upright(posed_of(orbit(world=world))).rotation
    assert np.allclose(rotation @ world @ [0, 1, 0], [0, 1, 0], atol=1e-9)
    assert np.isclose(np.linalg.det(rotation), 1)
    angle = Rotation.from_matrix(rotation).magnitude()
    assert np.isclose(np.cos(angle), (world @ [0, 1, 0])[1], atol=1e-9)  # no more than necessary


def test_up_of_cameras_from_one_side():
    """Cameras that look the same way are turned to the mean of their ups."""
    views = orbit(3)
    for view in views:
        view.right, view.up, view.forward = views[0].right, views[0].up, views[0].forward
    rotation = to_upright(posed_of(views)).rotation
    assert np.allclose(rotation @ views[0].up, [0, 1, 0], atol=1e-12)


def test_up_of_cameras_from_about_one_side():
    """Where right axes differ by roll as much as by azimuth, the mean of ups is taken too."""
    rng = np.random.default_rng(0)
    posed = posed_of(orbit(12, world=WORLD))
    turns = Rotation.from_euler("yxz", rng.normal(0, 0.03, (12, 3))).as_matrix()
    posed.cam2world[:, :3, :3] = posed.cam2world[0, :3, :3] @ turns
    up = -posed.cam2world[:, :3, 1].mean(0)
    assert np.allclose(to_upright(posed).rotation @ up, [0, np.linalg.norm(up), 0], atol=1e-12)


def test_roll_does_not_tip_the_scene():
    """Few cameras that look down, two degrees of roll: the mean of ups would be 12 degrees off."""
    rng = np.random.default_rng(0)
    posed = posed_of(orbit(5, seed=2, world=WORLD))
    roll = Rotation.from_euler("z", rng.normal(0, 2, (5, 1)), degrees=True).as_matrix()
    posed.cam2world[:, :3, :3] = posed.cam2world[:, :3, :3] @ roll.reshape(-1, 3, 3)
    up = to_upright(posed).rotation @ WORLD @ [0, 1, 0]
    assert np.degrees(np.arccos(up[1])) < 3


def test_no_up():
    posed = posed_of(orbit(4))
    posed.cam2world[::2] = posed.cam2world[1::2]
    posed.cam2world[::2, :3, :2] *= -1  # half of them stand on their heads
    with pytest.raises(CameraError, match="no up in common"):
        to_upright(posed)


# -- Centre and size -------------------------------------------------------------------------------


def test_center_is_nearest_to_the_axes():
    """Against a search: no neighbour has a smaller sum of squared distances."""
    posed = MOVE.apply(posed_of(orbit(6)))

    def distance(point):
        away = point - posed.cam2world[:, :3, 3]
        return (np.cross(away, posed.cam2world[:, :3, 2]) ** 2).sum()

    point = -to_center(posed).translation
    for step in np.concatenate([np.eye(3), -np.eye(3)]) * 1e-3:
        assert distance(point) < distance(point + step)


def test_center_where_there_is_none():
    posed = posed_of(orbit(4))
    posed.cam2world[:, :3, :3] = posed.cam2world[0, :3, :3]
    with pytest.raises(CameraError, match="look the same way"):
        to_center(posed)
    posed = posed_of(orbit(4))
    posed.cam2world[:, :3, [0, 2]] *= -1
    with pytest.raises(CameraError, match="look outwards"):
        to_center(posed)


def test_box():
    posed = posed_of(orbit())
    posed.points[0] = 1000  # an error of the reconstruction
    moved = to_box(posed, 1.5).apply(posed)
    size = np.abs(moved.points).max(1)
    assert np.isclose(np.sort(size)[97:99], 0.75, atol=0.05).all() and (size <= 0.751).sum() >= 97
    empty = replace(posed, points=np.zeros((0, 3)))
    assert np.isclose(np.abs(to_box(empty, 1.5).apply(empty).cam2world[:, :3, 3]).max(), 0.75)


@pytest.mark.parametrize("option", ["radius", "box"])
def test_nothing_to_scale(option):
    posed = posed_of(orbit(1))
    posed.cam2world[:, :3, 3] = 0
    with pytest.raises(CameraError, match=f"--{option}: the scene has a size of 0"):
        align(replace(posed, points=np.zeros((0, 3))), **{option: 1.0})
