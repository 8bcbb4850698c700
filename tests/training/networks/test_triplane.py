"""The whole generator against recorded pictures and its own promises."""

import copy
import pickle

import numpy as np
import pytest
import torch

from training.triplane import OSGDecoder, TriPlaneGenerator
from training.volumetric_rendering.draws import FixedDraws, GivenDraws


def test_recorded_generator(conformance, state_of, assert_scaled, small_generator):
    recorded = conformance("generator")
    network = TriPlaneGenerator(
        z_dim=32,
        c_dim=25,
        w_dim=512,
        img_resolution=128,
        img_channels=3,
        mapping_kwargs=dict(num_layers=2),
        channel_base=1024,
        channel_max=16,
        num_fp16_res=0,
        sr_num_fp16_res=0,
        rendering_kwargs=dict(
            small_generator().rendering_kwargs,
            superresolution_module="training.superresolution.SuperresolutionHybrid2X",
            depth_resolution=12,
            depth_resolution_importance=12,
        ),
    )
    network.load_state_dict(state_of(recorded))
    network.eval().requires_grad_(False)
    c = recorded["c"]
    ws = network.mapping(recorded["z"], c, truncation_psi=0.7, truncation_cutoff=14)
    assert_scaled(ws, recorded["ws"])
    draws = GivenDraws(torch.tensor(0.5), torch.linspace(0.02, 0.98, 12))
    options = dict(neural_rendering_resolution=32, noise_mode="const", draws=draws)
    pictures = network.synthesis(ws, c, **options)
    for name in ("image", "image_raw", "image_depth"):
        assert_scaled(pictures[name], recorded[name])
    points = torch.linspace(-0.5, 0.5, 60).reshape(1, 20, 3).expand(2, -1, -1)
    field = network.sample_mixed(points, torch.zeros_like(points), ws, noise_mode="const")
    for name in ("sigma", "rgb"):
        assert_scaled(field[name], recorded[name])


def latents_and_cameras(network, cameras, n=2):
    return network.mapping(torch.randn(n, 8), cameras(n)), cameras(n)


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_shapes_of_the_answer(small_generator, camera_labels):
    network = small_generator()
    pictures = network(
        torch.randn(2, 8), camera_labels(2), neural_rendering_resolution=20, noise_mode="const"
    )
    assert {name: tuple(p.shape) for name, p in pictures.items()} == {
        "image": (2, 3, 64, 64),
        "image_raw": (2, 3, 20, 20),
        "image_depth": (2, 1, 20, 20),
        "image_opacity": (2, 1, 20, 20),
        "image_features": (2, 32, 20, 20),
    }
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in pictures.values())


def test_forward_is_mapping_and_synthesis(small_generator, camera_labels):
    network, z, c = small_generator(), torch.randn(2, 8), camera_labels(2)
    network.backbone.mapping.w_avg.normal_()
    options = dict(noise_mode="const", draws=FixedDraws())
    ws = network.mapping(z, c, truncation_psi=0.5, truncation_cutoff=3)
    expected = network.synthesis(ws, c, **options)
    assert same(network(z, c, truncation_psi=0.5, truncation_cutoff=3, **options), expected)
    points = torch.rand(2, 9, 3) - 0.5
    field = network.sample(points, points, z, c, 0.5, 3, noise_mode="const")
    assert same(field, network.sample_mixed(points, points, ws, noise_mode="const"))


def test_order_of_pixels(small_generator, camera_labels):
    """Pixel (row, column) of the depth picture is ray row * side + column."""
    network = small_generator()
    ws, c = latents_and_cameras(network, camera_labels, n=1)
    options = dict(noise_mode="const", draws=FixedDraws())
    rays = []
    network.renderer.register_forward_hook(lambda *args: rays.append(args[-1]))
    pictures = network.synthesis(ws, c, neural_rendering_resolution=6, **options)
    features, depth, opacity = rays[0]
    for row, column in [(0, 0), (0, 5), (4, 1)]:
        assert pictures["image_depth"][0, 0, row, column] == depth[0, 6 * row + column, 0]
        assert pictures["image_opacity"][0, 0, row, column] == opacity[0, 6 * row + column, 0]


