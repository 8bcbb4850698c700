"""The classic ray marcher and what belongs to it: recorded arrays, published numbers, loops."""

import math

import pytest
import torch

from tests.recorded_draws import recorded_draws
from training.volumetric_rendering.depths import coarse_depths, importance_depths, inverse_cdf
from training.volumetric_rendering.draws import FixedDraws, GivenDraws, RandomDraws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.planes import generate_planes, sample_from_planes
from training.volumetric_rendering.quadrature import quadrature
from training.volumetric_rendering.ray_marcher import weighted_sum
from training.volumetric_rendering.renderer import render_rays

DOUBLE = {"dtype": torch.float64}
CLOSED, OPEN = {"last_delta": 1e10}, {"last_delta": 1e-3}
# The options of the recorded cases, in their order.
CASES = [
    CLOSED,
    OPEN,
    {**CLOSED, "white_back": True},
    {**OPEN, "white_back": True},
    {**OPEN, "last_back": True},
    {**OPEN, "last_back": True, "white_back": True},
    {**OPEN, "clamp_mode": "relu"},
    {**CLOSED, "density_bias": -1.5},
    {**CLOSED, "density_noise": 0.7},
]


def classic(**changes):
    """Options of a closed volume without noise, 8 + 6 samples from 0.5 to 2.5."""
    usual = {"ray_marcher": "classic", "density_bias": 0.0, "importance_smoothing": False}
    counts = {"depth_resolution": 8, "depth_resolution_importance": 6, "box_warp": 1}
    rest = {"disparity_space_sampling": False, "clamp_mode": "softplus"}
    limits = {"ray_start": 0.5, "ray_end": 2.5}
    return RenderingOptions(**{**counts, **limits, **rest, **usual, **changes})


def march(colors, densities, depths, options):
    """Colours [..., S, K], densities and depths [..., S] -> (results, weights of the samples)."""
    rule = quadrature(options)
    sums = rule.sums(densities, depths)
    return rule.finish(weighted_sum(sums.shares, colors), sums, depths), sums.shares


def march_by_loop(colors, densities, depths, options):
    """One ray in Python numbers: (colour, depth, weights, light before the last sample)."""
    light, weights = 1.0, []
    for i, (raw, t) in enumerate(zip(densities, depths, strict=True)):
        raw = raw + options.density_bias
        density = math.log1p(math.exp(raw)) if options.clamp_mode == "softplus" else max(raw, 0)
        length = depths[i + 1] - t if i + 1 < len(depths) else options.last_delta
        alpha = 1 - math.exp(-density * length)
        weights.append(alpha * light)
        before, light = light, light * (1 - alpha + 1e-10)
    left = 1 - sum(weights)
    if options.last_back:
        weights[-1] += left
    colour = [sum(w * c[k] for w, c in zip(weights, colors, strict=True)) for k in range(4)]
    if options.white_back:
        colour = [c + left if k < 3 else c for k, c in enumerate(colour)]
    return colour, sum(w * t for w, t in zip(weights, depths, strict=True)), weights, before


@pytest.mark.parametrize("case", range(9))
def test_recorded_marches(case, conformance, assert_scaled, monkeypatch):
    recorded = conformance("epigraf/march")
    options = classic(**CASES[case])
    densities = recorded["feats"][..., 3]
    if options.marcher_noise:
        with recorded_draws(monkeypatch):
            noise = RandomDraws().noise(tuple(densities.shape), densities)
        densities = densities + options.marcher_noise * noise
    found, weights = march(recorded["feats"][..., :3], densities, recorded["z"][..., 0], options)
    assert_scaled(found.features, recorded[f"rgb{case}"])
    assert_scaled(found.depth, recorded[f"depth{case}"])
    assert_scaled(weights.unsqueeze(-1), recorded[f"weights{case}"])
    assert_scaled(found.transmittance[..., 0], recorded[f"transmittance{case}"])


def test_recorded_gradients(conformance, assert_scaled):
    recorded = conformance("epigraf/march")
    feats, depths = (recorded[name].requires_grad_() for name in ("feats", "z"))
    found, _ = march(feats[..., :3], feats[..., 3], depths[..., 0], classic(**OPEN))
    loss = (found.features * recorded["g_rgb"]).sum() + (found.depth * recorded["g_depth"]).sum()
    loss.backward()
    assert_scaled(feats.grad, recorded["g_feats"])
    assert_scaled(depths.grad, recorded["g_z"])


