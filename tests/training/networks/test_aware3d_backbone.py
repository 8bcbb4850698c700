"""The stream of planes that know of each other, and finer planes: recorded numbers, the options of
the backbone that ask for them, files."""

import pickle
import re

import pytest
import torch

from tests.tiny import randomize
from training.aware3d import Aware3DBlock, aware3d_resolutions
from training.network_files import read_networks, write_networks
from training.network_record import RecordError, build, from_module
from training.networks_stylegan2 import Generator, SynthesisNetwork
from training.snapshots import save_snapshot

WIDTHS = dict(channel_base=128, channel_max=16, num_fp16_res=0, conv_clamp=None)
S3D = dict(aware3d_res=[4, 8, 16], retidx=[-3, -1])
# name: (side of the planes, options)
BACKBONES = {
    "dual": (16, S3D),
    "coarse_only": (16, dict(aware3d_res=[4, 8, 16])),
    "plain": (16, {}),
    "from8": (16, dict(aware3d_res=[8, 16])),
    "until8": (16, dict(aware3d_res=[4, 8], retidx=[-1])),
    "sr_module": (16, dict(add_sr_module=True, retidx=[-3, -1])),
    "add_block": (8, dict(aware3d_res=[4, 8], add_block=1)),
    "roll_out_b": (8, dict(roll_out="b")),
    "roll_out_a": (8, dict(roll_out="a")),
    "roll_out_w": (8, dict(roll_out="w")),
}


