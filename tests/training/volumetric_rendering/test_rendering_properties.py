"""Parts of the renderer against loops, analytic scenes and finite differences."""

import math

import pytest
import torch
import torch.nn.functional as F

from training.volumetric_rendering import math_utils
from training.volumetric_rendering.depths import inverse_cdf, smooth_weights, stratified_depths
from training.volumetric_rendering.draws import GivenDraws
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.planes import axis_pairs, merge_planes
from training.volumetric_rendering.ray_marcher import MipRayMarcher2, segment_weights
from training.volumetric_rendering.renderer import (
    ImportanceRenderer,
    TriPlaneField,
    generate_planes,
    project_onto_planes,
    sample_from_3dgrid,
    sample_from_planes,
)

DOUBLE = {"dtype": torch.float64}
OPTIONS = RenderingOptions(
    depth_resolution=12,
    depth_resolution_importance=12,
    ray_start=0.5,
    ray_end=2.5,
    box_warp=1,
    disparity_space_sampling=False,
    clamp_mode="softplus",
)


# --- depths -------------------------------------------------------------------------------------


@pytest.mark.parametrize("disparity", [False, True])
def test_stratified_depths_against_a_loop(disparity):
    near, far = torch.rand(2, 3, 1) + 0.5, torch.rand(2, 3, 1) + 2
    jitter = torch.rand(2, 3, 6, 1)
    depths = stratified_depths(near, far, 6, jitter, disparity)
    numeric = stratified_depths(1.25, 3.5, 6, jitter, disparity)
    assert depths.shape == numeric.shape == (2, 3, 6, 1)
    for n in range(2):
        for m in range(3):
            for k in range(6):
                for a, b, actual in (
                    (near[n, m].item(), far[n, m].item(), depths),
                    (1.25, 3.5, numeric),
                ):
                    t = (k + jitter[n, m, k].item()) / 5
                    expected = 1 / ((1 - t) / a + t / b) if disparity else a + t * (b - a)
                    assert actual[n, m, k].item() == pytest.approx(expected, rel=1e-5)
    assert (depths.diff(dim=2) > 0).all()


def test_inverse_cdf_against_a_loop():
    edges = torch.rand(4, 9, **DOUBLE).sort(-1)[0]
    weights, uniform = torch.rand(4, 8, **DOUBLE), torch.rand(4, 20, **DOUBLE)
    weights[0, 3] = 0
    actual = inverse_cdf(edges, weights, uniform)
    for ray in range(4):
        mass = (weights[ray] + 1e-5).tolist()
        for k in range(20):
            left = uniform[ray, k].item() * sum(mass)
            interval = 0
            while left > mass[interval]:
                left -= mass[interval]
                interval += 1
            low, high = edges[ray, interval].item(), edges[ray, interval + 1].item()
            expected = low + left / mass[interval] * (high - low)
            assert actual[ray, k].item() == pytest.approx(expected, abs=1e-9)


def test_inverse_cdf_of_an_interval_without_mass():
    edges = torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    weights = torch.tensor([[1.0, 0.0, 1.0]])
    fine = inverse_cdf(edges, weights, torch.tensor([[0.5, 1.0]]), eps=1e-9)
    assert fine.isfinite().all() and 1 <= fine[0, 0] <= 2 and fine[0, 1] == 3


def test_smooth_weights_against_a_loop():
    weights = torch.rand(2, 7)
    for ray, row in enumerate(weights.tolist()):
        highest = [max(row[max(i - 1, 0) : i + 1]) for i in range(8)]
        for i in range(7):
            expected = (highest[i] + highest[i + 1]) / 2 + 0.01
            assert smooth_weights(weights)[ray, i].item() == pytest.approx(expected, rel=1e-6)


def test_box_limits_against_a_march():
    """Walk along each ray and see where it is inside the cube."""
    origins, directions = torch.randn(40, 3) * 2, F.normalize(torch.randn(40, 3), dim=-1)
    directions[:20] = F.normalize(-origins[:20] + 0.3 * torch.randn(20, 3), dim=-1)
    near, far = math_utils.get_ray_limits_box(origins, directions, 1.6)
    t = torch.linspace(-16, 16, 32001)
    inside = ((origins[:, None] + t[:, None] * directions[:, None]).abs() <= 0.8).all(-1)
    assert 5 < inside.any(1).sum() < 40
    for ray in range(40):
        if inside[ray].any():
            assert near[ray].item() == pytest.approx(t[inside[ray]].min().item(), abs=2e-3)
            assert far[ray].item() == pytest.approx(t[inside[ray]].max().item(), abs=2e-3)
        elif far[ray] > near[ray]:
            assert far[ray] - near[ray] < 2e-3, "between two steps of the walk"
        else:
            assert near[ray] == -1 and far[ray] == -2


