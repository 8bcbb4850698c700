"""Published pose samplers and the loops built on the same sphere."""

import math

import pytest
import torch

from eg3d.cameras import (
    FOV_to_intrinsics,
    GaussianCameraPoseSampler,
    LookAtPoseSampler,
    UniformCameraPoseSampler,
    around,
    canonical_camera,
    create_cam2world_matrix,
    gaussian,
    horizontal_fov,
    horizontal_fov_to_intrinsics,
    orbit,
    sway,
    uniform,
)
from training.volumetric_rendering.ray_sampler import RaySampler

HALF_PI = math.pi / 2
TURNED = [
    [0.9084563, 0.0570519, -0.4140680, 1.0428720],
    [0, -0.9906409, -0.1364944, 0.3437749],
    [-0.4179799, 0.1239992, -0.8999539, 2.4666247],
]
RAISED = [
    [1, 0, 0, 0],
    [0, -0.9922099, -0.1245777, 0.3437749],
    [0, 0.1245777, -0.9922099, 2.6780252],
]
CAR = [
    [0.9210610, 0.0495823, -0.3862489, 0.6566231],
    [0, -0.9918612, -0.1273241, 0.2164509],
    [-0.3894183, 0.1172732, -0.9135647, 1.5530599],
]
FRONTAL = [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7]]


@pytest.mark.parametrize(
    "yaw, pitch, pivot, radius, rows",
    [
        (0, 0, (0, 0, 0.2), 2.7, FRONTAL),
        (0.4, -0.2, (0, 0, 0.2), 2.7, TURNED),
        (0, -0.2, (0, 0, -0.06), 2.7, RAISED),
        (0.4, -0.2, (0, 0, 0), 1.7, CAR),
    ],
)
def test_look_at_published_poses(yaw, pitch, pivot, radius, rows):
    pose = LookAtPoseSampler.sample(
        HALF_PI + yaw, HALF_PI + pitch, torch.tensor(pivot, dtype=torch.float32), radius=radius
    )
    expected = torch.tensor([*rows, [0, 0, 0, 1]], dtype=torch.float32)
    assert pose.shape == (1, 4, 4)
    torch.testing.assert_close(pose[0], expected, atol=2e-6, rtol=0)


def test_opposite_yaw_mirrors_x():
    left, right = (
        LookAtPoseSampler.sample(HALF_PI + yaw, 1.4, [0, 0, 0.2], radius=2.7)[0]
        for yaw in (-0.4, 0.4)
    )
    mirror = torch.diag(torch.tensor([-1.0, 1, 1, 1]))
    torch.testing.assert_close(left, mirror @ right @ mirror, atol=1e-6, rtol=0)


def test_almost_frontal_constant_of_published_videos():
    pose = LookAtPoseSampler.sample(3.14 / 2, 3.14 / 2, [0, 0, 0.2], radius=2.7)[0]
    expected = torch.tensor([-0.0021502, 0.0013688, 2.6999991])
    torch.testing.assert_close(pose[:3, 3], expected, atol=2e-6, rtol=0)


def test_gaussian_published_pose():
    pose = GaussianCameraPoseSampler.sample(1, 1.2)[0, :3]
    expected = torch.tensor(
        [
            [0.8414710, -0.1275418, 0.5250331, -0.5250331],
            [0, -0.9717394, -0.2360563, 0.2360563],
            [0.5403024, 0.1986345, -0.8176905, 0.8176905],
        ]
    )
    torch.testing.assert_close(pose, expected, atol=2e-6, rtol=0)


def test_recorded_poses_and_intrinsics(conformance, assert_scaled):
    recorded = conformance("cameras_rays")
    for row, expected in zip(recorded["look_at"], recorded["cam2world"], strict=True):
        h, v, *pivot, radius = row.tolist()
        pose = LookAtPoseSampler.sample(h, v, torch.tensor(pivot), radius=radius)
        assert_scaled(pose[0], expected, 1e-6)
    assert_scaled(FOV_to_intrinsics(45), recorded["intrinsics"][2], 1e-6)


