"""The renderer's options and draws: what is refused, and that every choice changes something."""

import dataclasses

import pytest
import torch

from training.volumetric_rendering.depths import importance_depths, ray_limits
from training.volumetric_rendering.draws import FixedDraws, GivenDraws, RandomDraws
from training.volumetric_rendering.options import RenderingOptions, read_option
from training.volumetric_rendering.renderer import ImportanceRenderer, render_rays

KWARGS = {
    "depth_resolution": 8,
    "depth_resolution_importance": 6,
    "ray_start": 0.5,
    "ray_end": 2.5,
    "box_warp": 1,
    "disparity_space_sampling": False,
    "clamp_mode": "softplus",
}


def options(**changes):
    return RenderingOptions.from_kwargs({**KWARGS, **changes})


def ball(points, directions):
    """A soft ball of radius 0.4, coloured by position and direction."""
    sigma = 20 * (0.4 - points.norm(dim=-1, keepdim=True))
    return {"rgb": torch.cat([points, directions], dim=-1), "sigma": sigma}


def rays(count=9, distance=1.5):
    """Rays from (0, 0, distance) around -z, [1, count, 3]; the last ones miss the box."""
    tilt = torch.linspace(0, 0.8, count)
    directions = torch.stack([tilt, 0.3 * tilt, -torch.ones(count)], dim=-1)
    directions = directions / directions.norm(dim=-1, keepdim=True)
    return torch.tensor([0, 0, distance]).expand(1, count, 3), directions[None]


def test_keys_of_other_consumers_are_ignored():
    assert options(superresolution_noise_mode="none", c_scale=1) == options()
    made = options()
    assert RenderingOptions.from_kwargs(made) is made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.box_warp = 2


@pytest.mark.parametrize("key", KWARGS)
def test_missing_key_is_named(key):
    kwargs = {name: value for name, value in KWARGS.items() if name != key}
    with pytest.raises(KeyError, match=key):
        RenderingOptions.from_kwargs(kwargs)
    with pytest.raises(KeyError, match=key):
        read_option(kwargs, key)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"clamp_mode": "exp"}, "clamp_mode is 'exp'.*'softplus', 'relu'"),
        ({"ray_limits": "new"}, "ray_limits.*'exact'"),
        ({"importance_bins": 3}, "importance_bins is 3.*'centered'"),
        ({"empty_depth": "far"}, "empty_depth.*'batch', 'ray'"),
        ({"ray_start": "auto"}, "'auto' for both"),
        ({"ray_end": "auto"}, "'auto' for both"),
        ({"ray_start": "box", "ray_end": "box"}, "'auto' for both"),
        ({"ray_start": 3}, "ray_start 3 must be less than ray_end 2.5"),
        ({"ray_start": 0, "disparity_space_sampling": True}, "must be positive"),
        ({"depth_resolution": 3}, "depth_resolution is 3.*at least 4"),
        ({"depth_resolution": 1, "depth_resolution_importance": 0}, "at least 2"),
        ({"depth_resolution_importance": -1}, "0 or more"),
        ({"box_warp": 0}, "box_warp"),
        ({"density_noise": -0.1}, "density_noise"),
        ({"density_bias": float("nan")}, "density_bias is nan; must be a finite number"),
        ({"ray_marcher": "nerf"}, "ray_marcher is 'nerf'.*'midpoint', 'classic'"),
        ({"depth_jitter": "both"}, "depth_jitter is 'both'.*'forward', 'bins'"),
        ({"ray_marcher": "classic", "last_delta": 0}, "last_delta is 0; must be positive"),
        ({"last_delta": 1e-3}, "last_delta is 0.001; with ray_marcher 'midpoint' it has no effect"),
        ({"last_back": True}, "last_back is True.*'midpoint' it has no effect"),
        (
            {"ray_marcher": "classic", "importance_bins": "centered"},
            "importance_bins is 'centered'; with ray_marcher 'classic' it has no effect.*reference",
        ),
    ],
)
def test_bad_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        options(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"depth_resolution": 9},
        {"depth_resolution_importance": 7},
        {"ray_start": 0.6},
        {"ray_end": 2.4},
        {"ray_start": "auto", "ray_end": "auto"},
        {"disparity_space_sampling": True},
        {"white_back": True},
        {"importance_bins": "centered"},
        {"density_bias": 0.0},
        {"clamp_mode": "relu"},
        {"importance_smoothing": False},
        {"depth_jitter": "bins"},
        {"ray_marcher": "classic"},
    ],
)
def test_every_option_changes_the_picture(changes):
    plain = render_rays(ball, *rays(), options(), FixedDraws())
    other = render_rays(ball, *rays(), options(**changes), FixedDraws())
    assert (plain[0] - other[0]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"last_delta": 1e-3},
        {"last_back": True, "last_delta": 1e-3},
        {"white_back": True, "last_delta": 1e-3},
        {"clamp_mode": "relu"},
        {"importance_smoothing": False},
    ],
)
def test_every_option_changes_the_picture_of_the_classic_marcher(changes):
    """Also from each other: all pictures differ."""
    base = {"ray_marcher": "classic"}
    others = [base, {**base, "last_delta": 1e-3}] if len(changes) > 1 else [base]
    found = render_rays(ball, *rays(), options(**base, **changes), FixedDraws())
    for other in others:
        plain = render_rays(ball, *rays(), options(**other), FixedDraws())
        assert (plain[0] - found[0]).abs().max() > 1e-4


