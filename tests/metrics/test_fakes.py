"""The generated pictures of metrics: from which latents, cameras and noise."""

from pathlib import Path

import pytest
import torch

from metrics.fakes import (
    Fakes,
    camera_source,
    cameras_of,
    frontal_camera,
    generate,
    with_class,
)
from metrics.fixed_views import fixed_views
from metrics.options import MetricOptions, unnoticed
from metrics.samples import latents, picks, real_labels
from tests.classes import add_classes
from tests.tiny import tiny_generator
from training.cameras import Camera
from training.volumetric_rendering.draws import FixedDraws

STILL = dict(noise_mode="const", draws=FixedDraws())


def make(cars, source=Fakes(), indices=range(5), G=None, **more):  # noqa: B008
    options = MetricOptions(G or tiny_generator(), dataset_kwargs=cars, **more)
    with unnoticed(options):
        return generate(options, source, indices)


def test_pictures_are_what_the_generator_makes_of_latents_and_labels(cars):
    """One after the other, without random noise."""
    G = tiny_generator()
    labels = real_labels(MetricOptions(G, dataset_kwargs=cars))
    found = make(cars, G=G, G_kwargs=STILL, seed=5)
    for i, picture in enumerate(found):
        z = latents(range(i, i + 1), G.z_dim, 5)
        c = labels[picks(range(i, i + 1), len(labels), 5)]
        image = G(z, c, **STILL)["image"][0]
        expected = (image * 127.5 + 128).clamp(0, 255).floor()
        assert (picture.float() - expected).abs().max() <= 1  # sums of batches round differently
        assert (picture == expected).float().mean() > 0.99


def test_noise_and_jitter_are_drawn_and_repeat(cars):
    G = tiny_generator()
    G.rendering_kwargs["superresolution_noise_mode"] = "random"
    first = make(cars, G=G)
    torch.manual_seed(77)
    assert torch.equal(make(cars, G=G), first)
    assert not torch.equal(make(cars, G=G, G_kwargs=dict(draws=FixedDraws())), first)
    assert not torch.equal(make(cars, G=G, G_kwargs=dict(noise_mode="const")), first)
    assert not torch.equal(make(cars, G=G, seed=1), first)


def test_batches_of_the_detector_do_not_matter(cars):
    """As long as they are whole batches of the generator."""
    whole = make(cars, indices=range(12), batch_gen=4)
    parts = [make(cars, indices=range(k, k + 4), batch_gen=4) for k in (0, 4, 8)]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize(
    "kwargs", [dict(truncation_psi=0.3), dict(neural_rendering_resolution=4)], ids=str
)
def test_arguments_reach_the_generator(cars, kwargs):
    assert not torch.equal(make(cars, G_kwargs=STILL | kwargs), make(cars, G_kwargs=STILL))


def test_a_fixed_condition_changes_who_is_seen_not_from_where(cars):
    G = tiny_generator()
    options = MetricOptions(G, dataset_kwargs=cars, G_kwargs=STILL)
    labels = real_labels(options)
    c = labels[picks(range(1), len(labels))]
    front = frontal_camera(options, c)
    ws = G.mapping(latents(range(1), G.z_dim), front)
    expected = (G.synthesis(ws, c, **STILL)["image"] * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    found = make(cars, Fakes(condition="fixed"), range(1), G, G_kwargs=STILL)
    assert torch.equal(found, expected)
    assert not torch.equal(found, make(cars, Fakes(), range(1), G, G_kwargs=STILL))


@pytest.fixture
def classed(cars, tmp_path):
    """dataset_kwargs of the same cars, one in five of the classes 0 and 1, the others of 2."""
    path = tmp_path / "cars.zip"
    path.write_bytes(Path(cars["path"]).read_bytes())
    add_classes(path, [min(i % 5, 2) for i in range(70)])
    return dict(cars, path=str(path), use_classes=True)


def test_classes_come_as_often_as_in_the_data(classed):
    """Wherever the cameras come from: they are those of the same real pictures."""
    options = MetricOptions(tiny_generator(classes=3), dataset_kwargs=classed, cameras="ffhq")
    labels, some = real_labels(options), range(1000)
    own = labels[picks(some, 70)]
    assert torch.equal(cameras_of(options, "labels", some), own)
    drawn = cameras_of(options, "distribution", some)
    assert torch.equal(drawn[:, 25:], own[:, 25:])
    assert torch.equal(drawn[:, :25], camera_source(options).sample(some))
    front = with_class(options, some, torch.zeros(1000, 25))
    assert torch.equal(front[:, 25:], own[:, 25:]) and not front[:, :25].any()
    assert torch.equal(with_class(options, some, own), own)
    shares = own[:, 25:].mean(0)
    assert torch.allclose(shares, torch.tensor([0.2, 0.2, 0.6]), atol=0.04)


@pytest.mark.parametrize("condition", ["same", "fixed"])
def test_pictures_are_of_the_class_of_their_camera(classed, condition):
    G = tiny_generator(classes=3)
    options = MetricOptions(G, dataset_kwargs=classed, G_kwargs=STILL)
    labels = real_labels(options)
    c = labels[picks(range(3), len(labels))]
    seen_by = c[:, :25] if condition == "same" else frontal_camera(options, c).expand(3, -1)
    told = torch.cat([seen_by, c[:, 25:]], dim=1)
    ws = G.mapping(latents(range(3), G.z_dim), told)
    expected = (G.synthesis(ws, c, **STILL)["image"] * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    found = make(classed, Fakes(condition=condition), range(3), G, G_kwargs=STILL)
    assert torch.equal(found, expected)
    look = fixed_views(options, range(3), told[:, :25])
    assert torch.equal(look(c)["image_raw"], fixed_views(options, range(3), told)(c)["image_raw"])


def test_the_frontal_camera_is_in_front(cars):
    options = MetricOptions(tiny_generator(), dataset_kwargs=cars)
    like = real_labels(options)
    camera = Camera.from_label(frontal_camera(options, like))
    assert camera.cam2world[0, :3, 3].tolist() == pytest.approx([0, 0, 2.7])
    towards = torch.tensor([0, 0, 0.2]) - camera.cam2world[0, :3, 3]
    assert torch.allclose(camera.cam2world[0, :3, 2], towards / towards.norm())
    assert torch.equal(camera.intrinsics[0], like[0, 16:].reshape(3, 3))


def test_cameras_from_a_distribution(cars):
    options = MetricOptions(tiny_generator(), dataset_kwargs=cars, cameras="ffhq")
    found = cameras_of(options, "distribution", range(6))
    assert torch.equal(found, camera_source(options).sample(range(6)))
    assert camera_source(options).name == "ffhq"
    pictures = make(cars, Fakes("distribution"), G_kwargs=STILL, cameras="ffhq")
    assert not torch.equal(pictures, make(cars, G_kwargs=STILL))
