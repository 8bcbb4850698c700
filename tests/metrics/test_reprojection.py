"""Warping one view into another: against scenes whose surfaces and occlusions are known."""

import math

import numpy as np
import pytest
import torch

from metrics import samples
from metrics.image_similarity import psnr, ssim
from metrics.options import MetricOptions, unnoticed
from metrics.pose_distribution import NAMED
from metrics.reprojection import (
    View,
    compare,
    partners,
    reproject,
    reprojection_consistency,
    turned,
)
from metrics.samples import latents, picks, real_labels
from tests.tiny import tiny_generator
from training.cameras import Y_UP, Z_UP, Camera, look_at
from training.volumetric_rendering.draws import FixedDraws
from training.volumetric_rendering.ray_sampler import RaySampler

SIDE, RADIUS, WALL, TOLERANCE = 64, 0.3, -0.6, 0.02
LENS = [[2.1, 0.1, 0.47], [0, 1.9, 0.52], [0, 0, 1]]  # nothing about it is symmetric
EMPTY = 77.0  # depth where there is nothing, as meaningless as that of the renderer


def cameras_at(*degrees, height=0.4):
    """Cameras that look at the origin, so many degrees around it from +z."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    origin = torch.stack([2 * angle.sin(), torch.full_like(angle, height), 2 * angle.cos()], dim=1)
    lens = torch.tensor(LENS, dtype=torch.float64).expand(len(angle), 3, 3)
    return Camera(look_at(origin, (0, 0, 0)), lens)


def hit_sphere(origins, directions):
    """Distances [...] to the sphere around the origin, infinite beside it."""
    along = (origins * directions).sum(-1)
    root = along**2 - (origins**2).sum(-1) + RADIUS**2
    return torch.where(root > 0, -along - root.clamp(min=0).sqrt(), math.inf)


def texture(points):
    """Smooth colours [..., 3] in [-1, 1] of points in space."""
    waves = torch.tensor([[5.0, 2, 1], [-1, 6, 2], [3, -2, 4]], dtype=torch.float64)
    return torch.sin(points @ waves.T)


def see(camera, wall=False, shift=0.0):
    """A sphere, alone or before a wall; its texture is shifted by some world units."""
    origins, directions = RaySampler()(camera.cam2world, camera.intrinsics, SIDE)
    depth = hit_sphere(origins, directions)
    if wall:
        depth = torch.minimum(depth, (WALL - origins[..., 2]) / directions[..., 2])
    opaque = depth.isfinite()
    depth = torch.where(opaque, depth, EMPTY)
    points = origins + depth[..., None] * directions
    picture = torch.where(opaque[..., None], texture(points + shift), 1.0)
    layers = (x.float().unflatten(1, (SIDE, SIDE)) for x in (picture, depth, opaque))
    picture, depth, opacity = layers
    picture = picture.permute(0, 3, 1, 2)
    return View(picture, depth[:, None], opacity[:, None], camera.to(torch.float32))


def first(**more):
    return see(cameras_at(0.0, 40.0, -75.0), **more)


def second(**more):
    return see(cameras_at(10.0, 50.0, -65.0, height=0.5), **more)


def test_a_consistent_scene_scores_high():
    found = compare(first(), second(), TOLERANCE)
    assert (found["psnr"] > 45).all() and (found["ssim"] > 0.995).all()
    assert (found["covisible"] > 0.8).all() and (found["covisible"] < 1).all()


def test_a_view_warped_into_itself_is_itself():
    a = first()
    warped, covisible = reproject(a, a, 0.01)
    assert torch.equal(covisible, a.opaque) and 0 < a.opaque.float().mean() < 1
    assert (warped - a.picture).abs().max() < 1e-5
    found = compare(a, a, 0.01)
    assert (found["psnr"] > 100).all() and found["covisible"].tolist() == [1, 1, 1]


def by_hand(a, b, tolerance, row, column):
    """One pixel of view number 0: its colour in b, None where that is not to be seen."""
    pose, lens = (x[0].double().numpy() for x in (a.camera.cam2world, a.camera.intrinsics))
    place = np.array([(column + 0.5) / SIDE, (row + 0.5) / SIDE, 1])
    ray = pose[:3, :3] @ np.linalg.inv(lens) @ place
    point = pose[:3, 3] + a.depth[0, 0, row, column].item() * ray / np.linalg.norm(ray)
    pose, lens = (x[0].double().numpy() for x in (b.camera.cam2world, b.camera.intrinsics))
    distance = np.linalg.norm(point - pose[:3, 3])
    x, y, z = lens @ pose[:3, :3].T @ (point - pose[:3, 3])
    x, y = x / z * SIDE - 0.5, y / z * SIDE - 0.5
    if a.opacity[0, 0, row, column] < 0.5 or not (0 < x < SIDE - 1 and 0 < y < SIDE - 1):
        return None
    colour, error, left, top = np.zeros(3), 0.0, int(x), int(y)
    for i, j in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - abs(y - i)) * (1 - abs(x - j))
        colour += weight * b.picture[0, :, i, j].numpy()
        error += weight * (b.depth[0, 0, i, j].item() - distance) ** 2
        if b.opacity[0, 0, i, j] < 0.5:
            return None
    return colour if error**0.5 <= tolerance else None


@pytest.mark.parametrize("wall, tolerance", [(False, TOLERANCE), (True, TOLERANCE), (True, 9.0)])
def test_as_a_loop_over_pixels(wall, tolerance):
    a, b = first(wall=wall), second(wall=wall)
    warped, covisible = reproject(a, b, tolerance)
    seen = 0
    for row in range(1, SIDE, 3):
        for column in range(1, SIDE, 3):
            expected = by_hand(a, b, tolerance, row, column)
            assert covisible[0, 0, row, column].item() == (expected is not None)
            seen += expected is not None
            expected = a.picture[0, :, row, column] if expected is None else expected
            np.testing.assert_allclose(warped[0, :, row, column], expected, atol=1e-5)
    assert 20 < seen < 21 * 21


def test_what_the_other_view_hides_is_left_out():
    """A sphere before a wall: whether it is in the way, the ray to each point tells."""
    a, b = (see(cameras_at(angle), wall=True) for angle in (0.0, 25.0))
    _, covisible = reproject(a, b, TOLERANCE)
    origins, directions = RaySampler()(a.camera.cam2world, a.camera.intrinsics, SIDE)
    points = (origins + a.depth.flatten(2).transpose(1, 2) * directions).double()
    offset = points - b.camera.cam2world[:, None, :3, 3]
    distance = offset.norm(dim=2)
    way = hit_sphere(points - offset, offset / distance[..., None])
    hidden = (way < distance - 1e-3).view_as(covisible)
    assert hidden.sum() > 100 and not (hidden & covisible).any()
    found = compare(a, b, TOLERANCE)
    assert found["psnr"] > 45 and found["covisible"] > 0.5
    # Without a look at depths, what is hidden would show the sphere instead.
    assert compare(a, b, 10.0)["psnr"] < 25


def test_wrong_depths_are_punished():
    """Those of other views, on which both views of a pair agree, but not their pictures."""
    a, b = first(wall=True), second(wall=True)
    true = compare(a, b, TOLERANCE)
    order = [1, 2, 0]
    c, d = (View(v.picture, v.depth[order], v.opacity[order], v.camera) for v in (a, b))
    assert (compare(c, d, TOLERANCE)["psnr"] < true["psnr"] - 10).all()
    # Where views contradict each other, nothing is compared.
    off = View(a.picture, a.depth + 3 * TOLERANCE, a.opacity, a.camera)
    assert (compare(off, b, TOLERANCE)["covisible"] < 0.1 * true["covisible"]).all()


def test_a_scene_that_moves_between_views_is_punished():
    a, still = first(), compare(first(), second(), TOLERANCE)
    before = still
    for shift in (0.01, 0.03, 0.1):
        found = compare(a, second(shift=shift), TOLERANCE)
        assert torch.equal(found["covisible"], still["covisible"])
        assert (found["psnr"] < before["psnr"] - 3).all() and (found["ssim"] < before["ssim"]).all()
        before = found


def test_measures_are_those_of_pictures_that_are_co_visible():
    a, b = first(), second(shift=0.02)
    warped, covisible = reproject(a, b, TOLERANCE)
    found = compare(a, b, TOLERANCE)
    assert torch.equal(found["psnr"], psnr(a.picture.double(), warped, covisible, 2))
    assert torch.equal(found["ssim"], ssim(a.picture.double(), warped, covisible, 2))
    shares = covisible.sum((1, 2, 3)) / a.opaque.sum((1, 2, 3))
    assert found["covisible"].tolist() == pytest.approx(shares.tolist())


def test_nothing_to_compare():
    """Empty views, and one from the back of a camera; however tolerant of depths."""
    a, b = first(), second()
    empty = View(a.picture, a.depth, torch.zeros_like(a.opacity), a.camera)
    back, away = a.camera.cam2world.clone(), b.camera.cam2world.clone()
    back[:, :3, 3] -= back[:, :3, 2]  # sees the camera of a
    away[:, :3, [0, 2]] *= -1
    watching = View(a.picture, a.depth, a.opacity, Camera(back, a.camera.intrinsics))
    behind = View(b.picture, b.depth, b.opacity, Camera(away, b.camera.intrinsics))
    for pair in ((empty, b), (empty, watching), (b, empty), (a, behind)):
        found = compare(*pair, 99.0)
        assert found["psnr"].isnan().all() and found["ssim"].isnan().all()
        assert found["covisible"].tolist() == [0, 0, 0]


def test_depths_for_a_larger_picture():
    """They follow the surface up to its edge, and the picture still agrees with itself."""
    view = first()
    small = View(*(x[:, :, 2::4, 2::4] for x in (view.picture, view.depth, view.opacity)), None)
    large = small.with_picture(view.picture)
    assert large.picture is view.picture and large.depth.shape == view.depth.shape
    inner = large.opaque & view.opaque
    assert inner.sum() > 0.9 * view.opaque.sum()
    assert large.depth[large.opaque].max() < view.depth[view.opaque].max() + 0.01 < EMPTY / 2
    flat = View(small.picture, torch.where(small.opaque, 2.0, EMPTY), small.opacity, None)
    found = flat.with_picture(view.picture)
    assert (found.depth[found.opacity > 0] - 2).abs().max() < 1e-5 and found.depth.isfinite().all()


@pytest.mark.parametrize("up", [Y_UP, Z_UP])
def test_a_turned_camera_is_one_that_looks_from_elsewhere(up):
    pivot = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    axis = torch.tensor(up, dtype=torch.float64)
    angle = torch.tensor([0.3, -1.2], dtype=torch.float64)
    across = torch.tensor([[1.0, 0, 0]], dtype=torch.float64).expand(2, 3)
    ahead = torch.linalg.cross(axis.expand(2, 3), across)  # where a quarter turn takes it
    lens = torch.eye(3).double().expand(2, 3, 3)
    before = look_at(pivot + 2 * across + 0.5 * axis, pivot, up)
    way = angle.cos()[:, None] * across + angle.sin()[:, None] * ahead
    after = look_at(pivot + 2 * way + 0.5 * axis, pivot, up)
    found = turned(Camera(before, lens), angle, axis, pivot)
    assert torch.allclose(found.cam2world, after, atol=1e-12)
    assert found.intrinsics is lens


@pytest.mark.parametrize("name", ["ffhq", "shapenet"])
def test_partners_are_ten_degrees_on(name):
    reals = NAMED[name].sample(range(2000))
    labels = reals[:200]
    up, pivot = (torch.tensor(v).float() for v in (NAMED[name].up, NAMED[name].pivot))
    found = partners(labels, reals)
    assert torch.equal(found[:, 16:], labels[:, 16:]) and found.dtype == labels.dtype
    a, b = (Camera.from_label(c).cam2world[:, :3, 3] - pivot for c in (labels, found))
    assert torch.allclose(a @ up, b @ up, atol=1e-3)
    a, b = (x - (x @ up)[:, None] * up for x in (a, b))
    angles = torch.rad2deg(torch.arccos(torch.cosine_similarity(a, b)))
    assert (angles - 10).abs().max() < 0.1
    forward = [Camera.from_label(c).cam2world[:, :3, 2] for c in (labels, found)]
    assert torch.allclose(forward[0] @ up, forward[1] @ up, atol=1e-5)
    if name == "ffhq":  # towards the front: no farther from it than before, or than 10 degrees
        before, after = (torch.atan2(x[:, 0], x[:, 2]).rad2deg().abs() for x in (a, b))
        assert (after < torch.maximum(before, torch.tensor(10.5))).all()


# -- The metric ------------------------------------------------------------------------------------


def options(cars, G=None, **more):
    more = dict(dict(dataset_kwargs=cars, batch_gen=2), **more)
    return MetricOptions(G or solid_generator(), **more)


def solid_generator(bias=8.0):
    """With a surface that its cameras, 2 away from the origin, see."""
    G = tiny_generator()
    G.rendering_kwargs.update(ray_start=1.35, ray_end=2.65)
    with torch.no_grad():
        G.decoder.net[2].bias[0] = bias
    return G


def measure(opts, subjects=5, views=2):
    with unnoticed(opts):
        return reprojection_consistency(opts, subjects, views)


def test_as_computed_view_by_view(cars):
    opts = options(cars, seed=3)
    G, labels, expected = opts.G, real_labels(opts), []
    chosen = labels[picks(range(6), len(labels), 3)]
    for i, (c, turned_c) in enumerate(zip(chosen, partners(chosen, labels), strict=True)):
        z = latents(range(i // 2, i // 2 + 1), G.z_dim, 3)
        ws = G.mapping(z, chosen[i // 2 * 2, None])
        final, raw = [], []
        for label in (c[None], turned_c[None]):
            out = G.synthesis(ws, label, noise_mode="const", draws=FixedDraws())
            maps = out["image_depth"], out["image_opacity"], Camera.from_label(label)
            raw.append(View(out["image_raw"].clamp(-1, 1), *maps))
            final.append(raw[-1].with_picture(out["image"].clamp(-1, 1)))
        row = compare(*final, 0.02 * G.rendering_kwargs["box_warp"])
        warped, seen = reproject(*raw, 0.02)
        row["psnr_raw"] = psnr(raw[0].picture, warped, seen, 2)
        expected.append({f"reprojection_{name}": value.item() for name, value in row.items()})
    found = measure(opts, subjects=3)
    assert set(found) == set(expected[0])
    for name, value in found.items():
        assert value == pytest.approx(np.nanmean([row[name] for row in expected]), rel=1e-4)
    assert 0.2 < found["reprojection_covisible"] <= 1


def test_any_number_of_processes_gives_the_same(cars, monkeypatch):
    """Three processes one after the other, the last one first, in some other random state."""
    one = measure(options(cars))
    shares = []

    def gather(compute, num_processes):
        shares.append(compute())
        return shares if len(shares) == num_processes else [{k: [0.0] * 4 for k in range(10)}]

    monkeypatch.setattr(samples, "in_all_processes", gather)
    torch.manual_seed(5)
    several = [measure(options(cars, num_gpus=3, rank=rank)) for rank in (2, 1, 0)]
    assert several[-1] == one
    assert [sorted(share) for share in shares] == [[8, 9], [4, 5, 6, 7], [0, 1, 2, 3]]


def test_noise_of_the_model_is_the_same_in_both_views(cars):
    G = solid_generator()
    without = measure(options(cars, G))
    G.rendering_kwargs["superresolution_noise_mode"] = "random"
    noisy = measure(options(cars, G))
    torch.manual_seed(5)
    assert noisy != without and noisy == measure(options(cars, G))
    assert G.rendering_kwargs["superresolution_noise_mode"] == "random"


@pytest.mark.parametrize(
    "more", [dict(seed=1), dict(G_kwargs=dict(truncation_psi=0.3, noise_mode="random"))], ids=str
)
def test_options_change_what_is_measured(cars, more):
    assert measure(options(cars, **more)) != measure(options(cars))


def test_the_resolution_of_the_rendering_can_be_chosen(cars):
    fine = measure(options(cars, G_kwargs=dict(neural_rendering_resolution=16)))
    assert fine != measure(options(cars)) and all(map(math.isfinite, fine.values()))


def test_an_empty_scene_has_no_value(cars):
    found = measure(options(cars, solid_generator(bias=-50.0)))
    assert found.pop("reprojection_covisible") == 0
    assert len(found) == 3 and all(map(math.isnan, found.values()))
