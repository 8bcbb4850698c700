"""Recorded arrays of the published networks: values to 1e-5 of their scale, gradients too."""

import pytest
import torch

from training.volumetric_rendering.draws import GivenDraws
from training.volumetric_rendering.math_utils import get_ray_limits_box
from training.volumetric_rendering.ray_marcher import MipRayMarcher2
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import (
    ImportanceRenderer,
    generate_planes,
    sample_from_planes,
)

NAMES = ["net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"]
OPTIONS = {
    "depth_resolution": 12,
    "depth_resolution_importance": 12,
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "disparity_space_sampling": False,
    "clamp_mode": "softplus",
}
DRAWS = GivenDraws(torch.tensor(0.5), torch.linspace(0.02, 0.98, 12))


@pytest.fixture
def parts(conformance):
    return conformance("renderer_parts")


@pytest.fixture(params=[False, True], ids=["three planes", "their mean"])
def decoder(request, parts, state_of, make_decoder):
    state = state_of(parts)
    weights = [state[name].clone().requires_grad_() for name in NAMES]
    return make_decoder(*weights, averages_planes=request.param)


@pytest.mark.parametrize("file, side", [("cameras_rays", 1.6), ("renderer_missed_rays", 1)])
def test_rays_and_limits(file, side, conformance, assert_scaled):
    recorded = conformance(file)
    origins, directions = RaySampler()(recorded["cam2world"], recorded["intrinsics"], 8)
    assert_scaled(origins, recorded["ray_origins"])
    assert_scaled(directions, recorded["ray_directions"])
    near, far = get_ray_limits_box(recorded["ray_origins"], recorded["ray_directions"], side)
    if file == "renderer_missed_rays":
        assert (far < near).any() and (far > near).any()
    assert_scaled(near, recorded["box_near"])
    assert_scaled(far, recorded["box_far"])


def test_plane_features(parts, assert_scaled):
    features = sample_from_planes(generate_planes(), parts["planes"], parts["xyz"], box_warp=1)
    assert_scaled(features, parts["features"])


def test_point_query(parts, decoder, assert_scaled):
    answer = ImportanceRenderer().run_model(
        parts["planes"], decoder, parts["xyz"], None, {"box_warp": 1}
    )
    assert_scaled(answer["rgb"].detach(), parts["rgb"])
    assert_scaled(answer["sigma"].detach(), parts["sigma"])


def test_march(parts, assert_scaled):
    samples = parts["colors"], parts["densities"], parts["depths"]
    march = MipRayMarcher2()
    rgb, depth, weights = march.run_forward(*samples, {"clamp_mode": "softplus"})
    assert_scaled(rgb, parts["march_rgb"])
    assert_scaled(depth, parts["march_depth"])
    assert_scaled(weights, parts["march_weights"])
    white = march(*samples, {"clamp_mode": "softplus", "white_back": True})[0]
    assert_scaled(white, parts["march_rgb_white"])


def test_importance_depths(parts, assert_scaled):
    draws = GivenDraws(torch.tensor(0.5), parts["u"])
    fine = ImportanceRenderer().sample_importance(parts["depths"], parts["march_weights"], 6, draws)
    assert_scaled(fine, parts["importance_depths"])


@pytest.mark.parametrize(
    "case, cameras, changes",
    [
        ("a", slice(0, 2), {}),
        (
            "b",
            slice(2, 4),
            {"ray_start": "auto", "ray_end": "auto", "box_warp": 1.6, "white_back": True},
        ),
        ("c", slice(0, 2), {"disparity_space_sampling": True}),
    ],
)
def test_whole_renderer(case, cameras, changes, conformance, parts, decoder, assert_scaled):
    rays, recorded = conformance("cameras_rays"), conformance("renderer_full")
    planes = parts["planes"].requires_grad_()
    rgb, depth, opacity = ImportanceRenderer()(
        planes,
        decoder,
        rays["ray_origins"][cameras],
        rays["ray_directions"][cameras],
        {**OPTIONS, **changes},
        DRAWS,
    )
    assert_scaled(rgb.detach(), recorded[f"{case}_rgb"])
    assert_scaled(depth.detach(), recorded[f"{case}_depth"])
    assert_scaled(opacity.detach(), recorded[f"{case}_weights"])
    if case == "a":
        ((rgb * recorded["g_rgb"]).sum() + (depth * recorded["g_depth"]).sum()).backward()
        assert_scaled(planes.grad, recorded["grad_planes"])
        for name, parameter in zip(NAMES, decoder.parameters, strict=True):
            assert_scaled(parameter.grad, recorded[f"grad_{name}"])


def test_batch_in_which_most_rays_miss(conformance, parts, decoder, assert_scaled):
    recorded = conformance("renderer_missed_rays")
    rgb, depth, opacity = ImportanceRenderer()(
        parts["planes"],
        decoder,
        recorded["ray_origins"],
        recorded["ray_directions"],
        {**OPTIONS, "ray_start": "auto", "ray_end": "auto"},
        DRAWS,
    )
    assert_scaled(rgb.detach(), recorded["rgb"])
    assert_scaled(depth.detach(), recorded["depth"])
    assert_scaled(opacity.detach(), recorded["weights"])
