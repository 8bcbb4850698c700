"""The generated pictures of metrics: from which latents, cameras and noise."""

import pytest
import torch

from metrics.fakes import Fakes, camera_source, cameras_of, frontal_camera, generate
from metrics.options import MetricOptions, unnoticed
from metrics.samples import latents, picks, real_labels
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