@pytest.mark.parametrize("fine", [0, 6])
@pytest.mark.parametrize("auto", [False, True])
@pytest.mark.parametrize("marcher", ["midpoint", "classic"])
@pytest.mark.parametrize("chunk", [1, 4, 9, 100])
def test_chunks_have_the_numbers_of_the_whole(chunk, marcher, auto, fine):
    """Rays that miss the box borrow the limits of those that hit it, in whatever chunk."""
    changes = {"ray_start": "auto", "ray_end": "auto"} if auto else {}
    given = options(ray_marcher=marcher, depth_resolution_importance=fine, **changes)
    whole = render_rays(ball, *rays(), given, FixedDraws())
    sizes = []

    def watched(points, directions):
        sizes.append(points.shape[1])
        return ball(points, directions)

    parts = render_rays(watched, *rays(), given, FixedDraws(), chunk=chunk)
    assert max(sizes) == 8 * min(chunk, 9)
    for a, b in zip(parts, whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)


def test_empty_depth_of_a_chunk_is_that_of_its_own_batch():
    def nothing(points, directions):
        return {"rgb": points, "sigma": torch.full_like(points[..., :1], -1e4)}

    auto = options(ray_start="auto", ray_end="auto")
    depth = render_rays(nothing, *rays(3), auto, FixedDraws(), chunk=1).depth
    own = options(ray_start="auto", ray_end="auto", empty_depth="ray")
    assert torch.equal(depth, render_rays(nothing, *rays(3), own, FixedDraws()).depth)


