"""Numbers worked out by hand or recorded for tiny cases with formulas for weights and planes."""

import math

import pytest
import torch

from training.volumetric_rendering.depths import importance_depths, smooth_weights
from training.volumetric_rendering.draws import FixedDraws, GivenDraws
from training.volumetric_rendering.math_utils import get_ray_limits_box
from training.volumetric_rendering.planes import sample_from_planes
from training.volumetric_rendering.ray_marcher import MipRayMarcher2
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import ImportanceRenderer, generate_planes


def close(actual, expected, atol=2e-5):
    torch.testing.assert_close(
        actual, torch.tensor(expected, dtype=torch.float32), atol=atol, rtol=0
    )


@pytest.fixture(params=[False, True], ids=["three planes", "their mean"])
def decoder(request, make_decoder):
    k, c, q = (torch.arange(n, dtype=torch.float32) for n in (64, 32, 33))
    return make_decoder(
        torch.sin(0.1 * (32 * k[:, None] + c)),
        torch.cos(k),
        torch.cos(0.1 * (64 * q[:, None] + k)),
        torch.sin(q),
        averages_planes=request.param,
    )


def frontal(distance):
    pose = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    pose[2, 3] = distance
    return pose[None]


LENS = torch.tensor([[[4.2647, 0, 0.5], [0, 4.2647, 0.5], [0, 0, 1]]])


def test_frontal_rays():
    origins, directions = RaySampler()(frontal(2.7), LENS, 2)
    x, z = 0.0584204, -0.9965813
    close(directions[0], [[-x, x, z], [x, x, z], [-x, -x, z], [x, -x, z]])
    close(origins[0], [[0, 0, 2.7]] * 4)


def test_rays_with_skew():
    lens = torch.tensor([[[1.2, 0.1, 0.45], [0, 1.3, 0.55], [0, 0, 1]]])
    _, directions = RaySampler()(torch.eye(4)[None], lens, 2)
    close(
        directions[0],
        [
            [-0.1422003, -0.2225745, 0.9644893],
            [0.2537498, -0.2174998, 0.9424992],
            [-0.1746728, 0.1497195, 0.9731770],
            [0.2282342, 0.1480438, 0.9622848],
        ],
    )


@pytest.mark.parametrize(
    "origin, direction, near, far",
    [
        ((0.3, 0.2, 2.7), (-0.1, 0.05, -1), 2.2137074, 3.2199380),
        ((0, 0, 0.1), (0.2, 0.1, -1), -0.4098780, 0.6148170),
        ((2, 0, 2.7), (0, 0, -1), -1, -2),
    ],
)
def test_box_limits(origin, direction, near, far):
    origin, direction = (torch.tensor(a, dtype=torch.float32) for a in (origin, direction))
    limits = get_ray_limits_box(origin, direction / direction.norm(), 1)
    close(torch.cat(limits), [near, far])


def test_march():
    colors = torch.tensor([0.1, 0.4, 0.8, 0.3]).view(1, 1, 4, 1)
    densities = torch.tensor([0.0, 2, 5, -1]).view(1, 1, 4, 1)
    depths = torch.tensor([1, 1.2, 1.5, 1.6]).view(1, 1, 4, 1)
    march = MipRayMarcher2()
    rgb, depth, weights = march(colors, densities, depths, {"clamp_mode": "softplus"})
    close(weights.flatten(), [0.1294495, 0.4689496, 0.0494244])
    close(weights.sum(), 0.6478234)
    close(depth.flatten(), [1.3153031])
    close(rgb.flatten(), [-0.3181690])
    options = {"clamp_mode": "softplus", "white_back": True}
    close(march(colors, densities, depths, options)[0].flatten(), [0.3861841])


def test_importance_sampling():
    depths = torch.arange(1.0, 9.0)
    weights = torch.tensor([0, 0.1, 0.5, 0.2, 0, 0, 0.1])
    close(smooth_weights(weights[None])[0], [0.06, 0.31, 0.51, 0.36, 0.11, 0.06, 0.11])
    expected = [1.5, 2.5539255, 3.2157016, 4.0347562, 6.5]
    close(
        importance_depths(depths[None], weights[None], torch.linspace(0, 1, 5)[None])[0], expected
    )
    renderer = ImportanceRenderer()
    middles = (depths[1:] + depths[:-1]) / 2
    pdf = smooth_weights(weights[None])[:, 1:-1]
    close(renderer.sample_pdf(middles[None], pdf, 5, det=True)[0], expected)
    draws = GivenDraws(torch.tensor(0.5), torch.linspace(0, 1, 5))
    fine = renderer.sample_importance(depths.view(1, 1, 8, 1), weights.view(1, 1, 7, 1), 5, draws)
    close(fine.flatten(), expected)


