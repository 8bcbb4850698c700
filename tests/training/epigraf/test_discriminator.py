"""The patch discriminator against recorded logits, gradients and second gradients, published sizes,
and what each option changes."""

import pytest
import torch

from tests.recorded_draws import recorded_draws
from torch_utils import persistence
from training import network_record
from training.epigraf.discriminator import PatchDiscriminator, PatchDiscriminatorBlock
from training.epigraf.encoders import ScalarEncoder1d

PARAMETERS = {  # resolution, start blocks, c_dim, whether the pose conditions: how many
    (512, 3, 0, False): 27_490_816,
    (512, 3, 0, True): 27_503_104,
    (256, 2, 0, False): 27_444_480,
    (256, 2, 0, True): 27_456_768,
    (256, 2, 198, False): 27_545_856,
    (256, 2, 10, False): 27_449_600,
}


def small(**options):
    sizes = dict(c_dim=0, img_resolution=16, num_additional_start_blocks=2)
    widths = dict(channel_base=512, channel_max=16)
    return PatchDiscriminator(**{**sizes, **widths, **options}).eval()


@pytest.fixture
def recorded(conformance):
    return conformance("epigraf/discriminator")


def published(recorded, state_of, **head):
    network = small(c_dim=3, head_kwargs=dict(camera_cond=True, **head))
    network.load_state_dict(state_of(recorded))
    return network


def inputs(recorded):
    return {name: recorded[name] for name in ("c", "angles", "scales", "offsets")}


def test_recorded_logits_gradients_and_second_gradients(recorded, state_of, assert_scaled):
    network = published(recorded, state_of)
    place = torch.cat([recorded["scales"][:, :1], recorded["offsets"]], dim=1)
    code = network.hyper_mod_mapping(None, network.scalar_enc(place))
    assert_scaled(code, recorded["hyper"])
    x = recorded["x"].requires_grad_(True)
    logits = network({"image": x}, **inputs(recorded))
    assert_scaled(logits, recorded["logits"].unsqueeze(1))
    (grad,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    assert_scaled(grad, recorded["grad_x"])
    r1 = grad.square().sum(dim=(1, 2, 3))
    assert_scaled(r1, recorded["r1"])
    names = [key.removeprefix("gradr1/") for key in recorded if key.startswith("gradr1/")]
    grads = torch.autograd.grad(r1.mean(), [network.get_parameter(name) for name in names])
    for name, second in zip(names, grads, strict=True):
        rows = slice(None)
        if name == "scalar_enc.const_embed.weight":
            rows = recorded["gradr1_rows"]
            assert second.abs().sum(dim=1).nonzero().squeeze(1).equal(rows)
        assert_scaled(second[rows], recorded[f"gradr1/{name}"])


def test_recorded_logits_in_training_with_dropout(recorded, state_of, assert_scaled, monkeypatch):
    network = published(recorded, state_of, camera_cond_drop_p=0.5).train()
    with torch.no_grad(), recorded_draws(monkeypatch):
        logits = network({"image": recorded["x"]}, **inputs(recorded))
    assert_scaled(logits, recorded["logits_train"].unsqueeze(1))


def test_layout_of_published_checkpoints(recorded, state_of):
    stored = state_of(recorded)
    network = published(recorded, state_of)
    trained = [name for name in stored if network.state_dict(keep_vars=True)[name].requires_grad]
    assert sorted(trained) == sorted(name for name, _ in network.named_parameters())


@pytest.mark.parametrize("setting", PARAMETERS)
def test_published_sizes(setting):
    resolution, start_blocks, c_dim, camera_cond = setting
    with torch.device("meta"):
        network = PatchDiscriminator(
            c_dim,
            64,
            num_additional_start_blocks=start_blocks,
            head_kwargs=dict(camera_cond=camera_cond),
        )
    assert network.block_resolutions[0] == resolution
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[setting]
    half = [res for res in network.block_resolutions if getattr(network, f"b{res}").use_fp16]
    assert half == network.block_resolutions[:4]


def test_a_block_is_its_convolutions_with_scaled_channels():
    block = PatchDiscriminatorBlock(
        4, 4, 6, img_channels=3, hyper_dim=5, resolution=8, down=1, first_layer_idx=0
    )
    x, code = torch.randn(2, 4, 8, 8), torch.randn(2, 5)
    y, _ = block(x, None, code)
    assert y.shape == (2, 6, 8, 8)
    factor = 1 + torch.tanh(code @ block.conv1.affine.weight.t() / 5**0.5)
    between = block.conv0(x) * factor[:, :, None, None]
    skip = torch.einsum("oi,nihw->nohw", block.skip.weight[:, :, 0, 0] / 2, x)
    expected = (block.conv1(between) + skip) * 0.5**0.5
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("what", ["c", "angles", "scales", "offsets"])
def test_all_it_is_told_matters(recorded, state_of, what):
    network = published(recorded, state_of)
    told = inputs(recorded)
    with torch.no_grad():
        before = network({"image": recorded["x"]}, **told)
        after = network({"image": recorded["x"]}, **{**told, what: told[what].flip(0)})
    assert (before - after).abs().max() > 1e-4 * before.abs().max()


def test_without_modulation_it_is_a_discriminator_of_whole_pictures():
    network = small(hyper_mod=False, num_additional_start_blocks=0)
    assert not [name for name, _ in network.named_parameters() if "mapping" in name]
    assert not [m for m in network.modules() if isinstance(m, ScalarEncoder1d)]
    assert network({"image": torch.randn(4, 3, 16, 16)}).shape == (4, 1)


def test_raw_pose_of_the_head():
    network = small(hyper_mod=False, head_kwargs=dict(camera_cond=True, camera_raw_scalars=True))
    assert network.head_mapping.embed.in_features == 2


def test_it_comes_back_from_its_record():
    network = small(c_dim=3, head_kwargs=dict(camera_cond=True))
    names = {PatchDiscriminator.__name__: PatchDiscriminator}
    with persistence.allow_classes(names):
        again = network_record.build(network_record.from_module(network))
    told = dict(c=torch.randn(4, 3), angles=torch.randn(4, 3))
    told |= dict(scales=torch.rand(4, 2), offsets=torch.rand(4, 2))
    image = {"image": torch.randn(4, 3, 16, 16)}
    assert again(image, **told).equal(network(image, **told))


def test_missing_places_are_named():
    with pytest.raises(ValueError, match="needs scales and offsets"):
        small()({"image": torch.randn(4, 3, 16, 16)})


@pytest.mark.parametrize("count", [-1, 9])
def test_numbers_of_start_blocks_are_checked(count):
    with pytest.raises(ValueError, match=f"num_additional_start_blocks .* not {count}"):
        small(num_additional_start_blocks=count)