@pytest.mark.parametrize("degrees, focal", [(18.837, 4.2633910), (18, 4.4651747), (45, 1.7073663)])
def test_focal_length_of_a_field_of_view(degrees, focal):
    expected = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    torch.testing.assert_close(FOV_to_intrinsics(degrees), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("degrees", [1.0, 13.37, 51.99, 90.0, 170.0])
def test_field_of_view_from_left_to_right(degrees):
    """The angle between rays through the middles of the left and the right edge."""
    lens = horizontal_fov_to_intrinsics(degrees).double()
    ends = torch.tensor([[0, 0.5, 1], [1, 0.5, 1]], dtype=torch.float64)
    left, right = torch.nn.functional.normalize(ends @ torch.linalg.inv(lens).T)
    assert math.degrees(math.acos(left @ right)) == pytest.approx(degrees, abs=1e-4)
    assert horizontal_fov(lens).item() == pytest.approx(degrees, rel=1e-6)
    moved = lens.clone()
    moved[0, 2] = 0.3
    left, right = torch.nn.functional.normalize(ends @ torch.linalg.inv(moved).T)
    assert math.degrees(math.acos(left @ right)) == pytest.approx(
        horizontal_fov(moved).item(), abs=1e-4
    )


def test_published_fields_of_view_in_degrees_of_arc():
    """Of the labels of faces and of cars; the names of fields of view go by the diagonal."""
    focals = torch.tensor([4.2647, 1.025390625])
    lenses = torch.diag_embed(torch.stack([focals, focals, torch.ones(2)], 1))
    lenses[:, :2, 2] = 0.5
    found = horizontal_fov(lenses)
    assert torch.allclose(found, torch.tensor([13.37, 51.99]), atol=0.01)
    degrees = horizontal_fov(FOV_to_intrinsics(45)).item()
    assert degrees == pytest.approx(32.6, abs=0.05)


def test_order_of_draws():
    torch.manual_seed(3)
    pose = GaussianCameraPoseSampler.sample(1.5, 1.4, 0.2, 0.1, radius=2, batch_size=5)
    torch.manual_seed(3)
    h, v = torch.randn(5, 1) * 0.2 + 1.5, torch.randn(5, 1) * 0.1 + 1.4
    same = torch.cat(
        [LookAtPoseSampler.sample(a, b, [0, 0, 0], radius=2) for a, b in zip(h, v, strict=True)]
    )
    torch.testing.assert_close(pose, same, atol=1e-6, rtol=0)


def test_uniform_angles_stay_in_range_and_reach_both_sides():
    pose = UniformCameraPoseSampler.sample(HALF_PI, HALF_PI, 0.3, 0.5, radius=2, batch_size=500)
    x, y, z = pose[:, :3, 3].unbind(-1)
    # v = pi/2 (1 - cos phi): the height is radius (1 - 2 v / pi).
    limit = 2 * 0.5 * 2 / math.pi
    assert y.abs().max() <= limit + 1e-5 and y.min() < -0.9 * limit and y.max() > 0.9 * limit
    yaw = torch.atan2(x, z)
    assert yaw.abs().max() <= 0.3 + 1e-5 and yaw.min() < -0.27 and yaw.max() > 0.27


def test_create_cam2world_matrix_is_a_rotation_without_roll():
    forward = torch.randn(20, 3)
    origin = torch.randn(20, 3)
    pose = create_cam2world_matrix(forward, origin)
    rotation = pose[:, :3, :3]
    torch.testing.assert_close(
        rotation.transpose(1, 2) @ rotation, torch.eye(3).expand(20, 3, 3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(20), atol=1e-5, rtol=0)
    assert rotation[:, 1, 0].abs().max() < 1e-6, "the camera's right has no vertical part"
    assert (rotation[:, 1, 1] < 0).all(), "the camera's y axis points down"
    torch.testing.assert_close(pose[:, :3, 3], origin)


def test_canonical_camera_reads_pivot_and_radius():
    lens = FOV_to_intrinsics(18.837)
    camera = canonical_camera({"avg_camera_pivot": [0, 0, 0.2], "avg_camera_radius": 1.9}, lens)
    expected = LookAtPoseSampler.sample(HALF_PI, HALF_PI, [0, 0, 0.2], radius=1.9)
    torch.testing.assert_close(camera.cam2world, expected)
    torch.testing.assert_close(camera.intrinsics[0], lens)
    assert canonical_camera({}, lens.expand(3, 3, 3)).cam2world.shape == (3, 4, 4)
    assert canonical_camera({}, lens).cam2world[0, 2, 3] == pytest.approx(2.7)


@pytest.mark.parametrize(
    "up, front, side",
    [((0, 1, 0), (0, 0, 1), (1, 0, 0)), ((0, 0, 1), (1, 0, 0), (0, 1, 0))],
)
def test_orbit(up, front, side):
    up, front, side = (torch.tensor(a, dtype=torch.float32) for a in (up, front, side))
    pivot = 0.1 * up
    camera = orbit(8, 2.0, FOV_to_intrinsics(18), elevation=0.3, pivot=pivot, up=up)
    position, rotation = camera.cam2world[:, :3, 3], camera.cam2world[:, :3, :3]
    torch.testing.assert_close(position.norm(dim=-1), torch.full((8,), 2.0))
    torch.testing.assert_close(position @ up, torch.full((8,), 2 * math.sin(0.3)))
    first, third = 2 * math.cos(0.3) * front, 2 * math.cos(0.3) * side
    torch.testing.assert_close(position[0] - (position[0] @ up) * up, first, atol=1e-6, rtol=0)
    torch.testing.assert_close(position[2] - (position[2] @ up) * up, third, atol=1e-6, rtol=0)
    # Closed: the step from the last to the first camera is like every other.
    steps = (position.roll(-1, 0) - position).norm(dim=-1)
    torch.testing.assert_close(steps, steps[:1].expand(8))
    looking = torch.nn.functional.normalize(pivot - position, dim=-1)
    torch.testing.assert_close(rotation[:, :, 2], looking, atol=1e-6, rtol=0)
    assert (rotation[:, :, 0] @ up).abs().max() < 1e-6, "no roll with respect to `up`"
    assert ((rotation[:, :, 1] @ up) < 0).all()


def test_orbit_begins_at_the_canonical_camera():
    lens, kwargs = FOV_to_intrinsics(18), dict(avg_camera_pivot=[0, 0, 0.2], avg_camera_radius=2.7)
    first = orbit(5, 2.7, lens, pivot=[0, 0, 0.2]).cam2world[:1]
    torch.testing.assert_close(first, canonical_camera(kwargs, lens).cam2world, atol=1e-6, rtol=0)


def test_orbit_refuses_an_up_direction_without_a_next_axis():
    with pytest.raises(ValueError, match="up direction"):
        orbit(4, 1.0, FOV_to_intrinsics(18), up=(1, 1, 1))


def angles(camera, up="y"):
    """True azimuth and elevation [N] of cameras, by the arc tangent and the arc sine."""
    x, y, z = camera.cam2world[:, :3, 3].double().unbind(1)
    if up == "z":
        x, y, z = y, z, x
    return torch.atan2(x, z), torch.asin(y / torch.stack([x, y, z]).norm(dim=0))


@pytest.mark.parametrize("up, axis", [("y", (0, 1, 0)), ("z", (0, 0, 1))])
def test_cameras_at_true_angles(up, axis):
    azimuth, elevation = torch.tensor([0.0, 0.4, -3.0]), torch.tensor([0.0, 0.3, -1.2])
    camera = around(azimuth, elevation, 2.0, FOV_to_intrinsics(18), up=axis)
    found = angles(camera, up)
    torch.testing.assert_close(found[0].float(), azimuth, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1].float(), elevation, atol=1e-5, rtol=0)
    centre = camera.cam2world[:, :3, 3]
    torch.testing.assert_close(centre.norm(dim=1), torch.full((3,), 2.0))
    _, middle = RaySampler()(camera.cam2world, camera.intrinsics, 1)
    torch.testing.assert_close(middle[:, 0], -centre / 2, atol=1e-6, rtol=0)


def test_published_pitch_is_not_the_angle_but_ours_is():
    """v = pi/2 - 0.2 raises the camera by 0.128, an elevation of 0.2 by 0.2."""
    lens = FOV_to_intrinsics(18)
    published = LookAtPoseSampler.sample(HALF_PI, HALF_PI - 0.2, [0, 0, 0], radius=2)
    ours = around(torch.zeros(1), torch.tensor([0.2]), 2, lens)
    heights = published[0, 1, 3] / 2, ours.cam2world[0, 1, 3] / 2
    assert math.asin(heights[0]) == pytest.approx(0.12767, abs=1e-5)
    assert math.asin(heights[1]) == pytest.approx(0.2, abs=1e-5)


def test_gaussian_angles():
    draw = lambda **kind: gaussian(  # noqa: E731
        4000, 2.0, FOV_to_intrinsics(18), (0.3, 0.2), (-0.1, 0.15), **kind
    )
    for up, axis in (("y", (0, 1, 0)), ("z", (0, 0, 1))):
        camera = draw(up=axis, generator=torch.Generator().manual_seed(1))
        azimuth, elevation = angles(camera, up)
        for found, mean, deviation in ((azimuth, 0.3, 0.2), (elevation, -0.1, 0.15)):
            assert found.mean().item() == pytest.approx(mean, abs=0.015)
            assert found.std().item() == pytest.approx(deviation, rel=0.05)
            kurtosis = ((found - found.mean()) / found.std()).pow(4).mean().item()
            assert kurtosis == pytest.approx(3, abs=0.3)
    again = draw(up=axis, generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.label(), camera.label())
    assert not torch.equal(draw().label(), draw().label())
    steep = gaussian(50, 2.0, FOV_to_intrinsics(18), elevation=(1.5, 3.0))
    assert steep.label().isfinite().all()


def test_uniform_cameras_are_even_by_area():
    """As many below as above the height that halves the area between the bounds."""
    camera = uniform(4000, 2.0, FOV_to_intrinsics(18), (-0.5, 2.0), (-0.2, 1.2))
    azimuth, elevation = angles(camera)
    assert -0.5 <= azimuth.min() < -0.48 and 1.98 < azimuth.max() <= 2.0
    assert -0.2001 < elevation.min() < -0.19 and 1.17 < elevation.max() <= 1.2001
    assert azimuth.mean().item() == pytest.approx(0.75, abs=0.05)
    middle = (math.sin(-0.2) + math.sin(1.2)) / 2
    assert elevation.sin().mean().item() == pytest.approx(middle, abs=0.02)
    assert (elevation.sin() < middle).double().mean().item() == pytest.approx(0.5, abs=0.03)
    around_all = uniform(2000, 2.0, FOV_to_intrinsics(18), elevation=(-HALF_PI, HALF_PI))
    assert around_all.label().isfinite().all()
    assert around_all.cam2world[:, :3, 3].mean(0).abs().max() < 0.15


def test_sway_follows_the_published_path():
    camera = sway(8, 2.7, FOV_to_intrinsics(18), pivot=[0, 0, 0.2])
    for frame in range(8):
        turn = 2 * math.pi * frame / 8
        expected = LookAtPoseSampler.sample(
            HALF_PI + 0.35 * math.sin(turn),
            HALF_PI - 0.05 + 0.25 * math.cos(turn),
            [0, 0, 0.2],
            radius=2.7,
        )
        torch.testing.assert_close(camera.cam2world[frame], expected[0], atol=1e-6, rtol=0)


def test_old_import_name():
    import compat.camera_utils as old

    assert old.LookAtPoseSampler is LookAtPoseSampler
    assert old.FOV_to_intrinsics is FOV_to_intrinsics
