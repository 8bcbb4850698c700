"""Inversion of a model's own pictures, whose latents, camera and noise are known."""

import copy
import math
from dataclasses import fields

import pytest
import torch

import eg3d
from eg3d import inversion, pose_search
from eg3d.camera_offsets import angle_between, moved
from eg3d.errors import InputError
from eg3d.inversion import Options, invert
from eg3d.likeness import Likeness
from eg3d.pose_search import find_camera, up_axis

STEPS = 30


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(inversion, "MEAN_OF", 500)
    monkeypatch.setattr(pose_search, "VIEWS", 20)
    monkeypatch.setattr(pose_search, "STEPS", 30)


@pytest.fixture(scope="module")
def model(generator):
    return eg3d.Model.of(generator)


@pytest.fixture(scope="module")
def own(model):
    """A picture that the model made, and its camera."""
    camera = eg3d.views.turned(model, [(0.3, 0.1)])
    with torch.no_grad():
        return model.scene(5).render(camera).image.clamp(-1, 1), camera


def made(found, model):
    with torch.no_grad():
        return found.scene(model).render(found.camera).image


@pytest.mark.parametrize("space", inversion.SPACES)
def test_own_picture_is_found(model, own, space):
    image, camera = own
    seen = []
    found = invert(model, image, camera, Options(space, STEPS), callback=seen.append)
    likeness = Likeness(image)
    mean = model.scenes_of(inversion.mean_latent(model)[0].expand(1, model.num_ws, -1))
    before = likeness.psnr(mean.render(camera).image)
    assert likeness.psnr(made(found, model)) > before + 8
    assert found.ws.shape == (1, model.num_ws, 16) and not found.ws.requires_grad
    one_for_all = torch.equal(found.ws, found.ws[:, :1].expand_as(found.ws))
    assert one_for_all == (space == "w")
    assert torch.equal(found.camera.label(), camera.label())
    assert [step.index for step in seen] == list(range(STEPS))
    assert [step.losses for step in seen] == list(found.losses) and not found.noise
    assert seen[0].image.shape == image.shape and seen[0].losses["psnr"] < before + 3


@pytest.mark.parametrize("searches", [True, False])
def test_camera_is_found(model, monkeypatch, searches):
    """Of the mean latent's picture: by the search before, and by the steps themselves."""
    if not searches:
        monkeypatch.setattr(pose_search, "STEPS", 0)
        monkeypatch.setattr(pose_search, "CLEARLY_NEARER", 0)
    camera = eg3d.views.turned(model, [(0.3, 0.1)])
    mean = inversion.mean_latent(model)[0].expand(1, model.num_ws, -1)
    with torch.no_grad():
        image = model.scenes_of(mean).render(camera).image
    guess = moved(camera, torch.tensor([0.05, -0.15, 0.02, 0, 0, 0]), model.pivot)
    options = Options(steps=STEPS, optimise_pose=True, rate=1e-3, latent_noise=0)
    found = invert(model, image, guess, options).camera
    assert angle_between(found, camera) < angle_between(guess, camera) / 2
    assert torch.equal(found.intrinsics, camera.intrinsics)


def of_the_same_lens(model, *angles):
    """Cameras, one for each (yaw, pitch), with a lens that is not the model's."""
    lens = model.intrinsics[None] * torch.tensor([[1.1], [1.1], [1]])
    return [eg3d.Camera(eg3d.views.turned(model, [pair]).cam2world, lens) for pair in angles]


def test_search_finds_the_camera_of_its_latents(model):
    """From the far side of the range, with the latents themselves in place of the mean."""
    ws = model.mapping(model.latents([5]))
    camera, guess = of_the_same_lens(model, (0.35, 0.1), (-0.45, 0.1))
    with torch.no_grad():
        likeness = Likeness(model.scenes_of(ws).render(camera).image)
    found = find_camera(model, likeness, ws, guess)
    assert angle_between(guess, camera) > 40 and angle_between(found, camera) < 2
    assert torch.equal(found.intrinsics, guess.intrinsics)


