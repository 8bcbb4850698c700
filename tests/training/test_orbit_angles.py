"""Angles and labels: against each other, the look-at camera, and mirroring."""

import math

import pytest
import torch

from training.cameras import Camera, look_at
from training.orbit_angles import angles_from_label, label_from_angles

ANGLES = torch.tensor(
    [[0.0, 1.5], [0.4, 0.6], [-2.9, 2.8], [3.1, 0.01], [-1.5, 1.0]], dtype=torch.float64
)
RADIUS = torch.tensor([1.0, 2.7, 0.3, 1.0, 5.0], dtype=torch.float64)
FOV = torch.tensor([12.0, 30.0, 90.0, 18.837, 45.0], dtype=torch.float64)


def test_there_and_back():
    for radius in (RADIUS, 1.3):
        again = angles_from_label(label_from_angles(ANGLES, radius, FOV))
        torch.testing.assert_close(again[:, :2], ANGLES, rtol=0, atol=1e-12)
        assert (again[:, 2] == 0).all()


def test_it_is_the_look_at_camera():
    label = label_from_angles(ANGLES, RADIUS, FOV)
    yaw, pitch = ANGLES.unbind(1)
    place = torch.stack([-pitch.sin() * yaw.sin(), pitch.cos(), pitch.sin() * yaw.cos()], dim=1)
    pose = look_at(place * RADIUS[:, None], [0.0, 0.0, 0.0])
    torch.testing.assert_close(label[:, :16].unflatten(1, (4, 4)), pose, rtol=0, atol=1e-12)


def test_field_of_view_reaches_from_edge_to_edge():
    camera = Camera.from_label(label_from_angles(ANGLES, RADIUS, FOV))
    for lens, fov in zip(camera.intrinsics, FOV.tolist(), strict=True):
        focal, centre = lens[0, 0].item(), lens[0, 2].item()
        found = math.atan((1 - centre) / focal) + math.atan(centre / focal)
        assert math.degrees(found) == pytest.approx(fov)
        expected = lens.new_tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
        assert torch.equal(lens, expected)


def test_mirroring_negates_the_yaw():
    label = label_from_angles(ANGLES, RADIUS, FOV)
    turned = label_from_angles(ANGLES * torch.tensor([-1.0, 1.0]).double(), RADIUS, FOV)
    torch.testing.assert_close(Camera.from_label(label).mirror().label(), turned)


def test_pitch_is_clamped_and_the_argument_left_alone():
    angles = torch.tensor([[0.3, -1.0], [0.3, 4.0], [0.3, 0.0]])
    before = angles.clone()
    found = angles_from_label(label_from_angles(angles, 1.0, 12.0))
    assert torch.equal(angles, before)
    torch.testing.assert_close(
        found[:, 1], torch.tensor([1e-5, math.pi - 1e-5, 1e-5]), rtol=0, atol=1e-6
    )


def test_angles_are_those_of_the_place():
    """Whatever the camera looks at."""
    place = torch.tensor([[-1.0, 1.0, 1.0]])
    for target in ([0.0, 0, 0], [5.0, 1, 2], [-1.0, 1, 3]):
        camera = Camera(look_at(place, target), torch.eye(3)[None])
        expected = torch.tensor([[math.pi / 4, math.atan(2**0.5), 0]])
        torch.testing.assert_close(angles_from_label(camera.label()), expected)
