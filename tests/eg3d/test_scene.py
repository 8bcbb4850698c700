"""Scenes against the generator's own forward pass."""

import pytest
import torch

import eg3d
from eg3d.scene import Scene
from training.volumetric_rendering.draws import FixedDraws, GivenDraws, RandomDraws

OUTPUTS = {
    "image": "image",
    "raw": "image_raw",
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


def test_rendering_moves(model):
    rendering = model.scene(0).render(model.camera)
    half = rendering.to(torch.float64)
    assert half.image.dtype == half.opacity.dtype == torch.float64
    assert torch.equal(half.raw.float(), rendering.raw)


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