def test_search_leaves_the_guess_only_for_a_clearly_nearer_view(model, monkeypatch):
    ws = model.mapping(model.latents([5]))
    camera, guess = of_the_same_lens(model, (0.35, 0.1), (0.1, 0.1))
    with torch.no_grad():
        likeness = Likeness(model.scenes_of(ws).render(camera).image)
    monkeypatch.setattr(pose_search, "STEPS", 0)
    assert angle_between(find_camera(model, likeness, ws, guess), camera) < 8
    monkeypatch.setattr(pose_search, "CLEARLY_NEARER", 0)
    stays = find_camera(model, likeness, ws, guess)
    assert torch.allclose(stays.label(), guess.label(), atol=1e-6)


def test_search_knows_which_way_is_up(model):
    """All around, from nearly level to steep, with a photographer's roll of three degrees."""
    for up, axis in (("y", (0.0, 1.0, 0.0)), ("z", (0.0, 0.0, 1.0))):
        for elevation in (3, 30, 65):
            for index in range(12):
                around = eg3d.cameras.orbit(
                    12, 2.0, model.intrinsics, math.radians(elevation), up=axis
                )[index]
                for roll in (-0.05, 0.05):
                    tilted = moved(around, torch.tensor([0, 0, roll, 0, 0, 0]), (0, 0, 0))
                    if up == "y" or index != 9:  # there the two cannot be told apart
                        assert up_axis(tilted) == up, (up, elevation, index)


def test_search_of_a_world_that_is_z_up(model):
    ws = model.mapping(model.latents([5]))
    camera, guess = (eg3d.views.turned(model, [(yaw, 0.1)], "z") for yaw in (0.35, -0.45))
    with torch.no_grad():
        likeness = Likeness(model.scenes_of(ws).render(camera).image)
    assert angle_between(find_camera(model, likeness, ws, guess), camera) < 2


def test_noise_is_found(model, own, monkeypatch):
    """Noise maps are fitted, stay normal, and are part of what the result makes."""
    loud = copy.deepcopy(model.generator)
    for name, value in loud.named_parameters():
        if name.endswith("noise_strength"):
            value.data.fill_(0.5)
    loud = eg3d.Model.of(loud)
    image, camera = own
    quiet = invert(loud, image, camera, Options(steps=STEPS))
    found = invert(loud, image, camera, Options(steps=STEPS, optimise_noise=True))
    sizes = {name: len(values) for name, values in found.noise.items()}
    assert sorted(sizes.values()) == [4, 8, 8, 16, 16]
    for values in found.noise.values():
        assert values.mean().abs() < 1e-5 and values.std(correction=0).item() == pytest.approx(1)
    likeness = Likeness(image)
    assert likeness.psnr(made(found, loud)) > likeness.psnr(made(quiet, loud)) + 0.5
    state = found.model(loud).generator.state_dict()
    assert all(torch.equal(state[name], values) for name, values in found.noise.items())
    without = inversion.Inversion(found.ws, found.camera)
    assert without.model(loud) is loud
    assert not torch.allclose(made(found, loud), made(without, loud), atol=1e-2)
    assert found.losses[-1]["noise"] < 1e-2


def test_model_is_not_changed(own, new_generator):
    """Neither its values nor its gradients, even where it wants them."""
    generator = new_generator().requires_grad_(True)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    options = Options("w+", 2, optimise_pose=True, optimise_noise=True)
    invert(eg3d.Model.of(generator), *own, options)
    for name, value in generator.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None and p.requires_grad for p in generator.parameters())


def test_half_precision_is_left_for_the_time_being(generator):
    blocks = list(copy.deepcopy(generator).modules())
    halves = [block for block in blocks if getattr(block, "use_fp16", False)]
    assert halves
    with pytest.raises(KeyboardInterrupt), inversion.full_precision(blocks[0]):
        assert not any(block.use_fp16 for block in halves)
        raise KeyboardInterrupt
    assert all(block.use_fp16 for block in halves)


