"""The whole generator against recorded pictures, with each kind of background."""

import math

import pytest
import torch

from tests.recorded_draws import recorded_draws
from training.epigraf.cameras import label_from_angles
from training.epigraf.generator import EpigrafGenerator, published_keys
from training.views import PatchView

FOV = 12.0
RENDERING = dict(
    superresolution_module=None,
    depth_resolution=8,
    depth_resolution_importance=8,
    ray_start=0.88,
    ray_end=1.12,
    box_warp=0.4,
    disparity_space_sampling=False,
    ray_marcher="classic",
    clamp_mode="softplus",
    density_bias=0.0,
    depth_jitter="bins",
    importance_smoothing=False,
    plane_align_corners=True,
)
BACKGROUNDS = {
    "generator": dict(),
    "generator_bg_plane": dict(background="plane"),
    "generator_bg_sphere": dict(
        background="sphere",
        background_kwargs=dict(channel_base=96, channel_max=20),
        c_dim=28,
    ),
}
# Float32 itself leaves about 2e-5 with the sphere: its code has octaves up to 32 pi.
TOLERANCE = {"generator_bg_sphere": 5e-5}


def make(name, **kwargs):
    options = dict(BACKGROUNDS[name])
    sphere = options.get("background") == "sphere"
    rendering = dict(RENDERING, last_delta=1e10 if name == "generator" else 1e-3)
    rendering |= dict(background_steps=6)
    return EpigrafGenerator(
        z_dim=32,
        w_dim=32,
        img_resolution=64,
        img_channels=3,
        plane_resolution=16,
        channel_base=128,
        channel_max=16,
        mapping_kwargs=dict(num_layers=2, camera_cond=sphere, mean_camera_pose=[0, math.pi / 2, 0]),
        rendering_kwargs=dict(rendering, **kwargs),
        **{"c_dim": 25, **options},
    )


def load(G, state):
    G.load_state_dict({name: state[published_keys(name)] for name in G.state_dict()})
    return G


@pytest.fixture(params=BACKGROUNDS)
def recorded(request, conformance, state_of, monkeypatch):
    data = conformance(f"epigraf/{request.param}")
    G = load(make(request.param), state_of(data)).eval()
    with recorded_draws(monkeypatch):
        yield request.param, G, data


def label(data, fov=FOV):
    return label_from_angles(data["angles"], 1.0, fov)


def shown(G, data, **options):
    c = label(data, options.pop("fov", FOV))
    view = options.pop("view", None)
    planes = G.planes(data["ws"], noise_mode="const")
    with torch.no_grad():
        return G.render(planes, data["ws"], c, view=view, options={**G.rendering_kwargs, **options})


def test_latents(recorded, assert_scaled):
    name, G, data = recorded
    c = label_from_angles(data.get("angles_cond", data["angles"]), 1.0, FOV)
    c = torch.cat([c, data["c"]], dim=1) if "c" in data else c
    assert_scaled(G.mapping(data["z"], c), data["ws"])
    if name == "generator":
        ws = G.mapping(data["z"], c, truncation_psi=0.5, truncation_cutoff=4)
        G.rendering_kwargs |= dict(layers="all")
        image = G.synthesis(ws, c, noise_mode="const")["image"]
        assert_scaled(image[:, :, ::2, ::2], data["image_trunc"])


def test_pictures(recorded, assert_scaled):
    name, G, data = recorded
    tolerance = TOLERANCE.get(name, 1e-5)
    out = shown(G, data)
    assert_scaled(out["image"], data["image"], tolerance)
    assert_scaled(out["image_depth"], data["depth"], tolerance)
    assert torch.equal(out["image"], out["image_raw"])


def test_patches(recorded, assert_scaled):
    name, G, data = recorded
    G.train()
    view = PatchView(data["scales"], data["offsets"], 16)
    tolerance = TOLERANCE.get(name, 1e-5)
    plain = shown(G, data, view=view)["image"]
    assert_scaled(plain, data["patch_noise0"], tolerance)
    noisy = shown(G, data, view=view, density_noise=0.6)["image"]
    assert_scaled(noisy, data["patch_noise06"], tolerance)
    if name != "generator":
        behind = shown(G, data, view=view, layers="background")["image"]
        assert_scaled(behind, data["patch_bg_only"], tolerance)


def test_layers(recorded, assert_scaled):
    name, G, data = recorded
    if name == "generator":
        return
    tolerance = TOLERANCE.get(name, 1e-5)
    layers = {
        "foreground": "image_ignore_bg",
        "background": "image_bg_only",
    }
    for layer, array in layers.items():
        image = shown(G, data, layers=layer)["image"]
        assert_scaled(image[:, :, ::2, ::2], data[array], tolerance)
    last = shown(G, data, last_back=True)["image"]
    assert_scaled(last[:, :, ::2, ::2], data["image_last"], tolerance)


def test_white_light(recorded, assert_scaled):
    """The original adds white to both layers; here white light is what is behind all of them, so
    that with a background there is none. The recorded pictures are the sum of the layers."""
    name, G, data = recorded
    if name == "generator":
        box = dict(ray_start=0.75, ray_end=1.25, box_warp=0.95)
        image = shown(G, data, white_back=True, fov=30.0, **box)["image"]
        assert_scaled(image[:, :, ::2, ::2], data["image_white"])
        return
    white = shown(G, data, layers="foreground", white_back=True)["image"]
    plain = shown(G, data, layers="foreground")["image"]
    both = shown(G, data)["image"] + white - plain
    assert_scaled(both[:, :, ::2, ::2], data["image_white"], TOLERANCE.get(name, 1e-5))
    assert torch.equal(shown(G, data, white_back=True)["image"], shown(G, data)["image"])


@pytest.fixture
def plain(conformance, state_of, monkeypatch):
    data = conformance("epigraf/generator")
    G = load(make("generator"), state_of(data)).eval()
    with recorded_draws(monkeypatch):
        yield G, data


def test_other_pictures(plain, assert_scaled):
    G, data = plain
    image = shown(G, data, density_bias=-2.0, clamp_mode="relu")["image"]
    # One of 2048 pixels stands out: rounding decides whether the density of a last sample, which
    # counts for all that is farther, is above 0.
    assert_scaled(image[:, :, ::2, ::2], data["image_shift_relu"], 2e-5)
    image = shown(G, data, fov=data["fov_given"])["image"]
    assert_scaled(image[:, :, ::2, ::2], data["image_fov"])


def test_planes_and_densities(plain, assert_scaled):
    """Recorded in the published axes: x, y, z there are z, y, -x here."""
    G, data = plain
    planes = G.planes(data["ws"], noise_mode="const")
    published = planes.clone()
    published[:, 1:] = published[:, 1:].flip(-2)
    assert_scaled(published.flatten(1, 2), data["planes"])
    x, y, z = data["points"].unbind(-1)
    points = torch.stack([-z, y, x], dim=-1)
    assert_scaled(G.field(planes)(points, None)["sigma"], data["density"])
    found = G.sample_mixed(points, points, data["ws"], noise_mode="const")["sigma"]
    assert_scaled(found, data["density"])
