"""Frames of videos: against pictures made one by one; limits of rays; no flicker; shapes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import eg3d
from eg3d import filming, pictures, trajectories, views
from eg3d.generate import PANELS, Style
from training.cameras import Camera
from training.surfaces import normal_picture
from training.volumetric_rendering.draws import RandomDraws


@pytest.fixture
def model(generator):
    return eg3d.Model.of(generator)


def nearer(model, by):
    """The front camera, moved towards the origin."""
    pose = model.camera.cam2world.clone()
    pose[:, 2, 3] -= by
    return Camera(pose, model.camera.intrinsics)


def test_grid_of_final_pictures(model):
    scene, camera = model.scenes([1, 2, 3]), views.sway(model, 3)[1]
    found = filming.picture(model, Style(samples=2), scene, camera, (1, 3))
    for cell in range(3):
        expected = pictures.to_uint8(scene[cell].render(camera, samples=2.0).image)[0]
        assert np.abs(found[64 * cell : 64 * (cell + 1)].astype(int) - expected).max() <= 1
    assert found.shape == (192, 64, 3)


def test_every_panel(model):
    scene, camera = model.scenes([1, 2]), views.sway(model, 3)[1]
    rendering = scene.render(camera, 20)
    cameras = Camera(camera.cam2world.expand(2, 4, 4), camera.intrinsics.expand(2, 3, 3))
    expected = {
        "image": pictures.to_uint8(rendering.image),
        "raw": pictures.to_uint8(rendering.raw),
        "depth": pictures.depth_to_uint8(rendering.depth, 2.25, 3.3),
        "normals": pictures.to_uint8(
            normal_picture(rendering.depth, rendering.opacity, cameras),
        ),
    }
    assert set(expected) == set(PANELS)
    style = Style(resolution=20)
    for name, pixels in expected.items():
        found = filming.picture(model, style, scene, camera, (2, 1), [name])
        assert np.array_equal(found, np.concatenate(list(pixels), axis=1)), name

    together = filming.picture(model, style, scene, camera, (2, 1), ["depth", "image", "normals"])
    assert together.shape == (64, 3 * 128, 3)
    assert np.array_equal(together[:, 128:256], np.concatenate(list(expected["image"]), axis=1))
    smaller = together[:, :128].reshape(64, 2, 64, 3).astype(float)
    for cell in range(2):
        assert abs(smaller[:, cell].mean() - expected["depth"][cell].mean()) < 2


def test_usual_distance_changes_nothing(model):
    for index in range(5):
        assert filming.following(model, views.orbit(model, 5, 40)[index]) is model


def test_limits_of_rays_follow_the_camera(model, generator):
    """On the central ray the samples, and so the picture, are the same from everywhere on it."""
    usual = model.scene(0).render(model.camera, resolution=15)
    near = filming.following(model, nearer(model, 0.5))
    scene = replace(model.scene(0), generator=near.generator)
    moved = scene.render(nearer(model, 0.5), resolution=15)
    depths = [rendering.depth[0, 0, 7, 7].item() for rendering in (usual, moved)]
    assert depths[1] == pytest.approx(depths[0] - 0.5, abs=1e-5)
    assert torch.allclose(moved.raw[..., 7, 7], usual.raw[..., 7, 7], atol=1e-4)
    assert near.depth_range == pytest.approx((1.75, 2.8))
    assert generator.rendering_kwargs["ray_start"] == 2.25 and model.radius == 2.7
    behind = filming.following(model, nearer(model, 2.69))
    assert behind.rendering_kwargs["ray_start"] > 0


def test_rays_without_limits_need_none(new_generator):
    model = eg3d.Model.of(new_generator(ray_start="auto", ray_end="auto"))
    near = filming.following(model, nearer(model, 0.5))
    assert near.rendering_kwargs["ray_start"] == "auto"
    low, high = model.depth_range
    assert near.depth_range == pytest.approx((low - 0.5, high - 0.5))


def frames(model, scene, camera, style):
    views = [camera[index] for index in range(len(camera))]
    return np.stack([filming.picture(model, style, scene, v, (1, 1)) for v in views]).astype(int)


def test_no_flicker(model):
    """A standing camera gives one picture; along a slow path no pixel jumps. With the published
    random jitter the mean difference of neighbouring frames is a hundred times as large."""
    style, scene = Style(samples=2), model.scene(0)
    still = frames(model, scene, trajectories.named(model, "front", 3), style)
    assert (still == still[0]).all()
    camera = views.orbit(model, 7200)[:6]  # a twentieth of a degree from one to the next
    slow = frames(model, scene, camera, style)
    change = np.abs(np.diff(slow, axis=0))
    jitter = pictures.to_uint8(scene.render(camera, samples=2, draws=RandomDraws()).image)
    jitter_change = np.abs(np.diff(jitter.astype(int), axis=0))
    assert change.max() <= 2 and change.mean() < 0.02 * jitter_change.mean()


def test_shapes_of_new_scenes(model, tmp_path):
    one, two = model.scenes([0, 1]), model.scenes([2, 3])
    camera = views.sway(model, 4)
    given = [(one, camera[0]), (one, camera[1]), (two, camera[2]), (two, camera[3])]
    found = list(filming.with_shapes(iter(given), tmp_path / "a.b", 12, "mrc"))
    assert [(id(scene), id(view)) for scene, view in found] == [(id(s), id(v)) for s, v in given]
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*") if p.is_file())
    shapes = [f"a.b_shapes/000{i}_shape_{cell}.mrc" for i in (0, 2) for cell in (0, 1)]
    assert names == [*shapes, "a.b_trajectory.npy"]
    poses = np.load(tmp_path / "a.b_trajectory.npy")
    assert np.array_equal(poses, camera.cam2world.repeat_interleave(2, dim=0).numpy())
    sizes = {(tmp_path / name).read_bytes() for name in shapes}
    assert len(sizes) == 4
