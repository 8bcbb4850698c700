"""Discriminators against recorded logits and gradients, loops, and the published layouts."""

import copy
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from torch_utils.ops import upfirdn2d
from training.dual_discriminator import (
    DualDiscriminator,
    DummyDualDiscriminator,
    SingleDiscriminator,
    filtered_resizing,
)
from training.networks_stylegan2 import Discriminator, DiscriminatorBlock, MinibatchStdLayer

LAYOUTS = Path(__file__).parents[2] / "data" / "state_dict"
COUNTS = {  # keys, parameter tensors, parameters, buffers, numbers in them
    "ffhq512": (92, 61, 31_359_744, 31, 496),
    "256": (83, 56, 31_241_216, 27, 432),
    "shapenet128": (74, 51, 30_766_592, 23, 368),
}
FIRST_NUMBERS = {  # of layers made right after torch.manual_seed(0)
    "ffhq512": {
        "b512.fromrgb": -1.125840,
        "b8.skip": 1.441558,
        "mapping.embed": 0.318833,
        "mapping.fc7": -17.144651,
        "b4.conv": 0.247283,
        "b4.out": 0.761333,
    },
    "shapenet128": {
        "b128.fromrgb": -1.125840,
        "b8.skip": -0.055146,
        "mapping.embed": 1.545101,
        "mapping.fc7": 30.238728,
        "b4.conv": 0.762161,
        "b4.out": -0.153676,
    },
}
LOGITS = {
    "ffhq512": [-0.0730495, -0.0440776, 0.0147674, 0.0184080],
    "shapenet128": [-0.1096990, -0.0664263, 0.0003710, -0.0262113],
}


def small(cls=DualDiscriminator, resolution=16, c_dim=25, **options):
    widths = dict(channel_base=64, channel_max=8, epilogue_kwargs=dict(mbstd_group_size=2))
    return cls(c_dim, resolution, 3, **{**widths, **options}).eval()


def pictures(n=4, resolution=16, raw=8):
    return dict(
        image=torch.randn(n, 3, resolution, resolution), image_raw=torch.randn(n, 3, raw, raw)
    )


def test_recorded_logits_and_gradients(conformance, state_of, assert_scaled):
    recorded = conformance("dual_discriminator")
    network = small(resolution=64, channel_base=512, channel_max=16, num_fp16_res=0).requires_grad_(
        True
    )
    network.load_state_dict(state_of(recorded))
    names = ("image", "image_raw")
    inputs = {name: recorded[name].requires_grad_(True) for name in names}
    logits = network(inputs, recorded["c"])
    assert_scaled(logits, recorded["logits"])
    grads = torch.autograd.grad(logits.sum(), list(inputs.values()), create_graph=True)
    for name, grad in zip(names, grads, strict=True):
        assert_scaled(grad, recorded[f"grad_{name}"])
    r1 = sum(grad.square().sum(dim=(1, 2, 3)) for grad in grads)
    assert_scaled(r1, recorded["r1"])
    (second,) = torch.autograd.grad(r1.mean(), network.b64.fromrgb.weight)
    assert_scaled(second, recorded["grad_r1_fromrgb"])


@pytest.fixture(scope="module", params=COUNTS)
def published(request, published_discriminator):
    return request.param, published_discriminator(request.param)


