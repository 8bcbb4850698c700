"""EpiGRAF's cameras against recorded numbers, brute force and the statistics they promise."""

import math

import pytest
import torch

from tests.recorded_draws import recorded_draws
from training.cameras import Camera
from training.epigraf.cameras import (
    CameraDistribution,
    angles_from_draws,
    angles_from_label,
    blender_angles,
    check_frustum,
    frustum_reach,
    label_from_angles,
    sample_angles,
)
from training.views import FullView, PatchView
from training.volumetric_rendering.depths import jitter_in_bins
from training.volumetric_rendering.ray_sampler import RaySampler, camera_rays

# Columns: the native axes x, y, z in the frame of labels; (x, y, z) = (z', y', -x').
NATIVE = torch.tensor([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])
OPENGL = torch.diag(torch.tensor([1.0, -1, -1]))
RECORDED = dict(horizontal_mean=0.1, horizontal_std=0.35, vertical_mean=1.5, vertical_std=0.2)


def native(vectors):
    """Vectors [..., 3] of the frame of labels in EpiGRAF's own."""
    return vectors @ NATIVE


def test_recorded_labels(conformance, assert_scaled):
    arrays = conformance("epigraf/cameras")
    before = arrays["angles"].clone()
    label = label_from_angles(arrays["angles"], arrays["radius"], arrays["fov"])
    assert torch.equal(arrays["angles"], before)
    assert_scaled(label, arrays["label25"])
    pose = Camera.from_label(label).cam2world
    assert_scaled(native(pose[:, :3, 3]), arrays["cam2world"][:, :3, 3])
    rotation = (NATIVE.T @ pose[:, :3, :3]) @ OPENGL
    assert_scaled(rotation, arrays["cam2world"][:, :3, :3])
    found = angles_from_label(arrays["label25"])
    torch.testing.assert_close(found[:, :2], arrays["angles"][:, :2], rtol=0, atol=3e-6)
    assert (found[:, 2] == 0).all()


def test_recorded_rays(conformance, assert_scaled):
    arrays = conformance("epigraf/cameras")
    camera = Camera.from_label(label_from_angles(arrays["angles"], arrays["radius"], arrays["fov"]))
    directions = FullView(6, "corners").rays(camera)[1]
    assert_scaled(directions, arrays["ray_directions_label"])
    assert_scaled(native(directions), arrays["ray_directions_native"])
    scaled = camera.intrinsics * torch.tensor([[5 / 6, 1, 1], [1, 5 / 6, 1], [1, 1, 1]])
    assert_scaled(RaySampler()(camera.cam2world, scaled, 6)[1], directions)


def test_recorded_patch_rays(conformance, assert_scaled, monkeypatch):
    arrays = conformance("epigraf/rays_patches")
    camera = Camera.from_label(label_from_angles(arrays["angles"], 1.0, 12.0))
    view = PatchView(arrays["scales"], arrays["offsets"], 8)
    origins, directions = view.rays(camera)
    rotation = camera.cam2world[:, :3, :3]
    assert_scaled(directions @ rotation @ OPENGL, arrays["d_cam"])
    assert_scaled(native(directions), arrays["ray_d"])
    assert_scaled(native(origins), arrays["ray_o"])
    even = torch.linspace(0.88, 1.12, 7)[:, None].expand(5, 64, 7, 1)
    with recorded_draws(monkeypatch):
        depths = jitter_in_bins(even, torch.rand_like(even))
    assert_scaled(depths, arrays["z"])
    points = origins[:, :, None] + depths * directions[:, :, None]
    assert_scaled(native(points), arrays["points"])
    assert_scaled(NATIVE.T @ rotation @ OPENGL, arrays["cam2world"][:, :3, :3])
    assert_scaled(native(camera.cam2world[:, :3, 3]), arrays["cam2world"][:, :3, 3])


def test_recorded_rays_of_several_fields_of_view(conformance, assert_scaled):
    arrays = conformance("epigraf/rays_patches")
    camera = Camera.from_label(label_from_angles(arrays["angles"], 1.0, arrays["fov"]))
    x, y = torch.linspace(0, 1, 5).repeat(3), torch.linspace(0, 1, 3).repeat_interleave(5)
    directions = camera_rays(camera.cam2world, camera.intrinsics, x[None], y[None])[1]
    assert_scaled(directions @ camera.cam2world[:, :3, :3] @ OPENGL, arrays["d_cam_fov"])


@pytest.mark.parametrize("dist", ["uniform", "gaussian", "truncated_gaussian", "spherical_uniform"])
def test_recorded_samples(dist, conformance, assert_scaled, monkeypatch):
    with recorded_draws(monkeypatch):
        angles = sample_angles(12, CameraDistribution(dist, **RECORDED))
    assert_scaled(angles, conformance("epigraf/cameras")[f"sample_{dist}"])


