"""What is measured of worlds whose shape is known, and which of them are warned of."""

import math

import pytest
import torch

from tests.tiny import tiny_generator
from training import health
from training.cameras import Camera, look_at
from training.health import Health, first_judgement, warnings
from training.presets import PRESETS
from training.volumetric_rendering.options import RenderingOptions
from training.volumetric_rendering.ray_sampler import RaySampler
from training.volumetric_rendering.renderer import render_rays

RADIUS = 2.7
COUNT = 8
DEGREES = [0, 25, -25, 15, -15, 20, -20, 10]


def cameras(degrees, focal=4.2647, radius=RADIUS):
    """Cameras of a y-up world, turned around its vertical, that look at its origin."""
    angle = torch.tensor(degrees, dtype=torch.float32).deg2rad()
    position = radius * torch.stack([angle.sin(), 0 * angle, angle.cos()], dim=1)
    lens = torch.tensor([[focal, 0, 0.5], [0, focal, 0.5], [0, 0, 1]])
    return Camera(look_at(position, (0.0, 0.0, 0.0)), lens.expand(len(degrees), 3, 3))


class World(torch.nn.Module):
    """A generator whose planes [N, 3, 1, 1, 1] hold three numbers of an identity: `solid(points,
    numbers)` says how dense it is, `colour` what it looks like. Both see [N, P, 3], [N, 1, 3]."""

    def __init__(self, solid, colour=None, preset="ffhq"):
        super().__init__()
        self.solid = solid
        self.colour = colour or (lambda points, numbers: torch.sigmoid(4 * points + 2 * numbers))
        common = dict(disparity_space_sampling=False, clamp_mode="softplus")
        self.rendering_kwargs = dict(PRESETS[preset].rendering, **common)
        self.ray_sampler = RaySampler()
        self.decoder = None

    def mapping(self, z, c):
        return z

    def planes(self, ws, noise_mode):
        return ws[:, :3, None, None, None]

    def march(self, planes, origins, directions, options, draws):
        numbers = planes[:, :, 0, 0, 0].unsqueeze(1)

        def field(points, directions):
            sigma = self.solid(points, numbers).unsqueeze(-1)
            return {"rgb": self.colour(points, numbers), "sigma": sigma}

        return render_rays(field, origins, directions, options, draws)[:3]


def within(condition, density=1000.0):
    return torch.where(condition, density, -1000.0)


def sphere(points, numbers):
    return within(points.norm(dim=-1) < 0.25 + 0.02 * numbers[..., 0].tanh())


def billboard(points, numbers):
    return within(points[..., 2].abs() < 0.05)


def billboard_of_bumps(points, numbers):
    """Waves of 1 % of the box: what would be seen as noise on a plane."""
    height = 0.01 * torch.sin(15 * points[..., 0]) * torch.sin(15 * points[..., 1])
    return within((points[..., 2] - height).abs() < 0.05)


def face(points, numbers):
    """An ellipsoid with a nose in front of a wall: opaque everywhere."""
    scaled = points / torch.tensor([0.2, 0.26, 0.2])
    nose = (points - torch.tensor([0.0, 0.0, 0.2])).norm(dim=-1) < 0.06
    return within((scaled.norm(dim=-1) < 1) | nose | (points[..., 2] < -0.25))


def empty(points, numbers):
    return torch.full(points.shape[:-1], -1000.0)


def fog(points, numbers):
    return torch.full(points.shape[:-1], 1.5)


def filled(points, numbers):
    return within(points.abs().amax(-1) < 0.5)


def filled_all_over(points, numbers):
    return torch.full(points.shape[:-1], 1000.0)


def grey(points, numbers):
    return torch.full_like(points, 0.5)


def painted(points, numbers):
    """Varies with the place, not with the identity."""
    return torch.sigmoid(4 * points)


def measured(world, degrees=DEGREES, focal=4.2647, radius=RADIUS):
    z = torch.randn(COUNT, 4, generator=torch.Generator().manual_seed(0))
    return Health(z, cameras(degrees, focal, radius).label()).measure(world)


def demo(solid, colour=None):
    """A world rendered as the toy cars are: ten coarse and ten fine samples, from all sides."""
    return measured(World(solid, colour, "demo"), [0, 45, 90, 135, 180, -135, -90, -45], 1.6, 2.0)


SOUND = [sphere, face]
DAMAGED = {
    billboard: "the geometry is flat",
    empty: "the scene is empty",
    fog: "the scene is fog",
    filled: "the box is filled",
    filled_all_over: "the box is filled",
}