def test_limits_take_the_place_of_the_options():
    """The same limits are the same picture; narrow ones of every ray hold all samples."""
    limits = (torch.full((1, 9, 1), 0.5), torch.full((1, 9, 1), 2.5))
    usual = render_rays(ball, *rays(), options(), FixedDraws())
    given = render_rays(ball, *rays(), options(), FixedDraws(), limits=limits)
    for a, b in zip(usual, given, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    near = torch.linspace(0.6, 1.4, 9)[None, :, None]
    for chunk in (None, 2):
        narrow = (near, near + 0.1)
        depth = render_rays(ball, *rays(), options(), FixedDraws(), chunk, narrow).depth
        assert ((depth >= near) & (depth <= near + 0.12)).all()


def test_transmittance_is_what_a_background_gets():
    """Of the midpoint rule all that is not absorbed; of the classic the light before the last
    sample, whatever that one absorbs."""
    found = render_rays(ball, *rays(), options(), FixedDraws())
    assert torch.equal(found.transmittance, 1 - found.opacity)
    kind = {"ray_marcher": "classic", "depth_resolution": 20, "depth_resolution_importance": 0}
    closed, ended = (
        render_rays(ball, *rays(), options(**kind, last_delta=d), FixedDraws())
        for d in (1e10, 1e-3)
    )
    assert torch.equal(closed.transmittance, ended.transmittance)
    assert (closed.opacity - ended.opacity).max() > 1e-3
    assert closed.transmittance[0, 0] < 0.1 and closed.transmittance[0, -1] > 0.9


def test_noise_is_the_fields_or_the_marchers():
    """Whose it is the options say; an ImportanceRenderer adds it once."""

    class Loud(FixedDraws):
        def noise(self, shape, like):
            asked.append(shape)
            return torch.ones(shape)

    def decoder(features, directions):
        return {"rgb": features.sum(1), "sigma": features.sum(1)[..., :1]}

    planes = torch.randn(1, 3, 4, 5, 5)
    for marcher, shapes in (("midpoint", [(1, 72, 1)]), ("classic", [(1, 9, 8)])):
        asked = []
        kwargs = {**KWARGS, "ray_marcher": marcher, "depth_resolution_importance": 0}
        noisy = ImportanceRenderer()(
            planes, decoder, *rays(), {**kwargs, "density_noise": 0.5}, Loud()
        )
        assert asked == shapes
        biased = options(**{**kwargs, "density_bias": -0.5})
        quiet = ImportanceRenderer()(planes, decoder, *rays(), biased, Loud())
        torch.testing.assert_close(noisy[0], quiet[0])


def test_auto_limits_of_rays_that_miss():
    auto = {"ray_start": "auto", "ray_end": "auto"}
    origins, directions = rays()
    near, far = ray_limits(origins, directions, options(**auto))
    exact_near, exact_far = ray_limits(origins, directions, options(**auto, ray_limits="exact"))
    tilt = torch.linspace(0, 0.8, 9)
    missed = (tilt > 0.45)[None, :, None]  # 0.5 is the edge of the near face, one unit away
    assert missed.any() and not missed.all()
    assert torch.equal(near, exact_near)
    assert torch.equal(far[~missed], exact_far[~missed])
    assert torch.equal(far[missed], near[~missed].max().expand(missed.sum()))
    assert torch.equal(exact_far[missed], far[~missed].max().expand(missed.sum()))


def test_auto_limits_inside_the_box_begin_at_the_camera():
    auto = {"ray_start": "auto", "ray_end": "auto"}
    origins, directions = rays(distance=0.1)
    near, far = ray_limits(origins, directions, options(**auto))
    assert (near < 0).all()
    exact_near, exact_far = ray_limits(origins, directions, options(**auto, ray_limits="exact"))
    assert (exact_near == 0).all() and torch.equal(far, exact_far)
    disparity = options(**auto, ray_limits="exact", disparity_space_sampling=True)
    assert all(part.isfinite().all() for part in render_rays(ball, origins, directions, disparity))


@pytest.mark.parametrize("white", [False, True])
def test_batch_without_hits_shows_background(white):
    auto = options(ray_start="auto", ray_end="auto", ray_limits="exact", white_back=white)
    origins, directions = rays()

    def fog(points, directions):
        return {"rgb": points + 0.5, "sigma": torch.full_like(points[..., :1], 5.0)}

    features, depth, opacity, _ = render_rays(fog, origins, -directions, auto)
    assert torch.equal(opacity, torch.zeros_like(opacity))
    assert torch.equal(features, torch.full_like(features, 1.0 if white else -1.0))
    assert depth.isfinite().all()


def test_centered_bins_put_samples_where_the_weight_is():
    depths = torch.arange(10.0)[None]
    uniform = torch.linspace(0, 1, 1001)[None]
    for segment in (0, 4, 8):
        weights = torch.zeros(1, 9)
        weights[0, segment] = 50.0
        fine = importance_depths(depths, weights, uniform, "centered")[0]
        # The blur hands half of the weight to each neighbour and keeps the middle.
        inside = ((fine >= segment - 1) & (fine <= segment + 2)).float().mean()
        assert inside > 0.99
        assert fine.min() < 0.01 and fine.max() > 8.99, "every coarse interval is reachable"
        shifted = importance_depths(depths, weights, uniform)[0]
        assert shifted.min() >= 0.5 and shifted.max() <= 7.5
    middle = torch.zeros(1, 9)
    middle[0, 4] = 50.0
    centre = importance_depths(depths, middle, uniform, "centered").mean()
    reference = importance_depths(depths, middle, uniform).mean()
    assert abs(centre - 4.5) < 0.02 and abs(reference - 4.0) < 0.02


def test_empty_depth():
    def nothing(points, directions):
        return {"rgb": points, "sigma": torch.full_like(points[..., :1], -1e4)}

    origins, directions = rays(3)
    auto = {"ray_start": "auto", "ray_end": "auto"}
    batch = render_rays(nothing, origins, directions, options(**auto), FixedDraws())[1].flatten()
    own = render_rays(
        nothing, origins, directions, options(**auto, empty_depth="ray"), FixedDraws()
    )[1].flatten()
    assert torch.equal(batch, batch[:1].expand(3)) and batch[0] == own.max()
    assert own.unique().numel() == 3


def test_fixed_draws_repeat_and_leave_the_generator_alone():
    before = torch.get_rng_state()
    first = render_rays(ball, *rays(), options(), FixedDraws())
    second = render_rays(ball, *rays(), options(), FixedDraws())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_random_draws_differ_and_repeat_with_their_generator():
    def picture(seed):
        generator = torch.Generator().manual_seed(seed)
        return render_rays(ball, *rays(), options(), RandomDraws(generator))[0]

    before = torch.get_rng_state()
    assert torch.equal(picture(1), picture(1)) and not torch.equal(picture(1), picture(2))
    assert torch.equal(torch.get_rng_state(), before)
    default = [render_rays(ball, *rays(), options())[0] for _ in range(2)]
    assert not torch.equal(*default)


def test_order_and_shapes_of_random_draws():
    torch.manual_seed(5)
    random = render_rays(ball, *rays(), options())
    torch.manual_seed(5)
    given = GivenDraws(torch.rand([1, 9, 8, 1]), torch.rand([9, 6]))
    same = render_rays(ball, *rays(), options(), given)
    assert all(torch.equal(a, b) for a, b in zip(random, same, strict=True))


def test_given_draws_of_a_wrong_shape():
    with pytest.raises(ValueError, match=r"fine numbers of shape \(5,\).*\(9, 6\)"):
        render_rays(ball, *rays(), options(), GivenDraws(torch.tensor(0.5), torch.zeros(5)))
    with pytest.raises(ValueError, match="coarse numbers"):
        render_rays(ball, *rays(), options(), GivenDraws(torch.zeros(3), torch.tensor(0.5)))
    with pytest.raises(ValueError, match="no fine numbers"):
        render_rays(ball, *rays(), options(), GivenDraws(torch.tensor(0.5)))
    with pytest.raises(ValueError, match="density_noise"):
        GivenDraws(torch.tensor(0.5)).noise((1,), torch.zeros(1))