def test_recorded_samples_of_special_cases(conformance, assert_scaled, monkeypatch):
    arrays, hybrid = conformance("epigraf/cameras"), CameraDistribution("hybrid", **RECORDED)
    whole_sphere, normal = CameraDistribution("spherical_uniform"), hybrid.settled(0.75)
    with recorded_draws(monkeypatch):
        assert_scaled(sample_angles(12, whole_sphere), arrays["sample_megascans"])
        assert_scaled(sample_angles(12, hybrid.settled(0.25)), arrays["sample_hybrid_low"])
        assert_scaled(sample_angles(12, normal), arrays["sample_hybrid_high"])
    assert normal == CameraDistribution("normal", **RECORDED)


def test_truncated_draws_against_a_loop():
    yaw, pitch = torch.randn(2, 500, 4) * 2
    pitch[0] = torch.tensor([2.5, -3.0, 4.0, 2.1])  # none within the bound
    angles = angles_from_draws(CameraDistribution("truncated_gaussian", 0, 1, 1.5, 0.1), yaw, pitch)
    for row, draws in ((angles[:, 0], yaw), ((angles[:, 1] - 1.5) / 0.1, pitch)):
        expected = [next((v for v in four if abs(v) < 2), four[0]) for four in draws.tolist()]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_the_whole_sphere_is_uniform_in_area():
    """Each coordinate of a uniform point on the sphere is uniform in [-1, 1]."""
    angles = sample_angles(20000, CameraDistribution("spherical_uniform"))
    places = label_from_angles(angles, 1.0, 30.0)[:, [3, 7, 11]]
    shares = torch.stack([torch.histc(axis, 10, -1, 1) for axis in places.unbind(1)]) / 20000
    assert (shares - 0.1).abs().max() < 0.012


def test_hybrid_is_one_of_two():
    hybrid = CameraDistribution("hybrid", 0, 0.1, 1.5, 0.1)
    spread = {sample_angles(4000, hybrid)[:, 0].abs().max().item() > 0.2 for _ in range(20)}
    assert spread == {False, True}
    with pytest.raises(ValueError, match="settled"):
        angles_from_draws(hybrid, torch.rand(2), torch.rand(2))


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(dist="gauss"), "dist is 'gauss'; must be one of uniform, normal"),
        (dict(vertical_std=-0.1), "must be 0 or more"),
    ],
)
def test_refused_distributions(wrong, message):
    with pytest.raises(ValueError, match=message):
        CameraDistribution(**wrong)


def test_recorded_frusta(conformance):
    arrays = conformance("epigraf/cameras")
    for (fov, near, far, radius, cube), inside in zip(
        arrays["frustum"].tolist(), arrays["frustum_ok"].tolist(), strict=True
    ):
        if inside:
            check_frustum(fov, near, far, radius, cube)
        else:
            with pytest.raises(ValueError, match=f"cube_scale is {cube}, but rays from {near}"):
                check_frustum(fov, near, far, radius, cube)


@pytest.mark.parametrize("fov, near, far, radius", [(12, 0.88, 1.12, 1), (50, 2.0, 2.4, 2.7)])
def test_reach_against_all_cameras(fov, near, far, radius):
    """The largest coordinate of any corner of any of many cameras, from below."""
    yaw, pitch = torch.meshgrid(
        torch.linspace(-math.pi, math.pi, 201), torch.linspace(0, math.pi, 101), indexing="ij"
    )
    angles = torch.stack([yaw.flatten(), pitch.flatten()], dim=1).double()
    origins, directions = FullView(2, "corners").rays(
        Camera.from_label(label_from_angles(angles, radius, fov))
    )
    largest = max((origins + t * directions).abs().max().item() for t in (near, far))
    reach = frustum_reach(fov, near, far, radius)
    assert largest <= reach + 1e-9 and largest == pytest.approx(reach, rel=1e-3)


def test_recorded_blender_angles(conformance, assert_scaled):
    arrays = conformance("epigraf/cameras")
    assert_scaled(blender_angles(arrays["blender_matrix"]), arrays["euler"])


def test_yaw_of_blender_runs_the_other_way():
    angles = torch.tensor([[0.0, 1.5], [0.4, 0.6], [-2.9, 2.8]], dtype=torch.float64)
    pose = Camera.from_label(label_from_angles(angles, 1.0, 30.0)).cam2world
    world = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]).double()  # y-up to z-up
    blender = pose.clone()
    blender[:, :3] = world @ pose[:, :3]
    blender[:, :3, :3] = blender[:, :3, :3] @ OPENGL.double()
    expected = angles * torch.tensor([-1.0, 1.0]).double()
    torch.testing.assert_close(blender_angles(blender)[:, :2], expected)
