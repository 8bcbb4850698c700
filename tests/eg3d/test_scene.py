"""Scenes against the generator's own forward pass."""

import numpy as np
import pytest
import torch

import eg3d
from eg3d.scene import Scene
from tests.eg3d.analytic import ellipsoid
from training.surfaces import surface_points
from training.volumetric_rendering.draws import FixedDraws, GivenDraws, RandomDraws
from training.volumetric_rendering.renderer import TriPlaneField

OUTPUTS = {
    "image": "image",
    "raw": "image_raw",
    "features": "image_features",
    "depth": "image_depth",
    "opacity": "image_opacity",
}


@pytest.fixture
def model(generator):
    return eg3d.Model.of(generator)


@pytest.fixture
def cameras(model):
    return eg3d.views.orbit(model, 5, elevation=20)


def assert_same(rendering, expected, atol=1e-5):
    """A rendering against another, or against the dict of a generator."""
    for name, key in OUTPUTS.items():
        wanted = expected[key] if isinstance(expected, dict) else getattr(expected, name)
        assert torch.allclose(getattr(rendering, name), wanted, atol=atol), name


def test_render_equals_synthesis(model, generator):
    scene = model.scenes([0, 1])
    camera = eg3d.views.turned(model, [(0.3, 0.1), (-0.2, 0.0)])
    draws = GivenDraws(torch.rand(2, 256, 6, 1), torch.rand(512, 6))
    expected = generator.synthesis(scene.ws, camera.label(), noise_mode="const", draws=draws)
    assert_same(scene.render(camera, draws=draws), expected, atol=0)
    assert expected["image"].std() > 0.01 and 0.05 < expected["image_opacity"].mean() < 0.999
    fixed = generator.synthesis(scene.ws, camera.label(), noise_mode="const", draws=FixedDraws())
    assert_same(scene.render(camera), fixed, atol=0)
    assert not torch.allclose(fixed["image_raw"], expected["image_raw"], atol=1e-4)


def test_features_are_what_super_resolution_starts_from(model, cameras):
    """Their first channels are the raw picture, and the final picture comes of them."""
    scene = model.scene(0)
    seen = scene.render(cameras[:2])
    assert seen.features.shape == (2, 32, 16, 16)
    assert torch.equal(seen.features[:, :3], seen.raw)
    ws = scene.ws.expand(2, -1, -1)
    image = model.generator.superresolution(seen.raw.clone(), seen.features, ws, noise_mode="none")
    assert torch.allclose(image, seen.image, atol=1e-6)


def test_many_cameras_equal_one_by_one(model, cameras):
    scene = model.scene(0)
    together = scene.render(cameras)
    assert len(together) == 5 and together.image.shape == (5, 3, 64, 64)
    for chunk in (1, 2, 5):
        assert_same(scene.render(cameras, chunk=chunk), together)
    for index in range(5):
        alone = scene.render(cameras[index])
        assert torch.allclose(together.image[index], alone.image[0], atol=1e-5)
    assert (together.raw[0] - together.raw[2]).abs().max() > 0.01


def test_many_scenes(model, cameras):
    scenes = model.scenes([0, 1, 2])
    one_camera = scenes.render(cameras[1])
    paired = scenes.render(cameras[:3])
    for index in range(3):
        expected = scenes[index].render(cameras[1])
        assert torch.allclose(one_camera.image[index], expected.image[0], atol=1e-5)
        expected = scenes[index].render(cameras[index])
        assert torch.allclose(paired.image[index], expected.image[0], atol=1e-5)
    with pytest.raises(ValueError, match="3 scenes and 5 cameras"):
        scenes.render(cameras)


def test_random_draws_are_possible(model, cameras):
    scene = model.scene(0)
    one, two = (scene.render(cameras[0], draws=RandomDraws()) for _ in range(2))
    assert not torch.equal(one.raw, two.raw)
    again = [
        scene.render(cameras[0], draws=RandomDraws(torch.Generator().manual_seed(3))).raw
        for _ in range(2)
    ]
    assert torch.equal(*again)


def test_samples_and_resolution(model, cameras, new_generator):
    scene = model.scene(0)
    twice = new_generator(depth_resolution=12, depth_resolution_importance=12)
    expected = Scene.of(twice, scene.ws).render(cameras[0])
    assert_same(scene.render(cameras[0], samples=2), expected, atol=0)
    assert_same(scene.render(cameras[0], samples=(12, 12)), expected, atol=0)
    uneven = new_generator(depth_resolution=9, depth_resolution_importance=0)
    expected = Scene.of(uneven, scene.ws).render(cameras[0])
    assert_same(scene.render(cameras[0], samples=(9, 0)), expected, atol=0)
    assert model.rendering_kwargs["depth_resolution"] == 6
    larger = scene.render(cameras[0], resolution=24)
    assert larger.raw.shape == (1, 3, 24, 24) and larger.image.shape == (1, 3, 64, 64)
    assert model.generator.neural_rendering_resolution == 16


