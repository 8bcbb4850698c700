"""Backgrounds: recorded points and colours, points of rays found by solving for their distance, and
sums over samples by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.recorded_draws import recorded_draws
from training.cameras import Camera
from training.epigraf.background import (
    inverse_distances,
    outside_points,
    plane_background,
    sphere_background,
)
from training.epigraf.background_network import BackgroundINR, BackgroundLayer
from training.epigraf.cameras import label_from_angles
from training.networks_stylegan2 import SynthesisNetwork
from training.views import FullView, PatchView

SIZES = dict(channel_base=96, channel_max=20)
STEPS = 6


@pytest.fixture
def recorded(conformance):
    return conformance("epigraf/background")


@pytest.mark.parametrize("jitter", ["", "_jitter"])
def test_recorded_points(jitter, recorded, assert_scaled, monkeypatch):
    with recorded_draws(monkeypatch):
        draws = torch.rand(2, 20, STEPS) if jitter else None
    t = inverse_distances(STEPS, jitter=draws).expand(2, 20, STEPS)
    assert_scaled(t, recorded[f"t{jitter}"])
    points = outside_points(recorded["o"], recorded["d"], recorded[f"t{jitter}"])
    assert_scaled(points.flatten(1, 2), recorded[f"bg_points{jitter}"])


@pytest.mark.parametrize("jitter", ["", "_jitter"])
def test_recorded_colours_and_densities(jitter, recorded, state_of, assert_scaled):
    network = BackgroundINR(16, **SIZES)
    network.load_state_dict(state_of(recorded))
    answer = network(recorded[f"bg_points{jitter}"], recorded["ws"])
    assert_scaled(answer, recorded[f"inr{jitter}"])


def test_published_example():
    origin = torch.tensor([0, 0, 0.9])
    direction = F.normalize(torch.tensor([0.1, 0, -1]), dim=0)
    point = outside_points(origin, direction, torch.tensor([0.5]))[0]
    expected = torch.tensor([0.1439584, 0, -0.9895837, 0.5])
    torch.testing.assert_close(point, expected, rtol=0, atol=1e-6)


def test_points_lie_on_their_rays():
    origins = F.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1) * 0.8
    directions = torch.randn(50, 3, dtype=torch.float64)
    t = torch.rand(50, 4, dtype=torch.float64) * 0.9 + 0.1
    found = outside_points(origins, directions, t)
    # |o + s d| = 1 / t, the larger solution s.
    square = directions.square().sum(1, keepdim=True)
    half = (origins * directions).sum(1, keepdim=True) / square
    rest = (origins.square().sum(1, keepdim=True) - t**-2) / square
    s = -half + (half.square() - rest).sqrt()
    points = origins[:, None] + s[..., None] * directions[:, None]
    expected = torch.cat([points * t[..., None], t[..., None]], dim=-1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_ray_through_the_centre_goes_on_straight():
    origin = torch.tensor([[0.0, 0.6, 0.8], [0.0, 0.0, 0.0]])
    direction = torch.tensor([[0.0, -0.6, -0.8], [0.0, 3.0, 4.0]])
    points = outside_points(origin, direction, torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(points[..., :3], F.normalize(direction)[:, None].expand(2, 3, 3))


def test_rays_of_a_camera_on_the_sphere_are_finite():
    label = label_from_angles(torch.tensor([[0.4, 1.1, 0.0]]), 1.0, 120.0)
    origins, directions = FullView(33, "corners").rays(Camera.from_label(label))
    points = outside_points(origins, directions, inverse_distances(STEPS))
    assert points.isfinite().all()
    torch.testing.assert_close(points[..., :3].norm(dim=-1), torch.ones(1, 33**2, STEPS))


def test_inverse_distances_keep_their_order_and_ends():
    assert inverse_distances(5).tolist() == [1, 0.75, 0.5, 0.25, 0]
    t = inverse_distances(5, 0.8, jitter=torch.rand(200, 5))
    assert (t.diff(dim=1) <= 0).all() and t.min() >= 0 and t.max() <= 0.8
    middles = torch.tensor([0.7, 0.5, 0.3, 0.1])
    assert (t[:, :-1] >= middles - 1e-6).all() and (t[:, 1:] <= middles + 1e-6).all()


def test_a_layer_sample_by_sample():
    layer, last = BackgroundLayer(5, 3, 7), BackgroundLayer(5, 3, 7, last=True)
    x, w = torch.randn(2, 5, 4, 1), torch.randn(2, 7)
    for module in (layer, last):
        torch.nn.init.normal_(module.bias)
        y = module(x, w)
        for n in range(2):
            styles = w[n] @ module.affine.weight.t() / math.sqrt(7) + 1
            weight = module.weight * styles
            if module is layer:
                weight = weight / (weight.square().sum(1, keepdim=True) + 1e-8).sqrt()
            else:
                weight = weight / math.sqrt(5)
            expected = weight @ x[n, :, :, 0] + module.bias[:, None]
            if module is layer:
                expected = torch.where(expected > 0, expected, 0.2 * expected) * math.sqrt(2)
            torch.testing.assert_close(y[n, :, :, 0], expected)


def test_colours_along_a_ray_add_up_from_the_front():
    network = BackgroundINR(6, **SIZES)
    ws = torch.randn(1, network.num_ws, 6)
    origins = torch.tensor([[[0.0, 0.0, 0.7], [0.1, 0.2, 0.0]]])
    directions = F.normalize(torch.randn(1, 2, 3), dim=-1)
    t = inverse_distances(STEPS, jitter=torch.rand(1, 2, STEPS))
    colors = sphere_background(network, ws, origins, directions, t)
    for ray in range(2):
        answer = network(outside_points(origins[:, ray], directions[:, ray], t[:, ray]), ws)[0]
        light, total = 1.0, torch.zeros(3)
        for i in range(STEPS):
            delta = t[0, ray, i] - t[0, ray, i + 1] if i + 1 < STEPS else 1e10
            alpha = 1 - torch.exp(-F.softplus(answer[i, 3]) * delta)
            total = total + light * alpha * answer[i, :3]
            light = light * (1 - alpha + 1e-10)
        torch.testing.assert_close(colors[0, ray], total, rtol=1e-4, atol=1e-5)


def test_chunks_of_rays_change_nothing():
    network = BackgroundINR(6, **SIZES)
    ws = torch.randn(2, network.num_ws, 6)
    rays = torch.rand(2, 7, 3) * 0.5, torch.randn(2, 7, 3)
    whole = sphere_background(network, ws, *rays, inverse_distances(STEPS))
    parts = sphere_background(network, ws, *rays, inverse_distances(STEPS), chunk=3)
    torch.testing.assert_close(parts, whole)


def test_the_published_network_has_the_published_size():
    network = BackgroundINR(512)
    assert sum(p.numel() for p in network.parameters()) == 327_608
    assert network.num_ws == 4


@pytest.mark.parametrize("count", [0, 9])
def test_numbers_of_blocks_are_checked(count):
    with pytest.raises(ValueError, match=f"num_blocks must be from 1 to 8, not {count}"):
        BackgroundINR(6, num_blocks=count)


def test_more_blocks_take_more_latents():
    network = BackgroundINR(6, num_blocks=3, **SIZES)
    assert network.num_ws == 6
    ws = torch.randn(1, 6, 6)
    points = torch.rand(1, 5, 4)
    before = network(points, ws)
    for layer in range(6):
        other = ws.clone()
        other[:, layer] += 1
        assert (network(points, other) - before).abs().max() > 1e-4


def test_recorded_plane_backgrounds(conformance, state_of, assert_scaled):
    recorded = conformance("epigraf/generator_bg_plane")
    network = SynthesisNetwork(32, 16, 99, channel_base=128, channel_max=16, conv_clamp=256)
    network.load_state_dict(state_of(recorded, "state/synthesis.tri_plane_decoder."))
    with torch.no_grad():
        picture = network(recorded["ws"], noise_mode="const")[:, 96:]
    whole = plane_background(picture, 64, FullView(64, "corners"))
    assert_scaled(whole[:, :, ::2, ::2], recorded["image_bg_only"])
    view = PatchView(recorded["scales"], recorded["offsets"], 16)
    assert_scaled(plane_background(picture, 64, view), recorded["patch_bg_only"])


def test_recorded_sphere_backgrounds(conformance, state_of, assert_scaled, monkeypatch):
    recorded = conformance("epigraf/generator_bg_sphere")
    network = BackgroundINR(32, **SIZES)
    network.load_state_dict(state_of(recorded, "state/synthesis.bg_model."))
    camera = Camera.from_label(label_from_angles(recorded["angles"], 1.0, 12.0))
    patch = PatchView(recorded["scales"], recorded["offsets"], 16)
    for view, name in ((FullView(64, "corners"), "image_bg_only"), (patch, "patch_bg_only")):
        rays = [torch.stack([x[..., 2], x[..., 1], -x[..., 0]], -1) for x in view.rays(camera)]
        with recorded_draws(monkeypatch):
            draws = torch.rand(2, view.resolution**2, STEPS) if view is patch else None
        t = inverse_distances(STEPS, jitter=draws)
        with torch.no_grad():
            colors = sphere_background(network, recorded["ws"][:, 6:], *rays, t)
        image = colors.transpose(1, 2).unflatten(2, [view.resolution] * 2)
        image = image if view is patch else image[:, :, ::2, ::2]
        # The highest octave of points that are turned by differences of arcsines.
        assert_scaled(image, recorded[name], tol=3e-5)