def test_rendering_resolution_is_not_remembered(small_generator, camera_labels):
    network = small_generator()
    ws, c = latents_and_cameras(network, camera_labels, n=1)
    options = dict(noise_mode="const", draws=FixedDraws())
    assert network.neural_rendering_resolution == 64
    assert network.synthesis(ws, c, 12, **options)["image_raw"].shape[-1] == 12
    assert network.neural_rendering_resolution == 64
    network.neural_rendering_resolution = 10
    assert network.synthesis(ws, c, **options)["image_raw"].shape[-1] == 10


def test_cached_planes(small_generator, camera_labels):
    network = small_generator().requires_grad_(True)
    ws, c = latents_and_cameras(network, camera_labels)
    options = dict(neural_rendering_resolution=8, noise_mode="const", draws=FixedDraws())
    expected = network.synthesis(ws, c, cache_backbone=True, **options)
    cached = network._last_planes
    assert cached.shape == (2, 96, 32, 32) and not cached.requires_grad
    assert torch.equal(cached, network.backbone.synthesis(ws, noise_mode="const"))
    called = []
    hook = network.backbone.synthesis.register_forward_hook(lambda *args: called.append(1))
    assert same(network.synthesis(ws, c, use_cached_backbone=True, **options), expected)
    assert not called
    network._last_planes = torch.zeros_like(cached)
    empty = network.synthesis(ws, c, use_cached_backbone=True, **options)["image_raw"]
    assert not torch.equal(empty, expected["image_raw"])
    assert same(network.synthesis(ws, c, **options), expected) and called
    hook.remove()
    network._last_planes = cached
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert other._last_planes is None
    assert network._last_planes is cached
    cached_size = cached.numel() * cached.element_size()
    network._last_planes = cached.repeat(8, 1, 1, 1)
    size = len(pickle.dumps(network))
    network._last_planes = None
    assert abs(size - len(pickle.dumps(network))) < cached_size


@pytest.mark.parametrize("resolution", [64, 32])
def test_raw_picture_and_its_gradients(small_generator, camera_labels, resolution):
    """Where the first block keeps the resolution, image_raw includes that block's colours."""
    network = small_generator().requires_grad_(True)
    ws, c = latents_and_cameras(network, camera_labels)
    options = dict(neural_rendering_resolution=resolution, noise_mode="const", draws=FixedDraws())
    rendered = []
    network.renderer.register_forward_hook(lambda *args: rendered.append(args[-1][0]))
    pictures = network.synthesis(ws, c, **options)
    plain = rendered[0].transpose(1, 2)[:, :3].reshape(2, 3, resolution, resolution)
    adds = network.superresolution.input_resolution == resolution
    assert torch.equal(pictures["image_raw"], plain) == (not adds)
    sum(p.square().mean() for p in pictures.values()).backward()
    missing = {name for name, p in network.named_parameters() if p.grad is None}
    # Super-resolution runs without noise; the mapping's own gradients arrive through ws.
    assert missing == {
        f"superresolution.block{b}.conv{i}.noise_strength" for b in (0, 1) for i in (0, 1)
    }


def test_shapenet_module_adds_its_colours(small_generator, camera_labels):
    network = small_generator("Hybrid2X", resolution=128, arguments=dict(w_dim=512))
    z, c = torch.randn(1, 8), camera_labels(1)
    rendered = []
    network.renderer.register_forward_hook(lambda *args: rendered.append(args[-1][0]))
    raw = network(z, c, neural_rendering_resolution=64)["image_raw"]
    x = rendered[0].transpose(1, 2).reshape(1, 32, 64, 64)
    ws = network.mapping(z, c)[:, -1:].repeat(1, 3, 1)
    _, colours = network.superresolution.block0(x, None, ws, noise_mode="none")
    torch.testing.assert_close(raw, x[:, :3] + colours)


