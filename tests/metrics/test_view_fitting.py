"""Fitting a scene to views of it: what is consistent is fitted, what is not is not."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dataset_preprocessing.procedural import render_car, sample_car
from metrics.image_similarity import psnr
from metrics.view_fitting import FitSettings, _pace, fit_views
from training.cameras import Camera, look_at
from training.volumetric_rendering.ray_sampler import RaySampler

SIDE, VIEWS = 24, 8
QUICK = FitSettings(steps=100, rays=256, samples=(8, 8), plane_resolution=32, channels=8)


def cameras(degrees):
    """Cameras 2 from the origin, 20 degrees above the horizon."""
    angle, up = torch.as_tensor(degrees) * math.pi / 180, math.radians(20)
    ring = math.cos(up) * torch.stack([angle.sin(), 0 * angle, angle.cos()], dim=1)
    ring[:, 1] = math.sin(up)
    lens = torch.tensor([[1.6, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]]).expand(len(angle), 3, 3)
    return Camera(look_at(2 * ring, (0, 0, 0)), lens)


ARC = cameras(torch.linspace(-50, 50, VIEWS))


def ball(camera, tint=(0, 0, 0), side=SIDE):
    """Pictures of a ball of radius 0.45 whose colour is a smooth function of the place, plus a
    tint for each view; on white. Where rays hit it is the solution of a quadratic equation."""
    origin, direction = (
        r.double() for r in RaySampler()(camera.cam2world, camera.intrinsics, side)
    )
    half = (origin * direction).sum(2)
    root = half**2 - (origin**2).sum(2) + 0.45**2
    place = origin + (-half - root.clamp(min=0).sqrt())[..., None] * direction
    colour = 0.5 + 0.3 * torch.sin(12 * place) + torch.as_tensor(tint).reshape(-1, 1, 3)
    picture = torch.where(root[..., None] > 0, colour, 1.0).clamp(0, 1)
    return picture.float().transpose(1, 2).unflatten(2, (side, side))


def cars(models, camera=ARC, side=SIDE):
    """What each camera sees, of the next car of the list."""
    pairs = [(models[i % len(models)], label) for i, label in enumerate(camera.label().numpy())]
    views = [render_car(sample_car(np.random.default_rng(k)), c, side).image for k, c in pairs]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2) / 255


def agreement(pictures, scene):
    return float(psnr(pictures, scene.render(ARC, pictures.shape[2])).mean())


def fitted(pictures, **changed):
    return fit_views(pictures, ARC, 1.1, replace(QUICK, **changed))


@pytest.fixture(scope="module")
def car_scene():
    return fitted(cars([3]))


@pytest.fixture(scope="module")
def car_score(car_scene):
    return agreement(cars([3]), car_scene)


def test_views_of_one_ball_are_fitted_and_recoloured_ones_are_not():
    tints = 0.8 * torch.rand(VIEWS, 3, generator=torch.Generator().manual_seed(1)) - 0.4
    recoloured = ball(ARC, tints)
    one, other = (agreement(views, fitted(views)) for views in (ball(ARC), recoloured))
    assert one > 23 and other < one - 4, (one, other)


def test_views_of_one_car_are_fitted_and_of_different_ones_are_not(car_score):
    mixed = agreement(cars(range(VIEWS)), fitted(cars(range(VIEWS))))
    assert car_score > 23 and mixed < car_score - 5, (car_score, mixed)


def test_what_is_fitted_is_a_scene(car_scene):
    """A view that was not shown is nearer to the truth than the views beside it are."""
    between, beside = cameras([0.0]), ARC[VIEWS // 2 - 1 : VIEWS // 2 + 1]
    truth = cars([3], between)
    found = psnr(car_scene.render(between, SIDE), truth)
    assert found > psnr(cars([3], beside), truth.expand(2, -1, -1, -1)).max() + 3


def test_more_steps_fit_better(car_score):
    few = agreement(cars([3]), fitted(cars([3]), steps=20))
    assert car_score > few + 3, (few, car_score)


def test_the_same_seed_gives_the_same_bits_and_leaves_no_trace():
    """Also in a metric, which asks for no gradients."""
    pictures, settings = ball(ARC), replace(QUICK, steps=5)

    def planes(seed):
        return fit_views(pictures, ARC, 1.1, settings, seed).planes

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = planes(0)
    assert torch.equal(torch.get_rng_state(), state) and not first.requires_grad
    torch.manual_seed(4)
    with torch.no_grad():
        assert torch.equal(planes(0), first)
    assert not torch.equal(planes(1), first)


@pytest.mark.parametrize(
    "changed",
    [
        dict(steps=6),
        dict(rays=300),
        dict(samples=(9, 8)),
        dict(samples=(8, 9)),
        dict(plane_resolution=16),
        dict(channels=4),
        dict(learning_rate=0.05),
    ],
    ids=str,
)
def test_every_setting_changes_the_fit(changed):
    a, b = (
        fitted(ball(ARC), **dict(steps=5) | more).render(ARC[:1], SIDE) for more in ({}, changed)
    )
    assert (a - b).abs().max() > 1e-4


def test_the_background_takes_the_colour_around():
    colour = torch.tensor([0.2, 0.5, 0.7])
    pictures = torch.where(ball(ARC) < 1, ball(ARC), colour.view(3, 1, 1))
    scene = fitted(pictures)
    assert (scene.background - colour).abs().max() < 0.02
    away = Camera(ARC.cam2world @ torch.diag(torch.tensor([1.0, -1, -1, 1])), ARC.intrinsics)
    empty = scene.render(away, 4)
    assert empty.shape == (VIEWS, 3, 4, 4)
    assert torch.allclose(empty, scene.background.view(3, 1, 1).expand_as(empty), atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 9, 200])
def test_the_learning_rate_rises_and_falls(steps):
    paces = [_pace(k, steps) for k in range(steps)]
    peak = int(np.argmax(paces))
    assert all(0 < pace < 1 for pace in paces) and peak <= steps / 10 + 1
    assert paces[: peak + 1] == sorted(paces[: peak + 1])
    assert paces[peak:] == sorted(paces[peak:], reverse=True)
    if steps == 200:
        assert paces[peak] > 0.97 and paces[0] < 0.03 and paces[-1] < 1e-4


def test_progress_is_told():
    steps = []
    fit_views(ball(ARC), ARC, 1.1, replace(QUICK, steps=3), progress=steps.append)
    assert steps == [1, 2, 3]


def test_bad_input_ends_in_a_line():
    for shape in ((7, 3, 24, 24), (8, 1, 24, 24), (8, 3, 24, 12), (3, 24, 24)):
        with pytest.raises(ValueError, match=r"^pictures of shape .* 8 cameras; must be \[V, 3"):
            fit_views(torch.zeros(shape), ARC, 1.1, QUICK)
    with pytest.raises(ValueError, match="^steps of a fit is 0; must be positive$"):
        FitSettings(steps=0)
    with pytest.raises(ValueError, match="^reconstructor is 'neus'; possible: triplane-1$"):
        FitSettings(reconstructor="neus")
