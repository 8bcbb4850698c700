"""Styles: from seeds to latents, scenes and pictures."""

import pytest
import torch

import eg3d
from eg3d import generate, latents, pictures, views
from eg3d.errors import InputError
from eg3d.generate import Mix, Style
from training.surfaces import normal_picture
from training.volumetric_rendering.draws import RandomDraws


@pytest.fixture
def model(generator):
    return eg3d.Model.of(generator)


def test_every_seed_is_mixed_with_every_other_one(model):
    style = Style(psi=0.6, cutoff=4, mix=Mix((7, 8, 9), (0, 5)))
    side = views.turned(model, [(0.5, 0.0)])
    for camera in (None, side):
        ws = style.latents(model, [1, 2], camera)
        own, other = (
            model.mapping(model.latents(seeds), camera, 0.6, 4) for seeds in ([1, 2], [7, 8, 9])
        )
        for n in range(2):
            for m in range(3):
                expected = own[n].clone()
                expected[[0, 5]] = other[m][[0, 5]]
                assert torch.allclose(ws[3 * n + m], expected, atol=1e-6)


def test_class_of_seeds(new_generator):
    """Each seed has its own, those that are mixed too; or all have the one that is asked for."""
    model = eg3d.Model.of(new_generator(classes=3))
    mix = Mix((4,), (0,))
    drawn = model.classes([0, 1, 2, 4])
    assert len(set(drawn)) > 1

    def expected(*classes):
        own, other = classes[:3], classes[3:]
        ws = model.mapping(model.latents([0, 1, 2]), classes=own)
        return latents.mix(ws, model.mapping(model.latents([4]), classes=other), mix.layers)

    assert torch.allclose(Style(mix=mix).latents(model, [0, 1, 2]), expected(*drawn), atol=1e-6)
    one = Style(mix=mix, class_index=2).latents(model, [0, 1, 2])
    assert torch.allclose(one, expected(2, 2, 2, 2), atol=1e-6)
    with pytest.raises(InputError, match="class 3: this model has classes 0 to 2"):
        Style(class_index=3).check(model)


def test_numbers_of_given_latents(model):
    given = torch.randn(3, 1, 16)
    ws = Style(projected=given).latents(model, [2, 0])
    assert torch.equal(ws, given[[2, 0]].expand(2, 6, 16))


def test_names(model):
    styles = [Style(), Style(mix=Mix((7, 12345), (0,))), Style(projected=torch.randn(5, 6, 16))]
    names = [[name for name, _ in generate.named_scenes(model, s, [0, 3])] for s in styles]
    assert names[0] == ["seed0000", "seed0003"] and names[2] == ["projected0000", "projected0003"]
    assert names[1] == [f"seed000{i}_mix{j}" for i in (0, 3) for j in ("0007", "12345")]
    for (_, scene), ws in zip(
        generate.named_scenes(model, styles[1], [0, 3]),
        styles[1].latents(model, [0, 3]),
        strict=True,
    ):
        assert torch.allclose(scene.ws[0], ws, atol=1e-6)


def test_jitter(model):
    scene = model.scene(0)
    fixed = Style(samples=2, resolution=12).rendering(scene, model.camera)
    assert torch.equal(fixed.raw, scene.render(model.camera, 12, samples=2).raw)
    torch.manual_seed(5)
    found = Style(jitter="random").rendering(scene, model.camera).raw
    torch.manual_seed(5)
    assert torch.equal(found, scene.render(model.camera, draws=RandomDraws()).raw)
    assert not torch.equal(found, scene.render(model.camera).raw)


def test_pixels(model):
    scenes, camera = model.scenes([0, 1]), views.turned(model, [(0.4, -0.1)])
    seen = scenes.render(camera)
    expected = {"image": pictures.to_uint8(seen.image), "raw": pictures.to_uint8(seen.raw)}
    expected["depth"] = pictures.depth_to_uint8(seen.depth, *model.depth_range)
    each = [
        normal_picture(seen.depth[i : i + 1], seen.opacity[i : i + 1], camera) for i in range(2)
    ]
    expected["normals"] = pictures.to_uint8(torch.cat(each))
    assert set(expected) == set(generate.PANELS)
    for panel, picture in expected.items():
        found = generate.pixels(model, seen, camera, panel)
        assert (found == picture).all() and found.std() > 2, panel


def test_what_does_not_go_with_the_model(model):
    Style(mix=Mix((1,), (5,)), projected=torch.zeros(2, 1, 16), samples=0.7).check(model)
    for style, words in (
        (Style(samples=0.1), "0.1 times the model's samples"),
        (Style(mix=Mix((1,), (2, 6))), "mixed layer 6: the model has layers 0 to 5"),
        (Style(projected=torch.zeros(2, 6, 17)), r"must be \[N, 6, 16\]"),
    ):
        with pytest.raises(InputError, match=words):
            style.check(model)