def test_conditioning(small_generator, camera_labels):
    z = torch.randn(1, 8)
    first, second = camera_labels(2).split(1)
    network = small_generator()
    assert not torch.equal(network.mapping(z, first), network.mapping(z, second))
    scaled = network.mapping(z, 2 * first)
    network.rendering_kwargs["c_scale"] = 2
    assert torch.equal(network.mapping(z, first), scaled)
    del network.rendering_kwargs["c_scale"]
    off = network.mapping(z, first)
    assert torch.equal(off, network.mapping(z, second))
    blind = small_generator(c_gen_conditioning_zero=True)
    blind.load_state_dict(network.state_dict())
    assert torch.equal(blind.mapping(z, second), off)
    assert torch.equal(network.mapping(z.double(), first.double()), off)


@pytest.mark.parametrize("call", ["synthesis", "sample_mixed"])
def test_unknown_option(small_generator, camera_labels, call):
    network = small_generator()
    ws, c = latents_and_cameras(network, camera_labels, n=1)
    positional = (ws, c) if call == "synthesis" else (torch.zeros(1, 2, 3),) * 2 + (ws,)
    with pytest.raises(TypeError, match="nois_mode"):
        getattr(network, call)(*positional, nois_mode="const")


def test_noise_modes(small_generator, camera_labels):
    network = small_generator(superresolution_noise_mode="const")
    for name, strength in network.named_parameters():
        if name.endswith("noise_strength"):
            strength.data.fill_(0.3)
    ws, c = latents_and_cameras(network, camera_labels, n=1)
    options = dict(neural_rendering_resolution=16, draws=FixedDraws())
    fixed = network.synthesis(ws, c, noise_mode="const", **options)
    assert same(network.synthesis(ws, c, noise_mode="const", **options), fixed)
    first, second = (network.synthesis(ws, c, **options)["image"] for _ in range(2))
    assert not torch.equal(first, second)  # 'random' is the default
    silent = network.synthesis(ws, c, noise_mode="none", **options)["image"]
    assert not torch.equal(silent, fixed["image"])
    # The super-resolution has its own mode, whatever the backbone's is.
    network.rendering_kwargs["superresolution_noise_mode"] = "none"
    quiet = network.synthesis(ws, c, noise_mode="const", **options)
    assert torch.equal(quiet["image_depth"], fixed["image_depth"])
    assert not torch.equal(quiet["image"], fixed["image"])


def test_half_precision_flags(small_generator, camera_labels):
    """On the CPU marked blocks give the same as `force_fp32` and as unmarked ones."""
    arguments = dict(sr_num_fp16_res=4)
    marked, plain = small_generator(arguments=arguments), small_generator()
    plain.load_state_dict(marked.state_dict())
    assert marked.superresolution.block0.use_fp16
    ws, c = latents_and_cameras(marked, camera_labels)
    options = dict(neural_rendering_resolution=8, noise_mode="const", draws=FixedDraws())
    expected = plain.synthesis(ws, c, **options)
    assert same(marked.synthesis(ws, c, **options), expected)
    assert same(marked.synthesis(ws, c, force_fp32=True, **options), expected)


def test_mean_of_latents_is_tracked_on_request(small_generator, camera_labels):
    network, z, c = small_generator(), torch.randn(4, 8), camera_labels(4)
    tracked = network.backbone.mapping.w_avg
    network(z, c, neural_rendering_resolution=4)
    assert tracked.abs().max() == 0
    network(z, c, neural_rendering_resolution=4, update_emas=True)
    expected = (1 - 0.998) * network.mapping(z, c)[:, 0].mean(dim=0)
    torch.testing.assert_close(tracked, expected, rtol=1e-4, atol=1e-7)


