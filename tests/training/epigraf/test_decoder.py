"""Decoders against recorded numbers and a loop; the backbone against recorded planes."""

import math

import pytest
import torch

from training.epigraf.decoder import EncodedRGBDecoder, LinearRGBDecoder, rgb_decoder
from training.networks_stylegan2 import SynthesisNetwork
from training.triplane import OSGDecoder

VARIANTS = {
    "default": {},
    "layers3": dict(n_layers=3),
    "posenc": dict(posenc_period_len=8),
    "view": dict(has_view_cond=True),
}


def renamed(state):
    """The published keys of a decoder -> ours."""
    return {key.replace("model.", "net."): tensor for key, tensor in state.items()}


@pytest.mark.parametrize("name", VARIANTS)
def test_recorded_colours_and_densities(name, conformance, state_of, assert_scaled):
    recorded = conformance("epigraf/field")
    decoder = rgb_decoder(32, **VARIANTS[name])
    decoder.load_state_dict(renamed(state_of(recorded, f"state_{name}/")))
    told = {}
    if name == "posenc":
        told = dict(points=recorded["points"].flatten(1, 2) / 0.2)
    if name == "view":
        directions = recorded["ray_directions"][:, :, None].expand(-1, -1, 6, -1)
        told = dict(ray_directions=directions.flatten(1, 2))
    answer = decoder(recorded["features"], **told)
    assert_scaled(torch.cat([answer["rgb"], answer["sigma"]], dim=2), recorded[f"out_{name}"])


def test_the_published_decoder_is_small():
    decoder = rgb_decoder(32)
    assert type(decoder) is LinearRGBDecoder
    assert sum(p.numel() for p in decoder.parameters()) == 2372


def test_two_layers_are_the_decoder_point_by_point():
    decoder = LinearRGBDecoder(6, hidden_dim=5)
    torch.nn.init.normal_(decoder.net[0].bias)
    torch.nn.init.normal_(decoder.net[1].bias)
    features = torch.randn(2, 3, 4, 6)
    answer = decoder(features)
    w1, b1, w2, b2 = decoder.two_layers()
    for n in range(2):
        for p in range(4):
            hidden = w1 @ features[n, :, p].mean(0) + b1
            hidden = torch.where(hidden > 0, hidden, 0.2 * hidden) * math.sqrt(2)
            sigma, rgb = (w2 @ hidden + b2).tensor_split([1])
            torch.testing.assert_close(answer["sigma"][n, p], sigma)
            torch.testing.assert_close(answer["rgb"][n, p], rgb)


def test_two_layers_carry_gradients():
    decoder = LinearRGBDecoder(6, hidden_dim=5)
    sum(t.sum() for t in decoder.two_layers()).backward()
    assert all((p.grad != 0).all() for p in decoder.parameters())


def test_two_layers_are_laid_out_as_those_of_the_other_decoder():
    options = dict(decoder_lr_mul=1, decoder_output_dim=3)
    for ours, theirs in zip(
        LinearRGBDecoder(32).two_layers(), OSGDecoder(32, options).two_layers(), strict=True
    ):
        assert ours.shape == theirs.shape


def test_only_decoders_of_two_layers_promise_them():
    for options in (dict(n_layers=3), dict(posenc_period_len=8), dict(has_view_cond=True)):
        decoder = rgb_decoder(32, **options)
        assert type(decoder) is EncodedRGBDecoder and not hasattr(decoder, "two_layers")


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(posenc_period_len=8), "needs points"),
        (dict(has_view_cond=True), "needs ray_directions"),
    ],
)
def test_what_is_missing_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        rgb_decoder(4, **options)(torch.randn(1, 3, 2, 4))


@pytest.mark.parametrize("n_layers", [0, 1])
def test_too_few_layers_are_named(n_layers):
    with pytest.raises(ValueError, match="n_layers of the decoder must be 2 or more"):
        rgb_decoder(4, n_layers=n_layers)


@pytest.fixture
def backbone():
    return SynthesisNetwork(16, 16, 12, channel_base=128, channel_max=16, conv_clamp=256)


def test_recorded_planes(backbone, conformance, state_of, assert_scaled):
    recorded = conformance("epigraf/decoder")
    state = state_of(recorded)
    with torch.no_grad():
        backbone.load_state_dict(state)
        assert_scaled(backbone(recorded["ws"], noise_mode="const"), recorded["planes"])
        large = {k: t * 128 if k.endswith("torgb.weight") else t for k, t in state.items()}
        backbone.load_state_dict(large)
        planes = backbone(recorded["ws"], noise_mode="const")
    assert_scaled(planes, recorded["planes_clamped"])
    assert 256 < planes.abs().max() < 3 * 256


def test_the_published_backbone_has_the_published_size():
    with torch.device("meta"):
        backbone = SynthesisNetwork(512, 512, 96)
    decoder = sum(p.numel() for p in LinearRGBDecoder(32).parameters())
    assert sum(p.numel() for p in backbone.parameters()) + decoder == 28_458_195