def as_recorded(planes, expected):
    """[N, 3 C, H, W] -> rows and columns, and the layout, that were recorded."""
    if expected.shape[3] > expected.shape[2]:
        planes = planes.unflatten(1, (3, -1)).permute(0, 2, 3, 4, 1).flatten(3)
    elif len(expected) > len(planes):
        planes = planes.unflatten(1, (3, -1)).flatten(0, 1)
    step = max(planes.shape[2] // 8, 1)
    return planes[:, :, ::step, step - 1 :: step]


def recorded_state(module, recorded, name, base):
    """The weights of a case: its own, and those of the case `base` of equal name and shape."""
    state = {}
    for key in module.state_dict():
        state[key] = recorded.get(f"state_{name}/{key}", recorded.get(f"state_{base}/{key}"))
        assert state[key] is not None, key
    own = {key for key in recorded if key.startswith(f"state_{name}/")}
    assert own <= {f"state_{name}/{key}" for key in state}
    return state


def backbone(name="dual", **options):
    side, case = BACKBONES[name]
    channels = 288 if name == "roll_out_w" else 96  # recorded with 96 for each plane
    sizes = dict(z_dim=16, c_dim=25, w_dim=16, img_resolution=side, img_channels=channels)
    network = Generator(**sizes, mapping_kwargs=dict(num_layers=2), **WIDTHS, **case, **options)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("name", BACKBONES)
def test_recorded_backbone(conformance, assert_scaled, name):
    recorded = conformance("mimic3d/backbone")
    G = backbone(name)
    G.load_state_dict(recorded_state(G, recorded, name, "dual"))
    ws = G.mapping(recorded["z"], recorded["c"])
    assert_scaled(ws, recorded[f"{name}/ws"][:, None].expand_as(ws))

    found = {}
    planes = G.synthesis(ws, noise_mode="const")
    for i, tensor in enumerate(planes if isinstance(planes, tuple) else [planes]):
        found[f"out{i}"] = tensor
    levels = list(G.synthesis.levels(ws, noise_mode="const"))
    prefix = f"{name}/stream"
    for key in (key for key in recorded if key.startswith(prefix)):
        found[f"stream{key.removeprefix(prefix)}"] = levels[int(key.removeprefix(prefix))]
    # What the reference gives without retidx is the stream that ended, not the planes.
    if name == "until8":
        found["out_without_retidx"] = levels[1]
    wanted = {k.partition("/")[2] for k in recorded if k.startswith(f"{name}/")} - {"ws"}
    assert found.keys() == wanted
    for key, tensor in found.items():
        assert tensor.dtype == torch.float32
        expected = recorded[f"{name}/{key}"]
        assert_scaled(as_recorded(tensor, expected), expected)


def test_final_planes_are_returned_unless_others_are_asked_for():
    torch.manual_seed(0)
    asked = backbone("until8").synthesis
    torch.manual_seed(0)
    plain = SynthesisNetwork(16, 16, 96, **WIDTHS, aware3d_res=[4, 8]).eval()
    ws = torch.randn(1, asked.num_ws, 16)
    planes = plain(ws, noise_mode="const")
    assert planes.shape == (1, 96, 16, 16)
    assert torch.equal(planes, asked(ws, noise_mode="const"))


# -- Blocks ----------------------------------------------------------------------------------------

BLOCKS = {
    "last_s3d": dict(up=1, finer=2),
    "middle": dict(up=2),
    "last": dict(up=1),
    "last_first": dict(up=1),
    "last_one": dict(up=1, finer=1),
    "attention": dict(up=2, attention=True),
    "attention_first": dict(up=2, attention=True),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_recorded_block(conformance, assert_scaled, name):
    recorded = conformance("mimic3d/aware3d_block")
    block = Aware3DBlock(32, 16, 8, conv_clamp=None, **BLOCKS[name]).eval()
    case = name.removesuffix("_first")
    block.load_state_dict(recorded_state(block, recorded, case, "last_s3d"))
    stream = None if name.endswith("_first") else recorded["t"].reshape(2, 96, 8, 8)
    planes = block(recorded["image"], stream, recorded["ws"], noise_mode="const")
    expected = [recorded[key] for key in recorded if re.fullmatch(rf"{name}_\d", key)]
    assert len(planes) == len(expected) > 0
    for one, other in zip(planes, expected, strict=True):
        assert_scaled(as_recorded(one, other), other)


# -- Numbers of weights ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, mapping, synthesis",
    [
        ({}, 800_768, 28_207_533),
        (dict(aware3d_res=[4, 8, 16, 32, 64, 128, 256]), 800_768, 28_207_533 + 7 * 501_698),
        (
            dict(aware3d_res=[4, 8, 16, 32, 64, 128, 256], retidx=[-3, -1]),
            800_768,
            28_207_533 + 7 * 501_698 + 2 * 167_298,
        ),
        (dict(add_sr_module=True, retidx=[-3, -1]), 800_768, 28_207_533 + 2 * 167_298),
        (dict(roll_out="b"), 800_768, 111_636_461 - 800_768),
        (dict(roll_out="b", channel_base=16384, channel_max=192), 800_768, 26_979_437 - 800_768),
    ],
)
def test_number_of_parameters(options, mapping, synthesis):
    with torch.device("meta"):
        G = Generator(512, 25, 512, 256, 96, mapping_kwargs=dict(num_layers=2), **options)
    counts = [sum(p.numel() for p in part.parameters()) for part in (G.mapping, G.synthesis)]
    assert counts == [mapping, synthesis]
    assert G.num_ws == 14


def test_names_and_shapes_of_finer_planes():
    with torch.device("meta"):
        stage1 = SynthesisNetwork(512, 256, 96, aware3d_res=aware3d_resolutions(256))
        stage2 = SynthesisNetwork(
            512, 256, 96, aware3d_res=aware3d_resolutions(256), retidx=[-3, -1]
        )
    first, second = stage1.state_dict(), stage2.state_dict()
    assert first["b4.const"].shape == (1, 512, 4, 4)
    assert all(second[name].shape == tensor.shape for name, tensor in first.items())
    new = second.keys() - first.keys()
    assert {name.rpartition("block")[0] + "block" + name[12:13] for name in new} == {
        "b3d256.block2",
        "b3d256.block3",
    }
    assert second["b3d256.block2.conv0.noise_const"].shape == (512, 512)
    assert second["b3d128.block.conv0.noise_const"].shape == (256, 256)
    assert second["b3d256.block.torgb.affine.weight"].shape == (288, 512)
    assert second["b3d256.block3.torgb.affine.weight"].shape == (96, 512)


# -- Options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dual", "sr_module", "add_block", "until8"])
def test_all_weights_are_used(name):
    G = backbone(name).requires_grad_(True).synthesis
    randomize(G)
    planes = G(torch.randn(1, G.num_ws, 16))
    planes = planes if isinstance(planes, tuple) else [planes]
    sum(p.square().sum() for p in planes).backward()
    unused = [key for key, p in G.named_parameters() if p.grad is None or not p.grad.any()]
    assert unused == []


@pytest.mark.parametrize("name", ["dual", "sr_module"])
def test_noise_mode_reaches_finer_planes(name):
    G = backbone(name).synthesis
    randomize(G)
    ws = torch.randn(1, G.num_ws, 16)
    for mode, repeats in [("const", True), ("none", True), ("random", False)]:
        first, second = (G(ws, noise_mode=mode)[1] for _ in range(2))
        assert torch.equal(first, second) == repeats


@pytest.mark.parametrize("side", [4, 8])
def test_finer_planes_of_a_small_backbone(side):
    """More levels are finer ones than there are others."""
    G = SynthesisNetwork(8, side, 6, **WIDTHS, aware3d_res=[side], retidx=[-3, -2, -1])
    shapes = [planes.shape for planes in G(torch.randn(2, G.num_ws, 8))]
    assert shapes == [(2, 6, side, side), (2, 6, 2 * side, 2 * side), (2, 6, 2 * side, 2 * side)]


def test_extra_blocks_leave_the_image_alone():
    """A block without upsampling makes a new image: the one before it is a level of its own."""
    G = SynthesisNetwork(16, 8, 96, **WIDTHS, add_block=2).eval()
    ws = torch.randn(1, G.num_ws, 16)
    levels = list(G.levels(ws, noise_mode="const"))
    assert G.num_ws == 4 + 2 * 2 and len(levels) == 4
    assert G.b9.conv0.up == 1 and not torch.equal(levels[1], levels[2])
    short = SynthesisNetwork(16, 8, 96, **WIDTHS)
    short.load_state_dict({k: v for k, v in G.state_dict().items() if k[:2] in ("b4", "b8")})
    assert torch.equal(short(ws[:, :4], noise_mode="const"), levels[1])


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(aware3d_res=[4, 16]), r"aware3d_res must be some of \[4, 8, 16\] without a gap"),
        (dict(aware3d_res=[8, 4]), r"aware3d_res must be .* not \[8, 4\]"),
        (dict(aware3d_res=[16, 32]), r"aware3d_res must be .* not \[16, 32\]"),
        (dict(aware3d_res=[3]), r"aware3d_res must be .* not \[3\]"),
        (dict(aware3d_att=True), "aware3d_att needs aware3d_res"),
        (dict(retidx=[-3, -1]), r"retidx \[-3, -1\] needs add_sr_module, or aware3d_res up to 16"),
        (dict(retidx=[-2], aware3d_res=[4, 8]), "needs add_sr_module, or aware3d_res up to 16"),
        (dict(retidx=[0], aware3d_res=[16]), r"retidx must be some of \[-3, -2, -1\], not \[0\]"),
        (dict(retidx=[], aware3d_res=[16]), r"retidx must be some of \[-3, -2, -1\], not \[\]"),
        (
            dict(retidx=[-3], add_block=1, img_resolution=4),
            r"retidx \[-3\] reaches back further than there are planes",
        ),
        (dict(add_sr_module=True), r"add_sr_module needs retidx \[-3, -1\], and no aware3d_res"),
        (dict(add_sr_module=True, **S3D), "and no aware3d_res"),
        (dict(add_block=-1), "add_block must be a number from 0, not -1"),
        (dict(roll_out="s"), "roll_out 's' is for blocks that get planes"),
        (dict(roll_out="b", aware3d_res=[16]), "roll_out 'b' goes without aware3d_res"),
        (dict(roll_out="q"), "roll_out must be one of"),
        (dict(aware3d_res=[16], img_channels=32), "img_channels must be those of three planes"),
    ],
)
def test_wrong_options(options, message):
    sizes = dict(w_dim=16, img_resolution=16, img_channels=96)
    with pytest.raises(ValueError, match=message):
        SynthesisNetwork(**{**sizes, **WIDTHS, **options})