def test_published_layout(published, assert_layout):
    name, network = published
    file = LAYOUTS / f"{name}_D.json"
    layout = json.loads(file.read_text()) if file.exists() else None
    assert_layout(network, layout, COUNTS[name])
    for key, value in FIRST_NUMBERS.get(name, {}).items():
        first = network.get_parameter(f"{key}.weight").flatten()[0].item()
        assert first == pytest.approx(value, abs=1e-6)
    half = {res for res in network.block_resolutions if getattr(network, f"b{res}").use_fp16}
    assert half == set(network.block_resolutions[:4])


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGITS)
def test_logits_of_deterministic_weights(
    name, published_discriminator, fill_by_name, camera_labels, normal_numbers
):
    network = fill_by_name(published_discriminator(name))
    side = network.img_resolution
    image = normal_numbers(4, 4, 3, side, side).clamp(-1, 1).requires_grad_(True)
    raw = normal_numbers(5, 4, 3, 64, 64).clamp(-1, 1).requires_grad_(True)
    logits = network(dict(image=image, image_raw=raw), camera_labels(4))
    torch.testing.assert_close(logits.flatten(), torch.tensor(LOGITS[name]), rtol=0, atol=3e-6)
    if name == "shapenet128":
        grads = torch.autograd.grad(logits.sum(), [image, raw])
        r1 = torch.stack([grad.square().sum(dim=(1, 2, 3)) for grad in grads])
        recorded = [
            [6.50169e-5, 6.81303e-5, 7.94517e-5, 8.46005e-5],
            [1.31907e-4, 1.44816e-4, 1.49079e-4, 1.95063e-4],
        ]
        torch.testing.assert_close(r1, torch.tensor(recorded), rtol=1e-5, atol=0)


@pytest.mark.parametrize("mode", ["antialiased", "classic", "none", 0.3])
def test_filtered_resizing_recorded(conformance, assert_scaled, mode):
    x = torch.sin(torch.linspace(-1, 1, 3 * 32 * 32)).reshape(1, 3, 32, 32)
    y = filtered_resizing(x, size=16, f=upfirdn2d.setup_filter([1, 3, 3, 1]), filter_mode=mode)
    assert_scaled(y, conformance("filtered_resizing")[f"y_{mode}"])


def test_filtered_resizing_ends_of_the_blend():
    x, f = torch.randn(2, 3, 16, 16), upfirdn2d.setup_filter([1, 3, 3, 1])
    for number, name in [(0, "none"), (1, "antialiased"), (1.0, "antialiased")]:
        torch.testing.assert_close(
            filtered_resizing(x, 6, f, number), filtered_resizing(x, 6, f, name)
        )
    assert torch.equal(filtered_resizing(x, 16, f), x)
    assert (filtered_resizing(x, 6, f) - filtered_resizing(x, 6, f, "none")).abs().max() > 0.1
    for wrong in ("bicubic", 1.5, -0.1, None):
        with pytest.raises(ValueError, match="filter_mode must be antialiased, classic, none"):
            filtered_resizing(x, 6, f, wrong)


