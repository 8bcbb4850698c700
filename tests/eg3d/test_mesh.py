"""Meshes of scenes and volumes whose surface is known."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from eg3d.errors import InputError
from eg3d.mesh import NoSurfaceError, auto_level, largest_part
from eg3d.volume import Volume
from tests.eg3d.analytic import ellipsoid, sphere_colors

SPACING = 0.04


def volume_of(density):
    """A volume around the origin whose density is a function of points [R, R, R, 3]."""
    ticks = SPACING * (np.arange(33) - 16)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    return Volume(density(points).astype(np.float32), (ticks[0],) * 3, SPACING)


def ball(points, centre=(0, 0, 0), radius=0.4):
    """10 on a sphere, higher inside."""
    return 10 + 100 * (radius - np.linalg.norm(points - np.asarray(centre), axis=-1))


@pytest.mark.parametrize("axes", ["legacy", "orthogonal"])
@pytest.mark.parametrize("resolution", [48, 65])
def test_sphere_in_world_units(new_generator, axes, resolution):
    """Off centre in a box of 1.6: where, how large, closed, outwards."""
    centre = (0.1, -0.15, 0.2)
    scene = ellipsoid(new_generator(plane_axes=axes, box_warp=1.6), centre=centre)
    mesh = scene.mesh(resolution, level=10)
    voxel = 1.6 / (resolution - 1)
    assert np.abs(np.linalg.norm(mesh.vertices - centre, axis=1) - 0.3).max() < 0.1 * voxel
    assert mesh.is_watertight and mesh.volume == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.05)
    outwards = (mesh.vertices - centre) / 0.3
    assert (mesh.vertex_normals * outwards).sum(axis=1).min() > 0.95


def test_axes_are_not_swapped(new_generator):
    scene = ellipsoid(new_generator(), radii=(0.3, 0.2, 0.1))
    mesh = scene.mesh(64, level=10)
    assert np.abs(mesh.extents - [0.6, 0.4, 0.2]).max() < 0.01
    assert np.abs(mesh.bounds.mean(axis=0)).max() < 1e-3


def test_colors_are_those_of_the_field_at_the_vertices(new_generator):
    scene = ellipsoid(new_generator())
    mesh = scene.mesh(32)
    expected = 255 * sphere_colors(mesh.vertices, 1.0).numpy()
    assert np.ptp(expected, axis=0).min() > 150
    assert np.abs(mesh.visual.vertex_colors[:, :3] - expected).max() < 0.7
    assert (mesh.visual.vertex_colors[:, 3] == 255).all()
    assert scene.mesh(32, colors=None).visual.kind is None


def test_level_moves_the_surface():
    volume = volume_of(ball)
    for level, radius in ((10, 0.4), (-10, 0.6), (20, 0.3)):
        vertices = volume.mesh(level).vertices
        assert np.abs(np.linalg.norm(vertices, axis=1) - radius).max() < 0.1 * SPACING


def test_inside_that_reaches_the_faces_is_closed_there():
    mesh = volume_of(lambda points: ball(points, radius=0.7)).mesh(10)
    assert mesh.is_watertight and mesh.volume > 0
    assert np.abs(np.abs(mesh.bounds) - 0.64).max() < 0.1 * SPACING
    everywhere = volume_of(lambda points: ball(points, radius=2)).mesh(10)
    assert everywhere.is_watertight
    assert everywhere.volume == pytest.approx(1.28**3, rel=0.05)


def test_largest_part():
    volume = volume_of(
        lambda points: np.maximum(
            ball(points, (0.3, 0, 0), 0.2), ball(points, (-0.2, -0.1, 0.1), 0.28)
        )
    )
    both, largest = volume.mesh(10, largest=False), volume.mesh(10)
    assert both.body_count == 2 and largest.body_count == 1 and largest.is_watertight
    assert largest.bounds.mean(axis=0) == pytest.approx([-0.2, -0.1, 0.1], abs=0.01)
    assert largest.volume < 0.8 * both.volume
    expected = max(both.split(), key=lambda part: len(part.faces))
    assert len(largest.faces) == len(expected.faces)
    assert largest.area == pytest.approx(expected.area)


def test_largest_part_of_loose_triangles():
    """Against flood fill: parts that share a vertex are one."""
    random = np.random.RandomState(0)
    vertices, faces = random.rand(60, 3), random.randint(0, 60, (25, 3))
    parts = []
    for face in faces:
        touching = [part for part in parts if part & set(face)]
        parts = [part for part in parts if not part & set(face)]
        parts.append(set(face).union(*touching))
    most = max(parts, key=lambda part: sum(f[0] in part for f in faces))
    assert 1 < len(parts) and len(most) < len(set(faces.flat))
    kept, triangles = largest_part(vertices, faces)
    assert np.array_equal(kept, vertices[sorted(most)])
    assert np.array_equal(kept[triangles], vertices[[f for f in faces if f[0] in most]])


@pytest.mark.parametrize("absorption", [4.0, 20.0, 400.0])
def test_automatic_level_of_a_sudden_rise_is_midway(absorption):
    """Half of what the inside absorbs, found from the law of absorption alone."""
    inside = 1 + absorption + math.log(-math.expm1(-absorption))
    level = auto_level(volume_of(lambda p: np.where(np.linalg.norm(p, axis=-1) < 0.4, inside, -50)))
    assert math.log1p(math.exp(level - 1)) == pytest.approx(absorption / 2, rel=1e-4)


def test_automatic_level_of_a_gradual_rise():
    """A slab whose absorption rises by 200 x a unit from either side, uniform across: half the
    light is gone after sqrt(2 ln 2 / 200), so that the level is 100 times that."""
    rise = volume_of(lambda p: np.log(np.expm1(200 * np.maximum(0.4 - abs(p[..., 0]), 1e-9))) + 1)
    volume = Volume(rise.density[:, :1, :1], rise.origin, rise.spacing)
    tall = np.tile(volume.density, (1, 33, 33))
    level = auto_level(Volume(tall, rise.origin, rise.spacing))
    depth = math.sqrt(2 * math.log(2) / 200)
    found = math.log1p(math.exp(level - 1)) / 100
    assert found == pytest.approx(depth, abs=SPACING)


def test_automatic_level_of_a_scene(new_generator):
    scene = ellipsoid(new_generator(), level=30.0, slope=300.0)
    mesh = scene.mesh(64)
    level = auto_level(scene.volume(64))
    assert 5 < level < 100
    radius = 0.3 * math.sqrt(1 - (level - 30) / 300)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - radius).max() < 0.5 / 63


def test_automatic_level_knows_what_the_renderer_makes_of_densities():
    """The same absorption, reached by another bias and another law, has the same surface."""
    usual = volume_of(ball)
    moved = replace(usual, density=usual.density - 3, density_bias=2.0)
    assert auto_level(moved) == pytest.approx(auto_level(usual) - 3, abs=1e-4)
    absorption = np.logaddexp(0, usual.density - 1)
    linear = replace(usual, density=absorption - 2, density_bias=2.0, clamp_mode="relu")
    expected = np.logaddexp(0, auto_level(usual) - 1)
    assert auto_level(linear) + 2 == pytest.approx(expected, rel=1e-4)
    assert moved.turned().density_bias == 2.0


def test_automatic_level_of_a_large_volume_looks_at_a_part():
    small = volume_of(ball)
    large = Volume(np.repeat(small.density, 9, axis=2), small.origin, small.spacing)
    assert large.density.shape[2] > 256
    assert auto_level(large) == pytest.approx(auto_level(small), rel=0.15)


@pytest.mark.parametrize("faces", [2000, 300])
def test_simplify(faces):
    whole = volume_of(ball).mesh(10)
    mesh = volume_of(ball).mesh(10, simplify=faces)
    assert len(whole.faces) > 3000 and 0.9 * faces < len(mesh.faces) <= faces
    assert mesh.is_watertight and mesh.volume == pytest.approx(whole.volume, rel=0.05)


def test_simplify_leaves_a_mesh_of_fewer_faces():
    whole = volume_of(ball).mesh(10)
    for faces in (len(whole.faces), 10**8):
        assert np.array_equal(volume_of(ball).mesh(10, simplify=faces).faces, whole.faces)


def test_simplify_keeps_the_colors_of_what_is_left(new_generator):
    scene = ellipsoid(new_generator())
    mesh = scene.mesh(40, simplify=500)
    expected = 255 * sphere_colors(mesh.vertices, 1.0).numpy()
    assert len(mesh.faces) <= 500
    assert np.abs(mesh.visual.vertex_colors[:, :3] - expected).max() < 0.7


def test_simplify_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(InputError, match="pip install fast-simplification"):
        volume_of(ball).mesh(10, simplify=100)


@pytest.mark.parametrize(
    "options, line",
    [
        (dict(level="high"), "level 'high': must be a density or 'auto'"),
        (dict(level=math.nan), "no surface at level nan"),
        (dict(level=50.1), "no surface at level 50.1: densities reach 50"),
        (dict(level=-1000), "no surface at level -1000"),
        (dict(level=10, simplify=3), "simplify to 3 faces"),
    ],
)
def test_bad_options(options, line):
    with pytest.raises(InputError, match=line):
        volume_of(ball).mesh(**options)


def test_nothing_to_see():
    volume = volume_of(lambda points: ball(points) - 1000)
    with pytest.raises(NoSurfaceError, match="no ray through the volume loses half"):
        volume.mesh()


def test_mesh_repeats(new_generator):
    scene = ellipsoid(new_generator())
    one, two = scene.mesh(24, simplify=200), scene.mesh(24, simplify=200)
    assert isinstance(one, trimesh.Trimesh) and np.array_equal(one.vertices, two.vertices)
    assert np.array_equal(one.faces, two.faces)
    assert np.array_equal(one.visual.vertex_colors, two.visual.vertex_colors)