# -- Files -----------------------------------------------------------------------------------------

OPTIONS = dict(aware3d_res=[4, 8, 16, 32])


@pytest.mark.parametrize("suffix", [".pkl", ".safetensors"])
@pytest.mark.parametrize("options", [OPTIONS, dict(OPTIONS, aware3d_att=True), dict(roll_out="b")])
def test_generator_in_files(small_generator, camera_labels, tmp_path, options, suffix):
    G = small_generator(arguments=options)
    randomize(G)
    path = tmp_path / "network.pkl"
    save_snapshot(path, {}, G=G, D=None, G_ema=G, augment_pipe=None)
    if suffix == ".safetensors":
        path = tmp_path / "network.safetensors"
        write_networks(path, read_networks(tmp_path / "network.pkl"))
    twin = read_networks(path).build("G_ema")
    assert twin.init_kwargs == G.init_kwargs
    ws = G.mapping(torch.randn(1, 8), camera_labels(1))
    planes = G.planes(ws, noise_mode="const")
    assert planes.shape == (1, 3, 32, 32, 32)
    assert torch.equal(planes, twin.planes(ws, noise_mode="const"))


def test_backbone_with_finer_planes_in_a_record():
    G = backbone("dual")
    twin = build(from_module(G))
    again = pickle.loads(pickle.dumps(G))
    ws = torch.randn(1, G.num_ws, 16)
    for other in (twin, again):
        planes = [network.synthesis(ws, noise_mode="const") for network in (G, other)]
        assert all(torch.equal(one, two) for one, two in zip(*planes, strict=True))


