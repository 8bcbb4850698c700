"""Whole renderings: analytic scenes, finite differences, degenerate rays, the module's state."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from training.volumetric_rendering import field as field_module
from training.volumetric_rendering.depths import ray_limits
from training.volumetric_rendering.draws import FixedDraws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.renderer import (
    ImportanceRenderer,
    TriPlaneField,
    generate_planes,
    render_rays,
)

DOUBLE = {"dtype": torch.float64}


def options(**changes):
    return RenderingOptions(
        **{
            "depth_resolution": 12,
            "depth_resolution_importance": 12,
            "ray_start": 0.5,
            "ray_end": 2.5,
            "box_warp": 1,
            "disparity_space_sampling": False,
            "clamp_mode": "softplus",
            **changes,
        }
    )


def nothing(points, directions):
    """A field that absorbs nothing but depends on its points."""
    return {"rgb": points, "sigma": points.sum(-1, keepdim=True) - 1e4}


def test_any_function_can_be_a_field(parallel_rays):
    """A hard sphere: depth where the ray meets it, opacity 1 inside its outline and 0 outside."""
    radius = 0.4

    def sphere(points, directions):
        assert points.shape == directions.shape == (2, 200 * 64, 3)
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones(2, 200 * 64))
        inside = points.norm(dim=-1, keepdim=True) < radius
        return {"rgb": points.new_full((*points.shape[:2], 5), 0.7), "sigma": inside * 4e3 - 2e3}

    origins, directions = parallel_rays(2, 200)
    fine = options(depth_resolution=64, depth_resolution_importance=64)
    features, depth, opacity, _ = render_rays(sphere, origins, directions, fine, FixedDraws())

    middle = -(origins * directions).sum(-1)
    squared = radius**2 - (origins.square().sum(-1) - middle**2)
    hit, missed = squared > 0.05**2, squared < -(0.05**2)
    assert hit.sum() > 50 and missed.sum() > 50
    expected = middle - squared.clamp(min=0).sqrt()
    assert (depth[..., 0] - expected)[hit].abs().max() < 0.01
    assert opacity[..., 0][hit].min() > 0.999 and opacity[..., 0][missed].max() < 1e-6
    assert features.shape == (2, 200, 5)
    torch.testing.assert_close(
        features[hit], torch.full_like(features[hit], 0.4), atol=3e-3, rtol=0
    )
    assert (features[missed] == -1).all()


@pytest.mark.parametrize("averages", [True, False])
@pytest.mark.parametrize("white_back", [True, False])
def test_finite_differences(averages, white_back, small_decoder, parallel_rays):
    """float64, planes of 6 x 6; without fine samples, whose depths are constants by definition."""
    decoder = small_decoder(averages, **DOUBLE)
    planes = torch.randn(1, 3, 3, 6, 6, **DOUBLE)
    origins, directions = parallel_rays(1, 3, **DOUBLE)
    coarse = options(depth_resolution=5, depth_resolution_importance=0, white_back=white_back)
    renderer = ImportanceRenderer()

    def render(planes, origins, directions, *weights):
        decoder.parameters = weights
        return renderer(planes, decoder, origins, directions, coarse, FixedDraws())

    inputs = [planes, origins, directions, *decoder.parameters]
    assert torch.autograd.gradcheck(render, [x.requires_grad_() for x in inputs])


def test_gradient_of_fine_samples(small_decoder, parallel_rays):
    """Against one pass that is given the sorted depths of both passes."""
    decoder, planes = small_decoder(**DOUBLE), torch.randn(2, 3, 3, 6, 6, **DOUBLE) * 3
    origins, directions = parallel_rays(2, 4, **DOUBLE)
    field = TriPlaneField(planes.requires_grad_(), decoder, generate_planes(), 1)
    depths = []

    def record(points, directions):
        along = (points.unflatten(1, (4, -1)) - origins[:, :, None]) * directions.unflatten(
            1, (4, -1)
        )
        depths.append(along.sum(-1).detach())
        return field(points, directions)

    features, depth, *_ = render_rays(record, origins, directions, options(), FixedDraws())
    upstream = torch.randn_like(features)
    (actual,) = torch.autograd.grad((features * upstream).sum() + depth.sum(), planes)

    both = torch.cat(depths, dim=-1).sort(-1)[0].unsqueeze(-1)
    points = (origins[:, :, None] + both * directions[:, :, None]).flatten(1, 2)
    answer = TriPlaneField(planes, decoder, generate_planes(), 1)(points, None)
    colors, sigma = (answer[key].unflatten(1, (4, -1)) for key in ("rgb", "sigma"))
    density = F.softplus((sigma[:, :, 1:] + sigma[:, :, :-1]) / 2 - 1)
    passed = torch.exp(-density * both.diff(dim=2))
    before = F.pad((passed + 1e-10).cumprod(2)[:, :, :-1], (0, 0, 1, 0), value=1.0)
    weights = (1 - passed) * before
    plain = 2 * (weights * (colors[:, :, 1:] + colors[:, :, :-1]) / 2).sum(2) - 1
    middles = (both[:, :, 1:] + both[:, :, :-1]) / 2
    mean = (weights * middles).sum(2) / weights.sum(2)
    torch.testing.assert_close(features, plain)
    torch.testing.assert_close(depth, mean)
    (expected,) = torch.autograd.grad((plain * upstream).sum() + mean.sum(), planes)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("white_back, color", [(False, -1.0), (True, 1.0)])
def test_rays_that_absorb_nothing(white_back, color, parallel_rays):
    origins, directions = parallel_rays(1, 4)
    origins.requires_grad_()
    features, depth, opacity, _ = render_rays(
        nothing, origins, directions, options(white_back=white_back), FixedDraws()
    )
    assert (features == color).all() and (opacity == 0).all()
    last = 0.5 + 2 * (11.5 / 11)
    torch.testing.assert_close(depth, torch.full_like(depth, last))
    (features.sum() + depth.sum() + opacity.sum()).backward()
    assert torch.equal(origins.grad, torch.zeros_like(origins))


def test_one_empty_ray_among_others_keeps_their_gradient(small_decoder, parallel_rays):
    decoder = small_decoder()

    def field(points, directions):
        answer = planes(points, directions)
        shift = torch.tensor([0.0, 1e4, 0.0]).repeat_interleave(points.shape[1] // 3)
        return {**answer, "sigma": answer["sigma"] - shift[:, None]}

    texels = torch.randn(1, 3, 3, 6, 6, requires_grad=True)
    planes = TriPlaneField(texels, decoder, generate_planes(), 1)
    origins, directions = parallel_rays(1, 3)
    _, depth, opacity, _ = render_rays(field, origins, directions, options(), FixedDraws())
    assert opacity[0, 1] == 0 and (opacity[0, ::2] > 0).all()
    depth.square().sum().backward()
    assert texels.grad.isfinite().all() and texels.grad.abs().max() > 0


def test_a_single_ray(small_decoder, parallel_rays):
    decoder, planes = small_decoder(), torch.randn(1, 3, 3, 6, 6)
    origins, directions = parallel_rays(1, 6)
    render = ImportanceRenderer()
    many = render(planes, decoder, origins, directions, options(), FixedDraws())
    one = render(planes, decoder, origins[:, :1], directions[:, :1], options(), FixedDraws())
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(a, b[:, :1])


def test_disparity_with_auto_limits(small_decoder, parallel_rays):
    """Each ray alone with its two numbers gives the same as all with their tensors."""
    decoder, planes = small_decoder(), torch.randn(1, 3, 3, 6, 6)
    origins, directions = parallel_rays(1, 3)
    render = ImportanceRenderer()
    kind = {"disparity_space_sampling": True}
    auto = options(ray_start="auto", ray_end="auto", **kind)
    together = render(planes, decoder, origins, directions, auto, FixedDraws())
    near, far = ray_limits(origins, directions, auto)
    for ray in range(3):
        alone = options(ray_start=near[0, ray].item(), ray_end=far[0, ray].item(), **kind)
        here = slice(ray, ray + 1)
        single = render(planes, decoder, origins[:, here], directions[:, here], alone, FixedDraws())
        for a, b in zip(together, single, strict=True):
            torch.testing.assert_close(a[:, here], b, atol=1e-5, rtol=1e-5)


def test_chunks_without_gradients_change_nothing(small_decoder, monkeypatch, parallel_rays):
    decoder, planes = small_decoder(), torch.randn(2, 3, 3, 6, 6)
    rays, noisy = parallel_rays(2, 5), options(density_noise=0.5)
    render = ImportanceRenderer()
    torch.manual_seed(1)
    whole = render(planes, decoder, *rays, noisy)
    monkeypatch.setattr(field_module, "CPU_CHUNK", 34)
    sizes = []

    class Counting:
        averages_planes = True

        def __call__(self, features, directions):
            assert features.shape[2] == directions.shape[1]
            sizes.append(features.shape[2])
            return decoder(features, directions)

    torch.manual_seed(1)
    with torch.no_grad():
        parts = render(planes, Counting(), *rays, noisy)
    assert max(sizes) == 17 and sum(sizes) == 2 * 5 * 12
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_density_noise_is_normal_and_drawn_after_the_jitter(small_decoder):
    decoder, planes = small_decoder(), torch.zeros(1, 3, 3, 4, 4)
    points = torch.zeros(1, 4000, 3)
    render = ImportanceRenderer()
    plain = render.run_model(planes, decoder, points, None, {"box_warp": 1})
    torch.manual_seed(7)
    noisy = render.run_model(planes, decoder, points, None, {"box_warp": 1, "density_noise": 0.3})
    torch.manual_seed(7)
    expected = plain["sigma"] + 0.3 * torch.randn(1, 4000, 1)
    torch.testing.assert_close(noisy["sigma"], expected)
    assert torch.equal(noisy["rgb"], plain["rgb"])


def test_density_alone_uses_the_decoders_short_way(small_decoder):
    decoder = small_decoder()
    points, planes = torch.rand(1, 9, 3) - 0.5, torch.randn(1, 3, 3, 6, 6)
    render = ImportanceRenderer()
    full = render.run_model(planes, decoder, points, None, {"box_warp": 1}, want_rgb=False)
    decoder.density = lambda features: decoder(features, None)["sigma"] + 1
    short = render.run_model(planes, decoder, points, None, {"box_warp": 1}, want_rgb=False)
    assert set(short) == {"sigma"}
    torch.testing.assert_close(short["sigma"], full["sigma"] + 1)


def test_module_has_no_state_and_survives_pickling():
    renderer = ImportanceRenderer("orthogonal")
    assert not renderer.state_dict() and not list(renderer.parameters())
    again = pickle.loads(pickle.dumps(renderer))
    assert torch.equal(again.plane_axes, generate_planes("orthogonal"))
    assert torch.equal(copy.deepcopy(renderer).plane_axes, renderer.plane_axes)
    assert renderer.to(torch.float64).plane_axes.dtype == torch.float32, "not a buffer"


def test_state_without_axes_means_legacy():
    state = ImportanceRenderer("orthogonal").__dict__.copy()
    del state["plane_axes"]
    renderer = ImportanceRenderer.__new__(ImportanceRenderer)
    renderer.__setstate__(state)
    assert torch.equal(renderer.plane_axes, generate_planes("legacy"))


def test_axes_and_planes_must_agree(small_decoder):
    with pytest.raises(ValueError, match=r"hold 4 planes; plane_axes describe 3"):
        TriPlaneField(torch.zeros(1, 4, 3, 4, 4), small_decoder(), generate_planes(), 1)


@pytest.mark.gpu
@pytest.mark.parametrize("limits", ["reference", "exact"])
def test_gpu_agrees_and_never_waits(limits, small_decoder, parallel_rays):
    decoder, planes = small_decoder(), torch.randn(2, 3, 3, 16, 16)
    origins, directions = parallel_rays(2, 9)
    auto = options(ray_start="auto", ray_end="auto", ray_limits=limits, white_back=True)
    render = ImportanceRenderer()
    expected_planes = planes.clone().requires_grad_()
    expected = render(expected_planes, decoder, origins, directions, auto, FixedDraws())
    sum(x.square().sum() for x in expected).backward()

    decoder.parameters = [w.cuda() for w in decoder.parameters]
    inputs = [x.cuda() for x in (origins, directions)]
    planes = planes.cuda().requires_grad_()
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = render(planes, decoder, *inputs, auto, FixedDraws())
        sum(x.square().sum() for x in actual).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(planes.grad.cpu(), expected_planes.grad, atol=1e-4, rtol=1e-4)