def test_plane_axes(small_generator, camera_labels):
    legacy, orthogonal = small_generator(), small_generator(plane_axes="orthogonal")
    orthogonal.load_state_dict(legacy.state_dict())
    ws, c = latents_and_cameras(legacy, camera_labels, n=1)
    points = torch.rand(1, 50, 3) - 0.5
    fields = {}
    for name, network in [("legacy", legacy), ("orthogonal", orthogonal)]:
        planes = network.planes(ws, noise_mode="const")
        field = network.sample_mixed(points, points, ws, noise_mode="const")
        # The meaning of the axes, one plane at a time: legacy (x,y), (x,z), (z,x).
        orders = {"legacy": "xy xz zx", "orthogonal": "xy xz zy"}[name].split()
        grids = [points[..., ["xyz".index(axis) for axis in order]] for order in orders]
        looked_up = [
            torch.nn.functional.grid_sample(planes[:, i], 2 * grid[:, None], align_corners=False)
            for i, grid in enumerate(grids)
        ]
        features = torch.stack([x[:, :, 0].transpose(1, 2) for x in looked_up], dim=1)
        expected = network.decoder(features)
        torch.testing.assert_close(field["sigma"], expected["sigma"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(field["rgb"], expected["rgb"], rtol=1e-4, atol=1e-5)
        fields[name] = field["sigma"]
        for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            again = twin.sample_mixed(points, points, ws, noise_mode="const")
            assert same(again, field)
            assert torch.equal(twin.renderer.plane_axes, network.renderer.plane_axes)
    assert (fields["legacy"] - fields["orthogonal"]).abs().max() > 0.01
    with pytest.raises(ValueError, match="plane_axes"):
        small_generator(plane_axes="diagonal")


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_exact(small_generator, camera_labels, twin):
    network = small_generator()
    network.neural_rendering_resolution = 12
    network.rendering_kwargs["ray_start"] = 2.0  # after construction
    other = twin(network)
    assert other.rendering_kwargs == network.rendering_kwargs
    assert other.neural_rendering_resolution == 12
    assert other.init_kwargs["rendering_kwargs"]["ray_start"] == 2.25
    assert isinstance(other, TriPlaneGenerator) and isinstance(other.decoder, OSGDecoder)
    z, c = torch.randn(2, 8), camera_labels(2)
    options = dict(noise_mode="const", draws=FixedDraws())
    expected = network(z, c, **options)
    assert same(other(z, c, **options), expected)
    other.rendering_kwargs["ray_start"] = 2.6
    assert network.rendering_kwargs["ray_start"] == 2.0
    assert same(network(z, c, **options), expected)


def test_deepcopy_after_backward_with_a_cache(small_generator, camera_labels):
    network = small_generator().requires_grad_(True)
    ws, c = latents_and_cameras(network, camera_labels, n=1)
    network.synthesis(ws, c, 8, cache_backbone=True)["image"].sum().backward()
    other = copy.deepcopy(network)
    assert same(other.state_dict(), network.state_dict())


@pytest.mark.parametrize("name", ["HybridDeepfp32", "Hybrid4X"])
def test_module_for_256_pixels(small_generator, camera_labels, name):
    """Renderings above 128 are reduced first; the old module takes part in spite of its age."""
    network = small_generator(name, resolution=256, arguments=dict(w_dim=512))
    z, c = torch.randn(1, 8), camera_labels(1)
    for side in (20, 140):
        picture = network(z, c, neural_rendering_resolution=side)["image"]
        assert picture.shape == (1, 3, 256, 256) and picture.isfinite().all()


def test_decoder_by_hand():
    decoder = OSGDecoder(3, dict(decoder_lr_mul=0.5, decoder_output_dim=2))
    for tensor in decoder.parameters():
        tensor.data.normal_()
    features = torch.randn(2, 3, 5, 3)
    answer = decoder(features, None)
    first, second = decoder.net[0], decoder.net[2]
    for n, p in [(0, 0), (1, 4)]:
        x = features[n, :, p].mean(dim=0)
        x = torch.nn.functional.softplus(first.weight @ x * (0.5 / np.sqrt(3)) + 0.5 * first.bias)
        x = second.weight @ x * (0.5 / np.sqrt(64)) + 0.5 * second.bias
        torch.testing.assert_close(answer["sigma"][n, p], x[:1], rtol=1e-4, atol=1e-5)
        rgb = 1 / (1 + torch.exp(-x[1:])) * 1.002 - 0.001
        torch.testing.assert_close(answer["rgb"][n, p], rgb, rtol=1e-4, atol=1e-5)


def test_bad_arguments(small_generator):
    with pytest.raises(ValueError, match="c_dim must be 25"):
        small_generator(arguments=dict(c_dim=3))
    with pytest.raises(ValueError, match=r"camera labels have shape \(1, 16\)"):
        network = small_generator()
        network.synthesis(torch.randn(1, network.backbone.num_ws, 16), torch.randn(1, 16))