def test_files_of_plain_networks_stay_as_they_were():
    new = {"add_block", "retidx", "roll_out", "up"}
    plain, stream = (
        {name for module in backbone(name).modules() for name in vars(module)}
        for name in ("plain", "dual")
    )
    assert new & plain == {"up"}  # of layers, as ever
    assert new & stream == {"retidx", "roll_out", "up"}
    assert all("up" not in vars(block) for block in backbone("plain").synthesis.children())


def test_extra_axis_of_the_constant():
    """EG3D's files have [C, 4, 4], Mimic3D's [1, C, 4, 4], with a stream and without."""
    plain, stream = backbone("plain"), backbone("coarse_only")
    const = "synthesis.b4.const"
    assert plain.state_dict()[const].ndim == 3 and stream.state_dict()[const].ndim == 4
    for network in (plain, stream):
        state = network.state_dict()
        value = state[const].reshape(16, 4, 4) + 1
        for shape in [(16, 4, 4), (1, 16, 4, 4)]:
            network.load_state_dict({**state, const: value.reshape(shape)})
            record = from_module(network)
            record.tensors[const] = value.reshape(shape)
            for loaded in (network, build(record)):
                found = loaded.state_dict()[const]
                assert found.shape == state[const].shape and torch.equal(found.squeeze(0), value)
        for wrong in [torch.zeros(2, 16, 4, 4), torch.zeros(4, 4, 16), torch.zeros(256)]:
            with pytest.raises(RuntimeError, match="size mismatch"):
                network.load_state_dict({**state, const: wrong})
            record = from_module(network)
            record.tensors[const] = wrong
            with pytest.raises(RecordError, match=r"b4.const \["):
                build(record)


def test_plain_pickle_with_the_extra_axis():
    """As a published file of a network without stream comes by `pickle.load`."""
    G = backbone("plain")
    ws = torch.randn(2, G.num_ws, 16)
    expected = G.synthesis(ws, noise_mode="const")
    G.synthesis.b4.const = torch.nn.Parameter(G.synthesis.b4.const[None])
    assert torch.equal(G.synthesis(ws, noise_mode="const"), expected)


def test_first_planes_can_be_smaller():
    """Four levels, each of whose outputs the next ones carry on."""
    options = dict(img_resolution=32, img_channels=96, channel_base=256, channel_max=16)
    ws = torch.randn(4, 8, 16)
    sizes = []
    for factor in (1.0, 0.4):
        torch.manual_seed(0)
        network = SynthesisNetwork(16, aware3d_res=[4, 8, 16, 32], aware3d_init=factor, **options)
        sizes.append(network(ws, noise_mode="const").std().item())
    assert sizes[1] < 0.4 * sizes[0]