def test_vector_helpers():
    matrix, vectors = torch.randn(4, 4), torch.randn(6, 4)
    moved = math_utils.transform_vectors(matrix, vectors)
    torch.testing.assert_close(moved[2], matrix @ vectors[2])
    unit = math_utils.normalize_vecs(vectors)
    torch.testing.assert_close(math_utils.torch_dot(unit, unit), torch.ones(6))
    steps = math_utils.linspace(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 8.0]), 4)
    torch.testing.assert_close(steps[:, 1], torch.tensor([2.0, 4, 6, 8]))


# --- compositing --------------------------------------------------------------------------------


def test_segment_weights_against_a_loop_and_finite_differences():
    densities = torch.randn(3, 6, **DOUBLE) * 3
    depths = torch.rand(3, 6, **DOUBLE).sort(-1)[0]
    actual = segment_weights(densities, depths)
    for ray in range(3):
        light = 1.0
        for i in range(5):
            middle = (densities[ray, i] + densities[ray, i + 1]).item() / 2
            density = math.log1p(math.exp(middle - 1))
            alpha = 1 - math.exp(-density * (depths[ray, i + 1] - depths[ray, i]).item())
            assert actual[ray, i].item() == pytest.approx(alpha * light, abs=1e-12)
            light *= 1 - alpha + 1e-10
    assert torch.autograd.gradcheck(
        lambda d: segment_weights(d, depths), densities.clone().requires_grad_()
    )


def test_opaque_segment_leaves_finite_gradients():
    densities = torch.tensor([[0.0, 1e4, 1e4, 0.0, 1.0]], requires_grad=True)
    weights = segment_weights(densities, torch.arange(5.0)[None])
    weights.square().sum().backward()
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)
    assert densities.grad.isfinite().all()


def test_unified_samples_march_like_sorted_ones():
    renderer, march = ImportanceRenderer(), MipRayMarcher2()
    depths = torch.rand(2, 3, 10, 1).sort(2)[0]
    colors, densities = torch.rand(2, 3, 10, 4), torch.randn(2, 3, 10, 1)
    first, second = torch.arange(0, 10, 2), torch.tensor([9, 3, 1, 7, 5])
    halves = [[x[:, :, half] for x in (depths, colors, densities)] for half in (first, second)]
    united = renderer.unify_samples(*halves[0], *halves[1])
    for actual, expected in zip(united, (depths, colors, densities), strict=True):
        assert torch.equal(actual, expected)
    order = torch.randperm(10)
    resorted = renderer.sort_samples(*(x[:, :, order] for x in (depths, colors, densities)))
    assert all(torch.equal(a, b) for a, b in zip(united, resorted, strict=True))
    with pytest.raises(ValueError, match="clamp_mode"):
        march(colors, densities, depths, {"clamp_mode": "exp"})
    with pytest.raises(KeyError, match="clamp_mode"):
        march(colors, densities, depths, {})


def test_core_equals_sorting_everything(small_decoder, parallel_rays):
    """The core never sorts colours; the plain way does, sample by sample, and agrees."""
    planes, decoder = torch.randn(2, 3, 3, 8, 8) * 3, small_decoder()
    origins, directions = parallel_rays(2, 5)
    jitter, uniform = torch.rand(2, 5, 12, 1), torch.rand(10, 12)
    renderer = ImportanceRenderer()
    given = GivenDraws(jitter, uniform)
    actual = renderer(planes, decoder, origins, directions, OPTIONS, given)

    def query(depths):
        points = (origins[:, :, None] + depths * directions[:, :, None]).reshape(2, -1, 3)
        answer = renderer.run_model(planes, decoder, points, None, OPTIONS)
        return answer["rgb"].reshape(2, 5, 12, 2), answer["sigma"].reshape(2, 5, 12, 1)

    march = renderer.ray_marcher
    coarse = renderer.sample_stratified(origins, 0.5, 2.5, 12, draws=given)
    colors, densities = query(coarse)
    weights = march(colors, densities, coarse, OPTIONS)[2]
    fine = renderer.sample_importance(coarse, weights, 12, draws=given)
    depths, colors, densities = renderer.unify_samples(
        coarse, colors, densities, fine, *query(fine)
    )
    rgb, depth, weights = march(colors, densities, depths, OPTIONS)
    for a, b in zip(actual, (rgb, depth, weights.sum(2)), strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=1e-5)


