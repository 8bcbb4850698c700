"""Pictures of states against those of the library, and when planes are made anew."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from eg3d import filming, generate, pictures
from eg3d.model import Model
from eg3d.viewer import layers, viewpoint
from eg3d.viewer.painter import Detail, Painter, samples, side
from eg3d.viewer.state import ViewState


@pytest.fixture(scope="module")
def model(generator):
    return Model.of(generator)


def paint(model, painter=None, detail=Detail(), **settings):  # noqa: B008
    return (painter or Painter()).paint(model, ViewState(psi=0.8, **settings), detail)


@pytest.mark.parametrize("view", ["image", "raw", "depth", "normals"])
def test_pictures_are_those_of_the_library(model, view):
    camera = viewpoint.turned(model, ViewState(), 0.4, -0.2, radius=2.9)
    pose = tuple(camera.cam2world[0].flatten().tolist())
    found = paint(model, view=view, seed=3, camera=pose, coarse=0.5, fine=2.0, resolution=12)
    with torch.inference_mode():
        seen = filming.following(model, camera)
        scene = replace(model.scene(3, psi=0.8), generator=seen.generator)
        rendering = scene.render(camera, resolution=12, samples=(4, 12))
        expected = generate.pixels(seen, rendering, camera, view)[0]
    assert found.pixels.dtype == np.uint8 and np.array_equal(found.pixels, expected)


def test_detail_makes_it_coarser(model):
    state = ViewState(resolution=40, coarse=2.0)
    assert side(model, state) == 40 and side(model, state, Detail(0.5)) == 20
    assert samples(model, state) == (12, 6) and samples(model, state, Detail(1, 0.5)) == (6, 4)
    assert side(model, ViewState(resolution=8), Detail(0.1)) == 8
    coarse = paint(model, view="raw", detail=Detail(0.5, 1))
    assert coarse.pixels.shape == (8, 8, 3)
    # Without super-resolution it is the raw picture, enlarged, of any precision.
    for precision in (False, True):
        quick = paint(model, detail=Detail(refine=False), full_precision=precision).pixels
        raw = paint(model, view="raw", full_precision=precision).pixels
        assert quick.shape == (64, 64, 3)
        blocks = quick.reshape(16, 4, 16, 4, 3).mean((1, 3))
        assert np.abs(blocks[1:-1, 1:-1] - raw[1:-1, 1:-1]).mean() < 4
    assert type(model.generator.superresolution).__name__ == "Superresolution"


def test_tri_planes_are_norms_over_channels(model):
    pixels = paint(model, view="planes").pixels
    with torch.inference_mode():
        planes = model.scene(0, psi=0.8).planes[0]
    norms = [[[planes[p, :, y, x].norm() for x in range(16)] for p in range(3)] for y in range(16)]
    norms = torch.tensor(norms).reshape(16, 48)
    expected = (norms / norms.max() * 255).numpy()
    assert pixels.shape == (16, 48, 3)
    assert np.abs(pixels[..., 0] - expected).max() <= 1


# What planes are made of, and what they have nothing to do with.
_NEW = dict(seed=5, dx=0.5, dy=0.5, blend=0.5, psi=0.1, cutoff=2, mix_layers=(1,), noise="none")
_NEW |= dict(full_precision=True, cond_yaw=0.3)
_SAME = dict(view="depth", resolution=9, coarse=2.0, target=(0.0, 0.0, 0.0), layer_gain=3.0)


@pytest.mark.parametrize("setting", [*_NEW, *_SAME])
def test_planes_are_made_anew_when_and_only_when_they_change(model, setting):
    painter, state = Painter(), ViewState(conditioning="free")
    assert painter.paint(model, state).new_planes
    assert not painter.paint(model, state).new_planes
    changed = state.with_(**{setting: {**_NEW, **_SAME}[setting]})
    before = painter.paint(model, changed)
    assert before.new_planes == (setting in _NEW)
    # What is kept is what would be made.
    assert np.array_equal(Painter().paint(model, changed).pixels, before.pixels)
    assert not painter.paint(model, state).new_planes


def test_planes_are_made_anew_for_another_network_lens_or_view(model, new_generator):
    painter = Painter()
    follows = ViewState(conditioning="camera")
    turned = viewpoint.turned(model, follows, 0.3, 0).cam2world[0].flatten().tolist()
    assert paint(model, painter).new_planes
    other = Model.of(new_generator(seed=4))
    assert paint(other, painter).new_planes
    assert np.array_equal(paint(other, painter).pixels, paint(other).pixels)
    assert paint(model, painter, fov=25.0).new_planes  # also conditions
    painter.paint(model, follows)
    assert painter.paint(model, follows.with_(camera=tuple(turned))).new_planes
    assert paint(model, painter, cache_planes=False).new_planes


def test_random_noise_repeats_by_its_seed(model):
    with torch.no_grad():
        noisy = Model.of(model.generator)
    one = paint(noisy, noise="random", noise_seed=1).pixels
    before = torch.get_rng_state()
    assert np.array_equal(one, paint(noisy, noise="random", noise_seed=1).pixels)
    assert torch.equal(before, torch.get_rng_state())


def test_every_layer_is_found_and_shown(model):
    painter, state = Painter(), ViewState()
    found = painter.all_layers(model, state)
    names = [each.name for each in found]
    assert names[-1] == "superresolution" and "backbone.synthesis.b16.conv1" in names
    assert len(set(names)) == len(names)
    for each in (found[0], found[-1]):
        picture = painter.paint(model, state.with_(layer=each.name))
        assert picture.pixels.shape == (*each.shape[-2:], 3)
    # The last layer is the final picture, apart from how its values become bytes.
    final = painter.paint(model, state)
    assert np.abs(picture.pixels.astype(int) - final.pixels).max() <= 1
    # Nothing is left behind in the network.
    hooks = [m for m in model.generator.modules() if m._forward_hooks]
    assert hooks == []
    with pytest.raises(layers.InputError, match="no such layer"):
        painter.paint(model, state.with_(layer="nowhere"))


def test_layer_names_and_values_by_hand():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Identity()
            self.pair = Pair()

        def forward(self, x):
            return self.pair(self.inner(self.inner(x) + 1))

    class Pair(torch.nn.Module):
        def forward(self, x):
            return {"a": x * 2, "b": x[:, :, 0], "c": x[None]}

    x = torch.arange(8.0).view(1, 2, 2, 2)
    network = Twice()
    found, nothing = layers.capture(network, lambda: network(x))
    assert [each.name for each in found] == ["inner", "inner_2", "pair", "pair:1"]
    assert found[3].shape == (1, 2, 2, 2) and found[3].channels == 2 and nothing is None
    calls, values = layers.capture(network, lambda: network(x), "inner_2")
    assert torch.equal(values, x[0] + 1) and len(calls) == 2  # ended there


def test_layer_picture_by_hand():
    values = torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(0))
    state = ViewState(layer_channel=4, layer_gain=20.0, layer_normalize=True)
    pixels, statistics = layers.picture(values, state)
    shown = values[2:5]
    expected = shown / shown.abs().amax((1, 2), keepdim=True) * 10 * 127.5 + 128
    expected = expected.clamp(0, 255).byte().permute(1, 2, 0)
    assert np.array_equal(pixels, expected.numpy())
    assert statistics.mean == pytest.approx((values.mean().item(), shown.mean().item()))
    assert statistics.most == pytest.approx((values.abs().max().item(), shown.abs().max().item()))
    assert statistics.std[1] == pytest.approx(shown.numpy().std(), rel=1e-5)
    grey, _ = layers.picture(values, dataclasses.replace(state, layer_grey=True, fft=True))
    assert np.array_equal(grey[:, :6, 0], pixels[:, :, 2]) and grey.shape == (6, 12, 3)


def test_spectrum_of_a_wave_has_its_two_peaks():
    x = torch.arange(32.0)
    wave = torch.cos(2 * torch.pi * 5 * x / 32).expand(1, 32, 32) + 3
    power = layers.spectrum(wave, beta=8.0)
    peaks = {tuple(p) for p in np.argwhere(power > power.max() - 0.1)}
    assert peaks == {(16, 11), (16, 21)}
    flat = layers.spectrum(torch.ones(2, 8, 8), beta=0.0)
    assert np.isfinite(flat).all()


def test_pictures_become_bytes_as_everywhere(model):
    with torch.inference_mode():
        image = model.scene(0, psi=0.8).render(model.camera).image
    assert np.array_equal(paint(model).pixels, pictures.to_uint8(image)[0])