def slow_minibatch_std(x, group, channels):
    n, width = x.shape[0], x.shape[1] // channels
    extra = torch.empty(n, channels, *x.shape[2:])
    for i in range(n):
        members = [x[j] for j in range(n) if j % (n // group) == i % (n // group)]
        for f in range(channels):
            part = torch.stack([m[f * width : (f + 1) * width] for m in members]).double()
            deviation = ((part - part.mean(dim=0)) ** 2).mean(dim=0)
            extra[i, f] = (deviation + 1e-8).sqrt().mean()
    return torch.cat([x, extra], dim=1)


@pytest.mark.parametrize("n, group, channels", [(6, 2, 1), (6, 3, 2), (4, None, 1), (2, 4, 1)])
def test_minibatch_std(n, group, channels):
    x = torch.randn(n, 4, 3, 2)
    expected = slow_minibatch_std(x, min(group or n, n), channels)
    torch.testing.assert_close(MinibatchStdLayer(group, channels)(x), expected)


def test_minibatch_std_by_hand():
    n, c = torch.meshgrid(torch.arange(4.0), torch.arange(2.0), indexing="ij")
    x = ((2 * n + c) ** 2 / 10)[:, :, None, None]
    appended = MinibatchStdLayer(2)(x)[:, 2].flatten()
    torch.testing.assert_close(appended, torch.tensor([1.0, 1.8, 1.0, 1.8]))
    with pytest.raises(ValueError, match="a batch of 4 does not divide into groups of 3"):
        MinibatchStdLayer(3)(x)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_architectures(architecture):
    network = small(architecture=architecture)
    names = {name.split(".")[1] for name in network.state_dict() if name.startswith("b8.")}
    extra = {"orig": set(), "skip": {"fromrgb"}, "resnet": {"skip"}}[architecture]
    assert names == {"conv0", "conv1", "resample_filter"} | extra
    assert hasattr(network.b4, "fromrgb") == (architecture == "skip")
    inputs = pictures()
    inputs["image"].requires_grad_(True)
    logits = network(inputs, torch.randn(4, 25))
    assert logits.shape == (4, 1) and logits.dtype == torch.float32
    logits.sum().backward()
    assert inputs["image"].grad.abs().amax(dim=(1, 2, 3)).min() > 0
    with pytest.raises(ValueError, match="architecture must be orig, skip or resnet"):
        small(architecture="unet")


def test_residual_block(assert_scaled):
    block = DiscriminatorBlock(3, 3, 4, 8, 6, first_layer_idx=0, conv_clamp=0.5).eval()
    block.conv1.bias.data.fill_(1)
    x = torch.randn(2, 3, 8, 8)
    y, img = block(x, None)
    straight = block.conv1(block.conv0(x))
    assert straight.abs().max().item() == pytest.approx(0.5)
    assert img is None
    assert_scaled(y, (block.skip(x) + straight) / math.sqrt(2))
    with pytest.raises(ValueError, match="in_channels must be 0 or 3, not 2"):
        DiscriminatorBlock(2, 3, 4, 8, 6, first_layer_idx=0)


def test_raw_picture_is_enlarged_with_antialiasing(assert_scaled):
    network, inputs, c = small(), pictures(raw=24), torch.randn(4, 25)
    raw = F.interpolate(inputs["image_raw"], (16, 16), mode="bilinear", antialias=True)
    stacked = torch.cat([inputs["image"], raw], dim=1)
    assert_scaled(network(inputs, c), Discriminator.forward(network, stacked, c))


def test_projection_on_the_label(assert_scaled):
    network, c = small(), torch.randn(4, 25)
    before = []
    network.b4.out.register_forward_hook(lambda *args: before.append(args[-1]))
    logits = network(pictures(), c)
    label = network.mapping(None, c)
    assert label.shape == (4, 8)
    products = [sum(before[0][i, j] * label[i, j] for j in range(8)) for i in range(4)]
    assert_scaled(logits[:, 0], torch.stack(products) / math.sqrt(8))


def test_unconditional():
    network = Discriminator(0, 16, 3, channel_base=64, channel_max=8)
    assert network(torch.randn(4, 3, 16, 16), None).shape == (4, 1)
    assert not hasattr(network, "mapping") and network.b4.out.weight.shape[0] == 1


def test_noise_on_the_label():
    network, inputs, c = small(disc_c_noise=1.0), pictures(), torch.randn(4, 25)
    given = c.clone()
    noisy = network(inputs, given)
    assert torch.equal(given, c)
    assert not torch.equal(noisy, network(inputs, c))
    single = {name: x[:1] for name, x in inputs.items()}
    assert network(single, c[:1]).isfinite().all()
    # A label that is the same in the whole batch has no deviation, and gets no noise.
    same = c[:1].expand(4, -1)
    assert torch.equal(network(inputs, same), network(inputs, same))


def test_size_of_the_label_noise(monkeypatch):
    network, inputs = small(disc_c_noise=0.5), pictures()
    seen = []
    network.mapping.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    c = torch.randn(4, 25)
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.full_like(x, 2.0))
    network(inputs, c)
    torch.testing.assert_close(seen[0], c + c.std(dim=0))


def test_noise_is_on_cameras_and_not_on_classes():
    c = torch.cat([torch.randn(4, 25), torch.eye(3)[[0, 1, 2, 0]]], dim=1)
    network, seen = small(c_dim=28, disc_c_noise=0.5), []
    network.mapping.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    network(pictures(), c)
    assert torch.equal(seen[0][:, 25:], c[:, 25:])
    assert (seen[0][:, :25] != c[:, :25]).all()


@pytest.mark.parametrize("cls", [DummyDualDiscriminator, SingleDiscriminator])
def test_other_discriminators_accept_the_options_of_training(cls):
    network, inputs, c = small(cls, disc_c_noise=0.5), pictures(), torch.randn(4, 25)
    assert network(inputs, c).shape == (4, 1)
    channels = {DummyDualDiscriminator: 6, SingleDiscriminator: 3}[cls]
    assert network.b16.fromrgb.weight.shape[1] == network.img_channels == channels
    assert ("resample_filter" in network.state_dict()) == (channels == 6)


def test_single_ignores_the_raw_picture():
    network = small(SingleDiscriminator, sr_upsample_factor=2)
    inputs, c = pictures(), torch.randn(4, 25)
    other = dict(inputs, image_raw=torch.zeros(1))
    assert torch.equal(network(inputs, c), network(other, c))
    full = SingleDiscriminator(25, 128, 3)
    assert sum(p.numel() for p in full.parameters()) == 30_765_824


def test_dummy_fades_the_raw_picture_out(assert_scaled):
    network, plain = small(DummyDualDiscriminator), small()
    plain.load_state_dict(network.state_dict())
    inputs, c = pictures(), torch.randn(4, 25)
    network.raw_fade = 0.5
    logits = network(inputs, c)
    assert network.raw_fade == pytest.approx(0.5 - 32 / 500000)
    scaled = dict(inputs, image_raw=inputs["image_raw"] * network.raw_fade)
    assert_scaled(logits, plain(scaled, c))
    network.raw_fade = 1e-6
    network(inputs, c)
    assert network.raw_fade == 0


def test_frozen_layers_become_buffers():
    layers = ["b16.fromrgb", "b16.conv0", "b16.conv1", "b16.skip", "b8.conv0", "b8.conv1"]
    free = small()
    for count in (0, 1, 5):
        network = small(block_kwargs=dict(freeze_layers=count))
        assert network.state_dict().keys() == free.state_dict().keys()
        trained = dict(network.named_parameters())
        assert [f"{name}.weight" in trained for name in layers] == [
            i >= count for i in range(len(layers))
        ]
        assert ("b16.fromrgb.bias" in trained) == (count == 0)
        network.load_state_dict(free.state_dict())
        network(pictures(), torch.randn(4, 25)).sum().backward()


def test_half_precision_blocks_on_the_cpu():
    """Marked blocks compute in float32 here, whatever their memory format, and still clamp."""
    network = small(num_fp16_res=4, conv_clamp=0.05, block_kwargs=dict(fp16_channels_last=True))
    plain = small(num_fp16_res=0, conv_clamp=0.05)
    plain.load_state_dict(network.state_dict())
    assert network.b16.use_fp16 and network.b16.channels_last and not plain.b16.use_fp16
    outputs = []
    network.b16.conv0.register_forward_hook(lambda *args: outputs.append(args[-1]))
    inputs, c = pictures(), torch.randn(4, 25)
    logits = network(inputs, c)
    assert outputs[0].dtype == torch.float32 and outputs[0].abs().max() <= 0.05
    torch.testing.assert_close(logits, plain(inputs, c), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits, network(inputs, c, force_fp32=True))


def test_printable():
    assert "img_channels=6" in repr(small()) and "num_ws=None" in repr(small())


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("cls", [DualDiscriminator, DummyDualDiscriminator, SingleDiscriminator])
def test_copies_are_exact(cls, twin):
    network = small(cls, block_kwargs=dict(freeze_layers=2))
    network.raw_fade = 0.25
    other = twin(network)
    inputs, c = pictures(), torch.randn(4, 25)
    assert torch.equal(network(inputs, c), other(inputs, c))
    assert other.init_kwargs == network.init_kwargs and other.raw_fade == network.raw_fade
    assert type(other) is cls


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_a_block_that_keeps_the_size_and_scales_channels(architecture):
    block = DiscriminatorBlock(
        4, 4, 6, 8, img_channels=3, first_layer_idx=0, architecture=architecture, down=1
    )
    x, img, scale = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8, 8), torch.rand(2, 4)
    y, rest = block(x, img, channel_scale=scale)
    assert y.shape == (2, 6, 8, 8)
    if architecture == "skip":
        assert rest.equal(img)
        x = x + block.fromrgb(img)
    expected = block.conv1(block.conv0(x) * scale[:, :, None, None])
    if architecture == "resnet":
        skip = torch.einsum("oi,nihw->nohw", block.skip.weight[:, :, 0, 0] / 2, x)
        expected = (expected + skip) * 0.5**0.5
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)
