"""Moved cameras against geometry and SciPy's rotations."""

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from eg3d.camera_offsets import angle_between, moved, rotation
from training.cameras import Camera, check_label, look_at

PIVOT = (0.1, -0.2, 0.3)
LENS = torch.tensor([[1.6, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]])


@pytest.fixture
def camera():
    return Camera(look_at(torch.tensor([[1.0, 0.8, 1.7]]), PIVOT), LENS[None])


def seen(camera, point):
    """A world point [3] along the right, down and forward of cameras, [N, 3]."""
    pose = camera.cam2world
    return ((torch.tensor(point) - pose[:, :3, 3])[:, None] @ pose[:, :3, :3])[:, 0]


def test_no_offset_changes_nothing(camera):
    same = moved(camera, torch.zeros(6), PIVOT)
    assert torch.allclose(same.label(), camera.label(), atol=1e-6)


def test_turning_keeps_the_pivot_in_place(camera):
    offsets = torch.randn(20, 6)
    offsets[:, 3:] = 0
    turned = moved(camera, offsets, PIVOT)
    assert all(check_label(label) is None for label in turned.label())
    assert torch.allclose(seen(turned, PIVOT), seen(camera, PIVOT).expand(20, 3), atol=1e-5)
    distances = (turned.cam2world[:, :3, 3] - camera.cam2world[:, :3, 3]).norm(dim=1)
    assert (distances > 0.1).all()


def test_directions(camera):
    """The second number goes left around the pivot; the fourth to sixth shift as they say."""
    left = moved(camera, torch.tensor([0, 0.3, 0, 0, 0, 0]), PIVOT)
    x, y, z = seen(camera, left.cam2world[0, :3, 3].tolist())[0].tolist()
    radius = seen(camera, PIVOT).norm().item()
    assert x == pytest.approx(-radius * math.sin(0.3), abs=1e-5)
    assert y == pytest.approx(0, abs=1e-5)
    assert z == pytest.approx(radius * (1 - math.cos(0.3)), abs=1e-5)
    shifted = moved(camera, torch.tensor([0, 0, 0, 0.1, 0.2, -0.3]), PIVOT)
    place = seen(camera, shifted.cam2world[0, :3, 3].tolist())[0]
    assert torch.allclose(place, torch.tensor([0.1, 0.2, -0.3]), atol=1e-5)
    assert torch.equal(shifted.cam2world[:, :3, :3], camera.cam2world[:, :3, :3])


def test_rotation_equals_scipy():
    vectors = torch.randn(50, 3, dtype=torch.float64) * 2
    expected = torch.from_numpy(Rotation.from_rotvec(vectors.numpy()).as_matrix())
    assert torch.allclose(rotation(vectors), expected, atol=1e-12)


def test_gradients_from_the_start(camera):
    camera = camera.to(torch.float64)
    for start in (torch.zeros(6), torch.randn(6)):
        offset = start.double().requires_grad_()
        assert torch.autograd.gradcheck(lambda o: moved(camera, o, PIVOT).label(), offset)


@pytest.mark.parametrize("degrees", [0, 1e-3, 10, 120, 180])
def test_angle_between(camera, degrees):
    axis = torch.tensor([0.6, 0, 0.8]) * math.radians(degrees)
    turned = moved(camera, torch.cat([axis, torch.ones(3)]), PIVOT)
    assert angle_between(camera, turned) == pytest.approx(degrees, abs=2e-4)
