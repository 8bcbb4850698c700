"""Latents of a state: the grid of seeds, blending, mixing, one conditioning camera for all."""

import pytest
import torch

from eg3d import latents
from eg3d.model import Model
from eg3d.viewer.blending import corners, latents_of, nearest
from eg3d.viewer.state import ViewState


@pytest.fixture(scope="module")
def model(generator):
    return Model.of(generator)


def made(model, **settings):
    return latents_of(model, ViewState(**settings), model.camera)


def of_seed(model, seed, **mapping):
    return model.mapping(model.latents([seed]), model.camera, **mapping)


def test_corners_of_the_grid_by_hand():
    assert corners(5, 0.0, 0.0) == [(5, 1.0)]
    assert corners(5, 0.25, 0.0) == [(5, 0.75), (6, 0.25)]
    assert corners(5, -0.25, 0.0) == [(4, 0.25), (5, 0.75)]
    assert corners(5, 0.0, 1.0) == [(105, 1.0)]
    assert corners(0, 0.5, 0.5) == [(0, 0.25), (1, 0.25), (100, 0.25), (101, 0.25)]
    assert corners(0, -1.0, 0.0) == [(2**32 - 1, 1.0)]
    assert nearest(5, 0.6, -0.4) == 6 and nearest(0, 0.0, -1.0) == 2**32 - 100


def test_a_point_between_seeds_is_their_bilinear_mean(model):
    found = made(model, seed=3, dx=0.25, dy=0.5, psi=0.7)
    one = {seed: of_seed(model, seed, psi=0.7) for seed in (3, 4, 103, 104)}
    expected = 0.375 * (one[3] + one[103]) + 0.125 * (one[4] + one[104])
    torch.testing.assert_close(found, expected)


def test_blend_and_mix_are_those_of_the_library(model):
    ws = torch.lerp(of_seed(model, 0, psi=0.5, cutoff=2), of_seed(model, 9, psi=0.5, cutoff=2), 0.3)
    ws = latents.mix(ws, of_seed(model, 4, psi=0.5, cutoff=2), [1, 3])
    settings = dict(psi=0.5, cutoff=2, blend_seed=9, blend=0.3, mix_seed=4)
    torch.testing.assert_close(made(model, mix_layers=(1, 3), **settings), ws)
    # A layer that this model lacks, left from another one, does nothing.
    torch.testing.assert_close(made(model, mix_layers=(1, 3, 500), **settings), ws)


def test_seeds_have_the_classes_that_commands_give_them(new_generator):
    model = Model.of(new_generator(classes=3))
    for seed in range(4):
        expected = model.mapping(model.latents([seed]), classes=model.classes([seed]))
        torch.testing.assert_close(made(model, seed=seed, psi=1.0), expected)


def test_all_seeds_get_the_same_conditioning(model, monkeypatch):
    labels = []
    mapping = model.generator.mapping

    def watched(z, c, **options):
        labels.extend(c)
        return mapping(z, c, **options)

    monkeypatch.setattr(model.generator, "mapping", watched)
    camera = model.with_fov(40).camera
    state = ViewState(dx=0.5, dy=0.5, blend=0.5, mix_layers=(0,))
    latents_of(model, state, camera)
    assert len(labels) == 6
    assert all(torch.equal(label, camera.label()[0]) for label in labels)