def test_recorded_importance(conformance, assert_scaled, monkeypatch):
    """Bins and weights as they are; then the same numbers through the renderer's own function."""
    recorded = conformance("epigraf/march")
    bins, weights = recorded["bins"], recorded["pdf_weights"]
    with recorded_draws(monkeypatch):
        uniform = torch.rand(10, 9)
    assert_scaled(inverse_cdf(bins, weights, uniform), recorded["importance"])
    even = torch.linspace(0, 1, 5).expand(10, 5)
    assert_scaled(inverse_cdf(bins, weights, even), recorded["importance_det"])

    # Depths whose middles are the bins exist for any first one; the outer weights do not count.
    depths = [torch.zeros(10, dtype=torch.float64)]
    for k in range(7):
        depths.append(2 * bins[:, k].double() - depths[-1])
    padded = torch.nn.functional.pad(weights.double(), (1, 1), value=7.0) - 1e-5
    fine = importance_depths(
        torch.stack(depths, 1), padded, uniform.double(), "reference", smoothing=False
    )
    assert_scaled(fine, recorded["importance"])


def test_recorded_features(conformance, assert_scaled):
    """Planes that are not square, with texels' centres on the faces of the cube."""
    recorded = conformance("epigraf/field")
    planes = recorded["planes"].unflatten(1, (3, 32))
    points = recorded["points"].flatten(1, 2)
    axes = generate_planes("xy_xz_yz")
    features = sample_from_planes(axes, planes, points, box_warp=0.4, align_corners=True)
    assert_scaled(features, recorded["features"])


@pytest.mark.parametrize(
    "changes, weights, rgb, depth, left",
    [
        (
            CLOSED,
            (0.0798123, 0.1341645, 0.7860231),
            (-0.2393458, 0.4607435, 0.1945648),
            1.0847453,
            0.7860231,
        ),
        (
            OPEN,
            (0.0798123, 0.1341645, 0.0232305),
            (0.0657713, 0.0030679, 0.0420063),
            0.2304175,
            0.7860231,
        ),
        ({**OPEN, "white_back": True}, None, (0.8285640, 0.7658605, 0.8047990), 0.2304175, None),
    ],
)
def test_published_numbers(changes, weights, rgb, depth, left):
    colors = torch.tensor([[0.1, 0.2, 0.3], [0.5, -0.2, 0.1], [-0.4, 0.6, 0.2]], **DOUBLE)
    depths, densities = torch.tensor([0.88, 1, 1.12], **DOUBLE), torch.tensor([0, 1, 30.0])
    found, shares = march(colors, densities.double(), depths, classic(**changes))
    assert found.features.tolist() == pytest.approx(rgb, abs=1e-6)
    assert found.depth.item() == pytest.approx(depth, abs=1e-6)
    if weights:
        assert shares.tolist() == pytest.approx(weights, abs=1e-6)
        assert found.transmittance.item() == pytest.approx(left, abs=1e-6)


def test_published_importance():
    edges, weights = torch.arange(4.0)[None], torch.tensor([[0.2, 0.5, 0.3]])
    found = inverse_cdf(edges, weights, torch.linspace(0, 1, 5)[None])
    expected = [0, 1.099993, 1.599998, 2.1666696, 3]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("case", range(8))
def test_marches_against_a_loop(case):
    """Four channels, of which white has three, in double precision; gradients by differences."""
    options = classic(**{**CASES[case], "density_bias": 0.3})
    colors, densities = torch.randn(2, 7, 4, **DOUBLE), torch.randn(2, 7, **DOUBLE) * 3
    depths = (torch.rand(2, 7, **DOUBLE) + 0.5).cumsum(-1)
    found, weights = march(colors, densities, depths, options)
    for ray in range(2):
        arguments = (values[ray].tolist() for values in (colors, densities, depths))
        colour, depth, expected, before = march_by_loop(*arguments, options)
        assert found.features[ray].tolist() == pytest.approx(colour, abs=1e-9)
        assert found.depth[ray].item() == pytest.approx(depth, abs=1e-9)
        assert weights[ray].tolist() == pytest.approx(expected, abs=1e-9)
        assert found.transmittance[ray].item() == pytest.approx(before, abs=1e-9)
    if options.last_delta < 1:
        inputs = [x.requires_grad_() for x in (colors, densities, depths)]
        assert torch.autograd.gradcheck(lambda *x: march(*x, options)[0], inputs)


def test_jitter_in_bins_against_a_loop():
    options = classic(depth_jitter="bins", depth_resolution=6)
    jitter = torch.rand(2, 3, 6, 1)
    depths = coarse_depths(0.5, 2.5, jitter, options)
    z = [0.5 + 0.4 * k for k in range(6)]
    for n in range(2):
        for m in range(3):
            for k in range(6):
                lower = z[0] if k == 0 else (z[k - 1] + z[k]) / 2
                upper = z[5] if k == 5 else (z[k] + z[k + 1]) / 2
                expected = lower + (upper - lower) * jitter[n, m, k].item()
                assert depths[n, m, k].item() == pytest.approx(expected, abs=1e-6)
    middle = coarse_depths(0.5, 2.5, torch.tensor(0.5), options)[:, 0]
    assert middle.tolist() == pytest.approx([0.6, *z[1:5], 2.4])