# --- planes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["legacy", "orthogonal"])
def test_projection_inverts_the_axes(mode):
    axes, points = generate_planes(mode), torch.randn(2, 4, 3)
    projected = project_onto_planes(axes, points)
    for n in range(2):
        for plane in range(3):
            expected = (points[n] @ torch.linalg.inv(axes[plane]))[:, :2]
            torch.testing.assert_close(projected[3 * n + plane], expected)


def test_axes_that_are_no_permutation_are_refused():
    axes = generate_planes()
    axes[1, 0, 1] = 0.5
    with pytest.raises(ValueError, match="plane 1"):
        axis_pairs(axes)
    with pytest.raises(ValueError, match="'xy'.*'legacy', 'orthogonal'"):
        ImportanceRenderer("xy")


@pytest.mark.parametrize("mode, height, planes_left", [("legacy", 8, 2), ("legacy", 6, 3)])
def test_merged_planes_have_the_same_sum_and_gradient(mode, height, planes_left):
    planes = torch.randn(2, 3, 4, height, 8, requires_grad=True)
    points = torch.rand(2, 50, 3) * 1.2 - 0.6
    upstream = torch.randn(2, 50, 4)
    axes = generate_planes(mode)
    three = sample_from_planes(axes, planes, points, box_warp=1).sum(1)
    (expected,) = torch.autograd.grad((three * upstream).sum(), planes)
    pairs, merged = merge_planes(axis_pairs(axes), planes)
    assert merged.shape[1] == len(pairs) == planes_left

    class Mean:
        averages_planes = True

        def __call__(self, features, directions):
            assert features.shape == (2, 1, 50, 4)
            return {"rgb": features[:, 0], "sigma": features[:, 0, :, :1]}

    field = TriPlaneField(planes, Mean(), axes, box_warp=1)
    mean = field(points, None)["rgb"]
    torch.testing.assert_close(mean * 3, three, atol=2e-6, rtol=0)
    (gradient,) = torch.autograd.grad((mean * 3 * upstream).sum(), planes)
    torch.testing.assert_close(gradient, expected, atol=2e-6, rtol=0)


def test_orthogonal_axes_keep_three_planes():
    axes = axis_pairs(generate_planes("orthogonal"))
    pairs, merged = merge_planes(axes, torch.zeros(1, 3, 2, 4, 4))
    assert pairs == ((0, 1), (0, 2), (2, 1)) and merged.shape[1] == 3


def test_features_fade_out_at_the_faces_of_the_box():
    planes = torch.ones(1, 3, 1, 8, 8)
    texel = 2 / 8
    x = torch.tensor([0, 1 - texel / 2, 1, 1 + texel / 2, 5])
    points = torch.stack([x, torch.zeros(5), torch.zeros(5)], dim=-1)[None]
    features = sample_from_planes(generate_planes(), planes, points, box_warp=2)[0, 0, :, 0]
    torch.testing.assert_close(features, torch.tensor([1, 1, 0.5, 0, 0]))
    with pytest.raises(ValueError, match="'border'"):
        sample_from_planes(generate_planes(), planes, points, padding_mode="border", box_warp=2)


def test_points_outside_the_box_are_decoded(small_decoder):
    decoder = small_decoder()
    far = torch.tensor([[[3.0, 0, 0], [0, -2, 9]]])
    answer = ImportanceRenderer().run_model(
        torch.randn(1, 3, 3, 4, 4), decoder, far, None, {"box_warp": 1}
    )
    nothing = decoder(torch.zeros(1, 1, 2, 3), None)
    assert torch.equal(answer["sigma"], nothing["sigma"])
    assert torch.equal(answer["rgb"], nothing["rgb"])


def test_half_precision_planes_keep_exact_positions():
    planes, points = torch.randn(1, 3, 2, 256, 256).half(), torch.rand(1, 99, 3) - 0.5
    features = sample_from_planes(generate_planes(), planes, points, box_warp=1)
    exact = sample_from_planes(generate_planes(), planes.float(), points, box_warp=1)
    assert torch.equal(features, exact)


def test_3dgrid_at_cell_centres():
    grid = torch.randn(1, 2, 3, 4, 5)
    for d0, d1, d2 in ((0, 0, 0), (2, 1, 3), (1, 3, 4)):
        centre = [(2 * k + 1) / size - 1 for k, size in ((d2, 5), (d1, 4), (d0, 3))]
        values = sample_from_3dgrid(grid, torch.tensor(centre).expand(2, 1, 3))
        assert values.shape == (2, 1, 2)
        torch.testing.assert_close(values[1, 0], grid[0, :, d0, d1, d2])
