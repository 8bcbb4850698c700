"""Tuning to a picture that the generator cannot make: what moves, what stays."""

import pytest
import torch

import eg3d
from eg3d.errors import InputError
from eg3d.inversion import Inversion
from eg3d.likeness import Likeness
from eg3d.noise_maps import noise_maps
from eg3d.pivotal_tuning import TuningOptions, tune

STEPS = 15


@pytest.fixture(scope="module")
def model(generator):
    return eg3d.Model.of(generator)


@pytest.fixture(scope="module")
def found(model):
    """A pivot with noise maps of its own, and the camera."""
    noise = {name: -values for name, values in noise_maps(model).items()}
    return Inversion(model.mapping(model.latents([1])), model.camera, noise)


@pytest.fixture(scope="module")
def image(model):
    """Another scene's picture, mirrored."""
    return model.scene(2).render(model.camera).image.clamp(-1, 1).flip(3)


def tuned(model, found, image, **options):
    options = {"steps": STEPS, "rate": 3e-3, **options}
    return tune(model, found, image, TuningOptions(**options))


def made(model, ws, camera):
    with torch.no_grad():
        return model.scenes_of(ws).render(camera).image


def test_pivot_makes_the_picture(model, found, image):
    seen = []
    options = TuningOptions(STEPS, rate=3e-3)
    after = tune(model, found, image, options, callback=seen.append)
    likeness = Likeness(image)
    before = likeness.psnr(made(model, found.ws, found.camera))
    assert likeness.psnr(made(after, found.ws, found.camera)) > before + 3
    assert [step.index for step in seen] == list(range(STEPS))
    assert seen[-1].losses["psnr"] > seen[0].losses["psnr"] + 3
    assert set(seen[0].losses) == {"l2", "psnr"}


def test_what_moves_and_what_stays(model, found, image):
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    after = tuned(model, found, image, steps=2)
    assert all(torch.equal(v, before[n]) for n, v in model.generator.state_dict().items())
    assert not any(p.requires_grad for p in after.generator.parameters())
    assert not after.generator.training and torch.equal(after.intrinsics, model.intrinsics)
    moved, weights = set(), dict(model.generator.named_parameters())
    for name, value in after.generator.state_dict().items():
        expected = found.noise.get(name, before[name])
        if not torch.equal(value, expected):
            moved.add(name)
    assert moved <= set(weights) and not any(".mapping." in name for name in moved)
    parts = {name.split(".")[0] for name in moved}
    assert parts == {"backbone", "decoder", "superresolution"}
    z = model.latents([3])
    assert torch.equal(after.mapping(z), model.mapping(z))


def test_gradients_of_the_given_model_are_left_alone(new_generator, found, image):
    generator = new_generator().requires_grad_(True)
    tuned(eg3d.Model.of(generator), found, image, steps=1, locality_weight=1.0)
    assert all(p.grad is None and p.requires_grad for p in generator.parameters())


def test_locality_holds_other_latents(model, found, image):
    """Latents near the pivot keep their pictures from another view, at the cost of the picture."""
    given, distance = found.model(model), 2.0
    free = tuned(model, found, image, steps=25, rate=1e-3)
    held = tuned(
        model, found, image, steps=25, rate=1e-3, locality_weight=1.0, locality_distance=distance
    )
    away = model.mapping(model.latents(range(50, 54))) - found.ws
    ws = found.ws + distance * away / away.norm(dim=2, keepdim=True)
    camera = eg3d.views.turned(model, [(0.3, -0.1)])
    change = [(made(m, ws, camera) - made(given, ws, camera)).square().mean() for m in (free, held)]
    assert change[1] < change[0] / 3
    likeness = Likeness(image)
    psnr = [likeness.psnr(made(m, found.ws, found.camera)) for m in (free, held)]
    assert psnr[0] > psnr[1] > likeness.psnr(made(given, found.ws, found.camera)) + 3


def test_locality_distance_counts(model, found, image):
    options = dict(steps=3, locality_weight=10.0)
    near, far = (tuned(model, found, image, locality_distance=d, **options) for d in (0.01, 30))
    key = "decoder.net.0.weight"
    assert not torch.equal(near.generator.state_dict()[key], far.generator.state_dict()[key])


def test_seed_decides(model, found, image):
    options = dict(steps=3, locality_weight=10.0)
    states = [
        tuned(model, found, image, seed=seed, **options).generator.state_dict()
        for seed in (2**32 - 1, 2**32 - 1, 7)
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not all(torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_perceptual_term_counts(model, found, image):
    class Red:
        def to(self, target):
            return lambda image: 100 * image[:, 0].mean()

    seen = tune(model, found, image, TuningOptions(STEPS, 3e-3), Red())
    plain = tuned(model, found, image)
    red = [made(m, found.ws, found.camera)[:, 0].mean() for m in (seen, plain)]
    assert red[0] < red[1] - 0.05


def test_wrong_input(model, found, image):
    with pytest.raises(InputError, match="0 steps"):
        TuningOptions(steps=0)
    with pytest.raises(InputError, match=r"\[1, 3, 64, 64\]"):
        tune(model, found, image[:, :, :32])
