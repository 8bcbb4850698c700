"""Super-resolution against recorded pictures; every size; what happens to the raw picture."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from training import superresolution
from training.superresolution import Superresolution, SynthesisBlockNoUp

PUBLISHED = {  # name: (size, size of the input, blocks with their channels and sides, extra buffer)
    "SuperresolutionHybrid8XDC": (512, 128, [(32, 256, 256), (256, 128, 512)], False),
    "SuperresolutionHybrid8X": (512, 128, [(32, 128, 256), (128, 64, 512)], True),
    "SuperresolutionHybrid4X": (256, 128, [(32, 128, 128), (128, 64, 256)], True),
    "SuperresolutionHybrid2X": (128, 64, [(32, 128, 64), (128, 64, 128)], True),
    "SuperresolutionHybridDeepfp32": (256, 128, [(32, 128, 128), (128, 64, 256)], True),
    "SuperresolutionHybrid16XDC": (
        1024,
        128,
        [(32, 256, 256), (256, 128, 512), (128, 64, 1024)],
        False,
    ),
}


def build(name, size, **options):
    """A published module as training makes it."""
    arguments = dict(channels=32, img_resolution=size, sr_num_fp16_res=0, sr_antialias=True)
    return getattr(superresolution, name)(**arguments, **options).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "name, mode",
    [
        ("SuperresolutionHybrid2X", "none"),
        ("SuperresolutionHybrid2X", "const"),
        ("SuperresolutionHybrid4X", "none"),
        ("SuperresolutionHybrid4X", "const"),
        pytest.param("SuperresolutionHybrid8X", "none", marks=pytest.mark.slow),
        pytest.param("SuperresolutionHybrid8X", "const", marks=pytest.mark.slow),
        pytest.param("SuperresolutionHybrid8XDC", "none", marks=pytest.mark.slow),
        ("SuperresolutionHybrid8XDC", "const"),
    ],
)
def test_recorded_pictures(conformance, state_of, assert_scaled, name, mode):
    recorded = conformance(f"superresolution_{name}")
    module = build(name, PUBLISHED[name][0])
    module.load_state_dict(state_of(recorded))
    x, ws = recorded["x"], recorded["ws"]
    picture = module(x[:, :3].clone(), x, ws, noise_mode=mode)
    assert_scaled(picture[..., ::7, ::7], recorded[f"y_{mode}"])


@pytest.mark.parametrize(
    "name, side",
    [
        ("SuperresolutionHybrid2X", 64),
        ("SuperresolutionHybrid4X", 128),
        pytest.param("SuperresolutionHybrid8XDC", 128, marks=pytest.mark.slow),
        pytest.param("SuperresolutionHybrid8XDC", 160, marks=pytest.mark.slow),
    ],
)
def test_recorded_input_sizes(conformance, state_of, assert_scaled, name, side):
    module = build(name, PUBLISHED[name][0])
    module.load_state_dict(state_of(conformance(f"superresolution_{name}")))
    x = torch.sin(97 * torch.linspace(-1, 1, 32 * side**2)).reshape(1, 32, side, side)
    ws = torch.sin(31 * torch.linspace(-2, 2, 14 * 512)).reshape(1, 14, 512)
    picture = module(x[:, :3].clone(), x, ws, noise_mode="none")[..., ::7, ::7]
    assert_scaled(picture, conformance(f"superresolution_size_{name}_{side}")["y"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layout(name):
    size, side, blocks, has_filter = PUBLISHED[name]
    module = build(name, size, num_fp16_res=4, channel_base=32768, channel_max=512)
    assert module.input_resolution == side
    shapes = {key: tuple(t.shape) for key, t in module.state_dict().items()}
    assert ("resample_filter" in shapes) == has_filter
    assert len({key.split(".")[0] for key in shapes if "." in key}) == len(blocks)
    for i, (inputs, outputs, resolution) in enumerate(blocks):
        assert shapes[f"block{i}.conv0.weight"] == (outputs, inputs, 3, 3)
        assert shapes[f"block{i}.conv1.noise_const"] == (resolution, resolution)
        assert shapes[f"block{i}.torgb.weight"] == (3, outputs, 1, 1)
        keeps = isinstance(getattr(module, f"block{i}"), SynthesisBlockNoUp)
        assert keeps == (resolution == side)
    assert hasattr(module, "sr_antialias") == ("Deepfp32" not in name)
    with pytest.raises(ValueError, match=f"{name} makes pictures of {size} pixels, not 96"):
        build(name, 96)


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
def test_every_size(size):
    blocks = 3 if size == 1024 else 2
    module = Superresolution(5, size, widths=(4, 3, 2)[:blocks], w_dim=6).eval()
    assert module.input_resolution == min(size // 2, 128)
    for side in (16, module.input_resolution, 144) if size < 1024 else (16,):
        x = torch.randn(2, 5, side, side)
        picture = module(x[:, :3].clone(), x, torch.randn(2, 4, 6))
        assert picture.shape == (2, 3, size, size) and picture.isfinite().all()


def test_wrong_sizes():
    with pytest.raises(ValueError, match="from 128 to 384: the factor must be a power of two"):
        Superresolution(32, 384)
    with pytest.raises(ValueError, match="from 64 to 64: the factor must be a power of two"):
        Superresolution(32, 64, input_resolution=64)
    with pytest.raises(ValueError, match=r"widths must name 2 blocks for sides \[64, 128\]"):
        Superresolution(32, 128, widths=(8, 8, 8))


def small(size=32, **options):
    """32 pixels from 16: the first block keeps the resolution."""
    return Superresolution(5, size, widths=(4, 3), w_dim=6, **options).eval()


def test_only_the_last_latent_counts():
    module, x, ws = small(), torch.randn(2, 5, 16, 16), torch.randn(2, 4, 6)
    options = dict(noise_mode="none")
    picture = module(x[:, :3].clone(), x, ws, **options)
    assert torch.equal(module(x[:, :3].clone(), x, ws[:, -1:], **options), picture)
    assert not torch.equal(module(x[:, :3].clone(), x, ws[:, :-1], **options), picture)


def test_raw_picture_receives_the_first_block():
    module, x, ws = small(), torch.randn(2, 5, 16, 16), torch.randn(2, 4, 6)
    raw = x[:, :3].clone()
    module(raw, x, ws, noise_mode="none")
    block = module.block0
    features = block.conv0(x, ws[:, -1], noise_mode="none")
    colours = block.torgb(block.conv1(features, ws[:, -1], noise_mode="none"), ws[:, -1])
    torch.testing.assert_close(raw, x[:, :3] + colours)


@pytest.mark.parametrize("size, side", [(32, 12), (32, 20), (64, 16), (64, 20)])
def test_raw_picture_is_untouched_elsewhere(size, side):
    """After a resize, and where the first block doubles the resolution."""
    module = small(size, input_resolution=16)
    x = torch.randn(2, 5, side, side)
    raw = x[:, :3].clone()
    module(raw, x, torch.randn(2, 1, 6))
    assert torch.equal(raw, x[:, :3])


def test_backward_through_the_raw_picture():
    """float32 gradients arrive although the first block writes into the raw picture."""
    module = small().requires_grad_(True)
    x = torch.randn(1, 5, 16, 16, dtype=torch.float64, requires_grad=True)
    ws = torch.randn(1, 1, 6, requires_grad=True)
    raw = x.float()[:, :3].clone()
    picture = module(raw, x.float(), ws, noise_mode="none")
    (picture.square().mean() + raw.square().mean()).backward()
    assert all(p.grad is not None for n, p in module.named_parameters() if "noise" not in n)

    def loss(values):
        raw = values.float()[:, :3].clone()
        picture = module(raw, values.float(), ws, noise_mode="none")
        return (picture.square().mean() + raw.square().mean()).item()

    with torch.no_grad():
        step = 1e-3 * torch.randn_like(x)
        change = loss(x + step) - loss(x - step)
        assert change == pytest.approx(2 * (x.grad * step).sum().item(), rel=1e-2)


@pytest.mark.parametrize("antialias", [True, False])
def test_resize(assert_scaled, antialias):
    module = small(sr_antialias=antialias)
    x, ws = torch.randn(2, 5, 40, 40), torch.randn(2, 1, 6)
    options = dict(size=(16, 16), mode="bilinear", align_corners=False)
    resized = F.interpolate(x, antialias=antialias, **options)
    expected = module(resized[:, :3].clone(), resized, ws, noise_mode="none")
    assert_scaled(module(x[:, :3].clone(), x, ws, noise_mode="none"), expected)
    other = F.interpolate(x, antialias=not antialias, **options)
    assert (
        module(other[:, :3].clone(), other, ws, noise_mode="none") - expected
    ).abs().max() > 0.01


def test_deep_fp32_never_antialiases():
    x, ws = torch.randn(1, 32, 150, 150), torch.randn(1, 1, 512)
    module = build("SuperresolutionHybridDeepfp32", 256)
    plain = build("SuperresolutionHybrid4X", 256)
    plain.load_state_dict(module.state_dict())
    plain.sr_antialias = False
    pictures = [m(x[:, :3].clone(), x, ws, noise_mode="none") for m in (module, plain)]
    assert torch.equal(*pictures)


def test_half_precision_flag():
    """Above 0 every block is marked and clamps at 256; on the CPU the values stay the same."""
    half, full = small(sr_num_fp16_res=1), small()
    full.load_state_dict(half.state_dict())
    assert [b.use_fp16 for b in half.children()] == [True, True]
    assert half.block1.conv0.conv_clamp == half.block0.torgb.conv_clamp == 256
    assert full.block1.conv0.conv_clamp is None and not full.block0.use_fp16
    x, ws = torch.randn(1, 5, 16, 16), torch.randn(1, 1, 6)
    pictures = [m(x[:, :3].clone(), x, ws, noise_mode="none") for m in (half, full)]
    assert torch.equal(*pictures)


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_other_architectures(architecture):
    module = small(architecture=architecture)
    x = torch.randn(2, 5, 16, 16)
    if architecture == "orig":  # only the last block has colours
        assert not hasattr(module.block0, "torgb")
    ws = torch.randn(2, 1, 6)
    y, _ = module.block1(*module.block0(x, None, ws.expand(-1, 2, -1)), ws.expand(-1, 3, -1))
    assert y.shape == (2, 3, 32, 32)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize(
    "make",
    [
        lambda: build("SuperresolutionHybrid2X", 128),
        lambda: build("SuperresolutionHybridDeepfp32", 256),
        lambda: Superresolution(32, 64, widths=(8, 4)),
    ],
)
def test_copies_are_exact(make, twin):
    module = make().eval()
    other = twin(module)
    assert type(other) is type(module)
    x, ws = torch.randn(1, 32, 48, 48), torch.randn(1, 1, 512)
    pictures = [m(x[:, :3].clone(), x, ws, noise_mode="none") for m in (module, other)]
    assert torch.equal(*pictures)
