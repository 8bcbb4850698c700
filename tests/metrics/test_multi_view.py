"""Multi-view consistency: cameras by geometry, values by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from metrics.image_similarity import psnr, ssim
from metrics.multi_view import arc_cameras, multi_view_consistency, subject_views
from metrics.options import MetricOptions, unnoticed
from metrics.pose_distribution import NAMED
from metrics.samples import latents, real_labels
from metrics.view_fitting import FitSettings, fit_views
from tests.metrics.test_shape_measures import in_ranks, solid_generator
from training.cameras import Camera, check_label
from training.volumetric_rendering.draws import FixedDraws

QUICK = dict(steps=10, rays=128, samples=(6, 6), plane_resolution=16, channels=4)


def options(cars, G=None, **more):
    return MetricOptions(G or solid_generator(), dataset_kwargs=cars, **more)


def measure(cars, subjects=2, views=3, side=16, G=None, **more):
    opts = options(cars, G, **more)
    with unnoticed(opts):
        return multi_view_consistency(opts, subjects, views, side, **QUICK)


def angles(camera, pivot, up):
    """Azimuth about `up` from the next axis of the world, and elevation, both in degrees; distance
    from the pivot."""
    offset = camera.cam2world[:, :3, 3].numpy() - np.array(pivot)
    length = np.linalg.norm(offset, axis=1)
    k = up.index(1)
    azimuth = np.arctan2(offset[:, (k + 2) % 3], offset[:, (k + 1) % 3])
    return np.degrees(azimuth), np.degrees(np.arcsin(offset[:, k] / length)), length


@pytest.mark.parametrize("name", ["ffhq", "afhq", "shapenet"])
def test_arc(name):
    source = NAMED[name]
    labels = source.sample(range(3000))
    real = Camera.from_label(labels.double())
    arc = arc_cameras(labels, 9)
    assert arc.cam2world.shape == (9, 4, 4)
    assert all(check_label(label) is None for label in arc.label().numpy())
    azimuth, elevation, length = angles(arc, source.pivot, source.up)
    all_azimuths, elevations, lengths = angles(real, source.pivot, source.up)

    # a horizontal circle, evenly, at the usual height and distance
    assert np.ptp(elevation) < 1e-4 and elevation[0] == pytest.approx(
        np.median(elevations), abs=0.5
    )
    assert np.ptp(length) < 1e-5 and length[0] == pytest.approx(np.median(lengths), abs=1e-3)
    steps = np.diff(np.unwrap(azimuth, period=360))
    assert np.ptp(steps) < 1e-4
    # the picture's middle shows the pivot, its upper edge is up
    towards = np.array(source.pivot) - arc.cam2world[:, :3, 3].numpy()
    assert np.allclose(arc.cam2world[:, :3, 2], towards / length[:, None], atol=1e-4)
    k = source.up.index(1)
    assert (arc.cam2world[:, k, 1] < 0).all() and arc.cam2world[:, k, 0].abs().max() < 1e-6
    assert arc.intrinsics.flatten(1).allclose(torch.tensor(source.lens).double(), atol=1e-6)

    # as wide as 90 % of the cameras; at most 120 degrees
    if name == "shapenet":
        assert abs(steps[0]) == pytest.approx(120 / 9, abs=1e-4)
    else:
        low, high = np.quantile(all_azimuths, (0.05, 0.95))
        assert abs(steps[0]) == pytest.approx((high - low) / 9, rel=0.01)
        assert azimuth.mean() == pytest.approx((high + low) / 2, abs=0.1)


def test_a_single_camera_is_in_the_middle():
    labels = NAMED["ffhq"].sample(range(500))
    assert torch.allclose(arc_cameras(labels, 1).label(), arc_cameras(labels, 5)[2].label())


def test_an_even_ring_of_cameras_has_no_middle():
    """Any is as good; but there are cameras."""
    source = NAMED["shapenet"]
    labels = source.sample(range(1)).repeat(4, 1)
    pose = labels[:, :16].view(4, 4, 4)
    for k in range(4):
        turn = torch.eye(4)
        turn[:2, :2] = torch.tensor([[0.0, -1], [1, 0]]).matrix_power(k)
        pose[k] = turn @ pose[k]
    arc = arc_cameras(labels, 4)
    assert all(check_label(label) is None for label in arc.label().numpy())


def test_pictures_are_those_of_the_generator(cars):
    """One view after the other, averaged down by hand."""
    opts = options(cars, G_kwargs=dict(truncation_psi=0.7), batch_gen=2, seed=4)
    G, labels = opts.G, real_labels(opts)
    arc, middle = arc_cameras(labels, 3), arc_cameras(labels, 1)
    found = subject_views(opts, range(5, 6), middle, arc, 16)
    z = latents(range(5, 6), G.z_dim, 4)
    ws = G.mapping(z, middle.label().float(), truncation_psi=0.7)
    for picture, c in zip(found, arc.label().float(), strict=True):
        image = G.synthesis(ws, c[None], noise_mode="const", draws=FixedDraws())["image"][0]
        small = (image.clamp(-1, 1) + 1).view(3, 16, 2, 16, 2).mean((2, 4)) / 2
        assert (picture - small).abs().max() < 0.51 / 255
    assert torch.allclose(found * 255, (found * 255).round(), atol=1e-4)
    whole = subject_views(opts, range(5, 6), middle, arc, 40)
    assert whole.shape == (3, 3, 32, 32)
    assert (F.avg_pool2d(whole, 2) - found).abs().max() < 1.01 / 255


def test_values_by_hand(cars):
    opts = options(cars, seed=3)
    labels = real_labels(opts)
    arc, middle = (arc_cameras(labels, n).to(torch.float32) for n in (3, 1))
    values = []
    for k in range(2):
        views = subject_views(opts, range(k, k + 1), middle, arc, 16)
        scene = fit_views(views, arc, 1, FitSettings(**QUICK), seed=3)
        again = (scene.render(arc, 16) * 255).round() / 255
        for a, b in zip(views, again, strict=True):
            values.append([psnr(a[None], b[None]).item(), ssim(a[None], b[None]).item()])
    found = measure(cars, seed=3)
    expected = dict(zip(("mv_psnr", "mv_ssim"), np.mean(values, axis=0), strict=True))
    assert found == pytest.approx(expected, rel=1e-3)
    assert 5 < found["mv_psnr"] < 60 and -1 < found["mv_ssim"] < 1


def test_views_in_colours_of_their_own_score_lower(cars):
    """What volume rendering shows, and the same with a tint that each view draws."""

    def score(tint):
        G, random = solid_generator(), torch.Generator().manual_seed(0)

        def finish(raw, *args, **kwargs):
            return raw + tint * torch.randn(len(raw), 3, 1, 1, generator=random)

        G.superresolution.forward = finish
        opts = options(cars, G, G_kwargs=dict(neural_rendering_resolution=16))
        with unnoticed(opts):
            return multi_view_consistency(opts, 1, 6, **QUICK | dict(steps=60))["mv_psnr"]

    plain, tinted = score(0), score(0.2)
    assert tinted < plain - 3, (plain, tinted)


def test_any_number_of_processes_gives_the_same(cars, monkeypatch):
    G = solid_generator()
    one = measure(cars, 3, G=G)

    def in_rank(rank):
        opts = options(cars, G, num_gpus=2, rank=rank)
        return multi_view_consistency(opts, 3, 3, 16, **QUICK)

    assert in_ranks(monkeypatch, 2, in_rank) == [one, one]


@pytest.mark.parametrize("more", [dict(seed=1), dict(G_kwargs=dict(truncation_psi=0.3))], ids=str)
def test_options_change_what_is_measured(cars, more):
    assert measure(cars, 1, **more) != measure(cars, 1)


def test_an_empty_scene_counts_60(cars):
    """White on white: what is fitted is exactly the same."""
    G = solid_generator(bias=-50.0)
    G.rendering_kwargs["white_back"] = True
    G.superresolution.forward = lambda raw, *args, **kwargs: F.interpolate(raw, scale_factor=4)
    found = measure(cars, 1, G=G)
    assert found["mv_psnr"] == pytest.approx(60) and found["mv_ssim"] == pytest.approx(1)


@pytest.mark.parametrize(
    "wrong, line",
    [
        (dict(subjects=0), "subjects of multi-view consistency is 0; must be 1 at least"),
        (dict(views=1), "views of multi-view consistency is 1; must be 2 at least"),
        (dict(side=10), "side of multi-view consistency is 10; must be 11 at least"),
        (dict(rays=-1), "rays of a fit is -1; must be positive"),
    ],
    ids=str,
)
def test_bad_input_ends_in_a_line(cars, wrong, line):
    with pytest.raises(ValueError, match=f"^{line}$"):
        multi_view_consistency(options(cars), **wrong)