def test_rendering_leaves_no_trace(model, cameras):
    before = dict(vars(model.generator))
    state = {k: v.clone() for k, v in model.generator.state_dict().items()}
    scene = model.scene(4)
    planes = scene.planes.clone()
    first = scene.render(cameras, samples=1.5, resolution=8)
    assert_same(scene.render(cameras, samples=1.5, resolution=8), first, atol=0)
    assert torch.equal(scene.planes, planes)
    after = vars(model.generator)
    assert set(after) == set(before) and all(after[name] is before[name] for name in before)
    assert all(torch.equal(state[k], v) for k, v in model.generator.state_dict().items())


def test_gradients_reach_latents_planes_and_camera(model):
    ws = model.mapping(model.latents([0])).requires_grad_(True)
    scene = model.scenes_of(ws)
    scene.planes.retain_grad()
    pose = model.camera.cam2world.clone().requires_grad_(True)
    camera = eg3d.Camera(pose.expand(2, 4, 4), model.intrinsics.expand(2, 3, 3))
    scene.render(camera, chunk=1).raw.square().mean().backward()
    for tensor in (ws, scene.planes, pose):
        assert tensor.grad is not None and tensor.grad.abs().max() > 0


def test_gradients_of_normals_are_finite(new_generator):
    """Also beside the ball, where there are none."""
    ball = ellipsoid(new_generator(), level=20.0, slope=2000.0)
    model = eg3d.Model.of(ball.generator)
    scene = Scene(ball.planes.requires_grad_(), ball.ws, ball.generator)
    normals = scene.render(model.camera).normals
    assert 20 < (normals.norm(dim=1) == 0).sum() < 200
    normals[:, 0].square().sum().backward()
    assert scene.planes.grad.isfinite().all() and scene.planes.grad.abs().max() > 0


def test_camera_gradient_against_a_difference(model):
    """Without importance sampling: fine depths follow the camera but carry no gradient."""
    scene = model.scene(0)

    def brightness(shift):
        pose = model.camera.cam2world.clone()
        pose[:, 2, 3] += shift
        camera = eg3d.Camera(pose, model.intrinsics[None])
        return scene.render(camera, samples=(24, 0)).raw.square().mean()

    shift = torch.zeros((), requires_grad=True)
    brightness(shift).backward()
    with torch.no_grad():
        slope = (brightness(0.005) - brightness(-0.005)) / 0.01
    assert abs(slope) > 1e-3
    assert shift.grad.item() == pytest.approx(slope.item(), rel=0.1)


def test_scene_is_indexed_and_checked(model):
    scene = model.scenes([0, 1, 2])
    assert len(scene[-1]) == 1 and torch.equal(scene[-1].ws[0], scene.ws[2])
    assert len(scene[1:]) == 2
    with pytest.raises(IndexError):
        scene[3]
    with pytest.raises(ValueError, match="scene: planes of shape"):
        Scene(scene.planes[:2], scene.ws, scene.generator)


def test_cameras_must_be_finite(model):
    pose = model.camera.cam2world.clone()
    pose[0, 1, 3] = float("nan")
    with pytest.raises(ValueError, match="camera: its numbers are not all finite"):
        model.scene(0).render(eg3d.Camera(pose, model.intrinsics[None]))


def test_rendering_moves(model):
    rendering = model.scene(0).render(model.camera)
    half = rendering.to(torch.float64)
    assert half.image.dtype == half.normals.dtype == torch.float64
    assert torch.equal(half.raw.float(), rendering.raw)


def test_normals_are_those_of_a_sphere(new_generator):
    """A ball off centre, seen from two sides: its normals point away from its centre."""
    generator = new_generator()
    scene = ellipsoid(generator, centre=(0.05, 0.02, -0.03), level=20.0, slope=2000.0)
    model = eg3d.Model.of(generator)
    camera = eg3d.views.turned(model, [(0.5, 0.2), (-0.7, 0.0)])
    rendering = scene.render(camera, resolution=32, samples=(48, 48))
    normals = rendering.normals
    points = surface_points(rendering.depth, camera) - torch.tensor([0.05, 0.02, -0.03]).view(
        3, 1, 1
    )
    facing = (normals * points).sum(1) / points.norm(dim=1)
    found = facing[normals.norm(dim=1) > 0]
    assert len(found) > 600 and found.quantile(0.05) > 0.97  # the rim is seen by single pixels
    assert (normals[:, :, 0, 0] == 0).all()
    one = scene.render(camera[0], resolution=32, samples=(48, 48))
    assert torch.equal(one.normals[0], normals[0])


