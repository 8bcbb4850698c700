"""Commands and viewer show the layers of a model with a background, at its full resolution."""

import numpy as np
import PIL.Image
import pytest
import torch
from click.testing import CliRunner

import gen_samples
from eg3d import pictures
from eg3d.errors import InputError
from eg3d.model import Model
from eg3d.viewer.painter import Detail, Painter, side
from eg3d.viewer.state import ViewState
from tests.training.epigraf.test_generator import RENDERING
from training.epigraf.generator import EpigrafGenerator
from training.snapshots import save_snapshot

LAYERS = ("all", "foreground", "background")


def model_of(background):
    """A model of random weights, so small that pictures of it take no time."""
    torch.manual_seed(0)
    generator = EpigrafGenerator(
        z_dim=8,
        c_dim=25,
        w_dim=8,
        img_resolution=16,
        img_channels=3,
        plane_resolution=16,
        mapping_kwargs=dict(num_layers=2),
        channel_base=128,
        channel_max=8,
        background=background,
        background_kwargs=dict(channel_base=96, channel_max=8) if background == "sphere" else None,
        rendering_kwargs=dict(
            RENDERING,
            last_delta=1e-3,
            avg_camera_radius=1.0,
            c_gen_conditioning_zero=True,
            superresolution_noise_mode="none",
        ),
    )
    return Model.of(generator.eval().requires_grad_(False))


@pytest.fixture(scope="module", params=["plane", "sphere"])
def model(request):
    return model_of(request.param)


def seen(model, **chosen):
    with torch.no_grad():
        return model.showing(**chosen).scene(1).render(model.camera)


def test_all_is_the_foreground_before_the_background(model, assert_scaled):
    whole, front, back = (seen(model, layers=layers) for layers in LAYERS)
    assert whole.image.shape == (1, 3, 16, 16) and torch.equal(whole.image, whole.raw)
    # What is left of the light behind the last sample but one is not the opacity exactly: the last
    # delta is so small that its share of the light is below a thousandth here.
    behind = (whole.image - front.image) / back.image
    assert_scaled(behind, (1 - front.opacity).expand_as(behind), tol=5e-3)
    assert back.opacity.eq(0).all() and back.depth.eq(0).all()
    assert torch.equal(seen(model).image, whole.image)


def test_shapes_know_the_range_of_colours_and_densities(model):
    """Colours of this decoder are those of pictures, from -1 to 1; densities have no bias."""
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) * 0.3 - 0.15
    with torch.no_grad():
        one = model.scene(0)
        rgb = model.generator.field(one.planes)(points, None)["rgb"]
        found = one.colors(points)
        volume = one.volume(5, border=0.0)
    assert rgb.min() < 0
    assert torch.equal(found, ((rgb + 1) / 2).clamp(0, 1))
    assert volume.density_bias == 0 and volume.clamp_mode == "softplus"


def test_a_model_without_background_leaves_no_choice():
    model = model_of("none")
    assert model.choices == {}
    with pytest.raises(InputError, match="layers 'background': this model leaves no choice"):
        model.showing(layers="background")


def test_pictures_of_the_command(model, tmp_path):
    path = tmp_path / "network.pkl"
    save_snapshot(path, {}, G=model.generator, D=None, G_ema=model.generator)
    for layers in LAYERS:
        line = [f"--network={path}", "--seeds=1", f"--outdir={tmp_path}", "--views=front"]
        done = CliRunner().invoke(gen_samples.main, [*line, "--device=cpu", f"--layers={layers}"])
        assert done.exit_code == 0, done.output
        found = np.array(PIL.Image.open(tmp_path / "seed0001.png")).astype(int)
        expected = pictures.to_uint8(seen(model, layers=layers).image)[0]
        assert np.abs(found - expected).max() <= 1


def test_viewer_shows_layers_and_has_nothing_to_super_resolve(model):
    painter, state = Painter(), ViewState(seed=1, psi=1.0)
    for layers in LAYERS:
        chosen = state.with_(chosen=(("layers", layers),))
        pixels = painter.paint(model, chosen).pixels
        assert np.array_equal(pixels, pictures.to_uint8(seen(model, layers=layers).image)[0])
    quick = Detail(0.5, 1.0, refine=False)
    assert side(model, state, quick) == 8
    assert painter.paint(model, state, quick).pixels.shape == (8, 8, 3)
