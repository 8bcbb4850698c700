"""The pictures to watch a model learn by: which there are, and from where they are taken."""

import math

import numpy as np
import PIL.Image
import pytest
import torch

from eg3d import views
from eg3d.model import Model
from tests.tiny import tiny_generator
from training import image_grid, surfaces
from training.cameras import Z_UP, Camera, look_at
from training.snapshots import YAWS, Sampler, shrunk, turn, vertical

SUFFIXES = ["", "_raw", "_depth", "_normal", "_views"]
PIVOT = (0.0, 0.0, 0.2)


def cameras(count, elevation=0.2, world=None, pivot=PIVOT):
    """Cameras all around the pivot, above it; `world` (default y-up) is the vertical axis."""
    azimuth = torch.arange(count) * (2 * math.pi / count)
    level = torch.stack([azimuth.sin(), 0 * azimuth, azimuth.cos()], dim=1) * math.cos(elevation)
    position = 2.7 * (level + torch.tensor([0.0, math.sin(elevation), 0.0]))
    if world == "z":
        position = position.roll(1, dims=1)
    pose = look_at(position + torch.tensor(pivot), pivot, Z_UP if world == "z" else (0, 1, 0))
    lens = torch.tensor([[4.2, 0, 0.5], [0, 4.2, 0.5], [0, 0, 1]])
    return Camera(pose, lens.expand(count, 3, 3))


@pytest.fixture(scope="module")
def generator():
    return tiny_generator()


@pytest.fixture(scope="module")
def sampler(generator):
    return Sampler(torch.randn(12, generator.z_dim), cameras(12).label(), (4, 3), chunk=5)


def test_saved_pictures(generator, sampler, tmp_path):
    grids = sampler.save(generator, tmp_path, "fakes000004")
    assert list(grids) == SUFFIXES
    assert len(list(tmp_path.iterdir())) == len(SUFFIXES)
    for suffix, grid in grids.items():
        picture = np.asarray(PIL.Image.open(tmp_path / f"fakes000004{suffix}.png"))
        assert np.array_equal(picture, grid[..., 0] if suffix == "_depth" else grid)
    side, raw = generator.img_resolution, generator.neural_rendering_resolution
    assert grids[""].shape == (3 * side, 4 * side, 3)
    assert grids["_normal"].shape == grids["_raw"].shape == (3 * raw, 4 * raw, 3)
    assert grids["_views"].shape == (8 * side, 3 * side, 3)
    again = sampler.save(generator, tmp_path, "again")
    assert all(np.array_equal(again[suffix], grid) for suffix, grid in grids.items())


def test_the_middle_views_are_those_of_the_grid(generator, sampler):
    images = sampler.render(generator)["image"]
    seen = sampler.render_views(generator).reshape(8, 3, *images.shape[1:])
    np.testing.assert_allclose(seen[:, 1], images[:8], atol=2e-4)
    assert (np.abs(seen[:, 0] - seen[:, 2]).mean((1, 2, 3)) > 0.005).all()


def test_few_samples_and_large_pictures(generator):
    small = Sampler(torch.randn(2, generator.z_dim), cameras(2).label(), (2, 1), chunk=2)
    assert small.render_views(generator).shape == (6, 3, 32, 32)
    images = torch.randn(1, 3, 64, 64)
    assert shrunk(images, 64) is images
    expected = images.numpy().reshape(1, 3, 16, 4, 16, 4).mean((3, 5))
    np.testing.assert_allclose(shrunk(images, 16).numpy(), expected, atol=1e-6)
    assert shrunk(images, 30).shape == (1, 3, 21, 21)


def test_normals_are_those_of_the_depths(generator, sampler, tmp_path):
    images = {name: torch.from_numpy(v) for name, v in sampler.render(generator).items()}
    depth, opacity = images["image_depth"], images["image_opacity"]
    parts = [
        surfaces.normal_picture(d[None], o[None], camera)
        for d, o, camera in zip(depth, opacity, [cameras(12)[i] for i in range(12)], strict=True)
    ]
    expected = image_grid.tile(image_grid.to_uint8(torch.cat(parts).numpy(), (-1, 1)), (4, 3))
    grid = sampler.save(generator, tmp_path, "a")["_normal"]
    assert np.abs(grid.astype(int) - expected).max() <= 1
    assert len(np.unique(grid.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("world", ["y", "z"])
def test_turned_cameras(world):
    """They look at the pivot, at the distance and height at which they were."""
    around = cameras(7, world=world)
    up = vertical(around)
    assert up.tolist() == ([0, 0, 1] if world == "z" else [0, 1, 0])
    height = up.argmax()
    for yaw in YAWS:
        turned = turn(around, yaw, PIVOT, up)
        position, before = turned.cam2world[:, :3, 3], around.cam2world[:, :3, 3]
        offset = position - torch.tensor(PIVOT)
        np.testing.assert_allclose(offset.norm(dim=1), 2.7, rtol=1e-5)
        np.testing.assert_allclose(position[:, height], before[:, height], atol=1e-5)
        expected = look_at(position, PIVOT, Z_UP if world == "z" else (0, 1, 0))
        np.testing.assert_allclose(turned.cam2world, expected, atol=1e-5)
        moved = (torch.linalg.inv(around.cam2world) @ turned.cam2world)[:, 0, 3]
        to_the_right = 2.7 * math.cos(0.2) * math.sin(yaw)
        np.testing.assert_allclose(moved, to_the_right, atol=1e-5)


def test_turned_from_the_front_as_the_named_views(generator):
    model = Model.of(generator)
    for yaw in YAWS:
        # Around the origin, since the named views are at a distance from that.
        front = Camera(
            look_at(torch.tensor([[0.0, 0.0, 2.7]]), (0.0, 0.0, 0.0)), model.intrinsics[None]
        )
        got = turn(front, yaw, (0.0, 0.0, 0.0), torch.tensor([0.0, 1.0, 0.0]))
        position = views.turned(model, [(yaw, 0.0)]).cam2world[:, :3, 3]
        np.testing.assert_allclose(got.cam2world[:, :3, 3], position, atol=1e-4)


def test_the_vertical_of_few_cameras():
    tilted = cameras(1, elevation=0.6)
    assert vertical(tilted).tolist() == [0, 1, 0]
    upside_down = Camera(
        look_at(torch.tensor([[0.0, 0.0, 2.0]]), (0, 0, 0), (0, -1, 0)), tilted.intrinsics
    )
    assert vertical(upside_down).tolist() == [0, -1, 0]
