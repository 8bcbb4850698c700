"""The 25 numbers, mirroring, poses and the label check."""

import math

import numpy as np
import pytest
import torch

from training.cameras import Z_UP, Camera, check_label, look_at, orbit_position, split_label
from training.volumetric_rendering.ray_sampler import RaySampler


@pytest.fixture
def camera():
    """Three different cameras, off-centre and with skew."""
    origin = torch.tensor([[1.0, 0.5, 2.0], [-2.0, 0.1, 1.0], [0.3, -1.0, -2.0]])
    lens = torch.tensor([[1.2, 0.1, 0.45], [0.0, 1.3, 0.55], [0.0, 0.0, 1.0]]).expand(3, 3, 3)
    return Camera(look_at(origin, [0.1, 0.0, 0.2]), lens)


def test_label_is_row_major_pose_then_intrinsics(camera):
    label = camera.label()
    assert label.shape == (3, 25)
    for n in range(3):
        for row in range(4):
            for column in range(4):
                assert label[n, 4 * row + column] == camera.cam2world[n, row, column]
        for row in range(3):
            for column in range(3):
                assert label[n, 16 + 3 * row + column] == camera.intrinsics[n, row, column]


def test_label_round_trip(camera):
    again = Camera.from_label(camera.label())
    assert torch.equal(again.cam2world, camera.cam2world)
    assert torch.equal(again.intrinsics, camera.intrinsics)
    label = torch.randn(5, 25)
    assert torch.equal(Camera.from_label(label).label(), label)
    with_class = torch.cat([label, torch.eye(5)], dim=1)
    assert torch.equal(Camera.from_label(with_class).label(), label)
    assert [part.tolist() for part in split_label(with_class)] == [
        label.tolist(),
        torch.eye(5).tolist(),
    ]


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 24\).*\[N, 25\], or longer by a class"):
        Camera.from_label(torch.zeros(4, 24))
    with pytest.raises(ValueError, match="cam2world of shape"):
        Camera(torch.zeros(2, 4, 4), torch.zeros(1, 3, 3))


def test_indexing_and_conversion(camera):
    assert len(camera) == 3 and len(camera[1]) == 1 and len(camera[1:]) == 2
    assert torch.equal(camera[-1].cam2world, camera.cam2world[2:])
    with pytest.raises(IndexError):
        camera[3]
    assert camera.to(torch.float64).label().dtype == torch.float64
    with pytest.raises(AttributeError):
        camera.cam2world = None


def test_mirrored_camera_sees_the_mirrored_world(camera):
    """Pixel (i, j) of the mirrored camera looks along the mirrored ray of pixel (i, R - 1 - j)."""
    mirrored = camera.mirror()
    rays = RaySampler()
    origins, directions = rays(camera.cam2world, camera.intrinsics, 6)
    flipped_origins, flipped = rays(mirrored.cam2world, mirrored.intrinsics, 6)
    sign = torch.tensor([-1.0, 1.0, 1.0])
    expected = (directions * sign).unflatten(1, (6, 6)).flip(2).flatten(1, 2)
    torch.testing.assert_close(flipped, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(flipped_origins, origins * sign)
    torch.testing.assert_close(mirrored.mirror().label(), camera.label())


def test_mirror_of_a_centred_camera_negates_five_numbers():
    label = Camera(
        look_at(torch.tensor([[1.0, 2.0, 3.0]]), [0, 0, 0]),
        torch.tensor([[[2.0, 0, 0.5], [0, 2, 0.5], [0, 0, 1]]]),
    ).label()
    mirrored = Camera.from_label(label).mirror().label()
    changed = (mirrored != label).nonzero()[:, 1].tolist()
    # Entries (0,1), (0,2), (0,3), (1,0), (2,0); (1,0) is zero without roll.
    assert changed == [1, 2, 3, 8]
    assert torch.equal(mirrored[0, changed], -label[0, changed])


def test_orbit_position_against_spherical_coordinates():
    h, v = torch.meshgrid(torch.linspace(0, 6, 7), torch.linspace(0.1, 3, 5), indexing="ij")
    position = orbit_position(h, v, 1.5)
    for i in range(7):
        for j in range(5):
            polar = math.acos(1 - 2 * v[i, j].item() / math.pi)
            yaw = h[i, j].item() - math.pi / 2
            expected = [
                1.5 * math.sin(polar) * math.sin(yaw),
                1.5 * math.cos(polar),
                1.5 * math.sin(polar) * math.cos(yaw),
            ]
            torch.testing.assert_close(position[i, j], torch.tensor(expected), atol=2e-6, rtol=0)


def test_orbit_position_is_finite_at_the_poles():
    pose = look_at(orbit_position(torch.zeros(2), torch.tensor([-1.0, 4.0])), [0, 0, 0])
    assert pose.isfinite().all()


def test_look_at_projects_the_target_to_the_centre():
    origin = torch.randn(10, 3) * 3
    pose = look_at(origin, [0.2, 0.1, -0.3], up=Z_UP)
    target = torch.tensor([0.2, 0.1, -0.3, 1.0])
    seen = torch.linalg.solve(pose, target.expand(10, 4))
    torch.testing.assert_close(seen[:, :2], torch.zeros(10, 2), atol=1e-5, rtol=0)
    assert (seen[:, 2] > 0).all(), "the target is in front"
    assert pose[:, 2, 0].abs().max() < 1e-6, "right is level in a z-up world"


def test_check_label_accepts_good_labels(camera):
    for row in camera.label():
        assert check_label(row.numpy()) is None
        assert check_label(row.tolist()) is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c[:24], "25 numbers"),
        (lambda c: _set(c, 7, np.nan), "not finite at 7"),
        (lambda c: _set(c, 0, c[0] + 0.01), "not orthonormal"),
        (lambda c: _set(c, slice(0, 12, 4), -c[0:12:4]), "reflection"),
        (lambda c: _set(c, 15, 0), "last row"),
        (lambda c: _set(c, 16, -1), "focal"),
    ],
)
def test_check_label_names_the_fault(camera, change, message):
    label = camera.label()[0].numpy().astype(np.float64)
    assert message in check_label(change(label))


def _set(label, index, value):
    label[index] = value
    return label