@pytest.fixture(scope="module")
def results():
    """The measures of all worlds, as of faces and as of toy cars."""
    return {
        (solid, look): look(World(solid)) if look is measured else look(solid)
        for solid in [*SOUND, *DAMAGED]
        for look in (measured, demo)
    }


@pytest.mark.parametrize("look", [measured, demo])
def test_each_damage_gives_its_warning_and_no_other(results, look):
    for solid, sign in DAMAGED.items():
        (line,) = warnings(results[solid, look], 5)
        assert line.startswith(sign) and "\n" not in line, solid.__name__
    for solid in SOUND:
        assert warnings(results[solid, look], 5) == [], solid.__name__


def test_thresholds_lie_well_between_the_worlds(results):
    """A factor of 1.3 at least on either side, so that no test passes by a hair."""

    def all_of(name, *solids):
        return [results[solid, look][name] for solid in solids for look in (measured, demo)]

    assert max(all_of(health.DEPTH_SPREAD, billboard)) * 1.3 < health.FLAT_SPREAD
    assert max(all_of(health.NORMAL_VARIANCE, billboard)) * 1.3 < health.FLAT_VARIANCE
    assert min(all_of(health.DEPTH_SPREAD, *SOUND)) > 1.3 * health.FLAT_SPREAD
    assert min(all_of(health.NORMAL_VARIANCE, *SOUND)) > 1.3 * health.FLAT_VARIANCE
    assert min(all_of(health.NEAR, filled, filled_all_over)) > health.FILLED_NEAR + 0.05
    assert max(all_of(health.NEAR, *SOUND)) < health.FILLED_NEAR / 1.3
    assert max(all_of(health.OPAQUE, fog)) == 0
    assert min(all_of(health.OPACITY, *SOUND)) > 1.3 * health.EMPTY_OPACITY


def test_bumps_of_a_percent_are_flat_too():
    (line,) = warnings(measured(World(billboard_of_bumps)), 5)
    assert line.startswith("the geometry is flat")


def test_a_slanted_billboard_is_as_flat_as_one_seen_from_the_front():
    """Its depths spread, its distance from a plane does not."""

    def slanted(points, numbers):
        return within((0.8 * points[..., 2] + 0.6 * points[..., 0]).abs() < 0.05)

    measures = measured(World(slanted))
    assert measures[health.DEPTH_SPREAD] < 0.003 and measures[health.NORMAL_VARIANCE] < 0.01


def test_equal_samples_are_collapse():
    def ball(points, numbers):
        return within(points.norm(dim=-1) < 0.25)

    for look in (measured(World(ball, painted)), demo(ball, painted)):
        assert look[health.SAMPLES] == pytest.approx(0, abs=1e-6)
        assert look[health.VIEWS] > 0.04
        (line,) = warnings(look, 5)
        assert line.startswith("the generator has collapsed")
    # The same picture for all, but not from all sides; and what differs in colour alone.
    assert measured(World(billboard, grey))[health.VIEWS] < 0.002
    tinted = demo(ball, lambda points, n: torch.sigmoid(n / 4).expand_as(points))
    assert tinted[health.SAMPLES] > 2 * health.ALIKE and warnings(tinted, 5) == []


def test_opacities_of_fog_and_of_a_sphere(results):
    """exp(-sigma d) through the range of depths; the disc that a sphere fills in the picture."""
    options = RenderingOptions.from_kwargs(World(fog).rendering_kwargs)
    seen = results[fog, measured][health.OPACITY]
    length = options.ray_end - options.ray_start
    assert seen == pytest.approx(1 - math.exp(-math.log1p(math.exp(0.5)) * length), abs=0.01)
    steady = measured(World(lambda p, n: within(p.norm(dim=-1) < 0.25), painted))
    disc = math.pi * (4.2647 * 0.25) ** 2 / (RADIUS**2 - 0.25**2)
    assert steady[health.OPAQUE] == pytest.approx(disc, rel=0.03)


def test_variation_against_numpy():
    random = torch.Generator().manual_seed(1)
    colours = torch.randn(5, 3, 4, 4, generator=random)
    opacity = torch.rand(5, 1, 4, 4, generator=random)
    weights = opacity.numpy()[:, 0].mean(0)
    expected = (colours.numpy().std(0).mean(0) * weights).sum() / weights.sum()
    assert health.variation(colours, opacity).item() == pytest.approx(expected, rel=1e-5)
    assert health.variation(colours, 0 * opacity).item() == 0
    halved = torch.cat([opacity, 0 * opacity], dim=3)  # An empty half changes nothing.
    whole = torch.cat([colours, 0 * colours], dim=3)
    assert health.variation(whole, halved).item() == pytest.approx(expected, rel=1e-5)


