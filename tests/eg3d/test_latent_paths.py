"""Keyframes and what lies between them: against loops, the published formula, the model itself."""

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d

import eg3d
from eg3d import views
from eg3d.errors import InputError
from eg3d.generate import Style
from eg3d.latent_paths import INTERPOLATIONS, deal, shares, takes


@pytest.fixture
def model(generator):
    return eg3d.Model.of(generator)


# -- Dealing seeds ---------------------------------------------------------------------------------


def test_every_cell_gets_its_run_of_seeds():
    assert deal(range(10, 22), (3, 2)).tolist() == [
        [10, 11], [12, 13], [14, 15], [16, 17], [18, 19], [20, 21]
    ]  # fmt: skip
    assert deal([4, 9], (1, 1)).tolist() == [[4, 9]]


def test_seeds_repeat_where_keyframes_are_given():
    seeds, found = [3, 1, 4, 1, 5], deal([3, 1, 4, 1, 5], (2, 1), keyframes=4)
    assert found.flatten().tolist() == [seeds[i % 5] for i in range(8)]
    assert deal(seeds, (2, 1), keyframes=1).tolist() == [[3], [1]]


def test_shuffling_is_the_published_one():
    expected = [i % 7 for i in range(12)]
    np.random.RandomState(5).shuffle(expected)
    assert deal(range(7), (2, 2), 3, shuffle_seed=5).flatten().tolist() == expected
    assert deal(range(7), (2, 2), 3, shuffle_seed=6).flatten().tolist() != expected


@pytest.mark.parametrize("count", [1, 3, 5])
def test_seeds_that_cannot_be_dealt(count):
    with pytest.raises(
        InputError, match=f"2x1 has 2 cells, but there are {count} seeds: .*multipl"
    ):
        deal(range(count), (2, 1))


# -- Shares of keyframes ---------------------------------------------------------------------------


@pytest.mark.parametrize("keyframes", [1, 2, 3, 7])
def test_shares_are_whole_at_keyframes_and_sum_to_one(keyframes):
    found = shares(keyframes, keyframes * 5)
    assert torch.allclose(found[::5], torch.eye(keyframes), atol=1e-6)
    assert torch.allclose(found.sum(dim=1), torch.ones(keyframes * 5), atol=1e-6)


@pytest.mark.parametrize("keyframes, error", [(2, 0.014), (3, 6e-4), (4, 6e-5), (6, 1e-6)])
def test_shares_are_those_of_published_videos(keyframes, error):
    """Up to what the ends of the published five rounds change in the middle one."""
    knots, values = np.arange(-2 * keyframes, 3 * keyframes), np.tile(np.eye(keyframes), (5, 1))
    published = interp1d(knots, values, kind="cubic", axis=0)(np.arange(keyframes * 9) / 9)
    assert np.abs(shares(keyframes, keyframes * 9).numpy() - published).max() < error


def test_loop_closes_smoothly():
    """Nothing distinguishes the seam: a turned order of seeds turns the shares."""
    found = shares(4, 40)
    assert torch.allclose(found.roll((10, 1), (0, 1)), found, atol=1e-6)
    assert (found - found.roll(1, 0)).abs().max() < 0.2


# -- Takes -----------------------------------------------------------------------------------------


def test_cells_go_from_seed_to_seed(model):
    camera = views.sway(model, 8)
    found = list(takes(model, Style(psi=0.6), deal([5, 6, 7, 8], (1, 2)), camera))
    ws = model.mapping(model.latents([5, 6, 7, 8]), psi=0.6)
    for index, (scene, view) in enumerate(found):
        share = shares(2, 8)[index]
        expected = [share[0] * ws[0] + share[1] * ws[1], share[0] * ws[2] + share[1] * ws[3]]
        assert torch.allclose(scene.ws, torch.stack(expected), atol=1e-6)
        assert torch.equal(view.label(), camera[index].label())
    planes = model.scenes([6, 8], psi=0.6).planes
    assert torch.allclose(found[4][0].planes, planes, atol=1e-4 * planes.abs().max().item())


def test_backbone_runs_only_where_latents_change(model):
    still = list(takes(model, Style(cutoff=2, psi=0.3), deal([1, 2], (2, 1)), views.sway(model, 5)))
    assert len({id(scene) for scene, _ in still}) == 1
    assert torch.equal(still[0][0].ws, model.scenes([1, 2], 0.3, 2).ws)
    moving = takes(model, Style(), deal([1, 2], (1, 1)), views.sway(model, 4))
    assert len({id(scene) for scene, _ in list(moving)}) == 4


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_what_follows_the_camera(model, interpolation):
    camera = views.sway(model, 3)
    found = list(takes(model, Style(psi=0.8), deal([4], (1, 1)), camera, interpolation))
    for index, (scene, view) in enumerate(found):
        label = model.camera if interpolation == "camera" else camera[index]
        ws = model.generator.mapping(model.latents([4]), label.label(), truncation_psi=0.8)
        assert torch.equal(scene.ws, ws)
        seen = model.camera if interpolation == "conditioning" else camera[index]
        assert torch.equal(view.label(), seen.label())
    moved = (found[0][0].ws - found[1][0].ws).abs().max()
    assert (moved > 1e-3) == (interpolation != "camera")


def test_interpolations_without_effect_are_errors(model, new_generator):
    deaf = eg3d.Model.of(new_generator(c_gen_conditioning_zero=True))
    arguments = [Style(), deal([4], (1, 1)), views.sway(deaf, 3)]
    for interpolation in ("conditioning", "both"):
        with pytest.raises(InputError, match="no effect: this model ignores conditioning"):
            takes(deaf, *arguments, interpolation)
    assert len(list(takes(deaf, *arguments, "camera"))) == 3
    with pytest.raises(InputError, match="'pose': must be one of camera, conditioning, both"):
        takes(model, *arguments, "pose")