@pytest.mark.parametrize("mode, third", [("legacy", 221.7), ("orthogonal", 209.7)])
def test_plane_lookup(mode, third):
    p, i, j = torch.meshgrid(torch.arange(3), torch.arange(4), torch.arange(4), indexing="ij")
    planes = (100.0 * p + 10 * i + j)[None, :, None]
    points = torch.tensor([[[0.1, -0.2, 0.3], [0.49, 0, 0], [0.6, 0.1, 0]]])
    features = sample_from_planes(generate_planes(mode), planes, points, box_warp=1)[0, :, :, 0].T
    close(features[0], [8.9, 128.9, third], 5e-5)
    if mode == "legacy":
        close(features[1:], [[9.72, 63.72, 125.01], [2.2, 11.8, 23.15]], 5e-5)


def test_local_decoder(decoder):
    """The copy of the decoder that these tests use is itself right."""
    p, c = torch.arange(3.0), torch.arange(32.0)
    features = torch.sin(0.05 * (32 * p[:, None] + c))[None, :, None]
    answer = decoder(features, None)
    close(answer["sigma"].flatten(), [0.3915042])
    close(answer["rgb"][0, 0, [0, 1, 31]], [0.7730981, 0.7821984, 0.5656987])
    answer = decoder(torch.zeros(1, 3, 1, 32), None)
    close(answer["sigma"].flatten(), [0.1896963])
    close(answer["rgb"][0, 0, [0, 1, 31]], [0.7373298, 0.7495341, 0.5977691])


ROWS = {
    "numeric limits": (
        {},
        [-0.5287330, -0.5292055, -0.5287318, -0.5303491],
        [-0.6171902, -0.6170260, -0.6171403, -0.6176629],
        [2.8165781, 2.8172739, 2.8162706, 2.8168817],
        [0.3198216, 0.3196277, 0.3198195, 0.3190334],
    ),
    "orthogonal axes": (
        {"plane_axes": "orthogonal"},
        [-0.5284517, -0.5292055, -0.5287318, -0.5305755],
        [-0.6170529, -0.6170261, -0.6171403, -0.6177915],
        [2.8174322, 2.8172739, 2.8162706, 2.8160169],
        [0.3199820, 0.3196277, 0.3198195, 0.3188992],
    ),
    "no fine samples": (
        {"depth_resolution_importance": 0},
        [-0.5288054, -0.5292793, -0.5287864, -0.5304139],
        [-0.6172004, -0.6170390, -0.6171482, -0.6176776],
        [2.8170223, 2.8176858, 2.8166986, 2.8172488],
        [0.3197880, 0.3195930, 0.3197941, 0.3190017],
    ),
    "auto limits": (
        {"ray_start": "auto", "ray_end": "auto"},
        [-0.5462630, -0.5465556, -0.5461662, -0.5479204],
        [-0.6313096, -0.6311130, -0.6312263, -0.6317766],
        [2.7501998, 2.7509167, 2.7498429, 2.7507155],
        [0.3079669, 0.3078594, 0.3080117, 0.3071623],
    ),
    "disparity": (
        {"disparity_space_sampling": True},
        [-0.5063156, -0.5067477, -0.5063204, -0.5081861],
        [-0.5990273, -0.5988399, -0.5989854, -0.5995429],
        [2.8207603, 2.8214633, 2.8203723, 2.8211508],
        [0.3350229, 0.3348508, 0.3350154, 0.3341164],
    ),
    "white background, wide box": (
        {"ray_start": 0.1, "ray_end": 2.6, "box_warp": 1.6, "white_back": True, "distance": 1.3},
        [0.6837207, 0.6836526, 0.6838316, 0.6836319],
        [0.5184890, 0.5185506, 0.5177451, 0.5193977],
        [1.3419445, 1.3426406, 1.3416163, 1.3417549],
        [0.6000330, 0.6000344, 0.6005759, 0.5994339],
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_end_to_end(name, decoder):
    changes, first, last, depth, opacity = ROWS[name]
    options = {
        "depth_resolution": 8,
        "depth_resolution_importance": 8,
        "ray_start": 2.25,
        "ray_end": 3.3,
        "box_warp": 1,
        "disparity_space_sampling": False,
        "clamp_mode": "softplus",
        **changes,
    }
    p, c, i, j = torch.meshgrid(*(torch.arange(float(n)) for n in (3, 32, 16, 16)), indexing="ij")
    planes = 4 * torch.sin(0.7 * p + 0.3 * c + 0.5 * i + 0.9 * j)[None]
    rays = RaySampler()(frontal(options.pop("distance", 2.7)), LENS, 2)
    renderer = ImportanceRenderer(options.pop("plane_axes", "legacy"))
    features, depths, total = renderer(planes, decoder, *rays, options, FixedDraws())
    close(features[0, :, 0], first)
    close(features[0, :, 31], last)
    close(depths.flatten(), depth)
    close(total.flatten(), opacity)


def test_direction_of_a_positive_depth_is_forward():
    """Sanity of the frontal camera: the ray through the centre meets the origin at its distance."""
    origins, directions = RaySampler()(frontal(2.7), LENS, 1)
    close(origins + 2.7 * directions, [[[0.0, 0, 0]]])
    assert math.isclose(directions.norm().item(), 1, rel_tol=1e-6)