# What a demo run on procedural cars measured, by kimg, in the order of NAMES: a run that went well.
CARS = {
    0: (0.5651, 0.0000, 0.0000, 0.0431, 0.0532, 0.0957, 0.0562),
    2: (0.3267, 0.1298, 0.0141, 0.0381, 0.1244, 0.1116, 0.3145),
    4: (0.3085, 0.1926, 0.0350, 0.0572, 0.2011, 0.1298, 0.3472),
    8: (0.2769, 0.1852, 0.0247, 0.0575, 0.1966, 0.1608, 0.3872),
    14: (0.2887, 0.1757, 0.0090, 0.0639, 0.1925, 0.2601, 0.3737),
    20: (0.3237, 0.1863, 0.0188, 0.0574, 0.1767, 0.2580, 0.3407),
}


def test_a_good_run_is_not_warned_of():
    start = first_judgement(total_kimg=20, blur_fade_kimg=50)
    runs = {kimg: dict(zip(health.NAMES, row, strict=True)) for kimg, row in CARS.items()}
    assert [kimg for kimg, row in runs.items() if warnings(row, kimg, start)] == []
    (line,) = warnings(runs[0], 0)  # Before it has learned anything it is fog.
    assert line.startswith("the scene is fog")


@pytest.mark.parametrize("name", [health.DEPTH_SPREAD, health.NORMAL_VARIANCE])
def test_flat_is_what_is_flat_by_both_measures(name):
    good = dict(zip(health.NAMES, CARS[20], strict=True))
    assert warnings({**good, name: 0.0}, 20) == []
    flat = {**good, health.DEPTH_SPREAD: 0.01, health.NORMAL_VARIANCE: 0.01, health.SAMPLES: 0.0}
    assert [line.split(":")[0] for line in warnings(flat, 20)] == [
        "the geometry is flat",
        "the generator has collapsed",
    ]


def test_nothing_before_the_schedule_says_so(results):
    measures = results[empty, measured]
    assert warnings(measures, 4.9, min_kimg=5) == [] != warnings(measures, 5, min_kimg=5)
    assert first_judgement(total_kimg=20, blur_fade_kimg=50) == 2
    assert first_judgement(total_kimg=25000, blur_fade_kimg=200) == 200


def test_a_generator():
    """All measures, finite, the same each time; the chunk and the global random state change
    nothing; weights and settings stay as they were."""
    G = tiny_generator()
    before = {name: value.clone() for name, value in G.state_dict().items()}
    c = cameras(DEGREES).label()
    z = torch.randn(COUNT, G.z_dim)
    state = torch.get_rng_state()
    measures = Health(z, c).measure(G)
    assert tuple(measures) == health.NAMES
    assert all(math.isfinite(value) for value in measures.values())
    torch.manual_seed(7)
    assert Health(z, c).measure(G) == measures
    torch.set_rng_state(state)
    other = Health(z, c, chunk=3).measure(G)
    assert other == pytest.approx(measures, rel=1e-4, abs=1e-6)
    assert measures[health.SAMPLES] > 0.01 and measures[health.VIEWS] > 0.001
    assert all(torch.equal(before[name], value) for name, value in G.state_dict().items())
    assert G.neural_rendering_resolution == 8 and G._last_planes is None


def test_weights_that_are_not_finite_raise_nothing():
    """That is the guard's business."""
    G = tiny_generator()
    G.decoder.net[2].bias[0] = math.nan
    measures = Health(torch.randn(COUNT, G.z_dim), cameras(DEGREES).label()).measure(G)
    assert math.isnan(measures[health.OPACITY])
    assert warnings(measures, 5) == []


def test_limits_of_every_ray_of_its_own():
    """With 'auto' limits, and cameras some of whose rays miss the box."""
    for solid, filled_share in ((filled, 1.0), (sphere, 0.0)):
        world = World(solid)
        world.rendering_kwargs.update(ray_start="auto", ray_end="auto", ray_limits="exact")
        measures = measured(world, focal=1.0)
        near, opaque = measures[health.NEAR], measures[health.OPAQUE]
        assert 0.02 < opaque < 0.5
        assert near == pytest.approx(filled_share * opaque, abs=0.01)


@pytest.mark.gpu
def test_on_a_gpu():
    G, z, c = tiny_generator(), torch.randn(COUNT, 8), cameras(DEGREES).label()
    expected = Health(z, c).measure(G)
    measures = Health(z.cuda(), c.cuda()).measure(G.cuda())
    assert measures == pytest.approx(expected, rel=1e-2, abs=1e-3)