@pytest.mark.parametrize("axes", ["legacy", "orthogonal"])
def test_density_and_colors_are_those_of_the_published_query(new_generator, axes):
    """`sample_mixed`, which runs the backbone again and gives colours a little out of 0 .. 1."""
    generator = new_generator(plane_axes=axes, box_warp=1.3)
    scene = eg3d.Model.of(generator).scenes([0, 1])
    points = torch.rand(2, 50, 3) * 1.6 - 0.8  # outside the box too
    expected = generator.sample_mixed(points, None, scene.ws, noise_mode="const")
    assert torch.allclose(scene.density(points), expected["sigma"], atol=1e-5)
    colors = scene.colors(points)
    assert torch.allclose(colors, expected["rgb"][..., :3], atol=2e-3)
    assert colors.shape == (2, 50, 3) and expected["sigma"].std() > 0.05
    one = scene.density(points[:1])
    assert one.shape == (2, 50, 1) and torch.equal(one[0], scene.density(points)[0])
    assert torch.allclose(one[1], scene[1].density(points[:1])[0], atol=1e-6)


def test_points_are_asked_a_few_at_a_time(model, monkeypatch):
    scene = model.scenes([0, 1])
    points = torch.rand(1, 37, 3) - 0.5
    together = scene.density(points)
    monkeypatch.setattr("eg3d.scene._POINTS_AT_ONCE", 10)
    calls = []
    asked = TriPlaneField.__call__
    monkeypatch.setattr(
        TriPlaneField, "__call__", lambda self, p, *a: calls.append(p.shape) or asked(self, p, *a)
    )
    assert torch.allclose(scene.density(points), together, atol=1e-6)
    assert calls == [(2, 5, 3)] * 7 + [(2, 2, 3)]


def test_density_noise_of_training_is_left_out(new_generator):
    quiet, noisy = new_generator(), new_generator(density_noise=5.0)
    planes, ws = torch.randn(1, 3, 32, 16, 16), torch.zeros(1, 1, 16)
    points = torch.rand(1, 20, 3) - 0.5
    assert torch.equal(*(Scene(planes, ws, G).density(points) for G in (quiet, noisy)))


def test_density_has_gradients(model):
    """With respect to points, against differences; and to the planes."""
    scene = model.scene(0)
    scene = Scene(scene.planes.clone().requires_grad_(True), scene.ws, scene.generator)
    points = (torch.rand(1, 8, 3) - 0.5).requires_grad_(True)
    scene.density(points).sum().backward()
    assert scene.planes.grad.abs().max() > 0
    with torch.no_grad():
        for axis in range(3):
            step = 1e-3 * torch.eye(3)[axis]
            slope = (scene.density(points + step) - scene.density(points - step)) / 2e-3
            error = (slope[..., 0] - points.grad[..., axis]).abs()
            assert error.median() < 0.01 * points.grad.abs().max()
    assert scene.mesh(8, border=0, level=scene.volume(8, 0).density.mean()).visual.kind == "vertex"


def test_points_are_checked(model):
    for shape in ((5, 3), (1, 5, 2), (2, 5, 3)):
        with pytest.raises(
            ValueError, match=r"points of shape .* for 1 scenes; must be \[N, P, 3\]"
        ):
            model.scene(0).density(torch.zeros(shape))


def test_mesh_and_volume_are_one(new_generator):
    scene = ellipsoid(new_generator(box_warp=1.2))
    mesh, of_volume = scene.mesh(32, level=8), scene.volume(32).mesh(8)
    assert np.array_equal(mesh.vertices, of_volume.vertices)
    assert mesh.visual.kind == "vertex" and of_volume.visual.kind is None
    assert scene.mesh(32, border=0.4).extents == pytest.approx([1.2 * 7 / 31] * 3, abs=0.01)


@pytest.mark.gpu
def test_gpu_renders_what_the_cpu_renders(snapshot):
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        on_cpu, on_gpu = (eg3d.load(snapshot, device=device) for device in ("cpu", "cuda"))
        for make in (eg3d.views.published, eg3d.views.front, lambda m: eg3d.views.sway(m, 3, "z")):
            found = on_gpu.scene(3).render(make(on_gpu), samples=2)
            assert found.image.device.type == "cuda"
            assert_same(found.to("cpu"), on_cpu.scene(3).render(make(on_cpu), samples=2), atol=1e-3)
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