def ball(points, directions):
    """A soft ball of radius 0.4, coloured by position and direction."""
    sigma = 20 * (0.4 - points.norm(dim=-1, keepdim=True))
    return {"rgb": torch.cat([points, directions], dim=-1), "sigma": sigma}


def rays(count=5):
    tilt = torch.linspace(0, 0.4, count)
    directions = torch.stack([tilt, 0.3 * tilt, -torch.ones(count)], dim=-1)
    directions = torch.nn.functional.normalize(directions, dim=-1)[None]
    return torch.tensor([0, 0, 1.5]).expand(1, count, 3), directions


@pytest.mark.parametrize("smoothing", [False, True])
def test_rendering_against_a_loop(smoothing):
    """All of it for every ray: coarse weights, fine depths, samples in order, the sums."""
    options = classic(importance_smoothing=smoothing, last_delta=0.2, density_bias=-0.5)
    draws = GivenDraws(torch.rand(1, 5, 8, 1), torch.rand(5, 6))
    origins, directions = rays()
    found = render_rays(ball, origins, directions, options, draws)
    for ray in range(5):
        depths = (torch.linspace(0.5, 2.5, 8) + draws.coarse_numbers[0, ray, :, 0] * 2 / 7).double()

        def query(depths, ray=ray):
            points = origins[0, ray] + depths[:, None] * directions[0, ray]
            answer = ball(points, directions[0, ray].expand_as(points))
            return answer["rgb"].tolist(), answer["sigma"][:, 0].tolist()

        colors, densities = query(depths)
        colors_4 = [c[:4] for c in colors]
        weights = march_by_loop(colors_4, densities, depths.tolist(), options)[2]
        if smoothing:
            w = [-math.inf, *weights, -math.inf]
            peaks = [max(a, b) for a, b in zip(w[:-1], w[1:], strict=True)]
            weights = [(a + b) / 2 + 0.01 for a, b in zip(peaks[:-1], peaks[1:], strict=True)]
        else:
            weights = [w + 1e-5 for w in weights]
        mass = [w + 1e-5 for w in weights[1:-1]]
        middles = ((depths[1:] + depths[:-1]) / 2).tolist()
        for u in draws.fine_numbers[ray].tolist():
            left, k = u * sum(mass), 0
            while left > mass[k]:
                left, k = left - mass[k], k + 1
            extra = middles[k] + left / mass[k] * (middles[k + 1] - middles[k])
            depths = torch.cat([depths, torch.tensor([extra], **DOUBLE)])
        depths = depths.sort()[0]
        colors, densities = query(depths)
        colour, depth, weights, before = march_by_loop(
            [c[:4] for c in colors], densities, depths.tolist(), options
        )
        assert found.features[0, ray, :4].tolist() == pytest.approx(colour, abs=1e-5)
        assert found.depth[0, ray].item() == pytest.approx(depth, abs=1e-5)
        assert found.opacity[0, ray].item() == pytest.approx(sum(weights), abs=1e-5)
        assert found.transmittance[0, ray].item() == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize(
    "fine, shapes, close", [(0, [(1, 5, 8)], 1e-6), (6, [(1, 5, 8), (1, 5, 14)], 0.02)]
)
def test_density_noise_is_fresh_in_every_quadrature(fine, shapes, close):
    """Of the coarse samples and again of all. Noise that is the same everywhere is a bias: the last
    request's decides what is seen, the first one's only moves fine samples a little."""
    asked = []

    class Watched(FixedDraws):
        def noise(self, shape, like):
            asked.append(shape)
            return torch.full(shape, float(len(asked)))

    counts = {"depth_resolution_importance": fine}
    noisy = render_rays(ball, *rays(), classic(density_noise=0.5, **counts), Watched())
    assert asked == shapes
    seen = classic(density_bias=0.5 * len(shapes), **counts)
    biased = render_rays(ball, *rays(), seen, FixedDraws())
    torch.testing.assert_close(noisy.features, biased.features, atol=close, rtol=0)


def test_light_that_passes_can_come_from_the_last_sample():
    """A thin fog at depths 1, 2, 3 whose last sample stands for nothing."""
    depths, colors = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.zeros(1, 1, 3, 3)
    plain, filled = (
        march(colors, torch.full_like(depths, -1.0), depths, classic(last_delta=1e-9, **kind))[0]
        for kind in ({}, {"empty_depth": "ray"})
    )
    assert torch.equal(filled.depth, plain.depth + 3 * (1 - plain.opacity))
    assert plain.depth.item() < 1 < filled.depth.item() < 3
