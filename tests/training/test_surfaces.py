"""Depth pictures of spheres and planes, whose points and normals are known."""

import math

import numpy as np
import pytest
import torch

from training import surfaces
from training.cameras import Camera, look_at
from training.volumetric_rendering.ray_sampler import RaySampler

SIDE = 48


def camera(position=(0.0, 0.0, 2.7), focal=4.2, target=(0.0, 0.0, 0.0)):
    """One camera at a position, a slightly uncentred lens."""
    lens = torch.tensor([[[focal, 0, 0.48], [0, focal, 0.51], [0, 0, 1]]])
    return Camera(look_at(torch.tensor([position]), target), lens)


def sphere_depth(camera, radius, side=SIDE):
    """Depth and opacity [N, 1, side, side] of a sphere around the origin, solved exactly."""
    o, d = RaySampler()(camera.cam2world, camera.intrinsics, side)
    o, d = o.double(), torch.nn.functional.normalize(d.double(), dim=-1)
    b = (o * d).sum(-1)
    root = b**2 - (o * o).sum(-1) + radius**2
    depth = torch.where(root > 0, -b - root.clamp(min=0).sqrt(), 9.0).float()
    return depth.reshape(-1, 1, side, side), (root > 0).float().reshape(-1, 1, side, side)


def plane_depth(camera, normal, offset, side=SIDE):
    """Depth [N, 1, side, side] of the plane normal . x = offset."""
    o, d = RaySampler()(camera.cam2world, camera.intrinsics, side)
    normal = torch.tensor(normal)
    return ((offset - o @ normal) / (d @ normal)).reshape(-1, 1, side, side)


@pytest.mark.parametrize("position", [(0.0, 0.0, 2.7), (1.5, 1.0, -2.0)])
def test_points_and_normals_of_a_sphere(position):
    seen = camera(position)
    depth, opacity = sphere_depth(seen, 0.25)
    points = surfaces.surface_points(depth, seen)
    inside = opacity > 0.5
    radii = points.norm(dim=1, keepdim=True)
    assert (radii[inside] - 0.25).abs().max() < 5e-6
    normals, found = surfaces.surface_normals(points, inside)
    assert found.sum() > 0.97 * inside.sum() and not found[~inside].any()
    cosine = (normals * points / radii).sum(1, keepdim=True)
    assert (normals.norm(dim=1, keepdim=True)[found] - 1).abs().max() < 1e-5
    assert (normals[~found.expand_as(normals)] == 0).all()
    assert cosine[found].median() > 0.9995
    assert cosine[found].min() > 0.6  # One-sided differences at the outline.


def test_the_normals_of_a_plane_are_exact_up_to_the_border():
    normal = (0.48, 0.6, 0.64)
    depth = plane_depth(camera(), normal, 0.05)
    points = surfaces.surface_points(depth, camera())
    opaque = torch.ones_like(depth, dtype=torch.bool)
    normals, found = surfaces.surface_normals(points, opaque)
    assert found.all()
    assert (normals - torch.tensor(normal)[:, None, None]).abs().max() < 2e-3
    assert surfaces.normal_variance(normals, found).item() < 1e-6
    assert surfaces.plane_distance(points, opaque).item() < 1e-6
    # The depths themselves do spread: slanted planes are why the distance from a plane counts.
    assert depth.std() > 0.05


def test_pixels_with_too_few_neighbours_have_no_normal():
    """A row, a column and a lone pixel have none, a block of 2 x 2 has four."""
    points = surfaces.surface_points(torch.full([1, 1, 12, 12], 2.0), camera())
    opaque = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
    opaque[0, 0, 0, :5] = opaque[0, 0, 5:10, 0] = opaque[0, 0, 5, 5] = True
    opaque[0, 0, 10:, 10:] = True
    _, found = surfaces.surface_normals(points, opaque)
    assert found.nonzero()[:, 2:].tolist() == [[10, 10], [10, 11], [11, 10], [11, 11]]


def test_the_other_side_of_an_edge_does_not_count():
    """Of a plane in front of emptiness at any depth the outermost normals are right too."""
    depth = plane_depth(camera(), (0.0, 0.6, 0.8), 0.0)
    opaque = torch.zeros_like(depth, dtype=torch.bool)
    opaque[..., 10:20, 12:30] = True
    depth[~opaque] = 77.0
    normals, found = surfaces.surface_normals(surfaces.surface_points(depth, camera()), opaque)
    assert torch.equal(found, opaque)
    expected = torch.tensor([0.0, 0.6, 0.8])[:, None, None].expand_as(normals)
    mask = opaque.expand_as(normals)
    assert (normals - expected)[mask].abs().max() < 2e-3


def test_a_sphere_from_afar():
    """Mean normal 2/3, deviation of sqrt(1 - r^2) over a disc sqrt(1/18): integrals over it."""
    far = camera((0.0, 0.0, 100.0), focal=190.0)
    depth, opacity = sphere_depth(far, 0.25, 128)
    opaque = opacity > 0.5
    points = surfaces.surface_points(depth, far)
    spread = surfaces.plane_distance(points, opaque).item()
    assert spread == pytest.approx(0.25 * math.sqrt(1 / 18), rel=0.01)
    variance = surfaces.normal_variance(*surfaces.surface_normals(points, opaque)).item()
    assert variance == pytest.approx(1 / 3, rel=0.03)


def test_distance_from_a_plane_against_a_singular_value():
    random = np.random.default_rng(0)
    points = random.normal(size=(2, 3, 6, 7)) * np.array([3.0, 1.0, 0.2])[:, None, None]
    opaque = random.random((2, 1, 6, 7)) > 0.4
    got = surfaces.plane_distance(torch.tensor(points).float(), torch.tensor(opaque))
    for picture, mask, value in zip(points, opaque, got, strict=True):
        chosen = picture[:, mask[0]]
        centred = chosen - chosen.mean(1, keepdims=True)
        expected = np.linalg.svd(centred)[1][-1] / math.sqrt(chosen.shape[1])
        assert value.item() == pytest.approx(expected, rel=1e-4)


def test_pictures_without_a_surface():
    points = torch.randn(2, 3, 8, 8)
    opaque = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    opaque[1] = True
    normals, found = surfaces.surface_normals(points, opaque)
    variances = surfaces.normal_variance(normals, found)
    assert variances[0] == 0 < variances[1] <= 1
    distances = surfaces.plane_distance(points, opaque)
    assert distances[0] == 0 < distances[1]


def test_colours_of_normals():
    """Of a sphere seen from any side: the middle is blue, right is red, up is green, none white."""
    seen = camera((-1.2, 0.5, 2.0))
    depth, opacity = sphere_depth(seen, 0.3)
    picture = surfaces.normal_picture(depth, opacity, seen)
    assert picture.shape == (1, 3, SIDE, SIDE)
    rows, columns = opacity[0, 0].nonzero().T
    top, bottom = rows.min() + 3, rows.max() - 3
    left, right = columns.min() + 3, columns.max() - 3
    row, column = (top + bottom) // 2, (left + right) // 2
    assert picture[0, 2, row, column] > 0.98
    assert picture[0, 0, row, right] > 0.6 and picture[0, 0, row, left] < -0.6
    assert picture[0, 1, top, column] > 0.6 and picture[0, 1, bottom, column] < -0.6
    assert (picture[0, :, 0, 0] == 1).all()