def test_every_option_changes_the_result(model, own, monkeypatch):
    monkeypatch.setattr(pose_search, "VIEWS", 1)
    monkeypatch.setattr(pose_search, "STEPS", 1)
    base = dict(steps=4, optimise_pose=True, optimise_noise=True)
    others = dict(space="w+", steps=5, optimise_pose=False, optimise_noise=False, rate=0.2)
    others |= dict(pose_rate=0.02, ramp_up=0.9, ramp_down=0.9, latent_noise=0.5)
    others |= dict(latent_noise_until=0.3, noise_weight=1e3, seed=1)
    assert set(others) == {field.name for field in fields(Options)}

    def numbers(**options):
        found = invert(model, *own, Options(**options))
        parts = [found.ws, found.camera.label(), *found.noise.values()]
        return torch.cat([part.flatten() for part in parts])

    expected = numbers(**base)
    same = [name for name in others if numbers(**{**base, name: others[name]}).equal(expected)]
    assert same == []


def test_seed_decides(model, own, monkeypatch):
    monkeypatch.setattr(pose_search, "VIEWS", 3)
    monkeypatch.setattr(pose_search, "STEPS", 3)
    options = dict(space="w+", optimise_pose=True, optimise_noise=True, steps=4)
    first, again, other = (invert(model, *own, Options(**options, seed=s)) for s in (1, 1, 2))
    torch.rand(7)
    assert torch.equal(first.ws, again.ws) and first.losses == again.losses
    assert torch.equal(first.camera.label(), again.camera.label())
    assert not torch.equal(first.ws, other.ws)


def test_perceptual_term_counts(model, own):
    class Red:
        def to(self, target):
            return lambda image: 100 * image[:, 0].mean()

    found = invert(model, *own, Options(steps=8), perceptual=Red())
    plain = invert(model, *own, Options(steps=8))
    assert made(found, model)[:, 0].mean() < made(plain, model)[:, 0].mean() - 0.05
    assert set(found.losses[0]) == {"l2", "perceptual", "psnr"}


def test_mean_latent_of_all_samples(model):
    """Against one latent at a time, in double precision."""
    mean, spread = inversion.mean_latent(model, seed=3)
    z = torch.randn(500, 16, generator=torch.Generator().manual_seed(3))
    w = torch.stack([model.mapping(row[None])[0, 0].double() for row in z])
    assert torch.allclose(mean[0, 0].double(), w.mean(0), atol=1e-5)
    assert spread == pytest.approx((w - w.mean(0)).norm(dim=1).square().mean().sqrt().item())


def test_schedules():
    options = Options(steps=1000)  # the paper's, with its ramps of 50 and 250 steps
    shares = [options.rate_share(step) for step in range(1000)]
    assert shares[0] == pytest.approx(1 / 50) and shares[24] == pytest.approx(0.5)
    assert shares[50:750] == [1] * 700
    assert shares[875] == pytest.approx(0.5) and shares[999] < 1e-4
    assert options.latent_noise_at(0) == 0.05
    assert options.latent_noise_at(375) == pytest.approx(0.05 / 4)
    assert options.latent_noise_at(750) == options.latent_noise_at(999) == 0
    assert Options(steps=1).rate_share(0) == 1


def test_wrong_input(model, own):
    image, camera = own
    with pytest.raises(InputError, match=r"\[1, 3, 64, 64\]"):
        invert(model, image[:, :, :32], camera)
    with pytest.raises(InputError, match="2 cameras"):
        invert(model, image, eg3d.views.orbit(model, 2))
    with pytest.raises(InputError, match="space 'z': must be w or w"):
        Options("z")
    with pytest.raises(InputError, match="0 steps"):
        Options(steps=0)
