"""Layers, mapping and synthesis against loops, recorded numbers and numerical gradients."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F

from torch_utils.ops.upfirdn2d import setup_filter
from training.networks_stylegan2 import (
    Conv2dLayer,
    FullyConnectedLayer,
    Generator,
    MappingNetwork,
    SynthesisBlock,
    SynthesisLayer,
    SynthesisNetwork,
    ToRGBLayer,
    modulated_conv2d,
    normalize_2nd_moment,
)

RECORDED = [
    dict(up=up, padding=1, demodulate=demodulate, flip_weight=up == 1, fused_modconv=fused)
    for up, demodulate in [(1, True), (2, True), (1, False)]
    for fused in (True, False)
]


def direct_modulated_conv(x, weight, styles, demodulate=True):
    """StyleGAN2 equations 1 to 3, one output channel of one sample at a time, in float64."""
    samples = []
    for features, style in zip(x.double(), styles.double(), strict=True):
        channels = []
        for kernel in weight.double():
            modulated = kernel * style[:, None, None]
            if demodulate:
                modulated = modulated / math.sqrt(modulated.square().sum().item() + 1e-8)
            channels.append(F.conv2d(features[None], modulated[None], padding=1)[0, 0])
        samples.append(torch.stack(channels))
    return torch.stack(samples)


@pytest.mark.parametrize("case", range(len(RECORDED)))
def test_modulated_conv_recorded(conformance, assert_scaled, case):
    recorded = conformance("modulated_conv2d")
    options = RECORDED[case]
    noise = {1: "noise8", 2: "noise16"}[options["up"]] if options["demodulate"] else None
    inputs = (recorded["x"], recorded["weight"], recorded["styles"])
    added = None if noise is None else recorded[noise]
    y = modulated_conv2d(*inputs, added, resample_filter=recorded["f"], **options)
    assert_scaled(y, recorded[f"y{case}"])
    # One sample at a time takes the other route: scales inside the weights.
    for i in range(3):
        one = modulated_conv2d(
            inputs[0][i : i + 1],
            inputs[1],
            inputs[2][i : i + 1],
            None if added is None else added[i : i + 1],
            resample_filter=recorded["f"],
            **options,
        )
        assert_scaled(one, recorded[f"y{case}"][i : i + 1])


@pytest.mark.parametrize("n, demodulate", [(1, True), (3, True), (1, False), (3, False)])
def test_modulated_conv_is_the_direct_one(assert_scaled, n, demodulate):
    x, weight, styles = torch.randn(n, 4, 6, 5), torch.randn(3, 4, 3, 3), torch.randn(n, 4)
    y = modulated_conv2d(x, weight, styles, padding=1, demodulate=demodulate)
    assert_scaled(y, direct_modulated_conv(x, weight, styles, demodulate), tol=1e-6)


def test_modulated_conv_by_hand():
    x = torch.tensor([1.0, 2]).reshape(1, 2, 1, 1)
    weight = torch.tensor([0.5, -0.25]).reshape(1, 2, 1, 1)
    y = modulated_conv2d(x, weight, torch.tensor([[2.0, 3]]), padding=0)
    assert y.item() == pytest.approx(-0.4, abs=1e-6)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("n, fused", [(1, True), (3, False)])
def test_modulated_conv_gradients(n, fused, up):
    def tensor(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    def function(x, weight, styles, noise):
        return modulated_conv2d(
            x,
            weight,
            styles,
            noise,
            up=up,
            padding=1,
            resample_filter=setup_filter([1, 3, 3, 1]),
            flip_weight=up == 1,
            fused_modconv=fused,
        )

    arguments = (tensor(n, 2, 3, 3), tensor(2, 2, 3, 3), tensor(n, 2), tensor(n, 1, 3 * up, 3 * up))
    assert torch.autograd.gradcheck(function, arguments)
    assert torch.autograd.gradgradcheck(function, arguments, atol=1e-4)


def test_half_precision_does_not_overflow(assert_scaled):
    x, weight, styles = torch.randn(2, 64, 5, 5), torch.randn(8, 64, 3, 3), torch.randn(2, 64)
    y = modulated_conv2d(x.half(), 1000 * weight, 3000 * styles, padding=1)
    assert y.dtype == torch.float16
    assert_scaled(y, direct_modulated_conv(x, weight, styles), tol=5e-3)  # 11 bits, 576 products


def test_normalize_2nd_moment():
    x = torch.randn(5, 7)
    expected = torch.stack([row / math.sqrt((row**2).mean().item() + 1e-8) for row in x])
    torch.testing.assert_close(normalize_2nd_moment(x), expected, rtol=1e-6, atol=1e-6)
    assert normalize_2nd_moment(torch.zeros(2, 3)).abs().max() == 0


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["linear", "lrelu"])
def test_fully_connected(activation, bias):
    layer = FullyConnectedLayer(6, 3, bias, activation, lr_multiplier=0.01, bias_init=2)
    x = torch.randn(4, 6)
    y = x @ layer.weight.t() * (0.01 / math.sqrt(6)) + (0.02 if bias else 0)
    if activation == "lrelu":
        y = torch.where(y > 0, y, 0.2 * y) * math.sqrt(2)
    torch.testing.assert_close(layer(x), y, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="lr_multiplier must be positive"):
        FullyConnectedLayer(6, 3, lr_multiplier=0)


def test_conv_layer_gain_and_clamp(assert_scaled):
    layer = Conv2dLayer(3, 4, 3, activation="lrelu", conv_clamp=0.6)
    layer.bias.data.normal_()
    x = torch.randn(2, 3, 5, 5)
    y = F.conv2d(x, layer.weight / math.sqrt(27), layer.bias, padding=1)
    y = (F.leaky_relu(y, 0.2) * math.sqrt(2) * 0.5).clamp(-0.3, 0.3)
    assert y.abs().max().item() == pytest.approx(0.3)
    assert_scaled(layer(x, gain=0.5), y)


def test_mapping_recorded(conformance, state_of, assert_scaled):
    recorded = conformance("mapping")
    network = MappingNetwork(16, 25, 12, num_ws=6, num_layers=2)
    network.load_state_dict(state_of(recorded))
    z, c = recorded["z"], recorded["c"]
    w = network(z, c)
    assert_scaled(w, recorded["w"])
    assert_scaled(network(z.double(), c.double()), recorded["w"])
    near = network(z, c, truncation_psi=0.6, truncation_cutoff=4)
    assert_scaled(near, recorded["w_trunc"])
    assert torch.equal(near[:, 4:], w[:, 4:])
    network(z, c, update_emas=True)
    assert_scaled(network.w_avg, recorded["w_avg_after"])


def test_mapping_truncation():
    network = MappingNetwork(4, 0, 3, num_ws=5, num_layers=1)
    network.w_avg.normal_()
    z = torch.randn(2, 4)
    w = network(z, None)
    assert w.shape == (2, 5, 3) and torch.equal(w[:, 0], w[:, 4])
    pulled = network.w_avg + 0.7 * (w - network.w_avg)
    torch.testing.assert_close(network(z, None, truncation_psi=0.7), pulled)
    assert torch.equal(network(z, None, truncation_psi=0)[1, 2], network.w_avg)
    torch.testing.assert_close(
        network(z, None, truncation_psi=0.7, truncation_cutoff=2),
        torch.cat([pulled[:, :2], w[:, 2:]], dim=1),
    )
    with pytest.raises(ValueError, match="w_avg"):
        MappingNetwork(4, 0, 3, num_ws=None)(z, None, truncation_psi=0.5)
    with pytest.raises(ValueError, match=r"z must have shape \[N, 4\], not \(2, 5\)"):
        network(torch.randn(2, 5), None)


def test_mapping_tracks_its_mean_without_gradients():
    network = MappingNetwork(4, 2, 3, num_ws=2, num_layers=1, w_avg_beta=0.9)
    network.w_avg.normal_()
    before = network.w_avg.clone()
    w = network(torch.randn(6, 4), torch.randn(6, 2), update_emas=True)
    torch.testing.assert_close(network.w_avg, 0.9 * before + 0.1 * w[:, 0].mean(dim=0))
    assert not network.w_avg.requires_grad and w.requires_grad


def backbone(**options):
    widths = dict(img_resolution=32, img_channels=96, channel_base=512, channel_max=16)
    mapping = dict(num_layers=2)
    return Generator(16, 25, 16, mapping_kwargs=mapping, **{**widths, **options}).eval()


def test_backbone_recorded(conformance, state_of, assert_scaled):
    recorded = conformance("backbone")
    network = backbone()
    network.load_state_dict(state_of(recorded))
    ws = network.mapping(recorded["z"], recorded["c"])
    assert_scaled(ws, recorded["ws"])
    for mode in ("const", "none"):
        expected = recorded[f"planes_{mode}"]
        assert_scaled(network.synthesis(ws, noise_mode=mode), expected)
        assert_scaled(network.synthesis(ws[:1], noise_mode=mode), expected[:1])
        assert_scaled(network(recorded["z"], recorded["c"], noise_mode=mode), expected)
        assert_scaled(network.synthesis(ws, noise_mode=mode, fused_modconv=False), expected)


def test_latents_reach_the_layers_in_order():
    """Latent i drives: b4 conv1, b4 torgb + b8 conv0, b8 conv1, b8 torgb + b16 conv0, ..."""
    network = SynthesisNetwork(4, 16, 3, channel_base=64, channel_max=4, num_fp16_res=0)
    seen = {}
    for name, module in network.named_modules():
        if isinstance(module, (SynthesisLayer, ToRGBLayer)):
            module.affine.register_forward_pre_hook(
                lambda _, args, name=name: seen.update({name: args[0][0, 0].item()})
            )
    assert network.num_ws == 6
    network(torch.arange(6.0)[None, :, None].expand(1, 6, 4))
    assert seen == {
        **{"b4.conv1": 0, "b4.torgb": 1},
        **{"b8.conv0": 1, "b8.conv1": 2, "b8.torgb": 3},
        **{"b16.conv0": 3, "b16.conv1": 4, "b16.torgb": 5},
    }


def test_noise_modes():
    layer = SynthesisLayer(2, 3, 4, resolution=8)
    layer.noise_strength.data.fill_(0.5)
    x, w = torch.randn(2, 2, 8, 8), torch.randn(2, 4)
    plain, fixed = layer(x, w, noise_mode="none"), layer(x, w, noise_mode="const")
    assert torch.equal(fixed, layer(x, w, noise_mode="const"))
    first, second = layer(x, w), layer(x, w, noise_mode="random")
    assert not torch.equal(first, second) and not torch.equal(fixed, plain)
    # Before the activation the difference is the noise itself, the same in every channel.
    undo = lambda y: torch.where(y > 0, y, 5 * y) / math.sqrt(2)  # noqa: E731
    expected = (0.5 * layer.noise_const).expand(2, 3, 8, 8)
    torch.testing.assert_close(undo(fixed) - undo(plain), expected, rtol=1e-4, atol=1e-5)
    random = undo(first) - undo(plain)
    torch.testing.assert_close(random[:, 0], random[:, 2], rtol=1e-4, atol=1e-5)
    assert (random[0, 0] - random[1, 0]).abs().max() > 0.1  # another one for each sample
    with pytest.raises(ValueError, match="noise_mode must be one of"):
        layer(x, w, noise_mode="off")


def test_layer_without_noise():
    layer = SynthesisLayer(2, 3, 4, resolution=8, use_noise=False)
    assert "noise_strength" not in layer.state_dict()
    x, w = torch.randn(2, 2, 8, 8), torch.randn(2, 4)
    assert torch.equal(layer(x, w), layer(x, w))
    with pytest.raises(AssertionError):
        layer(x[..., :4], w)


@pytest.mark.parametrize("architecture", ["orig", "skip", "resnet"])
def test_architectures(architecture):
    network = backbone(architecture=architecture, img_channels=3)
    assert network.num_ws == 8
    ws = torch.randn(2, 8, 16, requires_grad=True)
    image = network.synthesis(ws, noise_mode="const")
    assert image.shape == (2, 3, 32, 32) and image.dtype == torch.float32
    image.square().sum().backward()
    assert (ws.grad.abs().amax(dim=(0, 2)) > 0).all()
    names = {name.split(".")[1] for name in network.synthesis.state_dict() if name[:3] == "b8."}
    expected = {"conv0", "conv1", "resample_filter"}
    expected |= {"skip": {"torgb"}, "resnet": {"skip"}, "orig": set()}[architecture]
    assert names == expected


def test_resnet_block_is_a_mean_of_two_paths(assert_scaled):
    block = SynthesisBlock(3, 4, 5, 8, 3, is_last=True, architecture="resnet").eval()
    x, ws = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5)
    y, _ = block(x, None, ws, noise_mode="none")
    straight = block.conv1(block.conv0(x, ws[:, 0], "none"), ws[:, 1], "none")
    assert_scaled(y, (block.skip(x) + straight) / math.sqrt(2))


def test_unknown_architecture():
    with pytest.raises(ValueError, match="architecture must be orig, skip or resnet, not 'unet'"):
        backbone(architecture="unet")


@pytest.mark.parametrize("resolution", [2, 48])
def test_resolution_must_be_a_power_of_two(resolution):
    with pytest.raises(ValueError, match=f"power of two from 4, not {resolution}"):
        backbone(img_resolution=resolution)


def test_half_precision_blocks_on_the_cpu():
    """Blocks marked for half precision compute in float32 here, but still clamp."""
    network = backbone(num_fp16_res=2, conv_clamp=0.5, fp16_channels_last=True).synthesis
    marked = {res: getattr(network, f"b{res}").use_fp16 for res in network.block_resolutions}
    assert marked == {4: False, 8: False, 16: True, 32: True}
    outputs = []
    network.b32.conv1.bias.data.fill_(1)
    network.b32.register_forward_hook(lambda *args: outputs.append(args[-1]))
    ws = torch.randn(2, 8, 16)
    image = network(ws, noise_mode="const")
    x, _ = outputs[0]
    assert x.dtype == image.dtype == torch.float32
    assert x.abs().max().item() == pytest.approx(0.5)
    torch.testing.assert_close(network(ws, noise_mode="const", force_fp32=True), image)
    plain = backbone(num_fp16_res=0, conv_clamp=0.5).synthesis
    plain.load_state_dict(network.state_dict())
    torch.testing.assert_close(plain(ws, noise_mode="const"), image, rtol=1e-5, atol=1e-5)


def test_fusion_depends_on_the_mode(monkeypatch):
    """'inference_only' puts the scales into the weights in eval mode, and only there."""
    seen = []

    def spy(*args, fused_modconv, **kwargs):
        seen.append(fused_modconv)
        return modulated_conv2d(*args, fused_modconv=fused_modconv, **kwargs)

    monkeypatch.setattr("training.synthesis.modulated_conv2d", spy)
    block = SynthesisBlock(3, 4, 5, 8, 3, is_last=True, fused_modconv_default="inference_only")
    x, ws = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 5)
    for mode, explicit, expected in [
        (True, None, False),
        (False, None, True),
        (True, True, True),
        (False, False, False),
    ]:
        seen.clear()
        block.train(mode)(x, None, ws, fused_modconv=explicit)
        assert seen == [expected] * 3


def test_unknown_option_is_an_error():
    with pytest.raises(TypeError, match="noise_level"):
        backbone().synthesis(torch.randn(1, 8, 16), noise_level=1)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_exact(twin):
    network = backbone()
    other = twin(network)
    z, c = torch.randn(2, 16), torch.randn(2, 25)
    assert torch.equal(network(z, c, noise_mode="const"), other(z, c, noise_mode="const"))
    assert "resolution=32" in repr(other)
